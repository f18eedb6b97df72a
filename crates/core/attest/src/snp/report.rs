//! The layout of a report (AMD 56860, ATTESTATION REPORT).

use std::fmt;

use heirloom_model::appraisal::{SnpGeneration, VekKind};
use heirloom_model::evidence::ReportData;
use heirloom_model::measurement::{LaunchDigest, Register32, Register48};

use super::error::SnpError;

/// The first version of which real reports are known; it lacks the processor's family and model.
const VERSION_MIN: u32 = 2;
const VERSION_WITH_PROCESSOR: u32 = 3;
/// The first version with mitigation vectors.
const VERSION_WITH_MITIGATIONS: u32 = 5;
/// The newest version whose layout is known.
const VERSION_MAX: u32 = 5;
/// A whole report, signature and all.
const REPORT_BYTES: usize = 1184;
const ECDSA_P384_SHA384: u32 = 1;
/// The highest privilege level of a guest; reports that the host asked for have a greater number.
const VMPL_MAX: u32 = 3;
/// A number of 384 bits, in a field of 72 bytes, little-endian.
const SCALAR_BYTES: usize = 48;

mod offset {
    pub(super) const VERSION: usize = 0x000;
    pub(super) const GUEST_SVN: usize = 0x004;
    pub(super) const POLICY: usize = 0x008;
    pub(super) const FAMILY_ID: usize = 0x010;
    pub(super) const IMAGE_ID: usize = 0x020;
    pub(super) const VMPL: usize = 0x030;
    pub(super) const SIGNATURE_ALGORITHM: usize = 0x034;
    pub(super) const CURRENT_TCB: usize = 0x038;
    pub(super) const PLATFORM_INFO: usize = 0x040;
    pub(super) const KEY_INFO: usize = 0x048;
    pub(super) const RESERVED_KEY_INFO: usize = 0x04c;
    pub(super) const REPORT_DATA: usize = 0x050;
    pub(super) const MEASUREMENT: usize = 0x090;
    pub(super) const HOST_DATA: usize = 0x0c0;
    pub(super) const ID_KEY_DIGEST: usize = 0x0e0;
    pub(super) const AUTHOR_KEY_DIGEST: usize = 0x110;
    pub(super) const REPORTED_TCB: usize = 0x180;
    pub(super) const PROCESSOR_FAMILY: usize = 0x188;
    pub(super) const PROCESSOR_MODEL: usize = 0x189;
    pub(super) const RESERVED_PROCESSOR: usize = 0x18b;
    pub(super) const CHIP_ID: usize = 0x1a0;
    pub(super) const COMMITTED_TCB: usize = 0x1e0;
    pub(super) const RESERVED_CURRENT_BUILD: usize = 0x1eb;
    pub(super) const RESERVED_COMMITTED_BUILD: usize = 0x1ef;
    pub(super) const LAUNCH_TCB: usize = 0x1f0;
    pub(super) const MITIGATIONS: usize = 0x1f8;
    pub(super) const RESERVED_MITIGATIONS: usize = 0x208;
    /// Where the signature begins, and what is signed ends.
    pub(super) const SIGNATURE: usize = 0x2a0;
    pub(super) const RESERVED_R: usize = 0x2d0;
    pub(super) const SIGNATURE_S: usize = 0x2e8;
    pub(super) const RESERVED_S: usize = 0x318;
}

/// Bits of the guest's policy.
mod policy {
    /// The lowest ABI version of the firmware, in two bytes.
    pub(super) const ABI: u64 = 0xffff;
    pub(super) const SMT: u64 = 1 << 16;
    pub(super) const ALWAYS_SET: u64 = 1 << 17;
    pub(super) const MIGRATION_AGENT: u64 = 1 << 18;
    pub(super) const DEBUG: u64 = 1 << 19;
    pub(super) const SINGLE_SOCKET: u64 = 1 << 20;
    /// Bits that only demand or allow things about memory: CXL, AES-256-XTS, no RAPL, ciphertext
    /// hiding, no page swapping.
    pub(super) const MEMORY: u64 = 0x1f << 21;
    pub(super) const KNOWN: u64 = ABI | SMT | ALWAYS_SET | SINGLE_SOCKET | MEMORY;
}

