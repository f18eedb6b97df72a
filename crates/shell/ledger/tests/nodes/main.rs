//! Nodes in this process, over real sockets and files, with real evidence.

#![cfg(test)]

mod agreement;
mod refusal;
mod tools;
mod window;
mod world;
