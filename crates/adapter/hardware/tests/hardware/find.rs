//! Which TEE is here, and that nothing falls back.

use heirloom_hardware::find::{FindError, Interface, Places, State, find, open};
use heirloom_hardware::tee::{NamedError, Tee, named};
use heirloom_keeper::port::PlatformError;
use heirloom_model::measurement::TeeKind;

use heirloom_testkit::tee::fuse::Mounted;
use heirloom_testkit::tee::gramine_files::{Fault, GramineFiles};
use heirloom_testkit::tee::tsm_files::TsmFiles;
use tempfile::TempDir;

/// Places where nothing is.
fn nowhere(folder: &TempDir) -> Places {
    let at = |name: &str| folder.path().join(name);
    Places { gramine: at("gramine"), nsm: at("nsm"), tsm: at("tsm"), sev_guest: at("sev-guest") }
}

#[test]
fn nothing_is_found_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let found = find(&nowhere(&folder), &[]);
    let order: Vec<_> = found.0.iter().map(|sighting| sighting.interface).collect();
    assert_eq!(order, Interface::ALL);
    assert!(found.0.iter().all(|sighting| matches!(sighting.state, State::Absent)));
    let Err(FindError::Absent(places)) = found.only() else { panic!("there is nothing") };
    assert_eq!(places.len(), 3);
    let error = open(Interface::Tsm, &nowhere(&folder), &[]).err();
    assert!(matches!(error, Some(PlatformError::Unreachable(_))), "{error:?}");
}

#[test]
fn the_only_one_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let Some(files) = Mounted::new(GramineFiles::new()) else { return };
    let places = Places { gramine: files.root().to_owned(), ..nowhere(&folder) };
    let (interface, platform) = find(&places, &[]).only().unwrap();
    assert_eq!(interface, Interface::Gramine);
    assert_eq!(platform.identity(), open(interface, &places, &[]).unwrap().identity());
}

#[test]
fn what_is_there_and_does_not_work_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let Some(files) = Mounted::new(GramineFiles::new()) else { return };
    // A file that is no device.
    let places = Places { gramine: files.root().to_owned(), ..nowhere(&folder) };
    std::fs::write(&places.nsm, b"").unwrap();
    let Err(FindError::Unusable { interface, place, .. }) = find(&places, &[]).only() else {
        panic!("the security module does not work")
    };
    assert_eq!((interface, place), (Interface::Nsm, places.nsm.clone()));
    std::fs::remove_file(&places.nsm).unwrap();
    // A directory in which no question can be asked.
    std::fs::create_dir(&places.tsm).unwrap();
    assert!(matches!(
        find(&places, &[]).only(),
        Err(FindError::Unusable { interface: Interface::Tsm, .. })
    ));
    std::fs::remove_dir(&places.tsm).unwrap();
    files.world(|world| {
        world.faults.insert("attestation_type", Fault::Content(b"none".to_vec()));
    });
    assert!(matches!(
        find(&places, &[]).only(),
        Err(FindError::Unusable { interface: Interface::Gramine, .. })
    ));
}

#[test]
fn of_two_none_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let Some(gramine) = Mounted::new(GramineFiles::new()) else { return };
    let Some(quote) = heirloom_testkit::vectors::find("tee/tdx/tdx_quote_v4.bin") else { return };
    let quote = std::fs::read(quote).unwrap();
    let Some(tsm) = Mounted::new(TsmFiles::tdx(&quote, 0)) else { return };
    let places = Places {
        gramine: gramine.root().to_owned(),
        tsm: tsm.root().to_owned(),
        ..nowhere(&folder)
    };
    let (first, second) = (Interface::Gramine, Interface::Tsm);
    assert_eq!(find(&places, &[]).only().err(), Some(FindError::Several { first, second }));
    // Whoever says which one gets it.
    assert!(open(Interface::Tsm, &places, &[]).unwrap().identity().is_ok());
}

#[test]
fn what_is_named_must_be_what_is_here_and_the_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |tee, places: &Places| named(tee, places, &[]).err().unwrap();
    let nowhere = nowhere(&folder);
    for tee in Tee::ALL {
        let error = refused(tee, &nowhere);
        assert!(matches!(error, NamedError::Find { error: FindError::Absent(_), .. }), "{error}");
    }
    let Some(gramine) = Mounted::new(GramineFiles::new()) else { return };
    let in_gramine = Places { gramine: gramine.root().to_owned(), ..nowhere.clone() };
    assert!(named(Tee::Gramine, &in_gramine, &[]).is_ok());
    for other in [Tee::Tdx, Tee::Snp, Tee::Nitro] {
        let (interface, kind) = (Interface::Gramine, TeeKind::Sgx);
        let expected = NamedError::Another { named: other, interface, kind };
        assert_eq!(refused(other, &in_gramine), expected);
    }
    let Some(quote) = heirloom_testkit::vectors::find("tee/tdx/tdx_quote_v4.bin") else { return };
    let quote = std::fs::read(quote).unwrap();
    let Some(tsm) = Mounted::new(TsmFiles::tdx(&quote, 0)) else { return };
    let in_domain = Places { tsm: tsm.root().to_owned(), ..nowhere.clone() };
    assert!(named(Tee::Tdx, &in_domain, &[]).is_ok());
    // The interface is the same, and the machine is not.
    let (interface, kind) = (Interface::Tsm, TeeKind::Tdx);
    let expected = NamedError::Another { named: Tee::Snp, interface, kind };
    assert_eq!(refused(Tee::Snp, &in_domain), expected);
    // What is named is here, and something else is, too.
    let in_both = Places { tsm: tsm.root().to_owned(), ..in_gramine };
    for tee in [Tee::Gramine, Tee::Tdx] {
        let error = refused(tee, &in_both);
        assert!(
            matches!(error, NamedError::Find { error: FindError::Several { .. }, .. }),
            "{error}"
        );
    }
}
