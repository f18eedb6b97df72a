//! What the log allows, and what it does not allow any more, or elsewhere, or to others.

use heirloom_keeper::handover::{NotAttested, NotAuthorised, authorise};
use heirloom_keeper::keeper::Keeper;
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_keeper::port::Platform;
use heirloom_model::counter::{Epoch, Generation, PlanNumber, Serial};
use heirloom_model::digest::{Nonce, PlanDigest};
use heirloom_model::domain::PlanStep;
use heirloom_model::evidence::{ReportData, ReportTarget};
use heirloom_model::handover::{HandoverProof, HandoverQuestion};
use heirloom_model::plan::{Action, Gate, Plan, StepId};
use heirloom_model::protocol::{PeerRefusal, PeerRequest, PeerResponse, ServingState};
use heirloom_registry::plan::PlanStatus;
use heirloom_testkit::ceremony::BEGINNING;

use crate::seats::{
    ASK_OLD, Answered, FORGET, Play, SUSPEND, TO_NEW, TO_VIA, answered, hand_over, plan,
};
use crate::world::{Node, World};

fn refused(world: &World, step: PlanStep) -> NotAuthorised {
    authorise(&world.state, step).unwrap_err()
}

/// The log says no, and both keepers that follow it say so, too: the donor to a request that was
/// allowed when it was made, the receiver to an answer.
fn expect_refused_by_both(play: &mut Play, before: &Answered, expected: &NotAuthorised) {
    assert_eq!(refused(&play.world, play.step(TO_VIA)), *expected);
    play.feed();
    let Answered { ask, request, challenge, .. } = before;
    let (receiver, donor) = play.world.session(&mut play.via, &mut play.old);
    let by_donor = play.old.keeper.challenge_receiver(&play.old.enclave, &receiver, request);
    let reason = expected.to_string();
    assert_eq!(by_donor.err(), Some(PeerRefusal::NotAuthorised { reason }));
    let asked = play.via.keeper.request_handover(&play.via.enclave, request.step);
    assert_eq!(asked.map(|_| ()), Err(KeeperError::NotAuthorised(expected.clone())));
    let judged = play.via.keeper.prove_to_donor(&play.via.enclave, &donor, ask, challenge);
    assert_eq!(judged.err(), Some(KeeperError::NotAuthorised(expected.clone())));
}

fn waiting() -> (Play, Answered) {
    let mut play = Play::new();
    let answered = play.answered(TO_VIA).unwrap();
    (play, answered)
}

#[test]
fn a_permission_says_everything_that_the_plan_says() {
    let play = Play::new();
    let allowed = authorise(&play.world.state, play.step(TO_VIA)).unwrap();
    let host = |node: &Node| play.world.state.node(&node.name).unwrap().host.clone();
    assert_eq!((allowed.network, allowed.domain), (play.plan.network, play.plan.domain));
    assert_eq!((allowed.plan, allowed.step), (play.plan.digest(), StepId(TO_VIA)));
    assert_eq!(
        (allowed.from, allowed.to),
        (
            play.plan.keyring.as_ref().expect("it moves a keyring").from,
            play.plan.keyring.as_ref().expect("it moves a keyring").via.unwrap()
        )
    );
    assert_eq!((&allowed.from_node, &allowed.to_node), (&play.old.name, &play.via.name));
    assert_eq!((&allowed.from_host, &allowed.to_host), (&host(&play.old), &host(&play.via)));
    assert_eq!(
        (allowed.generation, allowed.checksum),
        (
            play.plan.keyring.as_ref().expect("it moves a keyring").generation,
            play.plan.keyring.as_ref().expect("it moves a keyring").checksum
        )
    );
    assert_eq!((allowed.not_after, allowed.nonce), (play.plan.not_after, play.plan.nonce));
    assert!(allowed.is_local());
}

#[test]
fn only_an_open_hand_over_step_of_the_current_plan_is_a_permission() {
    let play = Play::new();
    let not_open = NotAuthorised::NotOpen { step: StepId(TO_NEW) };
    assert_eq!(refused(&play.world, play.step(TO_NEW)), not_open);
    for step in [ASK_OLD, SUSPEND, FORGET, 9, 10, 11, 99] {
        let found = refused(&play.world, play.step(step));
        let step = StepId(step);
        assert_eq!(found, NotAuthorised::OtherStep { step, expected: "hand-over" });
    }
    let plan = PlanDigest::new([9; 32]);
    let unknown = PlanStep { plan, step: StepId(TO_VIA) };
    assert_eq!(refused(&play.world, unknown), NotAuthorised::NotCurrent { plan });
}

