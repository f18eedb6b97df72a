//! Consensus: which block comes next. Raft (openraft) over attested sessions.
//!
//! * [`types`]: what is agreed on.
//! * [`votes`]: vote and log, on disk before anything is answered.
//! * [`machine`]: what happens to what was agreed on.
//! * [`network`]: how messages reach the other nodes.

pub mod machine;
pub mod network;
pub mod types;
pub mod votes;
