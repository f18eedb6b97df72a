//! Which host opens the machine's secret.

use std::fs;

use heirloom_keeper::port::Platform as _;
use heirloom_launcher::files::FileError;
use heirloom_model::digest::Nonce;
use heirloom_model::secret::Secret;
use heirloom_model::wire;
use heirloom_tpm::limit::APPROVALS_AHEAD_MAX;
use heirloom_tpm::machine::approvals::{APPROVALS, Approvals};
use heirloom_tpm::machine::enrolment;
use heirloom_tpm::machine::error::MachineError;
use heirloom_tpm::machine::setup::{AuthorityKey, Earlier, init, install, request, stage};
use heirloom_tpm::machine::state::{BEGAN, HostApproval, RECORD};

use crate::world::{Code, World, secs};

/// The seal key of the tests' code.
fn key(world: &World) -> Secret<16> {
    let machine = std::sync::Arc::new(world.open().unwrap());
    let code = Code { machine, secs: secs() };
    let recipe = code.seal_recipe(Nonce::new([7; 32])).unwrap();
    code.seal_key(&recipe).unwrap()
}

#[test]
fn an_approved_update_of_the_host_opens_the_same_secret_and_no_other_does() {
    let Some(mut world) = World::new() else { return };
    assert!(matches!(world.refusal(), MachineError::NotApproved));
    let first = world.approval(Earlier::Hold);
    install(&world.state(), &world.tpm(), &first).unwrap();
    let before = key(&world);

    // Another kernel, say.
    world.swtpm.lose_power();
    world.tpm().extend(8, &[9; 32]).unwrap();
    let record = fs::read(world.state().join(RECORD)).unwrap();
    assert!(matches!(world.refusal(), MachineError::HostChanged { registers } if registers == [8]));
    assert_eq!(fs::read(world.state().join(RECORD)).unwrap(), record, "nothing is overwritten");

    let second = world.approval(Earlier::Hold);
    assert!(
        stage(&world.state(), &world.tpm(), &second).is_ok(),
        "the update is approved before it is made"
    );
    assert!(key(&world).same_as(&before), "the same secret");

    // Back to the first host: its approval is still there and holds as well.
    world.swtpm.lose_power();
    assert!(key(&world).same_as(&before));
}

/// The approval of the next host is put there while this one runs, which may start again before.
#[test]
fn an_approval_for_the_next_host_takes_nothing_from_this_one_until_that_one_has_started() {
    let Some(mut world) = World::approved() else { return };
    let before = key(&world);
    world.swtpm.lose_power();
    world.tpm().extend(8, &[9; 32]).unwrap();
    let next = world.approval(Earlier::Retired);
    world.swtpm.lose_power();
    stage(&world.state(), &world.tpm(), &next).unwrap();
    assert!(key(&world).same_as(&before), "this host starts again");

    world.swtpm.lose_power();
    world.tpm().extend(8, &[9; 32]).unwrap();
    assert!(key(&world).same_as(&before), "the next host");
    assert!(key(&world).same_as(&before), "and again");

    // That start retired the host before.
    world.swtpm.lose_power();
    assert!(matches!(world.refusal(), MachineError::HostChanged { registers } if registers == [8]));
}

/// Only that it is another host is a reason to say so: what is wrong with the staged approval itself
/// is said as it is, and loses neither approval.
#[test]
fn a_staged_approval_that_somebody_changed_is_named_and_takes_no_place() {
    let Some(mut world) = World::approved() else { return };
    world.swtpm.lose_power();
    world.tpm().extend(8, &[9; 32]).unwrap();
    let next = world.approval(Earlier::Hold);
    stage(&world.state(), &world.tpm(), &next).unwrap();
    let good = world.approvals();
    let forged = HostApproval { signature: vec![1; 64], ..next.clone() };
    let changed = Approvals { staged: Some(forged), ..good.clone() };
    fs::write(world.state().join(APPROVALS), wire::encode(&changed)).unwrap();
    assert!(matches!(world.refusal(), MachineError::ApprovalForged));
    assert_eq!(world.approvals(), changed, "nothing is overwritten");
    fs::write(world.state().join(APPROVALS), wire::encode(&good)).unwrap();
    assert!(world.open().is_ok());
    let exchanged = Approvals { current: good.staged, staged: good.current };
    assert_eq!(world.approvals(), exchanged, "they have changed places");
}

