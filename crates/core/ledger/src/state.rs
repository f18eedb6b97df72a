//! What validation asks of storage.

use heirloom_model::counter::Time;
use heirloom_model::digest::NetworkId;
use heirloom_model::service::Tip;

use crate::output::{Output, OutputId};

/// The ledger as it stands.
pub trait State {
    /// What the next block follows.
    fn parent(&self) -> Result<Parent, Unreadable>;

    /// What is known of an output.
    fn output_status(&self, id: &OutputId) -> Result<OutputStatus, Unreadable>;
}

/// What the next block follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parent {
    /// The network.
    pub network: NetworkId,
    /// The last block.
    pub tip: Tip,
    /// When it was made.
    pub time: Time,
}

/// What a ledger knows of an output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputStatus {
    /// There is none with this id.
    Unknown,
    /// It can be spent.
    Unspent(Output),
    /// A transaction has spent it.
    Spent,
}

/// Storage does not answer. Nothing is said about what was to be checked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the ledger cannot be read: {reason}")]
pub struct Unreadable {
    /// Why, for people.
    pub reason: String,
}
