use heirloom_canton::contract_id::OldContractIdVersion;

use super::*;

pub(crate) const SYNCHRONIZER: &str = "global::1220aa";

fn party(name: &str) -> PartyId {
    name.parse().unwrap()
}

fn synchronizer() -> SynchronizerId {
    SYNCHRONIZER.parse().unwrap()
}

fn side(participant: &str) -> Side {
    let all = BTreeSet::from([KeyScheme::Ed25519, KeyScheme::P256]);
    let seen = SynchronizerSeen {
        protocol: Some(34),
        is_connected: true,
        signing: all,
        encryption: BTreeSet::from([KeyScheme::Rsa2048]),
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
            target(it).signing.remove(&KeyScheme::P256);
        }),
        (Code::SchemesUnseen, |it| target(it).encryption.clear()),
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
    seen.signing.clear();
    seen.encryption.clear();
    changed.custodian = CustodianKind::Vault;
    let wanted = changed.wanted.len();
    assert!(wanted > 1);
    let found = findings(&changed);
    let of = |code: Code| found.iter().filter(move |finding| finding.code == code);
    assert_eq!(of(Code::SchemesUnseen).count(), 1);
    let unseen = &of(Code::SchemesUnseen).next().unwrap().what;
    assert!(unseen.contains(&format!("for {wanted} uses of keys")), "{unseen}");
    let reasons: BTreeSet<&str> = of(Code::SchemeUncertain).map(|it| it.what.as_str()).collect();
    assert!(reasons.len() < wanted, "{reasons:?}");
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
