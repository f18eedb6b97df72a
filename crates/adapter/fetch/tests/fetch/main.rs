//! Releases fetched from real servers and directories, good and bad ones.

#![cfg(test)]

mod bad;
mod disk;
mod good;
mod server;
mod tls;
mod world;
