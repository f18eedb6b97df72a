//! The driver of a service, with a real platform daemon, real processes, and a fence in memory.

#![cfg(test)]

mod crash;
mod guards;
mod steps;
mod world;
