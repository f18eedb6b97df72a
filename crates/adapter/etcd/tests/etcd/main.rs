//! The log and the presence table on real clusters of etcd.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says if it is skipped"
)]

mod corrupt;
mod fixture;
mod lost;
mod member;
mod partition;
mod presence;
mod space;
mod suite;
