//! Attestation keys and quotes. What a verifier makes of them is tested where it is.

use heirloom_model::secret::Secret;
use heirloom_tpm::capability::Handles;
use heirloom_tpm::error::TpmError;
use heirloom_tpm::key::{ATTESTATION_KEY_HANDLE, AttestationKey, STORAGE_ROOT_HANDLE, StorageRoot};
use heirloom_tpm::pcr::Selection;

use crate::world::{World, attestation_key, value};

#[test]
fn a_quote_has_the_registers_that_it_is_about() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    tpm.extend(8, &[7; 32]).unwrap();
    let root = StorageRoot::open(&tpm).unwrap();
    let key = attestation_key(&root);
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
        let key = attestation_key(&root);
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
            _ => AttestationKey::open(&StorageRoot::transient(&tpm).unwrap(), value()).map(drop),
        };
        let refused = matches!(opened, Err(TpmError::Corrupt { .. } | TpmError::Foreign { .. }));
        assert!(refused, "{place}: {opened:?}");
        assert_eq!(tpm.handles(Handles::Permanent).unwrap(), before);
    }
}

#[test]
fn a_quote_that_was_changed_on_the_bus_is_not_taken_for_evidence() {
    let Some(world) = World::new() else { return };
    let (tpm, bus) = world.overheard();
    let root = StorageRoot::open(&tpm).unwrap();
    let key = attestation_key(&root);
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

/// Whoever reaches the TPM can name the key, and does not know its value.
#[test]
fn nobody_quotes_with_the_key_who_does_not_know_its_value() {
    let Some(world) = World::new() else { return };
    {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        attestation_key(&root).prove().unwrap();
        let stranger = AttestationKey::open(&root, Secret::new([0x5f; 32])).unwrap();
        let foreign = TpmError::Foreign {
            handle: ATTESTATION_KEY_HANDLE,
            what: "it answers to another value than that of this machine",
        };
        assert_eq!(stranger.prove(), Err(foreign.clone()));
        assert_eq!(stranger.quote(&[9; 32], Selection::boot()), Err(foreign));
        // Zeros are what no value looks like to a TPM.
        assert!(AttestationKey::open(&root, Secret::new([0; 32])).unwrap().prove().is_err());
    }
    let place = format!("{ATTESTATION_KEY_HANDLE:#x}");
    let quote = ["-c", &place, "-l", "sha256:0", "-q", "00", "-m", "attest", "-s", "signature"];
    world.tool("tpm2_quote", &quote).unwrap_err();
}

/// A key in our place that answers to no value, or is under another parent, is somebody else's.
#[test]
fn another_attestation_key_in_our_place_is_refused_by_name_and_not_replaced() {
    let place = format!("{ATTESTATION_KEY_HANDLE:#x}");
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign";
    let template = ["-G", "ecc256:ecdsa-sha256:null", "-g", "sha256", "-a", attributes];
    for parent in ["ours", "another"] {
        let Some(world) = World::new() else { return };
        {
            let tpm = world.tpm();
            StorageRoot::open(&tpm).unwrap();
        }
        world.tool("tpm2_createprimary", &["-C", "o", "-G", "ecc256", "-c", "other"]).unwrap();
        world.tool("tpm2_flushcontext", &["-t"]).unwrap();
        let ours = format!("{STORAGE_ROOT_HANDLE:#x}");
        let under = if parent == "ours" { ours.as_str() } else { "other" };
        let files = ["-C", under, "-u", "ak.pub", "-r", "ak.priv"];
        world.tool("tpm2_create", &[&files[..], &template].concat()).unwrap();
        world.tool("tpm2_flushcontext", &["-t"]).unwrap();
        world.tool("tpm2_load", &[&files[..], &["-c", "ak"]].concat()).unwrap();
        world.tool("tpm2_evictcontrol", &["-C", "o", "-c", "ak", &place]).unwrap();
        let tpm = world.tpm();
        tpm.flush_leftovers().unwrap();
        let root = StorageRoot::open(&tpm).unwrap();
        let opened = AttestationKey::open(&root, value()).and_then(|key| key.prove());
        let expected = match parent {
            "ours" => "it answers to another value than that of this machine",
            _ => "it is under another parent",
        };
        let found = matches!(&opened, Err(TpmError::Foreign { what, .. }) if *what == expected);
        assert!(found, "{parent}: {opened:?}");
        assert!(AttestationKey::make(&root, value()).is_err(), "nothing is replaced");
        assert!(AttestationKey::open(&root, value()).and_then(|key| key.prove()).is_err());
    }
}
