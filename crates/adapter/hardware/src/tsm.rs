//! TDX and SEV-SNP, for a keeper in a confidential virtual machine: configfs-tsm (Linux 6.7).
//!
//! One question is one directory, which the kernel fills with files, and which is removed whether
//! there was an answer or not. The kernel reports a refused write of binary files to nobody; that
//! all of ours were taken, and nobody else's, the `generation` shows before and after reading.
//!
//! SEV-SNP reports come from the firmware under a key that the host does not have, so identity and
//! seal recipes rest on them. TDX quotes pass through the host: a host that lies to its guest in
//! them makes evidence that nobody accepts, and a trust domain has nothing to seal.

mod certificates;
mod request;

use std::path::{Path, PathBuf};

use heirloom_attest::decode;
use heirloom_attest::snp::Report;
use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_model::appraisal::VekKind;
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{
    Certificate, Evidence, LocalReport, ReportData, ReportTarget, SnpEvidence,
};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{Measurement, MrSigner, TeeKind};
use heirloom_model::sealed::{CpuSvn, SealRecipe};
use heirloom_model::secret::Secret;

use self::certificates::CertificateTable;
use self::request::Answer;
use crate::derive;
use crate::derived_key::{self, GuestDevice};

/// Where Linux has the directory for questions.
pub const ROOT: &str = "/sys/kernel/config/tsm/report";

/// Who answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Provider {
    SevGuest,
    TdxGuest,
}

/// The confidential virtual machine that this process runs in.
pub struct Tsm {
    root: PathBuf,
    provider: Provider,
    certificates: Vec<Certificate>,
    device: Box<dyn GuestDevice>,
}

impl Tsm {
    /// The machine of this process.
    ///
    /// `certificates` are of the key that signs SEV-SNP reports and of its issuer, for hosts that
    /// do not supply them; what the host supplies is taken first. `device` is what SEV-SNP seals
    /// with.
    pub fn open(
        root: &Path,
        certificates: Vec<Certificate>,
        device: Box<dyn GuestDevice>,
    ) -> Result<Self, PlatformError> {
        let provider = match request::provider(root)?.as_str() {
            "sev_guest" => Provider::SevGuest,
            "tdx_guest" => Provider::TdxGuest,
            found => {
                return Err(PlatformError::Corrupt(format!(
                    "{}: evidence of {found:?} is not known",
                    root.display()
                )));
            }
        };
        Ok(Self { root: root.to_owned(), provider, certificates, device })
    }

    /// What this machine is.
    pub fn kind(&self) -> TeeKind {
        match self.provider {
            Provider::SevGuest => TeeKind::Snp,
            Provider::TdxGuest => TeeKind::Tdx,
        }
    }

    fn ask(&self, data: &ReportData) -> Result<Answer, PlatformError> {
        let provider = match self.provider {
            Provider::SevGuest => "sev_guest",
            Provider::TdxGuest => "tdx_guest",
        };
        request::ask(&self.root, provider, data)
    }

    /// The report of a SEV-SNP guest with this report data, and what came along.
    fn snp(&self, data: &ReportData) -> Result<Answer, PlatformError> {
        let answer = self.ask(data)?;
        let found = self.parse(&answer.blob)?.report_data();
        if found != *data {
            return Err(self.corrupt("the report answers another question"));
        }
        Ok(answer)
    }

    fn own_report(&self) -> Result<Answer, PlatformError> {
        self.snp(&ReportData::new([0; ReportData::BYTES]))
    }

