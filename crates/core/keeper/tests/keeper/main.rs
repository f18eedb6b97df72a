//! Keepers of one small network, on emulated machines, through everything that can happen to
//! them. No test looks at a secret; all of them look at what is durable.

#![cfg(test)]

mod attested;
mod authorised;
mod counter;
mod crash;
mod exclusive;
mod forget;
mod handover;
mod handshake;
mod kinds;
mod lifecycle;
mod refusal;
mod reseal;
mod seats;
mod upgraders;
mod witness;
mod world;
