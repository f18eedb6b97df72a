//! Waiting for something outside that tells nobody when it is done.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks: a look at all processes takes about a millisecond.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until there is something to see or time is up. It looks at least once.
pub(crate) fn until<T, E>(
    timeout: Duration,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let begun = Instant::now();
    loop {
        let seen = look()?;
        if seen.is_some() || begun.elapsed() >= timeout {
            return Ok(seen);
        }
        thread::sleep(PAUSE);
    }
}
