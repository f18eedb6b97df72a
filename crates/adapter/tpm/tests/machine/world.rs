//! A machine that was made, approved and given a certificate that nobody checks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_launcher::daemon::MachineLock;
use heirloom_launcher::machine::Machine as _;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::digest::{CounterName, Nonce};
use heirloom_model::evidence::{Certificate, Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::sealed::SealRecipe;
use heirloom_model::secret::Secret;
use heirloom_model::wire;
use heirloom_tpm::client::Tpm;
use heirloom_tpm::machine::TpmMachine;
use heirloom_tpm::machine::approvals::{APPROVALS, Approvals};
use heirloom_tpm::machine::approved::{Admitted, ApprovalRecords};
use heirloom_tpm::machine::enrolment;
use heirloom_tpm::machine::error::MachineError;
use heirloom_tpm::machine::setup::{AuthorityKey, Earlier, init, install, request};
use heirloom_tpm::machine::state::{CERTIFICATES, CertificateChain, HostApproval, HostRequest};
use heirloom_tpm::public::{PublicArea, PublicKey};
use heirloom_tpm::transport::{Socket, Transport, TransportError};
use tempfile::TempDir;
use zeroize::Zeroizing;

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
        Some(world)
    }

    /// A machine whose host is approved as it is.
    pub(crate) fn approved() -> Option<Self> {
        let world = Self::new()?;
        let approval = world.approval(Earlier::Hold);
        install(&world.state(), &world.tpm(), &approval).unwrap();
        world.certify();
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

    /// A client that can be stopped at any command.
    pub(crate) fn fused_tpm(&self) -> (Tpm, Fuse) {
        let fuse = Fuse::default();
        let socket = Socket::unix(self.swtpm.socket());
        (Tpm::new(Fused { socket, fuse: fuse.clone() }), fuse)
    }

    /// The authority approves the host as it is now.
    pub(crate) fn approval(&self, earlier: Earlier) -> HostApproval {
        let request = request(&self.state(), &self.tpm()).unwrap();
        self.authority.approve(&self.admit(&request, earlier).unwrap()).unwrap()
    }

    /// The authority looks at its records.
    pub(crate) fn admit(
        &self,
        request: &HostRequest,
        earlier: Earlier,
    ) -> Result<Admitted, MachineError> {
        let records = ApprovalRecords::beside(&self.folder.path().join("authority"));
        records.admit(request.clone(), earlier)
    }

    pub(crate) fn open(&self) -> Result<TpmMachine, MachineError> {
        TpmMachine::open(&self.state(), self.tpm(), &self.lock())
    }

    /// Nobody else has the machine now. The machines of these tests are asked one after the other.
    pub(crate) fn lock(&self) -> MachineLock {
        MachineLock::take(&self.state()).unwrap()
    }

    pub(crate) fn approvals(&self) -> Approvals {
        Approvals::read(&self.state()).unwrap()
    }

    /// Somebody writes this into the directory as the approval in place.
    pub(crate) fn put(&self, current: &HostApproval) {
        let approvals = Approvals { current: Some(current.clone()), ..self.approvals() };
        fs::write(self.state().join(APPROVALS), wire::encode(&approvals)).unwrap();
    }

    pub(crate) fn refusal(&self) -> MachineError {
        match self.open() {
            Err(error) => error,
            Ok(_) => panic!("it opens"),
        }
    }

    /// Certificates say which key they are about; who issued them is tested where they are issued.
    fn certify(&self) {
        let asked = enrolment::request(&self.state(), &self.tpm()).unwrap();
        let area = PublicArea::parse(&asked.attestation_key).unwrap();
        let PublicKey::P256(point) = area.key() else { panic!("it is of P-256") };
        let point = point.to_sec1();
        let chain = CertificateChain { certificates: vec![Certificate(point.to_vec())] };
        fs::write(self.state().join(CERTIFICATES), wire::encode(&chain)).unwrap();
    }
}

/// When the machine stops. At first it does not.
#[derive(Clone, Default)]
pub(crate) struct Fuse(Arc<Mutex<Option<Burning>>>);

struct Burning {
    left: u32,
    carries_out_the_last: bool,
}

impl Fuse {
    /// From now on, this many commands have answers. The next one has none, whether the TPM
    /// carries it out or not, nor has any after it.
    pub(crate) fn burn_after(&self, left: u32, carries_out_the_last: bool) {
        *self.0.lock().unwrap() = Some(Burning { left, carries_out_the_last });
    }
}

struct Fused {
    socket: Socket,
    fuse: Fuse,
}

impl Transport for Fused {
    fn transmit(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, TransportError> {
        let mut fuse = self.fuse.0.lock().unwrap();
        let Some(burning) = &mut *fuse else { return self.socket.transmit(command) };
        if let Some(left) = burning.left.checked_sub(1) {
            burning.left = left;
            return self.socket.transmit(command);
        }
        if std::mem::take(&mut burning.carries_out_the_last) {
            drop(self.socket.transmit(command));
        }
        Err(TransportError::Unknown { reason: "the machine was stopped".to_owned() })
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
