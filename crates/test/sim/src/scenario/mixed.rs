//! Fleets in which every second machine has a TPM: a keyring moves between kinds, and disks are
//! put back to what they were.

use std::sync::Arc;

use heirloom_model::counter::{Epoch, Generation, Serial};
use heirloom_model::digest::ReleaseDigest;
use heirloom_model::identifier::NodeId;
use heirloom_model::policy::{Policy, Sharing};
use heirloom_model::protocol::ServingState;
use heirloom_registry::plan::PlanStatus;
use heirloom_testkit::ceremony::Code;

use super::{Failure, LIVENESS_ROUNDS_MAX, Run, publish, rolling};
use crate::machine::SimHost;
use crate::world::{SimNode, World, lock};

/// What somebody does to a machine with a TPM whose disk is put back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Counters {
    /// What a TPM does: they stay where they are.
    Stay,
    /// What nobody can do to a TPM: they go back with the disk.
    GoBack,
}

impl Run {
    /// The first policy has no rule for TPMs: until the second one, the machine with a TPM is not
    /// believed anything. Then the keyring moves there, and back, and now and then there again.
    pub(super) fn play_mixed_move(&mut self) -> Result<PlanStatus, Failure> {
        let code = Code::named("keeper-1", 1);
        let release = self.found_mixed_move(code)?;
        self.genesis()?;
        let [here, there] = {
            let world = lock(&self.world);
            let mut names = world.nodes.keys().cloned();
            [names.next(), names.next()].map(|name| name.expect("there are two"))
        };
        if lock(&self.world).registered(&there) {
            return Err(Failure::Believed { holder: there });
        }
        {
            let mut world = lock(&self.world);
            let second = moving(&world, code, 2);
            let second = world.ceremony.policy(&second);
            publish(&mut world, &second)?;
        }
        self.until("the machine with a TPM registers", |world| world.registered(&there))?;
        let moved = (code, release);
        let status = self.move_to(moved, (&here, &there))?;
        if status != PlanStatus::Finished {
            return Ok(status);
        }
        let status = self.move_to(moved, (&there, &here))?;
        if status != PlanStatus::Finished || lock(&self.world).chance(500) {
            return Ok(status);
        }
        // What the machine with a TPM has kept is tried beside new code, and counts all the same.
        self.move_to(moved, (&here, &there))
    }

    fn found_mixed_move(&self, code: Code) -> Result<ReleaseDigest, Failure> {
        let mut world = lock(&self.world);
        let ceremony = Arc::clone(&world.ceremony);
        let (release, digest) = ceremony.release_on_all("keeper-1", &world.on_all(&[code]));
        let mut first = moving(&world, code, 1);
        first.appraisal.tpm = None;
        for envelope in [
            ceremony.root(),
            ceremony.epoch(Epoch(1)),
            ceremony.fleet(Serial(1), ceremony.nodes(world.nodes.len())),
            ceremony.endorsements(),
            release,
            ceremony.policy(&first),
        ] {
            publish(&mut world, &envelope)?;
        }
        Ok(digest)
    }

    /// The disks of one node of each kind are put back to what they were before the newest
    /// generation. The emulated CPU does not notice: its keeper hears from the log what it
    /// misses, and asks its peers. The TPM has counted, so its keeper does nothing any more until
    /// an operator takes the old files away.
    pub(super) fn play_mixed_restored(&mut self) -> Result<PlanStatus, Failure> {
        let code = Code::named("keeper-1", 1);
        self.found(code, Code::named("keeper-2", 1))?;
        self.genesis()?;
        let (emulated, tpm) = {
            let world = lock(&self.world);
            let first = |is: fn(&SimHost) -> bool| {
                world.nodes.iter().find(|(_, node)| is(&node.host)).map(|(name, _)| name.clone())
            };
            let emulated = first(|host| matches!(host, SimHost::Emulated(_)));
            let tpm = first(|host| matches!(host, SimHost::Tpm(_)));
            (emulated.expect("there are two"), tpm.expect("there are two"))
        };
        let before = lock(&self.world).snapshot(&tpm);
        let disks = [&emulated, &tpm].map(|name| lock(&self.world).node(name).disk.live.clone());
        self.generation(Generation(2))?;
        let counters =
            if lock(&self.world).chance(300) { Counters::GoBack } else { Counters::Stay };
        for (name, live) in [&emulated, &tpm].into_iter().zip(disks) {
            let mut world = lock(&self.world);
            world.note(|| format!("{name}: somebody puts its disk back"));
            let node = world.node(name);
            node.processes.clear();
            node.disk.live = live;
            self.ledger.forget(name);
        }
        if counters == Counters::GoBack
            && let SimHost::Tpm(machine) = &lock(&self.world).node(&tpm).host
        {
            machine.turn_back(before);
        }
        self.faulty()?;
        if counters == Counters::Stay {
            self.until("the TPM's keeper notices", |world| {
                state(world, &tpm, code) == Some(ServingState::RolledBack)
            })?;
            let mut world = lock(&self.world);
            let node = world.node(&tpm);
            node.processes.clear();
            let old = std::mem::take(&mut node.disk.live);
            node.disk.quarantine.extend(old);
        }
        self.everybody_serves(code)?;
        Ok(PlanStatus::Finished)
    }

    /// Lets rounds pass until something is so.
    fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut World) -> bool,
    ) -> Result<(), Failure> {
        let limit = self.rounds.saturating_add(LIVENESS_ROUNDS_MAX);
        while !holds(&mut lock(&self.world)) {
            if self.rounds > limit {
                return Err(Failure::Stuck(format!("{what}: {:?}", self.nodes())));
            }
            self.round()?;
        }
        Ok(())
    }
}

/// A policy of an exclusive domain that may move between kinds.
fn moving(world: &World, code: Code, serial: u64) -> Policy {
    let mut policy = rolling::policy(world, &world.ceremony, serial, &[code]);
    policy.sharing = Sharing::Exclusive;
    policy.holders_min = 1;
    policy
}

fn state(world: &World, node: &NodeId, code: Code) -> Option<ServingState> {
    let node: &SimNode = world.nodes.get(node)?;
    let process = node.processes.get(&node.host.code(code).measurement)?;
    Some(process.keeper.state_at(world.now))
}

impl World {
    /// Whether the log believes the code that a node runs.
    fn registered(&self, node: &NodeId) -> bool {
        let domain = self.judge.domain(&self.ceremony.domain);
        domain.is_some_and(|domain| domain.registration(node).is_some())
    }

    /// Where the counters of a machine with a TPM stand.
    fn snapshot(&mut self, node: &NodeId) -> heirloom_testkit::machine::Counters {
        match &self.node(node).host {
            SimHost::Tpm(machine) => machine.counters(),
            SimHost::Emulated(_) => heirloom_testkit::machine::Counters::new(),
        }
    }
}
