use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::DomainId;
use heirloom_model::measurement::MrEnclave;
use heirloom_model::policy::{
    AppraisalPolicy, HolderRole, HolderRule, PlatformRule, Sharing, UpdateMode,
};

use super::*;

const OLD: Measurement = Measurement::Sgx(MrEnclave::new([1; 32]));
const NEW: Measurement = Measurement::Sgx(MrEnclave::new([2; 32]));
const OTHER: Measurement = Measurement::Sgx(MrEnclave::new([3; 32]));
const KEYRING: Keyring = Keyring { generation: Generation(3), checksum: Checksum::new([7; 32]) };
const FRESH_FROM: LogIndex = LogIndex(100);

fn policy(holders_min: u32, rules: &[(Measurement, u64, &[Measurement])]) -> Policy {
    let rule = |(measurement, version, gives_to): &(Measurement, u64, &[Measurement])| HolderRule {
        measurement: *measurement,
        security_version: SecurityVersion(*version),
        gives_to: gives_to.to_vec(),
        role: HolderRole::Keeper,
    };
    Policy {
        network: NetworkId::new([9; 32]),
        domain: DomainId::new([8; 32]),
        serial: Serial(4),
        sharing: Sharing::Replicated,
        holders_min,
        holders: rules.iter().map(rule).collect(),
        applications: Vec::new(),
        appraisal: AppraisalPolicy {
            platforms: PlatformRule::Any,
            tcb: Vec::new(),
            advisories_accepted: Vec::new(),
            tcb_evaluation_min: 0,
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
        not_after: Time(1_000),
        completes: None,
        forget_after_epochs: 1,
        update: UpdateMode::Ask,
    }
}

fn both_ways() -> Policy {
    policy(1, &[(OLD, 1, &[NEW]), (NEW, 1, &[OLD])])
}

fn node(number: usize) -> NodeId {
    format!("node-{number}").parse().unwrap()
}

fn copy(number: usize, failure_domain: &str) -> KeyCopy {
    KeyCopy {
        node: node(number),
        failure_domain: failure_domain.parse().unwrap(),
        condition: Condition::Steady,
        changing: BTreeSet::new(),
    }
}

fn seat(number: usize, measurement: Measurement) -> Seat {
    Seat::new(&node(number), &measurement)
}

/// The machine of this number.
fn platform(number: usize) -> PlatformId {
    PlatformId::new([u8::try_from(number).unwrap(); 32])
}

fn good(number: usize) -> Proof {
    Proof {
        node: node(number),
        platform: Some(platform(number)),
        measurement: OLD,
        generation: KEYRING.generation,
        checksum: KEYRING.checksum,
        origin: HoldingOrigin::Recovered,
        asked_at: FRESH_FROM,
    }
}

fn requirement(policy: &Policy, need: u32) -> Requirement<'_> {
    Requirement { policy, keyring: KEYRING, need, fresh_from: FRESH_FROM }
}

/// A proof with exactly one fault, and the reason that must be given.
fn faults() -> Vec<(Proof, Why)> {
    vec![
        (
            Proof { asked_at: LogIndex(99), ..good(1) },
            Why::Stale { asked_at: LogIndex(99), fresh_from: FRESH_FROM },
        ),
        (
            Proof { measurement: OTHER, ..good(1) },
            Why::MeasurementNotAllowed { measurement: OTHER, policy: Serial(4) },
        ),
        (
            Proof { generation: Generation(2), ..good(1) },
            Why::WrongGeneration { expected: Generation(3), found: Generation(2) },
        ),
        (
            Proof { checksum: Checksum::new([6; 32]), ..good(1) },
            Why::WrongChecksum { found: Checksum::new([6; 32]) },
        ),
        (Proof { origin: HoldingOrigin::Received, ..good(1) }, Why::NotRecovered),
    ]
}

fn shortfall(result: Result<Survivors, LossRisk>) -> Shortfall {
    match result {
        Err(LossRisk::TooFew(shortfall)) => shortfall,
        other => panic!("expected a shortfall, got {other:?}"),
    }
}

