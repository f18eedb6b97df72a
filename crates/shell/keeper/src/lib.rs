//! The keeper's process: wires the keeper core to one platform, its files and its sockets.
//!
//! There is no decision about keys here. Threads and blocking calls only: requests are short, and
//! what waits is bounded by named limits. The library runs a keeper inside any process that has a
//! platform for it, which is how tests and benchmarks do it; the binary runs it in a measured one.
//!
//! Read in this order:
//!
//! * [`run`]: start, wait, stop.
//! * [`service`]: what an agent may ask, carried out one after the other.
//! * [`replicate`]: receiving a keyring from whoever has it. [`hand_over`]: by a step of a plan.
//! * [`peers`], [`admin`]: the two sockets. [`door`]: where the second one is.
//! * [`directory`]: sealed files.
//! * [`ground`]: what it runs on, and where its manifest comes from.
//! * [`arguments`], [`log`], [`limit`]: how it is called, what it says, its bounds.
//!   [`clock`]: how long it may believe something.

pub mod run;
pub mod service;

pub mod admin;
pub mod hand_over;
pub mod peers;
pub mod replicate;

pub mod arguments;
pub mod clock;
pub mod directory;
pub mod door;
pub mod ground;
pub mod limit;
pub mod log;
