//! What an appraisal policy demands of each kind of evidence.
//!
//! There is no default: every field is written down. A kind of which a policy says nothing is not
//! accepted, a reference that is not looked at says so by name, and no list that admits something
//! is ever empty.

use minicbor::{Decode, Encode};

use crate::counter::Time;
use crate::digest::HostAuthority;
use crate::measurement::{Register32, Register48};
use crate::policy::TcbLevel;

/// Reference values of one claim.
///
/// The third state, that nobody wrote anything down, does not exist: whoever reads a policy from a
/// document refuses it.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Reference<T> {
    /// The claim is one of these, sorted; never empty.
    #[n(0)]
    Match(#[n(0)] Vec<T>),
    /// The claim is not looked at, said aloud.
    #[n(1)]
    Skip,
}

impl<T: PartialEq> Reference<T> {
    /// Whether a claim is what the policy demands.
    pub fn accepts(&self, found: &T) -> bool {
        match self {
            Self::Match(values) => values.contains(found),
            Self::Skip => true,
        }
    }
}

/// An advisory that does not refuse a platform although it applies to it.
#[derive(Clone, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct AcceptedAdvisory {
    /// The manufacturer's name for it, such as `INTEL-SA-00615`.
    #[n(0)]
    pub id: String,
    /// The last second in which it is accepted.
    #[n(1)]
    pub until: Time,
}

/// A TCB level that is accepted for a while, so that a strict rule can stay in force while
/// machines are updated.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct TcbGrace {
    /// The level; not one that is accepted anyway.
    #[n(0)]
    pub level: TcbLevel,
    /// How long.
    #[n(1)]
    pub until: GraceEnd,
}

/// When a level stops being accepted.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub enum GraceEnd {
    /// After this second.
    #[n(0)]
    Date(#[n(0)] Time),
    /// So many seconds after the day on which the manufacturer fixed what the platform has
    /// (`tcbDate` of the level that it reaches).
    #[n(1)]
    AfterTcbDate(#[n(0)] u64),
}

/// What a TDX quote must show besides the common rules, which are Intel's for SGX and TDX.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct TdxRule {
    /// The TDX module (MRSEAM).
    #[n(0)]
    pub module: Reference<Register48>,
    /// Attributes of the trust domain (TDATTRIBUTES). Debug is refused whatever stands here.
    #[n(1)]
    pub attributes: Reference<u64>,
    /// Extended features (XFAM).
    #[n(2)]
    pub xfam: Reference<u64>,
    /// Service trust domains that are bound to this one (`SERVTD_HASH`); zero is none. Reports of
    /// TDX 1.0 do not state them, and are accepted only where nobody looks.
    #[n(3)]
    pub service_td: Reference<Register48>,
}

/// What an SEV-SNP report must show.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SnpRule {
    /// The lowest firmware of each generation, sorted by generation. One that is not listed is
    /// not accepted.
    #[n(0)]
    pub tcb_min: Vec<SnpMinimum>,
    /// Whose keys may sign, sorted.
    #[n(1)]
    pub keys: Vec<VekKind>,
    /// The highest privilege level (VMPL 0 to 3) that may ask for reports.
    #[n(2)]
    pub vmpl_max: u8,
    /// Digest of the key that signed the identity block.
    #[n(3)]
    pub id_key: Reference<Register48>,
    /// Digest of the key that signed that key.
    #[n(4)]
    pub author_key: Reference<Register48>,
    /// What the host put in at launch.
    #[n(5)]
    pub host_data: Reference<Register32>,
    /// Whether the guest may run on machines with hyper-threading.
    #[n(6)]
    pub smt: Smt,
    /// Whether the manufacturer's list of revoked keys must have been seen.
    #[n(7)]
    pub revocation: RevocationDemand,
    /// Whether the firmware must have looked for memory that answers at two addresses.
    #[n(8)]
    pub alias_check: AliasCheck,
    /// What the machine may say about itself that this release does not know: bits of
    /// `PLATFORM_INFO`. Any other unknown bit is refused.
    #[n(9)]
    pub unknown_info: u64,
}

