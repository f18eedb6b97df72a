//! Flag days as a whole: their gates, their deadline, and who calls them off.

use heirloom_model::counter::Epoch;
use heirloom_model::digest::{NetworkId, PlanDigest, TermsDigest};
use heirloom_model::envelope::Envelope;
use heirloom_model::limit::NOTE_CHARACTERS_MAX;
use heirloom_model::plan::{Abort, Action, Gate, StepId};
use heirloom_model::root::{Role, Root};
use heirloom_model::service::{Rehearsal, Revocation};
use heirloom_registry::plan::{AbortCause, PlanStatus};

use crate::plan::abort;
use crate::service::{
    ABORT_AFTER, COMMIT, END_OF_PLAN, EQUIP, FENCE, FREEZE, FlagDay, HALT, LAUNCH, MUSTER, OPEN,
    OPENS, VERIFY_AGAIN, WATCH, by_agent, stated,
};
use crate::world::{World, agent, check, key, name, role_keys, signed};

#[test]
fn a_flag_day_runs_to_its_end() {
    let mut day = FlagDay::approved();
    assert_eq!(day.status(), PlanStatus::Approved);
    day.advance(0, COMMIT);
    assert_eq!(day.status(), PlanStatus::Approved, "until here it can be called off");
    day.carry_out(COMMIT);
    assert_eq!(day.status(), PlanStatus::PastNoReturn);
    day.advance(COMMIT + 1, END_OF_PLAN);
    assert_eq!(day.status(), PlanStatus::Finished);
    assert_eq!(day.state().standings().count(), 18);
}

#[test]
fn a_step_waits_for_every_step_of_a_range() {
    for left in 0..3 {
        let mut day = FlagDay::at(FENCE);
        for step in (FENCE..FENCE + 3).filter(|step| *step != FENCE + left) {
            day.carry_out(step);
        }
        let missing = StepId(FENCE + left);
        assert!(!day.state().is_settled(missing));
        let found = day.state().unsettled_in(StepId(FENCE), StepId(FENCE + 2));
        assert_eq!(found, Some(missing));
        let freeze = day.plan.step(StepId(FREEZE)).unwrap().clone();
        assert!(!day.state().is_open(&freeze));
        assert!(!day.state().may_have_started(freeze.id));
        let statement = stated(&day.standing(FREEZE));
        assert_eq!(day.world.code(&statement), "too-early");
        day.carry_out(missing.0);
        assert_eq!(day.world.code(&statement), "accepted");
        assert!(day.state().is_open(&freeze));
        assert!(day.state().may_have_started(freeze.id));
        assert_eq!(day.state().unsettled_in(StepId(FENCE), StepId(FENCE + 2)), None);
    }
}

#[test]
fn a_commit_leaves_nothing_before_it_undone() {
    // Without any gate, it still waits for everything.
    let mut day = FlagDay::planned();
    day.plan.steps[35].gates.clear();
    let proposal = day.world.proposal(&day.plan);
    day.world.accept(&proposal);
    let approval = day.world.approval(&day.plan);
    day.world.accept(&signed(&approval, Role::Operator));
    let rehearsal = day.rehearsal();
    day.world.accept(&Envelope::signed(&rehearsal, &role_keys(Role::Operator)[..1]));
    day.tick_to(OPENS);
    day.advance(0, VERIFY_AGAIN);
    assert_eq!(day.world.code(&day.result(COMMIT)), "too-early");
    day.carry_out(VERIFY_AGAIN);
    assert_eq!(day.world.code(&day.result(COMMIT)), "accepted");
}

#[test]
fn nothing_is_noticed_before_the_window_opens() {
    let mut day = FlagDay::proposed();
    let approval = day.world.approval(&day.plan);
    day.world.accept(&signed(&approval, Role::Operator));
    let rehearsal = day.rehearsal();
    day.world.accept(&Envelope::signed(&rehearsal, &role_keys(Role::Operator)[..1]));
    day.advance(0, MUSTER);
    let statement = stated(&day.standing(MUSTER));
    assert_eq!(day.world.code(&statement), "window-closed");
    day.tick_to(OPENS);
    assert_eq!(day.world.code(&statement), "accepted");
}

