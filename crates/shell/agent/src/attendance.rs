//! Attending to keepers while a tick takes long.
//!
//! The active holder of an exclusive domain serves only while its agent shows it the end of the
//! log again and again. Every tick does. Some ticks start processes or move keyrings, which takes
//! longer than a keeper may wait: meanwhile, this thread does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use heirloom_model::limit::ATTENDANCE_MILLISECONDS;
use heirloom_upgrade::attendance::{concerns, renew};

use crate::driver::KeeperDriver;

/// After so long without a tick this thread steps in; and a tick must come that often.
pub const TICK_MAX: Duration = Duration::from_millis(ATTENDANCE_MILLISECONDS / 4);
/// How long one instance is waited for: there may be another one behind it.
const ANSWER_MAX: Duration = Duration::from_millis(ATTENDANCE_MILLISECONDS / 8);

/// When the loop last did what this thread would do.
pub struct Heartbeat {
    beat: Mutex<Instant>,
    is_exclusive: AtomicBool,
}

impl Heartbeat {
    /// Now, in a domain that nobody knows yet.
    pub fn new() -> Self {
        Self { beat: Mutex::new(Instant::now()), is_exclusive: AtomicBool::new(false) }
    }

    /// The loop has just attended to everybody, in such a domain.
    pub fn beat(&self, now: Instant, is_exclusive: bool) {
        self.is_exclusive.store(is_exclusive, Ordering::Relaxed);
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Whether the loop is busy for so long that somebody else must attend.
    fn is_overdue(&self, now: Instant) -> bool {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_exclusive.load(Ordering::Relaxed) && now.duration_since(beat) >= TICK_MAX
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts the thread.
pub fn watch_over(
    mut driver: KeeperDriver,
    heartbeat: Arc<Heartbeat>,
    stopping: Arc<AtomicBool>,
) -> std::io::Result<()> {
    let attend = move || {
        while !stopping.load(Ordering::Relaxed) {
            std::thread::sleep(TICK_MAX / 2);
            if heartbeat.is_overdue(Instant::now()) {
                attend_all(&mut driver);
            }
        }
    };
    std::thread::Builder::new().name("attendance".to_owned()).spawn(attend).map(drop)
}

fn attend_all(driver: &mut KeeperDriver) {
    let observed = match driver.observe_within(ANSWER_MAX) {
        Ok(observed) => observed,
        Err(error) => {
            tracing::debug!(%error, "nobody was attended to");
            return;
        }
    };
    let registry = Arc::clone(&driver.registry);
    for status in observed.running.values().filter(|status| concerns(status)) {
        if let Err(error) = renew(&registry, driver, status) {
            tracing::debug!(%error, code = %status.measurement, "an instance was not attended to");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_else_attends_only_in_exclusive_domains_and_only_when_a_tick_is_overdue() {
        let heartbeat = Heartbeat::new();
        let start = Instant::now();
        assert!(!heartbeat.is_overdue(start + TICK_MAX * 2), "nobody knows the domain");
        heartbeat.beat(start, true);
        assert!(!heartbeat.is_overdue(start + TICK_MAX / 2));
        assert!(heartbeat.is_overdue(start + TICK_MAX));
        heartbeat.beat(start + TICK_MAX, true);
        assert!(!heartbeat.is_overdue(start + TICK_MAX));
        heartbeat.beat(start, false);
        assert!(!heartbeat.is_overdue(start + TICK_MAX * 2), "every holder serves");
    }
}
