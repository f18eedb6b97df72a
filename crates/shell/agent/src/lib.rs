//! The agent of one host: untrusted for secrets, executes its own steps of an approved plan.
//!
//! Everything that decides is in `heirloom_upgrade`. Here are the ports: the journal file, the
//! registry client, and the driver of one node.
//!
//! Read in this order:
//!
//! * [`run`]: the process and its loop.
//! * [`driver`]: one node: platform daemon, admin channels, bundles, sealed state.
//! * [`launcher`]: who starts instances: the platform daemon, or [`commands`] of an operator.
//! * [`instance`], [`bundles`], [`downloads`], [`state_dir`], [`admin`]: what the driver works with.
//! * [`service`]: the driver of the service beside the keeper, for nodes that run one.
//! * [`participant`]: a node that moves a participant and has no keeper.
//! * [`attendance`], [`presence`]: what is said again and again, to keepers and about them.
//! * [`release_watch`], `staging`: which releases are fetched and tried before anybody asks.
//! * [`config`], [`config_file`], [`api`], [`status`], [`freshness`], `warnings`, `stalls`: what operators see.

pub mod run;

pub mod driver;

pub mod admin;
pub mod bundles;
pub mod commands;
pub mod downloads;
pub mod instance;
pub mod launcher;
pub mod state_dir;

pub mod service;

pub mod participant;

pub mod attendance;
pub mod presence;

pub mod release_watch;
mod share;
mod staging;

pub mod api;
pub mod config;
pub mod config_file;
pub mod freshness;
mod stalls;
pub mod status;
mod warnings;
