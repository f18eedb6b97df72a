//! Local attestation: what code says to other code on the same CPU, or under the same launcher.
//!
//! A report (SGX: EREPORT) is authenticated by a key that only the enclave that it is addressed
//! to can ask of the CPU that made it. So nobody but that enclave can check it, and no
//! manufacturer's endorsements are needed: one CPU vouches for itself. That the CPU is a genuine
//! one is for the session's evidence to say.

use heirloom_model::counter::SecurityVersion;
use heirloom_model::evidence::{LocalReport, ReportData};
use heirloom_model::measurement::{LaunchedCode, Measurement, MrSigner, TeeKind};
use heirloom_model::sealed::CpuSvn;

use crate::error::AppraiseError;
use crate::quote::Report;

/// What is known about another enclave of the same CPU after its report was appraised.
///
/// Only [`appraise_local`] makes one, so whoever holds one holds the outcome of an appraisal:
///
/// ```compile_fail
/// let forged = heirloom_attest::local::LocalAttestation {};
/// ```
///
/// It says which enclave of this CPU answered exactly the expected question. Whether this code
/// may do anything is for the domain's policy to say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalAttestation {
    measurement: Measurement,
    signer: MrSigner,
    product_id: u16,
    security_version: SecurityVersion,
    cpu_svn: CpuSvn,
}

/// Why there is no local attestation. `E` is what the platform says.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LocalError<E> {
    /// No policy can allow an enclave like this.
    #[error("the report describes an enclave that no policy can allow")]
    Denied(#[source] AppraiseError),
    /// The platform did not find that the report was made on this CPU for this enclave.
    #[error("the platform did not verify the report")]
    NotVerified(#[source] E),
    /// The report was made for something else.
    #[error("the report data is {found}, not {expected}")]
    ReportDataMismatch {
        /// What the caller asked for.
        expected: Box<ReportData>,
        /// In the report.
        found: Box<ReportData>,
    },
}

/// Appraises a report that is addressed to this enclave.
///
/// `kind` is what the platform says about this enclave itself: whatever is on the same CPU, or
/// under the same launcher of a machine with a TPM, is of the same kind. Other kinds have no such
/// reports.
///
/// `verify` asks the platform whether the report was made on this CPU for this enclave, and is
/// not called if nothing could come of it. Everything is refused that is refused in evidence for
/// others: debug enclaves, zero measurements, unknown attributes.
pub fn appraise_local<E>(
    kind: TeeKind,
    report: &LocalReport,
    expected: &ReportData,
    verify: impl FnOnce(&LocalReport) -> Result<(), E>,
) -> Result<LocalAttestation, LocalError<E>> {
    // SDM volume 3D, 37.15: the body, and then KEYID and MAC, which are the platform's business.
    let (body, _) = report.as_bytes().split_first_chunk().expect("a report begins with its body");
    let body = Report::of(body);
    body.deny().map_err(LocalError::Denied)?;
    let measurement = match (kind, body.measurement()) {
        (TeeKind::Sgx, measurement) => measurement,
        // The launcher measures as SGX does, and its measurements are others all the same.
        (TeeKind::Tpm, Measurement::Sgx(code)) => {
            Measurement::Tpm(LaunchedCode::new(*code.as_bytes()))
        }
        (kind, _) => return Err(LocalError::Denied(AppraiseError::KindNotAccepted { kind })),
    };
    verify(report).map_err(LocalError::NotVerified)?;
    let found = body.report_data();
    if found != *expected {
        return Err(LocalError::ReportDataMismatch {
            expected: Box::new(*expected),
            found: Box::new(found),
        });
    }
    Ok(LocalAttestation {
        measurement,
        signer: body.signer(),
        product_id: body.product_id(),
        security_version: body.security_version(),
        cpu_svn: CpuSvn::new(body.cpu_svn()),
    })
}

impl LocalAttestation {
    /// The code that answered. Never zero.
    pub fn measurement(&self) -> Measurement {
        self.measurement
    }

    /// Who signed the code. Never zero; never enough to receive a key.
    pub fn signer(&self) -> MrSigner {
        self.signer
    }

    /// The signer's number for the product (ISVPRODID).
    pub fn product_id(&self) -> u16 {
        self.product_id
    }

    /// The signer's security version of the code (ISVSVN).
    pub fn security_version(&self) -> SecurityVersion {
        self.security_version
    }

    /// The security version of the CPU as the code sees it (CPUSVN).
    pub fn cpu_svn(&self) -> CpuSvn {
        self.cpu_svn
    }
}
