//! Participants and their synchronizer as processes, through their public services only.

#![cfg(test)]

mod crash;
mod identity;
mod import;
mod migration;
mod versions;
mod world;
