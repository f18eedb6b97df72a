//! Folds the log of signed statements into the trusted state of a network.
//!
//! Whoever uses the registry folds its log with this crate, keepers included: the same entries
//! give the same state everywhere. The registry orders statements and is trusted for nothing
//! else. A statement that breaks a rule stays in the log without any effect, so a registry that
//! stores junk stops nobody.
//!
//! This is not a store, and not a judge of upgrades: it says which statements count, and
//! `heirloom_upgrade` says whether a gate is open.
//!
//! Read in this order:
//!
//! * [`verified`]: what a signature buys; the one function that counts a threshold.
//! * [`network`]: [`NetworkState`](network::NetworkState), the fold, and what it knows.
//! * [`domain`], [`plan`]: what it knows about one domain and one plan.
//! * [`standing`]: what the services of a plan stated, and whether they agree.
//! * [`migration`]: what nodes stated that move participants, and what operators agreed to.
//! * [`activity`]: which instance of an exclusive domain is the active one.
//! * [`refusal`]: every reason for which a statement does not count.
//! * [`port`]: the log store that the fold reads from.

pub mod verified;

pub mod activity;
pub mod domain;
pub mod migration;
pub mod network;
pub mod plan;
pub mod refusal;
pub mod standing;

pub mod port;

mod rule;
mod shape;
