//! One agent, carrying out a handover of an exclusive domain: in peace, killed at every point, and
//! where its keepers, the log or the operators do not go along.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod done;
mod duties;
mod world;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use heirloom_model::counter::{Epoch, PlanNumber, Time};
use heirloom_model::digest::{Nonce, PlanDigest, sha256};
use heirloom_model::envelope::Envelope;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Gate, Plan, Step, StepId};
use heirloom_model::statement::StatementKind;
use heirloom_model::wire;
use heirloom_registry::plan::PlanStatus;
use heirloom_testkit::ceremony::Code;
use heirloom_upgrade::agent::{Agent, AgentError, Tick, Trouble};
use heirloom_upgrade::checker::{Fault, check};
use heirloom_upgrade::duty::supposed;
use heirloom_upgrade::engine::Situation;
use heirloom_upgrade::gate::Waiting;
use heirloom_upgrade::journal::{JournalEntry, Progress, Record, StepProgress};
use heirloom_upgrade::planner::{Arrangement, PlanError, PlanReport, PlanRequest, plan};
use heirloom_upgrade::port::DriverError;

use crate::world::{Driver, Journal, Log, Shared, World, lock, word};

pub(crate) type TestAgent = Agent<Journal, Log, Driver>;

/// Ticks in which everything of these tests is over.
const TICKS_MAX: u32 = 400;

/// The old keeper, the upgrader, the new keeper.
pub(crate) fn codes() -> [Code; 3] {
    [Code::named("keeper-1", 1), Code::upgrader("upgrader-1", 1), Code::named("keeper-2", 1)]
}

pub(crate) fn measurements() -> [Measurement; 3] {
    codes().map(|code| code.measurement)
}

pub(crate) fn agent(world: &Shared) -> TestAgent {
    let seen = lock(world);
    let key = seen.ceremony.agent_key(&seen.node);
    let progress = Progress::recover(seen.journal.iter().map(Vec::as_slice)).unwrap();
    let ports = (Journal(world.clone()), Log(world.clone()), Driver(world.clone()));
    Agent::recover(seen.node.clone(), key, seen.state().clone(), progress, ports)
}

pub(crate) fn tick(agent: &mut TestAgent) -> Result<Tick, AgentError> {
    let mut number = agent.progress().length();
    let position = agent.state().position().length.0;
    let ticked = agent.tick(Time(0), &mut || {
        number = number.wrapping_add(1);
        Nonce::new(sha256(&[&number.to_be_bytes(), &position.to_be_bytes()]))
    });
    let serving = lock(&agent.driver().0).serve();
    assert!(serving.len() <= 1, "two serve at the same time: {serving:?}");
    ticked
}

/// Ticks until the world is as wished.
pub(crate) fn run(agent: &mut TestAgent, wished: impl Fn(&World) -> bool) {
    for _ in 0..TICKS_MAX {
        if wished(&lock(&agent.driver().0)) {
            return;
        }
        pass(tick(agent), &agent.driver().0.clone());
    }
    panic!("it does not get there: {:?}", lock(&agent.driver().0).calls);
}

/// Lets time go on where only time is awaited.
fn pass(ticked: Result<Tick, AgentError>, world: &Shared) {
    match ticked {
        Ok(Tick::Idle(waiting)) => {
            let awaited = |it: &Waiting| matches!(it, Waiting::Epoch { .. });
            if waiting.iter().any(awaited) {
                next_epoch(world);
            }
        }
        Ok(Tick::Progressed | Tick::Refused(_)) | Err(AgentError::Append(_)) => {}
        Err(error) => panic!("{error:?}"),
    }
}

fn next_epoch(world: &Shared) {
    let mut world = lock(world);
    let next = world.ceremony.epoch(Epoch(world.state().epoch().0 + 1));
    world.accept(&next);
}

/// A domain whose first holder is active and attended.
pub(crate) fn active() -> (Shared, TestAgent) {
    let world = Arc::new(Mutex::new(World::new(&codes())));
    let mut agent = agent(&world);
    let [from, ..] = measurements();
    run(&mut agent, |world| world.serve() == [from]);
    (world, agent)
}

/// As before, with an approved plan.
pub(crate) fn planned() -> (Shared, TestAgent, Plan) {
    planned_with(|_| {})
}

/// As before, after a change that no planner would make.
fn planned_with(change: impl FnOnce(&mut Plan)) -> (Shared, TestAgent, Plan) {
    let (world, agent) = active();
    let mut plan = handover(&world);
    change(&mut plan);
    let mut seen = lock(&world);
    let proposal = seen.ceremony.proposal(&plan);
    seen.accept(&proposal);
    for operator in 0..2 {
        let approval = seen.ceremony.approval(plan.digest(), operator, Epoch(50));
        seen.accept(&approval);
    }
    drop(seen);
    (world, agent, plan)
}

