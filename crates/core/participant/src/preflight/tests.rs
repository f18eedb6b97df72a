use heirloom_canton::contract_id::OldContractIdVersion;

use super::required::{List, Required, SequencerSaid, SequencerSeen};
use super::*;

pub(crate) const SYNCHRONIZER: &str = "global::1220aa";

fn party(name: &str) -> PartyId {
    name.parse().unwrap()
}

fn synchronizer() -> SynchronizerId {
    SYNCHRONIZER.parse().unwrap()
}

fn side(participant: &str) -> Side {
    let seen = SynchronizerSeen {
        protocol: Some(34),
        is_connected: true,
        sequencers: vec![sequencer("one", required(&[1, 2])), sequencer("two", required(&[1, 2]))],
    };
    let key = |usage, scheme| KeySeen { usage, scheme, in_custodian: false };
    Side {
        participant: Some(participant.parse().unwrap()),
        version: "3.4.1".parse().unwrap(),
        keys: vec![
            key(KeyUsage::Namespace, KeyScheme::P256),
            key(KeyUsage::SequencerAuthentication, KeyScheme::P256),
            key(KeyUsage::Protocol, KeyScheme::P256),
            key(KeyUsage::Encryption, KeyScheme::Rsa2048),
        ],
        synchronizers: [(synchronizer(), seen)].into(),
        packages: [package("a")].into(),
        exports_keys: Some(true),
    }
}

/// Ed25519 and P-256 sign, RSA opens; the signing keys that may be are an argument.
fn required(signing: &[u32]) -> SequencerSaid {
    let required = Required::new(34, |list| match list {
        List::SigningKeys => signing.to_vec(),
        List::SigningAlgorithms => vec![1, 2],
        List::EncryptionKeys | List::EncryptionAlgorithms => vec![2],
        List::KeyFormats => vec![4],
        List::SignatureFormats => vec![2, 3],
    });
    SequencerSaid::Required(required.unwrap())
}

fn sequencer(name: &str, said: SequencerSaid) -> SequencerSeen {
    SequencerSeen { name: name.to_owned(), said }
}

fn silent(name: &str) -> SequencerSeen {
    sequencer(name, SequencerSaid::Nothing { why: "no route".to_owned() })
}

fn package(letter: &str) -> PackageId {
    letter.repeat(64).parse().unwrap()
}

/// One over which every rule is content.
pub(crate) fn ground() -> Ground {
    Ground {
        source: side("old::1220bb"),
        target: side("new::1220cc"),
        custodian: CustodianKind::Aws,
        wanted: vec![
            (KeyUsage::Namespace, KeyScheme::P256),
            (KeyUsage::SequencerAuthentication, KeyScheme::P256),
            (KeyUsage::Protocol, KeyScheme::P256),
            (KeyUsage::Encryption, KeyScheme::Rsa2048),
        ],
        hosted: [
            (party("alice::1220bb"), PartyKind::Local),
            (party("bob::1220bb"), PartyKind::Local),
            (party("old::1220bb"), PartyKind::Admin),
        ]
        .into(),
        elsewhere: BTreeMap::new(),
        foreign: BTreeMap::new(),
        routes: vec![SynchronizerRoute { from: synchronizer(), to: synchronizer() }],
        contracts: ContractsSeen {
            versions: [(ContractIdVersion::V12, 7)].into(),
            reassigned: 0,
            external: BTreeSet::new(),
            packages: [package("a")].into(),
            synchronizers: [synchronizer()].into(),
        },
        unfinished_reassignments: Some(0),
    }
}

fn codes(ground: &Ground) -> Vec<Code> {
    findings(ground).into_iter().map(|finding| finding.code).collect()
}

#[test]
fn ground_that_is_as_it_should_be_has_no_findings() {
    assert_eq!(findings(&ground()), Vec::new());
}

