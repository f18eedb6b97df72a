//! What does not work, and what becomes of the plan then.

use heirloom_model::counter::Epoch;
use heirloom_model::identifier::NodeId;
use heirloom_model::statement::StatementKind;
use heirloom_registry::plan::{AbortCause, PlanStatus};
use heirloom_testkit::service::tip;
use heirloom_upgrade::agent::{Tick, Trouble};
use heirloom_upgrade::gate::{OpenStep, Waiting};
use heirloom_upgrade::journal::{Cause, JournalEntry, Record};
use heirloom_upgrade::port::DriverError;

use crate::world::{Fault, lock};
use crate::{Day, agent, day};

fn text(text: &str) -> String {
    text.to_owned()
}

/// Every error that says that a step cannot succeed, and what the journal says then.
fn definitive() -> [(DriverError, Cause); 5] {
    [
        (DriverError::Unexpected { expected: text("a"), found: text("b") }, Cause::Unexpected),
        (DriverError::Missing { what: text("it") }, Cause::Missing),
        (DriverError::Corrupt { what: text("it"), reason: text("so") }, Cause::Corrupt),
        (DriverError::Refused(text("no")), Cause::Refused),
        (DriverError::Full(text("it")), Cause::Full),
    ]
}

fn fail(day: &Day, node: &NodeId, call: &'static str, error: &DriverError) {
    let mut world = lock(&day.world);
    world.hosts.get_mut(node).unwrap().service.fail.insert(call, error.clone());
}

fn heal(day: &Day, node: &NodeId) {
    lock(&day.world).hosts.get_mut(node).unwrap().service.fail.clear();
}

fn records(day: &Day, node: &NodeId) -> Vec<Record> {
    let world = lock(&day.world);
    let journal = world.hosts[node].journal.iter();
    journal.map(|it| heirloom_model::wire::decode::<JournalEntry>(it).unwrap().record).collect()
}

/// The calls that steps make, each with the step that makes it first.
const CALLS: [(&str, &str); 8] = [
    ("fence", "fence"),
    ("freeze", "freeze"),
    ("halt", "halt"),
    ("snapshot", "snapshot"),
    ("migrate", "migrate"),
    ("deploy", "deploy"),
    ("launch", "launch"),
    ("exercise", "exercise"),
];

#[test]
fn a_step_that_cannot_succeed_calls_the_plan_off_once_and_says_why() {
    for (call, name) in CALLS {
        for (error, cause) in definitive() {
            let mut day = day(2);
            let node = day.nodes()[1].clone();
            let step = day.step(name, &node).id;
            fail(&day, &node, call, &error);
            day.run(|day| day.cause().is_some());
            let Some(AbortCause::Agent { node: by, reason }) = day.cause() else {
                panic!("{call}: {:?}", day.cause());
            };
            assert_eq!(by, node);
            let reason = reason.unwrap();
            assert!(reason.contains(&format!("step {step} ({name} on {node})")), "{reason}");
            assert!(reason.contains(&error.to_string()), "{reason}");
            // The error is what the agent shows, and the journal has it before the log.
            let expected = Ok(Tick::Refused(Trouble::Step { step, source: error }));
            assert_eq!(day.last[&node], expected);
            let expected = [Record::Started(step), Record::Refused(step)];
            let said = records(&day, &node);
            assert!(said.ends_with(&[expected[0], expected[1], Record::CalledOff(step, cause)]));
            heal(&day, &node);
            day.is_back();
        }
    }
}

#[test]
fn what_is_not_known_is_waited_for() {
    for (call, name) in CALLS {
        let mut day = day(1);
        let node = day.nodes()[0].clone();
        let step = day.step(name, &node).id;
        fail(&day, &node, call, &DriverError::Unknown(text("not yet")));
        day.run(|day| {
            matches!(day.last.get(&node), Some(Ok(Tick::Idle(waiting)))
                if waiting.contains(&Waiting::Service { step, reason: text("not yet") }))
        });
        let length = records(&day, &node).len();
        day.settle();
        assert_eq!(records(&day, &node).len(), length, "waiting fills no journal");
        assert_eq!(day.cause(), None);
        heal(&day, &node);
        day.finish();
    }
}

