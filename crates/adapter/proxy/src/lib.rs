//! Fences: stops new client connections at a reverse proxy, and lets them in again.

pub mod edge;

pub mod haproxy;
pub mod nginx;

pub mod template;
