//! The client against a TPM in software, and against the tools of tpm2-tools.

#[path = "../../../../test/testkit/src/swtpm.rs"]
pub mod swtpm;

mod world;

mod answers;
mod counters;
mod credentials;
mod failures;
mod quotes;
mod registers;
mod sealing;
mod tools;
