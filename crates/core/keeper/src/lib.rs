//! The state machine inside the TEE: create, derive, rotate, seal, replicate, prove.

pub mod port;
