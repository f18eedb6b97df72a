//! Counters that only some code on some machine can raise, and nobody can lower.

use heirloom_keeper::port::{Platform as _, PlatformError};
use heirloom_model::digest::CounterName;

use super::{Feature, Has as _, PlatformWorld, Variant};

const NAME: CounterName = CounterName::new([1; CounterName::BYTES]);
const OTHER: CounterName = CounterName::new([2; CounterName::BYTES]);

pub(super) fn run<W: PlatformWorld>(mut factory: impl FnMut() -> W) {
    if factory().has(Feature::Counter) {
        a_counter_goes_up_by_single_steps_and_never_down(&mut factory());
        nobody_else_has_the_counter(&mut factory());
    } else {
        is_refused(&mut factory());
    }
}

/// A platform without counters says so.
fn is_refused(world: &mut impl PlatformWorld) {
    let enclave = world.start(Variant::Original);
    for refused in [enclave.counter(&NAME).err(), enclave.raise(&NAME, 1).err()] {
        assert!(matches!(refused, Some(PlatformError::Unsupported(_))), "{refused:?}");
    }
}

fn a_counter_goes_up_by_single_steps_and_never_down(world: &mut impl PlatformWorld) {
    let enclave = world.start(Variant::Original);
    assert_eq!(enclave.counter(&NAME), Ok(0));
    for to in [1, 2, 3] {
        assert_eq!(enclave.raise(&NAME, to), Ok(()));
        assert_eq!(enclave.counter(&NAME), Ok(to));
    }
    for repeated in [3, 1, 0] {
        assert_eq!(enclave.raise(&NAME, repeated), Ok(()), "it stands higher already");
    }
    assert_eq!(enclave.raise(&NAME, 5), Err(PlatformError::CounterJump { stands: 3, to: 5 }));
    let again = world.start(Variant::Original);
    assert_eq!(again.counter(&NAME), Ok(3), "another instance");
    assert_eq!(again.counter(&OTHER), Ok(0), "another counter");
}

fn nobody_else_has_the_counter(world: &mut impl PlatformWorld) {
    let original = world.start(Variant::Original);
    assert_eq!(original.raise(&NAME, 1), Ok(()));
    for variant in [Variant::OtherMeasurement, Variant::DebugTwin, Variant::OtherCpu] {
        let other = world.start(variant);
        assert_eq!(other.counter(&NAME), Ok(0), "{variant:?}");
        assert_eq!(other.raise(&NAME, 1), Ok(()), "{variant:?}");
        assert_eq!(other.raise(&NAME, 2), Ok(()), "{variant:?}");
    }
    assert_eq!(original.counter(&NAME), Ok(1), "nobody else has raised it");
}
