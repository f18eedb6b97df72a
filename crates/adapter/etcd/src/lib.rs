//! The registry log on an etcd cluster, and the table of who is alive beside it.
//!
//! etcd orders statements and keeps them on several machines. It is trusted no more than any other
//! registry: whoever reads follows the hash chain, and every statement is signed.
//!
//! This crate judges no statement; the server in front of it does (`heirloom registry serve`).
//! It starts no etcd and compacts none: that is for whoever runs the cluster.
//!
//! Read in this order:
//!
//! * [`etcd`]: a cluster, its endpoints and how one call finds a member that answers.
//! * [`log`]: the log store. Its keys and values are described in `docs/formats/etcd.md`.
//! * [`presence`]: addresses that expire with a lease.

mod layout;

pub mod etcd;

pub mod log;

pub mod presence;
