//! What every platform must do for a keeper, whatever it can seal and whomever it can report to.
//!
//! Recipes are the platform's own: the suite records what [`Platform::seal_recipe`] says, as a
//! keeper does, and holds the platform to what [`Platform::sealing`] promises.

use heirloom_keeper::port::{Platform, PlatformError, Sealing};
use heirloom_model::digest::Nonce;
use heirloom_model::sealed::SealRecipe;

use super::{PlatformWorld, Variant};

const KEY_ID: Nonce = Nonce::new([7; 32]);

/// Runs the whole suite, each part in a new world.
pub fn run<W: PlatformWorld>(mut factory: impl FnMut() -> W) {
    super::evidence_carries_the_report_data(&mut factory());
    super::identities_tell_variants_apart(&mut factory());
    super::random_bytes_differ(&mut factory());
    let sealing = factory().start(Variant::Original).sealing();
    match sealing.expect("a platform knows whether it seals") {
        Sealing::None => what_does_not_seal_says_so(&mut factory()),
        sealing @ (Sealing::CurrentOnly | Sealing::Recorded) => {
            the_same_code_opens_what_it_sealed(&mut factory());
            nobody_else_opens_it(&mut factory());
            an_update_of_the_machine(&mut factory(), sealing);
            a_rollback_of_the_machine(&mut factory());
        }
    }
}

fn recipe(enclave: &impl Platform) -> SealRecipe {
    enclave.seal_recipe(KEY_ID).expect("it says what to seal with")
}

/// Whether two enclaves derive the same key from a recipe. A refusal is no key.
fn same_key(one: &impl Platform, other: &impl Platform, recipe: &SealRecipe) -> bool {
    match (one.seal_key(recipe), other.seal_key(recipe)) {
        (Ok(one), Ok(other)) => one.same_as(&other),
        _ => false,
    }
}

fn what_does_not_seal_says_so(world: &mut impl PlatformWorld) {
    let refused = world.start(Variant::Original).seal_recipe(KEY_ID).err();
    assert!(matches!(refused, Some(PlatformError::Unsupported(_))), "{refused:?}");
}

fn the_same_code_opens_what_it_sealed(world: &mut impl PlatformWorld) {
    let (first, again) = (world.start(Variant::Original), world.start(Variant::Original));
    let recorded = recipe(&first);
    assert_eq!(recorded.key_id(), &KEY_ID);
    assert_eq!(recorded, recipe(&again), "nothing changed");
    assert!(same_key(&first, &again, &recorded), "the same code on the same machine");
    assert!(same_key(&first, &first, &recorded), "asked twice");
    let other = first.seal_recipe(Nonce::new([8; 32])).expect("it says what to seal with");
    let key = first.seal_key(&recorded).expect("it was recorded just now");
    let other = first.seal_key(&other).expect("it was recorded just now");
    assert!(!key.same_as(&other), "another file");
}

fn nobody_else_opens_it(world: &mut impl PlatformWorld) {
    let original = world.start(Variant::Original);
    let recorded = recipe(&original);
    for variant in [Variant::OtherMeasurement, Variant::OtherCpu, Variant::DebugTwin] {
        let other = world.start(variant);
        assert!(!same_key(&original, &other, &recorded), "{variant:?}");
        let own = recipe(&other);
        let (key, own) = (original.seal_key(&recorded), other.seal_key(&own));
        let (Ok(key), Ok(own)) = (key, own) else { panic!("each opens its own: {variant:?}") };
        assert!(!key.same_as(&own), "{variant:?} with its own recipe");
    }
}

fn an_update_of_the_machine(world: &mut impl PlatformWorld, sealing: Sealing) {
    let before = world.start(Variant::Original);
    let recorded = recipe(&before);
    let key = before.seal_key(&recorded).expect("it was recorded just now");
    world.update_microcode();
    let after = world.start(Variant::Original);
    let current = recipe(&after);
    assert_ne!(current, recorded, "the update shows");
    let new = after.seal_key(&current).expect("it was recorded just now");
    assert!(!key.same_as(&new), "what is sealed now is out of reach of the older machine");
    match (sealing, after.seal_key(&recorded)) {
        (Sealing::Recorded, Ok(again)) => assert!(key.same_as(&again), "the recorded recipe"),
        // The trap of platforms that cannot ask for older keys: they must say that they have none,
        // and never hand out the present one for it.
        (Sealing::CurrentOnly, Err(PlatformError::OtherCircumstances(why))) => {
            assert!(why.contains("another holder"), "the refusal says what to do: {why}");
        }
        (_, found) => panic!("{sealing:?} is not kept: {:?}", found.err()),
    }
}

fn a_rollback_of_the_machine(world: &mut impl PlatformWorld) {
    let original = world.start(Variant::Original);
    let rolled_back = world.start(Variant::RolledBackCpu);
    let refused = rolled_back.seal_key(&recipe(&original)).err();
    assert!(
        matches!(
            refused,
            Some(PlatformError::CpuSvnTooHigh { .. } | PlatformError::OtherCircumstances(_))
        ),
        "{refused:?}"
    );
}
