//! Handovers: on one host, to another host, and to itself after a microcode update.

use std::collections::BTreeMap;
use std::sync::Arc;

use heirloom_keeper::intent::Intent;
use heirloom_keeper::port::{StateStore, StoreError};
use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::digest::{PlanDigest, ReleaseDigest};
use heirloom_model::domain::{ActivationCause, PlanStep};
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::Action;
use heirloom_model::policy::{Policy, Sharing, UpdateMode};
use heirloom_model::protocol::ServingState;
use heirloom_registry::plan::{PlanState, PlanStatus};
use heirloom_testkit::ceremony::{Ceremony, Code};
use heirloom_upgrade::planner::{Arrangement, PlanRequest};

use super::{FAULTY_ROUNDS, Failure, Run, Scenario, Weather, publish};
use crate::machine::SimHost;
use crate::world::{Process, World, lock};

/// The code of these scenarios.
struct Cast {
    old: Code,
    new: Code,
    upgrader: Code,
    /// Carries the keyring on the way back: an upgrader is upgraded by using another one.
    second_upgrader: Code,
}

/// Their releases.
struct Releases {
    old: ReleaseDigest,
    new: ReleaseDigest,
    upgrader: ReleaseDigest,
    second_upgrader: ReleaseDigest,
}

impl Cast {
    fn new() -> Self {
        Self {
            old: Code::named("keeper-1", 1),
            new: Code::named("keeper-2", 1),
            upgrader: Code::upgrader("upgrader-1", 1),
            second_upgrader: Code::upgrader("upgrader-2", 1),
        }
    }

    /// Every edge of a handover there and back.
    fn edges(&self) -> [(Code, Code); 4] {
        [
            (self.old, self.upgrader),
            (self.upgrader, self.new),
            (self.new, self.second_upgrader),
            (self.second_upgrader, self.old),
        ]
    }
}

impl Run {
    pub(super) fn play_handover(&mut self, scenario: Scenario) -> Result<PlanStatus, Failure> {
        let cast = Cast::new();
        let releases = self.found_handover(&cast)?;
        self.genesis()?;
        let update = if scenario == Scenario::Auto { UpdateMode::Auto } else { UpdateMode::Ask };
        self.allow(&cast, update)?;
        let way = (releases.old, releases.upgrader, releases.new);
        let there = if scenario == Scenario::Auto {
            self.hand_over_by_itself(way)?
        } else {
            self.hand_over(way)?
        };
        if scenario == Scenario::HandoverAbort {
            self.call_off(there);
        }
        if scenario == Scenario::Clones {
            self.faulty_with_clones()?;
        } else {
            self.faulty()?;
        }
        let mut status = self.settle(there)?;
        let mut expected = if status == PlanStatus::Finished { cast.new } else { cast.old };
        if scenario == Scenario::HandoverThereAndBack && status == PlanStatus::Finished {
            let back = self.hand_over((releases.new, releases.second_upgrader, releases.old))?;
            self.faulty()?;
            status = self.settle(back)?;
            expected = if status == PlanStatus::Finished { cast.old } else { cast.new };
        }
        self.node_serves(expected)?;
        Ok(status)
    }

    /// An operator will call a plan off, at any moment of the faulty phase.
    fn call_off(&mut self, plan: PlanDigest) {
        let at = lock(&self.world).below(FAULTY_ROUNDS);
        let abort = lock(&self.world).ceremony.abort(plan);
        self.pending.push_back((self.rounds.saturating_add(at), abort));
    }

    /// As [`Self::call_off`], in some of the runs.
    fn maybe_call_off(&mut self, plan: PlanDigest) {
        if lock(&self.world).chance(400) {
            self.call_off(plan);
        }
    }

