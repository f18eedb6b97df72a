//! What people read before they sign: explanation, calendar, lint.

mod common;

use std::collections::BTreeSet;

use common::{
    NEW, OLD, VIA, apart, carried, handover, policy, release, relocation, request, resealing, rule,
    upgrader,
};
use heirloom_attest::result::AnchorClass;
use heirloom_model::appraisal::{
    AcceptedAdvisory, AliasCheck, GraceEnd, NitroRule, PcrRule, Reference, RevocationDemand, Smt,
    SnpRule, TcbGrace, TdxRule, TpmRule, VekKind, VtpmRule,
};
use heirloom_model::counter::{Epoch, SecurityVersion, Serial, Time};
use heirloom_model::digest::{AnchorId, HostAuthority, PlanDigest};
use heirloom_model::identifier::{FailureDomain, PlatformId};
use heirloom_model::measurement::{
    ImageMeasurement, LaunchDigest, LaunchedCode, Measurement, MrEnclave, Register32, Register48,
    TdMeasurement, TeeKind, VtpmMeasurement,
};
use heirloom_model::plan::KeyringPlan;
use heirloom_model::policy::{
    ApplicationRule, HolderRole, KeyScope, PlatformRule, Policy, Sharing, TcbLevel,
};
use heirloom_upgrade::calendar::{Expiring, Verdict, calendar_from};
use heirloom_upgrade::checker::Severity;
use heirloom_upgrade::explain::text::{Detail, render};
use heirloom_upgrade::explain::{Copies, explain_from};
use heirloom_upgrade::lint::{LintContext, LintFinding, lint_policy};
use heirloom_upgrade::planner::{WaveSize, plan_from};

#[test]
fn every_step_says_which_copies_exist() {
    let fleet = apart(4, 2);
    let (plan, _) = plan_from(&request(WaveSize::Half), &fleet).unwrap();
    let told = explain_from(KeyringPlan::of(&plan).unwrap(), &fleet, Some(600));
    assert_eq!(told.steps.len(), plan.steps.len());
    let all_old = Copies { old: 4, failure_domains: 4, ..Copies::default() };
    assert_eq!(told.steps[0].before, all_old);
    // In the middle: two new holders, two old ones, and two quarantined copies.
    let second = told.steps.iter().find(|row| row.wave == 2).unwrap();
    let middle = Copies { old: 2, new: 2, sealed: 2, failure_domains: 4, ..Copies::default() };
    assert_eq!(second.before, middle);
    let end = Copies { new: 4, sealed: 4, failure_domains: 4, ..Copies::default() };
    assert_eq!(told.steps.last().unwrap().after, end);
    // Never fewer failure domains than promised, and each row continues the one before.
    for pair in told.steps.windows(2) {
        assert_eq!(pair[0].after, pair[1].before);
        assert!(pair[1].after.failure_domains >= 2);
    }
    // A replica does not count before it restarted.
    let copied = told.steps.iter().find(|row| row.action.starts_with("copy")).unwrap();
    assert_eq!((copied.before.unproven, copied.after.unproven), (0, 1));
    assert_eq!(copied.after.failure_domains, copied.before.failure_domains);
}

#[test]
fn the_text_says_the_important_things_aloud() {
    let mut fleet = apart(4, 2);
    fleet.anchors.insert(AnchorId::new([5; 32]), AnchorClass::Development);
    let (plan, _) = plan_from(&request(WaveSize::Half), &fleet).unwrap();
    let machine = PlatformId::new([1; 32]);
    let seen = fleet.registered.values_mut().flat_map(std::collections::BTreeMap::values_mut);
    seen.for_each(|seen| seen.platform = machine);
    let told = explain_from(KeyringPlan::of(&plan).unwrap(), &fleet, None);
    let write = |detail| render(&told, detail, |time| format!("second {time}"));
    let (text, everything) = (write(Detail::Outline), write(Detail::Everything));
    assert!(text.lines().count() * 2 < everything.lines().count(), "the outline is short");
    for step in plan.steps.iter().map(|step| step.id) {
        let row = format!("\n  {step:>5}  ");
        assert!(text.contains(&row) && everything.contains(&row), "step {step} is missing");
    }
    let last = plan.rollback.last().unwrap().step.id;
    assert!(text.contains(&format!("to {last}\n")));
    for expected in [
        "rolling upgrade",
        "from keeper-1.0.0 to keeper-2.0.0",
        "! development root 0505",
        "! all holders share one platform",
        "wave 1: 2 nodes",
        "---- point of no return ----",
        "4 old + 0 new proven in 4 domains",
        "the way back",
        "policy serial 4",
        "nothing goes on before epoch 12",
        "4 nodes, 4 failure domains, 4 hosts, 3 operators, 1 platforms",
        "the new release registered on node-0000",
        "second ",
        "how long an epoch takes was not said",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        assert!(everything.contains(expected), "{expected:?} is not in\n{everything}");
    }
}

