//! The client in front of real sessions, and the example application in front of real processes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod calls;
mod example_app;
mod exclusive;
mod network;
