//! SGX, for code that Gramine runs: the files below `/dev/attestation`.
//!
//! Who the keeper is comes from a report that the CPU makes inside the enclave. Quotes and the
//! name of the machine pass through the host: a host that lies about them makes evidence that
//! nobody accepts.
//!
//! **The trap.** Gramine's `_sgx_mrenclave` is EGETKEY with the *present* CPUSVN and ISVSVN and
//! without any identifier, and there is no way to ask for the key of older ones. After a microcode
//! update that raises the CPUSVN the file silently has another key, and what was sealed before is
//! lost unless another holder has it. So the recipe records what the key depended on, a key of
//! other circumstances is refused before it is asked for, and [`Platform::sealing`] says
//! [`Sealing::CurrentOnly`], so that plans treat a firmware update as the loss of this copy.

mod report;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use heirloom_attest::decode;
use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_model::context;
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::Measurement;
use heirloom_model::sealed::{GramineSealRecipe, SealRecipe};
use heirloom_model::secret::Secret;

use self::report::EnclaveReport;
use crate::limit::OUTBLOB_BYTES_MAX;
use crate::{derive, file};

/// Where Gramine has its files.
pub const ROOT: &str = "/dev/attestation";

/// What Gramine must be told in its manifest.
const ATTESTATION_TYPE: &str = "dcap";

/// The enclave that Gramine made of this process.
pub struct Gramine {
    root: PathBuf,
    /// A question is some files written and one read: nobody may write in between.
    turn: Mutex<()>,
    platform: OnceLock<PlatformId>,
}

impl Gramine {
    /// The enclave of this process. A process has one, and should ask for it once: its files are
    /// shared, and answers to somebody else's question are refused.
    pub fn open(root: &Path) -> Result<Self, PlatformError> {
        let kind = file::read_word(&root.join("attestation_type"))?;
        if kind != ATTESTATION_TYPE {
            return Err(PlatformError::Unsupported(
                "evidence of another kind than DCAP: set sgx.remote_attestation = \"dcap\" in \
                 Gramine's manifest",
            ));
        }
        Ok(Self { root: root.to_owned(), turn: Mutex::new(()), platform: OnceLock::new() })
    }

    /// What the CPU says about this enclave.
    fn own_report(&self) -> Result<EnclaveReport, PlatformError> {
        let target = file::read_exactly::<{ ReportTarget::BYTES }>(&self.at("my_target_info"))?;
        let data = ReportData::new([0; ReportData::BYTES]);
        let report = self.report_for(&ReportTarget::new(*target), &data)?;
        Ok(EnclaveReport::new(&report))
    }

    fn report_for(
        &self,
        target: &ReportTarget,
        data: &ReportData,
    ) -> Result<LocalReport, PlatformError> {
        let turn = self.lock();
        file::write(&self.at("target_info"), target.as_bytes())?;
        file::write(&self.at("user_report_data"), data.as_bytes())?;
        let path = self.at("report");
        let report = LocalReport::new(*file::read_exactly(&path)?);
        drop(turn);
        if EnclaveReport::new(&report).report_data() != *data {
            return Err(file::corrupt(&path, ANOTHER_QUESTION));
        }
        Ok(report)
    }

    /// The machine, as its quotes name it. A process does not move.
    fn platform(&self) -> Result<PlatformId, PlatformError> {
        if let Some(platform) = self.platform.get() {
            return Ok(*platform);
        }
        let evidence = self.evidence(&ReportData::new([0; ReportData::BYTES]))?;
        let claims = decode::unverified(&evidence)
            .map_err(|error| file::corrupt(&self.at("quote"), &error.to_string()))?;
        let platform = claims
            .platform
            .ok_or_else(|| file::corrupt(&self.at("quote"), "does not name the machine"))?;
        Ok(*self.platform.get_or_init(|| platform))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// There is nothing behind the lock that a panic could leave half changed.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said about an answer with other report data than was asked for.
const ANOTHER_QUESTION: &str =
    "answers another question: something else in this process uses these files";

impl Platform for Gramine {
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        let report = self.own_report()?;
        Ok(PlatformIdentity {
            measurement: Measurement::Sgx(report.measurement()),
            signer: report.signer(),
            product_id: report.product_id(),
            isv_svn: report.isv_svn(),
            cpu_svn: report.cpu_svn(),
            debug: report.is_debug(),
            platform: self.platform()?,
        })
    }

    fn sealing(&self) -> Result<Sealing, PlatformError> {
        Ok(Sealing::CurrentOnly)
    }

    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
        let report = self.own_report()?;
        let (isv_svn, cpu_svn) = (report.isv_svn(), report.cpu_svn());
        Ok(SealRecipe::Gramine(GramineSealRecipe { isv_svn, cpu_svn, key_id }))
    }

    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        let SealRecipe::Gramine(recipe) = recipe else {
            return Err(PlatformError::Unsupported(derive::OTHER_RECIPE));
        };
        let report = self.own_report()?;
        if (recipe.isv_svn, recipe.cpu_svn) != (report.isv_svn(), report.cpu_svn()) {
            return Err(PlatformError::OtherCircumstances(format!(
                "it was sealed at ISVSVN {} and CPUSVN {}, and the enclave is at ISVSVN {} and \
                 CPUSVN {} now; bring the earlier firmware back, or take the keyring from another \
                 holder",
                recipe.isv_svn,
                recipe.cpu_svn,
                report.isv_svn(),
                report.cpu_svn(),
            )));
        }
        let key = file::read_exactly::<16>(&self.at("keys/_sgx_mrenclave"))?;
        Ok(derive::seal_key(key.as_slice(), context::GRAMINE_SEAL, &recipe.key_id))
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        let path = self.at("quote");
        let turn = self.lock();
        file::write(&self.at("user_report_data"), report_data.as_bytes())?;
        let quote = file::read(&path, OUTBLOB_BYTES_MAX)?;
        drop(turn);
        let corrupt = |what: &str| file::corrupt(&path, what);
        let quote = decode::unpadded_quote(&quote).map_err(|error| corrupt(&error.to_string()))?;
        let evidence = Evidence::SgxDcap(quote.to_vec());
        let claims = decode::unverified(&evidence).map_err(|error| corrupt(&error.to_string()))?;
        if claims.report_data != Some(*report_data) {
            return Err(corrupt(ANOTHER_QUESTION));
        }
        Ok(evidence)
    }

    /// Gramine's files address reports, but have no key to check those that others send. So nobody
    /// is invited to send one.
    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        Err(PlatformError::Unsupported(NO_REPORT_KEY))
    }

    fn report(
        &self,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, PlatformError> {
        self.report_for(target, report_data)
    }

    fn verify_report(&self, _report: &LocalReport) -> Result<(), PlatformError> {
        Err(PlatformError::Unsupported(NO_REPORT_KEY))
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        derive::system_random(bytes)
    }
}

/// What Gramine's files do not offer.
const NO_REPORT_KEY: &str = "checking local reports: Gramine lends no report key";
