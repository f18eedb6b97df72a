//! Reports: what the CPU says about an enclave to another enclave of the same CPU.

use heirloom_keeper::port::PlatformError;
use heirloom_model::evidence::{LocalReport, ReportData, ReportTarget};
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::sealed::CpuSvn;

/// ATTRIBUTES of an enclave (SDM volume 3D, 37.7.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attributes {
    /// FLAGS.
    pub flags: u64,
    /// XFRM: which extended registers the enclave may use.
    pub xfrm: u64,
}

/// The enclave has been initialised.
pub const FLAG_INIT: u64 = 1;
/// The enclave can be read and changed from outside.
pub const FLAG_DEBUG: u64 = 1 << 1;
/// The enclave runs in 64-bit mode.
pub const FLAG_MODE64: u64 = 1 << 2;
/// The enclave may ask for the provisioning key: the quoting enclave.
pub const FLAG_PROVISION_KEY: u64 = 1 << 4;
/// x87, SSE, AVX and AVX-512 state.
pub const XFRM_DEFAULT: u64 = 0xe7;

/// Whether an enclave can be read from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LaunchMode {
    /// It can. Keepers refuse to hold keys then.
    Debug,
    /// It cannot.
    Production,
}

impl LaunchMode {
    /// The attributes of an application enclave in this mode.
    pub fn attributes(self) -> Attributes {
        let flags = FLAG_INIT | FLAG_MODE64;
        match self {
            Self::Debug => Attributes { flags: flags | FLAG_DEBUG, xfrm: XFRM_DEFAULT },
            Self::Production => Attributes { flags, xfrm: XFRM_DEFAULT },
        }
    }
}

/// Who an enclave is: the fields of its SECS that identify it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Secs {
    /// The code.
    pub measurement: MrEnclave,
    /// Who signed it.
    pub signer: MrSigner,
    /// ISVPRODID.
    pub product_id: u16,
    /// ISVSVN.
    pub isv_svn: u16,
    /// What it may do.
    pub attributes: Attributes,
    /// MISCSELECT.
    pub misc_select: u32,
}

impl Secs {
    /// Whether the enclave can be read from outside.
    pub fn mode(&self) -> LaunchMode {
        if self.attributes.flags & FLAG_DEBUG == 0 {
            return LaunchMode::Production;
        }
        LaunchMode::Debug
    }

    /// What another enclave needs in order to address a report to this one.
    pub fn target_info(&self) -> TargetInfo {
        TargetInfo {
            measurement: self.measurement,
            attributes: self.attributes,
            misc_select: self.misc_select,
        }
    }
}

/// To whom a report is addressed (SDM volume 3D, 37.17).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TargetInfo {
    /// The code of the target.
    pub measurement: MrEnclave,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its MISCSELECT.
    pub misc_select: u32,
}

/// The target names things that this CPU does not have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the report's target uses reserved fields")]
pub struct ReservedTarget;

/// What is said about targets of other kinds of CPUs.
pub const RESERVED_TARGET: &str = "a report's target with reserved fields";

impl From<ReservedTarget> for PlatformError {
    fn from(_: ReservedTarget) -> Self {
        Self::Unsupported(RESERVED_TARGET)
    }
}

impl TargetInfo {
    /// The 512 bytes that EREPORT reads.
    pub fn to_bytes(&self) -> ReportTarget {
        let mut bytes = [0; ReportTarget::BYTES];
        put(&mut bytes, 0, self.measurement.as_bytes());
        put(&mut bytes, 32, &self.attributes.flags.to_le_bytes());
        put(&mut bytes, 40, &self.attributes.xfrm.to_le_bytes());
        put(&mut bytes, 52, &self.misc_select.to_le_bytes());
        ReportTarget::new(bytes)
    }

    /// Reads the 512 bytes that EREPORT reads. Everything else than what this CPU knows must be
    /// zero: the fields of key separation and of control-flow enforcement too.
    pub fn from_bytes(target: &ReportTarget) -> Result<Self, ReservedTarget> {
        let bytes = target.as_bytes();
        let flags = u64::from_le_bytes(take(bytes, 32));
        let xfrm = u64::from_le_bytes(take(bytes, 40));
        let read = Self {
            measurement: MrEnclave::new(take(bytes, 0)),
            attributes: Attributes { flags, xfrm },
            misc_select: u32::from_le_bytes(take(bytes, 52)),
        };
        if read.to_bytes() == *target { Ok(read) } else { Err(ReservedTarget) }
    }
}