    /// The node's own agent plans and proposes, and nobody approves.
    fn hand_over_by_itself(
        &mut self,
        (from, via, to): (ReleaseDigest, ReleaseDigest, ReleaseDigest),
    ) -> Result<PlanDigest, Failure> {
        let node = lock(&self.world).nodes.keys().next().cloned().expect("there is one");
        let arrangement = Arrangement::Handover { node: node.clone(), via, withdraw: None };
        let plan = self.draw_up(&self.request((from, to), arrangement))?;
        let agent = self.agents.get_mut(&node).expect("it ran through genesis");
        let proposed = agent.propose(&plan).map_err(|error| Failure::Plan(error.to_string()))?;
        let status = lock(&self.world).judge.plan(&plan.digest()).map(PlanState::status);
        if status != Some(PlanStatus::Approved) {
            return Err(Failure::Plan(format!("{proposed:?}, and it is {status:?}")));
        }
        Ok(plan.digest())
    }

    /// The node that was handed over comes to serve; others keep the code that they have.
    fn node_serves(&mut self, code: Code) -> Result<(), Failure> {
        let limit = self.rounds.saturating_add(super::LIVENESS_ROUNDS_MAX);
        loop {
            let serves = {
                let world = lock(&self.world);
                let first = world.nodes.values().next();
                first
                    .and_then(|node| node.processes.get(&code.measurement))
                    .is_some_and(|it| it.keeper.state_at(world.now) == ServingState::Ready)
            };
            if serves {
                return Ok(());
            }
            if self.rounds > limit {
                return Err(Failure::Stuck(format!("the node does not serve: {:?}", self.nodes())));
            }
            self.round()?;
        }
    }

    pub(super) fn play_move(&mut self) -> Result<PlanStatus, Failure> {
        let cast = Cast::new();
        let releases = self.found_handover(&cast)?;
        self.genesis()?;
        let (here, there) = {
            let world = lock(&self.world);
            let mut names = world.nodes.keys().cloned();
            (names.next().expect("there are two"), names.next().expect("there are two"))
        };
        let moved = (cast.old, releases.old);
        let status = self.move_to(moved, (&here, &there))?;
        if status != PlanStatus::Finished || lock(&self.world).chance(500) {
            return Ok(status);
        }
        self.move_to(moved, (&there, &here))
    }

    /// Moves the keyring from one node to another, which then serves.
    pub(super) fn move_to(
        &mut self,
        (code, release): (Code, ReleaseDigest),
        (from_node, to_node): (&NodeId, &NodeId),
    ) -> Result<PlanStatus, Failure> {
        let (from_node, to_node) = (from_node.clone(), to_node.clone());
        let request = self
            .request((release, release), Arrangement::Move { from_node, to_node: to_node.clone() });
        let plan = self.put_forward(&request)?;
        self.approve(&plan)?;
        self.maybe_call_off(plan.digest());
        self.faulty()?;
        let status = self.settle(plan.digest())?;
        self.everybody_serves(code)?;
        let world = lock(&self.world);
        let moved = world.nodes.get(&to_node).is_some_and(|node| {
            node.processes.values().any(|it| it.keeper.state_at(world.now) == ServingState::Ready)
        });
        if status == PlanStatus::Finished && !moved {
            return Err(Failure::Stuck("another node serves than the plan says".to_owned()));
        }
        Ok(status)
    }

    pub(super) fn play_reseal(&mut self) -> Result<PlanStatus, Failure> {
        let cast = Cast::new();
        let releases = self.found_handover(&cast)?;
        self.genesis()?;
        let node = {
            let mut world = lock(&self.world);
            let name = world.nodes.keys().next().cloned().expect("there is one");
            let root = Arc::clone(&world.ceremony);
            let node = world.node(&name);
            node.processes.clear();
            let SimHost::Emulated(host) = &node.host else {
                return Err(Failure::Stuck("only an emulated machine has microcode".to_owned()));
            };
            host.update_microcode().map_err(|error| Failure::Stuck(error.to_string()))?;
            let _certificate = host.certify_again(&root.manufacturer);
            name
        };
        self.everybody_serves(cast.old)?;
        let request =
            self.request((releases.old, releases.old), Arrangement::Reseal { node: node.clone() });
        let plan = self.put_forward(&request)?;
        self.approve(&plan)?;
        self.maybe_call_off(plan.digest());
        self.faulty()?;
        let status = self.settle(plan.digest())?;
        self.everybody_serves(cast.old)?;
        let world = lock(&self.world);
        let sealing = world.nodes.get(&node).and_then(|node| {
            Some(node.processes.values().next()?.keeper.status(world.now).sealing)
        });
        let current = sealing == Some(heirloom_model::admin::SealingAge::Current);
        if status == PlanStatus::Finished && !current {
            return Err(Failure::Stuck("not everything is sealed again".to_owned()));
        }
        Ok(status)
    }