#[test]
fn the_terms_are_rehearsed_first() {
    let mut day = FlagDay::proposed();
    let approval = day.world.approval(&day.plan);
    day.world.accept(&signed(&approval, Role::Operator));
    day.advance(0, MUSTER);
    day.tick_to(OPENS);
    let statement = stated(&day.standing(MUSTER));
    let by = |rehearsal: &Rehearsal| Envelope::signed(rehearsal, &role_keys(Role::Operator)[..1]);
    let rehearsal = day.rehearsal();
    let other = Rehearsal { terms: TermsDigest::new([1; 32]), ..rehearsal.clone() };
    day.world.accept(&by(&other));
    assert_eq!(day.world.code(&statement), "not-rehearsed", "other terms");
    day.world.accept(&by(&rehearsal));
    assert_eq!(day.world.code(&statement), "accepted");
}

#[test]
fn a_rehearsal_counts_once_for_each_operator_who_counts() {
    let mut day = FlagDay::proposed();
    let rehearsal = day.rehearsal();
    let operators = role_keys(Role::Operator);
    let network = day.world.network;
    let by = |it: &Rehearsal| Envelope::signed(it, &operators[..1]);
    let here = Rehearsal { rehearsed_on: network, ..rehearsal.clone() };
    assert_eq!(day.world.code(&by(&here)), "rehearsed-here");
    check(
        &mut day.world,
        &rehearsal,
        by,
        &[("for another network", "other-network", |it| it.network = NetworkId::new([1; 32]))],
    );
    assert_eq!(day.world.code(&Envelope::signed(&rehearsal, [&agent("n1")])), "unknown-signer");
    assert_eq!(day.world.code(&signed(&rehearsal, Role::Operator)), "not-one-signature");
    day.world.accept(&by(&rehearsal));
    assert_eq!(day.world.code(&by(&rehearsal)), "already-recorded");
    let again = Rehearsal { rehearsed_on: NetworkId::new([2; 32]), ..rehearsal.clone() };
    assert_eq!(day.world.code(&by(&again)), "already-recorded", "one operator is one");
    assert_eq!(day.world.state.rehearsals(&rehearsal.terms), 1);
    day.world.accept(&Envelope::signed(&rehearsal, &operators[1..2]));
    assert_eq!(day.world.state.rehearsals(&rehearsal.terms), 2);
    assert_eq!(day.world.state.rehearsals(&TermsDigest::new([1; 32])), 0);
    replace_first_operator(&mut day.world);
    let left: Vec<_> = day.world.state.rehearsed_by(&rehearsal.terms).collect();
    assert_eq!(left.len(), 1, "who is no operator any more does not count");
    assert_eq!(*left[0].0, operators[1].public_key());
}

fn replace_first_operator(world: &mut World) {
    let mut root: Root = world.second_root();
    let gone = role_keys(Role::Operator)[0].public_key();
    let operators = root.roles.iter_mut().find(|keys| keys.role == Role::Operator).unwrap();
    operators.keys.retain(|key| *key != gone);
    operators.keys.push(key(0xee, 1).public_key());
    operators.keys.sort();
    world.accept(&signed(&root, Role::Root));
}

