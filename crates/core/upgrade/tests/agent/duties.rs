//! Duties: which instance owes what, one fact changed at a time.

use heirloom_model::counter::{PlanNumber, Time};
use heirloom_model::digest::{Nonce, PlanDigest};
use heirloom_model::domain::{ActivationCause, Challenge, HoldingOrigin};
use heirloom_model::envelope::Envelope;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{StepId, StepOutcome};
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;
use heirloom_model::signature::PublicKey;
use heirloom_upgrade::attendance::{concerns, renew};
use heirloom_upgrade::duty::{self, Duty};
use heirloom_upgrade::engine::Situation;
use heirloom_upgrade::journal::{Progress, Record};
use heirloom_upgrade::port::Observation;

use crate::world::{Driver, Log, World, lock};
use crate::{active, measurements, planned, run, step};

fn due(world: &World, progress: &Progress, observed: &Observation) -> Vec<Duty> {
    let situation = Situation { node: &world.node, state: world.state(), progress };
    let due = duty::due(&situation, observed);
    assert_eq!(duty::next(&situation, observed).as_ref(), due.first());
    due
}

fn journal(records: &[Record]) -> Progress {
    let mut progress = Progress::default();
    for record in records {
        let entry = progress.entry(*record, Time(0));
        progress.apply(&entry).unwrap();
    }
    progress
}

/// A fresh instance of this code, registered as far as the log is concerned.
fn fresh(observed: &mut Observation, code: Measurement, state: ServingState) {
    let status = observed.running.get_mut(&code).unwrap();
    status.state = state;
    status.instance = PublicKey::new([0x77; 32]);
}

#[test]
fn an_exclusive_domain_gets_an_active_holder_only_as_its_history_allows() {
    let (world, _) = active();
    let world = lock(&world);
    let [from, via, _] = measurements();
    let idle = Progress::default();
    let settled = world.observation();
    assert_eq!(due(&world, &idle, &settled), []);
    let mut restarted = settled.clone();
    fresh(&mut restarted, from, ServingState::Standby);
    let expected = [Duty::Register(from)];
    assert_eq!(due(&world, &idle, &restarted), expected);
    // Everything but the registration as it is: one with the key of the first instance is known.
    let mut standby = settled.clone();
    standby.running.get_mut(&from).unwrap().state = ServingState::Standby;
    // The log names this very instance: it has nothing to ask for.
    assert_eq!(due(&world, &idle, &standby), []);
    let activates = |observed: &Observation| {
        let duties = due(&world, &idle, observed);
        duties.iter().any(|duty| matches!(duty, Duty::Activate(..)))
    };
    for state in [ServingState::Suspended, ServingState::Superseded, ServingState::Empty] {
        let mut other = restarted.clone();
        fresh(&mut other, from, state);
        assert!(!activates(&other), "{state}");
    }
    // Other code on the same node does not take the place by itself.
    let mut other = restarted;
    let mut status = other.running.remove(&from).unwrap();
    status.measurement = via;
    other.running.insert(via, status);
    assert!(!activates(&other));
}

#[test]
fn an_instance_that_follows_a_dead_one_becomes_active_and_no_other_does() {
    let (world, mut agent) = active();
    let [from, ..] = measurements();
    lock(&world).run(from);
    let registered = |world: &World| {
        let domain = world.state().domain(&world.ceremony.domain).unwrap();
        let instance = world.observation().running[&from].instance;
        *domain.registration_with(&world.node, &from).unwrap().instance() == instance
    };
    run(&mut agent, registered);
    let mut seen = lock(&world);
    let length = seen.state().position().length;
    seen.processes.get_mut(&from).unwrap().follows = length;
    let idle = Progress::default();
    let standby = seen.observation();
    let expected = [Duty::Activate(from, ActivationCause::Restarted)];
    assert_eq!(due(&seen, &idle, &standby), expected);
    let mut received = standby.clone();
    received.running.get_mut(&from).unwrap().holding.as_mut().unwrap().origin =
        HoldingOrigin::Received;
    assert_eq!(due(&seen, &idle, &received), [Duty::Restart(from)]);
    let mut upgrader = standby;
    upgrader.running.get_mut(&from).unwrap().role = HolderRole::Upgrader;
    assert_eq!(due(&seen, &idle, &upgrader), []);
}

