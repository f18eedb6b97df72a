//! Proposals that change a service, each with the smallest change that breaks a rule.

use heirloom_model::counter::{Epoch, SecurityVersion};
use heirloom_model::digest::{ArtifactDigest, ConfigurationDigest, ReleaseDigest};
use heirloom_model::limit::{MIGRATIONS_MAX, TESTS_MAX};
use heirloom_model::plan::{Action, Gate, Plan, ServiceAction, Step, StepId};
use heirloom_model::policy::{KeyScope, UpdateMode};
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_model::root::Role;
use heirloom_model::service::{SchemaVersion, ServiceChange};

use crate::service::{
    APP_NEW, APP_OLD, COMMIT, EQUIP, FENCE, FREEZE, FlagDay, HALT, JOIN, LAUNCH, MUSTER, OPEN,
    agreed, all_done, application_release, back, forward,
};
use crate::world::{BEGIN, Row, STRANGE, World, agent, name, signed};

fn refuse(rows: &[Row<Plan>]) {
    let mut day = FlagDay::planned();
    let proposal = day.world.proposal(&day.plan);
    assert_eq!(day.world.code(&proposal), "accepted");
    for (change, expected, make) in rows {
        let mut changed = day.plan.clone();
        make(&mut changed);
        let proposal = day.world.proposal(&changed);
        assert_eq!(day.world.code(&proposal), *expected, "{change}");
    }
}

fn change(plan: &mut Plan) -> &mut ServiceChange {
    plan.service.as_mut().unwrap()
}

fn step(plan: &mut Plan, id: u32) -> &mut Step {
    let index = usize::try_from(id).unwrap();
    &mut plan.steps[index]
}

#[test]
fn terms_make_sense() {
    refuse(&[
        ("no tests", "shape", |it| change(it).terms.tests.clear()),
        ("a test twice", "shape", |it| change(it).terms.tests.push(name("transfer"))),
        ("too many tests", "shape", |it| {
            change(it).terms.tests = (0..=TESTS_MAX).map(|n| name(&format!("t{n}"))).collect();
        }),
        ("too many migrations", "shape", |it| {
            let all = (0..=MIGRATIONS_MAX).map(|n| name(&format!("m{n}"))).collect();
            change(it).terms.migrations = all;
        }),
        ("a migration twice", "shape", |it| {
            change(it).terms.migrations.push(name("outputs-by-owner"));
        }),
        ("another schema without migrations", "shape", |it| change(it).terms.migrations.clear()),
        ("a lower schema", "shape", |it| change(it).terms.schema_to = SchemaVersion(0)),
        ("keys out of order", "shape", |it| change(it).terms.keys.reverse()),
        ("no quiet", "shape", |it| change(it).terms.quiet_milliseconds = 0),
        ("a window that never opens", "shape", |it| change(it).opens = Epoch(5)),
        ("a deadline after the end", "shape", |it| change(it).abort_after = Epoch(7)),
        ("a deadline at the end", "accepted", |it| change(it).abort_after = Epoch(6)),
        ("a deadline that passed", "epoch-passed", |it| {
            (change(it).opens, change(it).abort_after) = (Epoch(0), Epoch(0));
        }),
    ]);
}

#[test]
fn releases_are_those_of_the_terms_and_of_the_policy() {
    refuse(&[
        ("an unknown release", "unknown-release", |it| {
            change(it).to.release = ReleaseDigest::new([1; 32]);
        }),
        ("other code than the release", "plan-mismatch", |it| {
            change(it).to.measurement = STRANGE;
        }),
        ("a keeper", "plan-mismatch", |it| {
            change(it).to = it.keyring.as_ref().expect("it moves a keyring").from;
        }),
        ("another name", "plan-mismatch", |it| change(it).terms.to.release = name("ledger-3")),
        ("another program", "plan-mismatch", |it| {
            change(it).terms.from.program = ArtifactDigest::new([9; 32]);
        }),
        ("an application that the policy does not name", "plan-mismatch", |it| {
            change(it).application = name("other");
        }),
        ("other keepers", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").to = change(it).to;
        }),
        ("something that carries the keyring", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").via =
                Some(it.keyring.as_ref().expect("it moves a keyring").from);
        }),
    ]);
}

/// What is said to a plan that goes to the new code, as another release of it.
fn to_release(make: fn(&mut Release)) -> &'static str {
    let mut day = FlagDay::planned();
    let mut release = application_release(&day.world, "ledger-3", APP_NEW);
    make(&mut release);
    day.world.accept(&signed(&release, Role::Release));
    day.tick_to(Epoch(2));
    change(&mut day.plan).to.release = release.digest();
    change(&mut day.plan).terms.to.release = release.name;
    let (from, to) = (change(&mut day.plan).from, change(&mut day.plan).to);
    (day.plan.steps, day.plan.rollback) = (forward(from, to), back(from, to));
    let proposal = day.world.proposal(&day.plan);
    day.world.code(&proposal)
}

