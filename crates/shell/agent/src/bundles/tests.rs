use heirloom_fetch::progress::Unwatched;
use heirloom_launcher::signer::EnclaveSigningKey;
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::digest::{ArtifactDigest, DigestOf, NetworkId};
use heirloom_model::identifier::DomainId;
use heirloom_model::measurement::{LaunchedCode, MrEnclave, MrSigner};
use heirloom_model::release::Artifact;

use super::*;

const EMULATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../adapter/launcher/tests/data");
const OTHER: Measurement = Measurement::Sgx(MrEnclave::new([9; 32]));

struct World {
    directory: tempfile::TempDir,
    release: Release,
    measurement: Measurement,
}

impl World {
    /// A mirror with one release.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("mirror/keeper-2.0.0");
        fs::create_dir_all(directory.path().join("mirror")).unwrap();
        let read = |name: &str| fs::read(Path::new(EMULATED).join(name)).unwrap();
        let pem = String::from_utf8(read("enclave-signing-test-key-not-secret.pem")).unwrap();
        let manifest = Manifest {
            network: NetworkId::new([1; 32]),
            domain: Some(DomainId::new([2; 32])),
            application: None,
            release: "keeper-2.0.0".parse().unwrap(),
            product_id: 7,
            security_version: 2,
            kind: ReleaseKind::Keeper,
        };
        let key = EnclaveSigningKey::from_pem(&pem).unwrap();
        let bundle = Bundle::sign(&key, read("tiny.elf"), &manifest, 0x2026_1120).unwrap();
        bundle.write(&files).unwrap();
        let measurement = measured(&files, TeeKind::Sgx).unwrap();
        let artifact = |name: &&str| {
            let bytes = fs::read(files.join(name)).unwrap();
            Artifact {
                name: name.parse().unwrap(),
                size: bytes.len() as u64,
                digest: ArtifactDigest::of(&bytes[..]),
            }
        };
        let release = Release {
            network: manifest.network,
            name: manifest.release.clone(),
            kind: ReleaseKind::Keeper,
            security_version: SecurityVersion(2),
            measurements: vec![measurement],
            signer: MrSigner::new([3; 32]),
            artifacts: FILES.iter().map(artifact).collect(),
            not_after: Time(u64::MAX),
        };
        Self { directory, release, measurement }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn bundles(&self) -> Bundles {
        Bundles::open(self.path("data")).unwrap()
    }

    fn stage(&self, release: &Release, measurement: &Measurement) -> Result<(), BundleError> {
        let mirrors = [Mirror::directory(self.path("mirror"))];
        self.bundles().stage(release, measurement, &mirrors, &mut Unwatched)
    }
}

#[test]
fn a_release_is_staged_once_and_can_be_installed_then() {
    let world = World::new();
    let bundles = world.bundles();
    let code = &world.measurement;
    assert!(matches!(bundles.install(code), Err(BundleError::NotStaged(_))));
    assert!(matches!(bundles.kind(code), Err(BundleError::NotStaged(_))));
    world.stage(&world.release, code).unwrap();
    assert_eq!(measured(&bundles.path(code), TeeKind::Sgx).unwrap(), *code);
    assert_eq!(bundles.kind(code).unwrap(), ReleaseKind::Keeper);
    assert_eq!(bundles.installed().unwrap(), None, "staged is not installed");
    bundles.install(code).unwrap();
    assert_eq!(bundles.installed().unwrap(), Some(*code));
    // No mirror is needed for what is there.
    fs::remove_dir_all(world.path("mirror")).unwrap();
    world.stage(&world.release, code).unwrap();
}

#[test]
fn a_staged_bundle_that_was_damaged_is_set_aside_and_fetched_again() {
    let world = World::new();
    let bundles = world.bundles();
    let code = &world.measurement;
    for _ in 0..2 {
        world.stage(&world.release, code).unwrap();
        let mut damaged = fs::read(bundles.path(code).join(BINARY)).unwrap();
        damaged[0x300] ^= 1;
        fs::write(bundles.path(code).join(BINARY), damaged).unwrap();
    }
    world.stage(&world.release, code).unwrap();
    assert_eq!(measured(&bundles.path(code), TeeKind::Sgx).unwrap(), *code);
    assert!(world.path("data/bundles").join(format!(".corrupt-{code}")).is_dir());
    assert_eq!(fs::read_dir(world.path("data/bundles")).unwrap().count(), 2);
}

