//! Registers, random numbers, and what the TPM says about itself.

use heirloom_tpm::capability::{Bank, Handles};
use heirloom_tpm::client::Startup;
use heirloom_tpm::pcr::{Selection, extended};

use crate::world::{World, refusal};

#[test]
fn a_register_is_extended_as_computed_and_the_others_stay() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let all = Selection::new(0..24).unwrap();
    let before = tpm.registers(all).unwrap();
    assert_eq!(before.len(), 24);
    for digest in [[1; 32], [2; 32]] {
        tpm.extend(8, &digest).unwrap();
    }
    let after = tpm.registers(all).unwrap();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.index, after.index);
        if after.index == 8 {
            assert_eq!(after.value, extended(&before.value, [&[1; 32], &[2; 32]]));
        } else {
            assert_eq!(before, after);
        }
    }
}

#[test]
fn a_register_that_does_not_exist_is_refused_and_only_some_can_be_reset() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    assert_eq!(refusal(tpm.extend(24, &[1; 32])), 0x184);
    tpm.extend(16, &[1; 32]).unwrap();
    tpm.reset(16).unwrap();
    let sixteen = Selection::new([16]).unwrap();
    assert_eq!(tpm.registers(sixteen).unwrap()[0].value, [0; 32]);
    // TPM_RC_LOCALITY: nobody resets what was booted.
    assert_eq!(refusal(tpm.reset(0)), 0x907);
}

#[test]
fn registers_begin_anew_with_power() {
    let Some(mut world) = World::new() else { return };
    let eight = Selection::new([8]).unwrap();
    world.tpm().extend(8, &[1; 32]).unwrap();
    world.swtpm.lose_power();
    assert_eq!(world.tpm().registers(eight).unwrap()[0].value, [0; 32]);
}

#[test]
fn the_tpm_describes_itself() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    assert_eq!(tpm.startup(), Ok(Startup::Running));
    tpm.self_test().unwrap();
    let description = tpm.description().unwrap();
    assert_eq!(description.manufacturer, "IBM");
    assert!(!description.in_lockout);
    let sha256 = Bank { algorithm: 0x000b, registers: 24 };
    assert_eq!(tpm.banks().unwrap().iter().filter(|bank| bank.registers != 0).count(), 1);
    assert!(tpm.banks().unwrap().contains(&sha256));
    assert!(tpm.handles(Handles::Indices).unwrap().contains(&0x01c0_0002));
}

#[test]
fn random_numbers_come_in_any_amount_and_are_not_repeated() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let (mut one, mut other) = ([0; 100], [0; 100]);
    tpm.random(&mut one).unwrap();
    tpm.random(&mut other).unwrap();
    assert_ne!(one, other);
    assert_ne!(one[96..], [0; 4]);
}
