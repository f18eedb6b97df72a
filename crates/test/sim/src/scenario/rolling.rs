//! Upgrades node by node, called off or gone back on, in fleets of one kind of machine or several.

use std::sync::Arc;

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::digest::{PlanDigest, ReleaseDigest};
use heirloom_model::policy::Policy;
use heirloom_registry::plan::PlanStatus;
use heirloom_testkit::ceremony::{Ceremony, Code};
use heirloom_upgrade::planner::{Arrangement, PlanRequest, WaveSize};

use super::{FAULTY_ROUNDS, Failure, Run, Scenario, publish};
use crate::world::{World, lock};

/// What becomes of an upgrade.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Course {
    There,
    CalledOff,
    AndBack,
}

impl Run {
    pub(super) fn play_rolling(&mut self, scenario: Scenario) -> Result<PlanStatus, Failure> {
        let (old, new) = (Code::named("keeper-1", 1), Code::named("keeper-2", 1));
        let course = self.course(scenario);
        let releases = self.found(old, new)?;
        self.genesis()?;
        let there = self.propose(releases, (old, new), 2)?;
        if course == Course::CalledOff {
            let at = lock(&self.world).below(FAULTY_ROUNDS);
            let abort = lock(&self.world).ceremony.abort(there);
            self.pending.push_back((self.rounds.saturating_add(at), abort));
        }
        self.faulty()?;
        let mut status = self.settle(there)?;
        if course == Course::AndBack && status == PlanStatus::Finished {
            let (to_old, to_new) = releases;
            let back = self.propose((to_new, to_old), (new, old), 4)?;
            self.faulty()?;
            status = self.settle(back)?;
        }
        let again = scenario == Scenario::Mixed && course == Course::CalledOff;
        if again && status == PlanStatus::RolledBack {
            // Code that was tried and started before is tried and started once more.
            let there = self.propose(releases, (old, new), 4)?;
            self.faulty()?;
            status = self.settle(there)?;
        }
        let expected = match (course, status) {
            (Course::AndBack, PlanStatus::Finished) | (_, PlanStatus::RolledBack) => old,
            _ => new,
        };
        self.everybody_serves(expected)?;
        Ok(status)
    }

    fn course(&self, scenario: Scenario) -> Course {
        match scenario {
            Scenario::Abort => Course::CalledOff,
            Scenario::ThereAndBack => Course::AndBack,
            Scenario::Mixed => match lock(&self.world).below(3) {
                0 => Course::There,
                1 => Course::CalledOff,
                _ => Course::AndBack,
            },
            _ => Course::There,
        }
    }

    /// Publishes what a network begins with.
    pub(super) fn found(
        &self,
        old: Code,
        new: Code,
    ) -> Result<(ReleaseDigest, ReleaseDigest), Failure> {
        let mut world = lock(&self.world);
        world.build(new);
        let ceremony = Arc::clone(&world.ceremony);
        let (first, first_digest) = ceremony.release_on_all("keeper-1", &world.on_all(&[old]));
        let (second, second_digest) = ceremony.release_on_all("keeper-2", &world.on_all(&[new]));
        let policy = policy(&world, &ceremony, 1, &[old]);
        for envelope in [
            ceremony.root(),
            ceremony.epoch(Epoch(1)),
            ceremony.fleet(Serial(1), ceremony.nodes(world.nodes.len())),
            ceremony.endorsements(),
            first,
            second,
            ceremony.policy(&policy),
        ] {
            publish(&mut world, &envelope)?;
        }
        Ok((first_digest, second_digest))
    }

    /// Publishes the policy that names the edge, plans, proposes, and lets operators approve:
    /// late, and one of them something else first.
    fn propose(
        &mut self,
        (from, to): (ReleaseDigest, ReleaseDigest),
        (old, new): (Code, Code),
        serial: u64,
    ) -> Result<PlanDigest, Failure> {
        let mut world = lock(&self.world);
        let ceremony = Arc::clone(&world.ceremony);
        let allowing = policy(&world, &ceremony, serial, &[old, new]);
        publish(&mut world, &ceremony.policy(&allowing))?;
        let epoch = world.judge.epoch();
        let withdraw = serial.saturating_add(1);
        let request = PlanRequest {
            domain: ceremony.domain,
            from,
            to,
            arrangement: Arrangement::Rolling {
                wave_size: if world.chance(500) { WaveSize::Half } else { WaveSize::OneByOne },
                upgrade_epoch: Some(Epoch(epoch.0.saturating_add(2))),
                withdraw: Serial(withdraw),
            },
            not_after: Epoch(epoch.0.saturating_add(10_000)),
            nonce: world.nonce(),
        };
        drop(world);
        let plan = self.put_forward(&request)?;
        let mut world = lock(&self.world);
        let digest = plan.digest();
        let mut last = policy(&world, &ceremony, withdraw, &[new]);
        last.completes = Some(digest);
        publish(&mut world, &ceremony.policy(&last))?;
        drop(world);
        self.approve(&plan)?;
        Ok(digest)
    }
}

/// A policy that lets these releases hold on every kind of machine that there is, and each give
/// to every other.
pub(super) fn policy(world: &World, ceremony: &Ceremony, serial: u64, releases: &[Code]) -> Policy {
    let code = world.on_all(releases);
    let edges: Vec<(Code, Code)> = code
        .iter()
        .flat_map(|from| code.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from != to)
        .collect();
    let mut policy = ceremony.policy_of(Serial(serial), &code, &edges);
    policy.appraisal.tpm = world.tpm_rule();
    policy
}