/// Nothing is allowed before enough operators have approved, nor once their consent has lapsed.
#[test]
fn a_plan_without_consent_allows_nothing() {
    let mut world = World::new();
    world.publish_handover(2, |_| {});
    let old = world.first_active();
    let mut made = plan(&world, &old);
    made.steps[1].gates.clear();
    let step = PlanStep { plan: made.digest(), step: StepId(TO_VIA) };
    world.accept(&world.ceremony.proposal(&made));
    let status = |status| NotAuthorised::Status { status };
    assert_eq!(refused(&world, step), status(PlanStatus::Proposed));
    let until = world.state.epoch();
    for operator in 0..2 {
        assert_eq!(refused(&world, step), status(PlanStatus::Proposed));
        world.accept(&world.ceremony.approval(made.digest(), operator, until));
    }
    assert!(authorise(&world.state, step).is_ok());
    world.epoch();
    assert_eq!(refused(&world, step), status(PlanStatus::ApprovalLapsed));
}

#[test]
fn a_request_that_is_replayed_after_the_step_is_done_is_refused() {
    let (mut play, before) = waiting();
    let result = play.world.ceremony.result(&play.plan, StepId(TO_VIA));
    play.world.accept(&result);
    let step = StepId(TO_VIA);
    expect_refused_by_both(&mut play, &before, &NotAuthorised::Done { step });
}

#[test]
fn a_request_that_is_replayed_after_the_plan_was_called_off_is_refused() {
    let (mut play, before) = waiting();
    let abort = play.world.ceremony.abort(play.plan.digest());
    play.world.accept(&abort);
    let status = PlanStatus::RollingBack;
    expect_refused_by_both(&mut play, &before, &NotAuthorised::Status { status });
}

#[test]
fn a_request_that_is_replayed_after_the_last_epoch_is_refused() {
    let mut play = Play::with(|plan| plan.not_after = Epoch(2));
    let before = play.answered(TO_VIA).unwrap();
    play.world.epoch();
    assert!(authorise(&play.world.state, play.step(TO_VIA)).is_ok(), "the last epoch");
    play.world.epoch();
    let status = PlanStatus::Expired;
    expect_refused_by_both(&mut play, &before, &NotAuthorised::Status { status });
}

/// The same words once more are another permission: the nonce tells them apart.
#[test]
fn a_request_that_is_replayed_under_the_next_plan_is_refused() {
    let mut play = Play::with(|plan| plan.not_after = Epoch(2));
    let before = play.answered(TO_VIA).unwrap();
    let first = play.plan.digest();
    play.world.epoch();
    play.world.epoch();
    let next = Plan {
        number: PlanNumber(2),
        not_after: Epoch(50),
        nonce: Nonce::new([0x71; 32]),
        ..play.plan.clone()
    };
    play.world.propose(&next);
    expect_refused_by_both(&mut play, &before, &NotAuthorised::NotCurrent { plan: first });
}

/// While a plan is under way its domain takes no other policy. This one ends by itself.
#[test]
fn a_policy_that_expired_allows_nothing() {
    let mut world = World::new();
    world.publish_handover(2, |policy| policy.not_after = BEGINNING.after(150));
    let old = world.first_active();
    let mut made = plan(&world, &old);
    made.steps[1].gates.clear();
    let step = PlanStep { plan: world.propose(&made), step: StepId(TO_VIA) };
    world.epoch();
    assert!(authorise(&world.state, step).is_ok());
    world.epoch();
    assert_eq!(refused(&world, step), NotAuthorised::NoPolicy);
}

#[test]
fn a_node_that_left_the_fleet_receives_nothing() {
    let (mut play, before) = waiting();
    let mut nodes = play.world.ceremony.nodes(3);
    nodes.retain(|node| node.node != play.old.name);
    let fleet = play.world.ceremony.fleet(Serial(2), nodes);
    play.world.accept(&fleet);
    let node = play.old.name.clone();
    expect_refused_by_both(&mut play, &before, &NotAuthorised::UnknownNode { node });
}

