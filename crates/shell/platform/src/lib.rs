//! What `heirloom-platformd` does, as functions: the emulated manufacturer, its machines, the
//! daemon of a machine, and the bundles that it launches.
//!
//! Nothing here decides anything that `heirloom_emulated` and `heirloom_tpm` do not. The clock is an argument; the
//! binary reads it.
//!
//! Read in this order:
//!
//! * [`root`], [`machine`]: the manufacturer's directory, and a machine's.
//! * [`tpm`], [`attestation_ca`]: a machine with a TPM, and who certifies its attestation key.
//! * [`bundle`]: signing and measuring what a machine launches.
//! * [`seclusion`]: how it keeps what it knows to itself.
//! * [`error`]: why any of it was not done.

pub mod attestation_ca;
pub mod bundle;
pub mod machine;
pub mod root;
pub mod seclusion;
pub mod tpm;

pub mod error;
