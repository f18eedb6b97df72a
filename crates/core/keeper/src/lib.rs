//! The state machine inside the TEE: create, derive, rotate, seal, replicate, prove.
//!
//! The keeper believes neither its agent nor the registry nor any single operator. It folds the
//! log itself, judges evidence itself, and gives a secret only to a peer that the policy in force
//! names. It has no clock, no file and no socket: time comes from the log, moments from its caller,
//! randomness and seal keys from the platform that is lent to it, and what must be written is a
//! result.
//!
//! This is not a key store for people: nobody asks a keeper for a master secret but another
//! keeper.
//!
//! Read in this order:
//!
//! * [`keeper`]: [`Keeper`](keeper::Keeper), the state machine, and why it refuses.
//! * [`keyring`]: generations and the checksum chain over them.
//! * [`mod@derive`]: application keys.
//! * [`sealing`], [`mod@file`]: what is left on disk, and why it cannot be opened.
//! * [`intent`]: effects that stay locked until their files are durable.
//! * [`handshake`]: how two sides of a session come to believe each other.
//! * [`handover`]: who may hand a keyring to whom.
//! * [`kmac`]: the one function that derives keys from secrets.
//! * [`port`]: the platform and the directory for state, as traits.

pub mod keeper;
pub mod keyring;

pub mod derive;
pub mod file;
pub mod intent;
pub mod sealing;

pub mod handover;
pub mod handshake;
pub mod port;

pub mod kmac;

#[cfg(test)]
mod fake;
