//! What every platform must do for a keeper.
//!
//! A world has a first CPU with a first enclave on it, and variants of both. The suite never
//! looks at a key: it asks whether two are the same.

mod local;

use heirloom_keeper::port::{Platform, PlatformError};
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::sealed::{CpuSvn, SealPolicy, SealRecipe, SgxSealRecipe};

/// An enclave that a world can start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Variant {
    /// The first enclave on the first CPU.
    Original,
    /// Other code, of the same signer and security version, on the same CPU.
    OtherMeasurement,
    /// The same code on another CPU.
    OtherCpu,
    /// The same code on the same CPU, readable from outside.
    DebugTwin,
    /// Of the same signer on the same CPU, with a lower security version.
    LowerSecurityVersion,
    /// The same code on the same CPU, whose microcode is older than at the world's beginning.
    RolledBackCpu,
}

/// A world with CPUs and enclaves. It may start a variant more than once.
pub trait PlatformWorld {
    /// An enclave, seen from inside.
    type Enclave: Platform;

    /// Starts an enclave.
    fn start(&mut self, variant: Variant) -> Self::Enclave;

    /// Loads the next microcode into the first CPU.
    fn update_microcode(&mut self);

    /// What a quote carries, read without any verification.
    fn report_data(&self, evidence: &Evidence) -> ReportData;
}

/// Runs the whole suite, each part in a new world.
pub fn run<W: PlatformWorld>(mut factory: impl FnMut() -> W) {
    the_same_code_and_recipe_give_the_same_key(&mut factory());
    every_part_of_the_recipe_matters(&mut factory());
    other_code_another_cpu_and_a_debug_twin_get_other_keys(&mut factory());
    a_lower_security_version_is_refused_the_keys_of_a_higher_one(&mut factory());
    microcode_updates_keep_what_was_sealed_before(&mut factory());
    a_rolled_back_cpu_refuses(&mut factory());
    evidence_carries_the_report_data(&mut factory());
    identities_tell_variants_apart(&mut factory());
    local::run(&mut factory);
    random_bytes_differ(&mut factory());
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

fn the_same_code_and_recipe_give_the_same_key(world: &mut impl PlatformWorld) {
    let (first, again) = (world.start(Variant::Original), world.start(Variant::Original));
    let recipe = current_recipe(&first);
    assert!(same_key(&first, &again, &recipe), "the same code on the same CPU");
    assert!(same_key(&first, &first, &recipe), "asked twice");
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

fn evidence_carries_the_report_data(world: &mut impl PlatformWorld) {
    let enclave = world.start(Variant::Original);
    for data in [ReportData::new([0; 64]), ReportData::new([0xa5; 64])] {
        let evidence = enclave.evidence(&data).expect("a measured process has evidence");
        assert_eq!(world.report_data(&evidence), data);
    }
}

fn identities_tell_variants_apart(world: &mut impl PlatformWorld) {
    let mut identity =
        |variant| world.start(variant).identity().expect("a measured process has an identity");
    let original = identity(Variant::Original);
    assert!(!original.debug && !original.measurement.is_zero());
    assert_eq!(original, identity(Variant::Original));
    let other_code = identity(Variant::OtherMeasurement);
    assert_ne!(other_code.measurement, original.measurement);
    assert_eq!(other_code.signer, original.signer);
    assert_eq!(other_code.platform, original.platform);
    let other_cpu = identity(Variant::OtherCpu);
    assert_eq!(other_cpu.measurement, original.measurement);
    assert_ne!(other_cpu.platform, original.platform);
    let debug = identity(Variant::DebugTwin);
    assert!(debug.debug);
    assert_eq!(debug.measurement, original.measurement);
    assert!(identity(Variant::LowerSecurityVersion).isv_svn < original.isv_svn);
    let rolled_back = identity(Variant::RolledBackCpu);
    assert_eq!(rolled_back.platform, original.platform);
    assert_ne!(rolled_back.cpu_svn, original.cpu_svn);
}

fn random_bytes_differ(world: &mut impl PlatformWorld) {
    let enclave = world.start(Variant::Original);
    // More than any platform gives at once.
    let (mut one, mut other) = (vec![0; 10_000], vec![0; 10_000]);
    enclave.random(&mut one).expect("a measured process gets random bytes");
    enclave.random(&mut other).expect("a measured process gets random bytes");
    assert_ne!(one, other);
    assert!(one.iter().any(|byte| *byte != 0));
}

/// A CPUSVN that is lower in its first component that can be lower.
fn lower_component(cpu_svn: CpuSvn) -> CpuSvn {
    let mut bytes = *cpu_svn.as_bytes();
    if let Some(component) = bytes.iter_mut().find(|component| **component > 0) {
        *component -= 1;
    }
    CpuSvn::new(bytes)
}
