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
//! * [`account`]: what one appraisal checked, for people.
//! * [`local`]: reports between enclaves of one CPU.
//! * [`endorse`]: manufacturers' statements, and when they expire.
//! * [`chain`]: certificate paths and for how long they hold.
//! * [`snp`], [`nitro`], [`tpm`], [`hcl`]: what evidence of one kind proves, before any policy.
//! * [`decode`]: claims of a quote that nobody verified, for people.
//! * [`oasis`]: what an Oasis key manager says about itself.

pub mod account;
pub mod appraiser;
pub mod error;
pub mod local;
pub mod result;

pub mod endorse;

pub mod chain;
pub mod hcl;
pub mod nitro;
pub mod snp;
pub mod tpm;

mod cache;
mod dcap;
mod diagnose;
mod pki;
mod quote;
mod revocation;
mod td_report;

pub mod decode;
pub mod oasis;
