//! The suites that every adapter must pass.

pub mod custodian;
pub mod etcd;

pub mod log_store;
pub mod platform;
