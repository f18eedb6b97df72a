//! What goes wrong around a TPM: crashes, leaks, power, and a bus that is not there.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use heirloom_tpm::capability::Handles;
use heirloom_tpm::client::Tpm;
use heirloom_tpm::counter::{Counter, CounterPublic, Incrementer};
use heirloom_tpm::credential::Credential;
use heirloom_tpm::error::TpmError;
use heirloom_tpm::key::{AttestationKey, EndorsementKey, EndorsementKind, StorageRoot};
use heirloom_tpm::pcr::Selection;
use heirloom_tpm::policy::{Opening, Policy};
use heirloom_tpm::transport::{Device, Socket, Transport, TransportError};
use zeroize::Zeroizing;

use crate::credentials::make;
use crate::world::{
    Approver, MESSAGE, World, as_booted, attestation_key, opens, reference, refusal, value,
};

#[test]
fn nothing_stays_loaded_whatever_is_refused() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let (policy, other) = (as_booted(&tpm), Approver::new());
    let made = root.make_mac_key(&policy.digest()).unwrap();
    tpm.extend(8, &[1; 32]).unwrap();
    let approval = other.approve(as_booted(&tpm), &reference());
    let authority = Approver::new().authority();
    let approved = Policy::approved(authority, reference(), Vec::new()).unwrap();
    // A TPM has room for three sessions and three objects.
    for _ in 0..5 {
        refusal(root.mac(&made, Opening::Plain(&policy), MESSAGE));
        let opening = Opening::Approved { policy: &approved, approval: &approval };
        refusal(root.mac(&made, opening, MESSAGE));
        let key = AttestationKey::create(&root, value()).unwrap();
        let endorsement = EndorsementKey::open(&tpm, EndorsementKind::P256).unwrap();
        let credential = Credential { identity: vec![0; 68], seed: vec![] };
        assert!(key.activate(&endorsement, &credential).is_err());
        let public = CounterPublic::new(0x0180_4801, Incrementer::Policy(policy.digest()));
        let counter = Counter::define(&root, public.unwrap(), Some(Opening::Plain(&policy)));
        assert_eq!(refusal(counter), 0x99d);
    }
    assert_eq!(tpm.handles(Handles::Sessions).unwrap(), Vec::<u32>::new());
    assert_eq!(tpm.handles(Handles::Objects).unwrap(), Vec::<u32>::new());
}

#[test]
fn leftovers_of_somebody_who_ended_suddenly_are_removed() {
    let Some(world) = World::new() else { return };
    let tpm = Box::leak(Box::new(world.tpm()));
    let root = StorageRoot::open(tpm).unwrap();
    let mut left = Vec::new();
    let full = loop {
        match AttestationKey::create(&root, value()) {
            Ok(key) => left.push(key),
            Err(error) => break error,
        }
    };
    // TPM_RC_OBJECT_MEMORY.
    assert_eq!(refusal::<()>(Err(full)), 0x902);
    assert_eq!(tpm.handles(Handles::Objects).unwrap().len(), left.len());
    tpm.flush_leftovers().unwrap();
    assert_eq!(tpm.handles(Handles::Objects).unwrap(), Vec::<u32>::new());
    assert!(AttestationKey::create(&root, value()).is_ok());
}

#[test]
fn a_tpm_that_loses_power_again_and_again_does_not_lock_us_out() {
    let Some(mut world) = World::new() else { return };
    let public = CounterPublic::new(0x0180_4801, Incrementer::Owner).unwrap();
    let (policy, made) = {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        Counter::define(&root, public, None).unwrap();
        let policy = as_booted(&tpm);
        (policy.clone(), root.make_mac_key(&policy.digest()).unwrap())
    };
    for _ in 0..6 {
        world.swtpm.lose_power();
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        assert!(opens(root.mac(&made, Opening::Plain(&policy), MESSAGE)));
        let counter = Counter::open(&tpm, public).unwrap();
        counter.increment(&root, None).unwrap();
        counter.read(&root).unwrap();
        let key = attestation_key(&root);
        key.quote(&[1; 32], Selection::boot()).unwrap();
        let endorsement = EndorsementKey::open(&tpm, EndorsementKind::P256).unwrap();
        let credential = make(endorsement.public().key(), key.public().name());
        assert!(key.activate(&endorsement, &credential).is_ok());
    }
}

#[test]
fn a_lockout_that_others_ran_into_can_be_ended() {
    let Some(world) = World::new() else { return };
    world.tpm();
    let define = ["-C", "o", "-s", "8", "-a", "authread|authwrite", "-p", "right", "0x1800001"];
    world.tool("tpm2_nvdefine", &define).unwrap();
    std::fs::write(world.path("eight"), [0; 8]).unwrap();
    for _ in 0..4 {
        let write = ["-C", "0x1800001", "-P", "wrong", "-i", "eight", "0x1800001"];
        world.tool("tpm2_nvwrite", &write).unwrap_err();
    }
    assert!(world.tpm().description().unwrap().in_lockout);
    // Ours works all the same.
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let policy = as_booted(&tpm);
    let made = root.make_mac_key(&policy.digest()).unwrap();
    assert!(opens(root.mac(&made, Opening::Plain(&policy), MESSAGE)));
    tpm.reset_lockout().unwrap();
    let description = tpm.description().unwrap();
    assert_eq!((description.lockout_counter, description.in_lockout), (0, false));
}

