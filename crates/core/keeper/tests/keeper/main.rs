//! Keepers of one small network, on emulated machines, through everything that can happen to
//! them. No test looks at a secret; all of them look at what is durable.

#![cfg(test)]

mod crash;
mod handshake;
mod lifecycle;
mod refusal;
mod world;
