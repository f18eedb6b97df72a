//! What clients and nodes say to each other, in messages of one size.
//!
//! A host sees every byte that passes through it. All requests have [`REQUEST_BYTES`] and all
//! answers [`ANSWER_BYTES`], padded with zeros, so that their lengths say nothing about what was
//! asked or found.

use heirloom_model::digest::{BlockId, ConfigurationDigest, NetworkId};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::service::{Admission, Height, SchemaVersion, Tip};
use heirloom_model::signature::{PublicKey, Signature, SigningKey};
use heirloom_model::wire;
use heirloom_model::wire::{Wire, WireError};
use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::context;
use crate::hint::ViewPublic;
use crate::limit::{ANSWER_BYTES, REQUEST_BYTES};
use crate::output::{Blinding, OutputId};
use crate::transaction::{Transaction, TransactionId};

/// The newest client protocol that this release speaks.
pub const CLIENT_PROTOCOL: u32 = 1;

/// One request of a client.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ClientRequest {
    /// The protocol that the client speaks.
    #[n(0)]
    pub protocol: u32,
    /// What it wants.
    #[n(1)]
    pub ask: Ask,
}

/// What a client wants.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Ask {
    /// Who are you? Answered with [`Answer::Node`].
    #[n(0)]
    Node,
    /// Put this into a block. Answered with [`Answer::Submitted`].
    #[n(1)]
    Submit(#[n(0)] Box<Transaction>),
    /// What became of this transaction? Answered with [`Answer::Receipt`].
    #[n(2)]
    Receipt(#[n(0)] TransactionId),
    /// Which public outputs may this key spend? Answered with [`Answer::Account`].
    #[n(3)]
    Account {
        /// The key.
        #[n(0)]
        owner: PublicKey,
        /// Only those after this one, if there was an answer before.
        #[n(1)]
        after: Option<OutputId>,
    },
    /// Which private outputs belong to me? Answered with [`Answer::View`].
    #[n(4)]
    View(#[n(0)] ViewRequest),
}

/// The owner of a key asks which private outputs belong to it.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ViewRequest {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The instance that is asked, so that no other one answers the same request.
    #[n(1)]
    pub instance: PublicKey,
    /// The key.
    #[n(2)]
    pub owner: PublicKey,
    /// Where to go on looking.
    #[n(3)]
    pub from: ScanPosition,
    /// The owner's signature over the fields above.
    #[n(4)]
    pub signature: Signature,
}

/// A place among the private outputs, in the order in which they were made.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct ScanPosition {
    /// The block.
    #[n(0)]
    pub height: Height,
    /// The place among the private outputs of the block.
    #[n(1)]
    pub place: u32,
}

/// What a node answers a client.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Answer {
    /// Who it is.
    #[n(0)]
    Node(#[n(0)] Box<NodeInfo>),
    /// It waits for a block.
    #[n(1)]
    Submitted(#[n(0)] TransactionId),
    /// What became of a transaction.
    #[n(2)]
    Receipt(#[n(0)] Fate),
    /// Public outputs that can be spent.
    #[n(3)]
    Account(#[n(0)] AccountOutputs),
    /// Private outputs that can be spent.
    #[n(4)]
    View(#[n(0)] ViewAnswer),
    /// Not now: the same request may be answered differently a moment later.
    #[n(5)]
    NotYet {
        /// Why, for people.
        #[n(0)]
        reason: String,
    },
    /// No.
    #[n(6)]
    Refused {
        /// In which respect.
        #[n(0)]
        cause: RefusalCause,
        /// Why, for people.
        #[n(1)]
        reason: String,
    },
}

/// In which respect a request is refused.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum RefusalCause {
    /// The client is too old, or newer than the node.
    #[n(0)]
    Protocol,
    /// The transaction does not count.
    #[n(1)]
    Invalid,
    /// What it spends is spent, or is being spent.
    #[n(2)]
    Spent,
    /// The request is not signed by whom it is about.
    #[n(3)]
    Signature,
    /// The node does not answer such requests.
    #[n(4)]
    Unsupported,
}

/// Who a node is.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct NodeInfo {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The node.
    #[n(1)]
    pub node: NodeId,
    /// Its code.
    #[n(2)]
    pub measurement: Measurement,
    /// The key of the instance; new with each start.
    #[n(3)]
    pub instance: PublicKey,
    /// What it has configured.
    #[n(4)]
    pub configuration: ConfigurationDigest,
    /// The schema of its database.
    #[n(5)]
    pub schema: SchemaVersion,
    /// The end of its ledger.
    #[n(6)]
    pub tip: Tip,
    /// Whose work it takes.
    #[n(7)]
    pub admission: Admission,
    /// The oldest client protocol that it serves.
    #[n(8)]
    pub client_protocol_min: u32,
    /// The smallest fee.
    #[n(9)]
    pub minimum_fee: Amount,
    /// How far ahead of the next block a tombstone may be.
    #[n(10)]
    pub tombstone_distance_max: u64,
    /// The view key for private payments, once the node has it.
    #[n(11)]
    pub view: Option<ViewPublic>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Fate {
    /// It counts.
    #[n(0)]
    Settled(#[n(0)] Receipt),
    /// It waits for a block.
    #[n(1)]
    Waiting,
    /// This node knows nothing of it.
    #[n(2)]
    Unknown,
}

/// Where a transaction counts.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Receipt {
    /// The transaction.
    #[n(0)]
    pub transaction: TransactionId,
    /// The height of its block.
    #[n(1)]
    pub height: Height,
    /// Its block.
    #[n(2)]
    pub block: BlockId,
}

/// Public outputs of one key that can be spent.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct AccountOutputs {
    /// The outputs, sorted by id; at most [`crate::limit::ANSWER_OUTPUTS_MAX`].
    #[n(0)]
    pub outputs: Vec<OwnedOutput>,
    /// Where the next page begins, if there is one.
    #[n(1)]
    pub next: Option<OutputId>,
}

/// A public output that can be spent.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct OwnedOutput {
    /// The output.
    #[n(0)]
    pub output: OutputId,
    /// How much it is.
    #[n(1)]
    pub amount: Amount,
    /// The block in which it was made.
    #[n(2)]
    pub height: Height,
}

/// Private outputs of one key that can be spent.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct ViewAnswer {
    /// The outputs, in the order in which they were made; at most
    /// [`crate::limit::ANSWER_OUTPUTS_MAX`].
    #[n(0)]
    pub outputs: Vec<FoundOutput>,
    /// Where to go on looking, if there is more.
    #[n(1)]
    pub next: Option<ScanPosition>,
}

