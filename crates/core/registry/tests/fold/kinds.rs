//! Plans over nodes of several kinds of platform: what each release is on each kind, and that
//! every edge between kinds is named.

use heirloom_model::counter::{SecurityVersion, Serial};
use heirloom_model::envelope::Envelope;
use heirloom_model::measurement::{LaunchDigest, LaunchedCode, Measurement};
use heirloom_model::plan::{
    Action, CodePair, Gate, KeyringGround, Placement, Plan, RollbackStep, Step, StepId,
};
use heirloom_model::policy::{HolderRole, HolderRule, Policy};
use heirloom_model::release::Release;
use heirloom_model::root::Role;
use heirloom_registry::refusal::Refusal;

use crate::world::{Instance, NEW, OLD, STRANGE, World, development_root, name, role_keys, signed};

const OLD_SNP: Measurement = Measurement::Snp(LaunchDigest::new([1; 48]));
const NEW_SNP: Measurement = Measurement::Snp(LaunchDigest::new([2; 48]));
const OLD_TPM: Measurement = Measurement::Tpm(LaunchedCode::new([1; 32]));
const NEW_TPM: Measurement = Measurement::Tpm(LaunchedCode::new([2; 32]));
const STRANGE_TPM: Measurement = Measurement::Tpm(LaunchedCode::new([3; 32]));
/// As policies sort them.
const ALL: [Measurement; 6] = [OLD, NEW, OLD_SNP, NEW_SNP, OLD_TPM, NEW_TPM];

fn release(world: &World, text: &str, codes: [Measurement; 3]) -> Release {
    Release { measurements: codes.to_vec(), ..world.release(text, codes[0]) }
}

fn releases(world: &World) -> [Release; 2] {
    [
        release(world, "keeper-1", [OLD, OLD_SNP, OLD_TPM]),
        release(world, "keeper-2", [NEW, NEW_SNP, NEW_TPM]),
    ]
}

/// A policy that names these edges, and no others.
fn policy(world: &World, named: impl Fn(Measurement, Measurement) -> bool) -> Policy {
    let rule = |measurement: Measurement| HolderRule {
        measurement,
        security_version: SecurityVersion(2),
        gives_to: ALL
            .into_iter()
            .filter(|to| *to != measurement && named(measurement, *to))
            .collect(),
        role: HolderRole::Keeper,
    };
    Policy { holders: ALL.map(rule).to_vec(), ..world.policy() }
}

/// A network with both releases on three kinds, and generation 0 on two nodes.
fn mixed(named: impl Fn(Measurement, Measurement) -> bool) -> World {
    let mut world = World::begun();
    world.accept(&signed(&world.fleet(), Role::Operator));
    let endorsements = development_root().endorsements(crate::world::BEGIN);
    world.accept(&Envelope::signed(&endorsements, &role_keys(Role::Operator)[..1]));
    for release in releases(&world) {
        world.accept(&signed(&release, Role::Release));
    }
    world.accept(&signed(&policy(&world, named), Role::Policy));
    world.accept(&signed(&world.order(), Role::Operator));
    for node in ["n1", "n2"] {
        let receipt = world.receipt(node);
        world.accept(&Instance::new(node, OLD).attest(&receipt));
    }
    world
}

fn every_edge(_: Measurement, _: Measurement) -> bool {
    true
}

/// What a release is on one kind of platform.
fn old(world: &World, measurement: Measurement) -> Placement {
    let [old, _] = releases(world);
    Placement { release: old.digest(), measurement }
}

fn new(world: &World, measurement: Measurement) -> Placement {
    let [_, new] = releases(world);
    Placement { release: new.digest(), measurement }
}

const STOP: usize = 2;
const INSTALL: usize = 3;
const START: usize = 4;
const REPLICATE: usize = 5;

/// The second node has a TPM; it is changed with the help of the first, which has SGX.
fn plan(world: &World) -> Plan {
    let base = world.plan();
    let step = |id: u32, node: &str, action| Step {
        id: StepId(id),
        node: name(node),
        wave: 0,
        action,
        gates: id.checked_sub(1).map(|before| Gate::Done(StepId(before))).into_iter().collect(),
    };
    let verify = Action::Verify { targets: vec![name("n1"), name("n2")], need: 1, code: None };
    let (from, to) = (old(world, OLD_TPM), new(world, NEW_TPM));
    Plan {
        keyring: Some(KeyringGround {
            from: old(world, OLD),
            to: new(world, NEW),
            others: vec![
                CodePair { from: OLD_SNP, to: NEW_SNP },
                CodePair { from: OLD_TPM, to: NEW_TPM },
            ],
            ..base.keyring.expect("it moves a keyring")
        }),
        steps: vec![
            step(0, "n2", Action::Prepare(to)),
            step(1, "n1", verify),
            step(2, "n2", Action::Stop(from)),
            step(3, "n2", Action::Install { expect: from, install: to }),
            step(4, "n2", Action::Start(to)),
            step(5, "n2", Action::Replicate { sources: vec![name("n1")], to }),
            step(6, "n1", Action::Withdraw(Serial(2))),
        ],
        rollback: vec![
            RollbackStep {
                step: Step { gates: Vec::new(), ..step(7, "n2", Action::Start(from)) },
                undoes: StepId(2),
            },
            RollbackStep { step: step(8, "n2", Action::Stop(to)), undoes: StepId(4) },
        ],
        point_of_no_return: StepId(6),
        ..base
    }
}