#[test]
fn the_calendar_finds_what_ends_before_the_plan() {
    // Epoch 10 now, 20 at the end: eleven epochs of 600 seconds end at 1000 + 6600.
    let mut fleet = apart(4, 2);
    let (plan, _) = plan_from(&request(WaveSize::Half), &fleet).unwrap();
    let verdict = |fleet: &heirloom_upgrade::inventory::Inventory, what: &Expiring, seconds| {
        let entries = calendar_from(KeyringPlan::of(&plan).unwrap(), fleet, seconds);
        entries.iter().find(|entry| entry.what == *what).unwrap().verdict
    };
    let rule = Expiring::Policy(Serial(4));
    fleet.policy.not_after = Time(7_600);
    assert_eq!(verdict(&fleet, &rule, Some(600)), Verdict::Outlives);
    assert_eq!(verdict(&fleet, &rule, None), Verdict::Unknown);
    fleet.policy.not_after = Time(7_599);
    assert_eq!(verdict(&fleet, &rule, Some(600)), Verdict::TooEarly);
    fleet.policy.not_after = Time(999);
    assert_eq!(verdict(&fleet, &rule, None), Verdict::Expired);
    fleet.root_not_after = Time(7_000);
    fleet.fleet_not_after = Time(7_000);
    assert_eq!(verdict(&fleet, &Expiring::Root, Some(600)), Verdict::TooEarly);
    assert_eq!(verdict(&fleet, &Expiring::Fleet, Some(600)), Verdict::TooEarly);
    fleet.approvals = vec![Epoch(20), Epoch(19)];
    assert_eq!(verdict(&fleet, &Expiring::Approval(0), None), Verdict::Outlives);
    assert_eq!(verdict(&fleet, &Expiring::Approval(1), None), Verdict::TooEarly);
    let attestation = Expiring::Attestation(fleet.nodes[0].node.clone());
    assert_eq!(verdict(&fleet, &attestation, Some(600)), Verdict::Outlives);
    assert_eq!(verdict(&fleet, &attestation, Some(6_000)), Verdict::TooEarly);
    let entries = calendar_from(KeyringPlan::of(&plan).unwrap(), &fleet, Some(600));
    assert!(entries.is_sorted_by_key(|entry| entry.verdict), "the most urgent come first");
}

const APPLICATION: Measurement = Measurement::Sgx(MrEnclave::new([7; 32]));

fn application(measurement: Measurement) -> ApplicationRule {
    ApplicationRule {
        application: "wallet".parse().expect("a name"),
        measurement,
        security_version: SecurityVersion(1),
        keys: KeyScope::All,
    }
}

/// The policy before the upgrade: only the old code holds.
fn before() -> Policy {
    let mut before = policy(2);
    before.serial = Serial(3);
    before.holders = vec![rule(OLD, &[])];
    before.applications = vec![application(APPLICATION)];
    before.not_after = Time(10_000_000);
    before
}

/// A sound policy for the upgrade.
fn during() -> Policy {
    let mut during = before();
    during.serial = Serial(4);
    during.holders = vec![rule(OLD, &[NEW]), rule(NEW, &[OLD])];
    during
}

fn judge(policy: &Policy) -> Vec<LintFinding> {
    let before = before();
    let releases = [
        release("keeper-1.0.0", OLD, 1),
        release("keeper-2.0.0", NEW, 2),
        upgrader(),
        release("wallet-1.0.0", APPLICATION, 1),
    ];
    let domains: Vec<FailureDomain> =
        ["a", "b", "c", "d"].into_iter().map(|name| name.parse().expect("a name")).collect();
    let context = LintContext {
        previous: Some(&before),
        releases: releases.iter().collect(),
        failure_domains: domains.iter().collect(),
        now: Some(Time(1_000)),
    };
    lint_policy(policy, &context)
}