#[test]
fn a_proof_with_any_one_fault_does_not_count_and_the_reason_is_said() {
    let policy = both_ways();
    let copies = [copy(1, "a"), copy(2, "b")];
    let requirement = requirement(&policy, 2);
    let survivors = no_loss(&requirement, &copies, &[good(1), good(2)], &NextEffect::None).unwrap();
    assert_eq!((survivors.failure_domains(), survivors.margin()), (2, 1));
    for (proof, why) in faults() {
        let found = shortfall(no_loss(&requirement, &copies, &[proof, good(2)], &NextEffect::None));
        assert_eq!((found.needed, found.found), (2, 1));
        let [missing] = found.missing.as_slice() else { panic!("{found:?}") };
        assert_eq!((&missing.node, missing.why), (&node(1), why));
    }
    let found = shortfall(no_loss(&requirement, &copies, &[good(2)], &NextEffect::None));
    assert_eq!(found.missing[0].why, Why::NoProof);
}

#[test]
fn conditions_and_effects_take_a_proven_holder_away() {
    let policy = both_ways();
    let requirement = requirement(&policy, 2);
    let proofs = [good(1), good(2)];
    for (first, why) in [
        (KeyCopy { changing: BTreeSet::from([OLD]), ..copy(1, "a") }, Why::Changing),
        (KeyCopy { condition: Condition::Lost, ..copy(1, "a") }, Why::Lost),
    ] {
        // What is said once more of the same node, and better, changes nothing.
        let copies = [first, copy(1, "a"), copy(2, "b")];
        let found = shortfall(no_loss(&requirement, &copies, &proofs, &NextEffect::None));
        assert_eq!(found.missing[0].why, why);
    }
    let copies = [copy(1, "a"), copy(2, "b")];
    let gone = BTreeSet::from([seat(1, OLD)]);
    let found = shortfall(no_loss(&requirement, &copies, &proofs, &NextEffect::TakeAway(&gone)));
    assert_eq!(found.missing[0].why, Why::TakenAway);
    assert_eq!(
        found.to_string(),
        "1 of 2 failure domains would have a proven holder: node-1 (it is taken away next)"
    );
}

