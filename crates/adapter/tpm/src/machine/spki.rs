//! Which machine it is: the digest of its endorsement key, as certificates write it.

use heirloom_model::identifier::PlatformId;

use crate::client::Tpm;
use crate::error::TpmError;
use crate::key::{EndorsementKey, EndorsementKind, endorsement_certificate};
use crate::public::PublicKey;

/// The endorsement key that the manufacturer certified: RSA if there is a certificate of it, which
/// most TPMs have, otherwise P-256. Only a certificate that is not there says that there is none:
/// otherwise a TPM that does not answer for a moment would be another machine.
pub(super) fn kind(tpm: &Tpm) -> Result<EndorsementKind, TpmError> {
    match endorsement_certificate(tpm, EndorsementKind::Rsa2048) {
        Ok(_) => Ok(EndorsementKind::Rsa2048),
        Err(TpmError::Missing(_)) => Ok(EndorsementKind::P256),
        Err(error) => Err(error),
    }
}

/// The machine, as appraisal names it.
pub(super) fn platform(tpm: &Tpm) -> Result<PlatformId, TpmError> {
    let key = EndorsementKey::open(tpm, kind(tpm)?)?;
    let spki = spki(key.public().key()).ok_or(TpmError::Corrupt {
        subject: "the endorsement key",
        what: "it is no key of a kind that is certified",
    })?;
    Ok(PlatformId::of_endorsement_key(&spki))
}

/// `SubjectPublicKeyInfo` (RFC 5280, 4.1) in DER.
fn spki(key: &PublicKey) -> Option<Vec<u8>> {
    match key {
        PublicKey::P256(point) => Some([&P256_HEAD[..], &point.to_sec1()].concat()),
        PublicKey::Rsa2048(modulus) => {
            Some([&RSA_HEAD[..], modulus.as_slice(), &RSA_EXPONENT].concat())
        }
        PublicKey::Mac => None,
    }
}

/// SEQUENCE { SEQUENCE { ecPublicKey, prime256v1 }, BIT STRING of 65 bytes.
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// SEQUENCE { SEQUENCE { rsaEncryption, NULL }, BIT STRING { SEQUENCE { INTEGER of 257 bytes.
const RSA_HEAD: [u8; 33] = [
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01,
    0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01,
    0x00,
];
/// INTEGER 65537.
const RSA_EXPONENT: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];
