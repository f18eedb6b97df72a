//! What every platform must do for a keeper.
//!
//! A world has a first CPU with a first enclave on it, and variants of both. The suite never
//! looks at a key: it asks whether two are the same.

pub mod any;
mod counter;
mod local;
mod sgx;

use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::sealed::{CpuSvn, GramineSealRecipe, SealRecipe};

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

    /// What this kind of platform does not have. It must say so itself where it is asked, and the
    /// parts of the suite that are about it are left out.
    fn lacks(&self) -> &'static [Feature] {
        &[Feature::Counter]
    }

    /// Loads the next microcode into the first CPU. Not called where there is none.
    fn update_microcode(&mut self);

    /// What a quote carries, read without any verification.
    fn report_data(&self, evidence: &Evidence) -> ReportData;
}

/// What not every kind of platform has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Feature {
    /// Counters that nobody can lower.
    Counter,
    /// Microcode whose version is in keys and reports.
    Microcode,
    /// Recipes of SGX, whose every field the caller chooses.
    SgxRecipe,
}

/// What a world has, asked by the suite.
trait Has {
    fn has(&self, feature: Feature) -> bool;
}

impl<W: PlatformWorld> Has for W {
    fn has(&self, feature: Feature) -> bool {
        !self.lacks().contains(&feature)
    }
}

/// Runs the whole suite, each part in a new world.
pub fn run<W: PlatformWorld>(mut factory: impl FnMut() -> W) {
    the_same_code_and_recipe_give_the_same_key(&mut factory());
    another_key_id_gives_another_key(&mut factory());
    other_code_another_machine_and_a_debug_twin_get_other_keys(&mut factory());
    the_recipe_of_a_higher_security_version_is_refused(&mut factory());
    a_recipe_of_another_kind_is_refused(&mut factory());
    if factory().has(Feature::SgxRecipe) {
        sgx::run(&mut factory);
    } else {
        sgx::is_refused(&mut factory());
    }
    counter::run(&mut factory);
    evidence_carries_the_report_data(&mut factory());
    identities_tell_variants_apart(&mut factory());
    local::run(&mut factory);
    random_bytes_differ(&mut factory());
}

/// The recipe that a keeper would record now.
fn current_recipe(enclave: &impl Platform) -> SealRecipe {
    enclave.seal_recipe(Nonce::new([7; 32])).expect("the platform seals")
}

/// Whether two enclaves derive the same key from a recipe. A refusal is no key.
fn same_key(one: &impl Platform, other: &impl Platform, recipe: &SealRecipe) -> bool {
    match (one.seal_key(recipe), other.seal_key(recipe)) {
        (Ok(one), Ok(other)) => one.same_as(&other),
        _ => false,
    }
}

fn the_same_code_and_recipe_give_the_same_key(world: &mut impl PlatformWorld) {
    let (first, again) = (world.start(Variant::Original), world.start(Variant::Original));
    assert_eq!(first.sealing(), Ok(Sealing::Recorded));
    let recipe = current_recipe(&first);
    assert_eq!(recipe, current_recipe(&again));
    assert!(same_key(&first, &again, &recipe), "the same code on the same CPU");
    assert!(same_key(&first, &first, &recipe), "asked twice");
}

fn another_key_id_gives_another_key(world: &mut impl PlatformWorld) {
    let enclave = world.start(Variant::Original);
    let key = enclave.seal_key(&current_recipe(&enclave)).expect("the recipe is allowed");
    let other = enclave.seal_recipe(Nonce::new([8; 32])).expect("the platform seals");
    assert_eq!(*other.key_id(), Nonce::new([8; 32]));
    let other = enclave.seal_key(&other).expect("the recipe is allowed");
    assert!(!key.same_as(&other));
}

fn other_code_another_machine_and_a_debug_twin_get_other_keys(world: &mut impl PlatformWorld) {
    let original = world.start(Variant::Original);
    let recipe = current_recipe(&original);
    for variant in [Variant::OtherMeasurement, Variant::OtherCpu, Variant::DebugTwin] {
        let other = world.start(variant);
        assert!(!same_key(&original, &other, &recipe), "{variant:?}");
    }
}

fn the_recipe_of_a_higher_security_version_is_refused(world: &mut impl PlatformWorld) {
    let recipe = current_recipe(&world.start(Variant::Original));
    let asked = identity(world, Variant::Original).isv_svn;
    let own = identity(world, Variant::LowerSecurityVersion).isv_svn;
    let refused = world.start(Variant::LowerSecurityVersion).seal_key(&recipe).err();
    assert_eq!(refused, Some(PlatformError::IsvSvnTooHigh { asked, own }));
}

/// A recipe that no platform of this suite makes.
fn a_recipe_of_another_kind_is_refused(world: &mut impl PlatformWorld) {
    let (isv_svn, cpu_svn) = (0, CpuSvn::new([0; 16]));
    let key_id = Nonce::new([7; 32]);
    let recipe = SealRecipe::Gramine(GramineSealRecipe { isv_svn, cpu_svn, key_id });
    let refused = world.start(Variant::Original).seal_key(&recipe).err();
    assert!(matches!(refused, Some(PlatformError::Unsupported(_))), "{refused:?}");
}

fn identity(world: &mut impl PlatformWorld, variant: Variant) -> PlatformIdentity {
    world.start(variant).identity().expect("a measured process has an identity")
}

fn evidence_carries_the_report_data(world: &mut impl PlatformWorld) {
    let enclave = world.start(Variant::Original);
    for data in [ReportData::new([0; 64]), ReportData::new([0xa5; 64])] {
        let evidence = enclave.evidence(&data).expect("a measured process has evidence");
        assert_eq!(world.report_data(&evidence), data);
    }
}

fn identities_tell_variants_apart(world: &mut impl PlatformWorld) {
    let original = identity(world, Variant::Original);
    assert!(!original.debug && !original.measurement.is_zero());
    assert_eq!(original, identity(world, Variant::Original));
    let other_code = identity(world, Variant::OtherMeasurement);
    assert_ne!(other_code.measurement, original.measurement);
    assert_eq!(other_code.signer, original.signer);
    assert_eq!(other_code.platform, original.platform);
    let other_cpu = identity(world, Variant::OtherCpu);
    assert_eq!(other_cpu.measurement, original.measurement);
    assert_ne!(other_cpu.platform, original.platform);
    let debug = identity(world, Variant::DebugTwin);
    assert!(debug.debug);
    assert_eq!(debug.measurement, original.measurement);
    let lower = identity(world, Variant::LowerSecurityVersion);
    assert!(lower.isv_svn < original.isv_svn);
    if world.has(Feature::Microcode) {
        let rolled_back = identity(world, Variant::RolledBackCpu);
        assert_eq!(rolled_back.platform, original.platform);
        assert_ne!(rolled_back.cpu_svn, original.cpu_svn);
    }
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