#[test]
fn what_fails_before_anything_is_closed_is_tried_again() {
    for (call, name) in [("equip", "equip"), ("state", "muster")] {
        for (error, _) in definitive() {
            let mut day = day(1);
            let node = day.nodes()[0].clone();
            let step = day.step(name, &node).id;
            fail(&day, &node, call, &error);
            let expected = Ok(Tick::Refused(Trouble::Step { step, source: error }));
            day.run(|day| day.last.get(&node) == Some(&expected));
            day.settle();
            assert_eq!(day.cause(), None, "{name}");
            assert_eq!(lock(&day.world).count(StatementKind::Abort), 0);
            heal(&day, &node);
            day.finish();
        }
    }
}

#[test]
fn on_the_way_back_nothing_is_called_off_again() {
    for call in ["halt", "revert", "deploy", "launch", "open"] {
        let mut day = day(1);
        let node = day.nodes()[0].clone();
        let exercise = day.step("exercise", &node).id;
        day.run(|day| day.asked(|plan| plan.done_at(exercise).is_some()));
        day.abort();
        fail(&day, &node, call, &DriverError::Refused(text("no")));
        let refused = |day: &Day| matches!(day.last.get(&node), Some(Ok(Tick::Refused(_))));
        day.run(refused);
        day.settle();
        assert_eq!(day.status(), PlanStatus::RollingBack);
        assert_eq!(lock(&day.world).count(StatementKind::Abort), 1, "{call}");
        assert!(!records(&day, &node).iter().any(|it| matches!(it, Record::CalledOff(..))));
        heal(&day, &node);
        day.is_back();
    }
}

#[test]
fn after_the_commit_nothing_is_called_off() {
    let mut day = day(2);
    let node = day.nodes()[0].clone();
    fail(&day, &node, "open", &DriverError::Refused(text("no")));
    day.run(|day| day.status() == PlanStatus::PastNoReturn);
    day.settle();
    assert_eq!(day.cause(), None);
    assert_eq!(lock(&day.world).count(StatementKind::Abort), 0);
    heal(&day, &node);
    day.finish();
}

/// The agent that calls the plan off dies at every change around it: there is one abort.
#[test]
fn a_call_off_that_is_interrupted_anywhere_comes_to_one_abort() {
    for left in 1..=6 {
        for after in [false, true] {
            let mut day = day(2);
            let node = day.nodes()[0].clone();
            let halt = day.step("halt", &node).id;
            day.run(|day| day.asked(|plan| plan.done_at(halt).is_some()));
            fail(&day, &node, "snapshot", &DriverError::Full(text("the copy")));
            lock(&day.world).fault = Some(Fault { node: node.clone(), left, after });
            day.run(|day| day.cause().is_some());
            let off = |record: &Record| matches!(record, Record::CalledOff(..));
            assert_eq!(records(&day, &node).iter().filter(|it| off(it)).count(), 1);
            heal(&day, &node);
            day.is_back();
        }
    }
}

#[test]
fn what_the_journal_says_is_said_in_the_log_even_if_the_step_would_succeed_now() {
    let mut day = day(1);
    let node = day.nodes()[0].clone();
    fail(&day, &node, "snapshot", &DriverError::Full(text("the copy")));
    lock(&day.world).lost.insert(StatementKind::Abort, 1);
    day.run(|day| lock(&day.world).lost[&StatementKind::Abort] == 0);
    assert_eq!(day.cause(), None);
    heal(&day, &node);
    let next = agent(&day.world, &node);
    day.agents.insert(node.clone(), next);
    day.tick(&node);
    let step = day.step("snapshot", &node).id;
    let reason = format!("step {step} (snapshot on {node}): the disk is full");
    assert_eq!(day.cause(), Some(AbortCause::Agent { node, reason: Some(reason) }));
    day.is_back();
}

