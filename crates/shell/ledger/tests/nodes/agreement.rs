//! Nodes agree, come back, and show when they do not agree.

use heirloom_ledger::output::{OutputId, PaymentPath};
use heirloom_ledger_store::prepare::{Prepared, prepare};
use heirloom_model::service::{Admission, ServiceRequest, ServiceResponse};

use crate::world::{Node, SCHEMA, World, stop, wait};

#[test]
fn three_nodes_agree_and_one_that_was_killed_catches_up() {
    let world = World::new();
    let mut nodes = world.open();
    let clients: Vec<_> = nodes.iter().map(Node::client).collect();
    world.pay((0, 0), PaymentPath::Public, &clients[0], &clients[1]);
    world.pay((0, 1), PaymentPath::Public, &clients[1], &clients[2]);
    world.pay((1, 0), PaymentPath::Private, &clients[2], &clients[0]);
    let last = nodes.remove(2);
    last.stop();
    let paid = world.pay((0, 1), PaymentPath::Private, &clients[0], &clients[1]);
    world.pay((1, 1), PaymentPath::Public, &clients[1], &clients[0]);
    let back = world.start(2);
    wait("it has caught up", || back.tip() == nodes[0].tip());
    assert_eq!(nodes[0].tip(), nodes[1].tip());

    // The recipient finds what was paid privately, at every node; nobody else does.
    back.admit(Admission::SideDoor);
    let door = back.door();
    let known = door.info().unwrap();
    let output = OutputId::of(&paid.id(), 0);
    let finds = |wallet: usize| {
        let found = door.private_coins(&world.wallets[wallet], &known).unwrap();
        found.iter().any(|found| found.output == output)
    };
    assert!(finds(1));
    assert!(!finds(0));
    back.stop();
    stop(nodes);
}

#[test]
fn another_block_at_the_same_height_is_a_fork_on_both_sides() {
    let world = World::new();
    let fill = |number: usize, faucet: usize| {
        let prepared = Prepared {
            network: world.ceremony.network,
            configuration: &world.configuration,
            schema: SCHEMA,
            blocks: 9,
            faucet: world.wallets[faucet].key(),
            view: None,
            node: "prepare".parse().unwrap(),
            measurement: world.code.measurement,
            instance: world.wallets[0].key(),
        };
        prepare(&world.data(number), &prepared, &mut |_| ()).unwrap();
    };
    // The third ledger says that somebody else paid.
    for (number, faucet) in [(0, 0), (1, 0), (2, 1)] {
        fill(number, faucet);
    }
    let nodes: Vec<_> = (0..3).map(|number| world.start(number)).collect();
    for node in &nodes {
        wait("the fork shows", || node.service().status().fork.is_some());
        let asked = node.ask(&ServiceRequest::Admit(Admission::Open));
        assert!(matches!(asked, ServiceResponse::Refused { .. }), "{asked:?}");
        assert_eq!(node.service().admission(), Admission::Closed);
    }
    stop(nodes);
}

/// The log that it would need is gone everywhere: it is sent blocks, and follows from there on.
#[test]
fn a_node_that_lags_behind_the_log_is_sent_blocks() {
    let world = World::new();
    let mut nodes = world.open();
    nodes.remove(2).stop();
    let clients: Vec<_> = nodes.iter().map(Node::client).collect();
    for round in 0..4 {
        world.pay((round % 2, 1), PaymentPath::Public, &clients[0], &clients[1]);
    }
    for node in &nodes {
        let raft = node.service().raft().unwrap();
        let runtime = node.service().runtime();
        let applied = || raft.metrics().borrow().last_applied.map(|last| last.index);
        let upto = applied().unwrap();
        runtime.block_on(raft.trigger().snapshot()).unwrap();
        let noted = || raft.metrics().borrow().snapshot.map(|last| last.index);
        wait("a snapshot is noted", || noted() >= Some(upto));
        runtime.block_on(raft.trigger().purge_log(upto)).unwrap();
        wait("the log is gone", || {
            raft.metrics().borrow().purged.map(|last| last.index) >= Some(upto)
        });
    }
    let back = world.start(2);
    wait("it has caught up", || back.tip() == nodes[0].tip());
    world.pay((0, 1), PaymentPath::Private, &clients[0], &clients[1]);
    wait("it follows from there on", || back.tip() == nodes[0].tip());
    back.stop();

    // What was noted is enough for a start.
    let again = world.start(2);
    wait("it has not lost anything", || again.tip() == nodes[0].tip());
    again.stop();
    stop(nodes);
}
