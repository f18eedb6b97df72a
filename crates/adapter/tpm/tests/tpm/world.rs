//! A TPM for each test: copies of one that is manufactured once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use heirloom_model::secret::Secret;
use heirloom_tpm::authority::{Approval, Authority, PolicyReference, approval_message};
use heirloom_tpm::client::Tpm;
use heirloom_tpm::error::TpmError;
use heirloom_tpm::key::{AttestationKey, StorageRoot};
use heirloom_tpm::pcr::Selection;
use heirloom_tpm::policy::{Policy, Step};
use heirloom_tpm::transport::{Socket, Transport, TransportError};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::swtpm::{Swtpm, is_installed};

/// A TPM, and room for files.
pub(crate) struct World {
    pub(crate) swtpm: Swtpm,
    pub(crate) folder: TempDir,
}

impl World {
    /// A TPM of its own; none if this machine has no `swtpm`, which was said aloud.
    pub(crate) fn new() -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        copy(&model(), folder.path());
        Some(Self::of(folder))
    }

    /// A TPM with other keys, of the same or another manufacturer.
    pub(crate) fn stranger() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    fn of(folder: TempDir) -> Self {
        let swtpm = Swtpm::start(folder.path()).unwrap();
        Self { swtpm, folder }
    }

    /// A TPM with a copy of everything that this one would have after it lost power.
    pub(crate) fn cloned(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        Self::of(folder)
    }

    /// A client of the TPM, which is running.
    pub(crate) fn tpm(&self) -> Tpm {
        let tpm = Tpm::new(Socket::unix(self.swtpm.socket()));
        tpm.startup().unwrap();
        tpm
    }

    /// A client, and everything that crosses the bus.
    pub(crate) fn overheard(&self) -> (Tpm, Bus) {
        let bus = Bus::default();
        let socket = Socket::unix(self.swtpm.socket());
        let tpm = Tpm::new(Overheard { socket, bus: bus.clone() });
        tpm.startup().unwrap();
        (tpm, bus)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a tool of tpm2-tools; the client must be gone.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(name);
        command.args(arguments).current_dir(self.folder.path());
        command.env("TPM2TOOLS_TCTI", self.swtpm.tcti()).env("TSS2_LOG", "all+none");
        let output = command.output().expect("tpm2-tools: `cargo xtask setup` installs it");
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

/// The folder that TPMs of tests are copies of.
fn model() -> PathBuf {
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join("swtpm-model");
    if !model.exists() {
        // Tests start together: the first that is ready wins.
        let own = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        drop(Swtpm::start(own.path()).unwrap());
        let own = own.keep();
        if fs::rename(&own, &model).is_err() {
            assert!(model.exists(), "the TPM that others are copies of has its place");
            fs::remove_dir_all(own).unwrap();
        }
    }
    model
}

fn copy(from: &Path, to: &Path) {
    for part in ["authority", "state"] {
        fs::create_dir(to.join(part)).unwrap();
        for entry in fs::read_dir(from.join(part)).unwrap() {
            let entry = entry.unwrap();
            // The lock of a running TPM is not part of its state.
            if !entry.file_name().to_string_lossy().starts_with('.') {
                fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
            }
        }
    }
}

/// What crossed the bus, and what somebody on it does to the next responses.
#[derive(Clone, Default)]
pub(crate) struct Bus {
    pub(crate) messages: Arc<Mutex<Vec<Vec<u8>>>>,
    meddler: Arc<Mutex<Option<Meddler>>>,
}

type Meddler = Box<dyn FnMut(&[u8], &mut Vec<u8>) + Send>;

impl Bus {
    /// Shows every command to `meddler`, which may change the response.
    pub(crate) fn meddle(&self, meddler: impl FnMut(&[u8], &mut Vec<u8>) + Send + 'static) {
        *self.meddler.lock().unwrap() = Some(Box::new(meddler));
    }

    pub(crate) fn behave(&self) {
        *self.meddler.lock().unwrap() = None;
    }

    /// Whether these bytes crossed the bus in the clear.
    pub(crate) fn carried(&self, bytes: &[u8]) -> bool {
        let messages = self.messages.lock().unwrap();
        messages.iter().any(|message| message.windows(bytes.len()).any(|window| window == bytes))
    }
}

struct Overheard {
    socket: Socket,
    bus: Bus,
}

impl Transport for Overheard {
    fn transmit(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, TransportError> {
        let mut response = self.socket.transmit(command)?;
        self.bus.messages.lock().unwrap().extend([command.to_vec(), response.to_vec()]);
        if let Some(meddler) = &mut *self.bus.meddler.lock().unwrap() {
            meddler(command, &mut response);
        }
        Ok(response)
    }
}

/// The command code of a message.
pub(crate) fn command_of(message: &[u8]) -> u32 {
    u32::from_be_bytes(message[6..10].try_into().unwrap())
}

/// Somebody who approves policies.
pub(crate) struct Approver(EcdsaKeyPair);

impl Approver {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::from_sec1(self.0.public_key().as_ref()).unwrap()
    }

    pub(crate) fn approve(&self, policy: Policy, reference: &PolicyReference) -> Approval {
        let message = approval_message(&policy.digest(), reference);
        let signature = self.0.sign(&SystemRandom::new(), &message).unwrap();
        Approval { policy, signature: signature.as_ref().try_into().unwrap() }
    }
}

pub(crate) fn reference() -> PolicyReference {
    PolicyReference::new(b"host of a test").unwrap()
}

/// The registers that a test moves stand where they stand now.
pub(crate) fn as_booted(tpm: &Tpm) -> Policy {
    let registers = tpm.registers(Selection::new([0, 8]).unwrap()).unwrap();
    Policy::all(vec![Step::registers(&registers).unwrap()]).unwrap()
}

/// What keys of tests make MACs of.
pub(crate) const MESSAGE: &[u8] = b"what a secret is for";

/// What authorises the use of the tests' attestation keys.
pub(crate) fn value() -> Secret<32> {
    Secret::new([0x5e; 32])
}

/// The permanent attestation key, made if there is none.
pub(crate) fn attestation_key<'root, 'tpm>(
    root: &'root StorageRoot<'tpm>,
) -> AttestationKey<'root, 'tpm> {
    match AttestationKey::open(root, value()) {
        Err(TpmError::Missing(_)) => AttestationKey::make(root, value()).unwrap(),
        found => found.unwrap(),
    }
}

pub(crate) const SECRET: [u8; 32] = *b"thirty-two bytes of key material";

/// Whether the TPM uses the key.
pub(crate) fn opens(used: Result<Secret<32>, TpmError>) -> bool {
    used.map(drop).is_ok()
}

/// The raw code of a refusal.
pub(crate) fn refusal<T>(result: Result<T, TpmError>) -> u32 {
    match result {
        Err(TpmError::Refused { code, .. }) => code.raw(),
        Err(other) => panic!("this is no refusal: {other}"),
        Ok(_) => panic!("the TPM refuses nothing"),
    }
}
