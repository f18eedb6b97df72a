//! Machines of several kinds, and what runs on them.

use heirloom_emulated::host::EmulatedHost;
use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_launcher::randomness::Randomness;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::digest::{CounterName, Nonce};
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::measurement::{Measurement, MrEnclave, TeeKind};
use heirloom_model::sealed::SealRecipe;
use heirloom_model::secret::Secret;
use heirloom_testkit::ceremony::{CODE_SIGNER, Code};
use heirloom_testkit::machine::SoftTpm;

/// A machine of some kind. Clones are the same machine.
#[derive(Clone)]
pub enum SimHost {
    /// An emulated CPU with the semantics of SGX.
    Emulated(EmulatedHost),
    /// A machine with a TPM.
    Tpm(SoftTpm),
}

impl SimHost {
    /// What evidence of this machine is of.
    pub fn kind(&self) -> TeeKind {
        match self {
            Self::Emulated(_) => TeeKind::Sgx,
            Self::Tpm(_) => TeeKind::Tpm,
        }
    }

    /// What a release is on this machine.
    pub fn code(&self, code: Code) -> Code {
        match self {
            Self::Emulated(_) => code,
            Self::Tpm(_) => code.on_tpm(),
        }
    }

    /// Launches code, which must be made for machines of this kind.
    pub fn launch(&self, code: Code, randomness: Randomness) -> Result<SimEnclave, String> {
        let digest = match code.measurement {
            Measurement::Sgx(digest) if self.kind() == TeeKind::Sgx => digest,
            Measurement::Tpm(digest) if self.kind() == TeeKind::Tpm => {
                MrEnclave::new(*digest.as_bytes())
            }
            other => return Err(format!("{other} does not start on a machine of another kind")),
        };
        self.launch_digest(digest, code, randomness)
    }

    /// Launches a bundle with this digest, whatever kind of machine it was made for.
    pub fn launch_digest(
        &self,
        digest: MrEnclave,
        code: Code,
        randomness: Randomness,
    ) -> Result<SimEnclave, String> {
        let secs = Secs {
            measurement: digest,
            signer: CODE_SIGNER,
            product_id: 1,
            isv_svn: u16::try_from(code.security_version.0).map_err(|error| error.to_string())?,
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
        Ok(SimEnclave(match self {
            Self::Emulated(host) => Box::new(host.launch(secs, randomness)),
            Self::Tpm(machine) => Box::new(machine.launch(secs, randomness)),
        }))
    }

    /// The same machine for another run: what a run changes for good is as at the beginning.
    #[must_use]
    pub fn renewed(&self) -> Self {
        match self {
            // Only a microcode update changes one, and whoever makes one has its own machine.
            Self::Emulated(host) => Self::Emulated(host.clone()),
            Self::Tpm(machine) => Self::Tpm(machine.renewed()),
        }
    }
}

/// A process on a machine of some kind.
pub struct SimEnclave(Box<dyn Platform + Send + Sync>);

impl Platform for SimEnclave {
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        self.0.identity()
    }

    fn sealing(&self) -> Result<Sealing, PlatformError> {
        self.0.sealing()
    }

    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
        self.0.seal_recipe(key_id)
    }

    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        self.0.seal_key(recipe)
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        self.0.evidence(report_data)
    }

    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        self.0.report_target()
    }

    fn report(
        &self,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, PlatformError> {
        self.0.report(target, report_data)
    }

    fn verify_report(&self, report: &LocalReport) -> Result<(), PlatformError> {
        self.0.verify_report(report)
    }

    fn counter(&self, name: &CounterName) -> Result<u64, PlatformError> {
        self.0.counter(name)
    }

    fn raise(&self, name: &CounterName, to: u64) -> Result<(), PlatformError> {
        self.0.raise(name, to)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        self.0.random(bytes)
    }
}
