//! A launcher: measures bundles, launches them, and is their platform.
//!
//! What is below it, a [`machine`](machine::Machine) knows: an emulated CPU, or a TPM. The
//! launcher says to the machine which code asks, by the kernel's word and never by what the code
//! says. It isolates measured processes from other users and processes and from each other, but
//! not from root, from the kernel, or from who can debug them; that is what the machine's evidence
//! is about. Where the kernel alone isolates, each code runs under a [user](users) of its own.
//! Shared libraries and the dynamic loader are the host's and are not measured.
//!
//! Read in this order:
//!
//! * [`manifest`], [`measure`], [`signer`], [`sigstruct`]: what code is, and who signed it.
//! * [`report`]: what a machine says about code to other code.
//! * [`machine`]: what the launcher needs from below.
//! * [`files`], [`randomness`], [`secret_memory`]: what machines need from Linux.
//! * [`bundle`]: what is signed, shipped and launched.
//! * [`users`]: who launched code is to the kernel.
//! * [`protocol`], [`daemon`], [`client`]: measured processes and their platform.
//! * [`probe`]: a measured process for tests.

pub mod manifest;
pub mod measure;
pub mod signer;
pub mod sigstruct;

pub mod report;

pub mod machine;

pub mod files;
pub mod randomness;
pub mod secret_memory;

pub mod bundle;
mod launch;
pub mod users;

pub mod client;
pub mod daemon;
pub mod protocol;

pub mod probe;
