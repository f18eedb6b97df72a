//! Reports between enclaves of one CPU. Each attack changes exactly one thing.

use heirloom_attest::error::AppraiseError;
use heirloom_attest::local::{LocalAttestation, LocalError, appraise_local};
use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_emulated::provisioning::{DevelopmentRoot, FIRST_CPU_SVN};
use heirloom_keeper::port::{Platform as _, PlatformError};
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::evidence::{LocalReport, ReportData};
use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner, TeeKind};

/// Where the fields of a report stand (SDM volume 3D, 37.15).
const FLAGS: usize = 48;
const MEASUREMENT: usize = 64;
const SIGNER: usize = 128;

const QUESTION: ReportData = ReportData::new([0x71; 64]);

fn secs() -> Secs {
    Secs {
        measurement: MrEnclave::new([0x11; 32]),
        signer: MrSigner::new([0x22; 32]),
        product_id: 7,
        isv_svn: 300,
        attributes: LaunchMode::Production.attributes(),
        misc_select: 0,
    }
}

fn launch(host: u8, secs: Secs) -> EmulatedEnclave {
    let root = DevelopmentRoot::from_seed(&[1; 32], Time(0));
    let host = EmulatedHost::from_seed(&root, &[host; 32]);
    host.launch(secs, Box::new(|bytes| bytes.fill(0)))
}

/// The one that is addressed.
fn listener() -> EmulatedEnclave {
    launch(1, Secs { measurement: MrEnclave::new([0x33; 32]), ..secs() })
}

fn said(speaker: &EmulatedEnclave, question: &ReportData) -> LocalReport {
    speaker.report(&listener().report_target().unwrap(), question).unwrap()
}

fn appraise(report: &LocalReport) -> Result<LocalAttestation, LocalError<PlatformError>> {
    appraise_local(TeeKind::Sgx, report, &QUESTION, |report| listener().verify_report(report))
}

fn refusal<E: std::fmt::Debug>(found: Result<LocalAttestation, LocalError<E>>) -> AppraiseError {
    match found {
        Err(LocalError::Denied(reason)) => reason,
        other => panic!("not denied: {other:?}"),
    }
}

#[test]
fn a_report_says_which_enclave_of_this_cpu_answered() {
    let found = appraise(&said(&launch(1, secs()), &QUESTION)).unwrap();
    assert_eq!(found.measurement(), Measurement::Sgx(MrEnclave::new([0x11; 32])));
    assert_eq!(found.signer(), MrSigner::new([0x22; 32]));
    assert_eq!(found.product_id(), 7);
    assert_eq!(found.security_version(), SecurityVersion(300));
    assert_eq!(found.cpu_svn(), FIRST_CPU_SVN);
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let mut other = *QUESTION.as_bytes();
    other[63] ^= 1;
    let other = ReportData::new(other);
    let found = appraise(&said(&launch(1, secs()), &other));
    let (expected, told) = (Box::new(QUESTION), Box::new(other));
    assert_eq!(found, Err(LocalError::ReportDataMismatch { expected, found: told }));
}

#[test]
fn a_report_of_another_cpu_is_not_believed() {
    let refused = Err(LocalError::NotVerified(PlatformError::ReportRefused));
    assert_eq!(appraise(&said(&launch(2, secs()), &QUESTION)), refused);
}

#[test]
fn a_report_for_somebody_else_is_not_believed() {
    let speaker = launch(1, secs());
    let report = speaker.report(&speaker.report_target().unwrap(), &QUESTION).unwrap();
    assert_eq!(appraise(&report), Err(LocalError::NotVerified(PlatformError::ReportRefused)));
}

#[test]
fn a_debug_enclave_is_refused_although_its_report_verifies() {
    let debug = Secs { attributes: LaunchMode::Debug.attributes(), ..secs() };
    let report = said(&launch(1, debug), &QUESTION);
    assert_eq!(listener().verify_report(&report), Ok(()));
    assert_eq!(refusal(appraise(&report)), AppraiseError::DebugEnclave);
}

/// Even for a platform that would verify anything.
#[test]
fn what_no_policy_can_allow_is_refused_before_the_platform_is_asked() {
    let report = said(&launch(1, secs()), &QUESTION);
    let changed = |change: &dyn Fn(&mut [u8; 432])| {
        let mut bytes = *report.as_bytes();
        change(&mut bytes);
        let never = |_: &LocalReport| -> Result<(), PlatformError> { panic!("asked in vain") };
        refusal(appraise_local(TeeKind::Sgx, &LocalReport::new(bytes), &QUESTION, never))
    };
    let flags = |flags: u8| changed(&|bytes| bytes[FLAGS] = flags);
    assert_eq!(flags(0b0111), AppraiseError::DebugEnclave);
    assert_eq!(flags(0b0100), AppraiseError::NotInitialised);
    assert_eq!(flags(0b0001), AppraiseError::Not64Bit);
    assert_eq!(flags(0x15), AppraiseError::PrivilegedEnclave { bits: 0x10 });
    assert_eq!(flags(0x25), AppraiseError::PrivilegedEnclave { bits: 0x20 });
    assert_eq!(flags(0x85), AppraiseError::UnmeasuredConfiguration);
    assert_eq!(flags(0x0d), AppraiseError::UnknownAttributes { bits: 0x08 });
    let zero = |from: usize| changed(&|bytes| bytes[from..from + 32].fill(0));
    assert_eq!(zero(MEASUREMENT), AppraiseError::ZeroMeasurement);
    assert_eq!(zero(SIGNER), AppraiseError::ZeroSigner);
    for reserved in [20, 47, 96, 127, 160, 255, 260, 319] {
        let used = changed(&|bytes| bytes[reserved] = 1);
        assert_eq!(used, AppraiseError::ReservedNotZero, "{reserved}");
    }
}

/// Every byte means something, or nothing may be in it.
#[test]
fn a_changed_byte_is_refused() {
    let report = said(&launch(1, secs()), &QUESTION);
    assert!(appraise(&report).is_ok());
    for at in 0..LocalReport::BYTES {
        let mut bytes = *report.as_bytes();
        bytes[at] ^= 1;
        assert!(appraise(&LocalReport::new(bytes)).is_err(), "byte {at}");
    }
}
