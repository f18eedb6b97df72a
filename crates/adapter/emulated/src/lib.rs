//! An emulated CPU with the semantics of SGX: measured launch, sealing to exactly this code on
//! exactly this CPU, reports, and quotes in the DCAP format under a development root.
//!
//! It is honest: it measures what it launches, keeps its fuses from what it launches, and signs
//! quotes that the production verifier checks; only the trust anchor differs. It is not a TEE: it
//! isolates measured processes from other users and processes and from each other, but not from
//! root, from the kernel, or from who can debug them. Shared libraries and the dynamic loader are
//! the host's and are not measured.
//!
//! Read in this order:
//!
//! * [`manifest`], [`measure`], [`signer`], [`sigstruct`]: what code is, and who signed it.
//! * [`report`], [`cpu`]: what a CPU does for enclaves.
//! * [`provisioning`], [`quote`]: the manufacturer, and what machines prove with its word.
//! * [`host`]: one machine in this process, for tests and simulation.
//!
//! Everything up to here is pure. The rest is a real machine's worth of Linux:
//!
//! * [`files`], [`state`], [`secret_memory`]: directories of manufacturer and machine.
//! * [`bundle`]: what is signed, shipped and launched.
//! * [`protocol`], [`daemon`], [`client`]: measured processes and their platform.

mod ecdsa;

pub mod manifest;
pub mod measure;
pub mod signer;
pub mod sigstruct;

pub mod cpu;
pub mod report;

pub mod provisioning;
pub mod quote;

pub mod host;

pub mod files;
pub mod secret_memory;
pub mod state;

pub mod bundle;
mod launch;

pub mod client;
pub mod daemon;
pub mod protocol;
