//! Planning and checking an upgrade of the largest fleet. The floor is the plan's own encoding,
//! written once.

use std::hint::black_box;
use std::path::Path;

use heirloom_model::wire;
use heirloom_upgrade::checker::{Severity, check_from};
use heirloom_upgrade::planner::{WaveSize, plan_from};

use crate::figure::{Better, Figure};
use crate::sample::timed;

#[path = "../../../core/upgrade/tests/common/mod.rs"]
mod fleet;

const NODES: usize = 10_000;
/// Repetitions; the fastest counts, since nothing else is measured than one thread that computes.
const ROUNDS: usize = 3;

/// Measures.
pub(crate) fn measure(_directory: &Path, report: &mut dyn FnMut(&Figure)) {
    let inventory = fleet::large(NODES);
    for (name, size) in [
        ("half and half", WaveSize::Half),
        ("waves of 100", WaveSize::Count(100)),
        ("one by one", WaveSize::OneByOne),
    ] {
        let request = fleet::request(size);
        let (mut whole, mut floor) = (f64::INFINITY, f64::INFINITY);
        let (mut planning, mut bytes) = (0.0, 0);
        for _ in 0..ROUNDS {
            let (planned, plan_took) = timed(|| plan_from(black_box(&request), &inventory));
            let (plan, _) = planned.expect("the fleet is sound");
            let (findings, check_took) = timed(|| check_from(black_box(&plan), &inventory));
            let faults = findings.iter().filter(|it| it.severity() == Severity::Error).count();
            assert_eq!(faults, 0, "the checker finds nothing in the planner's plan");
            let (encoded, encode_took) = timed(|| wire::encode(black_box(&plan)));
            bytes = encoded.len();
            let both = (plan_took + check_took).as_secs_f64();
            if both < whole {
                (whole, planning) = (both, plan_took.as_secs_f64());
            }
            floor = floor.min(encode_took.as_secs_f64());
        }
        report(&Figure {
            name: "planning",
            what: format!("plan and check for {NODES} nodes, {name}"),
            unit: "s",
            better: Better::Less,
            value: whole,
            floor: Some(floor),
            target: Some("below 1 s".to_owned()),
            note: format!("{planning:.2} s of it planning; the plan has {bytes} bytes"),
        });
    }
}
