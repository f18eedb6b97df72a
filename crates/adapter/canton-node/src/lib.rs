//! Calls Canton participants over gRPC, and moves one.
//!
//! Read in this order:
//!
//! * [`wire`]: the messages and services, generated from `proto/`. Clients and servers.

pub mod wire;