fn handover(world: &Shared) -> Plan {
    let seen = lock(world);
    let [from, via, to] = measurements().map(|code| seen.releases[&code].1);
    let request = PlanRequest {
        domain: seen.ceremony.domain,
        from,
        to,
        not_after: Epoch(20),
        nonce: Nonce::new([6; 32]),
        arrangement: Arrangement::Handover { node: seen.node.clone(), via, withdraw: None },
    };
    plan(&request, seen.state()).expect("the node is sound").0
}

pub(crate) fn step<'p>(plan: &'p Plan, name: &str, code: Measurement) -> &'p Step {
    let of = |step: &&Step| step.action.name() == name && code_of(&step.action) == Some(code);
    plan.steps.iter().find(of).expect("the plan has such a step")
}

fn code_of(action: &Action) -> Option<Measurement> {
    match action {
        Action::Start(it)
        | Action::Stop(it)
        | Action::Restart(it)
        | Action::Suspend(it)
        | Action::Activate(it)
        | Action::Forget(it)
        | Action::Prepare(it) => Some(it.measurement),
        Action::HandOver { to, .. } => Some(to.measurement),
        Action::Verify { code, .. } => *code,
        Action::Quarantine(code) => Some(*code),
        _ => None,
    }
}

fn status(world: &World, plan: &PlanDigest) -> PlanStatus {
    world.state().plan(plan).unwrap().status()
}

fn finish(agent: &mut TestAgent, plan: &Plan) {
    let digest = plan.digest();
    run(agent, |world| status(world, &digest) == PlanStatus::Finished);
    let [_, _, to] = measurements();
    run(agent, |world| world.serve() == [to]);
    let seen = lock(&agent.driver().0).observation();
    assert_eq!(seen.installed, Some(to));
    assert_eq!(seen.running.keys().copied().collect::<Vec<_>>(), [to]);
    assert_eq!(seen.live, BTreeSet::from([to]));
}

/// What the driver was asked to change, from a call on.
fn changes_since(world: &World, first: &str) -> Vec<String> {
    let begin = world.calls.iter().position(|call| call.starts_with(first)).unwrap();
    let looks = ["read", "attend", "follow", "renew"];
    let calls = world.calls[begin..].iter();
    calls.filter(|call| !looks.iter().any(|look| call.starts_with(look))).cloned().collect()
}

#[test]
fn a_handover_goes_to_its_end_and_nothing_stands_between_suspension_and_activation() {
    let (world, mut agent, plan) = planned();
    finish(&mut agent, &plan);
    let [from, _, to] = measurements().map(|code| word(&code));
    let changes = changes_since(&lock(&world), "suspend");
    assert_eq!(
        changes[..3],
        [format!("suspend {from}"), format!("activate {to}"), format!("stop {from}")]
    );
    // Nobody waits for the agent's word between the two statements.
    let kinds: Vec<StatementKind> = lock(&world)
        .entries
        .iter()
        .filter_map(|entry| wire::decode::<Envelope>(&entry.envelope).ok())
        .map(|envelope| envelope.kind)
        .collect();
    let suspended = kinds.iter().position(|kind| *kind == StatementKind::Suspension).unwrap();
    assert_eq!(kinds[suspended + 1], StatementKind::Activation);
    // The first activation was the agent's own duty, and it was the only one.
    let activations = lock(&world).calls.iter().filter(|call| call.starts_with("activate")).count();
    assert_eq!(activations, 2);
}

#[test]
fn an_agent_that_is_killed_after_every_tick_finishes() {
    let (world, _, plan) = planned();
    let digest = plan.digest();
    for _ in 0..TICKS_MAX {
        if status(&lock(&world), &digest) == PlanStatus::Finished {
            break;
        }
        let mut agent = agent(&world);
        // A new process has no tickets in its first tick.
        pass(tick(&mut agent), &world);
        pass(tick(&mut agent), &world);
    }
    finish(&mut agent(&world), &plan);
}

