//! Nodes that freeze while others come and go.

use heirloom_ledger::output::PaymentPath;
use heirloom_ledger_shell::raft::types::number;
use heirloom_ledger_shell::run::Begin;
use heirloom_model::service::{Admission, ServiceRequest, ServiceResponse, Writing};

use crate::world::{Node, World, admit, stop, wait};

const FREEZE: ServiceRequest = ServiceRequest::Freeze { quiet_milliseconds: 50 };

/// Which of the nodes leads.
fn leader(nodes: &[Node]) -> usize {
    let mut found = None;
    wait("all know the same leader", || {
        let says = |node: &Node| node.service().raft().unwrap().metrics().borrow().current_leader;
        let said = says(&nodes[0]);
        let own = |node: &Node| Some(number(&node.service().instance().own().node));
        found = nodes.iter().position(|node| own(node) == said);
        nodes.iter().all(|node| says(node) == said)
    });
    found.expect("one of them leads")
}

/// Nodes with some blocks that are closed, and all but one of them frozen.
fn frozen_but_one(world: &World, choose: fn(usize) -> usize) -> (Vec<Node>, usize) {
    let nodes = world.open();
    let clients: Vec<_> = nodes.iter().map(Node::client).collect();
    for round in 0..6 {
        world.pay((round % 2, 1), PaymentPath::Public, &clients[0], &clients[1]);
    }
    admit(&nodes, Admission::Closed);
    let last = choose(leader(&nodes));
    for (_, node) in nodes.iter().enumerate().filter(|(at, _)| *at != last) {
        wait("it freezes", || node.ask(&FREEZE) == ServiceResponse::Done);
    }
    (nodes, last)
}

/// The last one was away, and freezes where the others did.
fn freezes_when_it_is_back(world: &World, mut nodes: Vec<Node>, last: usize) {
    nodes.insert(last, world.start(last));
    wait("it freezes, too", || nodes[last].ask(&FREEZE) == ServiceResponse::Done);
    for node in &nodes {
        assert_eq!(node.tip(), nodes[0].tip());
        assert_eq!(node.service().status().writing, Writing::Frozen);
    }
    wait("all have the same log", || {
        let raft = |node: &Node| node.service().raft().unwrap().metrics().borrow().clone();
        let end = raft(&nodes[0]).last_log_index;
        nodes.iter().all(|node| raft(node).last_applied.map(|last| last.index) == end)
    });
    stop(nodes);
}

/// Whoever led before it ended leads again at once, and has to find out where the logs of the
/// others end: it sends them what they have.
#[test]
fn a_leader_that_comes_back_freezes_where_the_others_did() {
    let world = World::new();
    let (mut nodes, last) = frozen_but_one(&world, |leader| leader);
    nodes.remove(last).stop();
    freezes_when_it_is_back(&world, nodes, last);
}

#[test]
fn a_follower_that_comes_back_freezes_where_the_others_did() {
    let world = World::new();
    let (mut nodes, last) = frozen_but_one(&world, |leader| (leader + 1) % 3);
    nodes.remove(last).stop();
    freezes_when_it_is_back(&world, nodes, last);
}

/// It may have had more than the others know, whether it led or not.
#[test]
fn nobody_freezes_while_a_peer_that_has_just_gone_is_not_back() {
    for choose in [|leader| leader, |leader| (leader + 1) % 3] {
        let world = World::new();
        let mut nodes = world.open();
        let clients: Vec<_> = nodes.iter().map(Node::client).collect();
        world.pay((0, 1), PaymentPath::Public, &clients[0], &clients[1]);
        admit(&nodes, Admission::Closed);
        let last: usize = choose(leader(&nodes));
        nodes.remove(last).stop();
        for node in &nodes {
            wait("it is gone", || node.service().status().peers.len() == 1);
            let ServiceResponse::NotYet { reason } = node.ask(&FREEZE) else {
                panic!("nobody knows what the last one has")
            };
            let expected = format!("node-{} has not said lately", last + 1);
            assert!(reason.contains(&expected), "{reason}");
        }
        nodes.insert(last, world.start(last));
        for node in &nodes {
            wait("it freezes", || node.ask(&FREEZE) == ServiceResponse::Done);
        }
        assert!(nodes.iter().all(|node| node.tip() == nodes[0].tip()));
        stop(nodes);
    }
}

/// Nodes that had promised die one after the other. Without them the last one would have nobody
/// to agree with; with them it freezes where they did, and nothing is appended meanwhile.
#[test]
fn frozen_nodes_that_come_back_frozen_let_the_last_one_freeze() {
    let world = World::new();
    let (mut nodes, last) = frozen_but_one(&world, |leader| leader);
    let frozen: Vec<usize> = (0..3).filter(|at| *at != last).collect();
    for at in frozen {
        let tip = nodes[at].tip();
        nodes.remove(at).stop();
        nodes.insert(at, world.start_as(at, Begin::Frozen(tip)));
        let status = nodes[at].service().status();
        assert_eq!((status.writing, status.tip), (Writing::Frozen, Some(tip)));
    }
    nodes.remove(last).stop();
    freezes_when_it_is_back(&world, nodes, last);
}

/// Frozen nodes follow whoever leads next, and whoever comes back follows too.
#[test]
fn frozen_nodes_agree_on_the_next_leader() {
    let world = World::new();
    let (mut nodes, last) = frozen_but_one(&world, |leader| leader);
    let gone = Some(number(&nodes[last].service().instance().own().node));
    nodes.remove(last).stop();
    wait("somebody else leads, and both follow", || {
        let raft = |node: &Node| node.service().raft().unwrap().metrics().borrow().clone();
        let (one, other) = (raft(&nodes[0]), raft(&nodes[1]));
        one.current_leader != gone
            && one.current_leader.is_some()
            && one.current_leader == other.current_leader
            && one.last_applied == other.last_applied
            && one.last_applied.map(|last| last.index) == one.last_log_index
    });
    freezes_when_it_is_back(&world, nodes, last);
}
