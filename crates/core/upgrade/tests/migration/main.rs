//! Participants that move to another key store: planned, checked, carried out in peace, killed at
//! every point, and where an operator, a node or a snapshot does not go along.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod check;
mod driver;
mod fail;
mod rules;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use heirloom_model::counter::{Epoch, Time};
use heirloom_model::digest::{Nonce, sha256};
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Plan, StepOutcome};
use heirloom_model::wire;
use heirloom_registry::plan::{PlanState, PlanStatus};
use heirloom_upgrade::agent::{Agent, AgentError, Tick};
use heirloom_upgrade::gate::Waiting;
use heirloom_upgrade::inventory::participants::Participants;
use heirloom_upgrade::journal::Progress;
use heirloom_upgrade::planner::migration::{MigrationRequest, plan_from};
use heirloom_upgrade::port::keeperless::Keeperless;

use crate::driver::{Driver, Journal, Log};
use crate::world::{Fault, HALF, OFF, ON, Shared, World, lock};

pub(crate) type TestAgent = Agent<Journal, Log, Keeperless<Driver>>;

/// Rounds in which everything of these tests is over.
const ROUNDS_MAX: u32 = 400;

pub(crate) fn agent(world: &Shared, node: &NodeId) -> TestAgent {
    let seen = lock(world);
    let key = seen.ceremony.agent_key(node);
    let journal = &seen.hosts[node].journal;
    let progress = Progress::recover(journal.iter().map(Vec::as_slice)).unwrap();
    let ports = (
        Journal(world.clone(), node.clone()),
        Log(world.clone(), node.clone()),
        Keeperless { participant: Driver(world.clone(), node.clone()) },
    );
    Agent::recover(node.clone(), key, seen.state.clone(), progress, ports)
}

/// A number of nodes with an approved plan.
pub(crate) struct Move {
    pub(crate) world: Shared,
    pub(crate) agents: BTreeMap<NodeId, TestAgent>,
    pub(crate) plan: Plan,
    /// What each agent came to last.
    pub(crate) last: BTreeMap<NodeId, Result<Tick, String>>,
    /// Whether operators agree as soon as they are asked.
    pub(crate) agrees: bool,
}

pub(crate) fn request(world: &World, nodes: usize) -> MigrationRequest {
    let names: Vec<NodeId> = world.hosts.keys().take(nodes).cloned().collect();
    MigrationRequest {
        domain: world.ceremony.domain,
        operator: world.operator_of(&names[0]),
        nodes: names,
        opens: Epoch(3),
        abort_after: Some(Epoch(30)),
        not_after: Epoch(40),
        nonce: Nonce::new([6; 32]),
    }
}

pub(crate) fn planned(world: &World, nodes: usize) -> Plan {
    let known = Participants::of(&world.state, &world.ceremony.domain).unwrap();
    plan_from(&request(world, nodes), &known).unwrap().0
}

pub(crate) fn approve(world: &mut World, plan: &Plan) {
    let proposal = world.ceremony.proposal(plan);
    world.accept(&proposal);
    for operator in 0..2 {
        let approval = world.ceremony.approval(plan.digest(), operator, Epoch(50));
        world.accept(&approval);
    }
}

pub(crate) fn moving(nodes: usize) -> Move {
    let mut world = World::new(nodes);
    let plan = planned(&world, nodes);
    approve(&mut world, &plan);
    let world = Arc::new(Mutex::new(world));
    let agents = plan.nodes.iter().map(|node| (node.clone(), agent(&world, node))).collect();
    Move { world, agents, plan, last: BTreeMap::new(), agrees: true }
}

impl Move {
    pub(crate) fn status(&self) -> PlanStatus {
        self.asked(PlanState::status)
    }

    pub(crate) fn asked<T>(&self, ask: impl FnOnce(&PlanState) -> T) -> T {
        ask(lock(&self.world).state.plan(&self.plan.digest()).unwrap())
    }

    /// Lets the agent of a node do one thing. A process that died is followed by a new one.
    pub(crate) fn tick(&mut self, node: &NodeId) {
        let mut count = 0_u8;
        let mut random = || {
            count += 1;
            Nonce::new(sha256(&[b"test nonce", &[count]]))
        };
        let ticked = self.agents.get_mut(node).unwrap().tick(Time(1), &mut random);
        if let Err(AgentError::Read(_) | AgentError::History(_) | AgentError::CorruptJournal(_)) =
            &ticked
        {
            panic!("{ticked:?}");
        }
        if ticked.is_err() {
            let next = agent(&self.world, node);
            self.agents.insert(node.clone(), next);
        }
        self.guard();
        self.last.insert(node.clone(), ticked.map_err(|error| error.to_string()));
    }

