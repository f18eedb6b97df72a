//! SEV-SNP reports (AMD 56860, "SEV Secure Nested Paging Firmware ABI Specification").
//!
//! A report is signed by a key that is derived from the chip (VCEK) or given to a cloud provider
//! (VLEK), and from the version of the firmware. The key's certificate says which, and the report
//! must say the same. All checks are made on the bytes as they came: whoever re-serialises a report
//! before checking its signature accepts what nobody signed.
//!
//! [`verify_vek`] is the part that can be remembered, [`verify`] the rest.

mod error;
mod report;
mod vek;

pub use error::SnpError;
pub use report::{Report, Tcb};
pub use vek::{VerifiedVek, verify_vek};

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use heirloom_model::appraisal::{SnpGeneration, VekKind};
use heirloom_model::counter::Time;
use heirloom_model::identifier::PlatformId;

/// What a verified report says.
///
/// Only [`verify`] makes one.
///
/// ```compile_fail
/// let forged = heirloom_attest::snp::SnpClaims {};
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnpClaims {
    report: Box<[u8; Report::BYTES]>,
    generation: SnpGeneration,
    kind: VekKind,
    tcb: Tcb,
    committed_tcb: Tcb,
    launch_tcb: Tcb,
    platform: Option<PlatformId>,
    provider: Option<String>,
}

/// Verifies a report under a key whose certificate is verified.
///
/// Refused whatever a policy says: guests that can be debugged or that a migration agent may read,
/// reports that the guest did not ask for, and everything that this release does not know.
pub fn verify(report: &Report<'_>, vek: &VerifiedVek, now: Time) -> Result<SnpClaims, SnpError> {
    vek.chain().holds_at(now).map_err(|error| SnpError::Chain { error })?;
    report.deny()?;
    let generation = vek.generation();
    if let Some(found) = report.generation()?
        && found != generation
    {
        return Err(SnpError::Generation { report: found, certificate: generation });
    }
    if report.signing_key()? != vek.kind() {
        return Err(SnpError::SigningKey);
    }
    let tcb = Tcb::of(generation, report.reported_tcb())?;
    let committed_tcb = Tcb::of(generation, report.committed_tcb())?;
    let launch_tcb = Tcb::of(generation, report.launch_tcb())?;
    if tcb != vek.tcb() {
        return Err(SnpError::TcbMismatch { report: tcb, certificate: vek.tcb() });
    }
    if let Some(hardware) = vek.hardware()
        && hardware != report.chip_id()
    {
        return Err(SnpError::ChipMismatch);
    }
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, vek.key())
        .verify(report.signed(), &report.signature())
        .map_err(|_| SnpError::Signature)?;
    Ok(SnpClaims {
        report: Box::new(*report.bytes()),
        generation,
        kind: vek.kind(),
        tcb,
        committed_tcb,
        launch_tcb,
        platform: vek.hardware().map(|chip| PlatformId::of_chip(&chip)),
        provider: vek.provider().map(str::to_owned),
    })
}

impl SnpClaims {
    /// The verified report.
    pub fn report(&self) -> Report<'_> {
        Report::verified(&self.report)
    }

    /// The generation of the machine.
    pub fn generation(&self) -> SnpGeneration {
        self.generation
    }

    /// Whose key signed.
    pub fn kind(&self) -> VekKind {
        self.kind
    }

    /// The firmware that the key stands for (`REPORTED_TCB`).
    pub fn tcb(&self) -> Tcb {
        self.tcb
    }

    /// The firmware below which the machine can never go again (`COMMITTED_TCB`).
    pub fn committed_tcb(&self) -> Tcb {
        self.committed_tcb
    }

    /// The firmware that launched the guest (`LAUNCH_TCB`). What it did wrong no update mends.
    pub fn launch_tcb(&self) -> Tcb {
        self.launch_tcb
    }

    /// The machine. A provider's key vouches for none.
    pub fn platform(&self) -> Option<PlatformId> {
        self.platform
    }

    /// The cloud provider whose key signed.
    pub fn provider(&self) -> Option<&str> {
        self.provider.as_deref()
    }
}
