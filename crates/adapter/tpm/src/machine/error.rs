//! Why a machine with a TPM does not do it.

use std::path::PathBuf;

use heirloom_launcher::daemon::DaemonError;
use heirloom_launcher::files::FileError;

use crate::error::TpmError;

/// Why a machine with a TPM does not do it. Nothing was overwritten.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// No machine was made in this directory.
    #[error("no machine was made in {path}: `heirloom-platformd tpm init` makes one")]
    NotInitialised {
        /// The directory.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The TPM did not do it.
    #[error("the TPM did not do it")]
    Tpm(#[from] TpmError),
    /// Somebody else has the machine.
    #[error(
        "the machine in {path} is served, or another command changes it: end that first, or use \
         `heirloom-platformd tpm stage-approval`, which works beside it"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Whether somebody else has the machine cannot be found out.
    #[error("whether the machine is served cannot be found out")]
    Lock(#[source] DaemonError),
    /// The directory's machine has another TPM.
    #[error(
        "the machine in this directory was made with another TPM, or with this one before it was \
         cleared: is this the directory of this machine?"
    )]
    OtherTpm,
    /// The machine's key is not one that its TPM made for it.
    #[error(
        "the key of the machine's secret is not the one that its TPM made: {what}; somebody put \
         another one into the machine's directory, and nothing was opened with it"
    )]
    KeyPlanted {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The machine was made, and its secret never opened.
    #[error(
        "the machine has no attestation key and no counters yet: `heirloom-platformd tpm \
         install-approval` makes them, once, on the first approved host"
    )]
    NotCompleted,
    /// Nobody approved this host.
    #[error(
        "no host is approved for this machine: let its authority approve what \
         `heirloom-platformd tpm request` writes, and install it with `tpm install-approval`"
    )]
    NotApproved,
    /// The host is another one than the approved one.
    #[error(
        "this host is not the approved one: PCR {} differ; start the approved host again, or let \
         the machine's authority approve this one (`heirloom-platformd tpm request`)",
        list(registers)
    )]
    HostChanged {
        /// Which registers differ.
        registers: Vec<u8>,
    },
    /// The approval was retired by a later one.
    #[error("the approval of this host was retired: its authority must approve it anew")]
    ApprovalRetired,
    /// The approval is not what the authority signed for this machine.
    #[error(
        "the approval is not by the authority of this machine, or not for this machine: let that \
         authority approve what `heirloom-platformd tpm request` writes here"
    )]
    ApprovalForged,
    /// The TPM has something where a machine has its own, and no machine is being made here.
    #[error(
        "the TPM has something of a machine at 0x{index:08x} already: one TPM carries one machine; \
         bring back the directory of that one"
    )]
    TpmTaken {
        /// Where it is.
        index: u32,
    },
    /// A host is not described by exactly the registers that it boots with.
    #[error("a host is approved by PCR 0 to 15, each once and in order, and this names others")]
    NotAHost,
    /// The TPM says that it has counted, and its counter says something else.
    #[error("the TPM's counter stands at {found} and not at {expected}: it did not count")]
    NotCounted {
        /// Where it must stand.
        expected: u64,
        /// Where it stands.
        found: u64,
    },
    /// The count of a request does not go on from those that were approved.
    #[error(
        "the machine asks for an approval at count {asked}, and {limit} is the highest that can \
         follow what was approved before: whoever made this request wants one that is never retired"
    )]
    ApprovalJump {
        /// In the request.
        asked: u64,
        /// The highest that is approved.
        limit: u64,
    },
    /// A record of approvals is of another machine than its name says.
    #[error("the record of approvals is another machine's: somebody renamed it")]
    OtherRecord,
    /// The approval retires more than the earlier ones.
    #[error("the approval is for counter {approved}, and the TPM's stands at {stands}")]
    ApprovalAhead {
        /// In the approval.
        approved: u64,
        /// In the TPM.
        stands: u64,
    },
    /// The file with counters is older than the TPM's counter.
    #[error(
        "the machine's counters were rolled back: the TPM has counted {counted}, the file is of \
         {file}; put the newest file back, or let keepers on other machines give the keyring"
    )]
    CountersRolledBack {
        /// Count of the file.
        file: u64,
        /// Count of the TPM.
        counted: u64,
    },
    /// The TPM's counter is behind the file: the TPM itself was rolled back.
    #[error(
        "the TPM was rolled back: it has counted {counted}, the machine's counters are of {file}"
    )]
    TpmRolledBack {
        /// Count of the file.
        file: u64,
        /// Count of the TPM.
        counted: u64,
    },
    /// The file has the right number, and is not the one that the TPM has noted.
    #[error(
        "the machine's counters are of another table than the one that the TPM has noted, with the \
         same number {sequence}: a table that never counted was put back; put the newest file back, \
         or let keepers on other machines give the keyring"
    )]
    OtherTable {
        /// Number of the table.
        sequence: u64,
    },
    /// The TPM's note was made by somebody else.
    #[error(
        "the TPM's note at 0x{index:08x} is not the one that this machine made: somebody removed it \
         and made another; what the counters stood at cannot be told any more"
    )]
    NoteReplaced {
        /// Where it is.
        index: u32,
    },
    /// The TPM's note is gone.
    #[error(
        "the TPM's note at 0x{index:08x} is missing: somebody removed it; what the counters stood at \
         cannot be told any more"
    )]
    NoteRemoved {
        /// Where it was.
        index: u32,
    },
    /// Some code asks for more counters than code needs.
    #[error("this code has {limit} counters already, and no code has more")]
    TooManyCountersOfCode {
        /// How many may be.
        limit: usize,
    },
    /// The file with counters is not what this machine wrote.
    #[error("the machine's counters are corrupt")]
    CountersCorrupt,
    /// There are more counters than a machine has.
    #[error("the machine has no room for more counters than {limit}")]
    TooManyCounters {
        /// How many may be.
        limit: usize,
    },
    /// A counter goes up by single steps.
    #[error("the counter stands at {stands} and is not raised to {to} at once")]
    CounterJump {
        /// Where it stands.
        stands: u64,
        /// Asked for.
        to: u64,
    },
    /// The attestation key has no certificate.
    #[error(
        "the machine's attestation key is not certified: enrol it with `heirloom-platformd tpm \
         enrol-request`"
    )]
    NotCertified,
    /// The certificate is about another key.
    #[error("the certificate is about another attestation key than that of this TPM")]
    OtherKeyCertified,
    /// The authority's key is none.
    #[error("the authority's key is not a P-256 key")]
    NotAnAuthority,
}

