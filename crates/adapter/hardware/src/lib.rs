//! Real TEEs as platforms of a keeper: SGX by Gramine, TDX and SEV-SNP by configfs-tsm, Nitro by
//! its security module.
//!
//! Each speaks the interface that the kernel or the library below the keeper offers, checks every
//! answer for its size and for the report data that it was asked for, and says plainly what its
//! platform cannot do. Nothing here verifies signatures: that is what peers do with evidence. What
//! a platform says about the keeper itself comes from the hardware where the interface allows it;
//! where it passes through the host, the module says so.
//!
//! Read in this order:
//!
//! * [`gramine`]: SGX, and why its seal keys do not outlive a microcode update.
//! * [`tsm`]: TDX and SEV-SNP. [`derived_key`]: what SEV-SNP seals with.
//! * [`nsm`]: Nitro, and what an enclave lacks.
//! * [`find`]: which of them is here, without falling back. [`tee`]: the one that somebody named.
//! * [`bound`]: seal keys that only what was read at the start has.
//! * [`device`]: the two devices that are spoken to by ioctl.

pub mod gramine;

pub mod derived_key;
pub mod tsm;

pub mod nsm;

pub mod bound;
pub mod find;
pub mod tee;

pub mod device;

mod derive;
mod file;
pub mod limit;
