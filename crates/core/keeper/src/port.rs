//! What the keeper needs from the outside, as traits that adapters implement.

use heirloom_model::digest::{CounterName, Nonce};
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{Measurement, MrSigner};
use heirloom_model::sealed::{CpuSvn, SealRecipe};
use heirloom_model::secret::Secret;

/// One TEE, seen from the code that runs in it.
///
/// Every call is answered by the platform about the caller itself; the caller cannot choose who
/// it is. No call but [`Self::raise`] changes anything, and that one names the value that it
/// wants: each may be repeated after a crash.
pub trait Platform {
    /// Who the platform says we are.
    fn identity(&self) -> Result<PlatformIdentity, PlatformError>;

    /// What sealing on this platform survives.
    fn sealing(&self) -> Result<Sealing, PlatformError>;

    /// What to seal with now: the recipe that records the present circumstances, with this key
    /// identifier. Platforms without sealing answer [`PlatformError::Unsupported`].
    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError>;

    /// The seal key of a recipe. Equal recipes give equal keys, for the same code on the same
    /// platform only.
    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError>;

    /// Evidence that carries `report_data`.
    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError>;

    /// Where a local report for this code must be addressed to. Platforms without local
    /// attestation answer [`PlatformError::Unsupported`].
    fn report_target(&self) -> Result<ReportTarget, PlatformError>;

    /// A local report about this code that carries `report_data`, for the code at `target`.
    fn report(
        &self,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, PlatformError>;

    /// Checks that a report was made on this very CPU and addressed to this code. It says nothing
    /// about what the report contains; [`PlatformError::ReportRefused`] if it was not.
    fn verify_report(&self, report: &LocalReport) -> Result<(), PlatformError>;

    /// Where a counter stands that only this code on this platform can raise, and nobody can
    /// lower. Platforms without one answer [`PlatformError::Unsupported`]: sealed files on them
    /// have no freshness of their own.
    fn counter(&self, _name: &CounterName) -> Result<u64, PlatformError> {
        Err(PlatformError::Unsupported(NO_COUNTER))
    }

    /// Raises a counter by one step to this value. When this returns, it stands there durably. One
    /// that stands there or higher stays as it is, so that a raise may be repeated after a crash;
    /// one that stands lower by more than a step is refused.
    fn raise(&self, _name: &CounterName, _to: u64) -> Result<(), PlatformError> {
        Err(PlatformError::Unsupported(NO_COUNTER))
    }

    /// Fills `bytes` from the platform's generator.
    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError>;
}

/// What platforms without a counter answer.
pub const NO_COUNTER: &str = "a counter that nobody can lower";

/// What sealing on a platform survives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sealing {
    /// Recipes record everything that a key depends on, and the keys of recorded values can be
    /// asked for: what was sealed opens after firmware was updated, and after the same code
    /// started again. SGX, a machine with a TPM, SEV-SNP.
    Recorded,
    /// Keys depend on the present circumstances, and no others can be asked for: what was sealed
    /// opens for as long as these are what they were. After an update of firmware or security
    /// version a keeper must be given its keyring by another holder. Gramine's key files.
    CurrentOnly,
    /// Nothing can be sealed. A keeper holds its keyring in memory for as long as it runs, and is
    /// never a proven holder. TDX, Nitro.
    None,
}

/// What the platform says about the code that calls it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PlatformIdentity {
    /// The code.
    pub measurement: Measurement,
    /// Who signed it.
    pub signer: MrSigner,
    /// Product identifier (ISVPRODID).
    pub product_id: u16,
    /// Security version of the code (ISVSVN).
    pub isv_svn: u16,
    /// Security version of the platform.
    pub cpu_svn: CpuSvn,
    /// Whether the code can be read from outside. Keepers refuse to hold keys then.
    pub debug: bool,
    /// The machine.
    pub platform: PlatformId,
}

/// Why the platform did not answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlatformError {
    /// The recipe asks for a security version that this code does not have (yet).
    #[error("the platform refuses a key for ISVSVN {asked}: this code has {own}")]
    IsvSvnTooHigh {
        /// In the recipe.
        asked: u16,
        /// Of the code.
        own: u16,
    },
    /// The recipe asks for a platform security version that the platform does not have (any more).
    #[error("the platform refuses a key for CPUSVN {asked}: it stands at {own}")]
    CpuSvnTooHigh {
        /// In the recipe.
        asked: CpuSvn,
        /// Of the platform.
        own: CpuSvn,
    },
    /// The recipe names a secret of the machine that the machine does not have (any more).
    #[error("the platform refuses a key of machine secret {asked}: its newest is {own}")]
    MachineSecretTooHigh {
        /// In the recipe.
        asked: u32,
        /// The newest of the machine.
        own: u32,
    },
    /// The key depended on circumstances that are other ones now, and cannot be asked for.
    #[error("the platform has no key for other circumstances than the present ones: {0}")]
    OtherCircumstances(String),
    /// A counter goes up by single steps.
    #[error("the counter stands at {stands} and is not raised to {to} at once")]
    CounterJump {
        /// Where it stands.
        stands: u64,
        /// Asked for.
        to: u64,
    },
    /// A local report was not made on this CPU, or not for this code.
    #[error("the report was not made on this machine for this code")]
    ReportRefused,
    /// The platform does not support the request.
    #[error("the platform does not support this: {0}")]
    Unsupported(&'static str),
    /// The platform does not know the caller.
    #[error("the platform did not launch this process")]
    NotMeasured,
    /// The platform did not answer.
    #[error("the platform cannot be reached: {0}")]
    Unreachable(String),
    /// The platform answered something that is no answer.
    #[error("the platform's answer cannot be understood: {0}")]
    Corrupt(String),
}

/// The directory in which one keeper leaves its sealed files.
///
/// Every call may be repeated after a crash. A file is whole or absent, never torn.
pub trait StateStore {
    /// Makes a file durable under its name: content, name and directory.
    ///
    /// When this returns, the file survives a power failure. After an error or a crash it may or
    /// may not be there, but nothing else is under its name.
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Removes a file, if it is there. It may come back after a power failure until the directory
    /// is flushed.
    ///
    /// A keeper asks this only for files that newer durable files have made worthless, and asks
    /// again for one that came back. An upgrader also asks it for its copy, when the log shows that
    /// it is not needed any more: whoever carries that out flushes before completing the intent.
    fn remove(&mut self, name: &str) -> Result<(), StoreError>;
}

/// Why a file was not written or removed. What was there before is still there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// No space is left.
    #[error("no space is left for {file}")]
    Full {
        /// The file.
        file: String,
    },
    /// The system did not do it.
    #[error("{file} could not be written: {reason}")]
    Failed {
        /// The file.
        file: String,
        /// What the system said.
        reason: String,
    },
}
