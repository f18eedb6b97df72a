//! Fleets.

use heirloom_model::counter::{Serial, Time};
use heirloom_model::digest::NetworkId;
use heirloom_model::envelope::Envelope;
use heirloom_model::fleet::OperatorKey;
use heirloom_model::root::Role;

use crate::world::{DOMAIN, END, Instance, OLD, World, agent, check, name, role_keys, signed};

#[test]
fn a_fleet_is_the_next_and_its_nodes_are_told_apart() {
    let mut world = World::begun();
    let fleet = world.fleet();
    check(
        &mut world,
        &fleet,
        |fleet| signed(fleet, Role::Operator),
        &[
            ("another network", "other-network", |fleet| fleet.network = NetworkId::new([1; 32])),
            ("a serial left out", "not-next", |fleet| fleet.serial = Serial(2)),
            ("expired", "expired", |fleet| fleet.not_after = Time(1)),
            ("no nodes", "shape", |fleet| fleet.nodes.clear()),
            ("nodes out of order", "shape", |fleet| fleet.nodes.swap(0, 1)),
            ("a node twice", "shape", |fleet| {
                let node = fleet.nodes[3].clone();
                fleet.nodes.push(node);
            }),
            ("one key for two agents", "shape", |fleet| {
                fleet.nodes[3].agent = fleet.nodes[0].agent;
            }),
        ],
    );
    let one = Envelope::signed(&fleet, &role_keys(Role::Operator)[..1]);
    assert_eq!(world.code(&one), "threshold-not-met");
    assert_eq!(world.code(&signed(&fleet, Role::Policy)), "unknown-signer");
    world.accept(&signed(&fleet, Role::Operator));
    assert_eq!(world.code(&signed(&fleet, Role::Operator)), "not-next");
    assert_eq!(world.state.nodes_of(DOMAIN).count(), 3);
}

#[test]
fn an_operator_has_one_key_of_the_role_and_shares_it_with_nobody() {
    let mut world = World::begun();
    let mut fleet = world.fleet();
    let named = |operator: &str, number: usize| OperatorKey {
        operator: name(operator),
        key: role_keys(Role::Operator)[number].public_key(),
    };
    fleet.operators = vec![named("alice", 0), named("bob", 1)];
    check(
        &mut world,
        &fleet,
        |fleet| signed(fleet, Role::Operator),
        &[
            ("nobody", "accepted", |fleet| fleet.operators.clear()),
            ("out of order", "shape", |fleet| fleet.operators.swap(0, 1)),
            ("a name twice", "shape", |fleet| fleet.operators[1].operator = name("alice")),
            ("a key twice", "shape", |fleet| {
                fleet.operators[1].key = fleet.operators[0].key;
            }),
            ("a key of another role", "shape", |fleet| {
                fleet.operators[1].key = role_keys(Role::Policy)[1].public_key();
            }),
            ("the key of an agent", "shape", |fleet| {
                fleet.operators[1].key = agent("n1").public_key();
            }),
        ],
    );
    world.accept(&signed(&fleet, Role::Operator));
    let known = role_keys(Role::Operator)[1].public_key();
    assert_eq!(world.state.key_of(&name("bob")), Ok(&known));
    assert_eq!(world.state.key_of(&name("carol")).unwrap_err().code(), "no-operator-key");
    // A root that takes the key out of the role takes it away from the operator too.
    let mut root = world.second_root();
    let role = root.roles.iter_mut().find(|role| role.role == Role::Operator).unwrap();
    role.keys.retain(|key| *key != known);
    world.accept(&signed(&root, Role::Root));
    assert_eq!(world.state.key_of(&name("bob")).unwrap_err().code(), "no-operator-key");
}

#[test]
fn a_node_that_left_the_fleet_is_not_heard() {
    let mut world = World::with_genesis();
    let registration = world.registration("n2");
    world.accept(&Instance::new("n2", OLD).attest(&registration));
    assert!(world.state.domain(&DOMAIN).unwrap().registration(&name("n2")).is_some());
    let mut fleet = world.fleet();
    fleet.nodes.retain(|node| node.node != name("n2"));
    world.accept(&signed(&fleet, Role::Operator));
    assert!(world.state.domain(&DOMAIN).unwrap().registration(&name("n2")).is_none());
    let registration = world.registration("n2");
    assert_eq!(world.code(&Instance::new("n2", OLD).attest(&registration)), "unknown-node");
    let mut challenge = world.challenge(1);
    challenge.verifier = name("n2");
    assert_eq!(world.code(&Envelope::signed(&challenge, [&agent("n2")])), "unknown-node");
}

#[test]
fn nobody_speaks_for_an_expired_fleet() {
    let mut world = World::with_genesis();
    let mut fleet = world.fleet();
    fleet.not_after = world.state.now().unwrap();
    world.accept(&signed(&fleet, Role::Operator));
    let challenge = |world: &World| Envelope::signed(&world.challenge(1), [&agent("n1")]);
    assert_eq!(world.code(&challenge(&world)), "accepted");
    world.tick();
    assert_eq!(world.code(&challenge(&world)), "expired");
    let registration = world.registration("n1");
    assert_eq!(world.code(&Instance::new("n1", OLD).attest(&registration)), "expired");
    let mut fleet = world.fleet();
    fleet.not_after = END;
    world.accept(&signed(&fleet, Role::Operator));
    assert_eq!(world.code(&challenge(&world)), "accepted");
}
