//! A machine with a TPM passes the suite of platforms.

use std::sync::Arc;

use heirloom_conformance::platform::{Feature, PlatformWorld, Variant, run};
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::measurement::MrEnclave;
use heirloom_tpm::machine::TpmMachine;

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
