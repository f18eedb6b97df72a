use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::DomainId;
use heirloom_model::release::ReleaseKind;

use super::*;

const TINY: &[u8] = include_bytes!("../../tests/data/tiny.elf");
const GOLDEN: &str = include_str!("../../tests/data/tiny.mrenclave");

fn manifest() -> Manifest {
    Manifest {
        network: NetworkId::new([0x11; 32]),
        domain: Some(DomainId::new([0x22; 32])),
        application: None,
        release: "tiny-1.0.0".parse().unwrap(),
        product_id: 7,
        security_version: 300,
        kind: ReleaseKind::Keeper,
    }
}

/// The value was computed by `tests/data/golden_measurement.py`, which shares no code with us.
#[test]
fn the_measurement_is_the_one_that_an_independent_program_computes() {
    assert_eq!(measure(TINY, &manifest()).unwrap().to_string(), GOLDEN.trim());
}

#[test]
fn every_field_of_the_manifest_changes_the_measurement() {
    let original = measure(TINY, &manifest()).unwrap();
    let changed = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest();
        change(&mut manifest);
        measure(TINY, &manifest).unwrap()
    };
    let all = [
        changed(&|manifest| manifest.network = NetworkId::new([0x12; 32])),
        changed(&|manifest| manifest.domain = Some(DomainId::new([0x23; 32]))),
        changed(&|manifest| manifest.domain = None),
        changed(&|manifest| manifest.application = Some("app".parse().unwrap())),
        changed(&|manifest| manifest.release = "tiny-1.0.1".parse().unwrap()),
        changed(&|manifest| manifest.product_id = 8),
        changed(&|manifest| manifest.security_version = 301),
        changed(&|manifest| manifest.kind = ReleaseKind::Upgrader),
    ];
    for (at, measurement) in all.iter().enumerate() {
        assert_ne!(*measurement, original, "change {at}");
    }
}

/// Every byte of this file is loaded or decides how the rest is loaded, so each must count.
#[test]
fn every_byte_of_the_file_changes_the_measurement_or_is_refused() {
    let original = measure(TINY, &manifest()).unwrap();
    for at in 0..TINY.len() {
        let mut changed = TINY.to_vec();
        changed[at] ^= 1;
        assert_ne!(measure(&changed, &manifest()), Ok(original), "byte {at}");
    }
}

#[test]
fn what_is_not_loaded_is_not_measured() {
    let longer = [TINY, b"symbols and debug information"].concat();
    assert_eq!(measure(&longer, &manifest()), measure(TINY, &manifest()));
}

#[test]
fn a_file_that_ends_anywhere_is_refused_without_a_panic() {
    for length in 0..TINY.len() {
        let cut = measure(&TINY[..length], &manifest());
        assert!(matches!(cut, Err(MeasureError::NotElf(_))), "length {length}");
    }
}

#[test]
fn addresses_beyond_the_largest_enclave_are_refused() {
    let load = |at: usize, value: u64| {
        let mut changed = TINY.to_vec();
        changed[64 + at..64 + at + 8].copy_from_slice(&value.to_le_bytes());
        measure(&changed, &manifest())
    };
    let (address, memory_size) = (16, 40);
    for value in [ENCLAVE_BYTES_MAX, u64::MAX, u64::MAX - 4096, 1 << 40] {
        assert!(matches!(load(address, value), Err(MeasureError::TooLarge { .. })), "{value:#x}");
        assert!(
            matches!(load(memory_size, value), Err(MeasureError::TooLarge { .. }))
                || value == ENCLAVE_BYTES_MAX
        );
    }
}

#[test]
fn a_binary_without_load_segments_is_refused() {
    let mut changed = TINY.to_vec();
    for entry in 0..3 {
        changed[64 + entry * 56] = 4;
    }
    assert_eq!(measure(&changed, &manifest()), Err(MeasureError::Empty));
}

#[test]
fn our_own_binary_can_be_measured() {
    let binary = std::fs::read("/proc/self/exe").unwrap();
    assert!(measure(&binary, &manifest()).is_ok());
}
