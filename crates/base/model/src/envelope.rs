//! Envelopes: exact payload bytes, their kind, and who signed them.

use minicbor::{Decode, Encode};

use crate::context;
use crate::digest::sha256;
use crate::evidence::{Evidence, ReportData};
use crate::limit::ENVELOPE_BYTES_MAX;
use crate::signature::{KeySignature, PublicKey, SigningKey};
use crate::statement::{Statement, StatementKind};
use crate::{wire, wire::WireError};

/// A statement with its signatures. Nothing in it is verified yet.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Envelope {
    /// What the payload is.
    #[n(0)]
    pub kind: StatementKind,
    /// The exact bytes that are signed.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub payload: Vec<u8>,
    /// Signatures over kind and payload, sorted by key, one per key.
    #[n(2)]
    pub signatures: Vec<KeySignature>,
    /// Evidence that one signer is an attested instance, for the kinds that need it. The other
    /// is the agent of its node.
    #[n(3)]
    pub evidence: Option<Evidence>,
}

/// The bytes that a signature over a statement covers: context, kind, digest of the payload.
pub fn signing_bytes(kind: StatementKind, payload: &[u8]) -> Vec<u8> {
    [context::STATEMENT, &[kind.code()], &sha256(&[payload])].concat()
}

impl Envelope {
    /// Encodes a statement that nobody has signed yet.
    pub fn unsigned<T: Statement>(statement: &T) -> Self {
        Self {
            kind: T::KIND,
            payload: wire::encode(statement),
            signatures: Vec::new(),
            evidence: None,
        }
    }

    /// Encodes a statement and signs it with each key.
    pub fn signed<'k, T: Statement>(
        statement: &T,
        keys: impl IntoIterator<Item = &'k SigningKey>,
    ) -> Self {
        let mut envelope = Self::unsigned(statement);
        for key in keys {
            envelope.sign(key);
        }
        envelope
    }

    /// Adds a signature, or replaces that of the same key.
    pub fn sign(&mut self, key: &SigningKey) {
        let made = key.sign(&signing_bytes(self.kind, &self.payload));
        self.signatures.retain(|present| present.key != made.key);
        self.signatures.push(made);
        self.signatures.sort();
    }

    /// What evidence for this statement by `key` must carry.
    pub fn report_data(&self, key: &PublicKey) -> ReportData {
        ReportData::for_statement(self.kind.code(), &self.payload, key)
    }

    /// Decodes the payload without verifying anything: for display, and for the verifier.
    pub fn unverified<T: Statement>(&self) -> Result<T, WireError> {
        if self.kind != T::KIND {
            return Err(WireError::Malformed {
                what: T::WHAT,
                reason: format!("the statement is of kind {}", self.kind.name()),
            });
        }
        wire::decode(&self.payload)
    }
}

wire! { Envelope: "statement", ENVELOPE_BYTES_MAX; }
