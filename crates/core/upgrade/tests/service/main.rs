//! Agents that carry out a flag day: in peace, killed at every point, and where a service, a peer,
//! the log or the operators do not go along.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod done;
mod driver;
mod fail;
mod told;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use heirloom_model::counter::{Epoch, Time};
use heirloom_model::digest::{Nonce, sha256};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Plan, ServiceAction, Step, StepOutcome};
use heirloom_model::service::{Admission, Writing};
use heirloom_model::statement::StatementKind;
use heirloom_model::wire;
use heirloom_registry::plan::{AbortCause, PlanState, PlanStatus};
use heirloom_testkit::service;
use heirloom_upgrade::agent::{Agent, AgentError, Tick};
use heirloom_upgrade::gate::Waiting;
use heirloom_upgrade::journal::Progress;
use heirloom_upgrade::planner::{Arrangement, FlagDayRequest, PlanRequest, plan};
use heirloom_upgrade::port::EdgeAdmission;

use crate::driver::{Driver, Journal, Log};
use crate::world::{Fault, Shared, World, lock};

pub(crate) type TestAgent = Agent<Journal, Log, Driver>;
pub(crate) type Agents = BTreeMap<NodeId, TestAgent>;

/// Rounds in which everything of these tests is over.
const ROUNDS_MAX: u32 = 600;

pub(crate) fn agent(world: &Shared, node: &NodeId) -> TestAgent {
    let seen = lock(world);
    let key = seen.ceremony.agent_key(node);
    let journal = &seen.hosts[node].journal;
    let progress = Progress::recover(journal.iter().map(Vec::as_slice)).unwrap();
    let ports = (
        Journal(world.clone(), node.clone()),
        Log(world.clone(), node.clone()),
        Driver(world.clone(), node.clone()),
    );
    Agent::recover(node.clone(), key, seen.state().clone(), progress, ports)
}

/// A number of nodes with an approved plan for a flag day.
pub(crate) struct Day {
    pub(crate) world: Shared,
    pub(crate) agents: Agents,
    pub(crate) plan: Plan,
    /// What each agent came to last.
    pub(crate) last: BTreeMap<NodeId, Result<Tick, String>>,
}

pub(crate) fn day(nodes: usize) -> Day {
    day_with(nodes, "ledger-2")
}

pub(crate) fn day_with(nodes: usize, new: &str) -> Day {
    let mut world = World::new(nodes, new);
    let plan = planned(&world);
    let proposal = wire::encode(&world.ceremony.proposal(&plan));
    world.accept(&proposal);
    for operator in 0..2 {
        let approval = world.ceremony.approval(plan.digest(), operator, Epoch(50));
        world.accept(&wire::encode(&approval));
    }
    let world = Arc::new(Mutex::new(world));
    let nodes: Vec<NodeId> = lock(&world).hosts.keys().cloned().collect();
    let agents = nodes.iter().map(|node| (node.clone(), agent(&world, node))).collect();
    Day { world, agents, plan, last: BTreeMap::new() }
}

fn planned(world: &World) -> Plan {
    let keeper = world.keeper.digest();
    let request = PlanRequest {
        domain: world.ceremony.domain,
        from: keeper,
        to: keeper,
        not_after: Epoch(20),
        nonce: Nonce::new([6; 32]),
        arrangement: Arrangement::FlagDay(FlagDayRequest {
            application: service::application(),
            from: world.from.digest(),
            to: world.to.digest(),
            terms: service::terms(&world.from, &world.to),
            opens: Epoch(3),
            abort_after: Epoch(8),
            rehearsals: 0,
            stages: Vec::new(),
            withdraw: None,
        }),
    };
    plan(&request, world.state()).expect("the fleet is sound").0
}

impl Day {
    pub(crate) fn from(&self) -> Measurement {
        self.plan.service.as_ref().unwrap().from.measurement
    }

    pub(crate) fn to(&self) -> Measurement {
        self.plan.service.as_ref().unwrap().to.measurement
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.plan.nodes.clone()
    }

    pub(crate) fn status(&self) -> PlanStatus {
        self.asked(PlanState::status)
    }

    pub(crate) fn asked<T>(&self, ask: impl FnOnce(&PlanState) -> T) -> T {
        ask(lock(&self.world).state().plan(&self.plan.digest()).unwrap())
    }

    pub(crate) fn cause(&self) -> Option<AbortCause> {
        self.asked(|plan| plan.abort_cause().cloned())
    }

    pub(crate) fn step(&self, name: &str, node: &NodeId) -> Step {
        let of = |step: &&Step| step.action.name() == name && step.node == *node;
        self.plan.steps.iter().find(of).expect("the plan has such a step").clone()
    }