    /// What must hold at every moment: source and target of a node are never connected together
    /// while the target has contracts of the plan, and nobody settles before the commit.
    fn guard(&self) {
        let committed = self.asked(|plan| plan.done_at(self.plan.point_of_no_return).is_some());
        for host in lock(&self.world).hosts.values() {
            let imported = !host.imported.is_empty();
            let both = host.source.connection != OFF && imported;
            assert!(!both, "{} answers twice", host.node);
            assert!(committed || !imported || host.target.connection != ON, "settled too early");
            assert!(!imported || host.safeguarded.len() == 1, "imported without a copy");
        }
    }

    /// Everybody does one thing.
    pub(crate) fn round(&mut self) {
        for node in self.plan.nodes.clone() {
            self.tick(&node);
        }
        let waits = |wanted: fn(&Waiting) -> bool| {
            self.last.values().any(|ticked| match ticked {
                Ok(Tick::Idle(waiting)) => waiting.iter().any(wanted),
                Ok(_) | Err(_) => false,
            })
        };
        let epoch = waits(|it| matches!(it, Waiting::Epoch { .. }));
        let consent = waits(|it| matches!(it, Waiting::Consent { .. }));
        if epoch {
            self.next_epoch();
        }
        if consent && self.agrees && self.asked(|plan| plan.settled_map().is_ok()) {
            self.agree();
        }
    }

    /// Every operator who has not agreed does.
    pub(crate) fn agree(&self) {
        let mut world = lock(&self.world);
        let digest = self.plan.digest();
        for node in &self.plan.nodes {
            let plan = world.state.plan(&digest).unwrap();
            if !plan.agreements().contains_key(&world.operator_of(node)) {
                let agreement = world.agreement(digest, node);
                world.accept(&agreement);
            }
        }
    }

    pub(crate) fn next_epoch(&self) {
        let mut world = lock(&self.world);
        let next = Epoch(world.state.epoch().0 + 1);
        let next = world.ceremony.epoch(next);
        world.accept(&next);
    }

    /// Lets all agents go on until it is as wished.
    pub(crate) fn run(&mut self, wished: impl Fn(&Self) -> bool) {
        for _ in 0..ROUNDS_MAX {
            if wished(self) {
                return;
            }
            self.round();
        }
        panic!("{:?}: {:?}", self.status(), self.last);
    }

    pub(crate) fn finish(&mut self) {
        self.run(|it| it.status() == PlanStatus::Finished);
        for host in lock(&self.world).hosts.values() {
            assert_eq!(host.target.connection, ON);
            assert_eq!(host.source.connection, OFF);
            assert_eq!(host.imported.len(), host.contracts.len());
            assert_eq!(host.keys_made, 1, "one set of keys, whatever died");
        }
    }

    /// How it looks when everything is back.
    pub(crate) fn is_back(&mut self) {
        self.run(|it| it.status() == PlanStatus::RolledBack);
        for host in lock(&self.world).hosts.values() {
            assert_eq!(host.source.connection, ON, "{}", host.node);
            assert!(host.imported.is_empty(), "{}", host.node);
            assert_ne!(host.target.connection, HALF, "{}", host.node);
        }
    }
}

#[test]
fn one_operator_moves_by_itself_and_is_asked_nothing() {
    let mut it = moving(1);
    it.agrees = false;
    it.finish();
    let node = it.plan.nodes[0].clone();
    let calls = lock(&it.world).hosts[&node].calls.clone();
    let expected = [
        "survey",
        "enroll",
        "allocate",
        "supply",
        "quiesce",
        "export",
        "rewrite",
        "safeguard",
        "import",
        "connect",
        "reconcile",
        "settle",
    ];
    assert_eq!(calls, expected);
    assert!(
        it.asked(|plan| plan.results().values().all(|(it, _)| it.outcome == StepOutcome::Done))
    );
}

#[test]
fn three_operators_move_together() {
    let mut it = moving(3);
    it.finish();
    assert_eq!(it.asked(|plan| plan.agreements().len()), 3);
}