#[test]
fn what_should_run_follows_from_every_prefix_of_the_journal() {
    let (world, mut agent, plan) = planned();
    finish(&mut agent, &plan);
    let [from, via, to] = measurements();
    let seen = lock(&world);
    let ended = |name, code| (Some(step(&plan, name, code).id), true);
    let begun = |name, code| (Some(step(&plan, name, code).id), false);
    // What changes it, in order, and what should run from then on.
    let phases = [
        ((None, false), vec![from]),
        (ended("start", via), vec![from, via]),
        (ended("start", to), vec![from, via, to]),
        (begun("stop", from), vec![via, to]),
        (begun("stop", via), vec![to]),
    ];
    let installed_at = plan.steps.iter().find(|it| it.action.name() == "install").unwrap().id;
    let (mut phase, mut installed) = (0, vec![from]);
    for length in 0..=seen.journal.len() {
        let records = &seen.journal[..length];
        if let Some(last) = records.last() {
            let entry: JournalEntry = heirloom_model::wire::decode(last).unwrap();
            let mark = match entry.record {
                Record::Started(step) => (Some(step), false),
                Record::Succeeded(step, _) => (Some(step), true),
                _ => (None, false),
            };
            if phases.get(phase + 1).is_some_and(|(next, _)| *next == mark) {
                phase += 1;
            }
            // While an installation is under way, either may be found.
            if mark == (Some(installed_at), false) {
                installed = vec![from, to];
            } else if mark == (Some(installed_at), true) {
                installed = vec![to];
            }
        }
        let progress = Progress::recover(records.iter().map(Vec::as_slice)).unwrap();
        for found in &installed {
            let mut observed = seen.observation();
            observed.installed = Some(*found);
            let situation =
                Situation { node: &seen.node, state: seen.state(), progress: &progress };
            let expected: BTreeSet<Measurement> = phases[phase].1.iter().copied().collect();
            assert_eq!(supposed(&situation, &observed), expected, "{length} records");
        }
    }
    assert_eq!(phase, phases.len() - 1);
}

#[test]
fn a_machine_that_dies_at_any_record_starts_what_should_run_and_finishes() {
    let (world, mut first, plan) = planned();
    finish(&mut first, &plan);
    let length = lock(&world).journal.len();
    for records in 1..length {
        let (world, mut before, plan) = planned();
        run(&mut before, |world| world.journal.len() >= records);
        lock(&world).power_failure();
        finish(&mut agent(&world), &plan);
    }
}

#[test]
fn a_suspension_is_made_again_until_the_log_has_it_and_nothing_else_happens_meanwhile() {
    let (world, mut agent, plan) = planned();
    lock(&world).lost.insert(StatementKind::Suspension, 3);
    run(&mut agent, |world| world.lost[&StatementKind::Suspension] < 3);
    // The keeper has said it: it serves nobody, although the log still names it.
    assert_eq!(lock(&world).serve(), []);
    // Somebody asks it for something meanwhile.
    let asked = step(&plan, "verify", measurements()[0]).id;
    let challenge = lock(&world).ceremony.challenge(&plan, asked, Nonce::new([0xee; 32]));
    lock(&world).accept(&challenge);
    let suspend = step(&plan, "suspend", measurements()[0]).id;
    let digest = plan.digest();
    run(&mut agent, |world| world.state().plan(&digest).unwrap().witnessed_at(suspend).is_some());
    let [from, ..] = measurements().map(|code| word(&code));
    assert_eq!(changes_since(&lock(&world), "suspend"), vec![format!("suspend {from}"); 4]);
    finish(&mut agent, &plan);
}

#[test]
fn an_instance_that_the_log_does_not_name_is_not_asked_to_suspend() {
    let (world, mut agent, plan) = planned();
    let [from, ..] = measurements();
    let suspend = step(&plan, "suspend", from);
    let before = StepId(suspend.id.0 - 1);
    let digest = plan.digest();
    run(&mut agent, |world| world.state().plan(&digest).unwrap().done_at(before).is_some());
    // It starts anew, and the log does not take it as the active one.
    lock(&world).processes.remove(&from);
    let refusal = DriverError::Refused("no".to_owned());
    lock(&world).refuse.insert("activate".to_owned(), refusal);
    let mut waits = false;
    for _ in 0..20 {
        if let Ok(Tick::Refused(Trouble::Duty { .. })) = tick(&mut agent) {
            waits = true;
        }
    }
    assert!(waits);
    assert!(!lock(&world).calls.iter().any(|call| call.starts_with("suspend")));
    assert_eq!(agent.progress().step(suspend.id), None);
    lock(&world).refuse.clear();
    finish(&mut agent, &plan);
}

/// The plan without a word about who must have proven what, and with questions to these codes that
/// need no answer.
fn careless(plan: &mut Plan, unasked: &[Measurement]) {
    let back = plan.rollback.iter_mut().map(|rollback| &mut rollback.step);
    for step in plan.steps.iter_mut().chain(back) {
        step.gates.retain(|gate| !matches!(gate, Gate::Proven { .. }));
        if let Action::Verify { need, code: Some(code), .. } = &mut step.action
            && unasked.contains(code)
        {
            *need = 0;
        }
    }
}

