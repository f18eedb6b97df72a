//! Every custodian against the suite that all of them must pass, and what is special to each.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod aws;
mod exchange;
mod fake;
mod gcp;
mod localstack;
mod pkcs11;
mod software;
mod vault;