type Change = fn(&mut Policy);

/// Each row changes one thing in a sound policy and names what must be found, alone.
#[test]
fn each_mistake_is_found_by_its_code() {
    assert_eq!(judge(&during()), Vec::new());
    let rows: Vec<(&str, Change)> = vec![
        ("L-101", |policy| policy.serial = Serial(5)),
        ("L-202", |policy| policy.holders = vec![rule(OLD, &[]), rule(NEW, &[OLD])]),
        ("L-203", |policy| policy.holders = vec![rule(OLD, &[]), rule(NEW, &[])]),
        ("L-204", |policy| policy.holders[1].gives_to.clear()),
        ("L-205", |policy| policy.holders = vec![rule(NEW, &[])]),
        ("L-206", |policy| policy.holders[0].security_version = SecurityVersion(0)),
        ("L-207", |policy| policy.holders[1].security_version = SecurityVersion(3)),
        ("L-302", |policy| policy.applications.clear()),
        ("L-401", |policy| policy.holders_min = 4),
        ("L-402", |policy| policy.holders_min = 1),
        ("L-404", |policy| policy.not_after = Time(2_000)),
        ("L-501", |policy| policy.appraisal.tcb = vec![TcbLevel::OutOfDate]),
        ("L-502", |policy| {
            policy.appraisal.advisories_accepted =
                vec![AcceptedAdvisory { id: "INTEL-SA-1".to_owned(), until: Time(u64::MAX) }];
        }),
        ("L-503", |policy| policy.appraisal.platforms = PlatformRule::Any),
        ("L-504", |policy| policy.appraisal.tcb_evaluation_min = 0),
        ("L-506", |policy| policy.appraisal.collateral_grace_seconds = 10_000_000),
        ("L-507", |policy| policy.session_seconds_max = 100_000),
    ];
    for (code, change) in rows {
        let mut policy = during();
        change(&mut policy);
        let codes: BTreeSet<&str> = judge(&policy).iter().map(LintFinding::code).collect();
        assert!(codes.contains(code), "expected {code}, found {codes:?}");
    }
}

fn register(index: u8) -> PcrRule {
    PcrRule { index, value: Reference::Skip }
}

fn pinned() -> TpmRule {
    let value = Reference::Match(vec![Register32::new([1; 32])]);
    let first = PcrRule { index: 0, value };
    let authorities = Reference::Match(vec![HostAuthority::new([1; 32])]);
    TpmRule {
        registers: std::iter::once(first).chain((1..16).map(register)).collect(),
        revocation: RevocationDemand::Demanded,
        authorities,
    }
}

/// Rules for every kind, in which nothing is weak.
fn ruled() -> Policy {
    let mut policy = during();
    let (zero, one) = (Register48::new([0; 48]), Register48::new([1; 48]));
    let rules = &mut policy.appraisal;
    rules.tdx = Some(TdxRule {
        module: Reference::Skip,
        attributes: Reference::Match(vec![0]),
        xfam: Reference::Skip,
        service_td: Reference::Match(vec![zero]),
    });
    rules.snp = Some(SnpRule {
        tcb_min: Vec::new(),
        keys: vec![VekKind::Vcek],
        vmpl_max: 0,
        id_key: Reference::Skip,
        author_key: Reference::Skip,
        host_data: Reference::Skip,
        smt: Smt::Accepted,
        revocation: RevocationDemand::Demanded,
        alias_check: AliasCheck::Demanded,
        unknown_info: 0,
    });
    rules.nitro = Some(NitroRule {
        pcr3: Reference::Match(vec![one]),
        pcr4: Reference::Skip,
        pcr8: Reference::Skip,
    });
    rules.tpm = Some(pinned());
    rules.vtpm = Some(VtpmRule { measured: vec![4], registers: Vec::new() });
    policy
}