#[test]
fn the_agent_of_a_node_that_changes_calls_a_flag_day_off() {
    let mut day = FlagDay::at(FREEZE);
    let abort = day.abort_of("n2");
    check(
        &mut day.world,
        &abort,
        by_agent,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("another plan", "unknown-plan", |it| it.plan = PlanDigest::new([1; 32])),
            ("a node of another domain", "other-domain", |it| it.node = Some(name("n4"))),
            ("a long reason", "shape", |it| {
                it.reason = Some("x".repeat(NOTE_CHARACTERS_MAX + 1));
            }),
            ("a reason of several lines", "shape", |it| it.reason = Some("a\nb".to_owned())),
            ("no reason", "accepted", |it| it.reason = None),
            ("the longest reason", "accepted", |it| {
                it.reason = Some("ä".repeat(NOTE_CHARACTERS_MAX));
            }),
        ],
    );
    let posing = Envelope::signed(&abort, [&agent("n1")]);
    assert_eq!(day.world.code(&posing), "unknown-signer", "for another node");
    let alone = Abort { node: None, ..abort.clone() };
    let alone = Envelope::signed(&alone, [&agent("n2")]);
    assert_eq!(day.world.code(&alone), "unknown-signer", "as an operator");
    day.world.accept(&by_agent(&abort));
    assert_eq!(day.status(), PlanStatus::RollingBack);
    let reason = Some("the disk is full".to_owned());
    let expected = AbortCause::Agent { node: name("n2"), reason };
    assert_eq!(day.state().abort_cause(), Some(&expected));
    assert_eq!(day.world.code(&by_agent(&day.abort_of("n1"))), "plan-status");
}

#[test]
fn an_agent_calls_off_only_what_runs_and_changes_its_service() {
    let mut world = World::with_approved_plan();
    let day = FlagDay::planned();
    let other = Abort { plan: world.plan().digest(), ..day.abort_of("n2") };
    assert_eq!(world.code(&by_agent(&other)), "no-service");
    let mut day = FlagDay::proposed();
    let abort = by_agent(&day.abort_of("n2"));
    assert_eq!(day.world.code(&abort), "plan-status", "not approved yet");
    let mut day = FlagDay::at(OPEN);
    let abort = by_agent(&day.abort_of("n2"));
    assert_eq!(day.world.code(&abort), "plan-status", "past the point of no return");
    let mut day = FlagDay::planned();
    day.plan.nodes.pop();
    day.plan.steps.truncate(4);
    day.plan.steps.retain(|step| step.node != name("n3"));
    day.plan.rollback.clear();
    day.plan.steps.push(heirloom_model::plan::Step {
        id: StepId(3),
        node: name("n1"),
        wave: 0,
        action: Action::Commit,
        gates: Vec::new(),
    });
    day.plan.point_of_no_return = StepId(3);
    let proposal = day.world.proposal(&day.plan);
    day.world.accept(&proposal);
    let approval = day.world.approval(&day.plan);
    day.world.accept(&signed(&approval, Role::Operator));
    assert_eq!(day.world.code(&by_agent(&day.abort_of("n3"))), "plan-mismatch");
    assert_eq!(day.world.code(&by_agent(&day.abort_of("n2"))), "accepted");
}

#[test]
fn an_operator_says_why_too() {
    let mut day = FlagDay::at(FREEZE);
    let reason = Some("the auditors asked".to_owned());
    let abort = Abort { node: None, reason: reason.clone(), ..day.abort_of("n1") };
    day.world.accept(&Envelope::signed(&abort, &role_keys(Role::Operator)[..1]));
    assert_eq!(day.state().abort_cause(), Some(&AbortCause::Operator { reason }));
}

#[test]
fn a_flag_day_is_called_off_by_itself_after_its_last_epoch() {
    let mut day = FlagDay::at(HALT);
    day.tick_to(ABORT_AFTER);
    assert_eq!(day.status(), PlanStatus::Approved, "in its last epoch");
    let at = day.world.next();
    day.tick_to(Epoch(ABORT_AFTER.0 + 1));
    assert_eq!(day.status(), PlanStatus::RollingBack);
    assert_eq!(day.state().aborted(), Some(at), "by the epoch");
    assert_eq!(day.state().abort_cause(), Some(&AbortCause::Deadline));
    assert!(day.state().may_have_started(StepId(HALT)));
    assert!(!day.state().may_have_started(StepId(LAUNCH)));
    let needed: Vec<&str> = day.state().rollback_needed().map(|step| step.action.name()).collect();
    assert_eq!(needed, ["launch", "open", "launch", "open", "launch", "open"]);
    assert_eq!(day.world.code(&by_agent(&day.abort_of("n1"))), "plan-status");
}