/// Why a proposal is refused.
fn refusal(world: &mut World, plan: &Plan) -> Option<Refusal> {
    let proposal = world.proposal(plan);
    world.state.judge(&heirloom_model::wire::encode(&proposal)).err()
}

/// The field or part that a refusal is about.
fn about(world: &mut World, plan: &Plan) -> &'static str {
    match refusal(world, plan) {
        None => "accepted",
        Some(Refusal::Shape { field, .. }) => field,
        Some(Refusal::PlanMismatch { what }) => what,
        Some(other) => other.code(),
    }
}

#[test]
fn what_releases_are_on_other_kinds_is_sorted_and_theirs() {
    const OTHERS: &str = "plan.keyring.others";
    type Row = (&'static str, &'static str, fn(&mut Vec<CodePair>));
    let rows: [Row; 10] = [
        ("unsorted", OTHERS, |it| it.reverse()),
        ("the same pair twice", OTHERS, |it| it.push(it[1])),
        ("a kind twice", OTHERS, |it| it.push(CodePair { from: NEW_TPM, to: OLD_TPM })),
        ("a pair of two kinds", OTHERS, |it| it[1].to = NEW_SNP),
        ("a pair that begins as another kind", OTHERS, |it| it[1].from = OLD),
        ("a pair of the first kind again", OTHERS, |it| {
            it.insert(0, CodePair { from: OLD, to: NEW });
        }),
        ("what the first release is not", "release", |it| it[1].from = STRANGE_TPM),
        ("what the second release is not", "release", |it| it[1].to = STRANGE_TPM),
        ("both the same", "release", |it| it[1].to = OLD_TPM),
        ("one exchanged for the other", "release", |it| {
            it[1] = CodePair { from: NEW_TPM, to: OLD_TPM };
        }),
    ];
    let mut world = mixed(every_edge);
    let sound = plan(&world);
    assert_eq!(about(&mut world, &sound), "accepted");
    for (change, expected, make) in rows {
        let mut changed = sound.clone();
        make(&mut changed.keyring.as_mut().expect("it moves a keyring").others);
        assert_eq!(about(&mut world, &changed), expected, "{change}");
    }
}

#[test]
fn actions_are_about_what_the_plan_names_on_their_kind() {
    const ACTION: &str = "plan.steps.action";
    let mut world = mixed(every_edge);
    let sound = plan(&world);
    let (from, to) = (old(&world, OLD_TPM), new(&world, NEW_TPM));
    let (from_sgx, to_sgx) = (old(&world, OLD), new(&world, NEW));
    let other = Placement { measurement: STRANGE_TPM, ..to };
    let crossed = Placement { measurement: NEW, ..from };
    let rows = [
        ("what no release is", START, Action::Start(other)),
        ("the other release's measurement", STOP, Action::Stop(crossed)),
        ("one kind for another", INSTALL, Action::Install { expect: from, install: to_sgx }),
        ("from another kind", INSTALL, Action::Install { expect: from_sgx, install: to }),
        ("the same for the same", INSTALL, Action::Install { expect: from, install: from }),
        (
            "replication to what no release is",
            REPLICATE,
            Action::Replicate { sources: vec![name("n1")], to: other },
        ),
        ("files of strange code", START, Action::Quarantine(STRANGE)),
    ];
    for (change, at, action) in rows {
        let mut changed = sound.clone();
        changed.steps[at].action = action;
        assert_eq!(about(&mut world, &changed), ACTION, "{change}");
    }
    let back = Action::Install { expect: to, install: from };
    let mut changed = sound.clone();
    changed.steps[INSTALL].action = back;
    assert_eq!(about(&mut world, &changed), "accepted", "and the way back");
    let mut forgotten = sound;
    forgotten.keyring.as_mut().expect("it moves a keyring").others.truncate(1);
    assert_eq!(about(&mut world, &forgotten), ACTION, "a kind that is left out");
}

/// Nodes of any kind may copy from nodes of any other, before and after.
#[test]
fn every_edge_between_kinds_is_named_where_anything_is_copied() {
    for missing in ALL.into_iter().flat_map(|from| ALL.map(|to| (from, to))) {
        let (from, to) = missing;
        let mut world = mixed(|giver, receiver| (giver, receiver) != missing);
        let plan = plan(&world);
        let expected = if from == to { "accepted" } else { "edge" };
        assert_eq!(about(&mut world, &plan), expected, "{from} to {to}");
    }
}

#[test]
fn where_nothing_is_copied_only_each_kinds_own_edges_are_needed() {
    let same_kind = |from: Measurement, to: Measurement| from.kind() == to.kind();
    let mut world = mixed(same_kind);
    let copying = plan(&world);
    assert_eq!(about(&mut world, &copying), "edge");
    let mut restarting = copying;
    restarting.steps[REPLICATE].action = Action::Restart(new(&world, NEW_TPM));
    assert_eq!(about(&mut world, &restarting), "accepted");
    let mut one_way = mixed(|from, to| same_kind(from, to) && (from, to) != (NEW_TPM, OLD_TPM));
    assert_eq!(about(&mut one_way, &restarting), "edge", "the way back of one kind");
}
