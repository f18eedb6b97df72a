//! Gramine and SEV-SNP pass the suite of all platforms.

use heirloom_attest::decode;
use heirloom_conformance::platform::{PlatformWorld, Variant, any};
use heirloom_hardware::gramine::Gramine;
use heirloom_hardware::tsm::Tsm;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::measurement::MrEnclave;

use crate::snp::{Firmware, VCEK, table, vector};
use heirloom_testkit::tee::fuse::Mounted;
use heirloom_testkit::tee::gramine_files::{GramineFiles, SECS};
use heirloom_testkit::tee::tsm_files::TsmFiles;

fn unverified(evidence: &Evidence) -> ReportData {
    decode::unverified(evidence).unwrap().report_data.unwrap()
}

/// Processes of Gramine. Each has files of its own, which stay as long as the world.
#[derive(Default)]
struct GramineWorld {
    updates: usize,
    processes: Vec<Mounted<GramineFiles>>,
}

impl PlatformWorld for GramineWorld {
    type Enclave = Gramine;

    fn start(&mut self, variant: Variant) -> Gramine {
        let seed = if variant == Variant::OtherCpu { [3; 32] } else { [2; 32] };
        let mut files = GramineFiles::on(&seed);
        let updates = if variant == Variant::RolledBackCpu { 0 } else { 1 + self.updates };
        for _ in 0..updates {
            files.update_microcode();
        }
        files.secs = match variant {
            Variant::OtherMeasurement => Secs { measurement: MrEnclave::new([6; 32]), ..SECS },
            Variant::DebugTwin => Secs { attributes: LaunchMode::Debug.attributes(), ..SECS },
            Variant::LowerSecurityVersion => Secs { isv_svn: 2, ..SECS },
            Variant::Original | Variant::OtherCpu | Variant::RolledBackCpu => SECS,
        };
        let mounted = Mounted::new(files).expect("it was tried before");
        let gramine = Gramine::open(mounted.root()).unwrap();
        self.processes.push(mounted);
        gramine
    }

    fn update_microcode(&mut self) {
        self.updates += 1;
    }

    fn report_data(&self, evidence: &Evidence) -> ReportData {
        unverified(evidence)
    }
}

/// Guests of SEV-SNP, from a recorded report.
struct SnpWorld {
    report: Vec<u8>,
    updates: u8,
    guests: Vec<Mounted<TsmFiles>>,
}

impl PlatformWorld for SnpWorld {
    type Enclave = Tsm;

    fn start(&mut self, variant: Variant) -> Tsm {
        let mut report = self.report.clone();
        // Guest version, and the microcode in the committed firmware version.
        report[4] = 3;
        report[0x1e7] = 0x70 + self.updates;
        match variant {
            Variant::Original => {}
            Variant::OtherMeasurement => report[0x90] ^= 1,
            Variant::OtherCpu => report[0x1a0] ^= 1,
            Variant::DebugTwin => report[0x0a] |= 1 << 3,
            Variant::LowerSecurityVersion => report[4] = 2,
            Variant::RolledBackCpu => report[0x1e7] = 0x6f,
        }
        let mut firmware = Firmware::of(&report);
        firmware.chip[0] = report[0x1a0];
        let supplied = table(&[(VCEK, b"certificate")]);
        let mounted = Mounted::new(TsmFiles::snp(report, supplied)).expect("it was tried before");
        let tsm = Tsm::open(mounted.root(), Vec::new(), Box::new(firmware)).unwrap();
        self.guests.push(mounted);
        tsm
    }

    fn update_microcode(&mut self) {
        self.updates += 1;
    }

    fn report_data(&self, evidence: &Evidence) -> ReportData {
        unverified(evidence)
    }
}

#[test]
fn gramine_is_a_platform_whose_keys_are_of_the_present_only() {
    if Mounted::new(GramineFiles::new()).is_some() {
        any::run(GramineWorld::default);
    }
}

#[test]
fn sev_snp_is_a_platform_that_opens_what_was_recorded() {
    let Some(report) = vector("report_milan.bin") else { return };
    if Mounted::new(GramineFiles::new()).is_some() {
        any::run(|| SnpWorld { report: report.clone(), updates: 0, guests: Vec::new() });
    }
}
