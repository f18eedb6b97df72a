//! What each fuzz target does with its bytes, and from which bytes it starts.
//!
//! A target says whether its bytes went all the way through, so that a test can tell that genuine
//! ones do. It panics when something that was read does not keep a promise: what is written again
//! is the same, and what is accepted says what the genuine evidence says.
//!
//! The same functions run over seeded mutations in this crate's tests, always, and behind
//! libFuzzer in `coverage`, where there is a nightly compiler: `cargo xtask fuzz`.
//!
//! Read in this order:
//!
//! * [`target`]: the list. [`mutate`]: changes that are the same on every machine.
//! * [`intel`], [`amd`], [`nitro`], [`tpm`], [`vtpm`]: evidence and what belongs to it.
//! * [`appraisal`]: the appraiser over all of them. [`wire`]: the byte formats of the model.
//! * [`canton`]: files and messages of Canton, by the functions of `crates/core/canton/fuzz`.

#![expect(clippy::print_stderr, reason = "a vector that is not here is skipped aloud")]
#![expect(clippy::unwrap_used, reason = "genuine bytes that cannot be read are a bug here")]

pub mod mutate;
pub mod target;

pub mod amd;
pub mod intel;
pub mod nitro;
pub mod tpm;
pub mod vtpm;

pub mod appraisal;
pub mod canton;
pub mod wire;

#[path = "../../../core/attest/tests/appraise/forge.rs"]
#[allow(dead_code, reason = "tests of the verifiers make more than starts")]
mod forge;
#[path = "../../../core/attest/tests/appraise/vectors.rs"]
#[allow(dead_code, reason = "tests of the verifiers read more than starts")]
mod vectors;
#[path = "../../../core/attest/tests/appraise/worlds.rs"]
#[allow(dead_code, reason = "tests of the verifiers make more than starts")]
mod worlds;

/// As the crate of real platforms reads what hosts write.
#[path = "../../../adapter/hardware/src/tsm/certificates.rs"]
mod host_certificates;

/// What [`host_certificates`] is limited by.
mod limit {
    pub(crate) use heirloom_hardware::limit::CERTIFICATES_MAX;
}