#[test]
fn no_service_becomes_older() {
    for (version, expected) in [(0, "plan-mismatch"), (1, "accepted"), (2, "accepted")] {
        let made: fn(&mut Release) = match version {
            0 => |it| it.security_version = SecurityVersion(0),
            1 => |it| it.security_version = SecurityVersion(1),
            _ => |it| it.security_version = SecurityVersion(2),
        };
        assert_eq!(to_release(made), expected, "security version {version}");
    }
}

#[test]
fn a_service_goes_to_a_release_of_an_application_that_has_not_ended() {
    assert_eq!(to_release(|_| {}), "accepted");
    assert_eq!(to_release(|it| it.kind = ReleaseKind::Keeper), "plan-mismatch");
    assert_eq!(to_release(|it| it.not_after = BEGIN), "expired");
}

#[test]
fn the_policy_lets_both_versions_ask_for_every_long_lived_key() {
    let own = || KeyScope::Only(vec![name("ledger-signing")]);
    let other = || KeyScope::Only(vec![name("view-tls")]);
    for (rule, keys, expected) in [
        (0, own(), "accepted"),
        (0, other(), "plan-mismatch"),
        (1, KeyScope::All, "accepted"),
        (1, own(), "accepted"),
        (1, other(), "plan-mismatch"),
    ] {
        let mut day = FlagDay::planned();
        let domain = day.world.state.domain(&crate::world::DOMAIN).unwrap();
        let mut policy = domain.policy().unwrap().get().clone();
        policy.serial = policy.serial.next().unwrap();
        policy.applications[rule].keys = keys;
        day.world.accept(&signed(&policy, Role::Policy));
        day.plan.keyring.as_mut().expect("it moves a keyring").policy = policy.serial;
        let proposal = day.world.proposal(&day.plan);
        assert_eq!(day.world.code(&proposal), expected);
    }
}

#[test]
fn steps_are_about_the_service_of_the_nodes() {
    refuse(&[
        ("other code", "shape", |it| {
            let from = it.keyring.as_ref().expect("it moves a keyring").from;
            step(it, EQUIP).action = Action::Service(ServiceAction::Equip(from));
        }),
        ("other code installed", "shape", |it| {
            let (expect, install) =
                (change(it).from, it.keyring.as_ref().expect("it moves a keyring").from);
            step(it, 22).action = Action::Service(ServiceAction::Deploy { expect, install });
        }),
        ("a keeper stopped", "shape", |it| {
            let from = it.keyring.as_ref().expect("it moves a keyring").from;
            step(it, HALT).action = Action::Stop(from);
        }),
        ("a node that is not under change", "shape", |it| drop(it.nodes.pop())),
        ("a node frozen twice", "shape", |it| step(it, FREEZE + 1).node = name("n1")),
        ("a freeze on the way back", "shape", |it| {
            let from = change(it).from;
            it.rollback[0].step.action = Action::Service(ServiceAction::Freeze(from));
        }),
    ]);
}

/// Two blocks that state the same, and what agrees about the first and so many after it.
fn agreed_musters(plan: &mut Plan, more: u32) {
    let from = change(plan).from;
    for id in FENCE..FENCE + 3 {
        step(plan, id).action = Action::Service(ServiceAction::Muster(from));
    }
    let gate = Gate::Agreed { first: StepId(MUSTER), last: StepId(MUSTER + more) };
    step(plan, HALT).gates.push(gate);
}

#[test]
fn ranges_look_back_and_compare_what_is_alike() {
    refuse(&[
        ("a range that looks forward", "shape", |it| {
            step(it, FENCE).gates = vec![all_done(FENCE)];
        }),
        ("a range that is turned round", "shape", |it| {
            let gate = Gate::AllDone { first: StepId(MUSTER + 2), last: StepId(MUSTER) };
            step(it, FENCE).gates = vec![gate];
        }),
        ("an agreement that looks forward", "shape", |it| {
            step(it, FREEZE).gates.push(agreed(FREEZE));
        }),
        ("an agreement of different steps", "shape", |it| {
            step(it, HALT).gates.push(agreed(FREEZE - 1));
        }),
        ("an agreement of steps that state nothing", "shape", |it| {
            step(it, HALT).gates.push(agreed(FENCE));
        }),
        ("an agreement of steps of two blocks", "shape", |it| {
            let gate = Gate::Agreed { first: StepId(FREEZE - 1), last: StepId(FREEZE + 2) };
            step(it, HALT).gates.push(gate);
        }),
        ("an agreement of as many steps as nodes", "accepted", |it| agreed_musters(it, 2)),
        ("an agreement of more steps than nodes", "shape", |it| agreed_musters(it, 3)),
        ("a rehearsal by nobody", "shape", |it| {
            step(it, MUSTER).gates.push(Gate::Rehearsed { need: 0 });
        }),
    ]);
}

