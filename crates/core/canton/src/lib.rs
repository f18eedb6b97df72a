//! Formats of Canton, a ledger of participants: names, keys, topology, packages, values, contracts
//! and snapshots of contracts.
//!
//! Nothing here talks to a participant, reads a file or decides whether somebody moves. What is
//! read is read as strictly as the ledger itself reads it, and what is written again has the same
//! bytes. Where something is verified, the answer is a value that only the verification makes:
//! [`topology::verify::VerifiedTransaction`], [`authenticate::AuthenticContract`].
//!
//! Read in this order:
//!
//! * [`name`], [`hash`], [`proto`]: words, digests, messages.
//! * [`key`], [`fingerprint`], [`topology`]: who may sign what.
//! * [`types`], [`value`], [`value1`]: what contracts say.
//! * [`contract_id`], [`contract_hash`], [`key_hash`], [`unicum`]: how a contract is named.
//! * [`blob`], [`instance1`], [`authenticate`]: one contract.
//! * [`acs`], [`ledger_event`]: many contracts.
//! * [`dar`]: packages, from which types come.

pub mod hash;
pub mod name;
pub mod proto;

pub mod fingerprint;
pub mod key;
pub mod topology;

pub mod types;
pub mod value;
pub mod value1;

pub mod contract_hash;
pub mod contract_id;
pub mod key_hash;
pub mod unicum;

pub mod authenticate;
pub mod blob;
pub mod instance1;

pub mod acs;
pub mod ledger_event;

pub mod dar;

#[cfg(test)]
mod tests;
