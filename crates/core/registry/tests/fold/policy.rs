//! Policies.

use heirloom_model::appraisal::AcceptedAdvisory;
use heirloom_model::counter::{SecurityVersion, Serial, Time};
use heirloom_model::digest::{NetworkId, PlanDigest};
use heirloom_model::envelope::Envelope;
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::policy::{ApplicationRule, KeyScope, PlatformRule, Policy, Sharing, TcbLevel};
use heirloom_model::root::Role;

use crate::world::{DOMAIN, NEW, OLD, STRANGE, World, check, name, role_keys, signed};

const ZERO: Measurement = Measurement::Sgx(MrEnclave::new([0; 32]));

/// Two applications, so that their order can be wrong.
fn with_applications(policy: &mut Policy) {
    let rule = |text: &str| ApplicationRule {
        application: name(text),
        measurement: STRANGE,
        security_version: SecurityVersion(1),
        keys: KeyScope::Only(vec![name("a"), name("b")]),
    };
    policy.applications = vec![rule("mail"), rule("web")];
}

fn sign(policy: &Policy) -> Envelope {
    signed(policy, Role::Policy)
}

#[test]
fn a_policy_is_the_next_of_its_domain() {
    let mut world = World::equipped();
    let policy = world.policy();
    assert_eq!(policy.serial, Serial(2));
    check(
        &mut world,
        &policy,
        sign,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("the same serial", "not-next", |it| it.serial = Serial(1)),
            ("a serial left out", "not-next", |it| it.serial = Serial(3)),
            ("a serial of another domain", "not-next", |it| it.domain = crate::world::OTHER_DOMAIN),
            ("expired", "expired", |it| it.not_after = Time(1)),
            ("completes a plan that is not there", "unknown-plan", |it| {
                it.completes = Some(PlanDigest::new([1; 32]));
            }),
        ],
    );
    let one = Envelope::signed(&policy, &role_keys(Role::Policy)[..1]);
    assert_eq!(world.code(&one), "threshold-not-met");
    assert_eq!(world.code(&signed(&policy, Role::Operator)), "unknown-signer");
    world.accept(&sign(&policy));
    assert_eq!(world.state.policy(&DOMAIN).unwrap().serial, Serial(2));
    assert_eq!(world.state.policy_by_serial(&DOMAIN, Serial(1)).unwrap().serial, Serial(1));
}

#[test]
fn a_policy_leaves_nothing_unsaid() {
    let mut world = World::equipped();
    let mut policy = world.policy();
    with_applications(&mut policy);
    check(
        &mut world,
        &policy,
        sign,
        &[
            ("no minimum", "shape", |it| it.holders_min = 0),
            ("no holders", "shape", |it| it.holders.clear()),
            ("holders out of order", "shape", |it| it.holders.reverse()),
            ("a zero holder", "shape", |it| it.holders[0].measurement = ZERO),
            ("an edge to zero", "shape", |it| it.holders[0].gives_to = vec![ZERO]),
            ("an edge twice", "shape", |it| it.holders[0].gives_to = vec![NEW, NEW]),
            ("an edge to code without a rule", "shape", |it| {
                it.holders[0].gives_to = vec![STRANGE];
            }),
            ("applications out of order", "shape", |it| it.applications.reverse()),
            ("a zero application", "shape", |it| it.applications[1].measurement = ZERO),
            ("no keys, meant as any", "shape", |it| {
                it.applications[0].keys = KeyScope::Only(Vec::new());
            }),
            ("a key twice", "shape", |it| {
                it.applications[0].keys = KeyScope::Only(vec![name("a"), name("a")]);
            }),
            ("no platforms, meant as any", "shape", |it| {
                it.appraisal.platforms = PlatformRule::Only(Vec::new());
            }),
            ("no TCB level", "shape", |it| it.appraisal.tcb.clear()),
            ("a TCB level twice", "shape", |it| it.appraisal.tcb.push(TcbLevel::UpToDate)),
            ("an advisory twice", "shape", |it| {
                let accepted = AcceptedAdvisory { id: "INTEL-SA-1".into(), until: Time(u64::MAX) };
                it.appraisal.advisories_accepted = vec![accepted.clone(), accepted];
            }),
            ("more ephemeral epochs than are kept", "shape", |it| it.ephemeral_epochs = 21),
        ],
    );
}