#[test]
fn a_flag_day_that_was_never_approved_ends_with_its_window() {
    let mut day = FlagDay::proposed();
    day.tick_to(ABORT_AFTER);
    assert_eq!(day.status(), PlanStatus::Proposed);
    day.tick_to(Epoch(ABORT_AFTER.0 + 1));
    assert_eq!(day.status(), PlanStatus::RolledBack, "nothing can have started");
}

#[test]
fn a_committed_flag_day_has_no_deadline() {
    let mut day = FlagDay::at(OPEN);
    day.tick_to(Epoch(ABORT_AFTER.0 + 5));
    assert_eq!(day.status(), PlanStatus::PastNoReturn);
    day.advance(OPEN, END_OF_PLAN);
    assert_eq!(day.status(), PlanStatus::Finished);
    assert_eq!(day.state().abort_cause(), None);
}

#[test]
fn every_node_goes_back_without_waiting_for_others() {
    let mut day = FlagDay::at(COMMIT);
    let called_off = abort(&day.world, &day.plan);
    day.world.accept(&called_off);
    assert_eq!(day.world.code(&day.result(COMMIT)), "plan-status", "too late to commit");
    // The second node, alone.
    for step in END_OF_PLAN + 5..END_OF_PLAN + 10 {
        day.carry_out(step);
    }
    assert_eq!(day.status(), PlanStatus::RollingBack);
    day.advance(END_OF_PLAN, END_OF_PLAN + 5);
    day.advance(END_OF_PLAN + 10, END_OF_PLAN + 15);
    assert_eq!(day.status(), PlanStatus::RolledBack);
}

#[test]
fn the_way_back_keeps_its_order_on_each_node() {
    let mut day = FlagDay::at(COMMIT);
    let called_off = abort(&day.world, &day.plan);
    day.world.accept(&called_off);
    let open = END_OF_PLAN + 4;
    assert_eq!(day.plan.step(StepId(open)).unwrap().action.name(), "open");
    assert_eq!(day.world.code(&day.result(open)), "too-early");
    assert!(!day.state().is_settled(StepId(open)));
    day.advance(END_OF_PLAN, open);
    assert_eq!(day.world.code(&day.result(open)), "accepted");
}

#[test]
fn a_step_back_that_is_not_needed_counts_as_settled() {
    let mut day = FlagDay::at(FREEZE);
    let called_off = abort(&day.world, &day.plan);
    day.world.accept(&called_off);
    let settled = |step: u32| day.state().is_settled(StepId(END_OF_PLAN + step));
    assert_eq!([0, 1, 2, 3, 4].map(settled), [true, true, true, true, false]);
    assert_eq!(day.world.code(&day.result(END_OF_PLAN + 4)), "accepted");
}

fn revocation(day: &FlagDay) -> Revocation {
    Revocation { network: day.world.network, plan: day.plan.digest() }
}

#[test]
fn an_operator_takes_consent_back_until_somebody_could_notice() {
    // One service has not mustered, so no agent may fence yet.
    let mut day = FlagDay::at(FENCE - 1);
    let operators = role_keys(Role::Operator);
    let statement = revocation(&day);
    let by = |it: &Revocation| Envelope::signed(it, &operators[..1]);
    check(
        &mut day.world,
        &statement,
        by,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("another plan", "unknown-plan", |it| it.plan = PlanDigest::new([1; 32])),
        ],
    );
    let of_nobody = Envelope::signed(&statement, [&agent("n1")]);
    assert_eq!(day.world.code(&of_nobody), "unknown-signer");
    let of_third = Envelope::signed(&statement, &operators[2..]);
    assert_eq!(day.world.code(&of_third), "not-approved");
    day.world.accept(&by(&statement));
    assert_eq!(day.status(), PlanStatus::ApprovalLapsed);
    assert_eq!(day.world.code(&day.result(FENCE - 1)), "plan-status");
    for step in [FENCE, FENCE + 1] {
        let mut day = FlagDay::at(step);
        assert_eq!(day.world.code(&by(&statement)), "revoked-too-late", "{step}");
    }
}