#[test]
fn an_operator_who_is_faster_leaves_nothing_to_call_off() {
    let mut day = day(1);
    let node = day.nodes()[0].clone();
    fail(&day, &node, "snapshot", &DriverError::Full(text("the copy")));
    lock(&day.world).lost.insert(StatementKind::Abort, 1);
    day.run(|day| lock(&day.world).lost[&StatementKind::Abort] == 0);
    heal(&day, &node);
    day.abort();
    day.is_back();
    assert_eq!(day.cause(), Some(AbortCause::Operator { reason: None }));
}

#[test]
fn a_node_with_another_tip_is_noticed_and_one_abort_ends_it() {
    let mut day = day(2);
    let nodes = day.nodes();
    lock(&day.world).hosts.get_mut(&nodes[1]).unwrap().service.tip = tip(11);
    // Both see it before either is heard.
    lock(&day.world).lost.insert(StatementKind::Abort, u32::MAX);
    let off = |it: &Record| matches!(it, Record::CalledOff(_, Cause::Disagreed));
    day.run(|day| nodes.iter().all(|node| records(day, node).iter().any(off)));
    lock(&day.world).lost.clear();
    day.is_back();
    for node in &nodes {
        assert_eq!(records(&day, node).iter().filter(|it| off(it)).count(), 1, "{node}");
    }
    assert_eq!(lock(&day.world).count(StatementKind::Abort), 1);
    let Some(AbortCause::Agent { .. }) = day.cause() else { panic!("{:?}", day.cause()) };
    // Nobody was ever halted.
    let calls = |node| lock(&day.world).hosts[node].service.calls.contains(&text("halt"));
    assert!(!nodes.iter().any(calls));
}

#[test]
fn the_agent_that_sees_a_disagreement_first_says_who_differs() {
    let mut day = day(2);
    let nodes = day.nodes();
    lock(&day.world).hosts.get_mut(&nodes[1]).unwrap().service.tip = tip(11);
    day.run(|day| day.cause().is_some());
    let Some(AbortCause::Agent { reason: Some(reason), .. }) = day.cause() else {
        panic!("{:?}", day.cause());
    };
    let freeze = |node| format!("step {} (freeze on {node})", day.step("freeze", node).id);
    let (a, b) = (freeze(&nodes[0]), freeze(&nodes[1]));
    assert_eq!(reason, format!("the services at {a} and {b} differ in their tip"));
    day.is_back();
}

#[test]
fn a_fork_before_the_commit_calls_the_plan_off() {
    let mut day = day(2);
    let node = day.nodes()[0].clone();
    let launch = day.step("launch", &node).id;
    day.run(|day| day.asked(|plan| plan.done_at(launch).is_some()));
    lock(&day.world).hosts.get_mut(&node).unwrap().service.fork = Some(tip(9));
    day.run(|day| day.cause().is_some());
    let said = records(&day, &node);
    assert!(matches!(said.last(), Some(Record::CalledOff(_, Cause::Forked))), "{said:?}");
    lock(&day.world).hosts.get_mut(&node).unwrap().service.fork = None;
    day.is_back();
}

#[test]
fn a_fork_before_anything_is_closed_is_an_alarm_and_no_abort() {
    let mut day = day(1);
    let node = day.nodes()[0].clone();
    lock(&day.world).hosts.get_mut(&node).unwrap().service.fork = Some(tip(9));
    let muster = day.step("muster", &node).id;
    day.run(|day| {
        matches!(day.last.get(&node), Some(Ok(Tick::Refused(Trouble::Step { step, .. })))
            if *step == muster)
    });
    day.settle();
    assert_eq!(day.cause(), None);
    lock(&day.world).hosts.get_mut(&node).unwrap().service.fork = None;
    day.finish();
}

