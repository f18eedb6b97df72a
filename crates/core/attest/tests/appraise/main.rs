//! Appraisal of real evidence, and of evidence that differs from it in one field.
//!
//! The vectors are real quotes of real machines with the manufacturer's endorsements of their
//! day. They are kept beside the repository; where they are absent, tests say so and pass. What a
//! manufacturer would have to sign for a test comes from an emulated one.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod accounts;
mod cached;
mod deny;
mod development;
mod endorsements;
mod forge;
mod kinds;
mod local;
mod nitro;
mod oasis_init;
mod oasis_quotes;
mod sgx;
mod snp;
mod tdx;
mod tdx_signed;
mod tpm;
mod vectors;
mod vtpm;
mod worlds;