/// The part of a report that is authenticated (SDM volume 3D, 37.16).
pub const REPORT_BODY_BYTES: usize = 384;
/// A whole report: body, KEYID, MAC.
pub const REPORT_BYTES: usize = REPORT_BODY_BYTES + 32 + 16;

/// The body of a report, as bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReportBody([u8; REPORT_BODY_BYTES]);

impl ReportBody {
    /// Says who an enclave is on a CPU that stands at `cpu_svn`.
    pub fn new(secs: &Secs, cpu_svn: CpuSvn, report_data: &ReportData) -> Self {
        let mut body = [0; REPORT_BODY_BYTES];
        put(&mut body, 0, cpu_svn.as_bytes());
        put(&mut body, 16, &secs.misc_select.to_le_bytes());
        put(&mut body, 48, &secs.attributes.flags.to_le_bytes());
        put(&mut body, 56, &secs.attributes.xfrm.to_le_bytes());
        put(&mut body, 64, secs.measurement.as_bytes());
        put(&mut body, 128, secs.signer.as_bytes());
        put(&mut body, 256, &secs.product_id.to_le_bytes());
        put(&mut body, 258, &secs.isv_svn.to_le_bytes());
        put(&mut body, 320, report_data.as_bytes());
        Self(body)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; REPORT_BODY_BYTES] {
        &self.0
    }

    /// The code that the report is about.
    pub fn measurement(&self) -> MrEnclave {
        MrEnclave::new(take(&self.0, 64))
    }

    /// Who signed that code.
    pub fn signer(&self) -> MrSigner {
        MrSigner::new(take(&self.0, 128))
    }

    /// Its product identifier.
    pub fn product_id(&self) -> u16 {
        u16::from_le_bytes(take(&self.0, 256))
    }

    /// Its security version.
    pub fn isv_svn(&self) -> u16 {
        u16::from_le_bytes(take(&self.0, 258))
    }

    /// FLAGS of its attributes.
    pub fn flags(&self) -> u64 {
        u64::from_le_bytes(take(&self.0, 48))
    }

    /// What it put into the report.
    pub fn report_data(&self) -> ReportData {
        ReportData::new(take(&self.0, 320))
    }
}

/// A report with its MAC. Nothing in it is verified yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Report {
    /// What it says.
    pub body: ReportBody,
    /// Which report key authenticates it.
    pub key_id: [u8; 32],
    /// AES-CMAC under the target's report key.
    pub mac: [u8; 16],
}

impl Report {
    /// The 432 bytes that EREPORT writes.
    pub fn to_bytes(&self) -> [u8; REPORT_BYTES] {
        let mut bytes = [0; REPORT_BYTES];
        put(&mut bytes, 0, &self.body.0);
        put(&mut bytes, REPORT_BODY_BYTES, &self.key_id);
        put(&mut bytes, REPORT_BODY_BYTES + 32, &self.mac);
        bytes
    }

    /// The report as other enclaves get it.
    pub fn to_local(&self) -> LocalReport {
        LocalReport::new(self.to_bytes())
    }

    /// Reads the 432 bytes that EREPORT writes.
    pub fn from_bytes(bytes: &[u8; REPORT_BYTES]) -> Self {
        Self {
            body: ReportBody(take(bytes, 0)),
            key_id: take(bytes, REPORT_BODY_BYTES),
            mac: take(bytes, REPORT_BODY_BYTES + 32),
        }
    }
}

/// Writes a field of a structure whose layout is fixed.
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let field = bytes.get_mut(at..).and_then(|tail| tail.get_mut(..value.len()));
    field.expect("the layout has room for its fields").copy_from_slice(value);
}

/// Reads a field of a structure whose layout is fixed.
pub fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let field = bytes.get(at..).and_then(|tail| tail.get(..N));
    field.and_then(|field| field.try_into().ok()).expect("the layout has room for its fields")
}