    /// Publishes what a network with upgraders begins with.
    fn found_handover(&self, cast: &Cast) -> Result<Releases, Failure> {
        let mut world = lock(&self.world);
        for code in [cast.old, cast.new, cast.upgrader, cast.second_upgrader] {
            world.build(code);
        }
        let ceremony = Arc::clone(&world.ceremony);
        let (old, old_digest) = ceremony.release("keeper-1", &cast.old);
        let (new, new_digest) = ceremony.release("keeper-2", &cast.new);
        let (upgrader, upgrader_digest) = ceremony.release("upgrader-1", &cast.upgrader);
        let (second, second_digest) = ceremony.release("upgrader-2", &cast.second_upgrader);
        let policy = self.policy(&ceremony, 1, &[cast.old], &[]);
        for envelope in [
            ceremony.root(),
            ceremony.epoch(Epoch(1)),
            ceremony.fleet(Serial(1), ceremony.nodes(world.nodes.len())),
            ceremony.endorsements(),
            old,
            new,
            upgrader,
            second,
            ceremony.policy(&policy),
        ] {
            publish(&mut world, &envelope)?;
        }
        Ok(Releases {
            old: old_digest,
            new: new_digest,
            upgrader: upgrader_digest,
            second_upgrader: second_digest,
        })
    }

    fn policy(
        &self,
        ceremony: &Ceremony,
        serial: u64,
        code: &[Code],
        edges: &[(Code, Code)],
    ) -> Policy {
        let mut policy = ceremony.policy_of(Serial(serial), code, edges);
        policy.sharing = self.sharing;
        policy.forget_after_epochs = 1;
        if self.sharing == Sharing::Exclusive {
            policy.holders_min = 1;
        }
        policy
    }

    /// Publishes the policy that names the edges.
    fn allow(&self, cast: &Cast, update: UpdateMode) -> Result<(), Failure> {
        let mut world = lock(&self.world);
        let ceremony = Arc::clone(&world.ceremony);
        let code = [cast.old, cast.new, cast.upgrader, cast.second_upgrader];
        let policy = Policy { update, ..self.policy(&ceremony, 2, &code, &cast.edges()) };
        publish(&mut world, &ceremony.policy(&policy))
    }

    fn request(
        &self,
        (from, to): (ReleaseDigest, ReleaseDigest),
        arrangement: Arrangement,
    ) -> PlanRequest {
        let mut world = lock(&self.world);
        PlanRequest {
            domain: world.ceremony.domain,
            from,
            to,
            arrangement,
            not_after: Epoch(world.judge.epoch().0.saturating_add(10_000)),
            nonce: world.nonce(),
        }
    }

    /// Plans a handover of the first node, and lets operators approve it.
    fn hand_over(
        &mut self,
        (from, via, to): (ReleaseDigest, ReleaseDigest, ReleaseDigest),
    ) -> Result<PlanDigest, Failure> {
        let node = lock(&self.world).nodes.keys().next().cloned().expect("there is one");
        let arrangement = Arrangement::Handover { node, via, withdraw: None };
        let plan = self.put_forward(&self.request((from, to), arrangement))?;
        self.approve(&plan)?;
        Ok(plan.digest())
    }