#[test]
fn nobody_sees_what_both_versions_wrote() {
    refuse(&[
        ("no commit", "shape", |it| {
            step(it, COMMIT).action = Action::Service(ServiceAction::Snapshot);
        }),
        ("two commits", "shape", |it| step(it, JOIN).action = Action::Commit),
        ("another point of no return", "shape", |it| it.point_of_no_return = StepId(LAUNCH)),
        ("the new version opened before", "shape", |it| {
            let to = change(it).to;
            step(it, JOIN).action = Action::Service(ServiceAction::Open(to));
        }),
        ("the new version opened without waiting", "shape", |it| {
            step(it, OPEN).gates.clear();
        }),
        ("the new version opened after something else", "shape", |it| {
            step(it, OPEN).gates = vec![Gate::Done(StepId(LAUNCH))];
        }),
        ("the next stage without waiting", "shape", |it| step(it, OPEN + 1).gates.clear()),
        ("the next stage after a range", "accepted", |it| {
            step(it, OPEN + 1).gates =
                vec![Gate::AllDone { first: StepId(COMMIT), last: StepId(OPEN) }];
        }),
        ("the old version opened at the end", "shape", |it| {
            let from = change(it).from;
            step(it, OPEN).action = Action::Service(ServiceAction::Open(from));
        }),
        ("the new version opened on the way back", "shape", |it| {
            let to = change(it).to;
            it.rollback[4].step.action = Action::Service(ServiceAction::Open(to));
        }),
    ]);
}

/// The same measurement: nodes restart one by one, and nothing else may differ.
#[test]
fn the_same_code_restarts_without_a_flag_day() {
    let restart = |make: fn(&mut Plan)| {
        let mut day = FlagDay::planned();
        let from = application_release(&day.world, "ledger-1", APP_OLD);
        day.plan.service =
            Some(heirloom_testkit::service::change(&from, &from, Epoch(2), Epoch(4)));
        let code = change(&mut day.plan).from;
        day.plan.steps.truncate(4);
        let actions = [
            Action::Service(ServiceAction::Fence(code)),
            Action::Service(ServiceAction::Halt(code)),
            Action::Service(ServiceAction::Launch(code)),
            Action::Service(ServiceAction::Open(code)),
        ];
        for ((index, step), action) in (0..).zip(&mut day.plan.steps).zip(actions) {
            (step.node, step.action) = (name("n1"), action);
            step.gates = if index == 0 { Vec::new() } else { vec![Gate::Done(StepId(index - 1))] };
        }
        day.plan.rollback.clear();
        day.plan.point_of_no_return = StepId(3);
        make(&mut day.plan);
        let proposal = day.world.proposal(&day.plan);
        day.world.code(&proposal)
    };
    assert_eq!(restart(|_| {}), "accepted");
    assert_eq!(restart(|it| change(it).terms.schema_to = SchemaVersion(2)), "shape");
    assert_eq!(restart(|it| change(it).terms.migrations.push(name("m"))), "shape");
    let configured = |it: &mut Plan| {
        change(it).terms.configuration_to = ConfigurationDigest::new([1; 32]);
    };
    assert_eq!(restart(configured), "shape");
}

#[test]
fn a_plan_without_a_service_has_none_of_its_steps_and_gates() {
    let rows: &[Row<Plan>] = &[
        ("a range", "accepted", |it| {
            step(it, 3).gates.push(Gate::AllDone { first: StepId(0), last: StepId(2) });
        }),
        ("a step of a service", "shape", |it| {
            step(it, 2).action = Action::Service(ServiceAction::Snapshot);
        }),
        ("a commit", "shape", |it| step(it, 2).action = Action::Commit),
        ("an agreement", "shape", |it| {
            step(it, 3).gates.push(Gate::Agreed { first: StepId(0), last: StepId(0) });
        }),
        ("a rehearsal", "shape", |it| step(it, 3).gates.push(Gate::Rehearsed { need: 1 })),
    ];
    let mut world = World::with_genesis();
    let plan = world.plan();
    for (change, expected, make) in rows {
        let mut changed = plan.clone();
        make(&mut changed);
        let proposal = world.proposal(&changed);
        assert_eq!(world.code(&proposal), *expected, "{change}");
    }
}

#[test]
fn no_policy_consents_to_a_flag_day_in_advance() {
    let mut day = FlagDay::planned();
    let domain = day.world.state.domain(&crate::world::DOMAIN).unwrap();
    let mut policy = domain.policy().unwrap().get().clone();
    policy.serial = policy.serial.next().unwrap();
    policy.update = UpdateMode::Auto;
    day.world.accept(&signed(&policy, Role::Policy));
    day.plan.keyring.as_mut().expect("it moves a keyring").policy = policy.serial;
    day.plan.nodes = vec![name("n1")];
    let mut proposal = day.world.proposal(&day.plan);
    proposal.signatures.clear();
    proposal.sign(&agent("n1"));
    assert_eq!(day.world.code(&proposal), "unknown-signer");
}