#[test]
fn each_rule_finds_what_one_change_makes_wrong() {
    type Change = fn(&mut Ground);
    fn target(ground: &mut Ground) -> &mut SynchronizerSeen {
        ground.target.synchronizers.get_mut(&synchronizer()).unwrap()
    }
    let cases: Vec<(Code, Change)> = vec![
        (Code::TargetOlder, |it| it.source.version.minor = 5),
        (Code::SameParticipant, |it| it.target.participant = it.source.participant.clone()),
        (Code::IdVersion, |it| target(it).protocol = Some(34 - 1)),
        (Code::OldIds, |it| {
            let old = ContractIdVersion::Old(OldContractIdVersion::V3);
            it.contracts.versions.insert(old, 1);
        }),
        (Code::WeakIds, |it| {
            it.contracts.versions.insert(ContractIdVersion::V11, 1);
        }),
        (Code::NoRoute, |it| {
            it.contracts.synchronizers.insert("other::1220aa".parse().unwrap());
        }),
        (Code::TargetSynchronizer, |it| it.target.synchronizers.clear()),
        (Code::NeverConnected, |it| target(it).protocol = None),
        (Code::ProtocolLower, |it| {
            it.source.synchronizers.get_mut(&synchronizer()).unwrap().protocol = Some(35);
        }),
        (Code::SchemeNotTaken, |it| {
            target(it).sequencers = vec![sequencer("one", required(&[1]))];
        }),
        (Code::SchemesUnseen, |it| target(it).sequencers.clear()),
        (Code::SequencersDiffer, |it| target(it).sequencers[1].said = required(&[1, 2, 3])),
        (Code::SchemesUnknown, |it| {
            target(it).sequencers = vec![sequencer("one", required(&[1, 2, 9]))];
        }),
        (Code::SchemeNotSupported, |it| {
            it.wanted[0].1 = KeyScheme::Ed25519;
        }),
        (Code::SchemeUncertain, |it| it.custodian = CustodianKind::Vault),
        (Code::PackageMissing, |it| {
            it.contracts.packages.insert(package("b"));
        }),
        (Code::Reassigned, |it| it.contracts.reassigned = 1),
        (Code::Reassigning, |it| it.unfinished_reassignments = Some(1)),
        (Code::ReassigningUnknown, |it| it.unfinished_reassignments = None),
        (Code::Collision, |it| {
            it.hosted.insert(party("alice::1220dd"), PartyKind::Local);
        }),
        (Code::ExternalParties, |it| {
            it.hosted.insert(party("carol::1220dd"), PartyKind::External);
        }),
        (Code::NothingHosted, |it| it.hosted.clear()),
        (Code::ForeignParties, |it| {
            let host = "theirs::1220ee".parse().unwrap();
            it.foreign.insert(party("dora::1220ee"), vec![host]);
        }),
        (Code::UnhostedParties, |it| {
            it.foreign.insert(party("dora::1220ee"), Vec::new());
        }),
        (Code::ExternalStakes, |it| {
            it.hosted.insert(party("carol::1220dd"), PartyKind::External);
            it.contracts.external.insert(party("carol::1220dd"));
        }),
        (Code::HostedElsewhere, |it| {
            let host = "theirs::1220ee".parse().unwrap();
            it.elsewhere.insert(party("alice::1220bb"), vec![host]);
        }),
    ];
    for (code, change) in cases {
        let mut changed = ground();
        change(&mut changed);
        assert!(codes(&changed).contains(&code), "{code:?}: {:?}", findings(&changed));
    }
}

#[test]
fn parties_with_their_own_keys_block_only_where_they_have_a_stake() {
    let mut changed = ground();
    changed.hosted.insert(party("carol::1220dd"), PartyKind::External);
    assert_eq!(codes(&changed), [Code::ExternalParties]);
    changed.contracts.external.insert(party("carol::1220dd"));
    assert_eq!(codes(&changed), [Code::ExternalStakes]);
    assert_eq!(findings(&changed)[0].weight, RemarkWeight::Blocks);
}

#[test]
fn only_releases_that_are_driven_are_taken() {
    for (text, is_taken) in
        [("3.3.0", true), ("3.5.10-SNAPSHOT", true), ("3.2", false), ("2.10.5", false)]
    {
        let mut changed = ground();
        changed.source.version = text.parse().unwrap();
        changed.target.version = "3.5".parse().unwrap();
        assert_eq!(!codes(&changed).contains(&Code::SourceVersion), is_taken, "{text}");
    }
    assert!("three".parse::<Release>().is_err());
    assert!("3".parse::<Release>().is_err());
}

#[test]
fn what_blocks_stands_first_and_codes_are_unique() {
    let mut changed = ground();
    changed.unfinished_reassignments = None;
    changed.contracts.reassigned = 1;
    changed.hosted.clear();
    let weights: Vec<_> = findings(&changed).into_iter().map(|finding| finding.weight).collect();
    assert!(weights.is_sorted());
    assert_eq!(weights.first(), Some(&RemarkWeight::Blocks));
}

