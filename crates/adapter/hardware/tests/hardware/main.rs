//! Real TEEs behind fake files: what the kernel, Gramine and firmware would answer, and what they
//! should not.
//!
//! Files with the semantics of the real ones need a file system of our own (FUSE). Where none can
//! be mounted, tests that need one print that they were skipped.

#[cfg(test)]
mod bound;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod find;
#[cfg(test)]
mod gramine;
#[cfg(test)]
mod nsm;
#[cfg(test)]
mod snp;
#[cfg(test)]
mod tdx;
