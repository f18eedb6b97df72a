//! SEV-SNP: recorded reports behind the kernel's files, and keys of a firmware that is made up.

use std::sync::{Arc, Mutex};

use heirloom_attest::snp::{self, Report};
use heirloom_hardware::derived_key::{
    DERIVED_KEY_REQUEST_BYTES, DERIVED_KEY_RESPONSE_BYTES, GuestDevice,
};
use heirloom_hardware::tsm::Tsm;
use heirloom_keeper::port::{Platform as _, PlatformError, Sealing};
use heirloom_model::counter::Time;
use heirloom_model::digest::{Nonce, sha256};
use heirloom_model::evidence::{Certificate, Evidence, ReportData, TrustAnchor};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{LaunchDigest, Measurement, TeeKind};
use heirloom_model::sealed::{CpuSvn, SealRecipe, SnpSealRecipe};
use zeroize::Zeroizing;

use heirloom_testkit::tee::fuse::{Mounted, skipped};
use heirloom_testkit::tee::tsm_files::{Trouble, TsmFiles};

const KEY_ID: Nonce = Nonce::new([9; 32]);
const DATA: ReportData = ReportData::new([0xa5; 64]);
/// When the recorded certificates are good.
const NOW: Time = Time(1_773_000_000);

pub(crate) const VCEK: u128 = 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd;
const VLEK: u128 = 0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1;
const ASK: u128 = 0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782;
const ARK: u128 = 0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae;

/// Message version and request.
type Asked = (u8, [u8; DERIVED_KEY_REQUEST_BYTES]);

/// Firmware: a chip, and the fields of the guest that the host cannot choose.
#[derive(Clone)]
pub(crate) struct Firmware {
    pub(crate) chip: [u8; 32],
    measurement: [u8; 48],
    policy: [u8; 8],
    status: u32,
    requests: Arc<Mutex<Vec<Asked>>>,
}

impl Firmware {
    pub(crate) fn of(report: &[u8]) -> Self {
        let measurement = report[0x90..0xc0].try_into().unwrap();
        let policy = report[8..16].try_into().unwrap();
        Self { chip: [1; 32], measurement, policy, status: 0, requests: Arc::default() }
    }
}

impl GuestDevice for Firmware {
    fn derived_key(
        &self,
        message_version: u8,
        request: &[u8; DERIVED_KEY_REQUEST_BYTES],
    ) -> Result<Zeroizing<[u8; DERIVED_KEY_RESPONSE_BYTES]>, PlatformError> {
        self.requests.lock().unwrap().push((message_version, *request));
        let mut response = Zeroizing::new([0; DERIVED_KEY_RESPONSE_BYTES]);
        response[..4].copy_from_slice(&self.status.to_le_bytes());
        if self.status == 0 {
            let key = sha256(&[&self.chip, &self.measurement, &self.policy, request]);
            response[32..].copy_from_slice(&key);
        }
        Ok(response)
    }
}

pub(crate) fn vector(name: &str) -> Option<Vec<u8>> {
    let found = heirloom_testkit::vectors::find(&format!("tee/snp/{name}"));
    if found.is_none() {
        skipped(&format!("tee/snp/{name} is not here"));
    }
    std::fs::read(found?).ok()
}

fn der(pem: &[u8]) -> Vec<u8> {
    pem::parse(pem).unwrap().into_contents()
}

/// A table as hosts write it.
pub(crate) fn table(entries: &[(u128, &[u8])]) -> Vec<u8> {
    let mut head = Vec::new();
    let mut tail = Vec::new();
    let begin = 24 * (entries.len() + 1);
    for (id, content) in entries {
        let (offset, length) = (u32::try_from(begin + tail.len()), u32::try_from(content.len()));
        head.extend_from_slice(&id.to_be_bytes());
        head.extend_from_slice(&offset.unwrap().to_le_bytes());
        head.extend_from_slice(&length.unwrap().to_le_bytes());
        tail.extend_from_slice(content);
    }
    head.extend_from_slice(&[0; 24]);
    [head, tail].concat()
}

/// A Milan machine whose host supplies all certificates.
struct Milan {
    files: Mounted<TsmFiles>,
    firmware: Firmware,
    report: Vec<u8>,
    vcek: Vec<u8>,
    ask: Vec<u8>,
    ark: Vec<u8>,
}

impl Milan {
    fn new() -> Option<Self> {
        let report = vector("report_milan.bin")?;
        let vcek = vector("vcek_milan.der")?;
        let (ask, ark) = (vector("ask_milan.pem")?, vector("ark_milan.pem")?);
        // As real owners do: one certificate in DER, another as they got it.
        let supplied = table(&[(ARK, &ark), (VCEK, &vcek), (ASK, &ask)]);
        let files = Mounted::new(TsmFiles::snp(report.clone(), supplied))?;
        let firmware = Firmware::of(&report);
        Some(Self { files, firmware, report, vcek, ask: der(&ask), ark: der(&ark) })
    }

