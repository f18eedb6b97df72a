//! Recipes of SGX: the caller chooses every field.

use heirloom_keeper::port::{Platform, PlatformError};
use heirloom_model::digest::Nonce;
use heirloom_model::sealed::{CpuSvn, SealPolicy, SealRecipe, SgxSealRecipe};

use super::{PlatformWorld, Variant};

pub(super) fn run<W: PlatformWorld>(mut factory: impl FnMut() -> W) {
    every_part_of_the_recipe_matters(&mut factory());
    other_code_another_cpu_and_a_debug_twin_get_other_keys(&mut factory());
    a_lower_security_version_is_refused_the_keys_of_a_higher_one(&mut factory());
    microcode_updates_keep_what_was_sealed_before(&mut factory());
    a_rolled_back_cpu_refuses(&mut factory());
}

/// Platforms of other kinds say that they have no such keys.
pub(super) fn is_refused(world: &mut impl PlatformWorld) {
    let enclave = world.start(Variant::Original);
    let refused = enclave.seal_key(&SealRecipe::Sgx(current_recipe(&enclave))).err();
    assert!(matches!(refused, Some(PlatformError::Unsupported(_))), "{refused:?}");
}

/// The recipe that a keeper would record now.
fn current_recipe(enclave: &impl Platform) -> SgxSealRecipe {
    let identity = enclave.identity().expect("a measured process has an identity");
    SgxSealRecipe {
        policy: SealPolicy::Measurement,
        isv_svn: identity.isv_svn,
        cpu_svn: identity.cpu_svn,
        flags_mask: u64::MAX,
        xfrm_mask: 0,
        misc_mask: u32::MAX,
        key_id: Nonce::new([7; 32]),
    }
}

/// Whether two enclaves derive the same key from a recipe. A refusal is no key.
fn same_key(one: &impl Platform, other: &impl Platform, recipe: &SgxSealRecipe) -> bool {
    let recipe = SealRecipe::Sgx(*recipe);
    match (one.seal_key(&recipe), other.seal_key(&recipe)) {
        (Ok(one), Ok(other)) => one.same_as(&other),
        _ => false,
    }
}

fn every_part_of_the_recipe_matters(world: &mut impl PlatformWorld) {
    let enclave = world.start(Variant::Original);
    let recipe = current_recipe(&enclave);
    let key = enclave.seal_key(&SealRecipe::Sgx(recipe)).expect("the current recipe is allowed");
    let lower = lower_component(recipe.cpu_svn);
    for (what, other) in [
        ("policy", SgxSealRecipe { policy: SealPolicy::Signer, ..recipe }),
        ("ISVSVN", SgxSealRecipe { isv_svn: recipe.isv_svn - 1, ..recipe }),
        ("CPUSVN", SgxSealRecipe { cpu_svn: lower, ..recipe }),
        ("key id", SgxSealRecipe { key_id: Nonce::new([8; 32]), ..recipe }),
    ] {
        let other = enclave.seal_key(&SealRecipe::Sgx(other)).expect("lower values are allowed");
        assert!(!key.same_as(&other), "{what}");
    }
}

fn other_code_another_cpu_and_a_debug_twin_get_other_keys(world: &mut impl PlatformWorld) {
    let original = world.start(Variant::Original);
    let recipe = current_recipe(&original);
    let other_code = world.start(Variant::OtherMeasurement);
    let other_cpu = world.start(Variant::OtherCpu);
    let debug = world.start(Variant::DebugTwin);
    let signer = SgxSealRecipe { policy: SealPolicy::Signer, ..recipe };
    assert!(!same_key(&original, &other_code, &recipe), "other code");
    assert!(same_key(&original, &other_code, &signer), "other code of the same signer");
    for recipe in [recipe, signer] {
        assert!(!same_key(&original, &other_cpu, &recipe), "another CPU");
        // Whatever the mask says: INIT and DEBUG are always in.
        for flags_mask in [0, 1, u64::MAX] {
            let recipe = SgxSealRecipe { flags_mask, ..recipe };
            assert!(!same_key(&original, &debug, &recipe), "debug twin, mask {flags_mask:#x}");
        }
    }
}

fn a_lower_security_version_is_refused_the_keys_of_a_higher_one(world: &mut impl PlatformWorld) {
    let original = world.start(Variant::Original);
    let lower = world.start(Variant::LowerSecurityVersion);
    let own = current_recipe(&lower).isv_svn;
    for policy in [SealPolicy::Measurement, SealPolicy::Signer] {
        let recipe = SgxSealRecipe { policy, ..current_recipe(&original) };
        let refused = lower.seal_key(&SealRecipe::Sgx(recipe)).err();
        let asked = recipe.isv_svn;
        assert_eq!(refused, Some(PlatformError::IsvSvnTooHigh { asked, own }), "{policy:?}");
    }
    let below =
        SgxSealRecipe { policy: SealPolicy::Signer, isv_svn: own, ..current_recipe(&original) };
    assert!(same_key(&original, &lower, &below), "a higher version opens what a lower one sealed");
}

fn microcode_updates_keep_what_was_sealed_before(world: &mut impl PlatformWorld) {
    let before = world.start(Variant::Original);
    let recorded = current_recipe(&before);
    let key = before.seal_key(&SealRecipe::Sgx(recorded)).expect("the current recipe is allowed");
    world.update_microcode();
    let after = world.start(Variant::Original);
    let current = current_recipe(&after);
    assert_ne!(current.cpu_svn, recorded.cpu_svn, "the update shows");
    let again = after.seal_key(&SealRecipe::Sgx(recorded)).expect("older recipes stay allowed");
    assert!(key.same_as(&again), "the recorded recipe opens what was sealed before");
    let new = after.seal_key(&SealRecipe::Sgx(current)).expect("the current recipe is allowed");
    assert!(!key.same_as(&new), "what is sealed now is out of reach of the older microcode");
}

fn a_rolled_back_cpu_refuses(world: &mut impl PlatformWorld) {
    let original = world.start(Variant::Original);
    let recipe = current_recipe(&original);
    let rolled_back = world.start(Variant::RolledBackCpu);
    let own = current_recipe(&rolled_back).cpu_svn;
    let refused = rolled_back.seal_key(&SealRecipe::Sgx(recipe)).err();
    let asked = recipe.cpu_svn;
    assert_eq!(refused, Some(PlatformError::CpuSvnTooHigh { asked, own }));
    let older = SgxSealRecipe { cpu_svn: own, ..recipe };
    assert!(same_key(&original, &rolled_back, &older), "it still is the same CPU");
}

/// A CPUSVN that is lower in its first component that can be lower.
fn lower_component(cpu_svn: CpuSvn) -> CpuSvn {
    let mut bytes = *cpu_svn.as_bytes();
    if let Some(component) = bytes.iter_mut().find(|component| **component > 0) {
        *component -= 1;
    }
    CpuSvn::new(bytes)
}