/// Each row weakens one thing in rules for every kind, and names all that is found.
#[test]
fn each_weak_rule_about_evidence_is_found_by_its_code() {
    assert_eq!(judge(&ruled()), Vec::new());
    let rows: Vec<(&str, Change)> = vec![
        ("L-509", |policy| {
            policy.appraisal.tpm.as_mut().unwrap().registers = (0..16).map(register).collect();
        }),
        ("L-510", |policy| {
            policy.appraisal.snp.as_mut().unwrap().keys.push(VekKind::Vlek);
        }),
        ("L-511", |policy| {
            policy.appraisal.tdx.as_mut().unwrap().attributes = Reference::Skip;
        }),
        ("L-511", |policy| {
            policy.appraisal.tdx.as_mut().unwrap().service_td = Reference::Skip;
        }),
        ("L-511", |policy| policy.appraisal.nitro.as_mut().unwrap().pcr3 = Reference::Skip),
        ("L-511", |policy| policy.appraisal.tpm.as_mut().unwrap().authorities = Reference::Skip),
        ("L-511", |policy| {
            policy.appraisal.snp.as_mut().unwrap().alias_check = AliasCheck::Skipped;
        }),
        ("L-514", |policy| {
            let until = GraceEnd::Date(Time(9_000));
            let level = TcbLevel::OutOfDate;
            policy.appraisal.tcb_grace = vec![TcbGrace { level, until }];
        }),
        ("L-512", |policy| {
            policy.appraisal.snp.as_mut().unwrap().revocation = RevocationDemand::IfPresent;
        }),
    ];
    for (code, change) in rows {
        let mut policy = ruled();
        change(&mut policy);
        let codes: Vec<&str> = judge(&policy).iter().map(LintFinding::code).collect();
        assert_eq!(codes, [code]);
    }
    // No list of machines, and one kind whose keys nobody can take back.
    let codes = |policy: &Policy| judge(policy).iter().map(LintFinding::code).collect::<Vec<_>>();
    let mut policy = ruled();
    policy.appraisal.platforms = PlatformRule::Any;
    assert_eq!(codes(&policy), ["L-503"]);
    policy.appraisal.tpm.as_mut().unwrap().revocation = RevocationDemand::IfPresent;
    assert_eq!(codes(&policy), ["L-503", "L-513"]);
    policy.appraisal.tpm = None;
    assert_eq!(codes(&policy), ["L-503"]);
    // A parent instance says whose it is, as its role does.
    let mut policy = ruled();
    let rule = policy.appraisal.nitro.as_mut().unwrap();
    (rule.pcr3, rule.pcr4) = (rule.pcr4.clone(), rule.pcr3.clone());
    assert_eq!(judge(&policy), Vec::new());
}

#[test]
fn code_of_a_kind_without_a_rule_is_an_error() {
    let measurements = [
        Measurement::Tdx(TdMeasurement::new([9; 32])),
        Measurement::Snp(LaunchDigest::new([9; 48])),
        Measurement::Nitro(ImageMeasurement::new([9; 32])),
        Measurement::Tpm(LaunchedCode::new([9; 32])),
        Measurement::Vtpm(VtpmMeasurement::new([9; 32])),
    ];
    let found = |policy: &Policy| -> Vec<LintFinding> {
        let is_one = |finding: &LintFinding| matches!(finding, LintFinding::KindWithoutRule { .. });
        judge(policy).into_iter().filter(is_one).collect()
    };
    for measurement in measurements {
        let finding = |kind| vec![LintFinding::KindWithoutRule { measurement, kind }];
        let kind = measurement.kind();
        let mut holds = during();
        holds.holders.push(rule(measurement, &[]));
        assert_eq!(found(&holds), finding(kind));
        assert_eq!(found(&holds)[0].severity(), Severity::Error);
        let mut asks = during();
        asks.applications.push(application(measurement));
        assert_eq!(found(&asks), finding(kind));
        asks.appraisal = ruled().appraisal;
        assert_eq!(found(&asks), Vec::new());
    }
    // The machine around a virtual TPM needs a rule too.
    let [.., measurement] = measurements;
    let mut policy = ruled();
    policy.holders.push(rule(measurement, &[]));
    policy.appraisal.snp = None;
    let kind = TeeKind::Snp;
    assert_eq!(found(&policy), [LintFinding::KindWithoutRule { measurement, kind }]);
}

#[test]
fn new_code_that_a_giver_names_and_the_policy_forgets_is_an_error() {
    let mut policy = during();
    policy.holders = vec![rule(OLD, &[NEW])];
    let [finding] = judge(&policy).try_into().unwrap();
    assert_eq!(finding, LintFinding::ReceiverWithoutRule { from: OLD, to: NEW });
    assert_eq!(finding.severity(), Severity::Error);
}

