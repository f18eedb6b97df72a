//! Outputs: amounts that belong to somebody until a transaction spends them.

use heirloom_model::digest::{NetworkId, sha256};
use heirloom_model::service::Height;
use heirloom_model::signature::PublicKey;
use heirloom_model::{fixed_bytes, wire};
use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::context;
use crate::limit::OUTPUT_RECORD_BYTES_MAX;
use crate::transaction::TransactionId;

fixed_bytes! {
    /// An output. It is its nullifier too: an output is spent once.
    OutputId[32];
    /// Whom a private output belongs to, hidden: the owner's key and a blinding, hashed.
    Commitment[32];
    /// What hides the owner in a commitment. Shown when the output is spent.
    Blinding[32];
    /// The owner's key and the blinding of a private output, sealed to the network's view key.
    SealedHint[112];
}

/// How a payment reaches its recipient.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum PaymentPath {
    /// The recipient's key stands in the output.
    #[n(0)]
    Public,
    /// The recipient finds the output through the network's view key.
    #[n(1)]
    Private,
}

/// An amount that belongs to somebody.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Output {
    /// Everybody sees whose it is.
    #[n(0)]
    Public {
        /// Who may spend it.
        #[n(0)]
        owner: PublicKey,
        /// How much it is.
        #[n(1)]
        amount: Amount,
    },
    /// Only its owner, and who has the view key, sees whose it is.
    #[n(1)]
    Private {
        /// Who may spend it, hidden.
        #[n(0)]
        commitment: Commitment,
        /// How the owner finds it.
        #[n(1)]
        hint: SealedHint,
        /// How much it is.
        #[n(2)]
        amount: Amount,
    },
}

/// An output as it stands in the database. Never changes: that it was spent stands elsewhere.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct OutputRecord {
    /// The output.
    #[n(0)]
    pub output: Output,
    /// The block in which it was made.
    #[n(1)]
    pub height: Height,
    /// The transaction that made it; none for what the network started with.
    #[n(2)]
    pub transaction: Option<TransactionId>,
}

impl Output {
    /// How much it is.
    pub fn amount(&self) -> Amount {
        match self {
            Self::Public { amount, .. } | Self::Private { amount, .. } => *amount,
        }
    }

    /// How it reaches its recipient.
    pub fn path(&self) -> PaymentPath {
        match self {
            Self::Public { .. } => PaymentPath::Public,
            Self::Private { .. } => PaymentPath::Private,
        }
    }
}

impl OutputId {
    /// The output at this place of a transaction.
    pub fn of(transaction: &TransactionId, index: u32) -> Self {
        Self::new(sha256(&[context::OUTPUT, transaction.as_bytes(), &index.to_be_bytes()]))
    }

    /// The output at this place of what a network starts with.
    pub fn of_allocation(network: &NetworkId, index: u32) -> Self {
        Self::new(sha256(&[context::ALLOCATION, network.as_bytes(), &index.to_be_bytes()]))
    }
}

impl Commitment {
    /// The commitment to this owner under this blinding.
    pub fn of(owner: &PublicKey, blinding: &Blinding) -> Self {
        Self::new(sha256(&[context::COMMITMENT, owner.as_bytes(), blinding.as_bytes()]))
    }
}

wire! {
    Output: "output", OUTPUT_RECORD_BYTES_MAX;
    OutputRecord: "output record", OUTPUT_RECORD_BYTES_MAX;
}