#[test]
fn a_tpm_that_was_told_does_not_count_the_loss_of_power() {
    let Some(mut world) = World::new() else { return };
    for _ in 0..4 {
        world.tpm().shutdown().unwrap();
        world.swtpm.lose_power();
    }
    let description = world.tpm().description().unwrap();
    assert_eq!((description.lockout_counter, description.in_lockout), (0, false));
}

#[test]
fn the_tpm_works_after_a_connection_broke() {
    let Some(mut world) = World::new() else { return };
    let tpm = world.tpm();
    world.swtpm.lose_power();
    // The command may have reached the TPM before it lost power.
    assert!(matches!(tpm.startup(), Err(TpmError::Unknown { .. })));
    tpm.startup().unwrap();
    assert!(StorageRoot::open(&tpm).is_ok());
}

#[test]
fn a_tpm_that_is_not_there_is_missing_or_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Tpm::new(Socket::unix(folder.path().join("none")));
    assert!(matches!(tpm.startup(), Err(TpmError::Missing(_))));
    let device = Device::open(&folder.path().join("none"));
    assert!(matches!(device, Err(TransportError::Missing { .. })));
    let device = Device::open(Path::new("/"));
    assert!(matches!(device, Err(TransportError::Unreachable { .. })));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let tpm = Tpm::new(Socket::tcp(address));
    assert!(matches!(tpm.startup(), Err(TpmError::Unreachable { .. })));
}

/// The kernel carries a command out while it is written, so that a write that fails says nothing.
#[test]
fn a_device_that_fails_while_a_command_is_written_may_have_carried_it_out() {
    let tpm = Tpm::new(Device::open(Path::new("/dev/full")).unwrap());
    for _ in 0..2 {
        let failed = tpm.startup();
        assert!(matches!(failed, Err(TpmError::Unknown { .. })), "{failed:?}");
    }
}

/// A TPM that answers one command with these bytes, and closes or keeps silent.
fn answering(bytes: &'static [u8], silent: bool) -> Result<(), TpmError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tpm");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut command = [0; 12];
        stream.read_exact(&mut command).unwrap();
        stream.write_all(bytes).unwrap();
        if silent {
            // Until the client has gone.
            drop(stream.read(&mut command));
        }
    });
    let tpm = Tpm::new(Socket::unix(path).with_answer_time(Duration::from_millis(100)));
    let result = tpm.startup().map(drop);
    drop(tpm);
    server.join().unwrap();
    result
}

#[test]
fn no_answer_is_unknown_and_a_wrong_one_corrupt() {
    assert_eq!(answering(b"\x80\x01\0\0\0\x0a\0\0\0\0", false), Ok(()));
    for silent in [true, false] {
        for cut in [b"".as_slice(), b"\x80\x01\0\0", b"\x80\x01\0\0\0\x0c\0\0\0\0"] {
            let result = answering(cut, silent);
            assert!(matches!(result, Err(TpmError::Unknown { .. })), "{cut:?}: {result:?}");
        }
    }
    for wrong in [
        // Shorter than a header, longer than a message, of TPM 1.2, with sessions.
        b"\x80\x01\0\0\0\x09\0\0\0\0".as_slice(),
        b"\x80\x01\0\0\x10\x01\0\0\0\0",
        b"\x00\xc4\0\0\0\x0a\0\0\0\0",
        b"\x80\x02\0\0\0\x0a\0\0\0\0",
    ] {
        let result = answering(wrong, false);
        assert!(matches!(result, Err(TpmError::Corrupt { .. })), "{wrong:?}: {result:?}");
    }
    let refused = answering(b"\x80\x01\0\0\0\x0a\0\0\x01\x01", false);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the TPM refuses TPM2_Startup: TPM_RC_FAILURE (0x101)"
    );
}

/// A transport with these response codes in its queue, and success after them.
struct Busy(VecDeque<u32>);

impl Transport for Busy {
    fn transmit(&mut self, _: &[u8]) -> Result<Zeroizing<Vec<u8>>, TransportError> {
        let code = self.0.pop_front().unwrap_or(0);
        let response = [&[0x80, 0x01, 0, 0, 0, 10], code.to_be_bytes().as_slice()].concat();
        Ok(Zeroizing::new(response))
    }
}

#[test]
fn a_tpm_that_says_later_is_asked_again_and_one_that_says_no_is_not() {
    let later = Tpm::new(Busy([0x922, 0x908, 0x90a, 0x920].into()));
    assert!(later.shutdown().is_ok());
    for code in [0x921, 0x903, 0x902, 0x101, 0x126] {
        assert_eq!(refusal(Tpm::new(Busy([code].into())).shutdown()), code);
    }
}
