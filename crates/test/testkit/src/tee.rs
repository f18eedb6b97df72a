//! TEEs behind fake files and devices: what the kernel, Gramine and firmware would answer.
//!
//! Files with the semantics of the real ones need a file system of our own (FUSE), which only who
//! may mount can have: elsewhere tests that need one print that they were skipped, and fail if `CI` is
//! set. A process in a
//! mount namespace of its own sees them where the real ones are.

pub mod cage;
pub mod devices;
pub mod fuse;
pub mod gramine_files;
pub mod nitro;
pub mod tsm_files;
