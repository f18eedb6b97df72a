//! SGX quotes, version 3 (Intel's "ECDSA Quote Library API", appendix A.4).
//!
//! The layout is parsed here once more although the library behind [`crate::dcap`] parses it too:
//! a quote whose quoting identity is already verified never reaches that library, and the two
//! parsers must agree where both are used.

use heirloom_model::counter::SecurityVersion;
use heirloom_model::evidence::ReportData;
use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner};

use crate::error::AppraiseError;
use crate::pki;

const VERSION: u16 = 3;
const ATTESTATION_KEY_ECDSA_P256: u16 = 2;
const TEE_SGX: u32 = 0;
const CERTIFICATION_PCK_CHAIN: u16 = 5;
const VENDOR_INTEL: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];

const HEADER_BYTES: usize = 48;
const REPORT_BYTES: usize = 384;
/// Header and report: what the attestation key signs.
const SIGNED_BYTES: usize = HEADER_BYTES + REPORT_BYTES;
/// What Intel's quoting enclave hashes together with the attestation key.
const AUTHENTICATION_BYTES: usize = 32;

/// Attribute bits of an enclave (SDM volume 3D, 34.7.1).
mod attribute {
    pub(super) const INIT: u64 = 1 << 0;
    pub(super) const DEBUG: u64 = 1 << 1;
    pub(super) const MODE_64_BIT: u64 = 1 << 2;
    pub(super) const PROVISION_KEY: u64 = 1 << 4;
    pub(super) const EINITTOKEN_KEY: u64 = 1 << 5;
    /// Control-flow enforcement: more protection, covered by the launch.
    pub(super) const CET: u64 = 1 << 6;
    /// Key separation and sharing.
    pub(super) const KSS: u64 = 1 << 7;
    /// Notification of asynchronous exits: lets enclaves detect single-stepping.
    pub(super) const AEX_NOTIFY: u64 = 1 << 10;
}

/// A quote, taken apart. Nothing in it is verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quote<'a> {
    pub(crate) signed: &'a [u8],
    pub(crate) header: &'a [u8; HEADER_BYTES],
    pub(crate) report: Report<'a>,
    signature: &'a [u8],
    pub(crate) attestation_key: &'a [u8],
    pub(crate) qe_report: Report<'a>,
    pub(crate) qe_signature: &'a [u8],
    pub(crate) authentication: &'a [u8],
    /// PEM chain of the platform's certificate.
    pub(crate) certification: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Takes a quote apart. Every byte has a meaning; padding is refused.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, AppraiseError> {
        let mut rest = bytes;
        let header = take_array::<HEADER_BYTES>(&mut rest)?;
        supported(header)?;
        let report = Report(take_array(&mut rest)?);
        let section_length = length(u32::from_le_bytes(*take_array(&mut rest)?))?;
        let mut section = take(&mut rest, section_length)?;
        if !rest.is_empty() {
            return Err(malformed("bytes follow the signature section"));
        }
        let signature = take(&mut section, 64)?;
        let attestation_key = take(&mut section, 64)?;
        let qe_report = Report(take_array(&mut section)?);
        let qe_signature = take(&mut section, 64)?;
        let authentication_length = usize::from(take_u16(&mut section)?);
        let authentication = take(&mut section, authentication_length)?;
        let certification_type = take_u16(&mut section)?;
        let certification_length = length(u32::from_le_bytes(*take_array(&mut section)?))?;
        let certification = take(&mut section, certification_length)?;
        if !section.is_empty() {
            return Err(malformed("bytes follow the certification data"));
        }
        if certification_type != CERTIFICATION_PCK_CHAIN {
            return Err(AppraiseError::UnsupportedCertificationData { found: certification_type });
        }
        if authentication.len() != AUTHENTICATION_BYTES {
            return Err(malformed("the authentication data must have 32 bytes"));
        }
        let signed = bytes.get(..SIGNED_BYTES).ok_or(malformed("truncated"))?;
        Ok(Self {
            signed,
            header,
            report,
            signature,
            attestation_key,
            qe_report,
            qe_signature,
            authentication,
            certification,
        })
    }

    /// Succeeds if the attestation key signed header and report.
    pub(crate) fn verify_signature(&self) -> Result<(), AppraiseError> {
        if pki::point_signed(self.attestation_key, self.signed, self.signature) {
            return Ok(());
        }
        Err(AppraiseError::QuoteSignature)
    }
}

/// The report of an enclave (SDM volume 3D, 34.16).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a>(&'a [u8; REPORT_BYTES]);

impl<'a> Report<'a> {
    /// The report that these bytes are.
    pub(crate) fn of(bytes: &'a [u8; REPORT_BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn cpu_svn(self) -> [u8; 16] {
        self.field::<0, 16>()
    }

    pub(crate) fn misc_select(self) -> [u8; 4] {
        self.field::<16, 4>()
    }

    /// The low half are flags, the high half the extended features (XFRM).
    pub(crate) fn attributes(self) -> [u8; 16] {
        self.field::<48, 16>()
    }

    pub(crate) fn flags(self) -> u64 {
        u64::from_le_bytes(self.field::<48, 8>())
    }

    pub(crate) fn measurement(self) -> Measurement {
        Measurement::Sgx(MrEnclave::new(self.field::<64, 32>()))
    }

