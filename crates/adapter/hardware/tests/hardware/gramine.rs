//! SGX by Gramine's files.

use heirloom_emulated::cpu::{Cpu, FuseKeys};
use heirloom_emulated::provisioning::FIRST_CPU_SVN;
use heirloom_hardware::gramine::Gramine;
use heirloom_keeper::port::{Platform as _, PlatformError, Sealing};
use heirloom_launcher::report::{LaunchMode, Report, Secs};
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, LocalReport, ReportData};
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::sealed::{GramineSealRecipe, SealPolicy, SealRecipe, SgxSealRecipe};

use heirloom_testkit::tee::fuse::Mounted;
use heirloom_testkit::tee::gramine_files::{Fault, GramineFiles, SECS};

const DATA: ReportData = ReportData::new([0xa5; 64]);
const KEY_ID: Nonce = Nonce::new([9; 32]);
const KEY: &str = "keys/_sgx_mrenclave";

fn mounted() -> Option<(Mounted<GramineFiles>, Gramine)> {
    let files = Mounted::new(GramineFiles::new())?;
    let gramine = Gramine::open(files.root()).unwrap();
    Some((files, gramine))
}

fn gramine_recipe(recipe: SealRecipe) -> GramineSealRecipe {
    let SealRecipe::Gramine(recipe) = recipe else { panic!("it is Gramine's") };
    recipe
}

#[test]
fn an_enclave_knows_who_it_is_from_its_own_report() {
    let Some((files, gramine)) = mounted() else { return };
    let identity = gramine.identity().unwrap();
    assert_eq!(identity.measurement, Measurement::Sgx(SECS.measurement));
    assert_eq!(identity.signer, SECS.signer);
    assert_eq!((identity.product_id, identity.isv_svn), (SECS.product_id, SECS.isv_svn));
    assert_eq!(identity.cpu_svn, FIRST_CPU_SVN);
    assert_eq!(identity.platform, files.world(|world| world.platform));
    assert!(!identity.debug);
    files.world(|world| world.secs.attributes = LaunchMode::Debug.attributes());
    assert!(gramine.identity().unwrap().debug);
}

#[test]
fn evidence_is_a_quote_with_the_report_data() {
    let Some((_files, gramine)) = mounted() else { return };
    for data in [DATA, ReportData::new([0; 64])] {
        let Evidence::SgxDcap(quote) = gramine.evidence(&data).unwrap() else { panic!("SGX") };
        assert_eq!(quote[48 + 320..48 + 384], *data.as_bytes());
    }
}

#[test]
fn what_was_sealed_opens_while_nothing_changes() {
    let Some((files, gramine)) = mounted() else { return };
    assert_eq!(gramine.sealing(), Ok(Sealing::CurrentOnly));
    let recipe = gramine.seal_recipe(KEY_ID).unwrap();
    let key = gramine.seal_key(&recipe).unwrap();
    let again = Gramine::open(files.root()).unwrap();
    assert!(key.same_as(&again.seal_key(&recipe).unwrap()), "after a restart");
    let other = gramine.seal_recipe(Nonce::new([8; 32])).unwrap();
    assert!(!key.same_as(&gramine.seal_key(&other).unwrap()), "another file");
    files.world(|world| world.secs.measurement = MrEnclave::new([6; 32]));
    assert!(!key.same_as(&gramine.seal_key(&recipe).unwrap()), "other code");
    let Some(elsewhere) = Mounted::new(GramineFiles::on(&[3; 32])) else { return };
    let elsewhere = Gramine::open(elsewhere.root()).unwrap();
    assert!(!key.same_as(&elsewhere.seal_key(&recipe).unwrap()), "another machine");
}