/// Where it stands what a refusal of a machine with a TPM means, what to do, and what never to do.
pub const RUNBOOK: &str = "docs/runbooks/tpm.md";

impl MachineError {
    /// Where to read on, if there is more to say than the message does.
    pub fn runbook(&self) -> Option<&'static str> {
        match self {
            Self::HostChanged { .. }
            | Self::File(FileError::Corrupt { .. } | FileError::TooLarge { .. })
            | Self::OtherTpm
            | Self::ApprovalForged
            | Self::KeyPlanted { .. }
            | Self::NotCompleted
            | Self::Tpm(TpmError::Foreign { .. })
            | Self::ApprovalRetired
            | Self::ApprovalJump { .. }
            | Self::ApprovalAhead { .. }
            | Self::OtherRecord
            | Self::TpmTaken { .. }
            | Self::NotCounted { .. }
            | Self::CountersRolledBack { .. }
            | Self::TpmRolledBack { .. }
            | Self::OtherTable { .. }
            | Self::NoteReplaced { .. }
            | Self::NoteRemoved { .. }
            | Self::CountersCorrupt
            | Self::TooManyCountersOfCode { .. }
            | Self::TooManyCounters { .. }
            | Self::CounterJump { .. } => Some(RUNBOOK),
            Self::NotInitialised { .. }
            | Self::InUse { .. }
            | Self::Lock(_)
            | Self::File(_)
            | Self::Tpm(_)
            | Self::NotApproved
            | Self::NotAHost
            | Self::NotCertified
            | Self::OtherKeyCertified
            | Self::NotAnAuthority => None,
        }
    }
}

fn list(registers: &[u8]) -> String {
    let texts: Vec<String> = registers.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