#[test]
fn a_fork_after_the_commit_is_an_alarm_and_nothing_goes_on() {
    let mut day = day(2);
    let nodes = day.nodes();
    day.run(|day| day.status() == PlanStatus::PastNoReturn);
    let seen = tip(9);
    for node in &nodes {
        lock(&day.world).hosts.get_mut(node).unwrap().service.fork = Some(seen);
    }
    let length = records(&day, &nodes[0]).len();
    day.settle();
    let alarm = Waiting::Fork { node: nodes[0].clone(), seen };
    assert_eq!(day.last[&nodes[0]], Ok(Tick::Idle(vec![alarm.clone()])));
    assert!(records(&day, &nodes[0]).len() <= length + 2, "an alarm fills no journal");
    assert!(!day.is_open(&nodes[1..], day.to()));
    assert_eq!(lock(&day.world).count(StatementKind::Abort), 0);
    assert!(alarm.to_string().contains("forked"));
    for node in &nodes {
        lock(&day.world).hosts.get_mut(node).unwrap().service.fork = None;
    }
    day.finish();
    // And when no plan is under way any more.
    lock(&day.world).hosts.get_mut(&nodes[0]).unwrap().service.fork = Some(seen);
    day.tick(&nodes[0]);
    assert_eq!(day.last[&nodes[0]], Ok(Tick::Idle(vec![alarm])));
}

#[test]
fn a_watch_ends_only_after_its_time_and_within_its_errors() {
    let mut day = day(1);
    let node = day.nodes()[0].clone();
    let watch = day.step("watch", &node).id;
    let waits =
        |reason: &str| Ok(Tick::Idle(vec![Waiting::Service { step: watch, reason: text(reason) }]));
    day.run(|day| day.last.get(&node) == Some(&waits("watched for 0 of 1000 ms")));
    lock(&day.world).hosts.get_mut(&node).unwrap().service.open_milliseconds = 999;
    day.tick(&node);
    assert_eq!(day.last[&node], waits("watched for 999 of 1000 ms"));
    lock(&day.world).hosts.get_mut(&node).unwrap().service.errors = 1;
    day.tick(&node);
    let reason = "1 requests of clients failed, more than 0";
    let source = DriverError::Refused(text(reason));
    assert_eq!(day.last[&node], Ok(Tick::Refused(Trouble::Step { step: watch, source })));
    day.settle();
    assert_eq!((day.status(), day.cause()), (PlanStatus::PastNoReturn, None));
    lock(&day.world).hosts.get_mut(&node).unwrap().service.errors = 0;
    day.finish();
}

#[test]
fn a_peer_that_is_away_is_waited_for_by_name() {
    let mut day = day(2);
    let nodes = day.nodes();
    let launch = day.step("launch", &nodes[1]).id;
    day.run(|day| day.asked(|plan| plan.done_at(launch).is_some()));
    let join = day.step("join", &nodes[0]).id;
    lock(&day.world).hosts.get_mut(&nodes[1]).unwrap().power_failure();
    for _ in 0..5 {
        day.tick(&nodes[0]);
    }
    let reason = format!("{} is not a peer yet", nodes[1]);
    let expected = Ok(Tick::Idle(vec![Waiting::Service { step: join, reason }]));
    assert_eq!(day.last[&nodes[0]], expected);
    day.finish();
}

#[test]
fn nobody_closes_before_the_window_and_everybody_is_there() {
    let mut day = day(2);
    let nodes = day.nodes();
    // One node cannot be equipped: nothing is closed on the other, whatever the epoch.
    fail(&day, &nodes[1], "equip", &DriverError::Unknown(text("it is being fetched")));
    day.settle();
    day.settle();
    let calls = lock(&day.world).hosts[&nodes[0]].service.calls.clone();
    assert_eq!(calls, [text("equip")]);
    assert_eq!(lock(&day.world).state().epoch(), Epoch(3));
    let equip =
        OpenStep { step: day.step("equip", &nodes[1]).id, node: nodes[1].clone(), action: "equip" };
    let expected = vec![Waiting::Steps { open: vec![equip], more: false }];
    assert_eq!(day.last[&nodes[0]], Ok(Tick::Idle(expected)));
    heal(&day, &nodes[1]);
    day.finish();
}
