//! Fleets in a few words, for tests and benchmarks of planner and checker.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use heirloom_attest::result::AnchorClass;
use heirloom_custody::holding::Keyring;
use heirloom_model::counter::{
    Epoch, Generation, LogIndex, PlanNumber, SecurityVersion, Serial, Time,
};
use heirloom_model::digest::{AnchorId, Checksum, NetworkId, Nonce, ReleaseDigest, sha256};
use heirloom_model::fleet::Node;
use heirloom_model::identifier::{DomainId, PlatformId};
use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner};
use heirloom_model::policy::{
    AppraisalPolicy, HolderRule, PlatformRule, Policy, Sharing, TcbLevel,
};
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_model::signature::PublicKey;
use heirloom_upgrade::inventory::{Inventory, Seen};
use heirloom_upgrade::planner::{PlanRequest, WaveSize};

pub(crate) const OLD: Measurement = Measurement::Sgx(MrEnclave::new([1; 32]));
pub(crate) const NEW: Measurement = Measurement::Sgx(MrEnclave::new([2; 32]));
pub(crate) const NETWORK: NetworkId = NetworkId::new([9; 32]);
pub(crate) const DOMAIN: DomainId = DomainId::new([8; 32]);

pub(crate) fn release(name: &str, measurement: Measurement, version: u64) -> Release {
    Release {
        network: NETWORK,
        name: name.parse().expect("the name is well formed"),
        kind: ReleaseKind::Keeper,
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

pub(crate) fn policy(holders_min: u32) -> Policy {
    let rule = |measurement, gives_to| HolderRule {
        measurement,
        security_version: SecurityVersion(1),
        gives_to: vec![gives_to],
    };
    Policy {
        network: NETWORK,
        domain: DOMAIN,
        serial: Serial(4),
        sharing: Sharing::Replicated,
        holders_min,
        holders: vec![rule(OLD, NEW), rule(NEW, OLD)],
        applications: Vec::new(),
        appraisal: AppraisalPolicy {
            platforms: PlatformRule::Only(vec![PlatformId::new([1; 32])]),
            tcb: vec![TcbLevel::UpToDate],
            advisories_accepted: Vec::new(),
            tcb_evaluation_min: 1,
            collateral_grace_seconds: 0,
        },
        session_seconds_max: 60,
        ephemeral_epochs: 1,
        not_after: Time(20_000),
        completes: None,
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
        strangers: BTreeSet::new(),
        plan_number: PlanNumber(6),
        active_plan: None,
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
    PlanRequest {
        domain: DOMAIN,
        from: old(),
        to: new(),
        wave_size,
        upgrade_epoch: Some(Epoch(12)),
        not_after: Epoch(20),
        nonce: Nonce::new([6; 32]),
        withdraw: Serial(5),
    }
}