#[test]
fn no_seat_is_taken_away_without_another_that_has_proven_the_keyring() {
    let [from, via, to] = measurements();
    let custody = |world: &Shared, agent: &mut TestAgent, what: &str, taken: Measurement| {
        let mut waits = false;
        for _ in 0..TICKS_MAX {
            match tick(agent).unwrap() {
                Tick::Idle(waiting) => {
                    waits = waiting.iter().any(|it| matches!(it, Waiting::Custody(_)));
                    if waits {
                        break;
                    }
                    next_epoch(world);
                }
                Tick::Progressed | Tick::Refused(_) => {}
            }
        }
        assert!(waits, "{what}");
        let call = format!("{what} {}", word(&taken));
        assert!(!lock(world).calls.contains(&call), "{what}");
    };
    // The next one that takes a seat away is the suspension, whoever has proven something.
    let (world, mut agent, _) = planned_with(|plan| careless(plan, &[via, to]));
    custody(&world, &mut agent, "suspend", from);
    assert_eq!(lock(&world).serve(), [from]);
    // With the upgrader alone, service may change hands; the upgrader may not go then.
    let (world, mut agent, _) = planned_with(|plan| careless(plan, &[to]));
    custody(&world, &mut agent, "forget", via);
    assert_eq!(lock(&world).serve(), [to]);
    // With both of them, it is the planner's own way.
    let (_, mut agent, plan) = planned_with(|plan| careless(plan, &[]));
    finish(&mut agent, &plan);
}

fn roll_back(agent: &mut TestAgent, plan: &Plan) {
    let world = agent.driver().0.clone();
    let abort = lock(&world).ceremony.abort(plan.digest());
    lock(&world).accept(&abort);
    let digest = plan.digest();
    run(agent, |world| status(world, &digest) == PlanStatus::RolledBack);
    let [from, ..] = measurements();
    run(agent, |world| world.serve() == [from]);
    let seen = lock(&world).observation();
    assert_eq!(seen.installed, Some(from));
    assert_eq!(seen.running.keys().copied().collect::<Vec<_>>(), [from]);
    assert_eq!(seen.live, BTreeSet::from([from]));
}

#[test]
fn after_an_abort_the_suspended_holder_serves_again_as_a_fresh_instance() {
    let (world, mut agent, plan) = planned();
    run(&mut agent, |world| {
        let domain = world.state().domain(&world.ceremony.domain).unwrap();
        domain.activity().suspended().is_some()
    });
    roll_back(&mut agent, &plan);
    let [from, ..] = measurements().map(|code| word(&code));
    let changes = changes_since(&lock(&world), "suspend");
    let expected = ["suspend", "stop", "start", "register", "activate"];
    assert_eq!(changes[..5], expected.map(|what| format!("{what} {from}")));
}

#[test]
fn after_an_abort_a_suspension_that_the_log_never_had_is_undone_too() {
    let (world, mut agent, plan) = planned();
    lock(&world).lost.insert(StatementKind::Suspension, u32::MAX);
    run(&mut agent, |world| world.lost[&StatementKind::Suspension] < u32::MAX);
    assert_eq!(lock(&world).serve(), []);
    roll_back(&mut agent, &plan);
}

#[test]
fn an_abort_at_any_record_before_the_point_of_no_return_ends_where_it_began() {
    for records in 1.. {
        let (world, mut agent, plan) = planned();
        run(&mut agent, |world| world.journal.len() >= records);
        if status(&lock(&world), &plan.digest()) == PlanStatus::PastNoReturn {
            break;
        }
        roll_back(&mut agent, &plan);
    }
}

#[test]
fn a_suspension_that_came_too_late_for_its_plan_is_healed_by_a_restart() {
    let (world, mut agent, plan) = planned();
    lock(&world).lost.insert(StatementKind::Suspension, u32::MAX);
    run(&mut agent, |world| world.lost[&StatementKind::Suspension] < u32::MAX);
    let digest = plan.digest();
    while status(&lock(&world), &digest) != PlanStatus::Expired {
        next_epoch(&world);
    }
    let [from, ..] = measurements();
    run(&mut agent, |world| world.serve() == [from]);
    let suspend = step(&plan, "suspend", from).id;
    assert_eq!(agent.progress().step(suspend), Some(StepProgress::Refused));
}

