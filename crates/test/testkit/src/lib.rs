//! Builders and roots of trust for tests. A dev-dependency only; production cannot link it.
//!
//! * [`ceremony`]: a whole network in one value.
//! * [`swtpm`]: a TPM in software.
//! * [`vectors`]: where shared vectors are.

pub mod ceremony;
pub mod service;
pub mod swtpm;
pub mod vectors;
