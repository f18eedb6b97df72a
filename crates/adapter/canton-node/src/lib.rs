//! Calls Canton participants over gRPC, and moves one.
//!
//! Read in this order:
//!
//! * [`wire`]: the messages and services, generated from `proto/`. Clients and servers.
//! * [`error`]: what a failed call means.
//! * [`node`]: one participant, with a method for each call.
//! * [`driver`]: the two participants of a node, and the steps of a migration.

pub mod wire;

pub mod error;

pub mod node;

pub mod driver;
