//! Gates that look at one step of every node, over the folded log: whether all of the largest
//! fleet are done, and whether the services of the largest network agree.

#[path = "../tests/service/world.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it is made for tests, which need more of it")]
mod world;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use heirloom_model::counter::{Epoch, LogIndex, PlanNumber, Serial};
use heirloom_model::digest::{Nonce, sha256};
use heirloom_model::domain::{HoldingOrigin, PlanStep, PossessionProof};
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::SERVICE_PEERS_MAX;
use heirloom_model::log::LogEntry;
use heirloom_model::plan::{
    Action, Gate, KeyringGround, Plan, ServiceAction, Step, StepId, Strategy,
};
use heirloom_model::service::{Admission, Writing};
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_testkit::service;
use heirloom_upgrade::gate::holds;
use heirloom_upgrade::planner::{Arrangement, FlagDayRequest, PlanRequest, plan};

use crate::world::{CHECKSUM, World};

/// The largest fleet.
const FLEET: usize = 10_000;
/// As many nodes as one service can have: each is a peer of each other one.
const SERVICE: usize = SERVICE_PEERS_MAX + 1;

/// A log of its own, without the copies that tests keep.
fn apply(state: &mut NetworkState, statement: &[u8]) {
    let entry = LogEntry::following(&state.position(), statement.to_vec());
    let applied = state.apply(&entry).expect("it follows");
    assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
}

/// A plan in which all nodes of the largest fleet do one thing, and all have done it.
fn all_done() -> (NetworkState, Plan) {
    let world = World::new(2, "ledger-2");
    let mut state = world.state().clone();
    let nodes = world.ceremony.nodes(FLEET);
    apply(&mut state, &wire::encode(&world.ceremony.fleet(Serial(2), nodes.clone())));
    let policy = state.policy(&world.ceremony.domain).expect("there is one");
    let committed =
        *state.domain(&world.ceremony.domain).and_then(|it| it.committed()).expect("it");
    let placement = service::placement(&world.keeper);
    let step = |(number, node): (u32, &NodeId)| Step {
        id: StepId(number),
        node: node.clone(),
        wave: 0,
        action: Action::Drain(placement),
        gates: Vec::new(),
    };
    let names: Vec<NodeId> = nodes.iter().map(|node| node.node.clone()).collect();
    let plan = Plan {
        network: world.ceremony.network,
        keyring: Some(KeyringGround {
            from: placement,
            to: placement,
            via: None,
            policy: policy.serial,
            generation: committed.generation,
            checksum: committed.checksum,
            holders_min: 2,
            others: Vec::new(),
        }),
        domain: world.ceremony.domain,
        number: PlanNumber(1),
        strategy: Strategy::Rolling,
        steps: (0..).zip(&names).map(step).collect(),
        nodes: names,
        rollback: Vec::new(),
        point_of_no_return: StepId(0),
        not_after: Epoch(20),
        nonce: Nonce::new([6; 32]),
        service: None,
        participant: None,
    };
    apply(&mut state, &wire::encode(&world.ceremony.proposal(&plan)));
    approve(&mut state, &world, &plan);
    for step in &plan.steps {
        apply(&mut state, &wire::encode(&world.ceremony.result(&plan, step.id)));
    }
    (state, plan)
}

fn approve(state: &mut NetworkState, world: &World, plan: &Plan) {
    for operator in 0..2 {
        let approval = world.ceremony.approval(plan.digest(), operator, Epoch(50));
        apply(state, &wire::encode(&approval));
    }
}

