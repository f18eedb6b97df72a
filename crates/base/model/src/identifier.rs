//! Names and identifiers.

use std::str::FromStr;

use crate::digest::sha256;
use crate::text::text_forms;
use crate::{context, fixed_bytes};

/// Why text is not a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{what} {found:?} must have 1 to {limit} characters out of a-z, 0-9, '.', '_' and '-', \
     the first of them a letter or digit",
    limit = NAME_CHARACTERS_MAX
)]
pub struct ParseNameError {
    /// The type that was expected.
    pub what: &'static str,
    /// The text.
    pub found: String,
}

/// The longest name: what DNS allows for a label, since operators will use host names.
pub const NAME_CHARACTERS_MAX: usize = 63;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $what:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if is_name(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(ParseNameError { what: $what, found: text.to_owned() })
            }
        }

        text_forms!($name);
    )+};
}

fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    text.len() <= NAME_CHARACTERS_MAX
        && text.bytes().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
}

names! {
    /// An application that asks for keys. Its keys outlive its measurement.
    ApplicationId: "application";
    /// A set of nodes that one event can take away together.
    FailureDomain: "failure domain";
    /// A machine.
    HostId: "host";
    /// The name that an application gives to one of its keys.
    KeyId: "key";
    /// A change of a database's layout.
    MigrationName: "migration";
    /// One keeper's place in a fleet.
    NodeId: "node";
    /// A person or team that proposes and approves upgrades.
    OperatorId: "operator";
    /// Something that is tried before clients are let in.
    TestName: "test";
    /// The name and version of a release, for people: `keeper-2.0.0`.
    ReleaseName: "release";
}

fixed_bytes! {
    /// A namespace of keys with one policy. (Oasis: the runtime id of a key manager.)
    DomainId[32];
    /// One platform: the PPID of an SGX or TDX machine, the chip identifier of an SEV-SNP one, the
    /// module identifier of a Nitro one, or the endorsement key of a TPM, hashed.
    PlatformId[32];
}

impl PlatformId {
    /// The platform of an SGX machine, from the PPID in its PCK certificate.
    pub fn of_ppid(ppid: &[u8; 16]) -> Self {
        Self::new(sha256(&[context::SGX_PPID, ppid]))
    }

    /// The platform of an SEV-SNP machine, from the `CHIP_ID` of its reports (AMD 56860, ATTESTATION
    /// REPORT).
    pub fn of_chip(chip: &[u8; 64]) -> Self {
        Self::new(sha256(&[context::SNP_CHIP, chip]))
    }

    /// The platform of a Nitro enclave: the instance in `module_id`, without the enclave's own part.
    pub fn of_module(instance: &str) -> Self {
        Self::new(sha256(&[context::NITRO_MODULE, instance.as_bytes()]))
    }

    /// The platform of a TPM, from the `SubjectPublicKeyInfo` (DER) of its endorsement key.
    pub fn of_endorsement_key(spki: &[u8]) -> Self {
        Self::new(sha256(&[context::TPM_EK, spki]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_plain_and_not_empty() {
        for good in ["a", "node-1", "keeper-2.0.0", "7", &"x".repeat(63)] {
            assert!(good.parse::<NodeId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".", "../x", "A", "a b", "ä", "a/b", &"x".repeat(64)] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }
}
