//! Named limits of a client, with their reasons.

use std::time::Duration;

/// How long one holder may take to attest and answer before the next one is asked. A holder that
/// is well takes milliseconds.
pub const ATTEMPT_TIME: Duration = Duration::from_secs(2);

/// How often holders are tried for one call, whatever its deadline.
pub const ATTEMPTS_MAX: usize = 10_000;

/// Holders that are kept in mind: as many as one would ask in one call.
pub const SOURCES_MAX: usize = 64;

/// How long the follower waits for the next entry before it asks who is present.
pub(crate) const WATCH_TIME: Duration = Duration::from_millis(250);

/// How long the follower rests after the registry could not be reached.
pub(crate) const REST_TIME: Duration = Duration::from_millis(100);

/// First pause after every known holder was tried in vain; each next one is twice as long.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(5);

/// The longest such pause: a holder starts in less.
pub(crate) const PAUSE_MAX: Duration = Duration::from_millis(200);
