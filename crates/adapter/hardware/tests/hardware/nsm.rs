//! Nitro: a security module with a recorded document, into which it writes what it is asked to.

use std::sync::{Arc, Mutex};

use heirloom_attest::nitro::Document;
use heirloom_hardware::device::SecurityModule;
use heirloom_hardware::nsm::{Nsm, NsmDevice};
use heirloom_keeper::port::{Platform as _, PlatformError, Sealing};
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{ImageMeasurement, Measurement, Register48};
use heirloom_testkit::tee::nitro::{MODULE, Question, understand, with_user_data};
use minicbor::Encoder;

use heirloom_testkit::tee::fuse::skipped;

const DATA: ReportData = ReportData::new([0xa5; 64]);

/// What the module does.
#[derive(Clone)]
struct Module {
    major: u16,
    digest: &'static str,
    registers: [[u8; 48]; 3],
    /// A recorded document.
    document: Vec<u8>,
    /// Takes the place of every answer to a question of this name.
    instead: Option<(&'static str, Vec<u8>)>,
    random: Arc<Mutex<u8>>,
}

impl Module {
    fn new() -> Option<Self> {
        let found = heirloom_testkit::vectors::find("tee/nitro/nitro_attest_fixture.cose");
        if found.is_none() {
            skipped("tee/nitro/nitro_attest_fixture.cose is not here");
        }
        let document = std::fs::read(found?).unwrap();
        let recorded = Document::parse(&document).unwrap();
        let register = |index: u8| *recorded.registers()[&index].as_bytes();
        let registers = [register(0), register(1), register(2)];
        let random = Arc::default();
        Some(Self { major: 1, digest: "SHA384", registers, document, instead: None, random })
    }

    fn open(&self) -> Result<Nsm, PlatformError> {
        Nsm::open(Box::new(self.clone()))
    }

