//! The appraiser, over evidence of every kind as it arrives: in one byte format.

use std::sync::{LazyLock, Mutex, PoisonError};

use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::decode;
use heirloom_model::evidence::Evidence;
use heirloom_model::wire;

use crate::worlds::{self, Made};

/// Evidence of a manufacturer of our own, and an appraiser that remembers what it verified. Keys
/// are made anew by each process, so that only what it wrote itself is accepted by it.
struct Genuine {
    made: Made,
    cold: Appraiser,
    warm: Mutex<Appraiser>,
}

static GENUINE: LazyLock<Vec<Genuine>> = LazyLock::new(|| {
    let ready = |made: Made| {
        let cold = made.appraiser();
        Genuine { made, warm: Mutex::new(cold.clone()), cold }
    };
    worlds::all().into_iter().map(ready).collect()
});

/// Evidence of any kind.
pub fn appraise(data: &[u8]) -> bool {
    let Ok(evidence) = wire::decode::<Evidence>(data) else { return false };
    drop(decode::unverified(&evidence));
    let mut accepted = false;
    for genuine in GENUINE.iter().filter(|genuine| genuine.made.evidence.kind() == evidence.kind())
    {
        let Made { expected, policy, now, .. } = &genuine.made;
        let cold = genuine.cold.clone().appraise(&evidence, expected, policy, *now);
        let mut warm = genuine.warm.lock().unwrap_or_else(PoisonError::into_inner);
        let again = warm.appraise(&evidence, expected, policy, *now);
        assert_eq!(cold, again, "memory changed an answer");
        let account = genuine.cold.clone().explain(&evidence, expected, policy, *now);
        assert_eq!(account.outcome, cold, "an account says what was decided");
        if let Ok(result) = cold {
            assert_eq!(result.report_data(), expected);
            let first = genuine.made.appraise().unwrap();
            assert_eq!(result.measurement(), first.measurement(), "nobody made this evidence");
            accepted = true;
        }
    }
    accepted
}

/// Evidence of each kind that is made here.
pub fn evidence() -> Vec<Vec<u8>> {
    GENUINE.iter().map(|genuine| wire::encode(&genuine.made.evidence)).collect()
}
