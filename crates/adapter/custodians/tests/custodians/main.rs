//! Every custodian against the suite that all of them must pass, and what is special to each.

mod aws;
mod fake;
mod localstack;
mod pkcs11;
mod software;
