//! Builders and roots of trust for tests. A dev-dependency only; production cannot link it.
//!
//! * [`ceremony`]: a whole network in one value.
//! * [`machine`]: machines with a TPM in this process, and the attestation CA that certifies them.
//! * [`swtpm`]: a TPM in software, in a process of its own.
//! * [`tee`]: TEEs behind fake files and devices, and a place where processes find them.
//! * [`users`]: users for launched code.
//! * [`vectors`]: where shared vectors are.

pub mod ceremony;
pub mod machine;
pub mod service;
pub mod swtpm;
pub mod tee;
pub mod users;
pub mod vectors;
