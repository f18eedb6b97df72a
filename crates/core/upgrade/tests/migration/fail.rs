//! Where a node, a snapshot or the log does not go along.

use heirloom_model::statement::StatementKind;
use heirloom_registry::plan::AbortCause;
use heirloom_upgrade::agent::{Tick, Trouble};
use heirloom_upgrade::port::DriverError;

use super::moving;
use crate::world::lock;

#[test]
fn what_nobody_notices_yet_is_tried_again_and_calls_nothing_off() {
    for name in ["survey", "enroll", "allocate", "supply"] {
        let mut it = moving(2);
        let node = it.plan.nodes[0].clone();
        let refused = DriverError::Refused("test".to_owned());
        lock(&it.world).hosts.get_mut(&node).unwrap().fail.insert(name, refused);
        for _ in 0..40 {
            it.round();
        }
        assert!(it.asked(|plan| plan.aborted().is_none()), "{name}");
        let refused = matches!(&it.last[&node], Ok(Tick::Refused(_)));
        assert!(refused, "{name}: {:?}", it.last[&node]);
        lock(&it.world).hosts.get_mut(&node).unwrap().fail.clear();
        it.finish();
    }
}

#[test]
fn what_cannot_succeed_after_that_calls_the_plan_off() {
    let names = ["quiesce", "export", "rewrite", "safeguard", "import", "connect", "reconcile"];
    for name in names {
        for error in [
            DriverError::Refused("test".to_owned()),
            DriverError::Missing { what: "test".to_owned() },
            DriverError::Full("test".to_owned()),
        ] {
            let mut it = moving(2);
            let node = it.plan.nodes[1].clone();
            lock(&it.world).hosts.get_mut(&node).unwrap().fail.insert(name, error);
            it.run(|it| it.asked(|plan| plan.aborted().is_some()));
            let cause = it.asked(|plan| plan.abort_cause().cloned());
            assert!(matches!(cause, Some(AbortCause::Agent { node: by, .. }) if by == node));
            it.is_back();
        }
    }
}

#[test]
fn what_has_no_answer_is_asked_again() {
    let mut it = moving(1);
    let node = it.plan.nodes[0].clone();
    let unknown = DriverError::Unknown("slow".to_owned());
    lock(&it.world).hosts.get_mut(&node).unwrap().fail.insert("import", unknown);
    for _ in 0..80 {
        it.round();
    }
    assert!(it.asked(|plan| plan.aborted().is_none()));
    assert!(format!("{:?}", it.last[&node]).contains("slow"));
    lock(&it.world).hosts.get_mut(&node).unwrap().fail.clear();
    it.finish();
}

#[test]
fn nodes_that_rewrote_the_same_contracts_differently_call_it_off() {
    let mut it = moving(2);
    let node = it.plan.nodes[1].clone();
    lock(&it.world).hosts.get_mut(&node).unwrap().stubborn = true;
    it.run(|it| it.asked(|plan| plan.aborted().is_some()));
    assert!(lock(&it.world).hosts.values().all(|host| !host.calls.contains(&"safeguard")));
    let cause = format!("{:?}", it.asked(|plan| plan.abort_cause().cloned()));
    assert!(cause.contains("shared contracts"), "{cause}");
    it.is_back();
}

#[test]
fn a_source_that_changed_since_its_survey_is_not_moved() {
    let mut it = moving(1);
    let node = it.plan.nodes[0].clone();
    let party = "bob::1220aa0001".parse().unwrap();
    lock(&it.world).hosts.get_mut(&node).unwrap().source.parties.insert(party);
    for _ in 0..20 {
        it.round();
    }
    let told = &it.last[&node];
    assert!(
        matches!(
            told,
            Ok(Tick::Refused(Trouble::Step { source: DriverError::Unexpected { .. }, .. }))
        ),
        "{told:?}"
    );
    assert!(!lock(&it.world).hosts[&node].calls.contains(&"enroll"));
}

#[test]
fn a_source_that_moves_after_it_was_quiet_calls_it_off() {
    let mut it = moving(2);
    let node = it.plan.nodes[0].clone();
    let digest = it.plan.digest();
    it.run(|it| {
        let world = lock(&it.world);
        world.state.plan(&digest).unwrap().quiesced(&node).is_some()
    });
    lock(&it.world).hosts.get_mut(&node).unwrap().source.ledger_end += 1;
    it.run(|it| it.asked(|plan| plan.aborted().is_some()));
    it.is_back();
}

#[test]
fn a_statement_that_gets_lost_is_made_again() {
    for kind in [
        StatementKind::ParticipantSurvey,
        StatementKind::ParticipantStanding,
        StatementKind::StepResult,
    ] {
        let mut it = moving(2);
        lock(&it.world).lost.insert(kind, 3);
        it.finish();
    }
}
