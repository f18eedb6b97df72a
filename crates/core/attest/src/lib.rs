//! Appraises evidence against endorsements and an appraisal policy, and returns an attestation
//! result or the reason why not.
//!
//! There is no boolean here and no way around: [`appraiser::Appraiser::appraise`] is the only
//! function in the workspace that makes an [`result::AttestationResult`], and
//! [`local::appraise_local`] the only one that makes a [`local::LocalAttestation`]. A development platform
//! takes the same way as a production one; only the trust anchor differs, and the result says so.
//! Nothing here reads a clock, a file or a network.
//!
//! Read in this order:
//!
//! * [`appraiser`]: the one verb, and the order in which things are refused.
//! * [`result`], [`error`]: its two answers.
//! * [`local`]: reports between enclaves of one CPU.
//! * [`endorse`]: manufacturers' statements, and when they expire.
//! * [`decode`]: claims of a quote that nobody verified, for people.
//! * [`oasis`]: what an Oasis key manager says about itself.

pub mod appraiser;
pub mod error;
pub mod local;
pub mod result;

pub mod endorse;

mod cache;
mod dcap;
mod diagnose;
mod pki;
mod quote;

pub mod decode;
pub mod oasis;