/// The seats of node 1 that proved, that change and that are taken away, and why it does not count
/// then; none if it does.
#[test]
fn every_seat_of_a_node_is_judged_on_its_own() {
    type Row = (&'static [Measurement], &'static [Measurement], &'static [Measurement]);
    let rows: [(Row, Option<Why>); 12] = [
        ((&[OLD], &[], &[]), None),
        ((&[OLD], &[NEW], &[NEW]), None),
        ((&[OLD], &[OLD], &[]), Some(Why::Changing)),
        ((&[OLD], &[], &[OLD]), Some(Why::TakenAway)),
        ((&[OLD, NEW], &[], &[OLD]), None),
        ((&[OLD, NEW], &[OLD], &[]), None),
        ((&[OLD, NEW], &[OLD], &[NEW]), Some(Why::TakenAway)),
        ((&[OLD, NEW], &[OLD, NEW], &[]), Some(Why::Changing)),
        ((&[OLD, NEW], &[], &[OLD, NEW]), Some(Why::TakenAway)),
        ((&[OLD, NEW], &[OLD], &[OLD]), None),
        ((&[], &[], &[OLD]), Some(Why::NoProof)),
        ((&[], &[OLD], &[]), Some(Why::NoProof)),
    ];
    let policy = both_ways();
    for ((proven, changing, taken), expected) in rows {
        let changing = changing.iter().copied().collect();
        let copies = [KeyCopy { changing, ..copy(1, "a") }];
        let prove = |measurement: &Measurement| Proof { measurement: *measurement, ..good(1) };
        let proofs: Vec<Proof> = proven.iter().map(prove).collect();
        let taken = taken.iter().map(|code| seat(1, *code)).collect();
        let next = NextEffect::TakeAway(&taken);
        let found = no_loss(&requirement(&policy, 1), &copies, &proofs, &next);
        match expected {
            None => assert_eq!(found.unwrap().holders(), [node(1)]),
            Some(why) => assert_eq!(shortfall(found).missing[0].why, why),
        }
    }
}

/// What is said of a seat concerns no other node that runs the same code.
#[test]
fn the_same_code_on_another_node_is_another_seat() {
    let policy = both_ways();
    let copies =
        [KeyCopy { changing: BTreeSet::from([OLD]), ..copy(1, "a") }, copy(2, "b"), copy(3, "c")];
    let gone = BTreeSet::from([seat(2, OLD)]);
    let proofs = [good(1), good(2), good(3)];
    let next = NextEffect::TakeAway(&gone);
    let found = no_loss(&requirement(&policy, 1), &copies, &proofs, &next).unwrap();
    assert_eq!(found.holders(), [node(3)]);
}

/// A seat that is gone with its whole node, and a proof of a node that nobody listed.
#[test]
fn a_lost_node_loses_every_seat_and_a_stranger_counts_nowhere() {
    let policy = both_ways();
    let copies = [KeyCopy { condition: Condition::Lost, ..copy(1, "a") }];
    let proofs = [good(1), Proof { measurement: NEW, ..good(1) }, good(2)];
    let found = shortfall(no_loss(&requirement(&policy, 1), &copies, &proofs, &NextEffect::None));
    assert_eq!((found.found, found.missing[0].why), (0, Why::Lost));
}

/// It holds a sealed copy like any keeper; that it never serves is no matter of loss.
#[test]
fn an_upgrader_that_proved_is_a_survivor() {
    let mut policy = both_ways();
    policy.holders[1].role = HolderRole::Upgrader;
    let copies = [copy(1, "a")];
    let proofs = [good(1), Proof { measurement: NEW, ..good(1) }];
    let old = BTreeSet::from([seat(1, OLD)]);
    let next = NextEffect::TakeAway(&old);
    assert!(no_loss(&requirement(&policy, 1), &copies, &proofs, &next).is_ok());
}

#[test]
fn a_coming_policy_that_withdraws_the_holders_is_a_loss() {
    let now = both_ways();
    let mut coming = policy(1, &[(NEW, 1, &[])]);
    coming.serial = Serial(5);
    let copies = [copy(1, "a"), copy(2, "b")];
    let requirement = requirement(&now, 2);
    let new = |number| Proof { measurement: NEW, ..good(number) };
    let next = NextEffect::Enforce(&coming);
    assert!(no_loss(&requirement, &copies, &[new(1), new(2)], &next).is_ok());
    let found = shortfall(no_loss(&requirement, &copies, &[good(1), new(2)], &next));
    let why = Why::MeasurementNotAllowed { measurement: OLD, policy: Serial(5) };
    assert_eq!(found.missing[0].why, why);
}

#[test]
fn a_failure_domain_and_a_node_count_once() {
    let policy = both_ways();
    let copies = [copy(1, "a"), copy(2, "a"), copy(2, "a")];
    let proofs = [good(1), good(2), good(2)];
    let found = shortfall(no_loss(&requirement(&policy, 2), &copies, &proofs, &NextEffect::None));
    assert_eq!((found.found, found.holders.len()), (1, 2));
    let twice = [copy(1, "a"), copy(1, "b")];
    assert!(matches!(
        no_loss(&requirement(&policy, 1), &twice, &proofs, &NextEffect::None),
        Err(LossRisk::Contradiction { .. })
    ));
}

#[test]
fn the_policy_raises_what_is_needed_and_nothing_lowers_it_below_one() {
    let copies = [copy(1, "a")];
    let strict = policy(2, &[(OLD, 1, &[])]);
    let found =
        shortfall(no_loss(&requirement(&strict, 0), &copies, &[good(1)], &NextEffect::None));
    assert_eq!(found.needed, 2);
    let none = policy(0, &[(OLD, 1, &[])]);
    let found = shortfall(no_loss(&requirement(&none, 0), &copies, &[], &NextEffect::None));
    assert_eq!((found.needed, found.found), (1, 0));
}

/// How a node stands in a small world.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// Another of its seats is changing.
    Steady,
    /// The seat that answers is changing.
    Changing,
    /// The node is gone.
    Lost,
}

