//! The reference ledger: blocks, payments, and the rules by which they count.
//!
//! Pure: storage is the [`state::State`] that a caller lends, time and randomness are arguments.
//! Nothing here talks to peers or orders anything; the node does.
//!
//! Read in this order:
//!
//! * [`amount`], [`output`], [`transaction`], [`block`]: what a ledger consists of.
//! * [`configuration`], [`limit`], [`context`]: what all nodes have alike.
//! * [`state`], [`check`], [`chain`]: what counts, and the values that only checks make.
//! * [`pending`]: what waits for a block.
//! * [`hint`]: how the owner of a private output finds it.
//! * [`client`]: what clients and nodes say to each other, in messages of one size.
//! * [`sealed`]: the same, where nobody between them may read it.
//! * [`schema`]: layouts of the database, and how one becomes the next.

pub mod amount;
pub mod block;
pub mod output;
pub mod transaction;

pub mod configuration;
pub mod context;
pub mod limit;

pub mod chain;
pub mod check;
pub mod state;

pub mod pending;

mod hpke;

pub mod hint;

pub mod client;
pub mod schema;
pub mod sealed;

#[cfg(test)]
mod world;