#[test]
fn application_code_that_disappears_is_said() {
    let other = Measurement::Sgx(MrEnclave::new([6; 32]));
    let mut policy = during();
    policy.applications = vec![application(other)];
    let codes: Vec<&str> = judge(&policy).iter().map(LintFinding::code).collect();
    assert_eq!(codes, ["L-301", "L-303"]);
    policy.applications = vec![application(OLD), application(APPLICATION)];
    let codes: Vec<&str> = judge(&policy).iter().map(LintFinding::code).collect();
    assert_eq!(codes, ["L-304"]);
}

#[test]
fn a_policy_that_completes_a_plan_may_withdraw_the_old_code() {
    let mut policy = during();
    policy.holders = vec![rule(NEW, &[])];
    policy.completes = Some(PlanDigest::new([1; 32]));
    let found = judge(&policy);
    assert!(!found.iter().any(|found| matches!(found, LintFinding::WithdrawnWithoutPlan(_))));
}

/// A sound policy for a handover.
fn carrying() -> Policy {
    let mut policy = before();
    policy.serial = Serial(4);
    policy.holders = vec![rule(OLD, &[VIA]), rule(NEW, &[]), rule(VIA, &[NEW])];
    policy
}

/// As above, for what only a handover needs. Each row names everything that is found.
#[test]
fn each_mistake_about_upgraders_is_found_by_its_code() {
    assert_eq!(judge(&carrying()), Vec::new());
    let rows: Vec<(&[&str], Change)> = vec![
        (&["L-210"], |policy| policy.holders[0].gives_to = vec![NEW]),
        (&["L-210"], |policy| policy.holders[2].gives_to.clear()),
        (&["L-211"], |policy| {
            policy.holders[0].gives_to = vec![NEW, VIA];
            policy.holders[1].gives_to = vec![OLD];
        }),
        (&["L-209"], |policy| policy.holders[2].role = HolderRole::Keeper),
        (&["L-405"], |policy| policy.sharing = Sharing::Exclusive),
        (&["L-406"], |policy| policy.forget_after_epochs = 0),
    ];
    for (expected, change) in rows {
        let mut policy = carrying();
        change(&mut policy);
        let codes: BTreeSet<&str> = judge(&policy).iter().map(LintFinding::code).collect();
        let missing: Vec<_> = expected.iter().filter(|code| !codes.contains(*code)).collect();
        assert!(missing.is_empty(), "expected {expected:?}, found {codes:?}");
    }
    // One holder is what an exclusive domain has.
    let mut alone = carrying();
    (alone.sharing, alone.holders_min) = (Sharing::Exclusive, 1);
    let codes: Vec<&str> = judge(&alone).iter().map(LintFinding::code).collect();
    assert_eq!(codes, ["L-403"]);
    let severe = |finding: &LintFinding| finding.severity() == Severity::Error;
    let mut policy = carrying();
    policy.forget_after_epochs = 0;
    assert!(!judge(&policy).iter().any(severe), "a short delay is weak, and works");
}

