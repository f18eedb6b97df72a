//! What happens in a closed window.

use heirloom_ledger::output::PaymentPath;
use heirloom_ledger_shell::tool::node_client::CallError;
use heirloom_model::digest::PlanDigest;
use heirloom_model::domain::PlanStep;
use heirloom_model::envelope::Envelope;
use heirloom_model::plan::StepId;
use heirloom_model::service::{Admission, ServiceRequest, ServiceResponse, Standing, Writing};
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_registry::port::LogStore;

use crate::world::{Node, World, admit, stop, wait};

const FREEZE: ServiceRequest = ServiceRequest::Freeze { quiet_milliseconds: 50 };

#[test]
fn a_frozen_node_appends_nothing_until_the_plan_is_called_off() {
    let world = World::new();
    let nodes = world.open();
    let clients: Vec<_> = nodes.iter().map(Node::client).collect();
    world.pay((0, 1), PaymentPath::Public, &clients[0], &clients[2]);
    let frozen = &nodes[2];
    let early = frozen.ask(&FREEZE);
    assert!(matches!(early, ServiceResponse::NotYet { .. }), "clients are let in: {early:?}");
    frozen.admit(Admission::Closed);
    assert_eq!(clients[2].tip(), Err(CallError::Closed));
    wait("it freezes", || frozen.ask(&FREEZE) == ServiceResponse::Done);
    let promised = frozen.tip();

    // The others go on: they have a majority, and their clients are let in.
    world.pay((0, 1), PaymentPath::Public, &clients[0], &clients[1]);
    world.pay((1, 0), PaymentPath::Private, &clients[1], &clients[0]);
    wait("it hears of more blocks", || frozen.service().highest_of_peers() > promised.height);
    assert_eq!(frozen.tip(), promised);
    assert_eq!(frozen.service().status().writing, Writing::Frozen);

    assert_eq!(frozen.ask(&ServiceRequest::Thaw), ServiceResponse::Done);
    wait("it has caught up", || frozen.tip() == nodes[0].tip());
    stop(nodes);
}

/// Two of three agree without the third one, which may have more than they know.
#[test]
fn a_node_does_not_freeze_while_a_peer_is_not_heard() {
    let world = World::new();
    (0..3).for_each(|number| world.create(number));
    let nodes: Vec<_> = (0..2).map(|number| world.start(number)).collect();
    wait("it waits for the third one alone", || match nodes[0].ask(&FREEZE) {
        ServiceResponse::NotYet { reason } => reason.contains("node-3 has not said"),
        other => panic!("{other:?}"),
    });
    let third = world.start(2);
    wait("it freezes", || nodes[0].ask(&FREEZE) == ServiceResponse::Done);
    third.stop();
    stop(nodes);
}

#[test]
fn a_standing_is_signed_by_the_instance_and_vouched_for_by_its_platform() {
    let world = World::new();
    let nodes = world.open();
    let node = &nodes[1];
    let step = PlanStep { plan: PlanDigest::new([1; 32]), step: StepId(3) };
    let ServiceResponse::Statement(statement) = node.ask(&ServiceRequest::State { step }) else {
        panic!("no statement");
    };
    let envelope: Envelope = wire::decode(&statement).unwrap();
    let standing: Standing = envelope.unverified().unwrap();
    assert_eq!((standing.step, standing.node.as_str()), (step, "node-2"));
    assert_eq!(standing.tip, Some(node.tip()));
    assert_eq!(standing.peers.len(), 2);
    assert!(standing.peers.iter().all(|peer| peer.measurement == world.code.measurement));
    let names: Vec<&str> = standing.keys.iter().map(|key| key.key.as_str()).collect();
    assert_eq!(names, ["instance", "view"]);
    let instance = standing.keys[0].public.unwrap();
    assert_eq!(envelope.signatures.len(), 1);
    assert_eq!(envelope.signatures[0].key, instance);
    let mut state = NetworkState::new(world.ceremony.network);
    for entry in world.log.read(heirloom_model::counter::LogIndex(0), 100).unwrap() {
        assert!(state.apply(&entry).is_ok());
    }
    let evidence = envelope.evidence.as_ref().unwrap();
    let data = envelope.report_data(&instance);
    let result = state.appraise_in(&world.ceremony.domain, evidence, &data).unwrap();
    assert_eq!(result.measurement(), world.code.measurement);
    stop(nodes);
}

/// What was agreed on for the copy of one plan is nothing to the copy of the next one, though the
/// same code has the votes of both.
#[test]
fn blocks_of_a_plan_that_was_called_off_never_come_back() {
    let world = World::new();
    let pay = |nodes: &[Node]| {
        admit(nodes, Admission::Open);
        let (one, other) = (nodes[0].client(), nodes[1].client());
        world.pay((0, 1), PaymentPath::Public, &one, &other);
    };
    let nodes = world.open();
    pay(&nodes);
    wait("all have it", || nodes.iter().all(|node| node.tip() == nodes[0].tip()));
    let frozen = nodes[0].tip();
    stop(nodes);

    let use_all = |name: &str| (0..3).for_each(|number| world.put_in_use(number, name));
    use_all("migrated-01");
    let tried = world.start_all();
    pay(&tried);
    pay(&tried);
    stop(tried);

    use_all("original");
    let back = world.start_all();
    assert!(back.iter().all(|node| node.tip() == frozen), "the way back ends where it froze");
    stop(back);

    use_all("migrated-02");
    let again = world.start_all();
    pay(&again);
    wait("all have it", || again.iter().all(|node| node.tip() == again[0].tip()));
    assert_eq!(again[0].tip().height.0, frozen.height.0 + 1, "one block for one payment");
    stop(again);
}
