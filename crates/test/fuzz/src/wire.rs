//! The byte formats of the model: what decodes has exactly one encoding.

use heirloom_model::counter::{Epoch, Generation, PlanNumber, Serial, Time};
use heirloom_model::digest::{Checksum, NetworkId, Nonce, ReleaseDigest};
use heirloom_model::domain::Registration;
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::{Endorsements, Evidence, LaunchClaims, TrustAnchor};
use heirloom_model::fleet::Fleet;
use heirloom_model::identifier::DomainId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::{LaunchDigest, Measurement, MrEnclave};
use heirloom_model::plan::{
    Action, CodePair, KeyringGround, Placement, Plan, Proposal, Step, StepId, Strategy,
};
use heirloom_model::policy::{Policy, Sharing, UpdateMode};
use heirloom_model::protocol::{Hello, Introduction, PeerRequest, PeerResponse};
use heirloom_model::release::Release;
use heirloom_model::root::Root;
use heirloom_model::sealed::SealedEnvelope;
use heirloom_model::wire::{self, Wire};

use crate::{vectors, worlds};

/// A value, whose type the first byte says.
pub fn any(data: &[u8]) -> bool {
    let Some((kind, data)) = data.split_first() else { return false };
    match kind % 17 {
        EVIDENCE => keeps::<Evidence>(data),
        ENDORSEMENTS => keeps::<Endorsements>(data),
        ANCHOR => keeps::<TrustAnchor>(data),
        POLICY => keeps::<Policy>(data),
        PLAN => keeps::<Plan>(data),
        5 => keeps::<Proposal>(data),
        6 => keeps::<Release>(data),
        7 => keeps::<Root>(data),
        8 => keeps::<Fleet>(data),
        9 => keeps::<Envelope>(data),
        10 => keeps::<LogEntry>(data),
        11 => keeps::<SealedEnvelope>(data),
        12 => keeps::<Registration>(data),
        LAUNCH => keeps::<LaunchClaims>(data),
        14 => keeps::<Hello>(data),
        15 => keeps::<Introduction>(data),
        _ => keeps::<PeerRequest>(data) | keeps::<PeerResponse>(data),
    }
}

const EVIDENCE: u8 = 0;
const ENDORSEMENTS: u8 = 1;
const ANCHOR: u8 = 2;
const POLICY: u8 = 3;
const PLAN: u8 = 4;
const LAUNCH: u8 = 13;

fn keeps<T: Wire>(data: &[u8]) -> bool {
    let Ok(value) = wire::decode::<T>(data) else { return false };
    assert!(data.len() <= T::BYTES_MAX, "{}: too long", T::WHAT);
    assert_eq!(wire::encode(&value), data, "{}: a second spelling", T::WHAT);
    true
}

/// Evidence of every kind with its anchors and endorsements, a policy with a rule for each, and a
/// plan for two kinds of platform.
pub fn values() -> Vec<Vec<u8>> {
    fn of<T: Wire>(kind: u8, value: &T) -> Vec<u8> {
        [vec![kind], wire::encode(value)].concat()
    }
    let mut values = vec![of(PLAN, &plan()), of(POLICY, &policy())];
    for case in [vectors::sgx(), vectors::tdx()].into_iter().flatten() {
        values.push(of(EVIDENCE, &case.evidence()));
        values.push(of(ENDORSEMENTS, &case.endorsements()));
        values.push(of(ANCHOR, &case.anchors[0]));
    }
    for made in worlds::all() {
        values.push(of(EVIDENCE, &made.evidence));
        values.push(of(ANCHOR, &made.anchors[0]));
        if let Evidence::Tpm(evidence) = &made.evidence {
            values.push(of(LAUNCH, &evidence.launch));
        }
    }
    values
}

/// A policy with a rule for each kind of evidence.
fn policy() -> Policy {
    Policy {
        network: NetworkId::new([9; 32]),
        domain: DomainId::new([8; 32]),
        serial: Serial(1),
        sharing: Sharing::Replicated,
        holders_min: 1,
        holders: Vec::new(),
        applications: Vec::new(),
        appraisal: worlds::policy(),
        session_seconds_max: 3_600,
        ephemeral_epochs: 2,
        not_after: Time(1_800_000_000),
        completes: None,
        forget_after_epochs: 3,
        update: UpdateMode::Ask,
    }
}

fn plan() -> Plan {
    let placed = |byte: u8| Placement {
        release: ReleaseDigest::new([byte; 32]),
        measurement: Measurement::Sgx(MrEnclave::new([byte; 32])),
    };
    let launched = |byte: u8| Measurement::Snp(LaunchDigest::new([byte; 48]));
    let node = "node-1".parse().unwrap();
    let step = Step {
        id: StepId(0),
        node,
        wave: 0,
        action: Action::Prepare(placed(2)),
        gates: Vec::new(),
    };
    Plan {
        network: NetworkId::new([9; 32]),
        domain: DomainId::new([8; 32]),
        number: PlanNumber(1),
        strategy: Strategy::Rolling,
        keyring: Some(KeyringGround {
            from: placed(1),
            to: placed(2),
            via: None,
            policy: Serial(1),
            generation: Generation(0),
            checksum: Checksum::new([3; 32]),
            holders_min: 1,
            others: vec![CodePair { from: launched(1), to: launched(2) }],
        }),
        nodes: vec![step.node.clone()],
        steps: vec![step],
        rollback: Vec::new(),
        point_of_no_return: StepId(0),
        not_after: Epoch(9),
        nonce: Nonce::new([5; 32]),
        service: None,
        participant: None,
    }
}