#[test]
fn a_policy_that_completes_a_plan_waits_for_it() {
    let mut world = World::with_approved_plan();
    let plan = world.plan();
    let policy = world.completing(&plan);
    check(
        &mut world,
        &policy,
        sign,
        &[
            ("at once", "plan-under-way", |it| it.completes = None),
            ("another plan", "unknown-plan", |it| it.completes = Some(PlanDigest::new([1; 32]))),
        ],
    );
    world.accept(&sign(&policy));
    assert_eq!(world.state.policy(&DOMAIN).unwrap().serial, Serial(1));
    assert_eq!(world.state.pending_policy(&DOMAIN).unwrap().get(), &policy);
    let next = world.completing(&plan);
    assert_eq!(next.serial, Serial(3));
    assert_eq!(world.code(&sign(&next)), "policy-pending");
    world.finish(&[(0, "n1"), (1, "n1"), (2, "n2"), (3, "n2"), (4, "n1")]);
    assert_eq!(world.state.policy(&DOMAIN).unwrap().get(), &policy);
    assert!(world.state.pending_policy(&DOMAIN).is_none());
    assert_eq!(world.code(&sign(&next)), "plan-status", "the plan is finished");
}

#[test]
fn a_policy_for_a_plan_of_another_domain_is_refused() {
    let mut world = World::with_approved_plan();
    let mut policy = world.completing(&world.plan());
    policy.domain = crate::world::OTHER_DOMAIN;
    policy.serial = Serial(1);
    assert_eq!(world.code(&sign(&policy)), "shape");
}

#[test]
fn a_policy_whose_plan_was_called_off_never_takes_effect() {
    let mut world = World::with_approved_plan();
    let plan = world.plan();
    let policy = world.completing(&plan);
    world.accept(&sign(&policy));
    world.accept(&crate::plan::abort(&world, &plan));
    assert!(world.state.pending_policy(&DOMAIN).is_none());
    // Its serial is used up.
    let mut next = world.policy();
    assert_eq!(next.serial, Serial(3));
    assert_eq!(world.code(&sign(&next)), "accepted");
    next.completes = Some(plan.digest());
    assert_eq!(world.code(&sign(&next)), "plan-status");
}

#[test]
fn registrations_of_code_that_may_not_hold_any_more_are_forgotten() {
    let mut world = World::with_genesis();
    for measurement in [OLD, NEW] {
        let registration = world.registration("n1");
        world.accept(&crate::world::Instance::new("n1", measurement).attest(&registration));
    }
    let mut policy = world.policy();
    policy.holders.remove(0);
    policy.holders[0].gives_to.clear();
    world.accept(&sign(&policy));
    let domain = world.state.domain(&DOMAIN).unwrap();
    assert!(domain.registration_with(&name("n1"), &OLD).is_none());
    assert!(domain.registration_with(&name("n1"), &NEW).is_some());
}

#[test]
fn how_holders_share_a_keyring_is_settled_with_its_first_generation() {
    // Until then it is free.
    let mut world = World::equipped();
    let policy = Policy { sharing: Sharing::Exclusive, ..world.policy() };
    assert_eq!(world.code(&sign(&policy)), "accepted");
    // From replicated to exclusive, at once and with the end of a plan.
    let mut world = World::with_genesis();
    let policy = world.policy();
    check(
        &mut world,
        &policy,
        sign,
        &[("exclusive", "sharing-settled", |it| it.sharing = Sharing::Exclusive)],
    );
    let mut world = World::with_approved_plan();
    let policy = world.completing(&world.plan());
    check(
        &mut world,
        &policy,
        sign,
        &[("exclusive", "sharing-settled", |it| it.sharing = Sharing::Exclusive)],
    );
    // And from exclusive to replicated.
    let mut world = World::served();
    let policy = Policy { serial: Serial(2), ..World::exclusive_policy(&world) };
    check(
        &mut world,
        &policy,
        sign,
        &[("replicated", "sharing-settled", |it| it.sharing = Sharing::Replicated)],
    );
    // The pending one of a handover is refused like any other.
    let mut world = World::handing_over();
    let completes = Some(world.handover().digest());
    let policy = Policy { serial: Serial(2), completes, ..World::exclusive_policy(&world) };
    check(
        &mut world,
        &policy,
        sign,
        &[("replicated", "sharing-settled", |it| it.sharing = Sharing::Replicated)],
    );
}