/// A private output that can be spent.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct FoundOutput {
    /// The output.
    #[n(0)]
    pub output: OutputId,
    /// How much it is.
    #[n(1)]
    pub amount: Amount,
    /// What its owner shows to spend it.
    #[n(2)]
    pub blinding: Blinding,
    /// The block in which it was made.
    #[n(3)]
    pub height: Height,
}

/// The owner's signature on a view request does not verify.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the request to see the outputs of {owner} is not signed by it")]
pub struct NotTheOwner {
    /// Whose outputs are asked for.
    pub owner: PublicKey,
}

/// A view request that its owner signed for this network and instance. Only
/// [`ViewRequest::check`] makes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CheckedView {
    owner: PublicKey,
    from: ScanPosition,
}

impl ViewRequest {
    /// Signs a request with the key that it is about.
    pub fn sign(
        network: NetworkId,
        instance: PublicKey,
        from: ScanPosition,
        key: &SigningKey,
    ) -> Self {
        let owner = key.public_key();
        let signature = key.sign(&view_message(&network, &instance, &owner, from)).signature;
        Self { network, instance, owner, from, signature }
    }

    /// Checks a request as the instance that was asked.
    pub fn check(
        &self,
        network: &NetworkId,
        instance: &PublicKey,
    ) -> Result<CheckedView, NotTheOwner> {
        let message = view_message(network, instance, &self.owner, self.from);
        let verified = self.owner.verify_bytes(&message, &self.signature);
        verified.map_err(|_| NotTheOwner { owner: self.owner })?;
        Ok(CheckedView { owner: self.owner, from: self.from })
    }
}

impl CheckedView {
    /// Whose outputs are asked for.
    pub fn owner(&self) -> PublicKey {
        self.owner
    }

    /// Where to go on looking.
    pub fn from(&self) -> ScanPosition {
        self.from
    }
}

fn view_message(
    network: &NetworkId,
    instance: &PublicKey,
    owner: &PublicKey,
    from: ScanPosition,
) -> Vec<u8> {
    let signed = minicbor::to_vec((network, instance, owner, from));
    let signed = signed.expect("encoding into memory cannot fail");
    [context::VIEW, &signed].concat()
}

/// A message that has one size.
pub trait Padded: Wire {
    /// The size.
    const PADDED_BYTES: usize;
}

impl Padded for ClientRequest {
    const PADDED_BYTES: usize = REQUEST_BYTES;
}

impl Padded for Answer {
    const PADDED_BYTES: usize = ANSWER_BYTES;
}

/// Bytes of the length that stands before a padded message.
const LENGTH_BYTES: usize = 4;

/// The bytes of a message: four bytes of length, the message, and zeros up to the one size.
///
/// # Panics
///
/// If the message is larger than its type allows, which is a programmer's error: who makes
/// messages keeps to the limits.
pub fn pad<T: Padded>(message: &T) -> Vec<u8> {
    let bytes = wire::encode(message);
    assert!(bytes.len() <= T::BYTES_MAX, "a message keeps to the limits of its lists and texts");
    let length = u32::try_from(bytes.len()).expect("the limits fit in 32 bits");
    let mut padded = length.to_be_bytes().to_vec();
    padded.extend_from_slice(&bytes);
    padded.resize(T::PADDED_BYTES, 0);
    padded
}

/// The message in bytes of exactly the one size.
pub fn unpad<T: Padded>(bytes: &[u8]) -> Result<T, WireError> {
    let malformed =
        |reason: &str| WireError::Malformed { what: T::WHAT, reason: reason.to_owned() };
    if bytes.len() != T::PADDED_BYTES {
        return Err(malformed("it has not the one size of such messages"));
    }
    let (length, rest) = bytes.split_at(LENGTH_BYTES);
    let length = length.try_into().map_or(u32::MAX, u32::from_be_bytes);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (message, padding) =
        rest.split_at_checked(length).ok_or_else(|| malformed("it is longer than it can be"))?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(malformed("something follows it"));
    }
    wire::decode(message)
}

wire! {
    ClientRequest: "client request", REQUEST_BYTES - LENGTH_BYTES;
    Answer: "answer to a client", ANSWER_BYTES - LENGTH_BYTES;
}

#[cfg(test)]
mod tests;
