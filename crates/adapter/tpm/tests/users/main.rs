//! Launched code above a TPM: who it is to the kernel, and what it cannot do.

#![cfg(test)]

#[path = "../../../../test/testkit/src/swtpm.rs"]
pub mod swtpm;
#[path = "../../../../test/testkit/src/users.rs"]
pub mod users;

mod isolation;
mod table;
mod world;
