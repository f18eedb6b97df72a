//! Fleets in a few words, for tests and benchmarks of planner and checker.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use heirloom_attest::result::AnchorClass;
use heirloom_custody::holding::Keyring;
use heirloom_model::counter::{
    Epoch, Generation, LogIndex, PlanNumber, SecurityVersion, Serial, Time,
};
use heirloom_model::digest::{
    AnchorId, ArtifactDigest, Checksum, ConfigurationDigest, NetworkId, Nonce, ReleaseDigest,
    sha256,
};
use heirloom_model::fleet::Node;
use heirloom_model::identifier::{DomainId, NodeId, PlatformId};
use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner};
use heirloom_model::policy::{
    ApplicationRule, AppraisalPolicy, HolderRole, HolderRule, KeyScope, PlatformRule, Policy,
    Sharing, TcbLevel, UpdateMode,
};
use heirloom_model::release::{Artifact, Release, ReleaseKind};
use heirloom_model::service::{KeyCustody, KeyTerm, ProgramTerm, SchemaVersion, Terms};
use heirloom_model::signature::PublicKey;
use heirloom_upgrade::inventory::{Inventory, Seen};
use heirloom_upgrade::planner::{Arrangement, FlagDayRequest, PlanRequest, WaveSize};

pub(crate) const OLD: Measurement = Measurement::Sgx(MrEnclave::new([1; 32]));
pub(crate) const NEW: Measurement = Measurement::Sgx(MrEnclave::new([2; 32]));
pub(crate) const VIA: Measurement = Measurement::Sgx(MrEnclave::new([3; 32]));
pub(crate) const NETWORK: NetworkId = NetworkId::new([9; 32]);
pub(crate) const DOMAIN: DomainId = DomainId::new([8; 32]);

pub(crate) fn release(name: &str, measurement: Measurement, version: u64) -> Release {
    release_of(ReleaseKind::Keeper, name, measurement, version)
}

pub(crate) fn release_of(
    kind: ReleaseKind,
    name: &str,
    measurement: Measurement,
    version: u64,
) -> Release {
    Release {
        network: NETWORK,
        name: name.parse().expect("the name is well formed"),
        kind,
        security_version: SecurityVersion(version),
        measurements: vec![measurement],
        signer: MrSigner::new([5; 32]),
        artifacts: Vec::new(),
        not_after: Time(10_000),
    }
}

pub(crate) fn old() -> ReleaseDigest {
    release("keeper-1.0.0", OLD, 1).digest()
}

pub(crate) fn new() -> ReleaseDigest {
    release("keeper-2.0.0", NEW, 2).digest()
}

pub(crate) fn upgrader() -> Release {
    release_of(ReleaseKind::Upgrader, "upgrader-1.0.0", VIA, 1)
}

pub(crate) fn via() -> ReleaseDigest {
    upgrader().digest()
}

pub(crate) fn rule(measurement: Measurement, gives_to: &[Measurement]) -> HolderRule {
    HolderRule {
        measurement,
        security_version: SecurityVersion(1),
        gives_to: gives_to.to_vec(),
        role: if measurement == VIA { HolderRole::Upgrader } else { HolderRole::Keeper },
    }
}

pub(crate) fn policy(holders_min: u32) -> Policy {
    Policy {
        network: NETWORK,
        domain: DOMAIN,
        serial: Serial(4),
        sharing: Sharing::Replicated,
        holders_min,
        holders: vec![rule(OLD, &[NEW]), rule(NEW, &[OLD])],
        applications: Vec::new(),
        appraisal: AppraisalPolicy {
            platforms: PlatformRule::Only(vec![PlatformId::new([1; 32])]),
            tcb: vec![TcbLevel::UpToDate],
            advisories_accepted: Vec::new(),
            tcb_evaluation_min: 1,
            collateral_grace_seconds: 0,
            tdx: None,
            snp: None,
            nitro: None,
            tpm: None,
            vtpm: None,
            tcb_grace: Vec::new(),
        },
        session_seconds_max: 60,
        ephemeral_epochs: 1,
        not_after: Time(20_000),
        completes: None,
        forget_after_epochs: 2,
        update: UpdateMode::Ask,
    }
}

