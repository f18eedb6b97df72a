//! Why an SEV-SNP report was refused.

use heirloom_model::appraisal::SnpGeneration;

use super::report::Tcb;
use crate::chain::ChainError;

/// Why a report or the certificate of its key was refused. One variant per reason.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SnpError {
    /// The bytes are not a report.
    #[error("the report has {found} bytes instead of 1184")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// A version of the format that this release does not know.
    #[error("reports of version {found} are not supported")]
    Version {
        /// In the report.
        found: u32,
    },
    /// Not ECDSA with P-384 and SHA-384.
    #[error("reports signed by algorithm {found} are not supported")]
    SignatureAlgorithm {
        /// In the report.
        found: u32,
    },
    /// A field that its version does not have is used.
    #[error("a reserved field of the report is not zero (at {offset:#x})")]
    ReservedNotZero {
        /// Where the field begins.
        offset: usize,
    },
    /// The host can read the guest's memory through the debugger.
    #[error("the guest's policy allows debugging")]
    Debug,
    /// A migration agent gets the guest's memory.
    #[error("the guest's policy allows a migration agent")]
    MigrationAgent,
    /// The policy has bits that this release does not know, or lacks one that is always set.
    #[error("the guest's policy {policy:#x} is not known")]
    UnknownPolicy {
        /// The policy.
        policy: u64,
    },
    /// The host asked for the report, not the guest.
    #[error("privilege level {found} is not a guest's")]
    PrivilegeLevel {
        /// In the report.
        found: u32,
    },
    /// The launch digest is all zero.
    #[error("the launch digest is zero")]
    ZeroMeasurement,
    /// The report is not signed, or by a key of a kind that is not known.
    #[error("the report names signing key {found}, which is not known")]
    UnknownSigningKey {
        /// In the report.
        found: u32,
    },
    /// The report names the other kind of key than the one that is certified.
    #[error("the report names another kind of key than its certificate")]
    SigningKey,
    /// A processor that this release does not know.
    #[error("processors of family {family:#x}, model {model:#x} are not known")]
    UnknownProcessor {
        /// In the report.
        family: u8,
        /// In the report.
        model: u8,
    },
    /// There are no certificates.
    #[error("the certificate of the report's key is missing")]
    MissingCertificate,
    /// More certificates than a chain has.
    #[error("there are {found} certificates, more than {limit}")]
    TooManyCertificates {
        /// How many there are.
        found: usize,
        /// How many are looked at.
        limit: usize,
    },
    /// The certificates make no path to a trust anchor.
    #[error("the report's key is not certified: {error}")]
    Chain {
        /// Why not.
        error: ChainError,
    },
    /// The certificate does not say what a VCEK or VLEK certificate says.
    #[error("the certificate of the report's key is malformed: {fault}")]
    Certificate {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A product that this release does not know.
    #[error("product {found:?} is not known")]
    UnknownProduct {
        /// In the certificate.
        found: String,
    },
    /// Report and certificate are of different generations.
    #[error("the report is of {report:?}, its key's certificate of {certificate:?}")]
    Generation {
        /// By the processor in the report.
        report: SnpGeneration,
        /// By the product in the certificate.
        certificate: SnpGeneration,
    },
    /// The firmware is not the one for which the key was derived.
    #[error("the report is of firmware {report}, its key's certificate of {certificate}")]
    TcbMismatch {
        /// In the report.
        report: Tcb,
        /// In the certificate.
        certificate: Tcb,
    },
    /// The chip is not the one for which the key was derived.
    #[error("the report is of another chip than its key's certificate")]
    ChipMismatch,
    /// The machine says something about itself that this release does not know.
    #[error("the machine has unknown properties {bits:#x}")]
    UnknownPlatformInfo {
        /// Bits of `PLATFORM_INFO` that are not known and that the policy does not name.
        bits: u64,
    },
    /// The machine did not look for aliases of its memory.
    #[error("the machine does not say that it checked its memory for aliases")]
    AliasesNotChecked,
    /// The signature is not one of the certified key over this report.
    #[error("the signature of the report does not verify")]
    Signature,
}

impl SnpError {
    /// Its stable code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Length { .. } => "malformed-report",
            Self::Version { .. } => "unsupported-report-version",
            Self::SignatureAlgorithm { .. } => "unsupported-signature-algorithm",
            Self::ReservedNotZero { .. } => "reserved-not-zero",
            Self::Debug => "debug-guest",
            Self::MigrationAgent => "migration-agent",
            Self::UnknownPolicy { .. } => "unknown-guest-policy",
            Self::PrivilegeLevel { .. } => "not-asked-by-guest",
            Self::ZeroMeasurement => "zero-measurement",
            Self::UnknownSigningKey { .. } => "unknown-signing-key",
            Self::SigningKey => "signing-key-mismatch",
            Self::UnknownProcessor { .. } => "unknown-processor",
            Self::MissingCertificate => "missing-certificate",
            Self::TooManyCertificates { .. } => "chain-too-long",
            Self::Chain { error } => error.reason(),
            Self::Certificate { .. } => "malformed-certificate",
            Self::UnknownProduct { .. } => "unknown-product",
            Self::Generation { .. } => "generation-mismatch",
            Self::TcbMismatch { .. } => "tcb-mismatch",
            Self::ChipMismatch => "chip-mismatch",
            Self::UnknownPlatformInfo { .. } => "unknown-platform-info",
            Self::AliasesNotChecked => "aliases-not-checked",
            Self::Signature => "report-signature",
        }
    }
}
