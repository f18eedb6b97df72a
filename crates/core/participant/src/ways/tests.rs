use heirloom_model::party::ParticipantId;

use super::*;
use crate::preflight::tests::ground;

fn assessed(ground: &Ground, way: Way) -> Assessment {
    assess(ground).into_iter().find(|found| found.way == way).unwrap()
}

#[test]
fn a_lone_operator_is_told_to_rewrite() {
    let ground = ground();
    let found = assess(&ground);
    assert!(found.iter().all(Assessment::is_possible), "{found:?}");
    assert_eq!(recommend(&ground, &found).way, Some(Way::Rewrite));
}

#[test]
fn shared_contracts_make_a_way_that_keeps_names_better() {
    let mut ground = ground();
    let host: ParticipantId = "theirs::1220ee".parse().unwrap();
    ground.foreign.insert("dora::1220ee".parse().unwrap(), vec![host]);
    let found = assess(&ground);
    assert_eq!(recommend(&ground, &found).way, Some(Way::Delegation));
    // Where even that is closed, operators have to agree.
    ground.target.synchronizers.clear();
    let found = assess(&ground);
    assert_eq!(recommend(&ground, &found).way, Some(Way::KeyExport));
}

#[test]
fn each_obstacle_is_named() {
    type Change = fn(&mut Ground);
    let cases: [(Way, &str, Change); 8] = [
        (Way::KeyExport, "in a KMS", |it| {
            it.source.keys.iter_mut().for_each(|key| key.in_custodian = true);
        }),
        (Way::KeyExport, "preview", |it| it.source.exports_keys = Some(false)),
        (Way::KeyExport, "not seen", |it| it.source.exports_keys = None),
        (Way::KeyExport, "ECIES", |it| it.source.keys[3].scheme = KeyScheme::EciesP256),
        (Way::KeyExport, "namespace key is ed25519", |it| {
            it.source.keys[0].scheme = KeyScheme::Ed25519;
        }),
        (Way::Delegation, "not registered", |it| it.target.synchronizers.clear()),
        (Way::Envelope, "not pkcs11", |it| it.custodian = CustodianKind::Pkcs11),
        (Way::Rewrite, "P-602", |it| it.unfinished_reassignments = Some(2)),
    ];
    for (way, word, change) in cases {
        let mut changed = ground();
        change(&mut changed);
        let found = assessed(&changed, way);
        assert!(found.obstacles.iter().any(|it| it.contains(word)), "{way}: {found:?}");
    }
}

#[test]
fn nothing_is_recommended_where_everything_is_blocked() {
    let mut ground = ground();
    ground.hosted.clear();
    ground.source.version.major = 2;
    ground.source.keys.iter_mut().for_each(|key| key.in_custodian = true);
    ground.custodian = CustodianKind::Pkcs11;
    let found = assess(&ground);
    assert_eq!(recommend(&ground, &found).way, None);
}