/// A fleet whose node number `n` is in failure domain `domains[n]` and run by `operators[n]`.
pub(crate) fn inventory(domains: &[usize], operators: &[usize], holders_min: u32) -> Inventory {
    let node = |(number, (domain, operator)): (usize, (&usize, &usize))| Node {
        node: format!("node-{number:05}").parse().expect("the name is well formed"),
        domain: DOMAIN,
        host: format!("host-{number:05}").parse().expect("the name is well formed"),
        failure_domain: format!("domain-{domain}").parse().expect("the name is well formed"),
        operator: format!("operator-{operator}").parse().expect("the name is well formed"),
        agent: PublicKey::new([3; 32]),
    };
    let nodes: Vec<Node> =
        domains.iter().zip(operators.iter().cycle()).enumerate().map(node).collect();
    let seen = |node: &Node| Seen {
        at: LogIndex(50),
        platform: PlatformId::new(sha256(&[node.host.as_str().as_bytes()])),
        anchor: AnchorId::new([4; 32]),
        expires: Time(9_000),
        volatile: None,
    };
    let releases = [release("keeper-1.0.0", OLD, 1), release("keeper-2.0.0", NEW, 2)];
    Inventory {
        network: NETWORK,
        domain: DOMAIN,
        epoch: Epoch(10),
        now: Time(1_000),
        policy: policy(holders_min),
        published: Serial(4),
        keyring: Some(Keyring { generation: Generation(3), checksum: Checksum::new([7; 32]) }),
        rotation: None,
        releases: releases.into_iter().map(|release| (release.digest(), release)).collect(),
        registered: nodes
            .iter()
            .map(|node| (node.node.clone(), BTreeMap::from([(OLD, seen(node))])))
            .collect(),
        nodes,
        proven: BTreeMap::new(),
        active: None,
        strangers: BTreeSet::new(),
        plan_number: PlanNumber(6),
        holding_plan: None,
        approvals: Vec::new(),
        anchors: BTreeMap::from([(AnchorId::new([4; 32]), AnchorClass::Production)]),
        root_not_after: Time(30_000),
        fleet_not_after: Time(30_000),
    }
}

/// `count` nodes, each in a failure domain of its own, run by three operators.
pub(crate) fn apart(count: usize, holders_min: u32) -> Inventory {
    let domains: Vec<usize> = (0..count).collect();
    inventory(&domains, &[0, 1, 2], holders_min)
}

/// The largest fleet: six failure domains.
pub(crate) fn large(count: usize) -> Inventory {
    let domains: Vec<usize> = (0..count).map(|number| number % 6).collect();
    inventory(&domains, &[0, 1, 2, 3], 2)
}

pub(crate) fn request(wave_size: WaveSize) -> PlanRequest {
    let (upgrade_epoch, withdraw) = (Some(Epoch(12)), Serial(5));
    request_for(Arrangement::Rolling { wave_size, upgrade_epoch, withdraw })
}

pub(crate) fn request_for(arrangement: Arrangement) -> PlanRequest {
    let to = match arrangement {
        Arrangement::Rolling { .. } | Arrangement::Handover { .. } => new(),
        Arrangement::Move { .. } | Arrangement::Reseal { .. } | Arrangement::FlagDay(_) => old(),
    };
    PlanRequest {
        domain: DOMAIN,
        from: old(),
        to,
        not_after: Epoch(20),
        nonce: Nonce::new([6; 32]),
        arrangement,
    }
}

/// The node that stands at this place of a fleet.
pub(crate) fn name(place: usize) -> NodeId {
    format!("node-{place:05}").parse().expect("the name is well formed")
}

/// `count` nodes, each in a failure domain of its own, under a policy that lets an upgrader
/// carry the keyring. In an exclusive domain the first node is the active one.
pub(crate) fn carried(count: usize, sharing: Sharing, holders_min: u32) -> Inventory {
    let mut fleet = apart(count, holders_min);
    let policy = &mut fleet.policy;
    policy.sharing = sharing;
    policy.holders = vec![rule(OLD, &[VIA]), rule(NEW, &[]), rule(VIA, &[NEW])];
    fleet.releases.insert(via(), upgrader());
    if sharing == Sharing::Exclusive {
        fleet.active = Some((name(0), OLD));
    }
    fleet
}

