//! Fences at real reverse proxies: stop new client work on command, let running requests end,
//! and let clients in again.
//!
//! Not a proxy, and not the whole fence: requests that do not come through the proxy are the
//! service's own to refuse. What the proxy does is always asked of the running process; a file
//! that says "closed" closes nothing by itself. `docs/proxies.md` says what the operator puts
//! into his configuration.
//!
//! Read in this order:
//!
//! * [`edge`]: what every fence can do, and what can go wrong.
//! * [`nginx`]: an include file with two exact contents, a reload, and a look at the workers.
//! * [`haproxy`]: servers drained through the master's socket, and a file for after the reload.
//! * [`template`]: complete minimal configurations.

pub mod edge;

pub mod haproxy;
pub mod nginx;

pub mod template;

mod file;
mod http;
mod poll;
mod process;
