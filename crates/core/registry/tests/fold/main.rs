//! The rules, each with the smallest change that breaks it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod attested;
mod clock;
mod custody;
mod fleet;
mod history;
mod plan;
mod policy;
mod release;
mod root;
mod world;