/// Staging and enrolling are done beside a machine that is served: they change nothing in the TPM,
/// and no approval takes another one's place.
#[test]
fn who_stages_or_enrols_beside_a_served_machine_takes_nothing_from_it() {
    let Some(mut world) = World::approved() else { return };
    let stands = request(&world.state(), &world.tpm()).unwrap().counter;
    world.swtpm.lose_power();
    world.tpm().extend(8, &[9; 32]).unwrap();
    let next = world.approval(Earlier::Retired);
    let (state, tpm) = (world.state(), world.tpm());
    {
        let _served = world.lock();
        stage(&state, &tpm, &next).unwrap();
        let staged = world.approvals();
        assert_eq!(staged.staged.as_ref(), Some(&next));
        // This host is the next one, so that only the staged approval opens the secret.
        enrolment::request(&state, &tpm).unwrap();
        assert_eq!(world.approvals(), staged);
        assert_eq!(request(&state, &tpm).unwrap().counter, stands, "nothing is retired");
        let authority = world.authority.authority().unwrap();
        for refused in [
            install(&state, &tpm, &next),
            init(&state, &tpm, "host-1".parse().unwrap(), &authority).map(drop),
        ] {
            assert!(matches!(refused, Err(MachineError::InUse { .. })), "{refused:?}");
        }
    }
    drop(tpm);
    assert!(world.open().is_ok());
    assert_eq!(world.approvals().current, Some(next));
    assert_eq!(request(&state, &world.tpm()).unwrap().counter, stands + 1);
}

#[test]
fn one_tpm_carries_one_machine_and_a_lost_record_is_no_new_one() {
    let Some(world) = World::approved() else { return };
    let authority = world.authority.authority().unwrap();
    let host = || "host-1".parse().unwrap();
    let elsewhere = world.state().with_file_name("elsewhere");
    let second = init(&elsewhere, &world.tpm(), host(), &authority);
    assert!(matches!(second, Err(MachineError::TpmTaken { .. })), "{second:?}");
    assert!(world.open().is_ok(), "the first machine is as it was");

    let record = world.state().join(RECORD);
    let kept = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    let again = init(&world.state(), &world.tpm(), host(), &authority);
    assert!(matches!(again, Err(MachineError::TpmTaken { .. })), "{again:?}");
    fs::write(&record, kept).unwrap();
    assert!(world.open().is_ok());
}

/// Whatever a crash left of the making of a machine, the making can be repeated.
#[test]
fn a_machine_that_was_being_made_is_made_by_the_same_command() {
    let Some(world) = World::new() else { return };
    let authority = world.authority.authority().unwrap();
    // As a crash before the record leaves it.
    fs::remove_file(world.state().join(RECORD)).unwrap();
    fs::write(world.state().join(BEGAN), b"began\n").unwrap();
    init(&world.state(), &world.tpm(), "host-1".parse().unwrap(), &authority).unwrap();
    assert!(!world.state().join(BEGAN).exists());
}

#[test]
fn a_retired_approval_opens_nothing_any_more() {
    let Some(mut world) = World::approved() else { return };
    let old = world.approvals().current.unwrap();
    let before = key(&world);
    world.swtpm.lose_power();
    world.tpm().extend(8, &[9; 32]).unwrap();
    let next = world.approval(Earlier::Retired);
    install(&world.state(), &world.tpm(), &next).unwrap();
    assert!(key(&world).same_as(&before));

    // The old host, which has known holes, with its old directory.
    world.swtpm.lose_power();
    world.put(&old);
    assert!(matches!(world.refusal(), MachineError::ApprovalRetired));
}

/// Who keeps an approval back, and asks for the next one from where the machine still stands, keeps
/// nothing that outlives it.
#[test]
fn an_approval_that_was_never_installed_is_retired_with_the_others() {
    let Some(mut world) = World::approved() else { return };
    let before = key(&world);
    let kept_back = world.approval(Earlier::Retired);
    world.swtpm.lose_power();
    world.tpm().extend(8, &[9; 32]).unwrap();
    let next = world.approval(Earlier::Retired);
    install(&world.state(), &world.tpm(), &next).unwrap();
    assert!(key(&world).same_as(&before));

    // The old host, which has known holes.
    world.swtpm.lose_power();
    let installed = install(&world.state(), &world.tpm(), &kept_back);
    assert!(matches!(installed, Err(MachineError::ApprovalRetired)), "{installed:?}");
    world.put(&kept_back);
    assert!(matches!(world.refusal(), MachineError::ApprovalRetired));
}

