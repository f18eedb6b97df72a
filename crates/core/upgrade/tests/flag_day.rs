//! What the planner makes of a flag day, and what it refuses.

mod common;

use common::{
    LEDGER_NEW, LEDGER_OLD, flag_day, inventory, ledger, ledger_new, ledger_old, ledger_same, name,
    new, restart, served, wish,
};
use heirloom_attest::result::AnchorClass;
use heirloom_model::counter::{Epoch, Generation, SecurityVersion, Serial, Time};
use heirloom_model::digest::{AnchorId, ArtifactDigest, ConfigurationDigest};
use heirloom_model::limit::{MIGRATIONS_MAX, SERVICE_PEERS_MAX};
use heirloom_model::plan::{Action, Gate, Placement, Plan, ServiceAction, StepId, Strategy};
use heirloom_model::policy::{KeyScope, Sharing};
use heirloom_model::release::Release;
use heirloom_model::service::SchemaVersion;
use heirloom_model::wire;
use heirloom_upgrade::checker::{Fault, check_from};
use heirloom_upgrade::inventory::Inventory;
use heirloom_upgrade::planner::service::{ServiceError, StageFault};
use heirloom_upgrade::planner::{
    Downtime, FlagDayRequest, Note, PlanError, PlanReport, PlanRequest, plan_from,
};

fn planned(wish: FlagDayRequest, fleet: &Inventory) -> (Plan, PlanReport) {
    let (plan, report) = plan_from(&flag_day(wish), fleet).expect("the fleet is sound");
    assert_eq!(check_from(&plan, fleet), Vec::new());
    assert_eq!(wire::decode::<Plan>(&wire::encode(&plan)).expect("it was encoded"), plan);
    (plan, report)
}

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.action.name()).collect()
}

#[test]
fn every_node_has_a_step_in_every_block() {
    for count in (1..=7).chain([100, SERVICE_PEERS_MAX + 1]) {
        let fleet = served(count, 1);
        let (plan, report) = planned(wish(), &fleet);
        assert_eq!(plan.strategy, Strategy::FlagDay);
        assert_eq!(
            plan.keyring.as_ref().expect("it moves a keyring").from,
            plan.keyring.as_ref().expect("it moves a keyring").to
        );
        let blocks = [
            "equip", "muster", "fence", "freeze", "halt", "snapshot", "migrate", "deploy",
            "launch", "join", "exercise",
        ];
        let mut expected = vec!["verify"];
        expected.extend(blocks.iter().flat_map(|block| std::iter::repeat_n(*block, count)));
        expected.extend(["verify", "commit"]);
        expected.extend(
            ["open", "watch"].into_iter().flat_map(|block| std::iter::repeat_n(block, count)),
        );
        assert_eq!(names(&plan), expected, "{count} nodes");
        for block in plan.steps[1..].chunks(count).take(blocks.len()) {
            let nodes: Vec<_> = block.iter().map(|step| step.node.clone()).collect();
            assert_eq!(nodes, plan.nodes);
        }
        let commit = plan.steps.iter().find(|step| step.action == Action::Commit).unwrap();
        assert_eq!(plan.point_of_no_return, commit.id);
        let at = |found: &str| plan.steps.iter().find(|step| step.action.name() == found).unwrap();
        let (closes, opens) = (at("fence").id, at("open").id);
        assert_eq!(report.downtime, Downtime::Window { closes, opens });
        assert_eq!(plan.rollback.len(), 5 * count);
    }
}

#[test]
fn each_node_goes_back_by_itself() {
    let (plan, _) = planned(wish(), &served(3, 2));
    let change = plan.service.as_ref().unwrap();
    for (place, back) in plan.rollback.chunks(5).enumerate() {
        let mut before: Option<StepId> = None;
        let undoes = ["launch", "migrate", "deploy", "halt", "fence"];
        let actions = [
            Action::Service(ServiceAction::Halt(change.to)),
            Action::Service(ServiceAction::Revert),
            Action::Service(ServiceAction::Deploy { expect: change.to, install: change.from }),
            Action::Service(ServiceAction::Launch(change.from)),
            Action::Service(ServiceAction::Open(change.from)),
        ];
        for ((back, undoes), action) in back.iter().zip(undoes).zip(actions) {
            assert_eq!(back.step.node, plan.nodes[place]);
            assert_eq!(back.step.action, action);
            let gates: Vec<Gate> = before.map(Gate::Done).into_iter().collect();
            assert_eq!(back.step.gates, gates);
            let undone = plan.step(back.undoes).unwrap();
            assert_eq!((undone.action.name(), &undone.node), (undoes, &back.step.node));
            before = Some(back.step.id);
        }
    }
}

