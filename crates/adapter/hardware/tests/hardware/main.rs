//! Real TEEs behind fake files: what the kernel, Gramine and firmware would answer, and what they
//! should not.
//!
//! Files with the semantics of the real ones need a file system of our own (FUSE). Where none can
//! be mounted, tests that need one print that they were skipped.

mod conformance;
mod find;
mod fuse;
mod gramine;
mod gramine_files;
mod nsm;
mod snp;
mod tdx;
mod tsm_files;
