//! A node of the reference ledger, and the tools of its operator.
//!
//! A node is launched and measured like any application. It gets its long-lived key from the
//! keepers of its domain, accepts as peers only its own exact code with its own configuration,
//! agrees with them on blocks, and tells its agent how it is. The tools run on the host, are not
//! measured, and decide nothing that the node or the log does not decide again.
//!
//! It knows no plan: what a flag day asks of it comes over the agent's socket, and what it
//! promises there it keeps.
//!
//! Read in this order:
//!
//! * [`command`], [`configuration`], [`limit`]: what it is told, and its bounds.
//! * [`run`], [`service`], [`instance`]: a node while it runs, and what one start of it has.
//! * [`control`], [`http`]: what it answers its agent, clients and operators.
//! * [`peer`]: who may be a peer, and what peers say to each other.
//! * [`chain`], [`raft`]: the ledger while it runs, and how nodes agree on it.
//! * [`keys`], [`follow`]: its key, and what it believes.
//! * [`tool`], [`wallet`]: everything that runs on the host.
//! * [`log`]: a small thing that several of them need.

pub mod command;
pub mod configuration;
pub mod limit;

pub mod instance;
pub mod run;
pub mod service;

pub mod control;
pub mod http;

pub mod peer;

pub mod chain;
pub mod raft;

pub mod follow;
pub mod keys;

pub mod tool;
pub mod wallet;

pub mod log;

mod propose;
