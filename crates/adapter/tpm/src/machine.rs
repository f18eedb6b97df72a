//! A machine with a TPM, below a launcher.
//!
//! A TPM proves what the whole machine booted, not what one process is. So firmware, kernel and
//! launcher are in its registers; the launcher measures what it launches and answers for it: a
//! quote covers registers, report data, and what the launcher says about the process. This
//! isolates nothing from root or the kernel: whether these are the right ones is what the
//! registers are for. From each other, from the launcher and from the TPM, what is launched is
//! isolated by the kernel: each code has a user of its own.
//!
//! Sealing: the TPM gives the machine's secret only to a host that the machine's authority
//! approved, and the launcher derives from it a key for exactly the code that asks. Approving the
//! next host before an update opens the same secret there. See [`setup`].
//!
//! Counting: one counter and one note of the TPM keep a file with all counters of all code fresh. See
//! [`counters`].

pub mod address;
pub mod approvals;
pub mod approved;
pub mod counters;
pub mod enrolment;
pub mod error;
pub mod setup;
mod spki;
pub mod state;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use heirloom_keeper::kmac::kmac256;
use heirloom_keeper::port::{PlatformIdentity, Sealing};
use heirloom_launcher::daemon::{Daemon, DaemonError, Isolation, MachineLock, Stopper};
use heirloom_launcher::machine::Machine;
use heirloom_launcher::protocol::{HostInfo, Lack, Refusal, WireProtection};
use heirloom_launcher::report::{LaunchMode, Report, ReportBody, Secs, TargetInfo};
use heirloom_launcher::secret_memory::{MachineMemory, protect};
use heirloom_launcher::users::{BundleUsers, UserTable, UsersError};
use heirloom_model::causes::with_causes;
use heirloom_model::context;
use heirloom_model::digest::{CounterName, HostAuthority, Nonce};
use heirloom_model::evidence::{
    Evidence, LaunchClaims, LocalReport, PcrValue, ReportData, ReportTarget, TpmEvidence,
};
use heirloom_model::measurement::{LaunchedCode, Measurement, MrEnclave, Register32, TeeKind};
use heirloom_model::sealed::{CpuSvn, SealRecipe, TpmSealRecipe};
use heirloom_model::secret::Secret;
use zeroize::Zeroizing;

use crate::client::Tpm;
use crate::machine::counters::{CounterKeys, CounterOwner, Counters};
use crate::machine::error::MachineError;
use crate::machine::state::{CertificateChain, MachineRecord};
use crate::pcr::{Register, Selection};

/// The number of the machine's one secret. A machine that is made anew is another platform's, or
/// another machine: there is no second secret yet, and recipes that name one are refused.
pub const MACHINE_SECRET: u32 = 1;
/// A TPM has no microcode that seal keys or reports depend on.
const NO_CPU_SVN: CpuSvn = CpuSvn::new([0; CpuSvn::BYTES]);

/// A machine whose TPM gave out its secret: a host that its authority approved.
pub struct TpmMachine {
    /// One caller at a time: a TPM has room for three objects and three sessions.
    tpm: Mutex<Tpm>,
    record: MachineRecord,
    /// Who approves hosts of this machine, by the policy under which its secret opened.
    authority: HostAuthority,
    state: PathBuf,
    secret: Box<dyn MachineMemory<32>>,
    protection: WireProtection,
    /// Authenticates local reports until the launcher ends: they are asked for fresh.
    report_key: Secret<32>,
}