    fn open(&self) -> Tsm {
        self.configured(Vec::new())
    }

    fn configured(&self, certificates: Vec<Certificate>) -> Tsm {
        let device = Box::new(self.firmware.clone());
        Tsm::open(self.files.root(), certificates, device).unwrap()
    }

    fn recorded_data(&self) -> ReportData {
        Report::parse(&self.report).unwrap().report_data()
    }

    fn chain(&self) -> Vec<Certificate> {
        vec![Certificate(self.vcek.clone()), Certificate(self.ask.clone())]
    }
}

fn snp_recipe(recipe: SealRecipe) -> SnpSealRecipe {
    let SealRecipe::Snp(recipe) = recipe else { panic!("it is SEV-SNP's") };
    recipe
}

#[test]
fn evidence_verifies_against_the_root_that_the_verifier_has() {
    let Some(milan) = Milan::new() else { return };
    let tsm = milan.open();
    assert_eq!(tsm.kind(), TeeKind::Snp);
    let data = milan.recorded_data();
    let Evidence::Snp(evidence) = tsm.evidence(&data).unwrap() else { panic!("SEV-SNP") };
    assert_eq!(evidence.certificates, milan.chain());
    let anchors = [TrustAnchor::Snp(milan.ark.clone())];
    let vek = snp::verify_vek(&anchors, &evidence.certificates, NOW).unwrap();
    let report = Report::parse(&evidence.report).unwrap();
    let claims = snp::verify(&report, &vek, NOW).unwrap();
    assert_eq!(claims.report().report_data(), data);
    assert_eq!(claims.platform(), Some(tsm.identity().unwrap().platform));
    // The same answer with other report data is not what the firmware signed.
    let Evidence::Snp(forged) = tsm.evidence(&DATA).unwrap() else { panic!("SEV-SNP") };
    assert!(snp::verify(&Report::parse(&forged.report).unwrap(), &vek, NOW).is_err());
}

#[test]
fn a_guest_knows_who_it_is() {
    let Some(milan) = Milan::new() else { return };
    let identity = milan.open().identity().unwrap();
    let digest: [u8; 48] = milan.report[0x90..0xc0].try_into().unwrap();
    assert_eq!(identity.measurement, Measurement::Snp(LaunchDigest::new(digest)));
    let chip: [u8; 64] = milan.report[0x1a0..0x1e0].try_into().unwrap();
    assert_eq!(identity.platform, PlatformId::of_chip(&chip));
    assert_eq!(identity.cpu_svn.as_bytes()[..8], milan.report[0x1e0..0x1e8]);
    assert_eq!((identity.isv_svn, identity.debug), (0, false));
    milan.files.world(|world| {
        // Policy: debugging is allowed. Guest version: 300.
        world.blob[0x0a] |= 1 << 3;
        world.blob[4..8].copy_from_slice(&300_u32.to_le_bytes());
    });
    let changed = milan.open().identity().unwrap();
    assert_eq!((changed.isv_svn, changed.debug), (300, true));
    milan.files.world(|world| world.blob[0x1a0..0x1e0].fill(0));
    assert_eq!(milan.open().identity().unwrap().platform, PlatformId::new([0; 32]));
    milan.files.world(|world| world.blob[4..8].copy_from_slice(&70_000_u32.to_le_bytes()));
    assert!(matches!(milan.open().identity(), Err(PlatformError::Unsupported(_))));
}

#[test]
fn a_provider_key_does_not_name_the_machine() {
    let (report, vlek) = ("coco/snp_test-vlek-report.bin", "coco/snp_test-vlek.der");
    let (Some(report), Some(vlek)) = (vector(report), vector(vlek)) else { return };
    let supplied = table(&[(VCEK, b"of the chip"), (VLEK, &vlek)]);
    let Some(files) = Mounted::new(TsmFiles::snp(report.clone(), supplied)) else { return };
    files.world(|world| world.floor = Some(1));
    let issuer = Certificate(b"issuer".to_vec());
    let configured = vec![Certificate(b"key".to_vec()), issuer.clone()];
    let tsm = Tsm::open(files.root(), configured, Box::new(Firmware::of(&report))).unwrap();
    let Evidence::Snp(evidence) = tsm.evidence(&DATA).unwrap() else { panic!("SEV-SNP") };
    // The host's key, of the kind that signed; its issuer from the configuration.
    assert_eq!(evidence.certificates, [Certificate(vlek), issuer]);
    assert_eq!(tsm.identity().unwrap().platform, PlatformId::new([0; 32]));
    // It runs below a service module: reports are asked for at the lowest level that it may name.
    assert!(files.world(|world| !world.levels.is_empty() && world.levels.iter().all(|l| *l == 1)));
    assert_eq!(snp_recipe(tsm.seal_recipe(KEY_ID).unwrap()).vmpl, 1);
}