    /// Lets the agent of a node do one thing. A process that died is followed by a new one.
    pub(crate) fn tick(&mut self, node: &NodeId) {
        let agent_of = self.agents.get_mut(node).unwrap();
        let mut number = agent_of.progress().length();
        let ticked = agent_of.tick(Time(0), &mut || {
            number += 1;
            Nonce::new(sha256(&[&number.to_be_bytes(), node.as_str().as_bytes()]))
        });
        if let Err(AgentError::Journal(_) | AgentError::Append(_) | AgentError::Observe(_)) = ticked
        {
            let next = agent(&self.world, node);
            self.agents.insert(node.clone(), next);
        } else if let Err(error) = &ticked {
            panic!("{error:?}");
        }
        self.guard();
        self.last.insert(node.clone(), ticked.map_err(|error| error.to_string()));
    }

    /// What must hold at every moment: nobody lets clients into the new service before the commit,
    /// and nobody into the old one once there was one.
    fn guard(&self) {
        let committed = self.asked(|plan| plan.done_at(self.plan.point_of_no_return).is_some());
        let (from, to) = (self.from(), self.to());
        for host in lock(&self.world).hosts.values() {
            let Some(process) = &host.service.process else { continue };
            let open = process.admission == Admission::Open;
            assert!(from == to || !(open && process.code == to && !committed), "open too early");
            assert!(from == to || !(open && process.code == from && committed), "open too long");
        }
    }

    /// Everybody does one thing.
    pub(crate) fn round(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            self.tick(node);
        }
        let waits = self.last.values().any(|ticked| match ticked {
            Ok(Tick::Idle(waiting)) => waiting.iter().any(|it| matches!(it, Waiting::Epoch { .. })),
            Ok(_) | Err(_) => false,
        });
        if waits {
            self.next_epoch();
        }
    }

    pub(crate) fn next_epoch(&self) {
        let mut world = lock(&self.world);
        let next = Epoch(world.state().epoch().0 + 1);
        let next = wire::encode(&world.ceremony.epoch(next));
        world.accept(&next);
    }

    /// Lets all agents go on until the day is as wished.
    pub(crate) fn run(&mut self, wished: impl Fn(&Self) -> bool) {
        let nodes = self.nodes();
        self.run_only(&nodes, wished);
    }

    /// Lets these agents go on until the day is as wished.
    pub(crate) fn run_only(&mut self, nodes: &[NodeId], wished: impl Fn(&Self) -> bool) {
        for _ in 0..ROUNDS_MAX {
            if wished(self) {
                return;
            }
            self.round(nodes);
        }
        panic!("it does not get there: {:?}, {:?}", self.status(), self.last);
    }

    /// Time enough for everything that happens by itself.
    pub(crate) fn settle(&mut self) {
        let nodes = self.nodes();
        for _ in 0..15 {
            self.round(&nodes);
        }
    }

    pub(crate) fn watched(&self) {
        for host in lock(&self.world).hosts.values_mut() {
            host.service.open_milliseconds = 1_000;
        }
    }

    pub(crate) fn finish(&mut self) {
        self.watched();
        self.run(|day| day.status() == PlanStatus::Finished);
        let to = self.to();
        assert!(self.is_open(&self.nodes(), to));
        for host in lock(&self.world).hosts.values() {
            assert_eq!(host.service.migrated, Some(self.plan.digest()));
            assert_eq!(host.service.installed, to);
        }
        assert_eq!(self.cause(), None);
    }

    /// Whether clients are let into exactly this code, on all of these nodes.
    pub(crate) fn is_open(&self, nodes: &[NodeId], code: Measurement) -> bool {
        let world = lock(&self.world);
        nodes.iter().all(|node| {
            let service = &world.hosts[node].service;
            service.process.as_ref().is_some_and(|process| {
                (process.code, process.admission, process.writing)
                    == (code, Admission::Open, Writing::Active)
            }) && service.edge == EdgeAdmission::Open
        })
    }

    /// The plan was called off, and everything is as it was.
    pub(crate) fn is_back(&mut self) {
        self.run(|day| day.status() == PlanStatus::RolledBack);
        let from = self.from();
        assert!(self.is_open(&self.nodes(), from));
        for host in lock(&self.world).hosts.values() {
            assert_eq!((host.service.installed, host.service.migrated), (from, None));
        }
        let expected = self.aborts();
        assert_eq!(lock(&self.world).count(StatementKind::Abort), expected);
    }

    /// How many aborts the log must have: one, unless the deadline called it off.
    fn aborts(&self) -> usize {
        match self.cause() {
            Some(AbortCause::Operator { .. } | AbortCause::Agent { .. }) => 1,
            Some(AbortCause::Deadline) | None => 0,
        }
    }

    pub(crate) fn abort(&self) {
        let mut world = lock(&self.world);
        let abort = wire::encode(&world.ceremony.abort(self.plan.digest()));
        world.accept(&abort);
    }

    pub(crate) fn outcomes(&self) -> BTreeMap<&'static str, Vec<StepOutcome>> {
        let mut outcomes: BTreeMap<&'static str, Vec<StepOutcome>> = BTreeMap::new();
        self.asked(|plan| {
            for (step, (result, _)) in plan.results() {
                let name = self.plan.step(*step).unwrap().action.name();
                outcomes.entry(name).or_default().push(result.outcome);
            }
        });
        outcomes
    }
}

