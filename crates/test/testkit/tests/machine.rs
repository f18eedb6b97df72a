//! Machines with a TPM in this process pass the suites of platforms, and production code believes
//! them for what they are.

use heirloom_conformance::platform::{Feature, PlatformWorld, Variant, run};
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_testkit::ceremony::BEGINNING;
use heirloom_testkit::machine::{AttestationCa, SoftTpm, TpmProcess};

struct Machines {
    machine: SoftTpm,
    other: SoftTpm,
}

impl Machines {
    fn new() -> Self {
        let ca = AttestationCa::from_seed(&[1; 32], BEGINNING);
        let machine = |seed: u8| SoftTpm::from_seed(&ca, &[seed; 32], b"boot");
        Self { machine: machine(2), other: machine(3) }
    }
}

impl PlatformWorld for Machines {
    type Enclave = TpmProcess;

    fn start(&mut self, variant: Variant) -> TpmProcess {
        let original = Secs {
            measurement: MrEnclave::new([4; 32]),
            signer: MrSigner::new([5; 32]),
            product_id: 7,
            isv_svn: 3,
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
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
        machine.launch(secs, heirloom_launcher::randomness::system_randomness())
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
fn a_machine_with_a_tpm_in_this_process_is_a_platform() {
    run(Machines::new);
}

#[test]
fn counters_go_back_only_where_a_test_turns_them_back() {
    use heirloom_keeper::port::Platform as _;
    use heirloom_model::digest::CounterName;
    let name = CounterName::new([1; 32]);
    let mut machines = Machines::new();
    let process = machines.start(Variant::Original);
    process.raise(&name, 1).unwrap();
    let snapshot = machines.machine.counters();
    process.raise(&name, 2).unwrap();
    machines.machine.turn_back(snapshot);
    assert_eq!(process.counter(&name), Ok(1));
    assert_eq!(machines.machine.renewed().counters().len(), 0);
    assert_eq!(process.counter(&name), Ok(1), "the renewed one is another's");
}
