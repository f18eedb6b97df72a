//! DCAP quotes: SGX version 3 (Intel's "ECDSA Quote Library API", appendix A.4), TDX versions 4 and
//! 5 (Intel's "TDX DCAP Quoting Library API", appendix A.3).
//!
//! The layout is parsed here once more although the library behind [`crate::dcap`] parses it too:
//! a quote whose quoting identity is already verified never reaches that library, and the two
//! parsers must agree where both are used.

use heirloom_model::counter::SecurityVersion;
use heirloom_model::evidence::ReportData;
use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner};

use crate::error::AppraiseError;
use crate::pki;
use crate::td_report::{self, TdReport};

const VERSION_SGX: u16 = 3;
const VERSION_TDX: u16 = 4;
/// The body has a header of its own, which says what it is.
const VERSION_TDX_TYPED: u16 = 5;
const ATTESTATION_KEY_ECDSA_P256: u16 = 2;
const TEE_SGX: u32 = 0;
const TEE_TDX: u32 = 0x81;
const BODY_TD_1_0: u16 = 2;
const BODY_TD_1_5: u16 = 3;
const CERTIFICATION_PCK_CHAIN: u16 = 5;
/// TDX: report and signature of the quoting enclave, and what certifies it.
const CERTIFICATION_QE_REPORT: u16 = 6;
const VENDOR_INTEL: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];

const HEADER_BYTES: usize = 48;
const REPORT_BYTES: usize = 384;
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
    pub(crate) version: u16,
    pub(crate) signed: &'a [u8],
    pub(crate) header: &'a [u8; HEADER_BYTES],
    pub(crate) body: Body<'a>,
    signature: &'a [u8],
    pub(crate) attestation_key: &'a [u8],
    pub(crate) qe_report: Report<'a>,
    pub(crate) qe_signature: &'a [u8],
    pub(crate) authentication: &'a [u8],
    /// PEM chain of the platform's certificate.
    pub(crate) certification: &'a [u8],
}

/// What is quoted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    /// An enclave.
    Sgx(Report<'a>),
    /// A trust domain.
    Tdx(TdReport<'a>),
}

impl<'a> Quote<'a> {
    /// Takes a quote of an enclave apart. Every byte has a meaning; padding is refused.
    pub(crate) fn parse_sgx(bytes: &'a [u8]) -> Result<Self, AppraiseError> {
        let mut rest = bytes;
        let header = take_array::<HEADER_BYTES>(&mut rest)?;
        let version = supported(header, &[VERSION_SGX], TEE_SGX)?;
        let body = Body::Sgx(Report(take_array(&mut rest)?));
        let signed = signed(bytes, rest)?;
        let mut section = last_section(&mut rest)?;
        let signature = take(&mut section, 64)?;
        let attestation_key = take(&mut section, 64)?;
        let quoting = Quoting::parse(section)?;
        Ok(Self::of(version, header, body, signed, (signature, attestation_key), &quoting))
    }

    /// Takes a quote of a trust domain apart. Every byte has a meaning; padding is refused.
    pub(crate) fn parse_tdx(bytes: &'a [u8]) -> Result<Self, AppraiseError> {
        let mut rest = bytes;
        let header = take_array::<HEADER_BYTES>(&mut rest)?;
        let version = supported(header, &[VERSION_TDX, VERSION_TDX_TYPED], TEE_TDX)?;
        let report = td_report(&mut rest, version)?;
        let signed = signed(bytes, rest)?;
        let mut section = last_section(&mut rest)?;
        let signature = take(&mut section, 64)?;
        let attestation_key = take(&mut section, 64)?;
        let certification_type = take_u16(&mut section)?;
        if certification_type != CERTIFICATION_QE_REPORT {
            return Err(AppraiseError::UnsupportedCertificationData { found: certification_type });
        }
        let quoting = Quoting::parse(last_section(&mut section)?)?;
        let body = Body::Tdx(report);
        Ok(Self::of(version, header, body, signed, (signature, attestation_key), &quoting))
    }

    fn of(
        version: u16,
        header: &'a [u8; HEADER_BYTES],
        body: Body<'a>,
        signed: &'a [u8],
        (signature, attestation_key): (&'a [u8], &'a [u8]),
        quoting: &Quoting<'a>,
    ) -> Self {
        let Quoting { qe_report, qe_signature, authentication, certification } = *quoting;
        Self {
            version,
            signed,
            header,
            body,
            signature,
            attestation_key,
            qe_report,
            qe_signature,
            authentication,
            certification,
        }
    }

    /// Succeeds if the attestation key signed header and body.
    pub(crate) fn verify_signature(&self) -> Result<(), AppraiseError> {
        if pki::point_signed(self.attestation_key, self.signed, self.signature) {
            return Ok(());
        }
        Err(AppraiseError::QuoteSignature)
    }

    pub(crate) fn measurement(&self) -> Measurement {
        match self.body {
            Body::Sgx(report) => report.measurement(),
            Body::Tdx(report) => report.measurement(),
        }
    }

    pub(crate) fn report_data(&self) -> ReportData {
        match self.body {
            Body::Sgx(report) => report.report_data(),
            Body::Tdx(report) => report.report_data(),
        }
    }

    /// What no policy can allow.
    pub(crate) fn deny(&self) -> Result<(), AppraiseError> {
        match self.body {
            Body::Sgx(report) => report.deny(),
            Body::Tdx(report) => report.deny(),
        }
    }

    /// A quote without the zeros that follow it.
    pub(crate) fn unpadded(bytes: &'a [u8]) -> Result<&'a [u8], AppraiseError> {
        let mut rest = bytes;
        let header = take_array::<HEADER_BYTES>(&mut rest)?;
        if header.starts_with(&VERSION_SGX.to_le_bytes()) {
            supported(header, &[VERSION_SGX], TEE_SGX)?;
            take(&mut rest, REPORT_BYTES)?;
        } else {
            let version = supported(header, &[VERSION_TDX, VERSION_TDX_TYPED], TEE_TDX)?;
            td_report(&mut rest, version)?;
        }
        section(&mut rest)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(malformed("bytes other than zeros follow the signature section"));
        }
        signed(bytes, rest)
    }
}

/// What certifies an attestation key: the quoting enclave's report, and the platform's
/// certificates.
struct Quoting<'a> {
    qe_report: Report<'a>,
    qe_signature: &'a [u8],
    authentication: &'a [u8],
    certification: &'a [u8],
}

