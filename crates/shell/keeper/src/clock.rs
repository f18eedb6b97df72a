//! The clock by which an instance of an exclusive domain knows how long it may believe that it is
//! the active one.
//!
//! It counts while the machine sleeps and never goes back. Nobody but this process compares its
//! moments, and nothing but that belief rests on it: the network's time is in the log.

use heirloom_model::counter::Moment;
use nix::time::{ClockId, clock_gettime};

/// This moment.
pub fn now() -> Moment {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock");
    let since_boot = std::time::Duration::from(since_boot);
    Moment(u64::try_from(since_boot.as_millis()).expect("no machine runs for so many years"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_only_grow() {
        let moments: Vec<Moment> = (0..1_000).map(|_| now()).collect();
        assert!(moments.is_sorted());
        assert!(moments[0] > Moment(0));
    }
}