    /// The safety phase, while somebody copies the sealed state, starts it, and even has the
    /// agent's key. In the end the copies are gone, and what they have pushed aside starts anew.
    fn faulty_with_clones(&mut self) -> Result<(), Failure> {
        let faults = crate::world::Faults::draw(&mut lock(&self.world));
        lock(&self.world).faults = faults;
        for _ in 0..FAULTY_ROUNDS {
            self.disturb(Weather::ROUGH);
            play_clones(&mut lock(&self.world));
            self.round()?;
        }
        let mut world = lock(&self.world);
        world.faults = crate::world::Faults::NONE;
        world.clones.clear();
        for node in world.nodes.values_mut() {
            node.partitioned = false;
            node.processes.clear();
        }
        Ok(())
    }
}

/// Now and then starts a copy; lets each follow the log, and try to become the active one.
fn play_clones(world: &mut World) {
    if world.chance(15) && world.clones.len() < 3 {
        start_clone(world);
    }
    if world.chance(20) {
        world.clones.pop();
    }
    let mut clones = std::mem::take(&mut world.clones);
    for clone in &mut clones {
        if world.chance(300) {
            live(world, clone);
        }
    }
    world.clones = clones;
}

fn start_clone(world: &mut World) {
    let Some(home) = world.nodes.keys().next().cloned() else { return };
    // Whatever lies on the disk: what is live, and what was put into quarantine long ago.
    let disk = world.node(&home).disk.clone();
    let seats: Vec<_> = disk.live.into_iter().chain(disk.quarantine).collect();
    let count = u32::try_from(seats.len()).unwrap_or(u32::MAX);
    let index = usize::try_from(world.below(count)).unwrap_or(0);
    let Some((code, files)) = seats.into_iter().nth(index) else { return };
    if let Ok(clone) = world.launch(&home, &code, &files) {
        world.note(|| format!("{home}: somebody starts a copy of {code}"));
        world.clones.push(clone);
    }
}

/// What the agent of a copy would do for it.
fn live(world: &mut World, clone: &mut Process) {
    let ticket = clone.keeper.attend(world.now);
    let from = usize::try_from(clone.keeper.position().length.0).unwrap_or(usize::MAX);
    let entries: Vec<_> = world.entries.iter().skip(from).cloned().collect();
    let Ok(intent) = clone.keeper.follow(&clone.enclave, &entries, Some(ticket), world.now) else {
        return;
    };
    // It writes into its own copy, which nobody reads.
    if let Ok(receipt) = Intent::persist(&intent, &mut Elsewhere(BTreeMap::new())) {
        let _position = clone.keeper.complete(intent, receipt);
    }
    if clone.keeper.state_at(world.now) != ServingState::Standby {
        return;
    }
    let registered = clone.keeper.register(&clone.enclave).ok();
    let cause = any_cause(world);
    let active = clone.keeper.activate(&clone.enclave, cause).ok();
    for statement in [registered, active].into_iter().flatten() {
        let signed = world.ceremony.countersigned(&statement);
        let head = world.judge.position().length;
        if world.append(head, &signed).is_ok() {
            let node: NodeId = clone.keeper.config().node.clone();
            world.note(|| format!("{node}: a copy is believed"));
        }
    }
}

/// What somebody who wants to be active could claim.
fn any_cause(world: &mut World) -> ActivationCause {
    let plan = world.judge.active_plan(&world.ceremony.domain);
    let planned = plan.and_then(|plan| {
        let activates = |action: &Action| matches!(action, Action::Activate(_));
        let step = plan.plan().steps.iter().find(|step| activates(&step.action))?;
        Some(ActivationCause::Planned(PlanStep { plan: *plan.digest(), step: step.id }))
    });
    match world.below(4) {
        0 => ActivationCause::First,
        1 => planned.unwrap_or(ActivationCause::Restarted),
        _ => ActivationCause::Restarted,
    }
}

struct Elsewhere(BTreeMap<String, Vec<u8>>);

impl StateStore for Elsewhere {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        self.0.remove(name);
        Ok(())
    }
}
