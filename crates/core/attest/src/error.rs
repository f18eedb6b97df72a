//! Why evidence or endorsements were refused.

use std::fmt;

use heirloom_model::appraisal::{SnpGeneration, VekKind};
use heirloom_model::counter::Time;
use heirloom_model::digest::AnchorId;
use heirloom_model::evidence::ReportData;
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::TeeKind;
use heirloom_model::policy::TcbLevel;

use crate::account::Step;
use crate::chain::ChainError;
use crate::endorse::Family;
use crate::hcl::HclError;
use crate::nitro::NitroError;
use crate::snp::SnpError;
use crate::tpm::TpmError;

/// Why there is no attestation result. One variant per reason.
///
/// [`AppraiseError::reason`] is its stable code. Nothing is decided by reading the message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AppraiseError {
    /// The bytes are not a quote.
    #[error("the quote is malformed: {fault}")]
    MalformedQuote {
        /// What is wrong with them.
        fault: &'static str,
    },
    /// A version of the quote format that this release does not appraise.
    #[error("quotes of version {found} are not supported")]
    UnsupportedQuoteVersion {
        /// In the quote's header.
        found: u16,
    },
    /// Not what the evidence is said to be about: an SGX enclave, or a TDX trust domain.
    #[error("TEE type {found:#x} is not supported")]
    UnsupportedTeeType {
        /// In the quote's header.
        found: u32,
    },
    /// A kind of report that this release does not appraise.
    #[error("quoted bodies of type {found} are not supported")]
    UnsupportedQuoteBody {
        /// In the quote.
        found: u16,
    },
    /// The attestation key is not of a known algorithm.
    #[error("attestation keys of type {found} are not supported")]
    UnsupportedAttestationKey {
        /// In the quote's header.
        found: u16,
    },
    /// The quote does not carry the certificate chain of its platform.
    #[error("certification data of type {found} are not supported")]
    UnsupportedCertificationData {
        /// In the quote.
        found: u16,
    },
    /// The quoting enclave is not of a known vendor.
    #[error("the vendor of the quoting enclave is not known")]
    UnknownQuotingVendor,
    /// The enclave can be read from outside.
    #[error("the enclave runs in debug mode")]
    DebugEnclave,
    /// The host may count what happens in the trust domain.
    #[error("the trust domain is profiled")]
    ProfiledDomain,
    /// A migration agent may move the trust domain elsewhere.
    #[error("the trust domain can be migrated")]
    MigratableDomain,
    /// The host may take pages away from the trust domain unnoticed.
    #[error("the trust domain does not refuse pages that the host replaces")]
    PagesNotProtected,
    /// The enclave was never initialised.
    #[error("the enclave is not initialised")]
    NotInitialised,
    /// The enclave does not run in 64-bit mode.
    #[error("the enclave does not run in 64-bit mode")]
    Not64Bit,
    /// The enclave has rights of the platform's own enclaves.
    #[error("the enclave may derive provisioning or launch keys (attributes {bits:#x})")]
    PrivilegedEnclave {
        /// Which of the bits are set.
        bits: u64,
    },
    /// The host chose a configuration when it launched the enclave, which no measurement covers.
    #[error("the enclave uses key separation and sharing, whose configuration is not measured")]
    UnmeasuredConfiguration,
    /// The enclave has attributes that this release does not know.
    #[error("the enclave has unknown attributes {bits:#x}")]
    UnknownAttributes {
        /// Which.
        bits: u64,
    },
    /// A reserved field of the enclave's report is used.
    #[error("a reserved field of the enclave's report is not zero")]
    ReservedNotZero,
    /// The measurement is all zero.
    #[error("the measurement is zero")]
    ZeroMeasurement,
    /// The signer is all zero.
    #[error("the signer of the enclave is zero")]
    ZeroSigner,
    /// A certificate cannot be parsed.
    #[error("a certificate of the platform is malformed: {fault}")]
    MalformedCertificate {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A certificate of the platform's chain is not valid any more. There is no grace for it.
    #[error("a certificate of the platform expired at {expired}")]
    CertificateExpired {
        /// When.
        expired: Time,
    },
    /// A certificate of the platform's chain is not valid yet.
    #[error("a certificate of the platform is not valid before {since}")]
    CertificateNotYetValid {
        /// From when on it is.
        since: Time,
    },
    /// The manufacturer took back a certificate of the platform's chain.
    #[error("a certificate of the platform is revoked")]
    CertificateRevoked,
    /// No trust anchor stands behind the chain.
    #[error("the certificate chain does not end in a trust anchor")]
    UnknownAnchor,
    /// There are no endorsements for this family of platforms.
    #[error("there are no endorsements for platforms of {family}")]
    MissingEndorsements {
        /// The family.
        family: Family,
    },
    /// A part of the endorsements cannot be parsed.
    #[error("the {part} is malformed: {fault}")]
    MalformedEndorsements {
        /// Which.
        part: EndorsementPart,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The chain of a signer of endorsements does not have its two certificates.
    #[error("the certificate chain of the {part} has {found} certificates instead of 2")]
    EndorsementChainLength {
        /// Whose.
        part: EndorsementPart,
        /// How many there are.
        found: usize,
    },
    /// A part of the endorsements is not signed by whom it says.
    #[error("the signature of the {part} does not verify")]
    EndorsementSignature {
        /// Which.
        part: EndorsementPart,
    },
    /// The parts of the endorsements are about different things.
    #[error("the {part} does not belong to the rest of the endorsements")]
    EndorsementsDisagree {
        /// Which.
        part: EndorsementPart,
    },
    /// A part of the endorsements is of the future.
    #[error("the {part} is not valid before {since}")]
    EndorsementsNotYetValid {
        /// Which.
        part: EndorsementPart,
        /// From when on it is.
        since: Time,
    },
    /// A part of the endorsements is too old, and the policy's grace, if any, is over.
    #[error("the {part} expired at {expired}")]
    ExpiredEndorsements {
        /// The part that expired first.
        part: EndorsementPart,
        /// When.
        expired: Time,
    },
    /// There are endorsements for as many families as are kept.
    #[error("endorsements for more than {limit} families are not kept")]
    TooManyEndorsements {
        /// How many are.
        limit: usize,
    },
    /// The manufacturer took back the platform's or the quoting enclave's security version.
    #[error("the platform's TCB is revoked")]
    RevokedTcb,
    /// The platform is older than any level that the manufacturer lists.
    #[error("the platform meets no TCB level that the manufacturer lists")]
    NoTcbLevel,
    /// The quoting enclave's report is not signed by the platform's key.
    #[error("the quoting enclave's report is not signed by the platform")]
    QuotingEnclaveSignature,
    /// The quoting enclave did not vouch for this attestation key.
    #[error("the quoting enclave did not make this attestation key")]
    QuotingEnclaveKey,
    /// The quoting enclave is not the manufacturer's.
    #[error("the quoting enclave is not the one that the manufacturer describes")]
    QuotingEnclaveIdentity,
    /// The TDX module is not the manufacturer's.
    #[error("the TDX module is not one that the manufacturer describes")]
    ForeignModule,
    /// The quote is not signed by its attestation key.
    #[error("the signature of the quote does not verify")]
    QuoteSignature,
    /// Verification failed for a reason that has no name of its own yet.
    #[error("the evidence does not verify: {detail}")]
    NotVerified {
        /// What the verifier says, for people.
        detail: String,
    },
    /// The evidence was made for something else.
    #[error("the report data is {found}, not {expected}")]
    ReportDataMismatch {
        /// What the caller asked for.
        expected: Box<ReportData>,
        /// In the evidence.
        found: Box<ReportData>,
    },
    /// The policy says nothing about this kind of evidence.
    #[error("the policy does not accept evidence of kind {kind}")]
    KindNotAccepted {
        /// The kind.
        kind: TeeKind,
    },
    /// The policy lists machines, and the evidence does not say which one made it.
    #[error("the policy lists platforms, and the evidence names none")]
    HostUnknown,
    /// The policy does not list the machine.
    #[error("the policy does not list platform {platform}")]
    PlatformNotListed {
        /// The machine.
        platform: PlatformId,
    },
    /// The policy does not accept the platform's TCB level.
    #[error("the policy does not accept TCB level {found:?}")]
    TcbLevelNotAccepted {
        /// The level.
        found: TcbLevel,
    },
    /// The policy accepted the platform's TCB level for a while.
    #[error("the policy accepted TCB level {found:?} until {until}")]
    TcbLevelNoLongerAccepted {
        /// The level.
        found: TcbLevel,
        /// The last second in which it did.
        until: Time,
    },
    /// An advisory applies to the platform that the policy does not accept.
    #[error("the policy does not accept advisory {advisory}")]
    AdvisoryNotAccepted {
        /// The first one, in the order of the alphabet.
        advisory: String,
    },
    /// An advisory applies to the platform that the policy does not accept any more.
    #[error("the policy accepted advisory {advisory} until {until}")]
    AdvisoryNoLongerAccepted {
        /// The first one, in the order of the alphabet.
        advisory: String,
        /// The last second in which it did.
        until: Time,
    },
    /// The endorsements were made before the evaluation that the policy demands.
    #[error("the endorsements are of TCB evaluation {found}, the policy demands {least}")]
    TcbEvaluationTooLow {
        /// The lower one of TCB info and quoting enclave identity.
        found: u32,
        /// In the policy.
        least: u32,
    },
    /// A claim is none of the policy's reference values.
    #[error("the policy does not accept {claim} {found}")]
    ReferenceMismatch {
        /// Which claim.
        claim: &'static str,
        /// In the evidence.
        found: String,
    },
    /// The policy has values for a claim that this version of evidence does not make.
    #[error("the evidence does not state the {claim}, which the policy looks at")]
    ClaimMissing {
        /// Which claim.
        claim: &'static str,
    },
    /// The policy says nothing about this generation of machines.
    #[error("the policy does not accept machines of generation {found:?}")]
    GenerationNotAccepted {
        /// The generation.
        found: SnpGeneration,
    },
    /// The machine's firmware is older than the policy accepts.
    #[error("the machine's {component} is of version {found}, the policy demands {least}")]
    FirmwareTooOld {
        /// Which part of the firmware.
        component: &'static str,
        /// In the evidence.
        found: u8,
        /// In the policy.
        least: u8,
    },
    /// The policy does not accept reports by this kind of key.
    #[error("the policy does not accept reports by a key of kind {found:?}")]
    KeyKindNotAccepted {
        /// The kind.
        found: VekKind,
    },
    /// The report was asked for from a privilege level that the policy does not accept.
    #[error("the report is of privilege level {found}, the policy accepts up to {most}")]
    PrivilegeTooLow {
        /// In the report.
        found: u32,
        /// In the policy.
        most: u8,
    },
    /// The guest may run with hyper-threading, which the policy does not accept.
    #[error("the policy does not accept guests that may run with hyper-threading")]
    ThreadsNotAccepted,
    /// The policy demands a list of revoked keys, and there is none.
    #[error("there is no list of revoked keys under root {anchor}")]
    MissingRevocations {
        /// The root.
        anchor: AnchorId,
    },
    /// A Nitro document carries something else than report data.
    #[error("the document's user data has {found} bytes instead of 64")]
    UserDataLength {
        /// How many there are.
        found: usize,
    },
    /// A quote does not cover the registers that evidence must cover: 0 to 15, each once.
    #[error("the quote does not cover exactly registers 0 to 15")]
    RegistersIncomplete,
    /// The policy says nothing, or several things, about a register.
    #[error("the policy does not say exactly one thing about register {index}")]
    RegisterRules {
        /// Which.
        index: u8,
    },
    /// Nothing was measured: every register is zero.
    #[error("every register is zero")]
    ZeroRegisters,
    /// The machine's report is of a kind that no virtual TPM is appraised with.
    #[error("virtual TPMs of machines of kind {kind} are not supported")]
    UnsupportedHardware {
        /// The kind.
        kind: TeeKind,
    },
    /// A certificate chain does not verify.
    #[error("{0}")]
    Chain(ChainError),
    /// An SEV-SNP report does not verify.
    #[error("{0}")]
    Snp(SnpError),
    /// A Nitro document does not verify.
    #[error("{0}")]
    Nitro(NitroError),
    /// A TPM quote does not verify.
    #[error("{0}")]
    Tpm(TpmError),
    /// What firmware below a virtual machine left does not belong to the machine.
    #[error("{0}")]
    Hcl(HclError),
}

/// One of the things that make up endorsements.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum EndorsementPart {
    /// What the manufacturer says about quoting enclaves.
    QeIdentity,
    /// The certificate of its signer.
    QeIdentityIssuer,
    /// What the manufacturer says about security versions.
    TcbInfo,
    /// The certificate of its signer.
    TcbInfoIssuer,
    /// The root's list of revoked certificates.
    RootCrl,
    /// The intermediate's list of revoked certificates.
    PckCrl,
    /// The certificate of that intermediate.
    PckCrlIssuer,
    /// AMD's list of revoked keys.
    VekCrl,
    /// An attestation CA's list of revoked keys.
    AkCrl,
}

