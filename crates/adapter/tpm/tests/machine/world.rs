//! A machine that was made, approved and given a certificate that nobody checks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_launcher::machine::Machine as _;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::digest::{CounterName, Nonce};
use heirloom_model::evidence::{Certificate, Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::sealed::SealRecipe;
use heirloom_model::secret::Secret;
use heirloom_model::wire;
use heirloom_tpm::client::Tpm;
use heirloom_tpm::key::{AttestationKey, StorageRoot};
use heirloom_tpm::machine::TpmMachine;
use heirloom_tpm::machine::error::MachineError;
use heirloom_tpm::machine::setup::{AuthorityKey, Earlier, init, install, request};
use heirloom_tpm::machine::state::{CERTIFICATES, CertificateChain, HostApproval};
use heirloom_tpm::transport::Socket;
use tempfile::TempDir;

use crate::swtpm::{Swtpm, is_installed};

/// A TPM, and the directory of its machine.
pub(crate) struct World {
    pub(crate) swtpm: Swtpm,
    pub(crate) folder: TempDir,
    pub(crate) authority: AuthorityKey,
}

impl World {
    /// A machine that nobody approved yet; none if this host has no `swtpm`, which was said aloud.
    pub(crate) fn new() -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let swtpm = Swtpm::start(&folder.path().join("tpm")).unwrap();
        let key = AuthorityKey::generate().unwrap();
        let authority = AuthorityKey::from_pkcs8(&key).unwrap();
        let world = Self { swtpm, folder, authority };
        let host = "host-1".parse().unwrap();
        let tpm = world.tpm();
        init(&world.state(), &tpm, host, &world.authority.authority().unwrap()).unwrap();
        world.certify(&tpm);
        Some(world)
    }

    /// A machine whose host is approved as it is.
    pub(crate) fn approved() -> Option<Self> {
        let world = Self::new()?;
        let approval = world.approval(Earlier::Hold);
        install(&world.state(), &world.tpm(), &approval).unwrap();
        Some(world)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn tpm(&self) -> Tpm {
        let tpm = Tpm::new(Socket::unix(self.swtpm.socket()));
        tpm.startup().unwrap();
        tpm
    }

    /// The authority approves the host as it is now.
    pub(crate) fn approval(&self, earlier: Earlier) -> HostApproval {
        let request = request(&self.state(), &self.tpm()).unwrap();
        self.authority.approve(&request, earlier).unwrap()
    }

    pub(crate) fn open(&self) -> Result<TpmMachine, MachineError> {
        TpmMachine::open(&self.state(), self.tpm())
    }

    pub(crate) fn refusal(&self) -> MachineError {
        match self.open() {
            Err(error) => error,
            Ok(_) => panic!("it opens"),
        }
    }

    /// Certificates say which key they are about; who issued them is tested where they are issued.
    fn certify(&self, tpm: &Tpm) {
        let root = StorageRoot::open(tpm).unwrap();
        let point = AttestationKey::open(&root).unwrap().point().unwrap().to_sec1();
        let chain = CertificateChain { certificates: vec![Certificate(point.to_vec())] };
        fs::write(self.state().join(CERTIFICATES), wire::encode(&chain)).unwrap();
    }
}

/// Some code on a machine, as its launcher would let it ask.
pub(crate) struct Code {
    pub(crate) machine: Arc<TpmMachine>,
    pub(crate) secs: Secs,
}

/// The code of these tests.
pub(crate) fn secs() -> Secs {
    Secs {
        measurement: MrEnclave::new([4; 32]),
        signer: MrSigner::new([5; 32]),
        product_id: 7,
        isv_svn: 3,
        attributes: LaunchMode::Production.attributes(),
        misc_select: 0,
    }
}

impl Platform for Code {
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        Ok(self.machine.identity(&self.secs)?)
    }
    fn sealing(&self) -> Result<Sealing, PlatformError> {
        Ok(self.machine.sealing())
    }
    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
        Ok(self.machine.seal_recipe(&self.secs, key_id)?)
    }
    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        Ok(self.machine.seal_key(&self.secs, recipe)?)
    }
    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        Ok(self.machine.evidence(&self.secs, report_data)?)
    }
    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        Ok(self.machine.report_target(&self.secs)?)
    }
    fn report(
        &self,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, PlatformError> {
        Ok(self.machine.report(&self.secs, target, report_data)?)
    }
    fn verify_report(&self, report: &LocalReport) -> Result<(), PlatformError> {
        Ok(self.machine.verify_report(&self.secs, report)?)
    }
    fn counter(&self, name: &CounterName) -> Result<u64, PlatformError> {
        Ok(self.machine.counter(&self.secs, name)?)
    }
    fn raise(&self, name: &CounterName, to: u64) -> Result<(), PlatformError> {
        Ok(self.machine.raise(&self.secs, name, to)?)
    }
    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        heirloom_launcher::randomness::system_randomness()(bytes);
        Ok(())
    }
}

/// Copies files of a directory, not directories.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