/// The fleet says on which host a node is; another host is another permission.
#[test]
fn a_node_that_moved_to_another_host_is_another_seat() {
    let (mut play, before) = waiting();
    let mut nodes = play.world.ceremony.nodes(3);
    nodes[0].host = "host-9".parse().unwrap();
    let fleet = play.world.ceremony.fleet(Serial(2), nodes);
    play.world.accept(&fleet);
    play.feed();
    let Answered { ask, challenge, mut session, .. } = before;
    let (receiver, donor) = play.world.session(&mut play.via, &mut play.old);
    let judged = play.via.keeper.prove_to_donor(&play.via.enclave, &donor, &ask, &challenge);
    assert_eq!(judged.err(), Some(NotAttested::OtherHandover.into()));
    let proof = HandoverProof { report: None, newest: Generation(0), count: 1 };
    let message = PeerRequest::ProveHandover(proof);
    let refused = play.old.converse(&receiver, &mut session, &message);
    let reason = NotAttested::OtherHandover.to_string();
    let PeerResponse::Refused(refused) = refused else { panic!("it was served") };
    assert_eq!(refused, PeerRefusal::NotAttested { reason });
}

/// A plan can name a hop back to an older version of the very code that it upgrades. Nobody takes
/// that hop.
#[test]
fn no_hop_leads_from_a_keeper_to_an_older_one() {
    let mut world = World::new();
    world.publish_handover(2, |policy| {
        let older =
            policy.holders.iter().find(|rule| rule.gives_to.len() == 2).unwrap().measurement;
        for rule in policy.holders.iter_mut().filter(|rule| rule.gives_to.is_empty()) {
            rule.gives_to.push(older);
        }
    });
    let old = world.first_active();
    let mut made = plan(&world, &old);
    made.steps[1].gates.clear();
    made.steps[1].action = Action::HandOver {
        from_node: old.name.clone(),
        from: made.keyring.as_ref().expect("it moves a keyring").to,
        to: made.keyring.as_ref().expect("it moves a keyring").from,
    };
    let step = PlanStep { plan: world.propose(&made), step: StepId(TO_VIA) };
    let (from, to) = (world.new.security_version, world.old.security_version);
    assert_eq!(refused(&world, step), NotAuthorised::Downgrade { from, to });
}

#[test]
fn a_release_that_expired_receives_nothing() {
    let mut world = World::new();
    let late = heirloom_testkit::ceremony::Code::named("late", 3);
    let mut release = world.ceremony.release_of("late-1", &late);
    release.not_after = BEGINNING.after(150);
    let signed = heirloom_model::envelope::Envelope::signed(
        &release,
        world.ceremony.release_keys.iter().take(2),
    );
    world.accept(&signed);
    world.new = late;
    world.publish_handover(2, |_| {});
    let old = world.first_active();
    let mut made = plan(&world, &old);
    made.steps[1].gates.clear();
    made.steps[1].action = Action::HandOver {
        from_node: old.name.clone(),
        from: made.keyring.as_ref().expect("it moves a keyring").from,
        to: made.keyring.as_ref().expect("it moves a keyring").to,
    };
    let step = PlanStep { plan: world.propose(&made), step: StepId(TO_VIA) };
    world.epoch();
    assert!(authorise(&world.state, step).is_ok());
    world.epoch();
    let (release, not_after) = (release.digest(), release.not_after);
    assert_eq!(refused(&world, step), NotAuthorised::ReleaseExpired { release, not_after });
}