#[test]
fn what_does_not_measure_as_promised_gets_no_place() {
    let world = World::new();
    let refused = world.stage(&world.release, &OTHER).unwrap_err();
    assert!(matches!(refused, BundleError::Measurement { expected: OTHER, .. }), "{refused}");
    assert!(!world.bundles().is_staged(&OTHER));
    let other_kind = Release { kind: ReleaseKind::Upgrader, ..world.release.clone() };
    let refused = world.stage(&other_kind, &world.measurement).unwrap_err();
    assert!(matches!(refused, BundleError::Kind { found: ReleaseKind::Keeper, .. }), "{refused}");
    assert!(!world.bundles().is_staged(&world.measurement));
}

#[test]
fn a_file_that_was_not_signed_is_never_measured() {
    let world = World::new();
    fs::write(world.path("mirror/keeper-2.0.0").join(SIGSTRUCT), [0; 1808]).unwrap();
    let refused = world.stage(&world.release, &world.measurement).unwrap_err();
    assert!(matches!(refused, BundleError::Fetch(FetchError::Unavailable { .. })), "{refused}");
}

#[test]
fn the_first_bundle_of_a_node_needs_no_release() {
    let world = World::new();
    let bundles = world.bundles();
    let source = world.path("mirror/keeper-2.0.0");
    for _ in 0..2 {
        assert_eq!(bundles.stage_first(&source, TeeKind::Sgx).unwrap(), world.measurement);
    }
    assert_eq!(
        measured(&bundles.path(&world.measurement), TeeKind::Sgx).unwrap(),
        world.measurement
    );
}

#[test]
fn a_record_of_what_is_installed_that_nobody_understands_is_not_taken_for_none() {
    let world = World::new();
    let bundles = world.bundles();
    fs::write(world.path("data/installed"), "sgx:12").unwrap();
    assert!(matches!(bundles.installed(), Err(BundleError::Corrupt { .. })));
}

/// The same files have another place there, and are measured as that platform measures.
#[test]
fn a_release_is_another_measurement_on_another_kind_of_platform() {
    let world = World::new();
    let bundles = world.bundles();
    let Measurement::Sgx(code) = world.measurement else { panic!("it is of the kind SGX") };
    let above_a_tpm = Measurement::Tpm(LaunchedCode::new(*code.as_bytes()));
    world.stage(&world.release, &above_a_tpm).unwrap();
    assert!(bundles.is_staged(&above_a_tpm) && !bundles.is_staged(&world.measurement));
    let place = bundles.path(&above_a_tpm);
    assert_eq!(measured(&place, TeeKind::Tpm).unwrap(), above_a_tpm);
    assert_eq!(measured(&place, TeeKind::Sgx).unwrap(), world.measurement);
    bundles.install(&above_a_tpm).unwrap();
    assert_eq!(bundles.installed().unwrap(), Some(above_a_tpm));
    let first = bundles.stage_first(&world.path("mirror/keeper-2.0.0"), TeeKind::Tpm).unwrap();
    assert_eq!(first, above_a_tpm);
    let refused = measured(&place, TeeKind::Snp).unwrap_err();
    assert!(matches!(refused, BundleError::NoLauncher(TeeKind::Snp)), "{refused}");
    let other = Measurement::Tpm(LaunchedCode::new([9; 32]));
    let refused = world.stage(&world.release, &other).unwrap_err();
    assert!(matches!(refused, BundleError::Measurement { found, .. } if found == above_a_tpm));
}

#[test]
fn where_operators_place_code_nothing_else_is_there_and_nothing_is_fetched() {
    let world = World::new();
    let codes = BTreeSet::from([world.measurement]);
    let root = world.directory.path().join("placed");
    let bundles = Bundles::placed(root.clone(), codes.clone()).unwrap();
    assert!(bundles.is_staged(&world.measurement) && !bundles.is_staged(&OTHER));
    assert_eq!(bundles.kind(&world.measurement).unwrap(), ReleaseKind::Keeper);
    assert!(matches!(bundles.kind(&OTHER), Err(BundleError::NotPlaced(OTHER))));
    bundles.stage(&world.release, &world.measurement, &[], &mut Unwatched).unwrap();
    let missing = bundles.stage(&world.release, &OTHER, &[], &mut Unwatched);
    assert!(matches!(missing, Err(BundleError::NotPlaced(OTHER))));
    assert!(matches!(bundles.install(&OTHER), Err(BundleError::NotStaged(OTHER))));
    bundles.install(&world.measurement).unwrap();
    let again = Bundles::placed(root, codes).unwrap();
    assert_eq!(again.installed().unwrap(), Some(world.measurement));
}
