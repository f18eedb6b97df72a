//! Nodes in this process, over real sockets and files, with real evidence.

#![cfg(test)]

mod agreement;
mod freeze;
mod refusal;
mod tools;
mod window;
mod world;
