//! The reference ledger in LMDB: schema versions, snapshots, migrations, archive.
//!
//! Every commit is on disk when it returns. What is missing, corrupt, of another schema, in use
//! and full are different errors, and nothing that is absent is ever created by looking for it.
//!
//! Read in this order:
//!
//! * [`error`], [`directory`]: what can go wrong; where everything stands.
//! * [`database`]: the records, read by one or many processes.
//! * [`ledger`]: the one process that appends.
//! * [`copy`], [`manifest`], [`snapshot`], [`migrate`], [`inspect`]: what a flag day does with a ledger.
//! * [`archive`]: blocks as files, for everybody.
//! * [`prepare`]: large valid ledgers for rehearsals and measurements.

pub mod directory;
pub mod error;

mod environment;
mod lock;
mod records;
mod verify;

pub mod database;
pub mod ledger;

pub mod copy;
pub mod inspect;
pub mod manifest;
pub mod migrate;
pub mod snapshot;

pub mod archive;
pub mod prepare;

#[cfg(test)]
mod world;