/// Why a machine is not served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The machine cannot be used.
    #[error("the machine cannot be used")]
    Machine(#[from] MachineError),
    /// There are no users for what is launched.
    #[error("what is launched has no users of its own")]
    Users(#[from] UsersError),
    /// The daemon did not start.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

/// Opens the machine in a directory and listens for what it launches.
///
/// A TPM isolates nothing, so each code runs under a user of its own.
pub fn bind(
    state: &Path,
    tpm: Tpm,
    socket: &Path,
    users: BundleUsers,
) -> Result<(Daemon, Stopper), BindError> {
    // What is not there is said before anything is made there.
    MachineRecord::read(state)?;
    let lock = MachineLock::take(state)?;
    let isolation = Isolation::Users(UserTable::open(state, users)?);
    let machine = TpmMachine::open(state, tpm, &lock)?;
    Ok(Daemon::bind(Box::new(machine), lock, socket, isolation)?)
}

impl TpmMachine {
    /// Opens the machine in a directory. What is missing or damaged is an error, and so is a host
    /// that is not the approved one; nothing is ever made anew.
    ///
    /// Only who has the machine opens it, and keeps the lock as long as it is used: whoever else
    /// counted in between would count twice.
    pub fn open(state: &Path, tpm: Tpm, lock: &MachineLock) -> Result<Self, MachineError> {
        tpm.startup()?;
        let record = MachineRecord::read(state)?;
        let secret = setup::unseal(state, &record, &tpm, lock)?;
        let mut machine_secret = Zeroizing::new([0; 32]);
        secret.expose(|bytes| machine_secret.copy_from_slice(bytes));
        let (secret, protection) = protect(&machine_secret);
        let mut report_key = Zeroizing::new([0; 32]);
        heirloom_launcher::randomness::system_randomness()(report_key.as_mut_slice());
        let machine = Self {
            tpm: Mutex::new(tpm),
            authority: record.authority()?.id(),
            record,
            state: state.to_owned(),
            secret,
            protection: protection.into(),
            report_key: Secret::new(*report_key),
        };
        machine.settle()?;
        Ok(machine)
    }

    /// The machine, as appraisal names it.
    pub fn platform(&self) -> heirloom_model::identifier::PlatformId {
        self.record.platform
    }

    /// Finds that the counters are fresh, and heals what a crash left.
    fn settle(&self) -> Result<(), MachineError> {
        let tpm = self.tpm();
        let root = self.record.root(&tpm)?;
        self.counters().settle(&root)
    }

    /// A panic cannot leave a TPM half asked: what was loaded is unloaded on the way out.
    fn tpm(&self) -> MutexGuard<'_, Tpm> {
        self.tpm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key that belongs to this machine and a purpose.
    fn derive<const N: usize>(&self, parts: &[&[u8]], purpose: &[u8]) -> Zeroizing<[u8; N]> {
        let mut derived = Zeroizing::new([0; N]);
        self.secret.lend(&mut |secret| *derived = *kmac256::<N>(secret, parts, purpose));
        derived
    }

    fn counters(&self) -> Counters {
        Counters::new(&self.state, CounterKeys::derive(|purpose| self.derive(&[], purpose)))
    }

    fn quote(&self, claims: LaunchClaims, data: &ReportData) -> Result<Evidence, MachineError> {
        let certificates = CertificateChain::read(&self.state)?;
        let tpm = self.tpm();
        let root = self.record.root(&tpm)?;
        let value = Secret::new(*self.derive(&[], context::TPM_ATTESTATION_KEY));
        let key = setup::attestation_key(&root, value)?;
        certificates.expect_about(&key)?;
        let quote = key.quote(&claims.qualify(data), Selection::boot())?;
        Ok(Evidence::Tpm(TpmEvidence {
            attest: quote.attest,
            signature: quote.signature,
            certificates: certificates.certificates,
            registers: quote.registers.iter().map(value_of).collect(),
            launch: claims,
            report_data: *data,
        }))
    }

    /// The MAC of a report that is addressed to `target`.
    fn report_mac(&self, target: &TargetInfo, body: &ReportBody, key_id: &[u8; 32]) -> [u8; 16] {
        let target = target.to_bytes();
        let parts: [&[u8]; 3] = [target.as_bytes(), body.as_bytes(), key_id];
        self.report_key.expose(|key| *kmac256::<16>(key, &parts, context::TPM_REPORT))
    }
}

impl Machine for TpmMachine {
    fn measurement(&self, code: MrEnclave) -> Measurement {
        Measurement::Tpm(LaunchedCode::new(*code.as_bytes()))
    }

    fn identity(&self, secs: &Secs) -> Result<PlatformIdentity, Refusal> {
        Ok(PlatformIdentity {
            measurement: self.measurement(secs.measurement),
            signer: secs.signer,
            product_id: secs.product_id,
            isv_svn: secs.isv_svn,
            cpu_svn: NO_CPU_SVN,
            debug: secs.mode() == LaunchMode::Debug,
            platform: self.record.platform,
        })
    }

    fn sealing(&self) -> Sealing {
        Sealing::Recorded
    }

    fn seal_recipe(&self, secs: &Secs, key_id: Nonce) -> Result<SealRecipe, Refusal> {
        let (secret, isv_svn) = (MACHINE_SECRET, secs.isv_svn);
        Ok(SealRecipe::Tpm(TpmSealRecipe { secret, isv_svn, key_id }))
    }

    /// Other code, a debug twin, another signer and another machine have other keys. A higher
    /// version of the same code may have those of a lower one, and never the other way round.
    fn seal_key(&self, secs: &Secs, recipe: &SealRecipe) -> Result<Secret<16>, Refusal> {
        let SealRecipe::Tpm(recipe) = recipe else {
            return Err(Refusal::Unsupported(Lack::SealRecipe));
        };
        if recipe.secret != MACHINE_SECRET {
            let (asked, own) = (recipe.secret, MACHINE_SECRET);
            return Err(Refusal::MachineSecretTooHigh { asked, own });
        }
        if recipe.isv_svn > secs.isv_svn {
            let (asked, own) = (recipe.isv_svn, secs.isv_svn);
            return Err(Refusal::IsvSvnTooHigh { asked, own });
        }
        let parts: [&[u8]; 7] = [
            secs.measurement.as_bytes(),
            secs.signer.as_bytes(),
            &secs.product_id.to_be_bytes(),
            &[u8::from(secs.mode() == LaunchMode::Debug)],
            &recipe.secret.to_be_bytes(),
            &recipe.isv_svn.to_be_bytes(),
            recipe.key_id.as_bytes(),
        ];
        Ok(Secret::new(*self.derive::<16>(&parts, context::TPM_SEAL)))
    }

    fn evidence(&self, secs: &Secs, report_data: &ReportData) -> Result<Evidence, Refusal> {
        let claims = LaunchClaims {
            measurement: LaunchedCode::new(*secs.measurement.as_bytes()),
            signer: secs.signer,
            product_id: secs.product_id,
            isv_svn: secs.isv_svn,
            debug: secs.mode() == LaunchMode::Debug,
            authority: self.authority,
        };
        self.quote(claims, report_data).map_err(|error| failed(&error))
    }

    fn report(
        &self,
        secs: &Secs,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, Refusal> {
        let target = TargetInfo::from_bytes(target)?;
        let body = ReportBody::new(secs, NO_CPU_SVN, report_data);
        let key_id = [0; 32];
        let mac = self.report_mac(&target, &body, &key_id);
        Ok(Report { body, key_id, mac }.to_local())
    }

    fn verify_report(&self, secs: &Secs, report: &LocalReport) -> Result<(), Refusal> {
        let report = Report::from_bytes(report.as_bytes());
        let mac = self.report_mac(&secs.target_info(), &report.body, &report.key_id);
        if Secret::new(mac).same_as(&Secret::new(report.mac)) {
            return Ok(());
        }
        Err(Refusal::ForeignReport)
    }

    fn counter(&self, secs: &Secs, name: &CounterName) -> Result<u64, Refusal> {
        let tpm = self.tpm();
        let root = self.record.root(&tpm).map_err(|error| failed(&error))?;
        let value = self.counters().value(&root, &owner(secs), name);
        value.map_err(|error| failed(&error))
    }

    fn raise(&self, secs: &Secs, name: &CounterName, to: u64) -> Result<(), Refusal> {
        let tpm = self.tpm();
        let root = self.record.root(&tpm).map_err(|error| failed(&error))?;
        match self.counters().raise(&root, &owner(secs), name, to) {
            Err(MachineError::CounterJump { stands, to }) => {
                Err(Refusal::CounterJump { stands, to })
            }
            raised => raised.map_err(|error| failed(&error)),
        }
    }

    fn host_info(&self) -> Result<HostInfo, Refusal> {
        Ok(HostInfo {
            host: self.record.host.clone(),
            platform: self.record.platform,
            cpu_svn: NO_CPU_SVN,
            certified_cpu_svn: NO_CPU_SVN,
            protection: self.protection,
            kind: TeeKind::Tpm,
            group: None,
        })
    }
}

/// Under which name some code has its counters: no other code can name them.
fn owner(secs: &Secs) -> CounterOwner {
    CounterOwner::new(&secs.measurement, &secs.signer, secs.mode() == LaunchMode::Debug)
}

/// A register as evidence names it.
fn value_of(register: &Register) -> PcrValue {
    PcrValue { index: register.index, value: Register32::new(register.value) }
}

fn failed(error: &MachineError) -> Refusal {
    Refusal::Failed { reason: with_causes(error) }
}
