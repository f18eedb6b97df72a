//! Durable files: the registry log, an agent's journal, sealed state, atomic replacement.
//!
//! Everything here returns only when what it did survives a power failure, and tries once. What
//! is missing, corrupt, refused and full are different errors: a file that cannot be read is
//! never treated as absent, and never overwritten. Nothing here knows what the bytes mean.
//!
//! Read in this order:
//!
//! * [`error`]: what can go wrong with a file.
//! * [`atomic`]: files that are replaced as a whole, and moves that never overwrite.
//! * [`chain`]: files that only grow, record by record, with a hash chain.
//! * [`log_file`], [`journal_file`]: the two of them.
//! * [`key_file`]: one signing key.

pub mod error;

pub mod atomic;
pub mod chain;

pub mod journal_file;
pub mod key_file;
pub mod log_file;