#[test]
fn the_report_says_what_an_operator_agrees_to() {
    let (_, report) = planned(wish(), &served(4, 2));
    let service = report.service.unwrap();
    assert_eq!((service.opens, service.abort_after), (Epoch(12), Epoch(15)));
    assert_eq!(service.rehearsals, 2);
    assert_eq!((service.quiet_milliseconds, service.watch_milliseconds), (2_000, 60_000));
    assert_eq!(service.stages, [vec![name(0)], vec![name(1), name(2), name(3)]]);
    assert_eq!(report.notes, Vec::new());
    assert_ne!(report.verifiers[0].0, report.verifiers[0].1);

    let stages = vec![vec![name(2), name(0)], vec![name(1)]];
    let (plan, report) =
        planned(FlagDayRequest { stages: stages.clone(), ..wish() }, &served(3, 1));
    assert_eq!(report.service.unwrap().stages, stages);
    assert_eq!(report.notes, [Note::NoMargin]);
    let opens: Vec<_> = plan.steps.iter().filter(|step| step.action.name() == "open").collect();
    let commit = plan.point_of_no_return;
    assert_eq!(opens[0].node, name(2));
    assert_eq!(opens[1].gates, [Gate::Done(commit)]);
    assert_eq!(opens[2].gates, [Gate::AllDone { first: opens[0].id, last: opens[1].id }]);
}

#[test]
fn weak_wishes_are_carried_out_and_said_aloud() {
    let fleet = served(3, 2);
    let unrehearsed = FlagDayRequest { rehearsals: 0, ..wish() };
    let (plan, report) = plan_from(&flag_day(unrehearsed), &fleet).unwrap();
    assert_eq!(report.notes, [Note::NotRehearsed]);
    let findings = check_from(&plan, &fleet);
    assert!(matches!(findings.as_slice(), [one] if one.fault == Fault::NotRehearsed));

    let together = vec![vec![name(0), name(1), name(2)]];
    let (_, report) = planned(FlagDayRequest { stages: together, ..wish() }, &fleet);
    assert_eq!(report.notes, [Note::NoCanary]);

    let (_, report) = planned(wish(), &served(1, 1));
    assert_eq!(
        report.notes[..2],
        [Note::OneOperator { first: name(0), second: name(0) }, Note::OneNode,]
    );
    let mut alone = served(3, 2);
    let operator = alone.nodes[0].operator.clone();
    alone.nodes.iter_mut().for_each(|node| node.operator = operator.clone());
    alone.anchors.insert(AnchorId::new([5; 32]), AnchorClass::Development);
    let (_, report) = planned(wish(), &alone);
    assert!(matches!(report.notes[..], [Note::OneOperator { .. }, Note::DevelopmentRoot]));
}

#[test]
fn rights_are_withdrawn_at_the_very_end_if_somebody_wants_that() {
    let withdraw = Some(Serial(5));
    for wish in [
        FlagDayRequest { withdraw, ..wish() },
        FlagDayRequest { withdraw, ..restart(&ledger_same()) },
    ] {
        let (plan, _) = planned(wish, &served(3, 2));
        let last = plan.steps.last().unwrap();
        assert_eq!(last.action, Action::Withdraw(Serial(5)));
        assert!(last.gates.contains(&Gate::PolicyPublished(Serial(5))));
    }
}

#[test]
fn an_exclusive_domain_asks_its_active_holder() {
    let mut fleet = served(3, 1);
    fleet.policy.sharing = Sharing::Exclusive;
    fleet.active = Some((name(1), common::OLD));
    let (plan, _) = planned(wish(), &fleet);
    let Action::Verify { targets, .. } = &plan.steps[0].action else { panic!("custody first") };
    assert_eq!(*targets, [name(1)]);
    fleet.active = None;
    let error = plan_from(&flag_day(wish()), &fleet).unwrap_err();
    assert!(matches!(error, PlanError::NobodyActive(_)));
}