/// Every world of three nodes: two failure domains, every fault, every condition of the seat that
/// answers or of another one, every effect on one of both. The judge counts with sets of its own.
#[test]
fn no_small_world_is_judged_wrongly() {
    let policy = both_ways();
    let kinds: Vec<Option<Proof>> = std::iter::once(None)
        .chain(faults().into_iter().map(|(proof, _)| Some(proof)))
        .chain([Some(good(1))])
        .collect();
    let good_kind = kinds.len() - 1;
    let conditions = [Standing::Steady, Standing::Changing, Standing::Lost];
    let per_node = kinds.len() * conditions.len() * 2 * 2;
    let mut worlds = 0_u32;
    let mut refused = 0_u32;
    for world in 0..per_node.pow(3) {
        let mut rest = world;
        let mut digit = |base: usize| {
            let value = rest % base;
            rest /= base;
            value
        };
        let (mut copies, mut proofs) = (Vec::new(), Vec::new());
        let mut taken = BTreeSet::new();
        let mut expected = BTreeSet::new();
        for number in 1..=3 {
            let (kind, condition) = (digit(kinds.len()), conditions[digit(conditions.len())]);
            let (domain, take) = (["a", "b"][digit(2)], digit(2) == 1);
            let other = Measurement::Sgx(MrEnclave::new([4; 32]));
            let answers = kinds[kind].as_ref().map_or(OLD, |proof| proof.measurement);
            copies.push(KeyCopy {
                condition: match condition {
                    Standing::Lost => Condition::Lost,
                    Standing::Steady | Standing::Changing => Condition::Steady,
                },
                changing: BTreeSet::from([match condition {
                    Standing::Changing => answers,
                    Standing::Steady | Standing::Lost => other,
                }]),
                ..copy(number, domain)
            });
            proofs.extend(kinds[kind].clone().map(|proof| Proof {
                node: node(number),
                platform: Some(platform(number)),
                ..proof
            }));
            taken.insert(seat(number, if take { answers } else { other }));
            if kind == good_kind && condition == Standing::Steady && !take {
                expected.insert(domain);
            }
        }
        for need in 1..=2 {
            let result = no_loss(
                &requirement(&policy, need),
                &copies,
                &proofs,
                &NextEffect::TakeAway(&taken),
            );
            worlds += 1;
            refused += u32::from(result.is_err());
            let enough = expected.len() >= need as usize;
            assert_eq!(result.is_ok(), enough, "{copies:?} {proofs:?} {taken:?}");
        }
    }
    assert_eq!(worlds, 2 * 84 * 84 * 84);
    assert!(refused > worlds / 2, "faults must be the rule in this test");
}

#[test]
fn a_keyring_goes_only_along_a_named_edge_between_named_code() {
    let party = |measurement| Party { measurement, security_version: SecurityVersion(1) };
    let (old, new, other) = (party(OLD), party(NEW), party(OTHER));
    let zero = party(Measurement::Sgx(MrEnclave::new([0; 32])));
    let forward = policy(1, &[(OLD, 1, &[NEW]), (NEW, 1, &[])]);
    let serial = Serial(4);
    let check = |policy: &Policy, from: &Party, to: &Party| no_leak(policy, Time(1_000), from, to);
    let permitted = check(&forward, &old, &new).unwrap();
    assert_eq!((permitted.policy(), permitted.from(), permitted.to()), (serial, OLD, NEW));
    assert!(check(&forward, &new, &new).is_ok(), "code may always give to itself");
    let no_edge = LeakRisk::EdgeNotNamed { policy: serial, from: NEW, to: OLD };
    assert_eq!(check(&forward, &new, &old), Err(no_edge), "the edge is directional");
    // Oasis' trap: the giver names the receiver, but the receiver has no rule of its own.
    let trap = policy(1, &[(OLD, 1, &[NEW])]);
    let unnamed = LeakRisk::ReceiverNotNamed { policy: serial, measurement: NEW };
    assert_eq!(check(&trap, &old, &new), Err(unnamed));
    let giver = LeakRisk::GiverNotNamed { policy: serial, measurement: OTHER };
    assert_eq!(check(&forward, &other, &new), Err(giver));
    let strict = policy(1, &[(OLD, 1, &[NEW]), (NEW, 2, &[])]);
    assert!(matches!(
        check(&strict, &old, &new),
        Err(LeakRisk::SecurityVersionTooLow { measurement: NEW, .. })
    ));
    let any_zero = policy(1, &[(zero.measurement, 0, &[NEW]), (NEW, 1, &[])]);
    assert_eq!(check(&any_zero, &zero, &new), Err(LeakRisk::ZeroMeasurement));
    let expired = LeakRisk::PolicyExpired { policy: serial, not_after: Time(1_000) };
    assert_eq!(no_leak(&forward, Time(1_001), &old, &new), Err(expired));
}

