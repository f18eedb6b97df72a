//! A reference participant: the services of a real one, small, durable, and without its language.
//!
//! It answers clients as a real participant of its configured version does: the same messages, the
//! same refusals, the same bytes of topology and contracts. What it does not have is an engine:
//! who signs a contract is whoever acts, and of choices there is one. With it come a synchronizer,
//! which participants agree through, and small clients for demonstrations.
//!
//! It is no part of a migration. Whoever migrates sees its services only.
//!
//! Read in this order:
//!
//! * [`command`], [`configuration`], [`version`], [`limit`]: what it is told, and its bounds.
//! * [`store`], [`record`]: what it keeps.
//! * [`crypto`], [`versioned`], [`topology`]: who may do what.
//! * [`synchronizer`]: what everybody agrees on.
//! * [`node`], [`values`], [`repair`]: one participant.
//! * [`service`], [`run`]: what it answers, and the processes.
//! * [`client`]: what demonstrations ask of it.
//! * [`clock`], [`log`]: small things that several of them need.

pub mod command;
pub mod configuration;
pub mod limit;
pub mod version;

pub mod record;
pub mod store;

pub mod crypto;
pub mod topology;
pub mod versioned;

pub mod synchronizer;

pub mod node;
pub mod repair;
pub mod values;

pub mod run;
pub mod service;

pub mod client;

pub mod clock;
pub mod log;