/// A report, taken apart. Nothing in it is verified unless it came from
/// [`SnpClaims`](super::SnpClaims).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Report<'a>(&'a [u8; REPORT_BYTES]);

impl<'a> Report<'a> {
    /// How many bytes a report has.
    pub const BYTES: usize = REPORT_BYTES;

    /// Takes a report apart. Every byte has a meaning; what is reserved must be zero.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SnpError> {
        let report = Self(bytes.try_into().map_err(|_| SnpError::Length { found: bytes.len() })?);
        let version = report.version();
        if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(SnpError::Version { found: version });
        }
        let algorithm = report.number::<{ offset::SIGNATURE_ALGORITHM }>();
        if algorithm != ECDSA_P384_SHA384 {
            return Err(SnpError::SignatureAlgorithm { found: algorithm });
        }
        report.reserved_is_zero()?;
        Ok(report)
    }

    /// The report in claims, which was parsed before.
    pub(super) fn verified(bytes: &'a [u8; REPORT_BYTES]) -> Self {
        Self(bytes)
    }

    /// The whole report.
    pub fn bytes(self) -> &'a [u8; REPORT_BYTES] {
        self.0
    }

    /// Version of the format.
    pub fn version(self) -> u32 {
        self.number::<{ offset::VERSION }>()
    }

    /// The guest's security version, from its identity block.
    pub fn guest_svn(self) -> u32 {
        self.number::<{ offset::GUEST_SVN }>()
    }

    /// The guest's policy.
    pub fn policy(self) -> u64 {
        u64::from_le_bytes(self.field::<{ offset::POLICY }, 8>())
    }

    /// Whether the guest may run with hyper-threading.
    pub fn allows_smt(self) -> bool {
        self.policy() & policy::SMT != 0
    }

    /// Whether the guest may run on one socket only.
    pub fn single_socket(self) -> bool {
        self.policy() & policy::SINGLE_SOCKET != 0
    }

    /// Whether the host can read the guest's memory through the debugger.
    pub fn is_debug(self) -> bool {
        self.policy() & policy::DEBUG != 0
    }

    /// The lowest ABI version (major, minor) of firmware that may run the guest.
    pub fn abi_min(self) -> (u8, u8) {
        let [minor, major] = self.field::<{ offset::POLICY }, 2>();
        (major, minor)
    }

    /// The product family, from the identity block.
    pub fn family_id(self) -> [u8; 16] {
        self.field::<{ offset::FAMILY_ID }, 16>()
    }

    /// The image, from the identity block.
    pub fn image_id(self) -> [u8; 16] {
        self.field::<{ offset::IMAGE_ID }, 16>()
    }

    /// Privilege level of whoever asked for the report.
    pub fn vmpl(self) -> u32 {
        self.number::<{ offset::VMPL }>()
    }

    /// What the platform is and does, as bits.
    pub fn platform_info(self) -> u64 {
        u64::from_le_bytes(self.field::<{ offset::PLATFORM_INFO }, 8>())
    }

    /// Whether the machine runs with hyper-threading.
    pub fn smt_enabled(self) -> bool {
        self.platform_info() & 1 != 0
    }

    /// Whether the firmware looked for memory that answers at two addresses, and found none.
    pub fn alias_checked(self) -> bool {
        self.platform_info() & (1 << 5) != 0
    }

    /// What the attester asked to be attested.
    pub fn report_data(self) -> ReportData {
        ReportData::new(self.field::<{ offset::REPORT_DATA }, 64>())
    }

    /// The digest over what was launched.
    pub fn launch_digest(self) -> LaunchDigest {
        LaunchDigest::new(self.field::<{ offset::MEASUREMENT }, 48>())
    }

    /// What the host put in at launch.
    pub fn host_data(self) -> Register32 {
        Register32::new(self.field::<{ offset::HOST_DATA }, 32>())
    }

    /// Digest of the key that signed the identity block; zero without one.
    pub fn id_key(self) -> Register48 {
        Register48::new(self.field::<{ offset::ID_KEY_DIGEST }, 48>())
    }

    /// Digest of the key that signed that key; zero without one.
    pub fn author_key(self) -> Register48 {
        Register48::new(self.field::<{ offset::AUTHOR_KEY_DIGEST }, 48>())
    }

    /// The firmware that runs, as bytes.
    pub fn current_tcb(self) -> [u8; 8] {
        self.field::<{ offset::CURRENT_TCB }, 8>()
    }

    /// The firmware for which the signing key was derived, as bytes.
    pub fn reported_tcb(self) -> [u8; 8] {
        self.field::<{ offset::REPORTED_TCB }, 8>()
    }

    /// The firmware below which the machine can never go again, as bytes.
    pub fn committed_tcb(self) -> [u8; 8] {
        self.field::<{ offset::COMMITTED_TCB }, 8>()
    }

    /// The firmware that launched the guest, as bytes.
    pub fn launch_tcb(self) -> [u8; 8] {
        self.field::<{ offset::LAUNCH_TCB }, 8>()
    }

    /// The chip's number; zero if the machine's owner hides it.
    pub fn chip_id(self) -> [u8; 64] {
        self.field::<{ offset::CHIP_ID }, 64>()
    }

    /// The generation, by the processor's family and model, from version 3 on.
    pub fn generation(self) -> Result<Option<SnpGeneration>, SnpError> {
        if self.version() < VERSION_WITH_PROCESSOR {
            return Ok(None);
        }
        let [family] = self.field::<{ offset::PROCESSOR_FAMILY }, 1>();
        let [model] = self.field::<{ offset::PROCESSOR_MODEL }, 1>();
        match (family, model) {
            (0x19, 0x00..=0x0f) => Ok(Some(SnpGeneration::Milan)),
            // 8004 and 97x4 have models of their own and the keys of Genoa.
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Ok(Some(SnpGeneration::Genoa)),
            (0x1a, 0x00..=0x1f) => Ok(Some(SnpGeneration::Turin)),
            _ => Err(SnpError::UnknownProcessor { family, model }),
        }
    }

    /// The kind of key that signed.
    pub fn signing_key(self) -> Result<VekKind, SnpError> {
        // Bit 0: whether an author signed the identity key. Bit 1: whether the key is masked, which
        // leaves the report unsigned. Bits 2 to 4: which key.
        let info = self.number::<{ offset::KEY_INFO }>();
        match info & !1 {
            0 => Ok(VekKind::Vcek),
            0b100 => Ok(VekKind::Vlek),
            _ => Err(SnpError::UnknownSigningKey { found: info }),
        }
    }

    /// What the key signed.
    pub(super) fn signed(self) -> &'a [u8] {
        self.0.split_at(offset::SIGNATURE).0
    }

    /// The signature as r and s, big-endian.
    pub(super) fn signature(self) -> [u8; 2 * SCALAR_BYTES] {
        let r = self.field::<{ offset::SIGNATURE }, SCALAR_BYTES>();
        let s = self.field::<{ offset::SIGNATURE_S }, SCALAR_BYTES>();
        let mut signature = [0; 2 * SCALAR_BYTES];
        let numbers = r.iter().rev().chain(s.iter().rev());
        signature.iter_mut().zip(numbers).for_each(|(to, from)| *to = *from);
        signature
    }

    /// What no policy can allow.
    pub(super) fn deny(self) -> Result<(), SnpError> {
        let found = self.policy();
        if found & policy::DEBUG != 0 {
            return Err(SnpError::Debug);
        }
        if found & policy::MIGRATION_AGENT != 0 {
            return Err(SnpError::MigrationAgent);
        }
        if found & !policy::KNOWN != 0 || found & policy::ALWAYS_SET == 0 {
            return Err(SnpError::UnknownPolicy { policy: found });
        }
        if self.vmpl() > VMPL_MAX {
            return Err(SnpError::PrivilegeLevel { found: self.vmpl() });
        }
        if is_zero(self.launch_digest().as_bytes()) {
            return Err(SnpError::ZeroMeasurement);
        }
        Ok(())
    }

    /// Fields that no version has, or that the report's own version does not have yet.
    fn reserved_is_zero(self) -> Result<(), SnpError> {
        let processor = match self.version() {
            VERSION_WITH_PROCESSOR.. => offset::RESERVED_PROCESSOR,
            _ => offset::PROCESSOR_FAMILY,
        };
        let mitigations = match self.version() {
            VERSION_WITH_MITIGATIONS.. => offset::RESERVED_MITIGATIONS,
            _ => offset::MITIGATIONS,
        };
        let reserved = [
            offset::RESERVED_KEY_INFO..offset::REPORT_DATA,
            processor..offset::CHIP_ID,
            offset::RESERVED_CURRENT_BUILD..offset::RESERVED_CURRENT_BUILD + 1,
            offset::RESERVED_COMMITTED_BUILD..offset::RESERVED_COMMITTED_BUILD + 1,
            mitigations..offset::SIGNATURE,
            offset::RESERVED_R..offset::SIGNATURE_S,
            offset::RESERVED_S..REPORT_BYTES,
        ];
        for range in reserved {
            let offset = range.start;
            if !self.0.get(range).is_some_and(is_zero) {
                return Err(SnpError::ReservedNotZero { offset });
            }
        }
        Ok(())
    }

    fn number<const AT: usize>(self) -> u32 {
        u32::from_le_bytes(self.field::<AT, 4>())
    }

    fn field<const AT: usize, const N: usize>(self) -> [u8; N] {
        const { assert!(AT + N <= REPORT_BYTES, "a field lies inside the report") };
        let mut field = [0; N];
        field.iter_mut().zip(self.0.iter().skip(AT)).for_each(|(to, from)| *to = *from);
        field
    }
}