#[test]
fn a_microcode_update_changes_the_key_and_the_old_one_is_refused_unasked() {
    let Some((files, gramine)) = mounted() else { return };
    let recipe = gramine.seal_recipe(KEY_ID).unwrap();
    let before = gramine.seal_key(&recipe).unwrap();
    let lent = files.world(|world| world.seal_key());
    let now = files.world(|world| {
        let now = world.update_microcode();
        assert_ne!(world.seal_key(), lent, "the file has another key, and does not say so");
        world.reads.clear();
        now
    });
    let refused = gramine.seal_key(&recipe).err().unwrap();
    let PlatformError::OtherCircumstances(why) = &refused else { panic!("{refused}") };
    for said in [FIRST_CPU_SVN.to_string(), now.to_string(), "another holder".to_owned()] {
        assert!(why.contains(&said), "{why}");
    }
    assert!(files.world(|world| !world.reads.iter().any(|path| path == KEY)), "asked all the same");
    let current = gramine.seal_recipe(KEY_ID).unwrap();
    assert!(!before.same_as(&gramine.seal_key(&current).unwrap()));
}

/// The emulated CPU itself gives the key of the recorded versions: it is Gramine that cannot ask.
#[test]
fn the_cpu_below_still_has_the_key_that_gramine_cannot_ask_for() {
    let mut cpu = Cpu::new(FuseKeys::from_seed(&[2; 32]), FIRST_CPU_SVN);
    let recipe = SgxSealRecipe {
        policy: SealPolicy::Measurement,
        isv_svn: SECS.isv_svn,
        cpu_svn: FIRST_CPU_SVN,
        flags_mask: u64::MAX,
        xfrm_mask: 0,
        misc_mask: u32::MAX,
        key_id: KEY_ID,
    };
    let before = cpu.seal_key(&SECS, &recipe).unwrap();
    cpu.update_microcode().unwrap();
    assert!(before.same_as(&cpu.seal_key(&SECS, &recipe).unwrap()));
}

#[test]
fn each_security_version_of_a_recipe_is_compared() {
    let Some((files, gramine)) = mounted() else { return };
    let good = gramine_recipe(gramine.seal_recipe(KEY_ID).unwrap());
    assert!(gramine.seal_key(&SealRecipe::Gramine(good)).is_ok());
    let mut cpu_svn = *good.cpu_svn.as_bytes();
    cpu_svn[15] ^= 1;
    let cpu_svn = heirloom_model::sealed::CpuSvn::new(cpu_svn);
    for other in [
        GramineSealRecipe { isv_svn: good.isv_svn + 1, ..good },
        GramineSealRecipe { isv_svn: good.isv_svn - 1, ..good },
        GramineSealRecipe { cpu_svn, ..good },
    ] {
        let refused = gramine.seal_key(&SealRecipe::Gramine(other)).err();
        assert!(matches!(refused, Some(PlatformError::OtherCircumstances(_))), "{refused:?}");
    }
    files.world(|world| world.secs.isv_svn += 1);
    assert!(gramine.seal_key(&SealRecipe::Gramine(good)).is_err());
}

#[test]
fn recipes_of_other_platforms_are_refused() {
    let Some((_files, gramine)) = mounted() else { return };
    let recipe = SealRecipe::Tpm(heirloom_model::sealed::TpmSealRecipe {
        secret: 0,
        isv_svn: 0,
        key_id: KEY_ID,
    });
    assert!(matches!(gramine.seal_key(&recipe), Err(PlatformError::Unsupported(_))));
}

#[test]
fn reports_can_be_made_for_others_and_not_checked() {
    let Some((_files, gramine)) = mounted() else { return };
    let listener = Secs { measurement: MrEnclave::new([6; 32]), ..SECS };
    let report = gramine.report(&listener.target_info().to_bytes(), &DATA).unwrap();
    let cpu = Cpu::new(FuseKeys::from_seed(&[2; 32]), FIRST_CPU_SVN);
    let verified = cpu.verify_report(&listener, &Report::from_bytes(report.as_bytes())).unwrap();
    assert_eq!(verified.body().report_data(), DATA);
    let unsupported = |error| matches!(error, Some(PlatformError::Unsupported(_)));
    assert!(unsupported(gramine.report_target().err()));
    assert!(unsupported(gramine.verify_report(&LocalReport::new([0; 432])).err()));
    assert!(unsupported(gramine.counter(&heirloom_model::digest::CounterName::new([0; 32])).err()));
}