#[test]
fn without_another_measurement_there_is_no_flag_day() {
    for count in 1..=7 {
        let (plan, report) = planned(restart(&ledger_same()), &served(count, 1));
        assert_eq!(plan.strategy, Strategy::Rolling);
        assert!(report.notes.contains(&Note::NoFlagDay(LEDGER_OLD)));
        assert_eq!(report.waves.len(), count);
        let mut expected = vec!["verify"];
        for _ in 0..count {
            expected.extend(["fence", "halt", "deploy", "launch", "join", "open"]);
        }
        assert_eq!(names(&plan), expected);
        let last = plan.steps.last().unwrap();
        assert_eq!(plan.point_of_no_return, last.id);
        assert_eq!(last.wave, u32::try_from(count).unwrap());
        match count {
            1 => assert!(matches!(report.downtime, Downtime::Window { .. })),
            _ => assert_eq!(report.downtime, Downtime::None),
        }
        let rehearses = |gate: &Gate| matches!(gate, Gate::Rehearsed { .. });
        assert!(plan.steps.iter().all(|step| !step.gates.iter().any(rehearses)));
    }
    // The very same release: nothing is replaced.
    let (plan, _) = planned(restart(&ledger_old()), &served(2, 1));
    assert!(names(&plan).iter().all(|name| *name != "deploy"));
    assert_eq!(plan.rollback.len(), 2 * 4);
}

/// A plan error, made by changing one thing of a request and a fleet that are sound.
fn refused(
    change: impl FnOnce(&mut PlanRequest, &mut FlagDayRequest, &mut Inventory),
) -> PlanError {
    refused_of(wish(), change)
}

fn refused_of(
    mut wish: FlagDayRequest,
    change: impl FnOnce(&mut PlanRequest, &mut FlagDayRequest, &mut Inventory),
) -> PlanError {
    let mut fleet = served(3, 2);
    let mut request = flag_day(wish.clone());
    plan_from(&request, &fleet).expect("before the change it is sound");
    change(&mut request, &mut wish, &mut fleet);
    request.arrangement = flag_day(wish).arrangement;
    let error = plan_from(&request, &fleet).expect_err("one thing is wrong");
    assert!(!error.to_string().is_empty() && !error.hint().is_empty());
    error
}

