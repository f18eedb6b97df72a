//! Named limits of a client, with their reasons.

use std::time::Duration;

/// How long one holder may take to attest and answer before the next one is asked. A holder that
/// is well takes milliseconds.
pub const ATTEMPT_TIME: Duration = Duration::from_secs(2);

/// How often holders are tried for one call, whatever its deadline.
pub const ATTEMPTS_MAX: usize = 100_000;

/// Holders that are kept in mind: as many as one would ask in one call.
pub const SOURCES_MAX: usize = 64;

/// How long the follower waits for the next entry before it looks whether it should end.
pub(crate) const WATCH_TIME: Duration = Duration::from_millis(250);

/// How old what is known about who is present may become while all is well.
pub(crate) const PRESENCE_TIME: Duration = Duration::from_millis(250);

/// The least time between two questions about who is present, however urgent they are.
pub(crate) const PRESENCE_REST: Duration = Duration::from_millis(5);

/// How long the follower rests after the registry could not be reached.
pub(crate) const REST_TIME: Duration = Duration::from_millis(100);

/// How long to pause after every known holder was tried in vain, by the time since the first such
/// failure. A keyring that is handed over is away for moments, so the first pauses are short; what
/// is away for longer is not asked all the time.
pub(crate) fn pause(failing_for: Duration) -> Duration {
    const SHORT: Duration = Duration::from_millis(5);
    const MIDDLE: Duration = Duration::from_millis(10);
    const LONG: Duration = Duration::from_millis(200);
    if failing_for < Duration::from_millis(500) {
        SHORT
    } else if failing_for < Duration::from_secs(1) {
        MIDDLE
    } else {
        (failing_for / 10).min(LONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_short_at_first_and_never_long() {
        for (failing_ms, longest_ms) in [(0, 5), (499, 5), (500, 10), (999, 10), (86_400_000, 200)]
        {
            let pause = pause(Duration::from_millis(failing_ms));
            assert!(pause <= Duration::from_millis(longest_ms), "{failing_ms}: {pause:?}");
            assert!(pause >= Duration::from_millis(5), "{failing_ms}: {pause:?}");
        }
    }
}
