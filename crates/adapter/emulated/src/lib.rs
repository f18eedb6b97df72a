//! An emulated CPU with the semantics of SGX: measured launch, sealing to exactly this code on
//! exactly this CPU, reports, and quotes in the DCAP format under a development root.
//!
//! It is honest: it keeps its fuses from what is launched on it, and signs quotes that the
//! production verifier checks; only the trust anchor differs. It is not a TEE: see
//! [`heirloom_launcher`] for what isolates its processes, and what does not.
//!
//! Read in this order:
//!
//! * [`cpu`]: what a CPU does for enclaves.
//! * [`provisioning`], [`quote`]: the manufacturer, and what machines prove with its word.
//! * [`host`]: one machine in this process, for tests and simulation.
//!
//! Everything up to here is pure. The rest is on disk:
//!
//! * [`state`]: directories of manufacturer and machine.
//! * [`machine`]: the machine in a directory, below a launcher.

mod ecdsa;

pub mod cpu;

pub mod provisioning;
pub mod quote;

pub mod host;

pub mod machine;
pub mod state;
