//! A machine with a TPM passes the suite of platforms.

use std::sync::Arc;

use heirloom_conformance::platform::{Feature, PlatformWorld, Variant, run};
use heirloom_launcher::machine::Machine as _;
use heirloom_launcher::protocol::Refusal;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::measurement::MrEnclave;
use heirloom_model::sealed::{SealRecipe, TpmSealRecipe};
use heirloom_tpm::machine::{MACHINE_SECRET, TpmMachine};

use crate::swtpm::is_installed;
use crate::world::{Code, World, secs};

struct Machines {
    _worlds: [World; 2],
    machine: Arc<TpmMachine>,
    other: Arc<TpmMachine>,
}

impl Machines {
    fn new() -> Self {
        let worlds = [(); 2].map(|()| World::approved().expect("there is a TPM"));
        let [machine, other] = worlds.each_ref().map(|world| Arc::new(world.open().unwrap()));
        Self { _worlds: worlds, machine, other }
    }
}

impl PlatformWorld for Machines {
    type Enclave = Code;

    fn start(&mut self, variant: Variant) -> Code {
        let original = secs();
        let (machine, secs) = match variant {
            Variant::Original => (&self.machine, original),
            Variant::OtherMeasurement => {
                (&self.machine, Secs { measurement: MrEnclave::new([6; 32]), ..original })
            }
            Variant::OtherCpu => (&self.other, original),
            Variant::DebugTwin => {
                (&self.machine, Secs { attributes: LaunchMode::Debug.attributes(), ..original })
            }
            Variant::LowerSecurityVersion => (&self.machine, Secs { isv_svn: 2, ..original }),
            Variant::RolledBackCpu => panic!("a TPM has no microcode"),
        };
        Code { machine: Arc::clone(machine), secs }
    }

    fn lacks(&self) -> &'static [Feature] {
        &[Feature::Microcode, Feature::SgxRecipe]
    }

    fn update_microcode(&mut self) {
        panic!("a TPM has no microcode");
    }

    fn report_data(&self, evidence: &Evidence) -> ReportData {
        let Evidence::Tpm(evidence) = evidence else { panic!("other evidence") };
        let qualified = evidence.launch.qualify(&evidence.report_data);
        assert!(evidence.attest.windows(32).any(|window| window == qualified), "it is quoted");
        evidence.report_data
    }
}

#[test]
fn a_machine_with_a_tpm_is_a_platform() {
    if is_installed() {
        run(Machines::new);
    }
}

/// A machine has one secret, and derives nothing from numbers that it never had.
#[test]
fn a_recipe_of_another_secret_of_the_machine_is_refused() {
    let Some(world) = World::approved() else { return };
    let (machine, key_id) = (world.open().unwrap(), Nonce::new([7; 32]));
    for secret in [0, MACHINE_SECRET, MACHINE_SECRET + 1, u32::MAX] {
        let recipe = SealRecipe::Tpm(TpmSealRecipe { secret, isv_svn: 3, key_id });
        match machine.seal_key(&secs(), &recipe) {
            Ok(_) => assert_eq!(secret, MACHINE_SECRET),
            Err(Refusal::MachineSecretTooHigh { asked, own }) => {
                assert_eq!((asked, own), (secret, MACHINE_SECRET));
                assert_ne!(secret, MACHINE_SECRET);
            }
            Err(other) => panic!("{other}"),
        }
    }
}