#[test]
fn certificates_come_from_the_host_or_from_the_configuration_or_are_missed() {
    let Some(milan) = Milan::new() else { return };
    for empty in [Some(Vec::new()), Some(vec![0; 4096]), None] {
        milan.files.world(|world| world.beside = empty);
        let missed = milan.open().evidence(&DATA).err();
        assert!(matches!(missed, Some(PlatformError::Unsupported(_))), "{missed:?}");
        let evidence = milan.configured(milan.chain()).evidence(&DATA).unwrap();
        let Evidence::Snp(evidence) = evidence else { panic!("SEV-SNP") };
        assert_eq!(evidence.certificates, milan.chain());
    }
    milan.files.world(|world| world.beside = Some(vec![1; 100]));
    let broken = milan.configured(milan.chain()).evidence(&DATA).err();
    assert!(matches!(broken, Some(PlatformError::Corrupt(_))), "{broken:?}");
}

#[test]
fn what_was_sealed_opens_again_and_nowhere_else() {
    let Some(milan) = Milan::new() else { return };
    let tsm = milan.open();
    assert_eq!(tsm.sealing(), Ok(Sealing::Recorded));
    let recipe = tsm.seal_recipe(KEY_ID).unwrap();
    let key = tsm.seal_key(&recipe).unwrap();
    assert!(key.same_as(&milan.open().seal_key(&recipe).unwrap()), "after a restart");
    let other = tsm.seal_recipe(Nonce::new([8; 32])).unwrap();
    assert!(!key.same_as(&tsm.seal_key(&other).unwrap()), "another file");
    for firmware in [
        Firmware { chip: [2; 32], ..milan.firmware.clone() },
        Firmware { measurement: [2; 48], ..milan.firmware.clone() },
    ] {
        let elsewhere = Tsm::open(milan.files.root(), Vec::new(), Box::new(firmware)).unwrap();
        assert!(!key.same_as(&elsewhere.seal_key(&recipe).unwrap()));
    }
}

#[test]
fn the_firmware_is_asked_with_every_field_spelled_out() {
    let Some(milan) = Milan::new() else { return };
    let tsm = milan.open();
    let recipe = SnpSealRecipe {
        vmpl: 2,
        guest_svn: 0,
        tcb: 0x0102_0000_0000_0001,
        ..snp_recipe(tsm.seal_recipe(KEY_ID).unwrap())
    };
    milan.firmware.requests.lock().unwrap().clear();
    assert!(tsm.seal_key(&SealRecipe::Snp(recipe)).is_ok());
    let mut expected = [0; 32];
    expected[8] = 0b11_1111;
    expected[16] = 2;
    expected[24..].copy_from_slice(&[1, 0, 0, 0, 0, 0, 2, 1]);
    assert_eq!(*milan.firmware.requests.lock().unwrap(), [(1, expected)]);
}

#[test]
fn a_firmware_update_keeps_what_was_sealed_before_and_its_rollback_is_refused() {
    let Some(milan) = Milan::new() else { return };
    let tsm = milan.open();
    let recorded = tsm.seal_recipe(KEY_ID).unwrap();
    let key = tsm.seal_key(&recorded).unwrap();
    let own = tsm.identity().unwrap().cpu_svn;
    // The last component is the microcode.
    milan.files.world(|world| world.blob[0x1e7] += 1);
    assert!(key.same_as(&tsm.seal_key(&recorded).unwrap()), "the recorded version is asked for");
    let current = tsm.seal_recipe(KEY_ID).unwrap();
    assert!(!key.same_as(&tsm.seal_key(&current).unwrap()));
    let asked = tsm.identity().unwrap().cpu_svn;
    milan.files.world(|world| world.blob[0x1e7] -= 1);
    let refused = tsm.seal_key(&current).err();
    assert_eq!(refused, Some(PlatformError::CpuSvnTooHigh { asked, own }));
    assert_eq!(own.as_bytes()[8..], CpuSvn::new([0; 16]).as_bytes()[8..]);
}

