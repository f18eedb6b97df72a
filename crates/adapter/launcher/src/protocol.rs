//! What processes say to the platform daemon: one request and one answer per frame.
//!
//! Frames are those of [`heirloom_model::frame`].

use heirloom_keeper::port::{NO_COUNTER, PlatformIdentity, Sealing};
use heirloom_model::digest::{CounterName, Nonce};
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::identifier::{HostId, PlatformId, ReleaseName};
use heirloom_model::limit::EVIDENCE_BYTES_MAX;
use heirloom_model::measurement::{Measurement, MrSigner, TeeKind};
use heirloom_model::sealed::{CpuSvn, SealRecipe};
use minicbor::{Decode, Encode};
use zeroize::Zeroize as _;

use crate::manifest::Manifest;
use crate::report::LaunchMode;
use crate::secret_memory::MemoryProtection;

/// The largest frame: evidence, or a list of all instances.
pub const FRAME_BYTES_MAX: usize = EVIDENCE_BYTES_MAX + INSTANCES_MAX * 512;
/// Instances that one daemon runs or remembers. A machine has a handful.
pub const INSTANCES_MAX: usize = 256;
/// Arguments of one launch.
pub const ARGUMENTS_MAX: usize = 64;
/// What a launcher calls an instance: a node's or an application's name.
pub const LABEL_BYTES_MAX: usize = 128;
/// Random bytes in one answer.
pub const RANDOM_BYTES_MAX: u32 = 4096;

