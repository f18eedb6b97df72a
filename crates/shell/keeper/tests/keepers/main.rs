//! Keepers as an agent, a peer and an application see them: through their sockets.

#![cfg(test)]

mod attendance;
mod handover;
mod in_process;
mod large;
mod process;
mod tee;
mod tpm;
mod wire;
mod world;