    fn answering(&self, question: &'static str, answer: Vec<u8>) -> Self {
        Self { instead: Some((question, answer)), ..self.clone() }
    }
}

impl NsmDevice for Module {
    fn transact(&self, request: &[u8]) -> Result<Vec<u8>, PlatformError> {
        let Question { name, index, user_data } = understand(request);
        if let Some((question, answer)) = &self.instead
            && *question == name
        {
            return Ok(answer.clone());
        }
        let mut answer = Vec::new();
        let mut e = Encoder::new(&mut answer);
        e.map(1).unwrap().str(&name).unwrap();
        match name.as_str() {
            "DescribeNSM" => {
                e.map(7).unwrap();
                e.str("version_major").unwrap().u16(self.major).unwrap();
                e.str("version_minor").unwrap().u16(0).unwrap();
                e.str("version_patch").unwrap().u16(0).unwrap();
                e.str("module_id").unwrap().str(MODULE).unwrap();
                e.str("max_pcrs").unwrap().u16(32).unwrap();
                e.str("locked_pcrs").unwrap().array(2).unwrap().u8(0).unwrap().u8(1).unwrap();
                e.str("digest").unwrap().str(self.digest).unwrap();
            }
            "DescribePCR" => {
                e.map(2).unwrap().str("lock").unwrap().bool(true).unwrap();
                e.str("data").unwrap().bytes(&self.registers[usize::from(index)]).unwrap();
            }
            "Attestation" => {
                let document = with_user_data(&self.document, &user_data);
                e.map(1).unwrap().str("document").unwrap().bytes(&document).unwrap();
            }
            _ => {
                let mut next = self.random.lock().unwrap();
                *next += 1;
                e.map(1).unwrap().str("random").unwrap().bytes(&[*next; 256]).unwrap();
            }
        }
        Ok(answer)
    }
}

#[test]
fn an_enclave_knows_who_it_is() {
    let Some(module) = Module::new() else { return };
    let nsm = module.open().unwrap();
    assert_eq!(nsm.description().module_id, MODULE);
    let identity = nsm.identity().unwrap();
    let image = ImageMeasurement::of(&module.registers.map(Register48::new));
    assert_eq!(identity.measurement, Measurement::Nitro(image));
    assert_eq!(identity.platform, PlatformId::of_module("i-0bee92034f3d60691"));
    assert!(!identity.debug);
    for index in 0..3 {
        let mut debug = module.clone();
        debug.registers[index] = [0; 48];
        assert!(debug.open().unwrap().identity().unwrap().debug, "register {index}");
    }
}

#[test]
fn evidence_is_a_document_with_the_report_data() {
    let Some(module) = Module::new() else { return };
    let Evidence::Nitro(document) = module.open().unwrap().evidence(&DATA).unwrap() else {
        panic!("Nitro")
    };
    let parsed = Document::parse(&document).unwrap();
    assert_eq!(parsed.user_data(), Some(DATA.as_bytes().as_slice()));
    assert_eq!((parsed.nonce(), parsed.public_key().is_some()), (None, true));
    assert_eq!(parsed.module_id(), MODULE);
}

#[test]
fn documents_that_answer_another_question_are_refused() {
    let Some(module) = Module::new() else { return };
    for document in [module.document.clone(), with_user_data(&module.document, &[0xa5; 63])] {
        let mut answer = Vec::new();
        let mut e = Encoder::new(&mut answer);
        e.map(1).unwrap().str("Attestation").unwrap().map(1).unwrap();
        e.str("document").unwrap().bytes(&document).unwrap();
        let nsm = module.answering("Attestation", answer).open().unwrap();
        let found = nsm.evidence(&DATA);
        assert!(matches!(found, Err(PlatformError::Corrupt(_))), "{found:?}");
    }
}

#[test]
fn other_versions_and_digests_are_refused() {
    let Some(module) = Module::new() else { return };
    let version = Module { major: 2, ..module.clone() }.open().err();
    assert!(matches!(version, Some(PlatformError::Unsupported(_))), "{version:?}");
    let digest = Module { digest: "SHA256", ..module }.open().err();
    assert!(matches!(digest, Some(PlatformError::Unsupported(_))), "{digest:?}");
}

#[test]
fn refusals_and_failures_of_the_module_differ() {
    let Some(module) = Module::new() else { return };
    let refuse = |code: &str| {
        let mut answer = Vec::new();
        Encoder::new(&mut answer).map(1).unwrap().str("Error").unwrap().str(code).unwrap();
        module.answering("DescribePCR", answer).open().unwrap().identity().err()
    };
    let failed = refuse("InternalError");
    assert!(matches!(failed, Some(PlatformError::Unreachable(_))), "{failed:?}");
    let refused = refuse("InvalidIndex");
    assert!(matches!(refused, Some(PlatformError::Corrupt(_))), "{refused:?}");
}

#[test]
fn answers_that_are_none_are_corrupt() {
    let Some(module) = Module::new() else { return };
    for answer in [Vec::new(), vec![0; 13 * 1024], b"\xa1\x69GetRandom\xa1\x66random\x40".to_vec()]
    {
        let nsm = module.answering("DescribePCR", answer.clone()).open().unwrap();
        let found = nsm.identity().err();
        assert!(matches!(found, Some(PlatformError::Corrupt(_))), "{found:?}");
        let found = module.answering("GetRandom", answer).open().unwrap().random(&mut [0; 8]).err();
        assert!(matches!(found, Some(PlatformError::Corrupt(_))), "{found:?}");
    }
    let short = b"\xa1\x6bDescribePCR\xa2\x64lock\xf5\x64data\x42\x01\x02".to_vec();
    let found = module.answering("DescribePCR", short).open().unwrap().identity().err();
    assert!(matches!(found, Some(PlatformError::Corrupt(_))), "{found:?}");
}

#[test]
fn an_enclave_seals_nothing_and_has_no_local_reports() {
    let Some(module) = Module::new() else { return };
    let nsm = module.open().unwrap();
    assert_eq!(nsm.sealing(), Ok(Sealing::None));
    let unsupported = |error| matches!(error, Some(PlatformError::Unsupported(_)));
    assert!(unsupported(nsm.seal_recipe(Nonce::new([9; 32])).err()));
    assert!(unsupported(nsm.report_target().err()));
}

#[test]
fn random_bytes_are_the_systems_and_the_modules() {
    let Some(module) = Module::new() else { return };
    let nsm = module.open().unwrap();
    let (mut one, mut other) = (vec![0; 1000], vec![0; 1000]);
    nsm.random(&mut one).unwrap();
    assert_eq!(*module.random.lock().unwrap(), 4, "256 bytes at a time");
    nsm.random(&mut other).unwrap();
    assert_ne!(one, other);
}

#[test]
fn a_device_that_is_not_there_is_unreachable() {
    let found = SecurityModule::open("/nonexistent/nsm".as_ref()).err();
    assert!(matches!(found, Some(PlatformError::Unreachable(_))), "{found:?}");
}