/// A handover on the first node.
pub(crate) fn handover(withdraw: Option<Serial>) -> PlanRequest {
    request_for(Arrangement::Handover { node: name(0), via: via(), withdraw })
}

/// A move from the first node to the second one.
pub(crate) fn relocation() -> PlanRequest {
    request_for(Arrangement::Move { from_node: name(0), to_node: name(1) })
}

/// Sealing again on the first node.
pub(crate) fn resealing() -> PlanRequest {
    request_for(Arrangement::Reseal { node: name(0) })
}

pub(crate) const LEDGER_OLD: Measurement = Measurement::Sgx(MrEnclave::new([21; 32]));
pub(crate) const LEDGER_NEW: Measurement = Measurement::Sgx(MrEnclave::new([22; 32]));

/// A release of the service, whose program is named by its number.
pub(crate) fn ledger(name: &str, measurement: Measurement, program: u8) -> Release {
    let artifact = Artifact {
        name: "program".parse().expect("the name is well formed"),
        size: 1,
        digest: ArtifactDigest::new([program; 32]),
    };
    let release = release_of(ReleaseKind::Application, name, measurement, 1);
    Release { artifacts: vec![artifact], ..release }
}

pub(crate) fn ledger_old() -> Release {
    ledger("ledger-1.0.0", LEDGER_OLD, 31)
}

pub(crate) fn ledger_new() -> Release {
    ledger("ledger-2.0.0", LEDGER_NEW, 32)
}

/// Another build of the release that runs, which is not measured.
pub(crate) fn ledger_same() -> Release {
    ledger("ledger-1.0.1", LEDGER_OLD, 31)
}

fn program(release: &Release) -> ProgramTerm {
    let program = release.artifacts.first().expect("there is one").digest;
    ProgramTerm { release: release.name.clone(), program }
}

/// `count` nodes that run the service, each in a failure domain of its own.
pub(crate) fn served(count: usize, holders_min: u32) -> Inventory {
    let mut fleet = apart(count, holders_min);
    for release in [ledger_old(), ledger_new(), ledger_same()] {
        fleet.releases.insert(release.digest(), release);
    }
    let rule = |measurement| ApplicationRule {
        application: "ledger".parse().expect("the name is well formed"),
        measurement,
        security_version: SecurityVersion(1),
        keys: KeyScope::All,
    };
    fleet.policy.applications = vec![rule(LEDGER_OLD), rule(LEDGER_NEW)];
    fleet
}

pub(crate) fn terms(from: &Release, to: &Release) -> Terms {
    let key = |name: &str, custody| KeyTerm { key: name.parse().expect("a name"), custody };
    Terms {
        from: program(from),
        to: program(to),
        configuration_from: ConfigurationDigest::new([41; 32]),
        configuration_to: ConfigurationDigest::new([42; 32]),
        schema_from: SchemaVersion(2),
        schema_to: SchemaVersion(3),
        migrations: vec!["height-of-transaction".parse().expect("a name")],
        tests: vec!["self-payment".parse().expect("a name")],
        keys: vec![key("signing", KeyCustody::Keyring), key("view", KeyCustody::PerBoot)],
        quiet_milliseconds: 2_000,
        watch_milliseconds: 60_000,
        errors_max: 3,
        clients_min: 1,
    }
}

pub(crate) fn wish() -> FlagDayRequest {
    FlagDayRequest {
        application: "ledger".parse().expect("the name is well formed"),
        from: ledger_old().digest(),
        to: ledger_new().digest(),
        terms: terms(&ledger_old(), &ledger_new()),
        opens: Epoch(12),
        abort_after: Epoch(15),
        rehearsals: 2,
        stages: Vec::new(),
        withdraw: None,
    }
}

/// A rolling restart: the measurement stays, and so does everything that peers compare.
pub(crate) fn restart(to: &Release) -> FlagDayRequest {
    let mut terms = terms(&ledger_old(), to);
    terms.configuration_to = terms.configuration_from;
    terms.schema_to = terms.schema_from;
    terms.migrations.clear();
    FlagDayRequest { to: to.digest(), terms, ..wish() }
}

pub(crate) fn flag_day(wish: FlagDayRequest) -> PlanRequest {
    request_for(Arrangement::FlagDay(wish))
}
