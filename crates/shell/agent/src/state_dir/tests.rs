use heirloom_model::counter::Generation;
use heirloom_model::digest::Nonce;
use heirloom_model::identifier::{DomainId, PlatformId};
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::sealed::{
    CpuSvn, SEALED_FORMAT, SealPolicy, SealRecipe, SealedHeader, SealedPurpose, SgxSealRecipe,
};

use super::*;

const OLD: Measurement = Measurement::Sgx(MrEnclave::new([1; 32]));
const NEW: Measurement = Measurement::Sgx(MrEnclave::new([2; 32]));
const FILE: &str = "keyring-0.sealed";

fn sealed(measurement: Measurement, content: u8) -> Vec<u8> {
    let header = SealedHeader {
        format: SEALED_FORMAT,
        purpose: SealedPurpose::Keyring,
        domain: DomainId::new([4; 32]),
        first: Generation(0),
        last: Generation(0),
        sequence: 0,
        platform: PlatformId::new([5; 32]),
        measurement,
        signer: MrSigner::new([6; 32]),
        recipe: SealRecipe::Sgx(SgxSealRecipe {
            policy: SealPolicy::Measurement,
            isv_svn: 1,
            cpu_svn: CpuSvn::new([0; 16]),
            flags_mask: u64::MAX,
            xfrm_mask: u64::MAX,
            misc_mask: u32::MAX,
            key_id: Nonce::new([7; 32]),
        }),
        nonce: [8; 12],
        node: "node-1".parse().unwrap(),
    };
    wire::encode(&SealedEnvelope { header, ciphertext: vec![content] })
}

fn opened(directory: &tempfile::TempDir) -> StateDirectory {
    StateDirectory::open(directory.path().join("state")).unwrap()
}

/// Writes what this code seals into the seat of that code.
fn seal_in(state: &StateDirectory, seat: Measurement, by: Measurement, content: u8) {
    state.make_seat(&seat).unwrap();
    fs::write(state.seat_path(&seat).join(FILE), sealed(by, content)).unwrap();
}

fn seal(state: &StateDirectory, code: Measurement, content: u8) {
    seal_in(state, code, code, content);
}

fn content(path: &Path) -> Vec<u8> {
    wire::decode::<SealedEnvelope>(&fs::read(path.join(FILE)).unwrap()).unwrap().ciphertext
}

#[test]
fn seats_do_not_touch_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let state = opened(&directory);
    assert!(state.is_untouched().unwrap());
    seal(&state, OLD, 1);
    seal(&state, NEW, 2);
    assert_eq!(state.live().unwrap(), BTreeSet::from([OLD, NEW]));
    state.quarantine(&OLD).unwrap();
    assert_eq!(state.live().unwrap(), BTreeSet::from([NEW]));
    assert_eq!(state.quarantined().unwrap(), BTreeSet::from([OLD]));
    state.restore(&OLD).unwrap();
    assert_eq!(content(&state.seat_path(&OLD)), [1]);
    assert_eq!(content(&state.seat_path(&NEW)), [2]);
    assert!(!state.is_untouched().unwrap());
}

#[test]
fn state_comes_back_from_quarantine_the_newest_first_and_nothing_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let state = opened(&directory);
    seal(&state, OLD, 1);
    state.quarantine(&OLD).unwrap();
    state.quarantine(&OLD).unwrap();
    assert!(state.live().unwrap().is_empty());
    seal(&state, OLD, 2);
    state.quarantine(&OLD).unwrap();
    // The seat was made again for a start that did not come.
    state.make_seat(&OLD).unwrap();
    state.restore(&OLD).unwrap();
    state.restore(&OLD).unwrap();
    assert_eq!(content(&state.seat_path(&OLD)), [2]);
    assert_eq!(state.quarantined().unwrap(), BTreeSet::from([OLD]), "the first one is there");
    let first = directory.path().join("state/quarantine").join(format!("{OLD}.1"));
    assert_eq!(content(&first), [1]);
}

#[test]
fn what_is_preserved_stays_and_each_copy_has_a_number_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let state = opened(&directory);
    state.preserve(&OLD).unwrap();
    assert_eq!(state.quarantined().unwrap(), BTreeSet::new(), "there was nothing");
    seal(&state, OLD, 1);
    state.preserve(&OLD).unwrap();
    seal(&state, OLD, 2);
    state.preserve(&OLD).unwrap();
    // Whoever was killed before it could write down that it is done, does it again.
    state.preserve(&OLD).unwrap();
    let third = directory.path().join("state/quarantine").join(format!("{OLD}.3"));
    assert!(!third.exists(), "there is a copy already");
    assert_eq!(content(&state.seat_path(&OLD)), [2]);
    for number in [1, 2] {
        let copy = directory.path().join("state/quarantine").join(format!("{OLD}.{number}"));
        assert_eq!(content(&copy), [number]);
    }
}

