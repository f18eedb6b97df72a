//! Snapshot files of contracts: verified, rewritten under other parties, and verified again, on all
//! cores and in constant memory.
//!
//! A snapshot may be far larger than the memory. Entries go through in batches of a megabyte; ids
//! and references are sorted in temporary files; of the contracts themselves only those are set
//! aside that others refer to, since a contract's new id depends on the new ids of those that it
//! refers to.
//!
//! Read in this order:
//!
//! * [`run`]: what every operation needs. [`progress`], [`scratch`], [`error`].
//! * [`verify`]: every contract is what its id says.
//! * [`rewrite`]: the same contracts under other parties.
//! * [`check`]: what was written is what it should be, and there is a way back.

pub mod error;
pub mod progress;
pub mod run;
pub mod scratch;

pub mod check;
pub mod rewrite;
pub mod verify;

mod absent;
mod batch;
mod gzip;
mod order;
mod pipeline;
mod place;
mod renames;
mod sort;
mod table;
