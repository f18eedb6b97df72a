//! Counters that only grow, and time that is an argument.

use std::fmt;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd,
            minicbor::Encode, minicbor::Decode,
        )]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl $name {
            /// The next value, or none at the end of the range.
            #[must_use]
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }

            /// The value before, or none at zero.
            #[must_use]
            pub fn previous(self) -> Option<Self> {
                self.0.checked_sub(1).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

counters! {
    /// The network's unit of time: an entry in the log, never a wall clock.
    Epoch;
    /// One master secret of a domain's keyring. The first is 0; each rotation adds one.
    Generation;
    /// Position in the registry log. The first entry is 0.
    LogIndex;
    /// Which of a domain's plans may act. Stale actors are refused.
    PlanNumber;
    /// Version of a root or a policy. Never decreases.
    Serial;
    /// Security version of a release (SGX: ISVSVN). Never decreases along an edge.
    SecurityVersion;
    /// Seconds since 1970-01-01T00:00:00Z.
    Time;
    /// Milliseconds of one process's clock that never goes back and counts while the machine
    /// sleeps. Means nothing to anybody else.
    Moment;
}

impl Time {
    /// The time `seconds` later, at most the end of the range.
    #[must_use]
    pub fn after(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

impl Moment {
    /// The moment `milliseconds` later, at most the end of the range.
    #[must_use]
    pub fn after(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}
