//! Everything that runs on the host: none of it is measured, and nothing rests on it.
//!
//! * [`outcome`]: lines on standard output, and how a tool ends.
//! * [`data`]: prepare, inspect, snapshot, migrate, revert, distribute.
//! * [`node_client`]: asks a node over HTTP.
//! * [`exercise`]: tries a node through its side door.
//! * [`load`]: pays, and says what became of every payment.
//! * [`status`]: how nodes are.

pub mod data;
pub mod exercise;
pub mod load;
pub mod node_client;
pub mod outcome;
pub mod prepare;
pub mod status;
