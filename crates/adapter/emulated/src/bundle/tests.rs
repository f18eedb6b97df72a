use heirloom_model::digest::NetworkId;

use super::*;

const KEY: &str = include_str!("../../tests/data/enclave-signing-test-key-not-secret.pem");
const TINY: &[u8] = include_bytes!("../../tests/data/tiny.elf");

fn manifest(security_version: u16) -> Manifest {
    Manifest {
        network: NetworkId::new([1; 32]),
        domain: None,
        application: None,
        release: "tiny-1.0.0".parse().unwrap(),
        product_id: 7,
        security_version,
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