    fn parse<'a>(&self, report: &'a [u8]) -> Result<Report<'a>, PlatformError> {
        Report::parse(report).map_err(|error| self.corrupt(&error.to_string()))
    }

    /// The quote of a trust domain with this report data.
    fn tdx(&self, data: &ReportData) -> Result<Evidence, PlatformError> {
        let answer = self.ask(data)?;
        let quote = decode::unpadded_quote(&answer.blob)
            .map_err(|error| self.corrupt(&error.to_string()))?;
        let evidence = Evidence::TdxDcap(quote.to_vec());
        if self.claims(&evidence)?.report_data != Some(*data) {
            return Err(self.corrupt("the quote answers another question"));
        }
        Ok(evidence)
    }

    fn claims(&self, evidence: &Evidence) -> Result<decode::UnverifiedClaims, PlatformError> {
        decode::unverified(evidence).map_err(|error| self.corrupt(&error.to_string()))
    }

    /// The certificates of the key that signed a report: the host's, or those that were configured.
    fn certificates(&self, answer: &Answer) -> Result<Vec<Certificate>, PlatformError> {
        let table = CertificateTable::parse(&answer.auxiliary)
            .map_err(|error| self.corrupt(&error.to_string()))?;
        let kind = self.parse(&answer.blob)?.signing_key();
        let kind = kind.map_err(|error| self.corrupt(&error.to_string()))?;
        let Some(key) = table.key(kind) else {
            if self.certificates.is_empty() {
                return Err(PlatformError::Unsupported(
                    "evidence without the certificate of the report's key: the host supplies \
                     none, and none was configured",
                ));
            }
            return Ok(self.certificates.clone());
        };
        let configured = || self.certificates.iter().skip(1).cloned().collect();
        let issuers = table.issuer().map_or_else(configured, |issuer| vec![issuer.clone()]);
        Ok([vec![key.clone()], issuers].concat())
    }

    fn snp_identity(&self) -> Result<PlatformIdentity, PlatformError> {
        let answer = self.own_report()?;
        let report = self.parse(&answer.blob)?;
        let Ok(isv_svn) = u16::try_from(report.guest_svn()) else {
            return Err(PlatformError::Unsupported("a guest security version above 65535"));
        };
        let key = report.signing_key().map_err(|error| self.corrupt(&error.to_string()))?;
        Ok(PlatformIdentity {
            measurement: Measurement::Snp(report.launch_digest()),
            signer: NO_SIGNER,
            product_id: 0,
            isv_svn,
            cpu_svn: derived_key::cpu_svn(report.committed_tcb()),
            debug: report.is_debug(),
            platform: match (key, report.chip_id()) {
                (VekKind::Vlek, _) | (VekKind::Vcek, HIDDEN_CHIP) => NO_PLATFORM,
                (VekKind::Vcek, chip) => PlatformId::of_chip(&chip),
            },
        })
    }

    fn tdx_identity(&self) -> Result<PlatformIdentity, PlatformError> {
        let claims = self.claims(&self.tdx(&ReportData::new([0; ReportData::BYTES]))?)?;
        let missing = || self.corrupt("the quote does not name code, machine and their version");
        let quoted = claims.quoted.ok_or_else(missing)?;
        Ok(PlatformIdentity {
            measurement: claims.measurement.ok_or_else(missing)?,
            signer: NO_SIGNER,
            product_id: 0,
            isv_svn: 0,
            cpu_svn: CpuSvn::new(quoted.tcb_svn),
            debug: claims.debug,
            platform: claims.platform.ok_or_else(missing)?,
        })
    }

    fn corrupt(&self, what: &str) -> PlatformError {
        PlatformError::Corrupt(format!("{}: {what}", self.root.display()))
    }
}

/// Virtual machines are measured, and not signed by a key that counts.
const NO_SIGNER: MrSigner = MrSigner::new([0; MrSigner::BYTES]);
/// Reports under a provider's key do not name the chip, and an owner can hide it.
const NO_PLATFORM: PlatformId = PlatformId::new([0; PlatformId::BYTES]);

/// What reports say where the machine's owner hides the chip.
const HIDDEN_CHIP: [u8; 64] = [0; 64];

/// What trust domains do not have.
const NO_SEALING: &str =
    "sealing: a TDX trust domain has no key of its own; take the keyring from another holder";
/// What virtual machines do not have.
const NO_LOCAL_REPORTS: &str = "local reports between virtual machines";

impl Platform for Tsm {
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        match self.provider {
            Provider::SevGuest => self.snp_identity(),
            Provider::TdxGuest => self.tdx_identity(),
        }
    }

    fn sealing(&self) -> Result<Sealing, PlatformError> {
        Ok(match self.provider {
            Provider::SevGuest => Sealing::Recorded,
            Provider::TdxGuest => Sealing::None,
        })
    }

    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
        match self.provider {
            Provider::TdxGuest => Err(PlatformError::Unsupported(NO_SEALING)),
            Provider::SevGuest => {
                let answer = self.own_report()?;
                Ok(SealRecipe::Snp(derived_key::recipe(self.parse(&answer.blob)?, key_id)))
            }
        }
    }

    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        match (self.provider, recipe) {
            (Provider::TdxGuest, _) => Err(PlatformError::Unsupported(NO_SEALING)),
            (Provider::SevGuest, SealRecipe::Snp(recipe)) => {
                let answer = self.own_report()?;
                derived_key::seal_key(&*self.device, self.parse(&answer.blob)?, recipe)
            }
            (Provider::SevGuest, _) => Err(PlatformError::Unsupported(derive::OTHER_RECIPE)),
        }
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        match self.provider {
            Provider::TdxGuest => self.tdx(report_data),
            Provider::SevGuest => {
                let answer = self.snp(report_data)?;
                let certificates = self.certificates(&answer)?;
                Ok(Evidence::Snp(SnpEvidence { report: answer.blob, certificates }))
            }
        }
    }

    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        Err(PlatformError::Unsupported(NO_LOCAL_REPORTS))
    }

    fn report(&self, _: &ReportTarget, _: &ReportData) -> Result<LocalReport, PlatformError> {
        Err(PlatformError::Unsupported(NO_LOCAL_REPORTS))
    }

    fn verify_report(&self, _: &LocalReport) -> Result<(), PlatformError> {
        Err(PlatformError::Unsupported(NO_LOCAL_REPORTS))
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        derive::system_random(bytes)
    }
}