#[test]
fn an_approval_that_was_changed_or_is_of_another_opens_nothing() {
    let Some(world) = World::approved() else { return };
    let good = world.approvals().current.unwrap();
    let stranger = AuthorityKey::from_pkcs8(&AuthorityKey::generate().unwrap()).unwrap();
    let asked = request(&world.state(), &world.tpm()).unwrap();
    let elsewhere = heirloom_tpm::machine::state::HostRequest {
        platform: heirloom_model::identifier::PlatformId::new([1; 32]),
        ..asked.clone()
    };
    let forged = [
        HostApproval { counter: good.counter + 1, ..good.clone() },
        HostApproval { signature: vec![1; 64], ..good.clone() },
        stranger.approve(&world.admit(&asked, Earlier::Hold).unwrap()).unwrap(),
        world.authority.approve(&world.admit(&elsewhere, Earlier::Hold).unwrap()).unwrap(),
    ];
    for approval in forged {
        let installed = install(&world.state(), &world.tpm(), &approval);
        assert!(matches!(installed, Err(MachineError::ApprovalForged)), "{installed:?}");
        assert!(matches!(
            stage(&world.state(), &world.tpm(), &approval),
            Err(MachineError::ApprovalForged)
        ));
        world.put(&approval);
        assert!(matches!(world.refusal(), MachineError::ApprovalForged));
    }
    world.put(&good);
    assert!(world.open().is_ok());
}

/// Whoever asks writes the registers down: one that is left out would be approved whatever it has.
#[test]
fn a_host_is_approved_by_all_that_it_boots_with_and_nothing_else() {
    let Some(world) = World::approved() else { return };
    let asked = request(&world.state(), &world.tpm()).unwrap();
    let good = world.approvals().current.unwrap();
    let mut resettable = asked.registers.clone();
    resettable[15].index = 16;
    let mut twice = asked.registers.clone();
    twice[1] = twice[0];
    let whole = asked.registers.clone();
    for registers in [Vec::new(), whole[..1].to_vec(), whole[..15].to_vec(), resettable, twice] {
        let part = heirloom_tpm::machine::state::HostRequest {
            registers: registers.clone(),
            ..asked.clone()
        };
        let approved = world.admit(&part, Earlier::Hold);
        assert!(matches!(approved, Err(MachineError::NotAHost)), "{registers:?}");
        let approval = HostApproval { registers, ..good.clone() };
        let installed = install(&world.state(), &world.tpm(), &approval);
        assert!(matches!(installed, Err(MachineError::NotAHost)), "{installed:?}");
    }
    assert!(world.admit(&asked, Earlier::Hold).is_ok());
}

#[test]
fn a_machine_is_made_once_and_never_at_start() {
    let Some(world) = World::approved() else { return };
    let authority = world.authority.authority().unwrap();
    let again = init(&world.state(), &world.tpm(), "host-1".parse().unwrap(), &authority);
    assert!(matches!(again, Err(MachineError::File(FileError::Exists { .. }))), "{again:?}");
    let record = world.state().join(RECORD);
    let good = fs::read(&record).unwrap();
    let mut damaged = good.clone();
    damaged[40] ^= 1;
    fs::write(&record, &damaged).unwrap();
    drop(world.refusal());
    assert_eq!(fs::read(&record).unwrap(), damaged, "what is damaged stays for diagnosis");
    fs::remove_file(&record).unwrap();
    assert!(matches!(world.refusal(), MachineError::NotInitialised { .. }));
    assert!(!record.exists(), "a machine is never made anew");
    fs::write(&record, &good).unwrap();
    assert!(world.open().is_ok());
}

#[test]
fn the_directory_of_a_machine_is_worthless_without_its_tpm() {
    let Some(world) = World::approved() else { return };
    let Some(other) = World::approved() else { return };
    crate::world::copy(&world.state(), &other.state());
    assert!(matches!(other.refusal(), MachineError::OtherTpm));
}

/// An approval of a count that the TPM reaches in a thousand years would be good for as long.
#[test]
fn an_approval_that_could_not_be_retired_is_neither_staged_nor_installed() {
    let Some(world) = World::approved() else { return };
    let asked = request(&world.state(), &world.tpm()).unwrap();
    let mut approval = world.approval(Earlier::Retired);
    for _ in 0..APPROVALS_AHEAD_MAX {
        approval = world.approval(Earlier::Retired);
    }
    assert_eq!(approval.counter, asked.counter + APPROVALS_AHEAD_MAX + 1);
    let (state, tpm) = (world.state(), world.tpm());
    for refused in [stage(&state, &tpm, &approval), install(&state, &tpm, &approval)] {
        assert!(matches!(refused, Err(MachineError::ApprovalAhead { .. })), "{refused:?}");
    }
    assert_eq!(world.approvals().staged, None);
    // Nor is it believed where somebody wrote it into the directory himself.
    drop(tpm);
    let good = world.approvals().current.unwrap();
    world.put(&approval);
    assert!(matches!(world.refusal(), MachineError::ApprovalAhead { .. }));
    world.put(&good);
    let endless = heirloom_tpm::machine::state::HostRequest { counter: u64::MAX, ..asked };
    let refused = world.admit(&endless, Earlier::Hold);
    assert!(matches!(refused, Err(MachineError::ApprovalJump { .. })), "{refused:?}");
}