#[test]
fn what_is_uncertain_for_several_keys_is_said_once_with_their_number() {
    let mut changed = ground();
    let seen = changed.target.synchronizers.get_mut(&synchronizer()).unwrap();
    seen.sequencers = vec![silent("one"), silent("two")];
    changed.custodian = CustodianKind::Vault;
    let wanted = changed.wanted.len();
    assert!(wanted > 1);
    let found = findings(&changed);
    let of = |code: Code| found.iter().filter(move |finding| finding.code == code);
    assert_eq!(of(Code::SchemesUnseen).count(), 1);
    let unseen = &of(Code::SchemesUnseen).next().unwrap().what;
    assert!(unseen.contains(&format!("for {wanted} uses of keys")), "{unseen}");
    assert!(unseen.contains("one: no route") && unseen.contains("two: no route"), "{unseen}");
    let reasons: BTreeSet<&str> = of(Code::SchemeUncertain).map(|it| it.what.as_str()).collect();
    assert!(reasons.len() < wanted, "{reasons:?}");
}

fn with_sequencers(sequencers: Vec<SequencerSeen>) -> Vec<Finding> {
    let mut changed = ground();
    changed.target.synchronizers.get_mut(&synchronizer()).unwrap().sequencers = sequencers;
    findings(&changed)
}

#[test]
fn one_sequencer_that_answers_is_enough_and_those_that_answer_agree() {
    assert_eq!(with_sequencers(vec![silent("one"), sequencer("two", required(&[2]))]), []);
    let unseen = with_sequencers(vec![silent("one")]);
    assert_eq!(unseen.len(), 1, "{unseen:?}");
    assert_eq!((unseen[0].code, unseen[0].weight), (Code::SchemesUnseen, RemarkWeight::Warns));
    let unasked = with_sequencers(Vec::new());
    assert!(unasked[0].what.contains("no sequencer of it is known"), "{unasked:?}");

    let differ = with_sequencers(vec![
        sequencer("one", required(&[1, 2])),
        silent("two"),
        sequencer("three", required(&[2, 9])),
    ]);
    assert_eq!(differ.len(), 1, "{differ:?}");
    assert_eq!((differ[0].code, differ[0].weight), (Code::SequencersDiffer, RemarkWeight::Blocks));
    let said = "other than one, three says signing key number 9, no signing key ed25519";
    assert!(differ[0].what.contains(said), "{differ:?}");

    let other = SequencerSaid::Other("other::1220aa".parse().unwrap());
    let strange =
        with_sequencers(vec![sequencer("one", required(&[1, 2])), sequencer("two", other)]);
    assert_eq!(strange.len(), 1, "{strange:?}");
    assert_eq!(strange[0].weight, RemarkWeight::Blocks);
    assert!(strange[0].what.contains("two is of other::1220aa"), "{strange:?}");
}

#[test]
fn a_scheme_that_is_not_admitted_blocks_by_name_for_each_use() {
    let found = with_sequencers(vec![sequencer("one", required(&[1]))]);
    let blocked: Vec<&str> = found
        .iter()
        .filter(|one| one.code == Code::SchemeNotTaken && one.weight == RemarkWeight::Blocks)
        .map(|one| one.what.as_str())
        .collect();
    assert_eq!(blocked.len(), 3, "{found:?}");
    let whole = format!(
        "{SYNCHRONIZER} takes ed25519 for namespace, not p256: it lists no signing key p256"
    );
    assert_eq!(blocked[0], whole);
    let nothing = with_sequencers(vec![sequencer("one", required(&[9]))]);
    assert!(nothing.iter().any(|one| one.what.contains("takes nothing known for")), "{nothing:?}");
}

#[test]
fn a_remark_with_long_names_fits_and_still_says_what_to_do() {
    let mut changed = ground();
    for index in 0..9 {
        let name = format!("{}::1220ee", "x".repeat(150));
        let host = name.parse().unwrap();
        changed.foreign.insert(party(&format!("dora-{index}::1220ee")), vec![host]);
    }
    let found = findings(&changed);
    let foreign = found.iter().find(|finding| finding.code == Code::ForeignParties).unwrap();
    assert!(foreign.to_string().chars().count() > NOTE_CHARACTERS_MAX);
    let text = foreign.remark().text;
    assert_eq!(text.chars().count(), NOTE_CHARACTERS_MAX);
    assert!(text.starts_with("P-704: ") && text.ends_with(foreign.remedy), "{text}");
    // What fits is said as it is.
    let found = Finding { what: "short".to_owned(), ..foreign.clone() };
    assert_eq!(found.remark().text, found.to_string());
    assert_eq!(remark(RemarkWeight::Blocks, "one\nline").text, "one line");
}
