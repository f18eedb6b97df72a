//! One emulated machine in this process, and enclaves that run on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_keeper::sealing::sgx_recipe;
use heirloom_launcher::protocol::Lack;
use heirloom_launcher::randomness::Randomness;
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::Measurement;
use heirloom_model::sealed::{CpuSvn, SealRecipe};
use heirloom_model::secret::Secret;

use crate::cpu::{Cpu, CpuSvnExhausted, ForeignReport, FuseKeys, KeyError, VerifiedReport};
use crate::provisioning::{DevelopmentRoot, FIRST_CPU_SVN, PckCertificate, PckRequest};
use crate::quote::QuotingEnclave;
use heirloom_launcher::report::{LaunchMode, Report, Secs, TargetInfo};

/// One machine: a CPU and its quoting enclave. Clones are the same machine.
#[derive(Clone)]
pub struct EmulatedHost(Arc<Machine>);

struct Machine {
    platform: PlatformId,
    state: Mutex<State>,
}

struct State {
    cpu: Cpu,
    quoting: QuotingEnclave,
}

impl EmulatedHost {
    /// A machine with given fuses and certificate.
    pub fn new(fuses: FuseKeys, cpu_svn: CpuSvn, certificate: &PckCertificate) -> Self {
        let cpu = Cpu::new(fuses, cpu_svn);
        let quoting = QuotingEnclave::new(&cpu, certificate);
        let state = Mutex::new(State { cpu, quoting });
        Self(Arc::new(Machine { platform: certificate.platform(), state }))
    }

    /// The new machine of a seed, certified by a development root. Equal seeds give the same
    /// machine.
    pub fn from_seed(root: &DevelopmentRoot, seed: &[u8; 32]) -> Self {
        Self::from_seed_at(root, seed, FIRST_CPU_SVN)
    }

    /// The machine of a seed at a given security version: an older one is a machine whose
    /// microcode was rolled back.
    pub fn from_seed_at(root: &DevelopmentRoot, seed: &[u8; 32], cpu_svn: CpuSvn) -> Self {
        let fuses = FuseKeys::from_seed(seed);
        let certificate = root.certify(&PckRequest {
            ppid: fuses.ppid(),
            public_key: fuses.pck_public(),
            cpu_svn,
        });
        Self::new(fuses, cpu_svn, &certificate)
    }

    /// Launches an enclave.
    pub fn launch(&self, secs: Secs, randomness: Randomness) -> EmulatedEnclave {
        EmulatedEnclave { host: self.clone(), secs, randomness: Mutex::new(randomness) }
    }

    /// Loads the next microcode. Quotes show it only after [`Self::certify_again`]; until then
    /// the certificate says less than the machine could.
    pub fn update_microcode(&self) -> Result<CpuSvn, CpuSvnExhausted> {
        self.lock().cpu.update_microcode()
    }

    /// Has the machine certified at its current security version.
    pub fn certify_again(&self, root: &DevelopmentRoot) -> PckCertificate {
        let request = self.pck_request();
        let certificate = root.certify(&request);
        let mut state = self.lock();
        state.quoting = QuotingEnclave::new(&state.cpu, &certificate);
        certificate
    }

    /// What the manufacturer must know to certify the machine as it stands.
    pub fn pck_request(&self) -> PckRequest {
        let state = self.lock();
        let fuses = state.cpu.fuses();
        PckRequest {
            ppid: fuses.ppid(),
            public_key: fuses.pck_public(),
            cpu_svn: state.cpu.cpu_svn(),
        }
    }

    /// The machine, as appraisal names it.
    pub fn platform(&self) -> PlatformId {
        self.0.platform
    }

    /// Where the CPU stands.
    pub fn cpu_svn(&self) -> CpuSvn {
        self.lock().cpu.cpu_svn()
    }

    /// Who an enclave on this machine is.
    pub(crate) fn identity(&self, secs: &Secs) -> PlatformIdentity {
        PlatformIdentity {
            measurement: Measurement::Sgx(secs.measurement),
            signer: secs.signer,
            product_id: secs.product_id,
            isv_svn: secs.isv_svn,
            cpu_svn: self.cpu_svn(),
            debug: secs.mode() == LaunchMode::Debug,
            platform: self.platform(),
        }
    }

    /// With what an enclave seals now.
    pub(crate) fn seal_recipe(&self, secs: &Secs, key_id: Nonce) -> SealRecipe {
        SealRecipe::Sgx(sgx_recipe(&self.identity(secs), key_id))
    }

    /// The seal key of a recipe for an enclave.
    pub(crate) fn seal_key(
        &self,
        secs: &Secs,
        recipe: &SealRecipe,
    ) -> Result<Secret<16>, KeyError> {
        let SealRecipe::Sgx(recipe) = recipe else { return Err(KeyError::OtherRecipe) };
        self.lock().cpu.seal_key(secs, recipe)
    }

    /// A quote about an enclave.
    pub(crate) fn evidence(&self, secs: &Secs, report_data: &ReportData) -> Evidence {
        let state = self.lock();
        let report = state.cpu.report(secs, &state.quoting.target_info(), report_data);
        let quote = state.quoting.quote(&state.cpu, &report);
        Evidence::SgxDcap(quote.expect("the report was made on this CPU for its quoting enclave"))
    }

    /// A report of an enclave for another on this machine.
    pub(crate) fn report(&self, secs: &Secs, target: &TargetInfo, data: &ReportData) -> Report {
        self.lock().cpu.report(secs, target, data)
    }

    /// What an enclave finds out about a report.
    pub(crate) fn verify_report(
        &self,
        secs: &Secs,
        report: &Report,
    ) -> Result<VerifiedReport, ForeignReport> {
        self.lock().cpu.verify_report(secs, report)
    }

    /// A panic cannot leave the state half changed: every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An enclave in this process. What it may ask is what a measured process may ask.
pub struct EmulatedEnclave {
    host: EmulatedHost,
    secs: Secs,
    randomness: Mutex<Randomness>,
}

impl Platform for EmulatedEnclave {
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        Ok(self.host.identity(&self.secs))
    }

    fn sealing(&self) -> Result<Sealing, PlatformError> {
        Ok(Sealing::Recorded)
    }

    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
        Ok(self.host.seal_recipe(&self.secs, key_id))
    }

    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        Ok(self.host.seal_key(&self.secs, recipe)?)
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        Ok(self.host.evidence(&self.secs, report_data))
    }

    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        Ok(self.secs.target_info().to_bytes())
    }

    fn report(
        &self,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, PlatformError> {
        let target = TargetInfo::from_bytes(target)?;
        Ok(self.host.report(&self.secs, &target, report_data).to_local())
    }

    fn verify_report(&self, report: &LocalReport) -> Result<(), PlatformError> {
        self.host.verify_report(&self.secs, &Report::from_bytes(report.as_bytes()))?;
        Ok(())
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        let mut randomness = self.randomness.lock().unwrap_or_else(PoisonError::into_inner);
        randomness(bytes);
        Ok(())
    }
}

impl From<KeyError> for PlatformError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::InvalidIsvSvn { asked, own } => Self::IsvSvnTooHigh { asked, own },
            KeyError::InvalidCpuSvn { asked, own } => Self::CpuSvnTooHigh { asked, own },
            KeyError::OtherRecipe => Self::Unsupported(Lack::SealRecipe.words()),
        }
    }
}

impl From<ForeignReport> for PlatformError {
    fn from(_: ForeignReport) -> Self {
        Self::ReportRefused
    }
}
