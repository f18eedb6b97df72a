//! Every error code, in one table. Codes are never reused; a test lists them.

use crate::exit::Exit;

/// Who or what is at fault. Decides the exit code and what to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    User,
    Refused,
    Transient,
    Corrupt,
    Interrupted,
}

impl Fault {
    /// The exit code.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::User => Exit::Failed,
            Self::Refused => Exit::Refused,
            Self::Transient => Exit::Incomplete,
            Self::Corrupt => Exit::Corrupt,
            Self::Interrupted => Exit::Interrupted,
        }
    }

    /// The word that people use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "input",
            Self::Refused => "refused",
            Self::Transient => "transient",
            Self::Corrupt => "corrupt",
            Self::Interrupted => "interrupted",
        }
    }
}

macro_rules! codes {
    ($($name:ident $text:literal $fault:ident $meaning:literal $remedy:literal;)+) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum Code { $($name,)+ }

        impl Code {
            /// Every code, in the order of the table.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code itself.
            pub(crate) fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whose fault it is.
            pub(crate) fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)+ }
            }

            /// What happened.
            pub(crate) fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }

            /// What to do.
            pub(crate) fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

codes! {
    FileMissing "E-FILE-001" User "a file does not exist"
        "check the path";
    FileDenied "E-FILE-002" User "permission to a file or directory is missing"
        "run as the user who owns it, or give that user the right; nothing was changed";
    FileTooLarge "E-FILE-003" User "a file is larger than anything of its kind"
        "check that this is the right file";
    FileExists "E-FILE-004" User "a file that would be written exists already"
        "nothing was overwritten: choose another name, or move the file away first";
    FileFailed "E-FILE-005" User "a file could not be read or written"
        "look at the reason; nothing was replaced";
    FileFull "E-FILE-006" User "no space is left on the disk"
        "free some space and run the command again; nothing was replaced";
    FileCorrupt "E-FILE-007" Corrupt "a durable file is not what was written"
        "stop whoever writes it, keep the file as it is, and find out what damaged it";
    FileLocked "E-FILE-008" Transient "another process writes the file"
        "go through that process instead, or stop it first";

    InputMalformed "E-INPUT-001" User "an input file is malformed or has an unknown field"
        "correct the file; unknown fields are never ignored";
    InputValue "E-INPUT-002" User "a value is not what its field holds"
        "correct the value";
    InputDuplicate "E-INPUT-003" User "an entry is repeated"
        "remove one of the two";
    InputSigner "E-INPUT-004" Refused "a policy names a signer where only measurements count"
        "name each measurement: a signer would let every past and future enclave of its key in";
    InputMissing "E-INPUT-005" User "something that the command needs was not given"
        "give it as the help says";

    KeyMalformed "E-KEY-001" User "a file is not a signing key"
        "give the file that `heirloom signer create` or `heirloom init` wrote";
    KeyExposed "E-KEY-002" Refused "a key file can be read by other users"
        "take the right away with `chmod 600`, and replace the key if others may have read it";

    StatementMalformed "E-STATEMENT-001" User "a file is not a statement: truncated or damaged"
        "get the file again from whoever made it; nothing was changed";
    StatementKind "E-STATEMENT-002" User "a statement is of another kind"
        "use the command of that kind";
    StatementSignature "E-STATEMENT-003" Refused "a signature on a statement does not verify"
        "the file was changed after it was signed, or the signature belongs to another file: \
         get it again";
    StatementRefused "E-STATEMENT-004" Refused "the log's rules refuse the statement"
        "nothing was appended; correct what the reason names, sign again, publish again";

    LogUnreachable "E-LOG-001" Transient "the registry cannot be reached"
        "check the address and that `heirloom registry serve` runs; then run the command again";
    LogCorrupt "E-LOG-002" Corrupt "the log contradicts itself"
        "stop, keep the file, and compare it with the copies that agents and keepers have";
    LogBusy "E-LOG-003" Transient "others append at the same moment, again and again"
        "run the command again";
    LogUnknown "E-LOG-004" Transient "it is not known whether the statement was appended"
        "look with `heirloom registry show`, then run the command again if it is not there";
    LogFull "E-LOG-005" Transient "the registry has no space left"
        "free space where the registry keeps its log, then run the command again";
    LogHistory "E-LOG-006" Refused "the registry shows the history of another network"
        "check the network and the address; do not trust this registry";
    LogNothing "E-LOG-007" Refused "the log does not contain what the command needs"
        "publish it first";

    LogRefused "E-LOG-008" Refused "the registry refuses to answer"
        "check that the address is that of a registry of this release";

    JournalCorrupt "E-JOURNAL-001" Corrupt "a journal contradicts itself"
        "stop the agent, keep the file, and find out what damaged the disk";

    JournalTorn "E-JOURNAL-002" Transient "a journal ends within a record"
        "if the agent runs, run the command again; if it crashed, start it: it cuts off what was never finished";
    LogTorn "E-LOG-009" Transient "a log ends within an entry"
        "if the registry runs, run the command again; if it crashed, start it: it cuts off what was never finished";

    PlanRefused "E-PLAN-001" Refused "no safe plan exists for what is asked"
        "remove what the reason names, then plan again";
    PlanFindings "E-PLAN-002" Refused "the independent checker found faults in the plan"
        "do not approve the plan; make a new one";
    PlanMalformed "E-PLAN-003" User "a file is not a plan: truncated or damaged"
        "get the file again, or read the plan from the log by its digest";
    PlanDigest "E-PLAN-004" Refused "the plan is not the one that the digest names"
        "approve only the digest of the plan that you read";
    PlanUnknown "E-PLAN-005" Refused "the log has no plan of this digest"
        "list the plans with `heirloom upgrade status`";

    UpgradeWaiting "E-UPGRADE-001" Transient "the upgrade waits"
        "look at `heirloom upgrade status`; run the command again";

    PolicyFindings "E-POLICY-001" Refused "the policy has faults that would block an upgrade"
        "correct them before anybody signs the policy";

    GenerationGenesis "E-GENERATION-001" Refused "genesis was asked for by mistake, or not asked for"
        "look at `heirloom custody show` before you order a generation";

    EvidenceMalformed "E-EVIDENCE-001" User "the input is no evidence that this release reads"
        "give an extra_info value, a quote, or a whole `control status` document";
    EvidenceRefused "E-EVIDENCE-002" Refused "the evidence is refused"
        "look at the reason: nothing may be given to this attester";
    EvidenceSignature "E-EVIDENCE-003" Refused "the signature of the init response does not verify"
        "the key is another one, or the value was changed: ask the node again";

    CustodyBroken "E-CUSTODY-001" Refused "a key has too few proven holders"
        "do not stop or change any holder; look at the reasons, and restore holders first";

    NodeUnreachable "E-NODE-001" Transient "the agent cannot be reached"
        "check the address and that `heirloom agent run` runs there; then run the command again";
    NodeAnswer "E-NODE-002" User "the agent's answer cannot be understood"
        "check that the address is that of an agent of this release";

    AgentFailed "E-AGENT-001" User "the agent stopped"
        "look at the reason, correct it, and start the agent again: it continues";
    AgentNotNew "E-AGENT-002" Refused "a node has state, but no record of what is installed"
        "do not start it as a new node: find out what removed the record, or restore it";
    RegistryFailed "E-REGISTRY-001" User "the registry stopped"
        "look at the reason, correct it, and start the registry again: it continues";

    AddressInUse "E-REGISTRY-002" User "the address is used by another process"
        "choose another address, or stop the process that uses it";

    PlatformFailed "E-PLATFORM-001" Transient "the platform did not do its part"
        "check that the platform daemon runs at this socket; then run the command again";
    KeyNotGiven "E-PLATFORM-002" Refused "the application got no key"
        "look at the reason: the policy must list the application's measurement for this key";
    KeyUnanswered "E-PLATFORM-003" Transient "no holder answered in time"
        "look at `heirloom node status` of the holders; asking again is safe";
    TeeAbsent "E-PLATFORM-004" Refused "there is not exactly one TEE here that can be used"
        "run the command where the keeper shall run; what was looked at says what is missing";

    BundleMalformed "E-BUNDLE-001" User "a bundle is incomplete or contradicts itself"
        "build and sign the bundle again";
    BundleOther "E-BUNDLE-002" Refused "a bundle is not the one that was released"
        "do not install it: get the bundle again";

    ParticipantFile "E-PARTICIPANT-001" User "a file is not what the command reads"
        "look with `heirloom participant inspect` at what it is";
    ParticipantTruncated "E-PARTICIPANT-002" User "a snapshot ends too early"
        "it was not exported or copied to its end: get the whole file, and compare its digest";
    ParticipantDamaged "E-PARTICIPANT-003" User "a snapshot is damaged, or not compressed"
        "get the file again from whoever exported it";
    ParticipantContract "E-PARTICIPANT-004" Refused "a contract is not what its id says"
        "do not import the file: export it again, give the DARs of that participant, and verify again";
    ParticipantPackage "E-PARTICIPANT-005" Refused "contracts need a package that was not given"
        "download the DAR of this package from the participant, and give it with --dar too";
    ParticipantVersion "E-PARTICIPANT-006" Refused "a snapshot is of a kind that is not rewritten"
        "export it again from a participant of the third major version, through its current endpoint";
    ParticipantMap "E-PARTICIPANT-007" Refused "a party map is not possible"
        "correct what the reason names: a map is one to one, and no name in it is old and new";
    ParticipantRewrite "E-PARTICIPANT-008" Refused "contracts have no equivalent under the party map"
        "nothing was written; look at the contract that the reason names before you change the map";
    ParticipantResult "E-PARTICIPANT-009" Corrupt "what was written is not what it should be"
        "nothing took its place: check memory and disk of this machine, then run the command again";
    ParticipantChanged "E-PARTICIPANT-010" Transient "a file changed while it was read"
        "wait until its writer is done, then run the command again";
    ParticipantTopology "E-PARTICIPANT-011" Refused "a topology transaction is not signed as it says"
        "do not load the file: export the topology again";
    ParticipantConfig "E-PARTICIPANT-012" User "the configuration of a participant's node is wrong"
        "correct what the reason names; docs/migration.md has an example";
    ParticipantUnreachable "E-PARTICIPANT-013" Transient "a participant or its custodian does not answer"
        "nothing is lost: look at address, certificate and token, then run the command again";
    ParticipantRefused "E-PARTICIPANT-014" Refused "a participant or its custodian says no"
        "correct what the reason names, then run the command again";
    ParticipantCorrupt "E-PARTICIPANT-015" Corrupt "what a participant or its custodian says contradicts itself"
        "stop, leave both participants as they are, and find out why";
    ParticipantNotNew "E-PARTICIPANT-016" Refused "a node carried out plans, and its journal is gone"
        "restore the journal from a copy, or find out what removed it; do not begin anew";
    ParticipantNoMap "E-PARTICIPANT-017" Transient "the party map of a plan is not settled yet"
        "look with `heirloom participant status` at which node has not stated its names, and try again";

    CustodianConfig "E-CUSTODIAN-001" User "a custodian's configuration is wrong"
        "correct what the reason names; docs/custodians.md has an example of each kind";
    CustodianMissing "E-CUSTODIAN-002" Refused "a custodian has no such key"
        "look with `heirloom custodian keys` at which keys it has";
    CustodianCorrupt "E-CUSTODIAN-003" Corrupt "what a custodian holds contradicts itself"
        "do not use the key: look at it with the product's own tools, and bring back a copy of it";
    CustodianRefused "E-CUSTODIAN-004" Refused "a custodian refused"
        "look at the reason: permission, PIN, state of the key, or a label that is taken";
    CustodianUnreachable "E-CUSTODIAN-005" Transient "a custodian does not answer"
        "nothing was changed: look at its address, network and rate, then run the command again";
    CustodianUnknown "E-CUSTODIAN-006" Transient "nobody knows whether a custodian did it"
        "run the command again: it looks before it makes anything";
    CustodianUnsupported "E-CUSTODIAN-007" Refused "a custodian cannot do this"
        "choose another scheme or another custodian: `heirloom custodian check` says which";

    Interrupted "E-INTERRUPT-001" Interrupted "the command was interrupted"
        "the upgrade goes on; watch it again with the same command";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_code_is_used_twice_and_all_have_their_form() {
        let distinct: BTreeSet<_> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(distinct.len(), Code::ALL.len());
        for code in Code::ALL {
            let parts: Vec<&str> = code.text().split('-').collect();
            let [e, area, number] = parts.as_slice() else { panic!("{}", code.text()) };
            assert_eq!(*e, "E");
            assert!(area.bytes().all(|byte| byte.is_ascii_uppercase()), "{area}");
            assert!(number.len() == 3 && number.parse::<u16>().is_ok(), "{number}");
            assert!(!code.meaning().ends_with('.') && !code.remedy().ends_with('.'));
        }
    }
}
