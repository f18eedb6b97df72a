//! Fences at the real nginx and the real HAProxy, with real clients and a real service behind.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says if it is skipped"
)]

mod client;
mod conformance;
mod haproxy;
mod nginx;
mod upstream;
mod world;
