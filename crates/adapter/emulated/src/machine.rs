//! The machine in a directory, below a launcher.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use heirloom_keeper::port::{PlatformIdentity, Sealing};
use heirloom_launcher::daemon::{Daemon, DaemonError, Isolation, MachineLock, Stopper};
use heirloom_launcher::machine::Machine;
use heirloom_launcher::protocol::{HostInfo, Lack, Refusal, WireProtection};
use heirloom_launcher::report::{Report, Secs, TargetInfo};
use heirloom_model::causes::with_causes;
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::measurement::{Measurement, MrEnclave, TeeKind};
use heirloom_model::sealed::{CpuSvn, SealRecipe};
use heirloom_model::secret::Secret;

use crate::cpu::{ForeignReport, KeyError};
use crate::host::EmulatedHost;
use crate::state::{HostDirectory, StateError};

/// A machine that has its fuses and its record in a directory.
///
/// It has no counter: real SGX of today has none either, and a file is not one.
pub struct EmulatedMachine {
    host: EmulatedHost,
    protection: WireProtection,
    directory: Mutex<HostDirectory>,
}

/// Why a machine is not served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The machine's directory cannot be used.
    #[error("the machine's state cannot be used")]
    State(#[from] StateError),
    /// The daemon did not start.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

/// Opens the machine in a directory and listens for what it launches.
pub fn bind(state: &Path, socket: &Path) -> Result<(Daemon, Stopper), BindError> {
    // What is not there is said before anything is made there.
    HostDirectory::open(state)?;
    let lock = MachineLock::take(state)?;
    let machine = EmulatedMachine::open(state)?;
    Ok(Daemon::bind(Box::new(machine), lock, socket, Isolation::Machine)?)
}

impl EmulatedMachine {
    /// Switches the machine in a directory on.
    pub fn open(state: &Path) -> Result<Self, StateError> {
        let directory = HostDirectory::open(state)?;
        let (fuses, protection) = directory.fuses()?;
        let record = directory.record();
        let host = EmulatedHost::new(fuses, record.cpu_svn, &record.certificate);
        Ok(Self { host, protection: protection.into(), directory: Mutex::new(directory) })
    }

    /// Every change under this lock is complete when it can panic.
    fn directory(&self) -> MutexGuard<'_, HostDirectory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine for EmulatedMachine {
    fn measurement(&self, code: MrEnclave) -> Measurement {
        Measurement::Sgx(code)
    }

    fn identity(&self, secs: &Secs) -> Result<PlatformIdentity, Refusal> {
        Ok(self.host.identity(secs))
    }

    fn sealing(&self) -> Sealing {
        Sealing::Recorded
    }

    fn seal_recipe(&self, secs: &Secs, key_id: Nonce) -> Result<SealRecipe, Refusal> {
        Ok(self.host.seal_recipe(secs, key_id))
    }

    fn seal_key(&self, secs: &Secs, recipe: &SealRecipe) -> Result<Secret<16>, Refusal> {
        self.host.seal_key(secs, recipe).map_err(|error| match error {
            KeyError::InvalidIsvSvn { asked, own } => Refusal::IsvSvnTooHigh { asked, own },
            KeyError::InvalidCpuSvn { asked, own } => Refusal::CpuSvnTooHigh { asked, own },
            KeyError::OtherRecipe => Refusal::Unsupported(Lack::SealRecipe),
        })
    }

    fn evidence(&self, secs: &Secs, report_data: &ReportData) -> Result<Evidence, Refusal> {
        Ok(self.host.evidence(secs, report_data))
    }

    fn report(
        &self,
        secs: &Secs,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, Refusal> {
        let target = TargetInfo::from_bytes(target)?;
        Ok(self.host.report(secs, &target, report_data).to_local())
    }

    fn verify_report(&self, secs: &Secs, report: &LocalReport) -> Result<(), Refusal> {
        let verified = self.host.verify_report(secs, &Report::from_bytes(report.as_bytes()));
        verified.map(|_| ()).map_err(|ForeignReport| Refusal::ForeignReport)
    }

    fn host_info(&self) -> Result<HostInfo, Refusal> {
        let directory = self.directory();
        let record = directory.record();
        Ok(HostInfo {
            host: record.host.clone(),
            platform: self.host.platform(),
            cpu_svn: self.host.cpu_svn(),
            certified_cpu_svn: record.certificate.cpu_svn,
            protection: self.protection,
            kind: TeeKind::Sgx,
            group: None,
        })
    }

    /// Durable first: a CPU that was seen at a version never comes back below it.
    fn update_microcode(&self) -> Result<CpuSvn, Refusal> {
        let mut directory = self.directory();
        let failed = |error: &dyn std::error::Error| Refusal::Failed { reason: with_causes(error) };
        let durable = directory.update_microcode().map_err(|error| failed(&error))?;
        // More than one step, if another became durable while this daemon ran.
        while self.host.cpu_svn() != durable {
            self.host.update_microcode().map_err(|error| failed(&error))?;
        }
        Ok(durable)
    }
}
