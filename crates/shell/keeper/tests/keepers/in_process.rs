//! Three keepers in one process, over real sockets and files, on emulated machines.

use std::os::unix::net::UnixStream;

use heirloom_keeper_shell::run::End;
use heirloom_model::admin::{AdminRefusal, AdminRequest, AdminResponse, Unreadable};
use heirloom_model::digest::{Nonce, PlanDigest};
use heirloom_model::domain::{HoldingOrigin, PlanStep};
use heirloom_model::plan::StepId;
use heirloom_model::protocol::ServingState;

use crate::world::{World, nobody, requests};

/// The whole way of a rolling upgrade, as an agent would take it.
#[test]
fn a_keyring_survives_processes_and_moves_to_new_code() {
    let mut world = World::new();
    let (mut one, two) = (world.node(1, &world.old), world.node(2, &world.old));
    assert_eq!(one.status().state, ServingState::Starting);
    let listens = one.running.as_ref().unwrap().address();
    assert_eq!(one.status().address, listens.to_string());
    for generation in 0..3 {
        world.rotate(generation, &one, &two);
    }
    assert_eq!(one.status().state, ServingState::Ready);
    let before = world.keys(&one, &requests(300));
    assert_eq!(before, world.keys(&two, &requests(300)));
    assert!(before.iter().all(Result::is_ok));

    world.restart(&mut one, &world.old);
    world.feed(&one);
    let holding = one.status().holding.unwrap();
    assert_eq!(holding.origin, HoldingOrigin::Recovered);
    assert_eq!(one.ask(&AdminRequest::Probe), AdminResponse::Done);

    let mut three = world.node(3, &world.new);
    world.feed(&three);
    // Nobody is there; the new code itself holds nothing; the third source has it.
    let sources = vec![nobody(), three.source(), two.source()];
    assert_eq!(three.ask(&AdminRequest::Replicate { sources }), AdminResponse::Done);
    world.restart(&mut three, &world.new);
    world.feed(&three);
    let received = three.status().holding.unwrap();
    assert_eq!(received.checksum, holding.checksum);
    assert_eq!(received.origin, HoldingOrigin::Recovered);
    assert_eq!(before, world.keys(&three, &requests(300)));
    let registration = three.statement(&AdminRequest::Register);
    world.accept_bytes(&registration);
}

#[test]
fn a_drained_keeper_refuses_and_a_resumed_one_serves() {
    let mut world = World::new();
    let (one, two) = (world.node(1, &world.old), world.node(2, &world.old));
    world.rotate(0, &one, &two);
    assert_eq!(one.ask(&AdminRequest::Drain), AdminResponse::Done);
    assert_eq!(one.status().state, ServingState::Draining);
    let refused = world.keys(&one, &requests(1));
    assert_eq!(refused, [Err("this keeper is not serving: draining".to_owned())]);
    assert_eq!(one.ask(&AdminRequest::Resume), AdminResponse::Done);
    assert!(world.keys(&one, &requests(1)).iter().all(Result::is_ok));
}

#[test]
fn every_refusal_of_an_agent_has_its_own_name() {
    let mut world = World::new();
    let (mut one, two) = (world.node(1, &world.old), world.node(2, &world.old));
    world.rotate(0, &one, &two);
    let three = world.node(3, &world.new);
    let starting = AdminRefusal::State { state: ServingState::Starting };
    let sources = vec![one.source()];
    let replicate = AdminRequest::Replicate { sources };
    assert_eq!(three.ask(&replicate), AdminResponse::Refused(starting));
    world.feed(&three);
    let none = AdminRequest::Replicate { sources: vec![nobody(), nobody()] };
    match three.ask(&none) {
        AdminResponse::Refused(AdminRefusal::NotReplicated(reasons)) => {
            assert_eq!(reasons.matches("nobody: ").count(), 2, "{reasons}");
        }
        other => panic!("{other:?}"),
    }
    let unknown = AdminRequest::Prove { challenge: Nonce::new([9; 32]) };
    assert_eq!(one.ask(&unknown), AdminResponse::Refused(AdminRefusal::NotInLog));
    let again = AdminRequest::Follow { entries: world.log[..1].to_vec(), attended: None };
    let refused = one.ask(&again);
    assert!(matches!(refused, AdminResponse::Refused(AdminRefusal::Log(_))), "{refused:?}");

    let other = AdminRequest::Suspend(PlanStep { plan: PlanDigest::new([9; 32]), step: StepId(0) });
    let refused = one.ask(&other);
    assert!(matches!(refused, AdminResponse::Refused(_)), "{refused:?}");

    world.restart(&mut one, &world.new);
    world.feed(&one);
    let replicate = AdminRequest::Replicate { sources: vec![two.source()] };
    match one.ask(&replicate) {
        AdminResponse::Refused(AdminRefusal::Unreadable(Unreadable::WrongMeasurement {
            sealed_by,
            ..
        })) => assert_eq!(sealed_by, world.old.measurement),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_agent_can_end_it_in_order() {
    let world = World::new();
    let mut one = world.node(1, &world.old);
    assert_eq!(one.ask(&AdminRequest::Shutdown), AdminResponse::Done);
    let running = one.running.take().unwrap();
    assert_eq!(running.wait(), End::Shutdown);
    running.stop();
    assert!(!one.admin.exists());
    assert!(UnixStream::connect(&one.admin).is_err());
    // The directory is free again.
    world.start(&mut one, &world.old);
    assert_eq!(one.status().state, ServingState::Starting);
}

/// A frame that announces more than it may ends its connection and nothing else.
#[test]
fn junk_on_a_socket_ends_that_connection_only() {
    use std::io::{Read, Write};
    let world = World::new();
    let one = world.node(1, &world.old);
    for junk in [[0xff; 64].as_slice(), &[0, 0, 0, 1, 0x00], &[0, 0, 0, 9, 1]] {
        let mut stream = UnixStream::connect(&one.admin).unwrap();
        stream.write_all(junk).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        // The keeper closes without an answer; it may do so before it has read everything.
        stream.read_to_end(&mut rest).ok();
        assert!(rest.is_empty());
        let address = one.running.as_ref().unwrap().address();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(junk).unwrap();
        drop(stream);
    }
    assert_eq!(one.status().state, ServingState::Starting);
}