#[test]
fn other_kinds_of_attestation_are_refused_by_name() {
    let Some(files) = Mounted::new(GramineFiles::new()) else { return };
    for kind in ["none", "epid", "dcap2", ""] {
        let content = Fault::Content(kind.as_bytes().to_vec());
        files.world(|world| drop(world.faults.insert("attestation_type", content)));
        let refused = Gramine::open(files.root()).err();
        assert!(matches!(refused, Some(PlatformError::Unsupported(_))), "{kind}: {refused:?}");
    }
    let content = Fault::Content(b"dcap\n".to_vec());
    files.world(|world| drop(world.faults.insert("attestation_type", content)));
    assert!(Gramine::open(files.root()).is_ok());
}

#[test]
fn answers_of_a_wrong_size_are_corrupt() {
    let Some((files, gramine)) = mounted() else { return };
    let recipe = gramine.seal_recipe(KEY_ID).unwrap();
    for (path, size) in [
        ("my_target_info", 511),
        ("my_target_info", 513),
        ("report", 431),
        ("report", 433),
        (KEY, 0),
        (KEY, 15),
        (KEY, 17),
    ] {
        let fault = Fault::Content(vec![1; size]);
        files.world(|world| drop(world.faults.insert(path, fault)));
        let found = gramine.seal_key(&recipe).err();
        assert!(matches!(found, Some(PlatformError::Corrupt(_))), "{path} {size}: {found:?}");
        files.world(|world| world.faults.clear());
    }
    for size in [0, 100, 33 * 1024] {
        let fault = Fault::Content(vec![1; size]);
        files.world(|world| drop(world.faults.insert("quote", fault)));
        let found = gramine.evidence(&DATA).err();
        assert!(matches!(found, Some(PlatformError::Corrupt(_))), "quote {size}: {found:?}");
    }
}

#[test]
fn files_that_are_not_there_or_not_for_us_are_unreachable() {
    let Some((files, gramine)) = mounted() else { return };
    let recipe = gramine.seal_recipe(KEY_ID).unwrap();
    for path in ["my_target_info", "target_info", "user_report_data", "report", KEY] {
        for fault in [Fault::Missing, Fault::Denied] {
            files.world(|world| drop(world.faults.insert(path, fault.clone())));
            let found = gramine.seal_key(&recipe).err();
            let Some(PlatformError::Unreachable(why)) = &found else { panic!("{path}: {found:?}") };
            assert!(why.contains(path), "{why}");
            files.world(|world| world.faults.clear());
        }
    }
}

#[test]
fn a_write_that_was_not_taken_whole_is_noticed() {
    let Some((files, gramine)) = mounted() else { return };
    for path in ["target_info", "user_report_data"] {
        files.world(|world| drop(world.faults.insert(path, Fault::Short(32))));
        let found = gramine.identity().err();
        assert!(matches!(found, Some(PlatformError::Corrupt(_))), "{path}: {found:?}");
        files.world(|world| world.faults.clear());
    }
}

#[test]
fn answers_to_somebody_elses_question_are_refused() {
    let Some((files, gramine)) = mounted() else { return };
    files.world(|world| drop(world.faults.insert("quote", Fault::Race)));
    let found = gramine.evidence(&DATA).err();
    assert!(matches!(found, Some(PlatformError::Corrupt(_))), "{found:?}");
    files.world(|world| drop(world.faults.insert("report", Fault::Race)));
    let found = gramine.seal_recipe(KEY_ID).err();
    assert!(matches!(found, Some(PlatformError::Corrupt(_))), "{found:?}");
}

#[test]
fn random_bytes_are_the_systems() {
    let Some((_files, gramine)) = mounted() else { return };
    let (mut one, mut other) = ([0; 64], [0; 64]);
    gramine.random(&mut one).unwrap();
    gramine.random(&mut other).unwrap();
    assert_ne!(one, other);
}
