//! Repair: contracts out, in, and away, while the participant is connected to nothing.
//!
//! The rules are those of the real one, as far as they take no expressions; `docs/participant.md`
//! lists them one by one.

pub mod export;
pub mod import;
pub mod purge;

use heirloom_canton::acs::AcsError;
use heirloom_canton::contract_id::ContractId;
use heirloom_model::party::SynchronizerId;

/// Why a repair is refused.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Something could come in meanwhile.
    #[error("There are still synchronizers connected. Please disconnect all synchronizers.")]
    Connected,
    /// The synchronizer's parameters are not known: it was never connected.
    #[error("synchronizer {0} is not known: connect to it once before")]
    UnknownSynchronizer(String),
    /// This version wants the synchronizer named.
    #[error("synchronizer_id is missing: since 3.5 a snapshot is imported for one synchronizer")]
    NoSynchronizer,
    /// This version has no such field.
    #[error("field {field} is not known before {since}")]
    UnknownField {
        /// The field.
        field: &'static str,
        /// Since which version it is.
        since: &'static str,
    },
    /// Before 3.5 parties must be named.
    #[error("party_ids is empty: before 3.5 at least one party is named")]
    NoParties,
    /// A party is hosted elsewhere.
    #[error("party {0} is not hosted by this participant")]
    PartyNotHosted(String),
    /// The offset is not there yet.
    #[error("offset {found} is not between 0 and the ledger end {end}")]
    Offset {
        /// What was asked for.
        found: i64,
        /// The ledger end.
        end: u64,
    },
    /// The mode is none.
    #[error("contract import mode {0} is not known")]
    UnknownMode(i32),
    /// The mode is not offered.
    #[error("contract ids are not recomputed here: use mode VALIDATION")]
    Recomputation,
    /// What may stand in the first message only stands in a later one, or changes.
    #[error("message {number} of the import has {field}: {rule}")]
    LaterField {
        /// Which message, counted from one.
        number: u64,
        /// The field.
        field: &'static str,
        /// What this version demands.
        rule: &'static str,
    },
    /// The snapshot cannot be read.
    #[error("the snapshot cannot be read")]
    Snapshot(#[from] AcsError),
    /// It is a snapshot of an older export.
    #[error("entry {entry} is of an older export, which cannot be imported")]
    OldEntry {
        /// Which, counted from zero.
        entry: u64,
    },
    /// A contract moved between synchronizers.
    #[error("contract {id} has reassignment counter {counter}; only 0 can be imported")]
    ReassignmentCounter {
        /// The contract.
        id: ContractId,
        /// Its counter.
        counter: u64,
    },
    /// Nobody here has to do with it.
    #[error("contract {id} has no stakeholder that this participant hosts")]
    NoLocalStakeholder {
        /// The contract.
        id: ContractId,
    },
    /// A stakeholder is hosted nowhere.
    #[error("contract {id} has stakeholder {party}, whom no participant hosts on {synchronizer}")]
    UnknownStakeholder {
        /// The contract.
        id: ContractId,
        /// The party.
        party: String,
        /// Where it should be hosted.
        synchronizer: SynchronizerId,
    },
    /// Another contract has its id.
    #[error("contract {id} is active already, with other content")]
    ActiveAndDifferent {
        /// The contract.
        id: ContractId,
    },
    /// It ended before.
    #[error(
        "Cannot add previously archived contract {id} as archived contracts cannot become active."
    )]
    Archived {
        /// The contract.
        id: ContractId,
    },
    /// It cannot be taken out.
    #[error("contract {id} is not active on {alias} and cannot be purged")]
    NotActive {
        /// The contract, or what was written for it.
        id: String,
        /// The synchronizer.
        alias: String,
    },
    /// It fails on purpose.
    #[error("the import fails after {batches} batches, as the configuration asks for")]
    Fault {
        /// How many were persisted.
        batches: u64,
    },
}
