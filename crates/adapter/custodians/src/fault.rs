//! What the answer of a service means, and how often it is asked again.

use std::time::Duration;

use heirloom_participant::custodian::CustodianError;

/// How often one request is sent in all. Four within a second: the caller knows better whether to
/// wait longer.
pub(crate) const ATTEMPTS_MAX: u32 = 4;
/// Before the second one; doubled before each other.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Of the words of an error.
const WORDS_MAX: usize = 400;

/// Whether a request may be sent again when nobody knows if it was carried out.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Repeat {
    /// It changes nothing, or nothing more.
    Always,
    /// It would make a second key.
    IfRefused,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is no such key or alias.
    NotFound,
    /// The alias is taken.
    Exists,
    /// Each of so many attempts was refused for its rate.
    Throttled(u32),
    /// It says no.
    Refused(String),
    /// It cannot do this.
    Unsupported(String),
    /// It is there and does not work now.
    Unavailable(String),
    /// It did not answer, or not in time.
    Silent(String),
    /// It answered something else.
    Strange(String),
}

impl Fault {
    /// Whether the same request is sent again.
    pub(crate) fn is_worth_repeating(&self, repeat: Repeat) -> bool {
        match self {
            Self::Throttled(_) => true,
            Self::Unavailable(_) | Self::Silent(_) => repeat == Repeat::Always,
            Self::NotFound
            | Self::Exists
            | Self::Refused(_)
            | Self::Unsupported(_)
            | Self::Strange(_) => false,
        }
    }

    /// As an error about a request that may (not) have changed something.
    pub(crate) fn in_words(self, place: &str, what: &str, repeat: Repeat) -> CustodianError {
        let (place, what) = (place.to_owned(), what.to_owned());
        match self {
            Self::NotFound => CustodianError::Missing { key: what, place },
            Self::Throttled(attempts) => CustodianError::Throttled { place, attempts },
            Self::Refused(why) => CustodianError::Refused { place, what, why },
            Self::Unsupported(why) => {
                CustodianError::Unsupported { place, what: format!("{what} ({why})") }
            }
            Self::Unavailable(why) | Self::Silent(why) if repeat == Repeat::Always => {
                CustodianError::Unreachable { place, why }
            }
            Self::Unavailable(why) | Self::Silent(why) | Self::Strange(why) => {
                CustodianError::Unknown { place, what, why }
            }
            Self::Exists => {
                CustodianError::Unknown { place, what, why: "the name is taken".to_owned() }
            }
        }
    }
}

/// Words of a service, as many as somebody reads.
pub(crate) fn shortened(words: &str) -> String {
    words.chars().take(WORDS_MAX).collect()
}
