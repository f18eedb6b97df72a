//! The TEE that somebody named, or none.
//!
//! A keeper never guesses where it runs. What is named must be what is here, and the only one: a
//! machine on which something else answers, too, is not the machine that its operator described.

use std::fmt;
use std::str::FromStr;

use heirloom_keeper::port::{Platform, PlatformError};
use heirloom_model::evidence::Certificate;
use heirloom_model::measurement::TeeKind;

use crate::find::{FindError, Interface, Places, find};

/// A TEE by the name that operators use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tee {
    /// SGX by Gramine.
    Gramine,
    /// A TDX trust domain.
    Tdx,
    /// A SEV-SNP guest.
    Snp,
    /// A Nitro enclave.
    Nitro,
}

/// A word that names no TEE.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not gramine, tdx, snp or nitro")]
pub struct UnknownTee(pub String);

/// Why the TEE that was named is not used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NamedError {
    /// There is not exactly one that works.
    #[error("{named} was named, and cannot be used")]
    Find {
        /// What was named.
        named: Tee,
        /// What was found.
        #[source]
        error: FindError,
    },
    /// Another one is here.
    #[error("{named} was named, and what is here is {kind} by {interface}")]
    Another {
        /// What was named.
        named: Tee,
        /// Who answers.
        interface: Interface,
        /// What it is.
        kind: TeeKind,
    },
    /// It does not say who we are any more.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

impl Tee {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gramine, Self::Tdx, Self::Snp, Self::Nitro];

    /// Who answers there.
    pub fn interface(self) -> Interface {
        match self {
            Self::Gramine => Interface::Gramine,
            Self::Tdx | Self::Snp => Interface::Tsm,
            Self::Nitro => Interface::Nsm,
        }
    }

    /// Of which kind its measurements are.
    pub fn kind(self) -> TeeKind {
        match self {
            Self::Gramine => TeeKind::Sgx,
            Self::Tdx => TeeKind::Tdx,
            Self::Snp => TeeKind::Snp,
            Self::Nitro => TeeKind::Nitro,
        }
    }

    /// The word that names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gramine => "gramine",
            Self::Tdx => "tdx",
            Self::Snp => "snp",
            Self::Nitro => "nitro",
        }
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Tee {
    type Err = UnknownTee;

    fn from_str(word: &str) -> Result<Self, UnknownTee> {
        let mut all = Self::ALL.into_iter();
        all.find(|tee| tee.name() == word).ok_or_else(|| UnknownTee(word.to_owned()))
    }
}

/// Opens the TEE that was named, if it is the only one here. `certificates` are as for
/// [`Tsm::open`](crate::tsm::Tsm::open).
pub fn named(
    named: Tee,
    places: &Places,
    certificates: &[Certificate],
) -> Result<Box<dyn Platform + Send + Sync>, NamedError> {
    let only = find(places, certificates).only();
    let (interface, platform) = only.map_err(|error| NamedError::Find { named, error })?;
    let kind = platform.identity()?.measurement.kind();
    if (interface, kind) != (named.interface(), named.kind()) {
        return Err(NamedError::Another { named, interface, kind });
    }
    Ok(platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tee_has_one_name_and_nothing_else_is_one() {
        for tee in Tee::ALL {
            assert_eq!(tee.name().parse(), Ok(tee));
        }
        for word in ["", "sgx", "Gramine", "sev-snp", "nitro ", "tpm"] {
            assert_eq!(word.parse::<Tee>(), Err(UnknownTee(word.to_owned())));
        }
    }
}
