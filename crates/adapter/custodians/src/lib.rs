//! Key stores behind one port: an encrypted file, PKCS#11, AWS KMS, GCP KMS, Vault Transit.
//!
//! What every store must keep to stands once, in `guard`: usage, scheme, state, limits, and
//! that a signature was verified before anybody gets it. A store itself only asks its product.
//! [`config`] opens one from a file.
//!
//! This crate does not delete keys, and does not decide which key is used for what.

pub mod aws;
pub mod config;
pub mod gcp;
pub mod pkcs11;
pub mod software;
pub mod vault;

mod ecdsa;
mod fault;
mod guard;
mod half;
mod http;
mod oaep;
mod pem;
mod secret_file;
mod wrap;
