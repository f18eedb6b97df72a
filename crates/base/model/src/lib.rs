//! The nouns of Heirloom as validated newtypes, and every byte format that is signed, stored or
//! sent.
//!
//! Nothing here decides anything: no I/O, no clock, no randomness, no trust. A type that says
//! "verified" or "appraised" lives in the core crate that verifies or appraises.
//!
//! Read in this order:
//!
//! * [`mod@wire`]: the one codec. Canonical CBOR; a byte string has exactly one meaning, and a value
//!   exactly one byte string.
//! * [`frame`]: how values follow each other in a stream.
//! * [`digest`], [`identifier`], [`counter`], [`measurement`], [`signature`], [`secret`]: newtypes.
//! * [`statement`], [`envelope`], [`log`]: what the registry orders.
//! * [`root`], [`fleet`], [`release`], [`policy`], [`domain`], [`evidence`], [`plan`],
//!   [`service`], [`participant`]: what the statements say. [`party`]: names of a ledger.
//! * [`protocol`], [`handover`], [`admin`]: what agents, keepers and applications say to each other.
//! * [`sealed`]: what a keeper leaves on disk. [`key_file`]: what a signer keeps in a file.
//! * [`context`], [`limit`]: every domain separation string, every named limit. [`causes`]: what
//!   people read about an error.

pub mod frame;
mod text;
pub mod wire;

pub mod counter;
pub mod digest;
pub mod identifier;
pub mod key_file;
pub mod measurement;
pub mod party;
pub mod secret;
pub mod signature;

pub mod envelope;
pub mod log;
pub mod statement;

pub mod domain;
pub mod evidence;
pub mod fleet;
pub mod handover;
pub mod participant;
pub mod plan;
pub mod policy;
pub mod release;
pub mod root;
pub mod service;

pub mod admin;
pub mod appraisal;
pub mod protocol;
pub mod sealed;

pub mod causes;
pub mod context;
pub mod limit;
