//! Nodes in this process, over real sockets and files, with real evidence.

mod agreement;
mod refusal;
mod tools;
mod window;
mod world;