#[test]
fn nothing_gets_a_new_name_before_every_operator_agreed() {
    let mut it = moving(2);
    it.agrees = false;
    let waits = |it: &Move| {
        it.last.values().any(|ticked| {
            matches!(ticked, Ok(Tick::Idle(waiting))
                if waiting.iter().any(|it| matches!(it, Waiting::Consent { .. })))
        })
    };
    it.run(waits);
    let [first, second] = [0, 1].map(|at: usize| it.plan.nodes[at].clone());
    let digest = it.plan.digest();
    {
        let mut world = lock(&it.world);
        let agreement = world.agreement(digest, &first);
        world.accept(&agreement);
    }
    for _ in 0..20 {
        it.round();
    }
    assert!(lock(&it.world).hosts.values().all(|host| !host.calls.contains(&"supply")));
    let missing = lock(&it.world).operator_of(&second);
    let told = format!("{:?}", it.last);
    assert!(told.contains(missing.as_str()), "{told}");
    it.agrees = true;
    it.finish();
}

#[test]
fn a_process_that_dies_at_any_change_loses_nothing() {
    for nodes in [1, 2] {
        for after in [false, true] {
            for left in 1..200 {
                let mut it = moving(nodes);
                let node = it.plan.nodes[0].clone();
                lock(&it.world).fault = Some(Fault { node, left, after });
                it.finish();
                if lock(&it.world).fault.is_some() {
                    assert!(left > 50, "{left} changes are few");
                    break;
                }
            }
        }
    }
}

#[test]
fn an_abort_after_any_round_brings_every_source_back() {
    for nodes in [1, 2] {
        for rounds in 0..200 {
            let mut it = moving(nodes);
            for _ in 0..rounds {
                it.round();
            }
            let abort = lock(&it.world).ceremony.abort(it.plan.digest());
            let refusal = lock(&it.world).refusal(&abort);
            if refusal != "accepted" {
                assert_eq!(refusal, "plan-status");
                assert!(rounds > 20, "{rounds}");
                it.finish();
                break;
            }
            lock(&it.world).accept(&abort);
            it.is_back();
        }
    }
}

#[test]
fn the_way_back_survives_a_process_that_dies() {
    for after in [false, true] {
        for left in 1..60 {
            let mut it = moving(2);
            it.run(|it| lock(&it.world).hosts.values().all(|host| host.calls.contains(&"connect")));
            let node = it.plan.nodes[1].clone();
            let abort = lock(&it.world).ceremony.abort(it.plan.digest());
            lock(&it.world).accept(&abort);
            lock(&it.world).fault = Some(Fault { node, left, after });
            it.is_back();
            if lock(&it.world).fault.is_some() {
                break;
            }
        }
    }
}

#[test]
fn the_deadline_calls_it_off() {
    let mut it = moving(2);
    it.run(|it| lock(&it.world).hosts.values().any(|host| host.calls.contains(&"quiesce")));
    while lock(&it.world).state.epoch() <= Epoch(30) {
        it.next_epoch();
    }
    it.is_back();
}

/// Nobody named a deadline, and a node never goes on: its source comes back all the same.
#[test]
fn a_plan_without_a_deadline_ends_with_its_last_epoch_and_not_with_sources_that_are_off() {
    for by_planner in [false, true] {
        let mut world = World::new(2);
        let wish = MigrationRequest { abort_after: None, ..request(&world, 2) };
        let known = Participants::of(&world.state, &world.ceremony.domain).unwrap();
        let mut plan = plan_from(&wish, &known).unwrap().0;
        let change = plan.participant.as_mut().unwrap();
        assert_eq!(change.abort_after, Some(Epoch(31)), "a quarter of 37 epochs is kept");
        if !by_planner {
            change.abort_after = None;
        }
        approve(&mut world, &plan);
        let world = Arc::new(Mutex::new(world));
        let agents = plan.nodes.iter().map(|node| (node.clone(), agent(&world, node))).collect();
        let mut it = Move { world, agents, plan, last: BTreeMap::new(), agrees: true };
        it.run(|it| lock(&it.world).hosts.values().any(|host| host.calls.contains(&"quiesce")));
        let last = if by_planner { 31 } else { 40 };
        while lock(&it.world).state.epoch() <= Epoch(last) {
            assert_eq!(it.status(), PlanStatus::Approved);
            it.next_epoch();
        }
        assert_eq!(it.status(), PlanStatus::RollingBack);
        it.is_back();
    }
}

#[test]
fn a_plan_is_the_same_bytes_after_its_encoding() {
    let it = moving(2);
    let bytes = wire::encode(&it.plan);
    assert_eq!(wire::decode::<Plan>(&bytes).unwrap(), it.plan);
}
