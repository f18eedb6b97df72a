//! The reference synchronizer: one log of topology and transactions, in one order for everybody.
//!
//! * [`wire`]: what participants and the synchronizer say to each other.
//! * [`admission`]: what may stand in the log.
//! * [`sequencer`]: the log, its followers, and who confirms what.
//! * [`connect`]: what it says to everybody, as a real sequencer does.
//! * [`server`]: the process.

pub mod admission;
pub mod connect;
pub mod sequencer;
pub mod server;
pub mod wire;