impl<'a> Quoting<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, AppraiseError> {
        let mut rest = bytes;
        let qe_report = Report(take_array(&mut rest)?);
        let qe_signature = take(&mut rest, 64)?;
        let authentication_length = usize::from(take_u16(&mut rest)?);
        let authentication = take(&mut rest, authentication_length)?;
        let certification_type = take_u16(&mut rest)?;
        let certification = last_section(&mut rest)?;
        if certification_type != CERTIFICATION_PCK_CHAIN {
            return Err(AppraiseError::UnsupportedCertificationData { found: certification_type });
        }
        if authentication.len() != AUTHENTICATION_BYTES {
            return Err(malformed("the authentication data must have 32 bytes"));
        }
        Ok(Self { qe_report, qe_signature, authentication, certification })
    }
}

/// The report of a trust domain: of TDX 1.0 in version 4, and whatever its type says in version 5.
fn td_report<'a>(rest: &mut &'a [u8], version: u16) -> Result<TdReport<'a>, AppraiseError> {
    let (kind, stated) = if version == VERSION_TDX {
        (BODY_TD_1_0, None)
    } else {
        let kind = take_u16(rest)?;
        (kind, Some(length(u32::from_le_bytes(*take_array(rest)?))?))
    };
    let expected = match kind {
        BODY_TD_1_0 => td_report::BYTES_1_0,
        BODY_TD_1_5 => td_report::BYTES_1_5,
        found => return Err(AppraiseError::UnsupportedQuoteBody { found }),
    };
    if stated.is_some_and(|stated| stated != expected) {
        return Err(malformed("the body does not have the length of its type"));
    }
    TdReport::of(take(rest, expected)?).ok_or(malformed("truncated"))
}

/// All bytes before the rest.
fn signed<'a>(bytes: &'a [u8], rest: &[u8]) -> Result<&'a [u8], AppraiseError> {
    let count = bytes.len().checked_sub(rest.len());
    count.and_then(|count| bytes.get(..count)).ok_or(malformed("truncated"))
}

/// A part that says how long it is.
fn section<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], AppraiseError> {
    let count = length(u32::from_le_bytes(*take_array(rest)?))?;
    take(rest, count)
}

/// The same, with nothing behind it.
fn last_section<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], AppraiseError> {
    let found = section(rest)?;
    if rest.is_empty() { Ok(found) } else { Err(malformed("bytes follow the last section")) }
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

/// The version of a quote, if this release knows its kind.
fn supported(
    header: &[u8; HEADER_BYTES],
    versions: &[u16],
    expected: u32,
) -> Result<u16, AppraiseError> {
    let mut rest = header.as_slice();
    let version = take_u16(&mut rest)?;
    let key_type = take_u16(&mut rest)?;
    let tee = u32::from_le_bytes(*take_array(&mut rest)?);
    let _svns = take(&mut rest, 4)?;
    let vendor = take(&mut rest, 16)?;
    if !versions.contains(&version) {
        return Err(AppraiseError::UnsupportedQuoteVersion { found: version });
    }
    if key_type != ATTESTATION_KEY_ECDSA_P256 {
        return Err(AppraiseError::UnsupportedAttestationKey { found: key_type });
    }
    if tee != expected {
        return Err(AppraiseError::UnsupportedTeeType { found: tee });
    }
    if vendor != VENDOR_INTEL {
        return Err(AppraiseError::UnknownQuotingVendor);
    }
    Ok(version)
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
