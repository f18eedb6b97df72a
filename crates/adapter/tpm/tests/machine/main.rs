//! Machines with a TPM in software.

#![cfg(test)]

#[path = "../../../../test/testkit/src/swtpm.rs"]
pub mod swtpm;

mod approval;
mod counters;
mod planted;
mod platform;
mod world;