/// A flag day on which every service has frozen.
fn all_frozen() -> (World, Plan) {
    let mut world = World::new(SERVICE, "ledger-2");
    let request = PlanRequest {
        domain: world.ceremony.domain,
        from: world.keeper.digest(),
        to: world.keeper.digest(),
        not_after: Epoch(20),
        nonce: Nonce::new([6; 32]),
        arrangement: Arrangement::FlagDay(FlagDayRequest {
            application: service::application(),
            from: world.from.digest(),
            to: world.to.digest(),
            terms: service::terms(&world.from, &world.to),
            opens: Epoch(1),
            abort_after: Epoch(8),
            rehearsals: 0,
            stages: Vec::new(),
            withdraw: None,
        }),
    };
    let (plan, _) = plan(&request, world.state()).expect("the fleet is sound");
    let proposal = wire::encode(&world.ceremony.proposal(&plan));
    world.accept(&proposal);
    for operator in 0..2 {
        let approval = world.ceremony.approval(plan.digest(), operator, Epoch(50));
        world.accept(&wire::encode(&approval));
    }
    for step in &plan.steps {
        if matches!(step.action, Action::Service(ServiceAction::Halt(_))) {
            break;
        }
        carry_out(&mut world, &plan, step);
    }
    (world, plan)
}

fn carry_out(world: &mut World, plan: &Plan, step: &Step) {
    let by = PlanStep { plan: plan.digest(), step: step.id };
    let made = match &step.action {
        Action::Verify { targets, .. } => {
            let nonce = Nonce::new(sha256(&[b"bench challenge"]));
            let challenge = wire::encode(&world.ceremony.challenge(plan, step.id, nonce));
            world.accept(&challenge);
            for node in targets {
                let proof = proof(world, plan, node, nonce);
                let signed = world.ceremony.countersigned(&world.keeper_states(node, &proof));
                world.accept(&signed);
            }
            None
        }
        Action::Service(ServiceAction::Equip(code)) => {
            Some(world.trial(&step.node, code.measurement, by))
        }
        Action::Service(ServiceAction::Freeze(_)) => {
            let host = world.hosts.get_mut(&step.node).expect("it is a node");
            let process = host.service.process.as_mut().expect("it runs");
            (process.admission, process.writing) = (Admission::Closed, Writing::Frozen);
            world.standing(&step.node, by)
        }
        Action::Service(ServiceAction::Muster(_)) => world.standing(&step.node, by),
        _ => None,
    };
    if let Some(made) = made {
        let signed = world.ceremony.countersigned(&made);
        world.accept(&signed);
    }
    let result = wire::encode(&world.ceremony.result(plan, step.id));
    world.accept(&result);
}

fn proof(world: &World, plan: &Plan, node: &NodeId, challenge: Nonce) -> PossessionProof {
    PossessionProof {
        network: world.ceremony.network,
        domain: world.ceremony.domain,
        node: node.clone(),
        challenge,
        generation: plan.keyring.as_ref().expect("it moves a keyring").generation,
        checksum: CHECKSUM,
        origin: HoldingOrigin::Recovered,
        as_of: world.state().position(),
        policy: Serial(1),
        measurement: plan.keyring.as_ref().expect("it moves a keyring").from.measurement,
    }
}

fn gates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gates");
    let (state, plan) = all_done();
    assert!(state.position().length > LogIndex(10_000));
    let last = |plan: &Plan| plan.steps.last().expect("it has steps").id;
    let gate = Gate::AllDone { first: StepId(0), last: last(&plan) };
    holds(&gate, &plan, &state).expect("all are done");
    group.bench_function("all of 10000 done", |bencher| {
        bencher.iter(|| holds(black_box(&gate), &plan, &state));
    });
    let (world, plan) = all_frozen();
    let is_freeze = |step: &&Step| matches!(step.action, Action::Service(ServiceAction::Freeze(_)));
    let first = plan.steps.iter().find(is_freeze).expect("it freezes").id;
    let last = plan.steps.iter().rev().find(is_freeze).expect("it freezes").id;
    let gate = Gate::Agreed { first, last };
    holds(&gate, &plan, world.state()).expect("all agree");
    group.bench_function("all of 129 agreed", |bencher| {
        bencher.iter(|| holds(black_box(&gate), &plan, world.state()));
    });
    group.finish();
}

criterion_group!(benches, gates);
criterion_main!(benches);
