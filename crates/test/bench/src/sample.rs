//! Percentiles, and time of a processor.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Durations of the same thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Adds others.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The duration that `percent` of them do not exceed, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len().saturating_sub(1) * percent).div_ceil(100);
        milliseconds(sorted.get(at).copied().unwrap_or_default())
    }
}

/// Runs something and says how long it took.
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let result = run();
    (result, begun.elapsed())
}

pub(crate) fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}

/// A number of things as a fraction can have it.
pub(crate) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("nothing is measured more than four billion times"))
}

/// Time that a process has had on all processors.
pub(crate) fn processor_time(process: u32) -> Duration {
    let process = i32::try_from(process).expect("the system numbers processes below 2^31");
    let clock: ClockId = clock_getcpuclockid(Pid::from_raw(process))
        .expect("a child has a clock until it is waited for");
    clock_gettime(clock).expect("the clock of a child can be read").into()
}

/// Time that this thread has had on a processor. Beside a loaded machine's clock it stands still.
pub(crate) fn own_processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a thread has a clock").into()
}
