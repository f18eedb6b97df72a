//! Attestation keys and quotes. What a verifier makes of them is tested where it is.

use heirloom_tpm::capability::Handles;
use heirloom_tpm::error::TpmError;
use heirloom_tpm::key::{ATTESTATION_KEY_HANDLE, AttestationKey, STORAGE_ROOT_HANDLE, StorageRoot};
use heirloom_tpm::pcr::Selection;

use crate::world::World;

#[test]
fn a_quote_has_the_registers_that_it_is_about() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    tpm.extend(8, &[7; 32]).unwrap();
    let root = StorageRoot::open(&tpm).unwrap();
    let key = AttestationKey::open(&root).unwrap();
    let quote = key.quote(&[9; 32], Selection::boot()).unwrap();
    assert_eq!(quote.registers, tpm.registers(Selection::boot()).unwrap());
    // `TPM_GENERATED_VALUE` and `TPM_ST_ATTEST_QUOTE`.
    assert!(quote.attest.starts_with(&[0xff, 0x54, 0x43, 0x47, 0x80, 0x18]));
    assert!(quote.attest.windows(32).any(|window| window == [9; 32]));
}

#[test]
fn the_permanent_keys_are_the_same_after_the_loss_of_power() {
    let Some(mut world) = World::new() else { return };
    let keys = |world: &World| {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        let key = AttestationKey::open(&root).unwrap();
        (root.name(), key.public().clone())
    };
    let before = keys(&world);
    world.swtpm.lose_power();
    assert_eq!(keys(&world), before);
    let tpm = world.tpm();
    // It is a function of the seed of the TPM.
    assert_eq!(StorageRoot::transient(&tpm).unwrap().name(), before.0);
    let permanent = tpm.handles(Handles::Permanent).unwrap();
    assert!(
        [STORAGE_ROOT_HANDLE, ATTESTATION_KEY_HANDLE].iter().all(|key| permanent.contains(key))
    );
}

#[test]
fn another_root_than_the_noted_one_is_refused() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let noted = StorageRoot::open(&tpm).unwrap().name();
    assert!(StorageRoot::open(&tpm).unwrap().require(&noted).is_ok());
    let stranger = World::stranger();
    let tpm = stranger.tpm();
    let other = StorageRoot::open(&tpm).unwrap().require(&noted);
    assert!(matches!(other, Err(TpmError::Corrupt { .. })));
}

#[test]
fn what_is_in_the_place_of_our_keys_is_refused_and_not_replaced() {
    for handle in [STORAGE_ROOT_HANDLE, ATTESTATION_KEY_HANDLE] {
        let Some(world) = World::new() else { return };
        world.tpm();
        let place = format!("{handle:#x}");
        world.tool("tpm2_createprimary", &["-C", "o", "-G", "rsa2048", "-c", "foreign"]).unwrap();
        world.tool("tpm2_evictcontrol", &["-C", "o", "-c", "foreign", &place]).unwrap();
        let tpm = world.tpm();
        tpm.flush_leftovers().unwrap();
        let before = tpm.handles(Handles::Permanent).unwrap();
        let opened = match handle {
            STORAGE_ROOT_HANDLE => StorageRoot::open(&tpm).map(drop),
            _ => AttestationKey::open(&StorageRoot::transient(&tpm).unwrap()).map(drop),
        };
        assert!(matches!(opened, Err(TpmError::Corrupt { .. })), "{place}: {opened:?}");
        assert_eq!(tpm.handles(Handles::Permanent).unwrap(), before);
    }
}

#[test]
fn a_quote_that_was_changed_on_the_bus_is_not_taken_for_evidence() {
    let Some(world) = World::new() else { return };
    let (tpm, bus) = world.overheard();
    let root = StorageRoot::open(&tpm).unwrap();
    let key = AttestationKey::open(&root).unwrap();
    let quote = key.quote(&[9; 32], Selection::boot()).unwrap();
    // Any byte of the statement, then of the signature.
    for at in (0..quote.attest.len()).step_by(7).chain([quote.attest.len() + 20]) {
        bus.meddle(move |command, response| {
            if crate::world::command_of(command) == 0x158 {
                response[16 + at] ^= 1;
            }
        });
        let quoted = key.quote(&[9; 32], Selection::boot());
        let refused =
            matches!(quoted, Err(TpmError::Corrupt { .. } | TpmError::Unreachable { .. }));
        assert!(refused, "byte {at}: {quoted:?}");
    }
    bus.behave();
    assert!(key.quote(&[9; 32], Selection::boot()).is_ok());
}