#[test]
fn an_upgrader_that_does_not_follow_keeps_neither_the_holder_nor_the_way_back_from_going_on() {
    let (world, mut agent, plan) = planned();
    let [from, via, _] = measurements();
    let refusal = DriverError::Refused("it does not like the log".to_owned());
    lock(&world).refuse.insert(format!("follow {}", word(&via)), refusal);
    run(&mut agent, |world| world.processes.contains_key(&via));
    let mut refused = false;
    for _ in 0..10 {
        lock(&world).calls.clear();
        let ticked = tick(&mut agent).unwrap();
        refused |= matches!(&ticked, Tick::Refused(Trouble::Follow { code, .. }) if *code == via);
        let renewed = format!("renew {}", word(&from));
        assert!(lock(&world).calls.contains(&renewed), "{ticked:?}");
    }
    assert!(refused);
    assert_eq!(lock(&world).serve(), [from]);
    roll_back(&mut agent, &plan);
}

#[test]
fn the_installed_keeper_must_follow_before_anything_else_happens() {
    let (world, mut agent, _) = planned();
    let [from, ..] = measurements();
    let refusal = DriverError::Refused("it does not like the log".to_owned());
    lock(&world).refuse.insert(format!("renew {}", word(&from)), refusal);
    lock(&world).calls.clear();
    for _ in 0..5 {
        let ticked = tick(&mut agent).unwrap();
        let expected =
            matches!(&ticked, Tick::Refused(Trouble::Follow { code, .. }) if *code == from);
        assert!(expected, "{ticked:?}");
    }
    assert_eq!(lock(&world).journal.len(), 0);
}

#[test]
fn a_tick_attends_before_it_reads_and_renews_only_whom_it_attended() {
    let (world, mut agent) = active();
    let [from, ..] = measurements();
    lock(&world).calls.clear();
    assert_eq!(tick(&mut agent).unwrap(), Tick::Idle(Vec::new()));
    let length = lock(&world).state().position().length;
    let own = word(&from);
    let expected = [format!("attend {own}"), format!("read {length}"), format!("renew {own}")];
    assert_eq!(lock(&world).calls, expected);
    // Another instance at the same seat gets no word about a log that was read for the one before.
    lock(&world).run(from);
    lock(&world).calls.clear();
    tick(&mut agent).unwrap();
    assert!(!lock(&world).calls.contains(&format!("renew {own}")));
    assert!(!lock(&world).processes[&from].attended);
    run(&mut agent, |world| world.serve() == [from]);
}

/// A host that is gone for good blocks nobody: past the point of no return no abort is accepted,
/// and the last epoch opens the domain for the log, the planner and the checker alike.
#[test]
fn a_plan_keeps_a_new_one_out_until_its_last_epoch_has_passed_and_no_longer() {
    let (world, mut agent, plan) = planned_with(|plan| plan.not_after = Epoch(1));
    let digest = plan.digest();
    run(&mut agent, |world| status(world, &digest) == PlanStatus::PastNoReturn);
    let mut next = plan.clone();
    (next.number, next.not_after) = (PlanNumber(2), Epoch(20));
    let judged = |world: &World| {
        let proposal = wire::encode(&world.ceremony.proposal(&next));
        let log = world.state().clone().judge(&proposal).err().map(|refusal| refusal.code());
        let held = check(&next, world.state())
            .iter()
            .any(|found| matches!(found.fault, Fault::PlanActive { .. }));
        let planned = plan_again(world, &next).err();
        let keeps_out = matches!(planned, Some(PlanError::PlanActive(found)) if found == digest);
        (log, held, keeps_out)
    };
    assert_eq!(judged(&lock(&world)), (Some("plan-under-way"), true, true));
    let abort = lock(&world).ceremony.abort(digest);
    let refused = lock(&world).state().clone().judge(&wire::encode(&abort));
    assert_eq!(refused.unwrap_err().code(), "plan-status");
    next_epoch(&world);
    assert_eq!(status(&lock(&world), &digest), PlanStatus::PastNoReturn);
    assert_eq!(judged(&lock(&world)), (None, false, false));
}

/// Asks the planner for what this plan does.
fn plan_again(world: &World, next: &Plan) -> Result<(Plan, PlanReport), PlanError> {
    let kept = next.keyring.as_ref().expect("a handover is about a keyring");
    let via = kept.via.expect("a handover has an upgrader").release;
    let request = PlanRequest {
        domain: next.domain,
        from: kept.from.release,
        to: kept.to.release,
        not_after: next.not_after,
        nonce: next.nonce,
        arrangement: Arrangement::Handover { node: world.node.clone(), via, withdraw: None },
    };
    plan(&request, world.state())
}