    pub(crate) fn signer(self) -> MrSigner {
        MrSigner::new(self.field::<128, 32>())
    }

    pub(crate) fn product_id(self) -> u16 {
        u16::from_le_bytes(self.field::<256, 2>())
    }

    pub(crate) fn security_version(self) -> SecurityVersion {
        SecurityVersion(u64::from(u16::from_le_bytes(self.field::<258, 2>())))
    }

    pub(crate) fn report_data(self) -> ReportData {
        ReportData::new(self.field::<320, 64>())
    }

    /// Whether the enclave can be read from outside.
    pub(crate) fn is_debug(self) -> bool {
        self.flags() & attribute::DEBUG != 0
    }

    /// What no policy can allow.
    ///
    /// * Debug enclaves show their memory to the host.
    /// * Enclaves with the provisioning or launch key are the platform's own; application code
    ///   has no business there, and the provisioning key outlives an owner's epoch.
    /// * Key separation and sharing lets the host choose CONFIGID at launch, outside the
    ///   measurement: equal measurements would not mean equal behaviour.
    /// * An attribute or field that this release does not know is refused, not ignored.
    pub(crate) fn deny(self) -> Result<(), AppraiseError> {
        let flags = self.flags();
        let lacks = |bit: u64| flags & bit == 0;
        let privileged = flags & (attribute::PROVISION_KEY | attribute::EINITTOKEN_KEY);
        let known = attribute::INIT
            | attribute::MODE_64_BIT
            | attribute::CET
            | attribute::AEX_NOTIFY
            | attribute::KSS
            | attribute::DEBUG
            | attribute::PROVISION_KEY
            | attribute::EINITTOKEN_KEY;
        if self.is_debug() {
            return Err(AppraiseError::DebugEnclave);
        }
        if lacks(attribute::INIT) {
            return Err(AppraiseError::NotInitialised);
        }
        if lacks(attribute::MODE_64_BIT) {
            return Err(AppraiseError::Not64Bit);
        }
        if privileged != 0 {
            return Err(AppraiseError::PrivilegedEnclave { bits: privileged });
        }
        if !lacks(attribute::KSS) {
            return Err(AppraiseError::UnmeasuredConfiguration);
        }
        if flags & !known != 0 {
            return Err(AppraiseError::UnknownAttributes { bits: flags & !known });
        }
        if !self.reserved_is_zero() {
            return Err(AppraiseError::ReservedNotZero);
        }
        if self.measurement().is_zero() {
            return Err(AppraiseError::ZeroMeasurement);
        }
        if self.signer().as_bytes().iter().all(|byte| *byte == 0) {
            return Err(AppraiseError::ZeroSigner);
        }
        Ok(())
    }

    /// Without key separation and sharing, its fields are reserved too.
    fn reserved_is_zero(self) -> bool {
        let fields: [&[u8]; 4] = [
            &self.field::<20, 28>(),
            &self.field::<96, 32>(),
            &self.field::<160, 96>(),
            &self.field::<260, 60>(),
        ];
        fields.iter().all(|field| field.iter().all(|byte| *byte == 0))
    }

    fn field<const AT: usize, const N: usize>(self) -> [u8; N] {
        const { assert!(AT + N <= REPORT_BYTES, "a field lies inside the report") };
        let mut field = [0; N];
        field.iter_mut().zip(self.0.iter().skip(AT)).for_each(|(to, from)| *to = *from);
        field
    }
}

/// Whether this release knows quotes of this kind.
fn supported(header: &[u8; HEADER_BYTES]) -> Result<(), AppraiseError> {
    let mut rest = header.as_slice();
    let version = take_u16(&mut rest)?;
    let key_type = take_u16(&mut rest)?;
    let tee = u32::from_le_bytes(*take_array(&mut rest)?);
    let _svns = take(&mut rest, 4)?;
    let vendor = take(&mut rest, 16)?;
    if version != VERSION {
        return Err(AppraiseError::UnsupportedQuoteVersion { found: version });
    }
    if key_type != ATTESTATION_KEY_ECDSA_P256 {
        return Err(AppraiseError::UnsupportedAttestationKey { found: key_type });
    }
    if tee != TEE_SGX {
        return Err(AppraiseError::UnsupportedTeeType { found: tee });
    }
    if vendor != VENDOR_INTEL {
        return Err(AppraiseError::UnknownQuotingVendor);
    }
    Ok(())
}

fn malformed(fault: &'static str) -> AppraiseError {
    AppraiseError::MalformedQuote { fault }
}

fn length(found: u32) -> Result<usize, AppraiseError> {
    usize::try_from(found).map_err(|_| malformed("a length is too large"))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], AppraiseError> {
    let (head, tail) = rest.split_at_checked(count).ok_or(malformed("truncated"))?;
    *rest = tail;
    Ok(head)
}

fn take_array<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], AppraiseError> {
    let (head, tail) = rest.split_first_chunk().ok_or(malformed("truncated"))?;
    *rest = tail;
    Ok(head)
}

fn take_u16(rest: &mut &[u8]) -> Result<u16, AppraiseError> {
    Ok(u16::from_le_bytes(*take_array(rest)?))
}
