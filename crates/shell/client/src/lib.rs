//! The client library: an attested application gets keys from attested holders.
//!
//! A client follows the registry log itself, attests every keeper that it talks to, shows its own
//! evidence, and keeps sessions for the next request. A keeper that drains, stops or lags is
//! replaced by another one within the caller's deadline. In an exclusive domain only the instance
//! that the log names as the active holder is asked and believed; when another takes its place,
//! the client is there within milliseconds. A refusal by policy is an answer, and ends the call.
//!
//! It is not a cache: every key comes from a holder, at every call.
//!
//! Read in this order:
//!
//! * [`client`]: [`Client`](client::Client) and its two verbs.
//! * [`key`], [`error`]: how a call ends.
//! * [`port`], [`limit`]: what it needs, and its bounds.

pub mod client;
pub mod error;
pub mod key;
pub mod limit;
pub mod port;

mod follower;
mod holders;
mod round;
