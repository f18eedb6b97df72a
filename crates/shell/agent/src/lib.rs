//! The agent of one host: untrusted for secrets, executes its own steps of an approved plan.
//!
//! Everything that decides is in `heirloom_upgrade`. Here are the ports: the journal file, the
//! registry client, and the driver of one keeper.
//!
//! Read in this order:
//!
//! * [`run`]: the process and its loop.
//! * [`driver`]: one node: platform daemon, admin channel, bundles, sealed state.
//! * [`bundles`], [`state_dir`], [`admin`]: what the driver works with.
//! * [`config`], [`api`], [`status`], `warnings`: what operators see.

pub mod run;

pub mod driver;

pub mod admin;
pub mod bundles;
pub mod state_dir;

pub mod api;
pub mod config;
pub mod status;
mod warnings;
