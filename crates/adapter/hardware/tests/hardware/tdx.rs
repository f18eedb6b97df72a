//! TDX: recorded quotes behind the kernel's files.

use heirloom_hardware::device::SevGuest;
use heirloom_hardware::tsm::Tsm;
use heirloom_keeper::port::{Platform as _, PlatformError, Sealing};
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{Measurement, Register48, TdMeasurement, TeeKind};

use heirloom_testkit::tee::fuse::{Mounted, skipped};
use heirloom_testkit::tee::tsm_files::{Trouble, TsmFiles};

const DATA: ReportData = ReportData::new([0xa5; 64]);

pub(crate) fn vector(name: &str) -> Option<Vec<u8>> {
    let found = heirloom_testkit::vectors::find(&format!("tee/tdx/{name}"));
    if found.is_none() {
        skipped(&format!("tee/tdx/{name} is not here"));
    }
    std::fs::read(found?).ok()
}

fn domain(padded: usize) -> Option<(Vec<u8>, Mounted<TsmFiles>, Tsm)> {
    let quote = vector("tdx_quote_v4.bin")?;
    let files = Mounted::new(TsmFiles::tdx(&quote, padded))?;
    // There is no such device here: a trust domain must not ask it.
    let device = Box::new(SevGuest::at("/nonexistent/sev-guest".as_ref()));
    let tsm = Tsm::open(files.root(), Vec::new(), device).unwrap();
    Some((quote, files, tsm))
}

#[test]
fn evidence_is_the_quote_without_its_padding() {
    for padded in [0, 8000] {
        let Some((quote, files, tsm)) = domain(padded) else { return };
        assert_eq!(tsm.kind(), TeeKind::Tdx);
        let recorded = ReportData::new(quote[48 + 520..48 + 584].try_into().unwrap());
        let trimmed = heirloom_attest::decode::unpadded_quote(&quote).unwrap().to_vec();
        assert_eq!(tsm.evidence(&recorded), Ok(Evidence::TdxDcap(trimmed)));
        let Evidence::TdxDcap(other) = tsm.evidence(&DATA).unwrap() else { panic!("TDX") };
        assert_eq!(other[48 + 520..48 + 584], *DATA.as_bytes());
        assert_eq!(files.world(|world| world.open_questions()), 0);
    }
}

#[test]
fn a_domain_knows_who_it_is() {
    let Some((quote, files, tsm)) = domain(8000) else { return };
    let register = |at: usize| {
        let at = 48 + at;
        Register48::new(quote[at..at + 48].try_into().unwrap())
    };
    let registers = [136, 328, 376, 424, 472, 184, 232, 280].map(register);
    let identity = tsm.identity().unwrap();
    assert_eq!(identity.measurement, Measurement::Tdx(TdMeasurement::of(&registers)));
    assert_ne!(identity.platform, PlatformId::new([0; 32]));
    assert_eq!(identity.cpu_svn.as_bytes()[..], quote[48..64]);
    assert!(!identity.debug);
    files.world(|world| world.blob[48 + 120] |= 1);
    assert!(tsm.identity().unwrap().debug);
}

#[test]
fn a_domain_seals_nothing_and_says_what_to_do() {
    let Some((_, _files, tsm)) = domain(0) else { return };
    assert_eq!(tsm.sealing(), Ok(Sealing::None));
    let Err(PlatformError::Unsupported(why)) = tsm.seal_recipe(Nonce::new([9; 32])) else {
        panic!("it cannot seal")
    };
    assert!(why.contains("another holder"), "{why}");
}

#[test]
fn quotes_that_are_none_are_corrupt() {
    let Some((_, files, tsm)) = domain(8000) else { return };
    for trouble in [Trouble::Short, Trouble::Flood, Trouble::OtherReport, Trouble::WriteBefore] {
        files.world(|world| world.trouble = Some(trouble));
        let found = tsm.evidence(&DATA);
        assert!(matches!(found, Err(PlatformError::Corrupt(_))), "{trouble:?}: {found:?}");
    }
    files.world(|world| {
        world.trouble = None;
        let last = world.blob.len() - 1;
        world.blob[last] = 1;
    });
    assert!(matches!(tsm.evidence(&DATA), Err(PlatformError::Corrupt(_))), "padding with content");
}

#[test]
fn other_providers_are_not_known() {
    let Some((_, files, _)) = domain(0) else { return };
    for provider in ["arm_cca_guest", "", "tdx_guest2"] {
        files.world(|world| provider.clone_into(&mut world.provider));
        let device = Box::new(SevGuest::at("/nonexistent/sev-guest".as_ref()));
        let found = Tsm::open(files.root(), Vec::new(), device).err();
        assert!(matches!(found, Some(PlatformError::Corrupt(_))), "{provider}: {found:?}");
    }
}

#[test]
fn a_machine_that_changes_its_provider_is_noticed() {
    let Some((_, files, tsm)) = domain(0) else { return };
    files.world(|world| "sev_guest".clone_into(&mut world.provider));
    assert!(matches!(tsm.evidence(&DATA), Err(PlatformError::Corrupt(_))));
}
