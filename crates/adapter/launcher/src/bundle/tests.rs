use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::DomainId;
use heirloom_model::release::ReleaseKind;

use super::*;

const KEY: &str = include_str!("../../tests/data/enclave-signing-test-key-not-secret.pem");
const TINY: &[u8] = include_bytes!("../../tests/data/tiny.elf");

fn manifest(security_version: u16) -> Manifest {
    Manifest {
        network: NetworkId::new([1; 32]),
        domain: Some(DomainId::new([2; 32])),
        application: None,
        release: "tiny-1.0.0".parse().unwrap(),
        product_id: 7,
        security_version,
        kind: ReleaseKind::Keeper,
    }
}

fn bundle() -> Bundle {
    let key = EnclaveSigningKey::from_pem(KEY).unwrap();
    Bundle::sign(&key, TINY.to_vec(), &manifest(3), 0x2026_1120).unwrap()
}

#[test]
fn a_bundle_survives_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bundle");
    bundle().write(&path).unwrap();
    let verified = Bundle::read(&path).unwrap().verify(LaunchMode::Production).unwrap();
    assert_eq!(*verified.manifest(), manifest(3));
    assert_eq!(verified.secs().isv_svn, 3);
    std::fs::remove_file(path.join(SIGSTRUCT)).unwrap();
    let missing = Bundle::read(&path);
    assert!(matches!(missing, Err(BundleError::File(FileError::Missing { .. }))));
}

#[test]
fn a_change_of_any_part_is_refused() {
    let refused = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = bundle();
        change(&mut bundle);
        bundle.verify(LaunchMode::Production).unwrap_err()
    };
    assert!(matches!(
        refused(&|bundle| bundle.binary[0x300] ^= 1),
        BundleError::Sigstruct(SigstructError::OtherMeasurement { .. })
    ));
    assert!(matches!(
        refused(&|bundle| bundle.manifest = wire::encode(&manifest(4))),
        BundleError::Sigstruct(SigstructError::OtherMeasurement { .. })
    ));
    assert!(matches!(
        refused(&|bundle| bundle.manifest.push(0)),
        BundleError::Manifest(wire::WireError::NotCanonical { .. })
    ));
    assert!(matches!(refused(&|bundle| bundle.binary.clear()), BundleError::Measure(_)));
    assert!(matches!(
        refused(&|bundle| bundle.sigstruct[1026] ^= 1),
        BundleError::Sigstruct(SigstructError::BadSignature)
    ));
}

#[test]
fn a_signature_that_contradicts_the_manifest_is_refused() {
    let key = EnclaveSigningKey::from_pem(KEY).unwrap();
    let content = SigstructContent {
        measurement: measure(TINY, &manifest(3)).unwrap(),
        product_id: 7,
        isv_svn: 4,
        date: 0,
    };
    let mut bundle = bundle();
    bundle.sigstruct = sigstruct::sign(&key, &content).to_vec();
    let refused = bundle.verify(LaunchMode::Production);
    assert!(matches!(refused, Err(BundleError::Contradiction { manifest: 3, sigstruct: 4, .. })));
}

#[test]
fn a_manifest_that_makes_no_sense_is_neither_signed_nor_launched() {
    let key = EnclaveSigningKey::from_pem(KEY).unwrap();
    let domain = Some(DomainId::new([2; 32]));
    let application = || Some("app".parse().unwrap());
    let cases = [
        (ReleaseKind::Keeper, None, None, ManifestError::NoDomain { kind: ReleaseKind::Keeper }),
        (
            ReleaseKind::Keeper,
            domain,
            application(),
            ManifestError::OtherKind { kind: ReleaseKind::Keeper },
        ),
        (
            ReleaseKind::Upgrader,
            None,
            None,
            ManifestError::NoDomain { kind: ReleaseKind::Upgrader },
        ),
        (
            ReleaseKind::Upgrader,
            domain,
            application(),
            ManifestError::OtherKind { kind: ReleaseKind::Upgrader },
        ),
        (ReleaseKind::Application, domain, None, ManifestError::NoApplication),
        (ReleaseKind::Application, None, None, ManifestError::NoApplication),
    ];
    for (kind, domain, application, expected) in cases {
        let wrong = Manifest { domain, application, kind, ..manifest(3) };
        let signed = Bundle::sign(&key, TINY.to_vec(), &wrong, 0);
        let refused = |result: Result<(), BundleError>| match result {
            Err(BundleError::Inconsistent(found)) => assert_eq!(found, expected, "{wrong:?}"),
            other => panic!("{wrong:?}: {other:?}"),
        };
        refused(signed.map(|_| ()));
        let bundle = Bundle { manifest: wire::encode(&wrong), ..bundle() };
        refused(bundle.verify(LaunchMode::Production).map(|_| ()));
    }
}

#[test]
fn every_kind_of_code_has_a_manifest() {
    let key = EnclaveSigningKey::from_pem(KEY).unwrap();
    let domain = Some(DomainId::new([2; 32]));
    let application = || Some("app".parse().unwrap());
    let cases = [
        (ReleaseKind::Keeper, domain, None),
        (ReleaseKind::Upgrader, domain, None),
        (ReleaseKind::Application, None, application()),
        (ReleaseKind::Application, domain, application()),
    ];
    for (kind, domain, application) in cases {
        let good = Manifest { domain, application, kind, ..manifest(3) };
        let bundle = Bundle::sign(&key, TINY.to_vec(), &good, 0).unwrap();
        let verified = bundle.verify(LaunchMode::Production).unwrap();
        assert_eq!(verified.manifest().kind, kind);
    }
}
