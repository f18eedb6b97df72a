//! Nodes as measured processes: launched by a platform's daemon, with their key from keepers.

#![cfg(test)]

mod data;
mod world;

use std::fs;
use std::thread;

use heirloom_launcher::protocol::InstanceState;
use heirloom_ledger_shell::command::{End, Load};
use heirloom_ledger_shell::tool::load::load;
use heirloom_model::service::{Admission, ServiceRequest, ServiceResponse};
use serde_json::Value;

use world::{World, wait};

#[test]
fn measured_nodes_agree_and_one_that_was_killed_in_between_catches_up() {
    let world = World::new();
    for number in 0..3 {
        world.launch(number, &[]);
    }
    for number in 0..3 {
        wait("every peer is attested", || {
            let status = world.status(number);
            status.is_some_and(|status| status.peers.len() == 2 && status.waits_for.is_none())
        });
        let done = world.ask(number, &ServiceRequest::Admit(Admission::Open));
        assert_eq!(done, Some(ServiceResponse::Done));
    }
    let keys = |number: usize| world.status(number).unwrap().keys;
    assert_eq!(keys(0)[1].public, keys(2)[1].public, "all have the same view key");
    assert_ne!(keys(0)[0].public, keys(2)[0].public, "each makes its own instance key");

    let (report, until) = (world.path("report.json"), world.path("stop"));
    let asked = Load {
        edge: vec![world.front(0), world.front(1)],
        wallets: world.path("made").join("wallets"),
        report: report.clone(),
        end: End { payments: None, until_file: Some(until.clone()) },
        pause_ms: 1,
    };
    let paying = thread::spawn(move || load(&asked).unwrap());
    let confirmed = || -> u64 {
        let text = fs::read(&report).unwrap_or_default();
        let report: Value = serde_json::from_slice(&text).unwrap_or_default();
        report["payments_confirmed"].as_u64().unwrap_or(0)
    };
    wait("payments are confirmed", || confirmed() >= 4);
    world.kill(2);
    let before = confirmed();
    wait("payments go on", || confirmed() >= before + 4);
    world.launch(2, &[]);
    fs::write(&until, []).unwrap();
    paying.join().unwrap();
    let tip = world.status(0).unwrap().tip;
    wait("it has caught up", || world.status(2).is_some_and(|status| status.tip == tip));

    // Its ledger ends elsewhere than its agent was told.
    world.kill(2);
    let wrong = ["--expect-height", "1", "--expect-tip", &"01".repeat(32)];
    world.launch(2, &wrong);
    wait("it refuses to serve", || world.state(2) == InstanceState::Exited(3));
    assert!(world.log(2).contains("this node refuses to serve"), "{}", world.log(2));
}

#[test]
fn code_that_is_tried_gets_its_keys_and_has_no_ledger() {
    let world = World::new();
    world.launch_trial();
    wait("it answers", || world.status(0).is_some());
    let status = world.status(0).unwrap();
    assert_eq!((status.tip, status.loaded, status.schema), (None, None, None));
    assert_eq!(status.measurement, world.measurement);
    assert!(status.keys.iter().all(|key| key.public.is_some()));
    let refused = world.ask(0, &ServiceRequest::Admit(Admission::Open));
    assert!(matches!(refused, Some(ServiceResponse::Refused { .. })));
    assert_eq!(world.ask(0, &ServiceRequest::Shutdown), Some(ServiceResponse::Done));
    wait("it ends", || world.state(0) == InstanceState::Exited(0));
}

/// Each of them is killed in its turn, also the one that leads: it leads again at once.
#[test]
fn a_node_that_is_killed_after_the_others_froze_freezes_where_they_did() {
    const FREEZE: ServiceRequest = ServiceRequest::Freeze { quiet_milliseconds: 50 };
    let world = World::new();
    for number in 0..3 {
        world.launch(number, &[]);
    }
    let done = |number: usize, request: &ServiceRequest| {
        wait("it is done", || world.ask(number, request) == Some(ServiceResponse::Done));
    };
    for killed in 0..3 {
        (0..3).for_each(|number| done(number, &ServiceRequest::Admit(Admission::Open)));
        let asked = Load {
            edge: vec![world.front(0), world.front(1), world.front(2)],
            wallets: world.path("made").join("wallets"),
            report: world.path("report.json"),
            end: End { payments: Some(6), until_file: None },
            pause_ms: 1,
        };
        load(&asked).unwrap();
        (0..3).for_each(|number| done(number, &ServiceRequest::Admit(Admission::Closed)));
        (0..3).filter(|number| *number != killed).for_each(|number| done(number, &FREEZE));
        world.kill(killed);
        world.launch(killed, &[]);
        done(killed, &FREEZE);
        let tip = |number: usize| world.status(number).unwrap().tip;
        assert!((0..3).all(|number| tip(number) == tip(killed)));
        (0..3).for_each(|number| done(number, &ServiceRequest::Thaw));
    }
}
