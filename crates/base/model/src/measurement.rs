//! What a TEE loaded.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::digest::{ParseHexError, parse_hex};
use crate::fixed_bytes;

fixed_bytes! {
    /// SGX: digest of an enclave's pages as they were added (SDM volume 3D, 38.4.1.1).
    MrEnclave[32];
    /// SGX: SHA-256 of the modulus of the key that signed the enclave's SIGSTRUCT.
    MrSigner[32];
}

/// Digest of the code that a TEE loaded.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Measurement {
    /// An SGX enclave, by MRENCLAVE. The signer is never enough to hold a key.
    #[n(0)]
    Sgx(#[n(0)] MrEnclave),
}

impl Measurement {
    /// Whether the digest is all zero, as debug enclaves of some platforms report it.
    pub fn is_zero(&self) -> bool {
        let Self::Sgx(digest) = self;
        digest.as_bytes().iter().all(|byte| *byte == 0)
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Sgx(digest) = self;
        write!(f, "sgx:{digest}")
    }
}

impl FromStr for Measurement {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sgx:").unwrap_or(text);
        parse_hex("measurement", digits).map(|bytes| Self::Sgx(MrEnclave::new(bytes)))
    }
}