#[test]
fn recipes_that_no_keeper_makes_are_refused_unasked() {
    let Some(milan) = Milan::new() else { return };
    let tsm = milan.open();
    let good = snp_recipe(tsm.seal_recipe(KEY_ID).unwrap());
    assert!(tsm.seal_key(&SealRecipe::Snp(good)).is_ok());
    milan.firmware.requests.lock().unwrap().clear();
    for foreign in [
        SnpSealRecipe { message_version: 2, ..good },
        SnpSealRecipe { message_version: 257, ..good },
        SnpSealRecipe { root: 1, ..good },
        SnpSealRecipe { fields: good.fields & !(1 << 3), ..good },
        SnpSealRecipe { fields: good.fields & !1, ..good },
        SnpSealRecipe { fields: good.fields | 1 << 6, ..good },
    ] {
        let refused = tsm.seal_key(&SealRecipe::Snp(foreign)).err();
        assert!(matches!(refused, Some(PlatformError::Unsupported(_))), "{refused:?}");
    }
    let newer = SnpSealRecipe { guest_svn: 1, ..good };
    let refused = tsm.seal_key(&SealRecipe::Snp(newer)).err();
    assert_eq!(refused, Some(PlatformError::IsvSvnTooHigh { asked: 1, own: 0 }));
    milan.files.world(|world| {
        world.blob[0x30] = 2;
        world.floor = Some(2);
    });
    let refused = tsm.seal_key(&SealRecipe::Snp(good)).err();
    assert!(matches!(refused, Some(PlatformError::OtherCircumstances(_))), "{refused:?}");
    assert!(milan.firmware.requests.lock().unwrap().is_empty(), "asked all the same");
}

#[test]
fn a_firmware_that_gives_no_key_is_not_a_key_of_zeros() {
    let Some(milan) = Milan::new() else { return };
    let refusing = Firmware { status: 0x16, ..milan.firmware.clone() };
    let tsm = Tsm::open(milan.files.root(), Vec::new(), Box::new(refusing)).unwrap();
    let recipe = tsm.seal_recipe(KEY_ID).unwrap();
    let refused = tsm.seal_key(&recipe).err();
    assert!(matches!(refused, Some(PlatformError::Corrupt(_))), "{refused:?}");
}

#[test]
fn what_the_kernel_gets_wrong_is_noticed_and_every_directory_goes() {
    let Some(milan) = Milan::new() else { return };
    let tsm = milan.open();
    assert!(tsm.evidence(&DATA).is_ok());
    let (mut corrupt, mut unreachable) = (0, 0);
    for trouble in [
        Trouble::LostWrite,
        Trouble::WriteBefore,
        Trouble::WriteAfter,
        Trouble::OtherReport,
        Trouble::Busy,
        Trouble::NoProvider,
        Trouble::Denied,
        Trouble::DeniedReport,
        Trouble::Flood,
        Trouble::FloodBeside,
        Trouble::Short,
        Trouble::Empty,
        Trouble::OtherProvider,
        Trouble::HalfWrite,
    ] {
        milan.files.world(|world| world.trouble = Some(trouble));
        let is_away = matches!(
            trouble,
            Trouble::Busy | Trouble::NoProvider | Trouble::Denied | Trouble::DeniedReport
        );
        match tsm.evidence(&DATA) {
            Err(PlatformError::Unreachable(_)) if is_away => unreachable += 1,
            Err(PlatformError::Corrupt(_)) if !is_away => corrupt += 1,
            found => panic!("{trouble:?}: {found:?}"),
        }
        assert_eq!(milan.files.world(|world| world.open_questions()), 0, "{trouble:?}");
    }
    assert_eq!((corrupt, unreachable), (10, 4));
    milan.files.world(|world| world.trouble = None);
    assert!(tsm.evidence(&DATA).is_ok());
    assert_eq!(milan.files.world(|world| world.open_questions()), 0);
}

#[test]
fn a_level_that_is_none_is_corrupt() {
    let Some(milan) = Milan::new() else { return };
    let tsm = milan.open();
    milan.files.world(|world| world.floor = Some(4));
    assert!(matches!(tsm.evidence(&DATA), Err(PlatformError::Corrupt(_))));
}

#[test]
fn there_are_no_local_reports_and_no_recipes_of_others() {
    let Some(milan) = Milan::new() else { return };
    let tsm = milan.open();
    let unsupported = |error| matches!(error, Some(PlatformError::Unsupported(_)));
    assert!(unsupported(tsm.report_target().err()));
    let target = heirloom_model::evidence::ReportTarget::new([0; 512]);
    assert!(unsupported(tsm.report(&target, &DATA).err()));
    let report = heirloom_model::evidence::LocalReport::new([0; 432]);
    assert!(unsupported(tsm.verify_report(&report).err()));
    let foreign = SealRecipe::Tpm(heirloom_model::sealed::TpmSealRecipe {
        secret: 0,
        isv_svn: 0,
        key_id: KEY_ID,
    });
    assert!(unsupported(tsm.seal_key(&foreign).err()));
}