/// Between hosts the session's evidence stands for local reports, which show nothing there.
#[test]
fn a_keyring_moves_to_another_host_without_local_reports() {
    let (world, step, mut old, mut two) = move_to_another_host();
    let Answered { ask, request, challenge, donor, .. } =
        answered(&world, step, &mut old, &mut two).unwrap();
    assert!(!authorise(&world.state, step).unwrap().is_local());
    assert!(request.question.target.is_none());
    assert!(challenge.question.target.is_none() && challenge.report.is_none());
    let mut reported = challenge.clone();
    let target = ReportTarget::new([0; 512]);
    let data = ReportData::new([0; 64]);
    reported.report =
        Some(old.enclave.report(&two.enclave.report_target().unwrap(), &data).unwrap());
    let judged = two.keeper.prove_to_donor(&two.enclave, &donor, &ask, &reported);
    assert_eq!(judged.err(), Some(NotAttested::ReportUnexpected.into()));
    let mut addressed = challenge;
    addressed.question = HandoverQuestion { target: Some(target), ..addressed.question };
    let judged = two.keeper.prove_to_donor(&two.enclave, &donor, &ask, &addressed);
    assert_eq!(judged.err(), Some(NotAttested::ReportUnexpected.into()));
    assert_eq!(hand_over(&world, step, &mut old, &mut two), Ok(1));
    assert_eq!(two.keeper.state(), ServingState::Standby);
    assert_eq!(old.keeper.state(), ServingState::Ready);
}

/// Evidence says nothing about nodes. That an instance runs on the node of the step is what its
/// registration says, which the node's agent signs, too.
#[test]
fn only_the_instance_that_is_registered_at_a_seat_takes_part() {
    let (world, step, mut old, mut two) = move_to_another_host();
    let mut impostor = world.node(3, &world.old);
    let config = world.config(&two.name, &world.old);
    impostor.keeper = Keeper::start(config, &impostor.enclave, &[]).unwrap();
    world.feed(&mut impostor);
    let not_registered =
        NotAuthorised::NotRegistered { node: two.name.clone(), measurement: world.old.measurement };
    let asked = impostor.keeper.request_handover(&impostor.enclave, step);
    assert_eq!(asked.map(|_| ()), Err(KeeperError::NotAuthorised(not_registered.clone())));
    let (peer, _) = world.session(&mut impostor, &mut old);
    let (_, request) = two.keeper.request_handover(&two.enclave, step).unwrap();
    let refused = old.keeper.challenge_receiver(&old.enclave, &peer, &request);
    let reason = not_registered.to_string();
    assert_eq!(refused.err(), Some(PeerRefusal::NotAuthorised { reason }));
    // The donor that is registered no more gives nothing, and nobody asks it.
    let answered = answered(&world, step, &mut old, &mut two).unwrap();
    let mut clone = world.seat(&old.name, &old.host, &world.old, old.disk.clone(), 99);
    world.feed(&mut clone);
    let (receiver, donor) = world.session(&mut two, &mut clone);
    let not_registered =
        NotAuthorised::NotRegistered { node: old.name.clone(), measurement: world.old.measurement };
    let refused = clone.keeper.challenge_receiver(&clone.enclave, &receiver, &request);
    let reason = not_registered.to_string();
    assert_eq!(refused.err(), Some(PeerRefusal::NotAuthorised { reason }));
    let Answered { ask, challenge, .. } = answered;
    let judged = two.keeper.prove_to_donor(&two.enclave, &donor, &ask, &challenge);
    assert_eq!(judged.err(), Some(KeeperError::NotAuthorised(not_registered)));
}

/// A plan that moves a keyring from node 1 to node 2, with the same code.
fn move_to_another_host() -> (World, PlanStep, Node, Node) {
    let mut world = World::new();
    world.publish_handover(2, |_| {});
    let mut old = world.first_active();
    let mut two = world.node(2, &world.old);
    world.register(&mut two);
    let mut made = plan(&world, &old);
    let kept = made.keyring.as_mut().expect("it moves a keyring");
    (kept.to, kept.via) = (kept.from, None);
    made.nodes.push(two.name.clone());
    made.rollback.clear();
    made.steps.truncate(2);
    made.point_of_no_return = StepId(0);
    let hand = &mut made.steps[1];
    hand.node = two.name.clone();
    hand.gates = Vec::<Gate>::new();
    hand.action = Action::HandOver {
        from_node: old.name.clone(),
        from: made.keyring.as_ref().expect("it moves a keyring").from,
        to: made.keyring.as_ref().expect("it moves a keyring").from,
    };
    let step = PlanStep { plan: world.propose(&made), step: StepId(TO_VIA) };
    world.feed(&mut old);
    world.feed(&mut two);
    (world, step, old, two)
}
