//! What a participant keeps, as it is written.

use minicbor::{Decode, Encode};

/// Who this node is.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct IdentityRecord {
    /// The participant.
    #[n(0)]
    pub participant: String,
}

/// A key that this node uses.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct KeyRecord {
    /// The name that its owner gave it here.
    #[n(0)]
    pub name: String,
    /// What the custodian calls it.
    #[n(1)]
    pub custodian_id: String,
    /// Its label in the custodian.
    #[n(2)]
    pub label: String,
    /// What it is for.
    #[n(3)]
    pub usage: String,
    /// Its scheme.
    #[n(4)]
    pub scheme: String,
    /// Its public half.
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub public: Vec<u8>,
    /// What it may sign, as the wire has it.
    #[n(6)]
    pub usages: Vec<i32>,
}

/// A topology transaction that was accepted.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct TopologyRecord {
    /// The signed transaction.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub signed: Vec<u8>,
    /// When it was accepted.
    #[n(1)]
    pub time_micros: i64,
}

/// A synchronizer that was registered.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SynchronizerRecord {
    /// How it is reached, as the operator wrote it.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub config: Vec<u8>,
    /// What it said that it is; nothing before the first handshake.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub parameters: Option<Vec<u8>>,
}

/// How far the log of a synchronizer was followed.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct PositionRecord {
    /// The next entry.
    #[n(0)]
    pub next: u64,
    /// The time of the last one.
    #[n(1)]
    pub time_micros: i64,
}

/// A file of packages.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct DarRecord {
    /// The file.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// What its owner says about it.
    #[n(1)]
    pub description: String,
    /// When it was uploaded.
    #[n(2)]
    pub time_micros: i64,
}

/// Where something happened.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The offset.
    #[n(0)]
    pub offset: u64,
    /// Which of the things at this offset.
    #[n(1)]
    pub node: u32,
}

impl Place {
    /// The key that puts places in order.
    pub fn key(self) -> [u8; 12] {
        let mut key = [0; 12];
        let (offset, node) = key.split_at_mut(8);
        offset.copy_from_slice(&self.offset.to_be_bytes());
        node.copy_from_slice(&self.node.to_be_bytes());
        key
    }
}

/// What became of a contract.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum ContractState {
    /// It is active.
    #[n(0)]
    Active,
    /// It ended on the ledger. It never comes back.
    #[n(1)]
    Archived {
        /// When.
        #[n(0)]
        offset: u64,
    },
    /// It was taken out by repair. It may be put in again.
    #[n(2)]
    Purged {
        /// When.
        #[n(0)]
        offset: u64,
    },
}

/// A contract.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ContractRecord {
    /// The synchronizer, without protocol version.
    #[n(0)]
    pub synchronizer: String,
    /// The contract.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub blob: Vec<u8>,
    /// The package that stands for its template here.
    #[n(2)]
    pub representative: String,
    /// How often it moved between synchronizers.
    #[n(3)]
    pub counter: u64,
    /// Where it was created or imported.
    #[n(4)]
    pub created: Place,
    /// What became of it.
    #[n(5)]
    pub state: ContractState,
    /// Who signed or sees it.
    #[n(6)]
    pub stakeholders: Vec<String>,
    /// The workflow that brought it.
    #[n(7)]
    pub workflow: String,
}

impl ContractRecord {
    /// Whether it is active at an offset.
    pub fn is_active_at(&self, offset: u64) -> bool {
        let is_ended = match self.state {
            ContractState::Active => false,
            ContractState::Archived { offset: end } | ContractState::Purged { offset: end } => {
                end <= offset
            }
        };
        self.created.offset <= offset && !is_ended
    }
}

/// The key that an update writes.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct UpdateRecord {
    /// The contract.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub contract: Vec<u8>,
}

/// What became of a command.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct CommandRecord {
    /// Its transaction.
    #[n(0)]
    pub offset: u64,
    /// Where it stands in the synchronizer's log.
    #[n(1)]
    pub position: u64,
    /// When it was accepted.
    #[n(2)]
    pub time_micros: i64,
    /// Contracts that it ended.
    #[n(3)]
    pub archived: Vec<minicbor::bytes::ByteVec>,
    /// Contracts that it made, in order.
    #[n(4)]
    pub created: Vec<minicbor::bytes::ByteVec>,
}

/// A user.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct UserRecord {
    /// The user, as the wire has it.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub user: Vec<u8>,
    /// Its rights, as the wire has them.
    #[n(1)]
    pub rights: Vec<minicbor::bytes::ByteVec>,
}