#[test]
fn a_flag_day_goes_to_its_end_on_one_two_and_three_nodes() {
    for nodes in 1..=3 {
        let mut day = day(nodes);
        day.finish();
        for node in day.nodes() {
            let world = lock(&day.world);
            let calls: Vec<&str> =
                world.hosts[&node].service.calls.iter().map(String::as_str).collect();
            let expected = [
                "equip", "state", "fence", "freeze", "state", "halt", "snapshot", "migrate",
                "deploy", "launch", "state", "state", "exercise", "open", "state",
            ];
            assert_eq!(calls, expected, "{node}");
        }
        // Nobody found anything done that it had not done itself.
        let found = day.outcomes().into_values().flatten();
        assert!(found.into_iter().all(|how| how == StepOutcome::Done));
    }
}

#[test]
fn a_plan_with_the_same_measurement_restarts_one_node_after_the_other() {
    let mut day = day_with(2, "ledger-1");
    day.run(|day| day.status() == PlanStatus::Finished);
    assert!(day.is_open(&day.nodes(), day.from()));
    let world = lock(&day.world);
    for host in world.hosts.values() {
        let calls: Vec<&str> = host.service.calls.iter().map(String::as_str).collect();
        let changes: Vec<&str> = calls.into_iter().filter(|call| *call != "state").collect();
        assert_eq!(changes.first(), Some(&"fence"));
        assert_eq!(changes.last(), Some(&"open"));
    }
}

/// How many changes the agent of a node makes on the way, until the day is as wished.
fn changes(day: &mut Day, node: &NodeId, go: impl FnOnce(&mut Day)) -> u32 {
    let all = 1_000_000;
    lock(&day.world).fault = Some(Fault { node: node.clone(), left: all, after: false });
    go(day);
    all - lock(&day.world).fault.take().expect("nobody died").left
}

#[test]
fn an_agent_that_is_killed_before_or_after_every_change_finishes() {
    for (nodes, stride) in [(1, 1), (2, 3)] {
        let mut first = day(nodes);
        let node = first.nodes()[0].clone();
        let all = changes(&mut first, &node, Day::finish);
        assert!(all > 50, "{all}");
        let mut found_done = 0;
        for left in (1..=all).step_by(stride) {
            for after in [false, true] {
                let mut day = day(nodes);
                lock(&day.world).fault = Some(Fault { node: node.clone(), left, after });
                day.finish();
                assert!(lock(&day.world).fault.is_none(), "{left}");
                let outcomes = day.outcomes().into_values().flatten();
                found_done += outcomes.filter(|how| *how == StepOutcome::FoundDone).count();
            }
        }
        assert!(found_done > 0, "nobody reported what another process did");
    }
}

#[test]
fn a_host_that_dies_after_any_record_starts_its_service_again_and_finishes() {
    let mut first = day(2);
    first.finish();
    let node = first.nodes()[0].clone();
    let length = lock(&first.world).hosts[&node].journal.len();
    for records in (1..length).step_by(2) {
        let mut day = day(2);
        day.watched();
        day.run(|day| lock(&day.world).hosts[&node].journal.len() >= records);
        lock(&day.world).hosts.get_mut(&node).unwrap().power_failure();
        let next = agent(&day.world, &node);
        day.agents.insert(node.clone(), next);
        day.finish();
    }
}

#[test]
fn an_abort_after_any_record_before_the_commit_ends_where_it_began() {
    for records in 1.. {
        let mut day = day(2);
        let node = day.nodes()[0].clone();
        day.run(|day| lock(&day.world).hosts[&node].journal.len() >= records);
        if day.status() == PlanStatus::PastNoReturn {
            break;
        }
        day.abort();
        day.is_back();
    }
}

