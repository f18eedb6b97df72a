//! Transactions: outputs that are spent, and outputs that are made of them.

use heirloom_model::digest::{NetworkId, sha256};
use heirloom_model::service::Height;
use heirloom_model::signature::{KeySignature, PublicKey, SigningKey};
use heirloom_model::{fixed_bytes, wire};
use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::context;
use crate::limit::TRANSACTION_BYTES_MAX;
use crate::output::{Blinding, Output, OutputId};

fixed_bytes! {
    /// A transaction: SHA-256 of the encoding of its payment.
    TransactionId[32];
}

/// An output that is spent, and who says that it is theirs.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Input {
    /// The output.
    #[n(0)]
    pub output: OutputId,
    /// Its owner.
    #[n(1)]
    pub owner: PublicKey,
    /// What hid the owner, for a private output.
    #[n(2)]
    pub blinding: Option<Blinding>,
}

/// What the owners of the inputs agree on, and sign.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Payment {
    /// The network, so that no transaction counts in another one.
    #[n(0)]
    pub network: NetworkId,
    /// What is spent, sorted by output.
    #[n(1)]
    pub inputs: Vec<Input>,
    /// What is made.
    #[n(2)]
    pub outputs: Vec<Output>,
    /// What nobody gets.
    #[n(3)]
    pub fee: Amount,
    /// The last block in which it counts: after it, whoever made it may make another one.
    #[n(4)]
    pub tombstone: Height,
    /// Makes two payments different that are alike.
    #[n(5)]
    pub nonce: u64,
}

/// A payment, and the signatures of those whose outputs it spends.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Transaction {
    /// What is signed.
    #[n(0)]
    pub payment: Payment,
    /// One signature by each owner, sorted by key.
    #[n(1)]
    pub signatures: Vec<KeySignature>,
}

impl Payment {
    /// The id of the transaction with this payment.
    pub fn id(&self) -> TransactionId {
        let bytes = minicbor::to_vec(self).expect("encoding into memory cannot fail");
        TransactionId::new(sha256(&[context::TRANSACTION, &bytes]))
    }

    /// Signs with the keys of all owners. Sorts what has one order.
    #[must_use]
    pub fn sign(mut self, keys: &[&SigningKey]) -> Transaction {
        self.inputs.sort_by_key(|input| input.output);
        let id = self.id();
        let message = message(&id);
        let mut signatures: Vec<_> = keys.iter().map(|key| key.sign(&message)).collect();
        signatures.sort_by_key(|signature| signature.key);
        signatures.dedup_by_key(|signature| signature.key);
        Transaction { payment: self, signatures }
    }
}

impl Transaction {
    /// Its id. The signatures are no part of it.
    pub fn id(&self) -> TransactionId {
        self.payment.id()
    }

    /// What it makes, with the ids.
    pub fn created(&self) -> Vec<(OutputId, Output)> {
        let id = self.id();
        let outputs = (0..).zip(&self.payment.outputs);
        outputs.map(|(index, output)| (OutputId::of(&id, index), *output)).collect()
    }
}

/// What an owner signs.
pub(crate) fn message(id: &TransactionId) -> Vec<u8> {
    [context::TRANSACTION, id.as_bytes()].concat()
}

wire! {
    Payment: "payment", TRANSACTION_BYTES_MAX;
    Transaction: "transaction", TRANSACTION_BYTES_MAX;
}