impl fmt::Display for EndorsementPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QeIdentity => "quoting enclave identity",
            Self::QeIdentityIssuer => "signer of the quoting enclave identity",
            Self::TcbInfo => "TCB info",
            Self::TcbInfoIssuer => "signer of the TCB info",
            Self::RootCrl => "root CRL",
            Self::PckCrl => "PCK CRL",
            Self::PckCrlIssuer => "issuer of the PCK CRL",
            Self::VekCrl => "CRL of a root of SEV-SNP keys",
            Self::AkCrl => "CRL of an attestation CA",
        })
    }
}

impl AppraiseError {
    /// The stable code of the reason, for JSON, journals and metrics. Never reused.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MalformedQuote { .. } => "malformed-quote",
            Self::UnsupportedQuoteVersion { .. } => "unsupported-quote-version",
            Self::UnsupportedTeeType { .. } => "unsupported-tee-type",
            Self::UnsupportedQuoteBody { .. } => "unsupported-quote-body",
            Self::UnsupportedAttestationKey { .. } => "unsupported-attestation-key",
            Self::UnsupportedCertificationData { .. } => "unsupported-certification-data",
            Self::UnknownQuotingVendor => "unknown-quoting-vendor",
            Self::DebugEnclave => "debug-enclave",
            Self::ProfiledDomain => "profiled-domain",
            Self::MigratableDomain => "migratable-domain",
            Self::PagesNotProtected => "pages-not-protected",
            Self::NotInitialised => "not-initialised",
            Self::Not64Bit => "not-64-bit",
            Self::PrivilegedEnclave { .. } => "privileged-enclave",
            Self::UnmeasuredConfiguration => "unmeasured-configuration",
            Self::UnknownAttributes { .. } => "unknown-attributes",
            Self::ReservedNotZero => "reserved-not-zero",
            Self::ZeroMeasurement => "zero-measurement",
            Self::ZeroSigner => "zero-signer",
            Self::MalformedCertificate { .. } => "malformed-certificate",
            Self::CertificateExpired { .. } => "certificate-expired",
            Self::CertificateNotYetValid { .. } => "certificate-not-yet-valid",
            Self::CertificateRevoked => "certificate-revoked",
            Self::UnknownAnchor => "unknown-anchor",
            Self::MissingEndorsements { .. } => "missing-endorsements",
            Self::MalformedEndorsements { .. } => "malformed-endorsements",
            Self::EndorsementChainLength { .. } => "endorsement-chain-length",
            Self::EndorsementSignature { .. } => "endorsement-signature",
            Self::EndorsementsDisagree { .. } => "endorsements-disagree",
            Self::EndorsementsNotYetValid { .. } => "endorsements-not-yet-valid",
            Self::ExpiredEndorsements { .. } => "expired-endorsements",
            Self::TooManyEndorsements { .. } => "too-many-endorsements",
            Self::RevokedTcb => "revoked-tcb",
            Self::NoTcbLevel => "no-tcb-level",
            Self::QuotingEnclaveSignature => "quoting-enclave-signature",
            Self::QuotingEnclaveKey => "quoting-enclave-key",
            Self::QuotingEnclaveIdentity => "quoting-enclave-identity",
            Self::ForeignModule => "foreign-tdx-module",
            Self::QuoteSignature => "quote-signature",
            Self::NotVerified { .. } => "not-verified",
            Self::ReportDataMismatch { .. } => "report-data-mismatch",
            Self::KindNotAccepted { .. } => "kind-not-accepted",
            Self::HostUnknown => "host-unknown",
            Self::PlatformNotListed { .. } => "platform-not-listed",
            Self::TcbLevelNotAccepted { .. } => "tcb-level-not-accepted",
            Self::TcbLevelNoLongerAccepted { .. } => "tcb-level-no-longer-accepted",
            Self::AdvisoryNotAccepted { .. } => "advisory-not-accepted",
            Self::AdvisoryNoLongerAccepted { .. } => "advisory-no-longer-accepted",
            Self::TcbEvaluationTooLow { .. } => "tcb-evaluation-too-low",
            Self::ReferenceMismatch { .. } => "reference-mismatch",
            Self::ClaimMissing { .. } => "claim-missing",
            Self::GenerationNotAccepted { .. } => "generation-not-accepted",
            Self::FirmwareTooOld { .. } => "firmware-too-old",
            Self::KeyKindNotAccepted { .. } => "key-kind-not-accepted",
            Self::PrivilegeTooLow { .. } => "privilege-too-low",
            Self::ThreadsNotAccepted => "threads-not-accepted",
            Self::MissingRevocations { .. } => "missing-revocations",
            Self::UserDataLength { .. } => "user-data-length",
            Self::RegistersIncomplete => "registers-incomplete",
            Self::RegisterRules { .. } => "register-rules",
            Self::ZeroRegisters => "zero-registers",
            Self::UnsupportedHardware { .. } => "unsupported-hardware",
            Self::Chain(error) => error.reason(),
            Self::Snp(error) => error.reason(),
            Self::Nitro(error) => error.reason(),
            Self::Tpm(error) => error.reason(),
            Self::Hcl(error) => error.reason(),
        }
    }

    /// Which of several checks that are made at once refused, if the reason says so.
    pub(crate) fn step(&self) -> Option<Step> {
        match self {
            Self::CertificateRevoked => Some(Step::Revocation),
            Self::QuotingEnclaveSignature => Some(Step::QuotingReport),
            Self::QuotingEnclaveKey => Some(Step::QuotingKey),
            Self::QuoteSignature => Some(Step::Signature),
            Self::QuotingEnclaveIdentity => Some(Step::QuotingIdentity),
            // Whatever has no name passed everything that has one.
            Self::RevokedTcb
            | Self::NoTcbLevel
            | Self::ForeignModule
            | Self::NotVerified { .. } => Some(Step::TcbLevel),
            Self::ZeroMeasurement | Self::ZeroSigner => Some(Step::Measured),
            Self::Snp(error) => Some(match error {
                SnpError::Signature => Step::Signature,
                SnpError::ZeroMeasurement => Step::Measured,
                SnpError::Debug
                | SnpError::MigrationAgent
                | SnpError::UnknownPolicy { .. }
                | SnpError::PrivilegeLevel { .. } => Step::Attributes,
                _ => Step::KeyIdentity,
            }),
            _ => None,
        }
    }
}

impl From<ChainError> for AppraiseError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::Malformed { fault } => Self::MalformedCertificate { fault },
            ChainError::Expired { until } => Self::CertificateExpired { expired: until },
            ChainError::NotYetValid { since } => Self::CertificateNotYetValid { since },
            ChainError::UnknownAnchor => Self::UnknownAnchor,
            other => Self::Chain(other),
        }
    }
}

impl From<NitroError> for AppraiseError {
    fn from(error: NitroError) -> Self {
        match error {
            NitroError::Chain { error } => error.into(),
            NitroError::UnknownAnchor => Self::UnknownAnchor,
            other => Self::Nitro(other),
        }
    }
}

impl From<TpmError> for AppraiseError {
    fn from(error: TpmError) -> Self {
        match error {
            TpmError::Chain { error } => error.into(),
            other => Self::Tpm(other),
        }
    }
}

impl From<HclError> for AppraiseError {
    fn from(error: HclError) -> Self {
        Self::Hcl(error)
    }
}

impl From<SnpError> for AppraiseError {
    fn from(error: SnpError) -> Self {
        match error {
            SnpError::Chain { error } => error.into(),
            other => Self::Snp(other),
        }
    }
}
