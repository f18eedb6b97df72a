//! The emulated machine in this process passes the platform suite.

use heirloom_conformance::platform::{PlatformWorld, Variant, run};
use heirloom_emulated::cpu::next_cpu_svn;
use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_emulated::provisioning::{DevelopmentRoot, FIRST_CPU_SVN};
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::measurement::{MrEnclave, MrSigner};

struct InProcess {
    host: EmulatedHost,
    other: EmulatedHost,
    rolled_back: EmulatedHost,
    started: u64,
}

impl InProcess {
    fn new() -> Self {
        let root = DevelopmentRoot::from_seed(&[1; 32], Time(0));
        let now = next_cpu_svn(&FIRST_CPU_SVN).unwrap();
        Self {
            host: EmulatedHost::from_seed_at(&root, &[2; 32], now),
            other: EmulatedHost::from_seed_at(&root, &[3; 32], now),
            rolled_back: EmulatedHost::from_seed(&root, &[2; 32]),
            started: 0,
        }
    }
}

impl PlatformWorld for InProcess {
    type Enclave = EmulatedEnclave;

    fn start(&mut self, variant: Variant) -> EmulatedEnclave {
        let original = Secs {
            measurement: MrEnclave::new([4; 32]),
            signer: MrSigner::new([5; 32]),
            product_id: 7,
            isv_svn: 3,
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
        let (host, secs) = match variant {
            Variant::Original => (&self.host, original),
            Variant::OtherMeasurement => {
                (&self.host, Secs { measurement: MrEnclave::new([6; 32]), ..original })
            }
            Variant::OtherCpu => (&self.other, original),
            Variant::DebugTwin => {
                (&self.host, Secs { attributes: LaunchMode::Debug.attributes(), ..original })
            }
            Variant::LowerSecurityVersion => (&self.host, Secs { isv_svn: 2, ..original }),
            Variant::RolledBackCpu => (&self.rolled_back, original),
        };
        // A simulated world's randomness: deterministic, and never twice the same.
        self.started += 1;
        let mut state = self.started << 32;
        host.launch(
            secs,
            Box::new(move |bytes| {
                for chunk in bytes.chunks_mut(8) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    chunk.copy_from_slice(&state.to_be_bytes()[..chunk.len()]);
                }
            }),
        )
    }

    fn update_microcode(&mut self) {
        self.host.update_microcode().unwrap();
    }

    fn report_data(&self, evidence: &Evidence) -> ReportData {
        crate::shared::report_data(evidence)
    }
}

#[test]
fn an_emulated_machine_in_this_process_is_a_platform() {
    run(InProcess::new);
}