/// The lowest accepted firmware of one generation of SEV-SNP machines.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct SnpMinimum {
    /// The generation.
    #[n(0)]
    pub generation: SnpGeneration,
    /// Security version of the FMC; 0 where the generation has none.
    #[n(1)]
    pub fmc: u8,
    /// Security version of the boot loader.
    #[n(2)]
    pub bootloader: u8,
    /// Security version of the PSP operating system.
    #[n(3)]
    pub tee: u8,
    /// Security version of the SNP firmware.
    #[n(4)]
    pub snp: u8,
    /// Security version of the microcode.
    #[n(5)]
    pub microcode: u8,
}

/// A generation of SEV-SNP machines.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum SnpGeneration {
    /// EPYC 7003.
    #[n(0)]
    Milan,
    /// EPYC 9004, 8004 and 97x4.
    #[n(1)]
    Genoa,
    /// EPYC 9005.
    #[n(2)]
    Turin,
}

/// A kind of key that signs SEV-SNP reports.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum VekKind {
    /// The key of one chip at one firmware.
    #[n(0)]
    Vcek,
    /// The key of a cloud provider at one firmware. It names no chip, so no list of platforms can
    /// ever admit it.
    #[n(1)]
    Vlek,
}

/// Whether hyper-threading is accepted.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum Smt {
    /// Only machines without it.
    #[n(0)]
    Refused,
    /// Either.
    #[n(1)]
    Accepted,
}

/// The bits of `PLATFORM_INFO` that this release knows (AMD 56860, ATTESTATION REPORT): 0
/// hyper-threading, 1 transparent encryption of memory, 2 error-correcting memory, 3 energy not
/// measured, 4 ciphertext hidden, 5 aliases of memory looked for, 7 trusted devices.
pub const PLATFORM_INFO: u64 = 0b1011_1111;

/// Whether machines must have checked their memory for aliases (`ALIAS_CHECK_COMPLETE`).
///
/// Whoever changes what a memory module says about its size makes two addresses of one cell, and
/// reads or puts back what guests encrypted (CVE-2024-21944).
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum AliasCheck {
    /// Only machines that did.
    #[n(0)]
    Demanded,
    /// Nobody looks, said aloud: reports of version 2 do not state it.
    #[n(1)]
    Skipped,
}

/// Whether a list of revoked keys is demanded.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum RevocationDemand {
    /// Without a current list nothing is accepted.
    #[n(0)]
    Demanded,
    /// A list is looked at where there is one, said aloud.
    #[n(1)]
    IfPresent,
}

/// What a Nitro document must show besides its measurement, which is PCR 0 to 2.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct NitroRule {
    /// Digest of the role of the parent instance.
    #[n(0)]
    pub pcr3: Reference<Register48>,
    /// Digest of the identifier of the parent instance.
    #[n(1)]
    pub pcr4: Reference<Register48>,
    /// Digest of the certificate that signed the image.
    #[n(2)]
    pub pcr8: Reference<Register48>,
}

/// What a TPM quote must show about the machine.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct TpmRule {
    /// The registers.
    #[n(0)]
    pub registers: Vec<PcrRule>,
    /// Whether the attestation CA's list of revoked keys must have been seen.
    #[n(1)]
    pub revocation: RevocationDemand,
    /// Who may approve what the machine boots.
    #[n(2)]
    pub authorities: Reference<HostAuthority>,
}

/// What one register of a TPM must show.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct PcrRule {
    /// One of [`BOOT_REGISTERS`](crate::evidence::BOOT_REGISTERS).
    #[n(0)]
    pub index: u8,
    /// Its values.
    #[n(1)]
    pub value: Reference<Register32>,
}

/// What a quote by the virtual TPM of a confidential machine must show besides the rule for that
/// machine's report.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct VtpmRule {
    /// The registers that make the measurement, with the launch digest; ascending, never empty.
    #[n(0)]
    pub measured: Vec<u8>,
    /// The rest of PCR 0 to 15, each exactly once, in order.
    #[n(1)]
    pub registers: Vec<PcrRule>,
}