#[test]
fn an_agent_that_is_killed_on_the_way_back_goes_on() {
    let begin = || {
        let mut day = day(1);
        let node = day.nodes()[0].clone();
        let exercise = day.step("exercise", &node).id;
        day.run(|day| day.asked(|plan| plan.done_at(exercise).is_some()));
        day.abort();
        (day, node)
    };
    let (mut first, node) = begin();
    let all = changes(&mut first, &node, Day::is_back);
    assert!(all > 15, "{all}");
    for left in 1..=all {
        for after in [false, true] {
            let (mut day, node) = begin();
            lock(&day.world).fault = Some(Fault { node, left, after });
            day.is_back();
        }
    }
}

#[test]
fn the_others_come_back_without_a_node_that_is_gone() {
    let mut day = day(2);
    let (here, gone) = (day.nodes()[0].clone(), day.nodes()[1].clone());
    let launch = day.step("launch", &gone).id;
    day.run(|day| day.asked(|plan| plan.done_at(launch).is_some()));
    lock(&day.world).hosts.get_mut(&gone).unwrap().power_failure();
    // The deadline comes without anybody.
    while day.status() != PlanStatus::RollingBack {
        day.round(std::slice::from_ref(&here));
        day.next_epoch();
    }
    assert_eq!(day.cause(), Some(AbortCause::Deadline));
    let from = day.from();
    day.run_only(std::slice::from_ref(&here), |day| day.is_open(std::slice::from_ref(&here), from));
    assert_eq!(day.status(), PlanStatus::RollingBack);
    // It comes back late.
    day.is_back();
}

#[test]
fn a_deadline_turns_a_plan_back_that_does_not_get_on() {
    let mut day = day(2);
    let nodes = day.nodes();
    let busy = heirloom_upgrade::port::DriverError::Unknown("requests run".to_owned());
    lock(&day.world).hosts.get_mut(&nodes[1]).unwrap().service.fail.insert("freeze", busy);
    let freeze = day.step("freeze", &nodes[0]).id;
    day.run(|day| day.asked(|plan| plan.done_at(freeze).is_some()));
    day.settle();
    assert_eq!(day.status(), PlanStatus::Approved);
    let waits = day.step("freeze", &nodes[1]).id;
    let reason = "requests run".to_owned();
    let expected = Ok(Tick::Idle(vec![Waiting::Service { step: waits, reason }]));
    assert_eq!(day.last[&nodes[1]], expected);
    while lock(&day.world).state().epoch() <= Epoch(8) {
        day.next_epoch();
    }
    day.is_back();
    assert_eq!(day.cause(), Some(AbortCause::Deadline));
}

#[test]
fn a_proxy_that_forgets_is_put_right_before_the_plan_goes_on() {
    let mut day = day(1);
    let node = day.nodes()[0].clone();
    let halt = day.step("halt", &node).id;
    day.run(|day| day.asked(|plan| plan.done_at(halt).is_some()));
    lock(&day.world).hosts.get_mut(&node).unwrap().service.edge = EdgeAdmission::Open;
    // Nothing is wanted to run now: the driver knows what the proxy is to do.
    let code = day.from();
    lock(&day.world).hosts.get_mut(&node).unwrap().service.wanted = Some((code, Admission::Closed));
    lock(&day.world).hosts.get_mut(&node).unwrap().run(code, Admission::Closed);
    day.tick(&node);
    let calls = lock(&day.world).hosts[&node].service.calls.clone();
    assert_eq!(calls.last().map(String::as_str), Some("keep"));
    assert_eq!(lock(&day.world).hosts[&node].service.edge, EdgeAdmission::Closed);
}

/// A plan that the fence of a service has not begun is no business of its proxy.
#[test]
fn a_service_that_dies_outside_of_any_plan_is_started_again() {
    let mut day = day(1);
    day.finish();
    let node = day.nodes()[0].clone();
    lock(&day.world).hosts.get_mut(&node).unwrap().power_failure();
    day.tick(&node);
    assert!(day.is_open(&day.nodes(), day.to()));
    // What the driver cannot put right shows, and does not stand in the way of anything else.
    lock(&day.world).hosts.get_mut(&node).unwrap().power_failure();
    let refusal = heirloom_upgrade::port::DriverError::Refused("no".to_owned());
    lock(&day.world).hosts.get_mut(&node).unwrap().service.fail.insert("keep", refusal);
    day.tick(&node);
    let text = format!("{:?}", day.last[&node]);
    assert!(text.contains("KeepService"), "{text}");
}

/// Whether a step may be reached by an action that the plan has.
pub(crate) fn is_forward(action: &Action) -> bool {
    !matches!(action, Action::Service(ServiceAction::Revert) | Action::Verify { .. })
}