#[test]
fn every_copy_of_a_handover_is_told() {
    let fleet = carried(1, Sharing::Exclusive, 1);
    let (plan, _) = plan_from(&handover(None), &fleet).unwrap();
    let told = explain_from(KeyringPlan::of(&plan).unwrap(), &fleet, Some(600));
    let one = Copies { failure_domains: 1, ..Copies::default() };
    let after = |step: usize| told.steps[step].after;
    assert_eq!(told.steps[0].before, Copies { old: 1, ..one });
    // Received, then unsealed, by the upgrader and by the new keeper.
    assert_eq!(after(4), Copies { old: 1, unproven: 1, ..one });
    assert_eq!(after(5), Copies { old: 1, carried: 1, ..one });
    assert_eq!(after(8), Copies { old: 1, carried: 1, unproven: 1, ..one });
    assert_eq!(after(9), Copies { old: 1, carried: 1, new: 1, ..one });
    assert_eq!(after(13), Copies { carried: 1, new: 1, sealed: 1, ..one });
    assert_eq!(after(17), Copies { new: 1, sealed: 1, ..one });
    assert_eq!(told.steps.last().unwrap().after, Copies { new: 1, sealed: 1, ..one });
    assert!(told.waves.is_empty());
    for detail in [Detail::Outline, Detail::Everything] {
        let text = render(&told, detail, |time| format!("second {time}"));
        for expected in [
            "handover upgrade of domain",
            "by way of upgrader-1.0.0",
            "whichever copy is given up",
            "nobody answers from step 11 to step 12",
            "the old keeper on node-00000 hands the keyring over to the upgrader here",
            "the upgrader on node-00000 hands the keyring over to the new keeper here",
            "the old keeper says that it serves no more",
            "the new keeper says that it is the active holder from now on",
            "the upgrader gives up its copy",
            "2 epochs since the result of step 12",
            "ask for proof by the upgrader, 1 of: node-00000",
            "release upgrader-1.0.0",
            "1 old + 1 carried + 1 new proven in 1 domains",
            "! one proven holder in another seat is enough for this plan",
            "! all holders share one host",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(!text.contains("wave"), "nothing changes in waves:\n{text}");
    }
}

#[test]
fn a_move_and_a_reseal_are_told_as_what_they_are() {
    let fleet = carried(2, Sharing::Exclusive, 1);
    let (plan, _) = plan_from(&relocation(), &fleet).unwrap();
    let told = explain_from(KeyringPlan::of(&plan).unwrap(), &fleet, None);
    assert!(told.summary[0].starts_with("move of domain"), "{:?}", told.summary);
    let one = Copies { failure_domains: 1, ..Copies::default() };
    assert_eq!(told.steps[0].before, Copies { old: 1, ..one });
    assert_eq!(told.steps[2].after, Copies { old: 1, new: 1, failure_domains: 2, ..one });
    assert_eq!(told.steps.last().unwrap().after, Copies { new: 1, sealed: 1, ..one });
    let (plan, _) = plan_from(&resealing(), &fleet).unwrap();
    let told = explain_from(KeyringPlan::of(&plan).unwrap(), &fleet, None);
    assert!(told.summary[0].contains("again on node-00000"), "{:?}", told.summary);
    assert_eq!(told.steps.last().unwrap().after, Copies { old: 1, sealed: 1, ..one });
    assert_eq!(told.diversity.nodes, 1, "the other node has nothing to do with it");
}

#[test]
fn the_calendar_of_a_handover_has_the_upgraders_release() {
    let mut fleet = carried(1, Sharing::Exclusive, 1);
    let (plan, _) = plan_from(&handover(None), &fleet).unwrap();
    let release = |name: &str, fleet: &heirloom_upgrade::inventory::Inventory| {
        let entries = calendar_from(KeyringPlan::of(&plan).unwrap(), fleet, Some(600));
        let named = |entry: &&heirloom_upgrade::calendar::Entry| matches!(&entry.what, Expiring::Release(found, _) if found.as_str() == name);
        entries.iter().find(named).map(|entry| entry.verdict)
    };
    for name in ["keeper-1.0.0", "upgrader-1.0.0", "keeper-2.0.0"] {
        assert_eq!(release(name, &fleet), Some(Verdict::Outlives), "{name}");
    }
    let carrier = plan.keyring.as_ref().expect("it moves a keyring").via.unwrap().release;
    fleet.releases.get_mut(&carrier).unwrap().not_after = Time(7_599);
    assert_eq!(release("upgrader-1.0.0", &fleet), Some(Verdict::TooEarly));
    // A reseal names one release, once.
    let (plan, _) = plan_from(&resealing(), &fleet).unwrap();
    let entries = calendar_from(KeyringPlan::of(&plan).unwrap(), &fleet, None);
    let releases = entries.iter().filter(|entry| matches!(entry.what, Expiring::Release(..)));
    assert_eq!(releases.count(), 1);
}

#[test]
fn a_flag_day_says_what_is_closed_when_and_what_an_abort_does() {
    let fleet = common::served(3, 2);
    let (plan, _) = plan_from(&common::flag_day(common::wish()), &fleet).unwrap();
    let told = explain_from(KeyringPlan::of(&plan).unwrap(), &fleet, Some(600));
    let table: Vec<String> =
        told.phases.iter().map(|phase| format!("{} {}", phase.what, phase.after)).collect();
    assert_eq!(
        table,
        [
            "verify 3 open; 3 old and 0 new run; 0 frozen; 0 migrated",
            "equip 3 open; 3 old and 0 new run; 0 frozen; 0 migrated",
            "muster 3 open; 3 old and 0 new run; 0 frozen; 0 migrated",
            "fence 0 open; 3 old and 0 new run; 0 frozen; 0 migrated",
            "freeze 0 open; 3 old and 0 new run; 3 frozen; 0 migrated",
            "halt 0 open; 0 old and 0 new run; 3 frozen; 0 migrated",
            "snapshot 0 open; 0 old and 0 new run; 3 frozen; 0 migrated",
            "migrate 0 open; 0 old and 0 new run; 3 frozen; 3 migrated",
            "deploy 0 open; 0 old and 0 new run; 3 frozen; 3 migrated",
            "launch 0 open; 0 old and 3 new run; 0 frozen; 3 migrated",
            "join 0 open; 0 old and 3 new run; 0 frozen; 3 migrated",
            "exercise 0 open; 0 old and 3 new run; 0 frozen; 3 migrated",
            "verify 0 open; 0 old and 3 new run; 0 frozen; 3 migrated",
            "commit 0 open; 0 old and 3 new run; 0 frozen; 3 migrated",
            "open 3 open; 0 old and 3 new run; 0 frozen; 3 migrated",
            "watch 3 open; 0 old and 3 new run; 0 frozen; 3 migrated",
        ]
    );
    for phase in &told.phases {
        assert_eq!(
            phase.abort.starts_with("impossible"),
            phase.first > plan.point_of_no_return,
            "{phase:?}"
        );
    }
    let text = render(&told, Detail::Everything, |time| format!("second {time}"));
    for expected in [
        "flag day of service ledger",
        "from ledger-1.0.0 to ledger-2.0.0",
        "closed window from step 7 to step 36",
        "the window opens with epoch 12; after epoch 15",
        "schema 2 to 3; migrations: height-of-transaction; tests: self-payment",
        "keys from the keyring: signing; keys that each start makes anew: view",
        "what is rehearsed are the terms",
        "the point of no return is step 35",
        "steps 7 to 9: then 0 open",
        "if called off: each node takes part again and lets clients in",
        "if it fails: the agent of the node calls the plan off at once",
        "needs  steps 10 to 12 done on every node",
        "one tip, one configuration and the same long-lived keys stated in steps 10 to 12",
        "a rehearsal of these terms recorded by 2 operators",
        "the new service lets clients in",
        "the old service promises to append no block",
        "release ledger-2.0.0",
        "3 old + 0 new proven in 3 domains",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(!text.contains("sealing") && !text.contains("wave"), "{text}");
}

#[test]
fn a_restart_says_that_it_is_no_flag_day() {
    let fleet = common::served(3, 2);
    let wish = common::restart(&common::ledger_same());
    let (plan, _) = plan_from(&common::flag_day(wish), &fleet).unwrap();
    let told = explain_from(KeyringPlan::of(&plan).unwrap(), &fleet, Some(600));
    assert!(told.phases.iter().all(|phase| phase.after.open >= 2));
    let text = render(&told, Detail::Outline, |time| format!("second {time}"));
    for expected in [
        "rolling restart of service ledger",
        "never more than one node is closed",
        "start the service behind the fence",
        "if called off: what started again goes back, one node after the other",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let unrehearsed = heirloom_upgrade::planner::FlagDayRequest { rehearsals: 0, ..common::wish() };
    let (plan, _) = plan_from(&common::flag_day(unrehearsed), &fleet).unwrap();
    let told = explain_from(KeyringPlan::of(&plan).unwrap(), &fleet, None);
    assert!(told.warnings.iter().any(|told| told.contains("no rehearsal")));
}

#[test]
fn a_policy_that_stands_in_the_way_of_a_flag_day_is_found() {
    let fleet = common::served(3, 2);
    let releases: Vec<_> = fleet.releases.values().collect();
    let findings = |policy: &Policy| {
        let context = LintContext { releases: releases.clone(), ..LintContext::default() };
        let found = lint_policy(policy, &context);
        let codes = found.iter().map(LintFinding::code);
        codes.filter(|code| ["L-305", "L-306"].contains(code)).collect::<Vec<_>>()
    };
    assert!(findings(&fleet.policy).is_empty());
    let mut spoilt = fleet.policy.clone();
    spoilt.applications[1].keys = KeyScope::Only(vec!["view".parse().unwrap()]);
    assert_eq!(findings(&spoilt), ["L-305"]);
    let mut spoilt = fleet.policy.clone();
    spoilt.applications.truncate(1);
    assert_eq!(findings(&spoilt), ["L-306"]);
}