#[test]
fn a_challenge_is_answered_by_the_code_that_it_names_and_else_by_the_keeper() {
    let (world, mut agent, plan) = planned();
    let [from, via, to] = measurements();
    let suspend = step(&plan, "suspend", from).id;
    let digest = plan.digest();
    let before = StepId(suspend.0 - 1);
    run(&mut agent, |world| world.state().plan(&digest).unwrap().done_at(before).is_some());
    let ask = |code, number: u8| {
        let mut seen = lock(&world);
        let challenge = Challenge {
            network: seen.ceremony.network,
            domain: seen.ceremony.domain,
            nonce: Nonce::new([number; 32]),
            verifier: seen.node.clone(),
            targets: vec![seen.node.clone()],
            step: None,
            code,
        };
        let key = seen.ceremony.agent_key(&seen.node);
        seen.accept(&Envelope::signed(&challenge, [&key]));
    };
    for (code, number) in [(None, 0xf0), (Some(via), 0xf1), (Some(to), 0xf2)] {
        ask(code, number);
    }
    let seen = lock(&world);
    let duties = due(&seen, agent.progress(), &seen.observation());
    let mut expected = [
        Duty::Prove(from, Nonce::new([0xf0; 32])),
        Duty::Prove(via, Nonce::new([0xf1; 32])),
        Duty::Prove(to, Nonce::new([0xf2; 32])),
    ];
    // The installed one comes first, then the others in the order of their measurements.
    if via > to {
        expected.swap(1, 2);
    }
    assert_eq!(duties, expected);
    // While service changes hands, none of them is answered: it takes time.
    let mut progress = agent.progress().clone();
    let entry = progress.entry(Record::Started(suspend), Time(0));
    progress.apply(&entry).unwrap();
    assert_eq!(due(&seen, &progress, &seen.observation()), []);
    let entry = progress.entry(Record::Succeeded(suspend, StepOutcome::Done), Time(0));
    progress.apply(&entry).unwrap();
    assert_eq!(due(&seen, &progress, &seen.observation()), []);
    // What should run is started all the same.
    let mut down = seen.observation();
    down.running.remove(&to);
    assert_eq!(due(&seen, &progress, &down), [Duty::Start(to)]);
    down.silent.insert(to);
    assert_eq!(due(&seen, &progress, &down), []);
}

#[test]
fn everything_that_should_run_is_started_the_installed_code_first() {
    let (world, _, plan) = planned();
    let seen = lock(&world);
    let [from, via, _] = measurements();
    let nothing = Observation { installed: Some(from), ..Observation::default() };
    let adopted = Record::Adopted { plan: plan.digest(), number: plan.number };
    let start = step(&plan, "start", via).id;
    let (begun, ended) = (Record::Started(start), Record::Succeeded(start, StepOutcome::Done));
    let stop = Record::Started(step(&plan, "stop", from).id);
    for (records, expected) in [
        (vec![], vec![from]),
        (vec![adopted], vec![from]),
        (vec![adopted, begun], vec![from]),
        (vec![adopted, begun, ended], vec![from, via]),
        (vec![adopted, begun, Record::Refused(start)], vec![from]),
        (vec![adopted, begun, ended, stop], vec![via]),
    ] {
        let expected: Vec<Duty> = expected.into_iter().map(Duty::Start).collect();
        assert_eq!(due(&seen, &journal(&records), &nothing), expected, "{records:?}");
    }
    // A plan that is not in the log yet may have stopped anything.
    let number = PlanNumber(plan.number.0 + 1);
    let unknown = Record::Adopted { plan: PlanDigest::new([1; 32]), number };
    assert_eq!(due(&seen, &journal(&[unknown]), &nothing), []);
    // One that the log has forgotten was fenced long ago.
    let number = PlanNumber(plan.number.0 - 1);
    let forgotten = Record::Adopted { plan: PlanDigest::new([1; 32]), number };
    assert_eq!(due(&seen, &journal(&[forgotten]), &nothing), [Duty::Start(from)]);
}

#[test]
fn a_renewal_takes_its_ticket_before_it_reads() {
    let (world, _) = active();
    let [from, ..] = measurements();
    let status = lock(&world).observation().running[&from].clone();
    assert!(concerns(&status));
    lock(&world).calls.clear();
    lock(&world).processes.get_mut(&from).unwrap().attended = false;
    let (log, mut driver) = (Log(world.clone()), Driver(world.clone()));
    let position = renew(&log, &mut driver, &status).unwrap();
    assert_eq!(position, lock(&world).state().position());
    let seen = lock(&world);
    let words: Vec<&str> = seen.calls.iter().map(|call| call.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["attend", "read", "renew"]);
    assert_eq!(seen.serve(), [from]);
}