/// Nobody has started what waits for an epoch that has not come.
#[test]
fn consent_is_taken_back_while_the_window_is_not_open() {
    for (opens, expected) in [(Epoch(OPENS.0 + 1), "accepted"), (OPENS, "revoked-too-late")] {
        let mut day = FlagDay::approved_with(|plan| {
            for step in plan.steps.iter_mut().filter(|step| step.action.name() == "fence") {
                step.gates = vec![Gate::Epoch(opens)];
            }
        });
        let statement = revocation(&day);
        let revoked = Envelope::signed(&statement, &role_keys(Role::Operator)[..1]);
        assert_eq!(day.world.code(&revoked), expected);
    }
}

/// Otherwise nodes that are closed could go neither on nor back.
#[test]
fn consent_lasts_as_long_as_the_window() {
    let mut day = FlagDay::proposed();
    let mut approval = day.world.approval(&day.plan);
    approval.not_after = Epoch(ABORT_AFTER.0 - 1);
    assert_eq!(day.world.code(&signed(&approval, Role::Operator)), "approval-too-short");
    approval.not_after = ABORT_AFTER;
    day.world.accept(&signed(&approval, Role::Operator));
    let rehearsal = day.rehearsal();
    day.world.accept(&Envelope::signed(&rehearsal, &role_keys(Role::Operator)[..1]));
    day.tick_to(OPENS);
    day.advance(0, HALT);
    day.tick_to(ABORT_AFTER);
    assert_eq!(day.status(), PlanStatus::Approved, "until its last epoch");
    day.tick_to(Epoch(ABORT_AFTER.0 + 1));
    assert_eq!(day.status(), PlanStatus::RollingBack);
}

#[test]
fn consent_that_was_taken_back_is_not_repeated_by_others() {
    let mut day = FlagDay::proposed();
    let operators = role_keys(Role::Operator);
    let approval = day.world.approval(&day.plan);
    let first = Envelope::signed(&approval, &operators[..1]);
    day.world.accept(&first);
    let revoked = Envelope::signed(&revocation(&day), &operators[..1]);
    day.world.accept(&revoked);
    assert_eq!(day.status(), PlanStatus::Proposed);
    assert!(day.state().approvals().is_empty());
    assert_eq!(day.world.code(&first), "revoked", "whoever kept it gains nothing");
    let mut later = approval.clone();
    later.not_after = Epoch(approval.not_after.0 + 1);
    day.world.accept(&Envelope::signed(&later, &operators[..1]));
    day.world.accept(&Envelope::signed(&approval, &operators[1..2]));
    assert_eq!(day.status(), PlanStatus::Approved, "approved again");
    assert_eq!(day.world.code(&revoked), "already-recorded", "nor is the revocation repeated");
}

#[test]
fn nothing_is_taken_back_from_a_plan_that_was_called_off_or_has_committed() {
    let operators = role_keys(Role::Operator);
    let mut day = FlagDay::at(MUSTER);
    let called_off = abort(&day.world, &day.plan);
    day.world.accept(&called_off);
    let revoked = Envelope::signed(&revocation(&day), &operators[..1]);
    assert_eq!(day.world.code(&revoked), "plan-status");
    let mut day = FlagDay::at(WATCH);
    assert_eq!(day.world.code(&revoked), "plan-status");
    assert_eq!(day.status(), PlanStatus::PastNoReturn);
    day.carry_out(WATCH);
    assert!(day.state().is_settled(StepId(EQUIP)));
}
