//! Serves the registry log over HTTP, and calls it from agents and tools.
//!
//! The server orders statements and says where nodes can be reached. Whoever reads from it
//! verifies everything again, so it needs no secrets and no encryption: it can withhold, and it
//! can never forge. It judges what it is given only to keep junk out of the log.
//!
//! | Request | Answer |
//! |---|---|
//! | `POST /v1/append?expected=N`, a statement | the new head; 409 and the head; 422 and the reason |
//! | `GET /v1/entries?from=N&max=M` | entries, each after its length in 4 bytes |
//! | `GET /v1/watch?from=N&wait_ms=M` | the head, once there is an entry at N or the time is over |
//! | `GET /v1/head` | the head |
//! | `PUT /v1/presence/{node}`, signed by its agent | 204; kept until it expires; 422 and the reason |
//! | `GET /v1/presence` | the addresses of all nodes that announced one |
//! | `GET /v1/healthz` | 200 |
//!
//! Read in this order:
//!
//! * [`message`]: what goes over the wire.
//! * [`server`]: the server, and how it starts and stops.
//! * [`client`]: the log store that calls it. [`announcer`]: an agent's word about its node.

pub mod message;

pub mod server;

pub mod announcer;
pub mod client;

mod handler;
mod presence;