/// What a process asks.
#[derive(Debug, Decode, Encode)]
pub enum Request {
    /// Measured: who am I?
    #[n(0)]
    Identity,
    /// Measured: the seal key of a recipe.
    #[n(1)]
    SealKey(#[n(0)] SealRecipe),
    /// Measured: evidence with report data.
    #[n(2)]
    Evidence(#[n(0)] ReportData),
    /// Measured: a report for another enclave on this machine.
    #[n(3)]
    Report {
        /// To whom.
        #[n(0)]
        target: Box<ReportTarget>,
        /// With what.
        #[n(1)]
        report_data: ReportData,
    },
    /// Measured: is this report from this machine and for me?
    #[n(4)]
    VerifyReport(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// Measured: random bytes.
    #[n(5)]
    Random(#[n(0)] u32),
    /// Measured: the manifest that I was measured with.
    #[n(6)]
    Manifest,
    /// Unmeasured: launch a bundle.
    #[n(7)]
    Launch(#[n(0)] LaunchRequest),
    /// Unmeasured: all instances.
    #[n(8)]
    List,
    /// Unmeasured: end an instance.
    #[n(9)]
    Stop {
        /// Which.
        #[n(0)]
        instance: LaunchId,
        /// How.
        #[n(1)]
        signal: StopSignal,
    },
    /// Unmeasured: about the machine.
    #[n(10)]
    HostInfo,
    /// Unmeasured: load the next microcode.
    #[n(11)]
    UpdateMicrocode,
    /// Measured: where do reports to me go?
    #[n(12)]
    ReportTarget,
    /// Measured: what does sealing survive?
    #[n(13)]
    Sealing,
    /// Measured: with what do I seal now?
    #[n(14)]
    SealRecipe(#[n(0)] Nonce),
    /// Measured: where does a counter of mine stand?
    #[n(15)]
    Counter(#[n(0)] CounterName),
    /// Measured: raise a counter of mine.
    #[n(16)]
    Raise {
        /// Which.
        #[n(0)]
        name: CounterName,
        /// To where.
        #[n(1)]
        to: u64,
    },
}

/// What the daemon answers.
#[derive(Debug, Decode, Encode)]
pub enum Answer {
    /// To [`Request::Identity`].
    #[n(0)]
    Identity(#[n(0)] WireIdentity),
    /// To [`Request::SealKey`].
    #[n(1)]
    SealKey(#[n(0)] KeyBytes),
    /// To [`Request::Evidence`].
    #[n(2)]
    Evidence(#[n(0)] Evidence),
    /// To [`Request::Report`].
    #[n(3)]
    Report(#[n(0)] LocalReport),
    /// To [`Request::VerifyReport`]: it is.
    #[n(4)]
    ReportVerified,
    /// To [`Request::Random`].
    #[n(5)]
    Random(#[n(0)] RandomBytes),
    /// To [`Request::Manifest`].
    #[n(6)]
    Manifest(#[n(0)] Manifest),
    /// To [`Request::Launch`].
    #[n(7)]
    Launched(#[n(0)] InstanceInfo),
    /// To [`Request::List`], oldest first.
    #[n(8)]
    Instances(#[n(0)] Vec<InstanceInfo>),
    /// To [`Request::Stop`]: the signal was sent, or there was nobody left to send it to.
    #[n(9)]
    Stopping,
    /// To [`Request::HostInfo`].
    #[n(10)]
    HostInfo(#[n(0)] HostInfo),
    /// To [`Request::UpdateMicrocode`]: where the CPU stands now.
    #[n(11)]
    CpuSvn(#[n(0)] CpuSvn),
    /// To any request: no.
    #[n(12)]
    Refused(#[n(0)] Refusal),
    /// To [`Request::ReportTarget`].
    #[n(13)]
    ReportTarget(#[n(0)] ReportTarget),
    /// To [`Request::Sealing`].
    #[n(14)]
    Sealing(#[n(0)] WireSealing),
    /// To [`Request::SealRecipe`].
    #[n(15)]
    SealRecipe(#[n(0)] SealRecipe),
    /// To [`Request::Counter`].
    #[n(16)]
    Counter(#[n(0)] u64),
    /// To [`Request::Raise`]: it stands there.
    #[n(17)]
    Raised,
}

/// Why the daemon refuses.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Only processes that the daemon launched may ask this.
    #[error("the platform did not launch this process")]
    #[n(0)]
    NotMeasured,
    /// Measured processes may not ask this.
    #[error("a measured process may not ask this")]
    #[n(1)]
    Measured,
    /// `SGX_INVALID_ISVSVN`.
    #[error("the recipe asks for ISVSVN {asked}: this code has {own}")]
    #[n(2)]
    IsvSvnTooHigh {
        /// In the recipe.
        #[n(0)]
        asked: u16,
        /// Of the code.
        #[n(1)]
        own: u16,
    },
    /// `SGX_INVALID_CPUSVN`.
    #[error("the recipe asks for CPUSVN {asked}: the platform stands at {own}")]
    #[n(3)]
    CpuSvnTooHigh {
        /// In the recipe.
        #[n(0)]
        asked: CpuSvn,
        /// Of the platform.
        #[n(1)]
        own: CpuSvn,
    },
    /// The report is not from this machine, or not for the caller.
    #[error("the report was not made on this machine for this enclave")]
    #[n(4)]
    ForeignReport,
    /// The report's target names things that this machine does not have.
    #[error("the report's target uses reserved fields")]
    #[n(12)]
    ReservedTarget,
    /// This kind of machine does not have it.
    #[error("the machine does not have this: {}", .0.words())]
    #[n(13)]
    Unsupported(#[n(0)] Lack),
    /// The recipe names a secret of the machine that it does not have.
    #[error("the recipe names machine secret {asked}: the newest is {own}")]
    #[n(14)]
    MachineSecretTooHigh {
        /// In the recipe.
        #[n(0)]
        asked: u32,
        /// The newest of the machine.
        #[n(1)]
        own: u32,
    },
    /// A counter goes up by single steps.
    #[error("the counter stands at {stands} and is not raised to {to} at once")]
    #[n(15)]
    CounterJump {
        /// Where it stands.
        #[n(0)]
        stands: u64,
        /// Asked for.
        #[n(1)]
        to: u64,
    },
    /// Only the host's agent may ask this: root, or whoever has the agent's group and is no user of
    /// launched code.
    #[error("only the host's agent may ask this: a process with its group, or root")]
    #[n(20)]
    NotAgent,
    /// Every user that is for launched code belongs to other code.
    #[error(
        "all {users} users of bundles belong to other code: serve the machine with a range that is \
         longer at its end (`--bundle-users`)"
    )]
    #[n(21)]
    UsersExhausted {
        /// Users in the range.
        #[n(0)]
        users: u32,
    },
    /// The request is larger than it may be.
    #[error("{what} of the request: {found} is more than the {limit} allowed")]
    #[n(5)]
    TooMuch {
        /// What there is too much of.
        #[n(0)]
        what: String,
        /// How much.
        #[n(1)]
        found: u64,
        /// How much is allowed.
        #[n(2)]
        limit: u64,
    },
    /// The bundle does not verify.
    #[error("the bundle is refused: {reason}")]
    #[n(6)]
    Bundle {
        /// The error and its causes, for people.
        #[n(0)]
        reason: String,
    },
    /// An argument would speak for the platform.
    #[error("the argument {argument:?} is the platform's own")]
    #[n(7)]
    ReservedArgument {
        /// The argument.
        #[n(0)]
        argument: String,
    },
    /// A path is relative, and the daemon's directory is not the agent's.
    #[error("the path {path:?} is not absolute")]
    #[n(11)]
    RelativePath {
        /// The path.
        #[n(0)]
        path: String,
    },
    /// The bundle verifies, but its process was not started.
    #[error("the process was not started: {reason}")]
    #[n(8)]
    NotStarted {
        /// What the system said.
        #[n(0)]
        reason: String,
    },
    /// There is no such instance, or it was forgotten.
    #[error("there is no instance {instance}")]
    #[n(9)]
    UnknownInstance {
        /// Asked for.
        #[n(0)]
        instance: LaunchId,
    },
    /// The daemon's own state could not be changed.
    #[error("the platform could not do it: {reason}")]
    #[n(10)]
    Failed {
        /// The error and its causes, for people.
        #[n(0)]
        reason: String,
    },
}

/// What some kind of machine does not have.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Lack {
    /// A counter that nobody can lower.
    #[n(0)]
    Counter,
    /// Microcode that it could update itself.
    #[n(1)]
    Microcode,
    /// Seal keys of this kind of recipe.
    #[n(2)]
    SealRecipe,
}

impl Lack {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Counter => NO_COUNTER,
            Self::Microcode => "microcode that the launcher updates",
            Self::SealRecipe => "the seal recipe of another kind of platform",
        }
    }
}

/// A bundle to launch.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct LaunchRequest {
    /// The bundle's directory, absolute.
    #[n(0)]
    pub bundle: String,
    /// Arguments behind the platform's own. They are not measured.
    #[n(1)]
    pub arguments: Vec<String>,
    /// Where standard output and standard error go, appended; absolute.
    #[n(2)]
    pub log: String,
    /// Whether it can be read from outside; in all its evidence.
    #[n(3)]
    pub mode: WireMode,
    /// What the launching agent calls it, so that another agent finds it again in the list. Not
    /// measured, and not unique: the daemon only repeats it.
    #[n(4)]
    pub label: String,
}

/// One launch of one daemon. Numbers begin anew with the daemon.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cbor(transparent)]
pub struct LaunchId(#[n(0)] pub u64);

impl std::fmt::Display for LaunchId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// One launched process.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct InstanceInfo {
    /// Its number.
    #[n(0)]
    pub instance: LaunchId,
    /// Its process.
    #[n(1)]
    pub process: u32,
    /// From its manifest.
    #[n(2)]
    pub release: ReleaseName,
    /// What was measured.
    #[n(3)]
    pub measurement: Measurement,
    /// Who signed it.
    #[n(4)]
    pub signer: MrSigner,
    /// Whether it runs.
    #[n(5)]
    pub state: InstanceState,
    /// What its launcher calls it.
    #[n(6)]
    pub label: String,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum InstanceState {
    /// It was not seen to end.
    #[n(0)]
    Running,
    /// It ended by itself, with this code.
    #[n(1)]
    Exited(#[n(0)] i32),
    /// A signal ended it.
    #[n(2)]
    Killed(#[n(0)] i32),
    /// It ended, and the system did not say how.
    #[n(3)]
    Unknown,
}

/// How to end a process.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum StopSignal {
    /// SIGKILL, to the whole process group.
    #[n(0)]
    Kill,
    /// SIGTERM, to the whole process group.
    #[n(1)]
    Terminate,
}

/// About a machine.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct HostInfo {
    /// Its name.
    #[n(0)]
    pub host: HostId,
    /// As appraisal names it.
    #[n(1)]
    pub platform: PlatformId,
    /// Where its CPU stands.
    #[n(2)]
    pub cpu_svn: CpuSvn,
    /// The security version that its certificate says; quotes show this one.
    #[n(3)]
    pub certified_cpu_svn: CpuSvn,
    /// What keeps its secrets.
    #[n(4)]
    pub protection: WireProtection,
    /// What kind of measurement code has there: which one of a release's is this machine's.
    #[n(5)]
    pub kind: TeeKind,
    /// The group of everything that is launched, if each code has a user of its own: what it is to
    /// write has to be this group's. The launcher says it, the machine leaves it out.
    #[n(6)]
    pub group: Option<u32>,
}

/// [`LaunchMode`] on the wire.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum WireMode {
    /// It can be read from outside.
    #[n(0)]
    Debug,
    /// It cannot.
    #[n(1)]
    Production,
}

impl From<WireMode> for LaunchMode {
    fn from(mode: WireMode) -> Self {
        match mode {
            WireMode::Debug => Self::Debug,
            WireMode::Production => Self::Production,
        }
    }
}

/// [`MemoryProtection`] on the wire.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum WireProtection {
    /// Memory that the kernel cannot read.
    #[n(0)]
    SecretMemory,
    /// Ordinary memory.
    #[n(1)]
    OrdinaryMemory,
}

impl From<MemoryProtection> for WireProtection {
    fn from(protection: MemoryProtection) -> Self {
        match protection {
            MemoryProtection::SecretMemory => Self::SecretMemory,
            MemoryProtection::OrdinaryMemory => Self::OrdinaryMemory,
        }
    }
}

/// [`Sealing`] on the wire.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum WireSealing {
    /// By recorded values.
    #[n(0)]
    Recorded,
    /// By the present ones.
    #[n(1)]
    CurrentOnly,
    /// Not at all.
    #[n(2)]
    None,
}

impl From<Sealing> for WireSealing {
    fn from(sealing: Sealing) -> Self {
        match sealing {
            Sealing::Recorded => Self::Recorded,
            Sealing::CurrentOnly => Self::CurrentOnly,
            Sealing::None => Self::None,
        }
    }
}

impl From<WireSealing> for Sealing {
    fn from(sealing: WireSealing) -> Self {
        match sealing {
            WireSealing::Recorded => Self::Recorded,
            WireSealing::CurrentOnly => Self::CurrentOnly,
            WireSealing::None => Self::None,
        }
    }
}

/// [`PlatformIdentity`] on the wire.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct WireIdentity {
    #[n(0)]
    measurement: Measurement,
    #[n(1)]
    signer: MrSigner,
    #[n(2)]
    product_id: u16,
    #[n(3)]
    isv_svn: u16,
    #[n(4)]
    cpu_svn: CpuSvn,
    #[n(5)]
    debug: bool,
    #[n(6)]
    platform: PlatformId,
}

impl From<PlatformIdentity> for WireIdentity {
    fn from(identity: PlatformIdentity) -> Self {
        let PlatformIdentity { measurement, signer, product_id, isv_svn, cpu_svn, debug, platform } =
            identity;
        Self { measurement, signer, product_id, isv_svn, cpu_svn, debug, platform }
    }
}

impl From<WireIdentity> for PlatformIdentity {
    fn from(identity: WireIdentity) -> Self {
        let WireIdentity { measurement, signer, product_id, isv_svn, cpu_svn, debug, platform } =
            identity;
        Self { measurement, signer, product_id, isv_svn, cpu_svn, debug, platform }
    }
}

/// A seal key on its way. Wiped when dropped; it does not print.
#[derive(Decode, Encode)]
#[cbor(transparent)]
pub struct KeyBytes(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) [u8; 16],
);

impl std::fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyBytes(…)")
    }
}

impl Drop for KeyBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Random bytes on their way: they may become a key. Wiped when dropped; they do not print.
#[derive(Decode, Encode)]
#[cbor(transparent)]
pub struct RandomBytes(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) Vec<u8>,
);

impl std::fmt::Debug for RandomBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RandomBytes({}, …)", self.0.len())
    }
}

impl Drop for RandomBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

heirloom_model::wire! {
    Request: "request to the platform", FRAME_BYTES_MAX;
    Answer: "answer of the platform", FRAME_BYTES_MAX;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_become_a_key_does_not_print() {
        let secrets =
            [Answer::SealKey(KeyBytes([0xab; 16])), Answer::Random(RandomBytes(vec![0xab; 16]))];
        for answer in secrets {
            let text = format!("{answer:?}").to_lowercase();
            assert!(!text.contains("171") && !text.contains("ab, ab"), "{text}");
        }
    }
}
