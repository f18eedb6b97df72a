//! The client against a TPM in software, and against the tools of tpm2-tools.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../../test/testkit/src/swtpm.rs"]
pub mod swtpm;

mod world;

mod answers;
mod counters;
mod credentials;
mod failures;
mod mac_keys;
mod quotes;
mod registers;

mod tools;