fn service(error: PlanError) -> ServiceError {
    match error {
        PlanError::Service(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_window_that_cannot_be_is_refused() {
    let found = refused(|_, wish, _| wish.abort_after = Epoch(11));
    let (abort_after, needed) = (Epoch(11), Epoch(12));
    assert_eq!(service(found), ServiceError::CalledOffTooEarly { abort_after, needed });
    let found = refused(|_, wish, fleet| {
        (wish.opens, wish.abort_after) = (Epoch(3), Epoch(9));
        fleet.epoch = Epoch(10);
    });
    assert!(matches!(service(found), ServiceError::CalledOffTooEarly { needed: Epoch(10), .. }));
    let found = refused(|request, _, _| request.not_after = Epoch(14));
    let expected = PlanError::EndsTooEarly { not_after: Epoch(14), needed: Epoch(15) };
    assert_eq!(found, expected);
    let found = refused(|_, wish, _| wish.rehearsals = 65);
    assert_eq!(found, PlanError::TooLarge { what: "rehearsals", found: 65, limit: 64 });
    let found = refused(|_, wish, _| wish.withdraw = Some(Serial(6)));
    assert!(matches!(found, PlanError::WrongWithdrawal { expected: Serial(5), .. }));
    let found = refused(|request, _, _| request.to = new());
    assert!(matches!(found, PlanError::ReleaseChanges { .. }));
    let found = refused(|_, _, fleet| fleet.rotation = Some(Generation(4)));
    assert!(matches!(found, PlanError::RotationPending(_)));
}

#[test]
fn stages_that_leave_a_node_out_are_refused() {
    for (stages, fault) in [
        (vec![vec![name(0)], vec![name(1)]], StageFault::Missing(name(2))),
        (vec![vec![name(0), name(1)], vec![name(2), name(1)]], StageFault::Twice(name(1))),
        (vec![vec![name(0), name(7)]], StageFault::Unknown(name(7))),
        (vec![Vec::new(), vec![name(0), name(1), name(2)]], StageFault::Empty),
    ] {
        let found = refused(|_, wish, _| wish.stages = stages);
        assert_eq!(service(found), ServiceError::Stages(fault));
    }
}

/// Replaces the release of the fleet that launches to the new code.
fn replace_new(wish: &mut FlagDayRequest, fleet: &mut Inventory, release: Release) {
    fleet.releases.remove(&wish.to);
    wish.to = release.digest();
    fleet.releases.insert(wish.to, release);
}

#[test]
fn releases_that_are_no_good_are_refused() {
    let found = refused(|_, wish, _| wish.to = new());
    assert_eq!(service(found), ServiceError::NotAnApplication(new()));
    let found = refused(|_, wish, fleet| drop(fleet.releases.remove(&wish.to)));
    assert!(matches!(found, PlanError::UnknownRelease(_)));
    let found = refused(|_, wish, fleet| {
        replace_new(wish, fleet, Release { not_after: Time(999), ..ledger_new() });
    });
    assert!(matches!(found, PlanError::ReleaseExpired { not_after: Time(999), .. }));
    let found = refused(|_, wish, fleet| {
        let security_version = SecurityVersion(0);
        replace_new(wish, fleet, Release { security_version, ..ledger_new() });
    });
    assert!(matches!(found, PlanError::SecurityVersionLower { .. }));
    let found = refused(|_, _, fleet| {
        fleet.policy.applications[1].security_version = SecurityVersion(2);
    });
    assert!(matches!(service(found), ServiceError::SecurityVersionTooLow { .. }));
}

#[test]
fn code_that_the_policy_does_not_serve_is_refused() {
    for (place, code) in [(0, LEDGER_OLD), (1, LEDGER_NEW)] {
        let found = refused(|_, _, fleet| drop(fleet.policy.applications.remove(place)));
        assert!(
            matches!(service(found), ServiceError::Unnamed { measurement, .. } if measurement == code)
        );
    }
    let found = refused(|_, wish, _| wish.application = "wallet".parse().unwrap());
    assert!(matches!(service(found), ServiceError::Unnamed { .. }));
    let found = refused(|_, _, fleet| {
        // The per-boot key is not what the policy gives, and need not be named.
        fleet.policy.applications[1].keys = KeyScope::Only(vec!["view".parse().unwrap()]);
    });
    assert!(
        matches!(service(found), ServiceError::KeyNotGiven { key, .. } if key.as_str() == "signing")
    );
    let mut fleet = served(3, 2);
    fleet.policy.applications[1].keys = KeyScope::Only(vec!["signing".parse().unwrap()]);
    planned(wish(), &fleet);
}

#[test]
fn terms_that_are_about_something_else_are_refused() {
    let found = refused(|_, wish, _| wish.terms.to.release = "ledger-3.0.0".parse().unwrap());
    assert!(matches!(service(found), ServiceError::OtherRelease { .. }));
    let found = refused(|_, wish, _| wish.terms.from.program = ArtifactDigest::new([1; 32]));
    assert!(matches!(service(found), ServiceError::OtherProgram { .. }));
    let found = refused(|_, wish, _| wish.terms.schema_to = SchemaVersion(1));
    assert!(matches!(service(found), ServiceError::SchemaLower { .. }));
}

#[test]
fn terms_that_say_too_little_or_too_much_are_refused() {
    let found = refused(|_, wish, _| wish.terms.tests.clear());
    assert_eq!(service(found), ServiceError::TermsWithout("tests"));
    let found = refused(|_, wish, _| wish.terms.quiet_milliseconds = 0);
    assert_eq!(service(found), ServiceError::TermsWithout("quiet time"));
    let found = refused(|_, wish, _| wish.terms.migrations.clear());
    assert_eq!(service(found), ServiceError::TermsWithout("migration to the new schema"));
    let found = refused(|_, wish, _| wish.terms.keys.reverse());
    assert!(matches!(service(found), ServiceError::TermsUnsorted { what: "keys", .. }));
    let found = refused(|_, wish, _| {
        let again = wish.terms.tests[0].clone();
        wish.terms.tests.push(again);
    });
    assert!(matches!(service(found), ServiceError::TermsUnsorted { what: "tests", .. }));
    let found = refused(|_, wish, _| {
        let again = wish.terms.migrations[0].clone();
        wish.terms.migrations.push(again);
    });
    assert!(matches!(service(found), ServiceError::TermsUnsorted { what: "migrations", .. }));
    let found = refused(|_, wish, _| {
        let again = wish.terms.migrations[0].clone();
        wish.terms.migrations = vec![again; MIGRATIONS_MAX + 1];
    });
    assert!(matches!(found, PlanError::TooLarge { what: "migrations", .. }));
    let found = refused(|_, wish, _| {
        let again = wish.terms.tests[0].clone();
        wish.terms.tests = vec![again; 33];
    });
    assert!(matches!(found, PlanError::TooLarge { what: "tests", .. }));
    let found = refused(|_, wish, _| {
        let again = wish.terms.keys[0].clone();
        wish.terms.keys = vec![again; 33];
    });
    assert!(matches!(found, PlanError::TooLarge { what: "keys", .. }));
}

#[test]
fn what_peers_compare_does_not_change_in_a_restart() {
    let refused = |change: fn(&mut FlagDayRequest)| {
        service(refused_of(restart(&ledger_same()), |_, wish, _| change(wish)))
    };
    let expected = |what| ServiceError::RestartChanges { measurement: LEDGER_OLD, what };
    let found = refused(|wish| wish.terms.configuration_to = ConfigurationDigest::new([43; 32]));
    assert_eq!(found, expected("the configuration"));
    let found = refused(|wish| wish.terms.schema_to = SchemaVersion(3));
    assert_eq!(found, expected("the schema"));
    let found = refused(|wish| wish.terms.migrations = vec!["outputs".parse().unwrap()]);
    assert_eq!(found, expected("the database"));
}

#[test]
fn custody_comes_first() {
    let found = refused(|_, _, fleet| fleet.policy.holders_min = 4);
    assert!(matches!(service(found), ServiceError::TooFewHolders { needed: 4, .. }));
    // Three nodes on paper, in one failure domain.
    let found = refused(|_, _, fleet| fleet.nodes = inventory(&[0, 0, 0], &[0, 1, 2], 2).nodes);
    assert!(matches!(service(found), ServiceError::TooFewHolders { needed: 2, .. }));
    let found = refused(|_, _, fleet| {
        fleet.registered.pop_first();
        fleet.registered.pop_first();
    });
    assert!(matches!(service(found), ServiceError::TooFewHolders { .. }));
    let found = refused(|_, _, fleet| fleet.keyring = None);
    assert!(matches!(found, PlanError::NoGeneration(_)));
}

#[test]
fn too_many_nodes_cannot_all_attest_each_other() {
    let fleet = served(SERVICE_PEERS_MAX + 2, 1);
    let error = plan_from(&flag_day(wish()), &fleet).unwrap_err();
    let (found, limit) = (SERVICE_PEERS_MAX + 2, SERVICE_PEERS_MAX + 1);
    assert_eq!(error, PlanError::TooLarge { what: "nodes", found, limit });
    let error = plan_from(&flag_day(wish()), &served(0, 1)).unwrap_err();
    assert_eq!(error, PlanError::Service(ServiceError::NoNodes(common::DOMAIN)));
}

#[test]
fn the_plan_names_the_measurements_that_the_releases_launch_to() {
    let (plan, _) = planned(wish(), &served(2, 1));
    let change = plan.service.unwrap();
    let (release, measurement) = (ledger_old().digest(), LEDGER_OLD);
    assert_eq!(change.from, Placement { release, measurement });
    let (release, measurement) = (ledger_new().digest(), LEDGER_NEW);
    assert_eq!(change.to, Placement { release, measurement });
    assert_ne!(ledger("ledger-2.0.0", LEDGER_NEW, 33).digest(), release);
}
