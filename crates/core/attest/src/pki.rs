//! The little of X.509 that is needed to name, date and index certificates and lists.
//!
//! This is not path validation: that is the business of the library behind [`crate::dcap`], which
//! sees every certificate again. Here signatures are checked only so that nobody can push
//! endorsements aside with forged ones, and so that a refusal can be named.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey,
    VerificationAlgorithm,
};
use heirloom_model::counter::Time;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{DateTime, Decode, Encode, Reader, SliceReader};

/// Certificates in one PEM text: leaf, intermediate, and often a copy of the root.
const CHAIN_CERTIFICATES_MAX: usize = 4;

/// From when until when something counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Window {
    /// The first second.
    pub(crate) since: Time,
    /// The first second after it.
    pub(crate) until: Time,
}

impl Window {
    /// When both count.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { since: self.since.max(other.since), until: self.until.min(other.until) }
    }
}

/// A parsed certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) der: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) window: Window,
    public_key: Vec<u8>,
    signature: Vec<u8>,
}

/// A parsed list of revoked certificates.
#[derive(Clone, Debug)]
pub(crate) struct Crl {
    pub(crate) der: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) this_update: Time,
    pub(crate) until: Time,
    pub(crate) revoked: Vec<Vec<u8>>,
    signature: Vec<u8>,
}

impl Certificate {
    pub(crate) fn parse(der: &[u8]) -> Result<Self, &'static str> {
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| "not a certificate")?;
        let content = parsed.tbs_certificate();
        let key = &content.subject_public_key_info().subject_public_key;
        let window = Window {
            since: time(content.validity().not_before),
            // `notAfter` is the last second (RFC 5280 §4.1.2.5).
            until: time(content.validity().not_after).after(1),
        };
        Ok(Self {
            der: der.to_vec(),
            issuer: name(content.issuer())?,
            subject: name(content.subject())?,
            serial: content.serial_number().as_bytes().to_vec(),
            window,
            public_key: key.as_bytes().ok_or("the public key is not whole bytes")?.to_vec(),
            signature: signature(parsed.signature())?,
        })
    }

    /// The public key as the certificate has it, without its algorithm.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The signature.
    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The content of the identifier of the algorithm that signed, and what is signed.
    pub(crate) fn signed_part(&self) -> Option<(&[u8], &[u8])> {
        let outer = AnyRef::from_der(&self.der).ok()?;
        let mut content = SliceReader::new(outer.value()).ok()?;
        let signed = content.tlv_bytes().ok()?;
        let algorithm = AnyRef::from_der(content.tlv_bytes().ok()?).ok()?;
        Some((algorithm.value(), signed))
    }

    /// The certificates of a PEM text, in their order.
    pub(crate) fn parse_chain(pem: &[u8]) -> Result<Vec<Self>, &'static str> {
        let blocks = pem::parse_many(pem).map_err(|_| "not PEM")?;
        if blocks.len() > CHAIN_CERTIFICATES_MAX {
            return Err("too many certificates");
        }
        blocks.iter().map(|block| Self::parse(block.contents())).collect()
    }

    /// Whether this certificate's key made the signature of `other`.
    pub(crate) fn signed_certificate(&self, other: &Self) -> bool {
        let algorithm = &ECDSA_P256_SHA256_ASN1;
        other.issuer == self.subject && self.signed_der(algorithm, &other.der, &other.signature)
    }

    /// Whether this certificate's key made the signature of a list.
    pub(crate) fn signed_crl(&self, crl: &Crl) -> bool {
        let algorithm = &ECDSA_P256_SHA256_ASN1;
        crl.issuer == self.subject && self.signed_der(algorithm, &crl.der, &crl.signature)
    }

    /// The same for AMD, whose keys are RSA and sign with PSS and SHA-384.
    pub(crate) fn signed_crl_pss(&self, crl: &Crl) -> bool {
        let algorithm = &RSA_PSS_2048_8192_SHA384;
        crl.issuer == self.subject && self.signed_der(algorithm, &crl.der, &crl.signature)
    }

    /// Whether this certificate's key made a signature, as r and s, over these bytes.
    pub(crate) fn signed_bytes(&self, bytes: &[u8], signature: &[u8]) -> bool {
        verifies(&ECDSA_P256_SHA256_FIXED, &self.public_key, bytes, signature)
    }

    /// A certificate or list is SEQUENCE { signed part, algorithm, signature }.
    fn signed_der(
        &self,
        algorithm: &'static dyn VerificationAlgorithm,
        der: &[u8],
        signature: &[u8],
    ) -> bool {
        let Ok(outer) = AnyRef::from_der(der) else { return false };
        let Ok(mut content) = SliceReader::new(outer.value()) else { return false };
        let Ok(signed) = content.tlv_bytes() else { return false };
        verifies(algorithm, &self.public_key, signed, signature)
    }
}

impl Crl {
    pub(crate) fn parse(der: &[u8]) -> Result<Self, &'static str> {
        let parsed = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der)
            .map_err(|_| "not a certificate revocation list")?;
        let content = &parsed.tbs_cert_list;
        // Such as that the list is about some certificates only, or says only what changed.
        let own = content.crl_extensions.iter().flatten();
        let of_entries = content.revoked_certificates.iter().flatten();
        let of_entries = of_entries.flat_map(|entry| entry.crl_entry_extensions.iter().flatten());
        if own.chain(of_entries).any(|extension| extension.critical) {
            return Err("the list has a critical extension");
        }
        let until = content.next_update.ok_or("the list does not say when it expires")?;
        let revoked = content.revoked_certificates.iter().flatten();
        Ok(Self {
            der: der.to_vec(),
            issuer: name(&content.issuer)?,
            this_update: time(content.this_update),
            // A list is replaced by its successor at `nextUpdate`, not after it.
            until: time(until),
            revoked: revoked.map(|entry| entry.serial_number.as_bytes().to_vec()).collect(),
            signature: signature(&parsed.signature)?,
        })
    }

    /// Whether the list names a certificate.
    pub(crate) fn names(&self, certificate: &Certificate) -> bool {
        certificate.issuer == self.issuer && self.revoked.contains(&certificate.serial)
    }
}

/// Whether the raw P-256 point `key` (64 bytes) made a signature, as r and s, over these bytes.
pub(crate) fn point_signed(key: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
    // SEC 1 §2.3.3: an uncompressed point begins with 4.
    let point = [&[4], key].concat();
    verifies(&ECDSA_P256_SHA256_FIXED, &point, bytes, signature)
}

/// A date as Intel's JSON has it: `2025-06-19T10:56:11Z`.
pub(crate) fn parse_date(text: &str) -> Option<Time> {
    text.parse::<DateTime>().ok().map(|date| Time(date.unix_duration().as_secs()))
}

fn verifies(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    bytes: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key).verify(bytes, signature).is_ok()
}

fn time(time: x509_cert::time::Time) -> Time {
    Time(time.to_unix_duration().as_secs())
}

fn name(name: &x509_cert::name::Name) -> Result<Vec<u8>, &'static str> {
    name.to_der().map_err(|_| "a name is malformed")
}

fn signature(bits: &x509_cert::der::asn1::BitString) -> Result<Vec<u8>, &'static str> {
    Ok(bits.as_bytes().ok_or("the signature is not whole bytes")?.to_vec())
}