proptest::proptest! {
    /// More proofs never make a safe effect unsafe, and taking more away never makes an unsafe
    /// one safe.
    #[test]
    fn more_proofs_help_and_more_loss_hurts(
        proven in proptest::collection::btree_set(0_usize..12, 0..12),
        extra in 0_usize..12,
        taken in proptest::collection::btree_set(0_usize..12, 0..6),
        need in 1_u32..5,
        domains in 1_usize..6,
    ) {
        let policy = both_ways();
        let requirement = requirement(&policy, need);
        let copies: Vec<KeyCopy> =
            (0..12).map(|number| copy(number, &format!("d{}", number % domains))).collect();
        let judge = |proven: &BTreeSet<usize>, taken: &BTreeSet<usize>| {
            let proofs: Vec<Proof> = proven.iter().map(|number| good(*number)).collect();
            let taken = taken.iter().map(|number| seat(*number, OLD)).collect();
            no_loss(&requirement, &copies, &proofs, &NextEffect::TakeAway(&taken)).is_ok()
        };
        let before = judge(&proven, &taken);
        let mut more_proven = proven.clone();
        more_proven.insert(extra);
        proptest::prop_assert!(!before || judge(&more_proven, &taken));
        let mut more_taken = taken.clone();
        more_taken.insert(extra);
        proptest::prop_assert!(before || !judge(&proven, &more_taken));
    }
}

/// The machines from which node 0, 1, 2, … of rack 0, 1, 2, … answered, and how many places that
/// makes. What the fleet calls two racks is one, if one machine answered from both.
#[test]
fn racks_that_share_a_machine_count_once() {
    let policy = both_ways();
    let rows: &[(&[Option<usize>], u32)] = &[
        (&[Some(1), Some(2), Some(3)], 3),
        (&[Some(1), Some(1), Some(3)], 2),
        (&[Some(1), Some(1), Some(1)], 1),
        (&[None, None, None], 3),
        (&[None, Some(1), Some(1)], 2),
        (&[Some(1), Some(2), Some(1), Some(2)], 2),
    ];
    for (machines, expected) in rows {
        let copies: Vec<KeyCopy> =
            (0..machines.len()).map(|number| copy(number, &format!("rack-{number}"))).collect();
        let proofs: Vec<Proof> = (0..)
            .zip(*machines)
            .map(|(number, machine)| Proof { platform: machine.map(platform), ..good(number) })
            .collect();
        for need in 1..=expected + 1 {
            let found = no_loss(&requirement(&policy, need), &copies, &proofs, &NextEffect::None);
            assert_eq!(found.is_ok(), need <= *expected, "{machines:?}, {need} needed");
        }
    }
}

/// Racks a and b share one machine, b and c another: all three are one.
#[test]
fn sharing_a_machine_passes_on() {
    let policy = both_ways();
    let copies: Vec<KeyCopy> =
        (0..).zip(["a", "b", "b", "c"]).map(|(number, rack)| copy(number, rack)).collect();
    let proofs: Vec<Proof> = (0..)
        .zip([1, 1, 2, 2])
        .map(|(number, machine)| Proof { platform: Some(platform(machine)), ..good(number) })
        .collect();
    let found = no_loss(&requirement(&policy, 1), &copies, &proofs, &NextEffect::None).unwrap();
    assert_eq!(found.failure_domains(), 1);
    assert_eq!(found.holders().len(), 4);
}

/// A node that moved counts where it answered last.
#[test]
fn the_younger_of_two_good_answers_says_where_a_node_is() {
    let policy = both_ways();
    let copies = [copy(0, "a"), copy(1, "b")];
    let before = Proof { platform: Some(platform(1)), ..good(0) };
    let after = Proof { platform: Some(platform(0)), asked_at: LogIndex(1_000), ..good(0) };
    for proofs in [[before.clone(), after.clone(), good(1)], [after, before, good(1)]] {
        let found = no_loss(&requirement(&policy, 2), &copies, &proofs, &NextEffect::None);
        assert!(found.is_ok(), "{found:?}");
    }
}