/// Security versions of the firmware of one machine (AMD 56860, `TCB_VERSION`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tcb {
    /// Of the FMC, which only Turin has; 0 otherwise.
    pub fmc: u8,
    /// Of the boot loader.
    pub bootloader: u8,
    /// Of the PSP operating system.
    pub tee: u8,
    /// Of the SNP firmware.
    pub snp: u8,
    /// Of the microcode.
    pub microcode: u8,
}

impl Tcb {
    /// Takes apart the eight bytes, whose order depends on the generation.
    pub fn of(generation: SnpGeneration, bytes: [u8; 8]) -> Result<Self, SnpError> {
        let (tcb, reserved) = match (generation, bytes) {
            (
                SnpGeneration::Milan | SnpGeneration::Genoa,
                [bootloader, tee, a, b, c, d, snp, microcode],
            ) => (Self { fmc: 0, bootloader, tee, snp, microcode }, [a, b, c, d]),
            (SnpGeneration::Turin, [fmc, bootloader, tee, snp, a, b, c, microcode]) => {
                (Self { fmc, bootloader, tee, snp, microcode }, [a, b, c, 0])
            }
        };
        if !is_zero(&reserved) {
            return Err(SnpError::ReservedNotZero { offset: offset::REPORTED_TCB });
        }
        Ok(tcb)
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fmc, bootloader, tee, snp, microcode } = self;
        write!(f, "fmc {fmc}, bootloader {bootloader}, tee {tee}, snp {snp}, microcode {microcode}")
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
