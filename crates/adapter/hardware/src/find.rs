//! Which real TEE is here.
//!
//! Nothing falls back: a TEE that is there and does not work stops a keeper, because what it would
//! run on instead is not what somebody asked for.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity};
use heirloom_model::evidence::Certificate;

use crate::device::{self, SecurityModule, SevGuest};
use crate::gramine::{self, Gramine};
use crate::nsm::Nsm;
use crate::tsm::{self, Tsm};

/// Where to look.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Places {
    /// Gramine's files.
    pub gramine: PathBuf,
    /// The security module of a Nitro enclave.
    pub nsm: PathBuf,
    /// The directory for questions of configfs-tsm.
    pub tsm: PathBuf,
    /// The device of a SEV-SNP guest.
    pub sev_guest: PathBuf,
}

impl Default for Places {
    /// Where Linux and Gramine have them.
    fn default() -> Self {
        Self {
            gramine: gramine::ROOT.into(),
            nsm: device::NSM.into(),
            tsm: tsm::ROOT.into(),
            sev_guest: device::SEV_GUEST.into(),
        }
    }
}

/// An interface to a TEE.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Interface {
    /// SGX by Gramine.
    Gramine,
    /// Nitro by its security module.
    Nsm,
    /// TDX and SEV-SNP by configfs-tsm.
    Tsm,
}

impl Interface {
    /// All of them, in the order in which they are looked for: the innermost first.
    pub const ALL: [Self; 3] = [Self::Gramine, Self::Nsm, Self::Tsm];
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gramine => "gramine",
            Self::Nsm => "nsm",
            Self::Tsm => "tsm",
        })
    }
}

/// One place that was looked at.
pub struct Sighting {
    /// What was looked for.
    pub interface: Interface,
    /// Where.
    pub place: PathBuf,
    /// What is there.
    pub state: State,
}

/// What is at a place.
pub enum State {
    /// Nothing.
    Absent,
    /// A TEE that answers.
    Usable {
        /// The TEE.
        platform: Box<dyn Platform + Send + Sync>,
        /// Who it says we are.
        identity: PlatformIdentity,
    },
    /// Something that does not answer as it should.
    Unusable(PlatformError),
}

/// Everything that was looked at, in the order of [`Interface::ALL`].
pub struct Found(pub Vec<Sighting>);

/// Why no TEE was chosen.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FindError {
    /// Nothing is here.
    #[error("no TEE is here: there is neither {}", .0.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(" nor "))]
    Absent(Vec<PathBuf>),
    /// Something is here that does not work.
    #[error("{interface} is here at {place} and cannot be used", place = .place.display())]
    Unusable {
        /// What.
        interface: Interface,
        /// Where.
        place: PathBuf,
        /// Why.
        #[source]
        error: PlatformError,
    },
    /// More than one is here. A process runs in one, and whatever answers beside it is not known.
    #[error("more than one TEE is here: {first} and {second}")]
    Several {
        /// One.
        first: Interface,
        /// Another.
        second: Interface,
    },
}

/// Looks at every place. `certificates` are as for [`Tsm::open`].
pub fn find(places: &Places, certificates: &[Certificate]) -> Found {
    let look = |interface| {
        let place = places.of(interface);
        let state = state(place, || open(interface, places, certificates));
        Sighting { interface, place: place.to_owned(), state }
    };
    Found(Interface::ALL.into_iter().map(look).collect())
}

/// Opens one interface, which somebody named.
pub fn open(
    interface: Interface,
    places: &Places,
    certificates: &[Certificate],
) -> Result<Box<dyn Platform + Send + Sync>, PlatformError> {
    Ok(match interface {
        Interface::Gramine => Box::new(Gramine::open(&places.gramine)?),
        Interface::Nsm => Box::new(Nsm::open(Box::new(SecurityModule::open(&places.nsm)?))?),
        Interface::Tsm => {
            let device = Box::new(SevGuest::at(&places.sev_guest));
            Box::new(Tsm::open(&places.tsm, certificates.to_vec(), device)?)
        }
    })
}

impl Found {
    /// The one TEE that is here, if it is the only one and nothing else is broken.
    pub fn only(self) -> Result<(Interface, Box<dyn Platform + Send + Sync>), FindError> {
        let mut absent = Vec::new();
        let mut usable: Option<(Interface, Box<dyn Platform + Send + Sync>)> = None;
        for Sighting { interface, place, state } in self.0 {
            match (state, &usable) {
                (State::Absent, _) => absent.push(place),
                (State::Unusable(error), _) => {
                    return Err(FindError::Unusable { interface, place, error });
                }
                (State::Usable { .. }, Some((first, _))) => {
                    return Err(FindError::Several { first: *first, second: interface });
                }
                (State::Usable { platform, .. }, None) => usable = Some((interface, platform)),
            }
        }
        usable.ok_or(FindError::Absent(absent))
    }
}

impl Places {
    /// Where an interface is looked for.
    pub fn of(&self, interface: Interface) -> &Path {
        match interface {
            Interface::Gramine => &self.gramine,
            Interface::Nsm => &self.nsm,
            Interface::Tsm => &self.tsm,
        }
    }
}

/// A TEE is usable if it says who we are.
fn state(
    place: &Path,
    open: impl FnOnce() -> Result<Box<dyn Platform + Send + Sync>, PlatformError>,
) -> State {
    match place.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => State::Absent,
        Err(error) => State::Unusable(crate::file::unreachable(place, &error)),
        Ok(_) => match open().and_then(|platform| Ok((platform.identity()?, platform))) {
            Ok((identity, platform)) => State::Usable { platform, identity },
            Err(error) => State::Unusable(error),
        },
    }
}