#[test]
fn files_of_other_code_in_a_seat_are_never_moved_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let state = opened(&directory);
    seal(&state, OLD, 1);
    state.quarantine(&OLD).unwrap();
    seal_in(&state, OLD, NEW, 3);
    assert_eq!(state.live().unwrap(), BTreeSet::from([OLD]), "it is there, whoever sealed it");
    assert!(matches!(state.quarantine(&OLD), Err(StateError::OtherCode { found: NEW, .. })));
    assert!(matches!(state.restore(&OLD), Err(StateError::OtherCode { found: NEW, .. })));
    fs::rename(state.seat_path(&OLD).join(FILE), state.seat_path(&OLD).join("keyring-9.sealed"))
        .unwrap();
    seal(&state, OLD, 1);
    assert!(matches!(state.quarantine(&OLD), Err(StateError::OtherCode { found: NEW, .. })));
}

#[test]
fn a_file_that_nobody_understands_is_never_replaced_and_moves_with_its_seat() {
    let directory = tempfile::tempdir().unwrap();
    let state = opened(&directory);
    seal(&state, OLD, 1);
    state.quarantine(&OLD).unwrap();
    state.make_seat(&OLD).unwrap();
    let strange = state.seat_path(&OLD).join(FILE);
    fs::write(&strange, b"damaged").unwrap();
    assert!(!state.is_untouched().unwrap());
    assert!(matches!(state.restore(&OLD), Err(StateError::Store(_))));
    assert_eq!(fs::read(&strange).unwrap(), b"damaged");
    state.quarantine(&OLD).unwrap();
    assert!(!strange.exists());
    let moved = directory.path().join("state/quarantine").join(format!("{OLD}.2"));
    assert_eq!(fs::read(moved.join(FILE)).unwrap(), b"damaged");
}

#[test]
fn a_seat_counts_and_moves_whole_whatever_its_sealed_files_are_worth() {
    // Damaged, empty, or never finished.
    let rows: [(&str, &[u8]); 3] =
        [(FILE, b"damaged"), (FILE, b""), (".keyring-0.sealed.new", b"the beginn")];
    for (name, bytes) in rows {
        let directory = tempfile::tempdir().unwrap();
        let state = opened(&directory);
        state.make_seat(&OLD).unwrap();
        fs::write(state.seat_path(&OLD).join("witness"), b"no header").unwrap();
        assert_eq!(state.live().unwrap(), BTreeSet::new(), "nothing sealed is there");
        fs::write(state.seat_path(&OLD).join(name), bytes).unwrap();
        assert_eq!(state.live().unwrap(), BTreeSet::from([OLD]), "{name}");
        state.preserve(&OLD).unwrap();
        state.quarantine(&OLD).unwrap();
        assert_eq!(state.live().unwrap(), BTreeSet::new(), "{name}");
        assert!(!state.seat_path(&OLD).exists());
        for number in [1, 2] {
            let copy = directory.path().join("state/quarantine").join(format!("{OLD}.{number}"));
            assert_eq!(fs::read(copy.join(name)).unwrap(), bytes);
            assert_eq!(fs::read(copy.join("witness")).unwrap(), b"no header", "the whole seat");
        }
    }
}

#[test]
fn a_file_outside_of_every_seat_is_refused_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("state/live");
    fs::create_dir_all(&live).unwrap();
    let stray = live.join(FILE);
    fs::write(&stray, sealed(OLD, 1)).unwrap();
    let refused = StateDirectory::open(directory.path().join("state"));
    assert!(matches!(refused, Err(StateError::Unclaimed { path }) if path == stray));
    assert_eq!(fs::read(&stray).unwrap(), sealed(OLD, 1));
}

#[test]
fn what_is_planted_in_a_seat_is_neither_followed_nor_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let state = opened(&directory);
    seal(&state, OLD, 1);
    state.preserve(&OLD).unwrap();
    let copies = || fs::read_dir(state.quarantine_path()).unwrap().count();
    let foreign = directory.path().join("foreign.sealed");
    fs::write(&foreign, sealed(NEW, 2)).unwrap();
    let planted = state.seat_path(&OLD).join("planted.sealed");
    let refused = |what: &str| {
        let error = state.preserve(&OLD).unwrap_err();
        assert!(error.to_string().contains("planted.sealed"), "{what}: {error}");
        assert_eq!(copies(), 1, "{what} was copied");
    };

    std::os::unix::fs::symlink(&foreign, &planted).unwrap();
    refused("a link");
    fs::remove_file(&planted).unwrap();
    nix::unistd::mkfifo(&planted, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused("a pipe");
    fs::remove_file(&planted).unwrap();
    fs::File::create(&planted).unwrap().set_len(SEALED_BYTES_MAX as u64 + 1).unwrap();
    refused("a file that is too long");
    fs::remove_file(&planted).unwrap();

    // It says nothing about whose the seat is, and moves with it.
    std::os::unix::fs::symlink(&foreign, &planted).unwrap();
    state.quarantine(&OLD).unwrap();
    assert!(state.live().unwrap().is_empty());
    state.restore(&OLD).unwrap();
    assert_eq!(content(&state.seat_path(&OLD)), [1]);
    assert_eq!(fs::read(&foreign).unwrap(), sealed(NEW, 2));
}
