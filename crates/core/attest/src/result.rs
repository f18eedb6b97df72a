//! What an appraisal found out.

use std::fmt;

use heirloom_model::appraisal::SnpGeneration;
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::digest::AnchorId;
use heirloom_model::evidence::ReportData;
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{Measurement, MrSigner, TeeKind};
use heirloom_model::policy::TcbLevel;

use crate::error::EndorsementPart;
use crate::snp;

/// What is known about an attester after its evidence was appraised.
///
/// Only [`Appraiser::appraise`](crate::appraiser::Appraiser::appraise) makes one, so whoever
/// holds one holds the outcome of an appraisal:
///
/// ```compile_fail
/// let forged = heirloom_attest::result::AttestationResult {};
/// ```
///
/// It says what the evidence showed and that the appraisal policy accepts it. Whether this code
/// may do anything is for the domain's policy to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttestationResult {
    pub(crate) measurement: Measurement,
    pub(crate) signed: Option<SignedCode>,
    pub(crate) security_version: SecurityVersion,
    pub(crate) host: Host,
    pub(crate) anchor: AnchorId,
    pub(crate) tcb: Tcb,
    pub(crate) advisories: Vec<String>,
    pub(crate) report_data: ReportData,
    pub(crate) expires: Time,
    pub(crate) grace: Option<Grace>,
}

/// Who signed the code, where the kind of TEE has such a notion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SignedCode {
    pub(crate) signer: MrSigner,
    pub(crate) product_id: u16,
}

/// Which machine made the evidence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Host {
    /// This one.
    Known(PlatformId),
    /// One of a provider's, which vouches for all of them with one key. No list of platforms ever
    /// admits it, and two of them may be one.
    Unknown,
}

/// What is known about the firmware of the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tcb {
    /// SGX, TDX: the level that the manufacturer gives it.
    Intel(TcbLevel),
    /// SEV-SNP: the security versions that the policy accepted.
    Snp(SnpGeneration, snp::Tcb),
    /// Nitro: the provider says nothing about it. TPM: quotes by keys outside the endorsement and
    /// platform hierarchies hide the version of the TPM's firmware (TPM 2.0 part 1, 36.7).
    Unstated,
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intel(level) => write!(f, "{level:?}"),
            Self::Snp(generation, versions) => write!(f, "{generation:?}: {versions}"),
            Self::Unstated => f.write_str("not stated"),
        }
    }
}

/// Expired endorsements were used, because the appraisal policy allows it for a while.
///
/// Whoever shows an attestation result shows this too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grace {
    /// The part that expired first.
    pub part: EndorsementPart,
    /// When the endorsements expired.
    pub expired: Time,
    /// From when on the policy does not allow it any more.
    pub until: Time,
}

/// What kind of root vouches for a platform.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum AnchorClass {
    /// A manufacturer's root, known to this release by its digest.
    Production,
    /// Any other root. Its platforms protect nothing from whoever runs them.
    Development,
}

/// SHA-256 of the certificates of manufacturers' roots.
///
/// This list grants no trust: trust anchors come from the network's root statement. It only
/// decides which of them are printed as development anchors.
pub const PRODUCTION_ANCHORS: &[AnchorId] =
    &[INTEL_SGX_ROOT_CA, AMD_ARK_MILAN, AMD_ARK_GENOA, AMD_ARK_TURIN, AWS_NITRO_ROOT_G1];

/// "Intel SGX Root CA", valid until the end of 2049.
pub const INTEL_SGX_ROOT_CA: AnchorId = AnchorId::new([
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35,
    0x0e, 0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
]);

/// "ARK-Milan", valid until 2045, from <https://kdsintf.amd.com/vcek/v1/Milan/cert_chain>.
pub const AMD_ARK_MILAN: AnchorId = AnchorId::new([
    0x69, 0xd0, 0x63, 0xb4, 0x53, 0x44, 0xd2, 0x6a, 0x2e, 0x94, 0xe1, 0xf4, 0x21, 0x0d, 0xe4, 0x9e,
    0xf5, 0x55, 0x30, 0x82, 0x87, 0xd4, 0xc1, 0x74, 0x44, 0x5c, 0x95, 0x63, 0x9a, 0x54, 0x0b, 0xcd,
]);

/// "ARK-Genoa", from <https://kdsintf.amd.com/vcek/v1/Genoa/cert_chain>.
pub const AMD_ARK_GENOA: AnchorId = AnchorId::new([
    0x4c, 0x65, 0x98, 0xd1, 0x9c, 0x18, 0x71, 0x9c, 0x5d, 0xfd, 0x4a, 0x7d, 0x33, 0x5f, 0x67, 0x4e,
    0x5b, 0xfe, 0x1d, 0x8f, 0x80, 0x0c, 0xea, 0x2c, 0xf2, 0x70, 0xc1, 0x0d, 0x10, 0x3d, 0xb2, 0xf1,
]);

/// "ARK-Turin", from <https://kdsintf.amd.com/vcek/v1/Turin/cert_chain>.
pub const AMD_ARK_TURIN: AnchorId = AnchorId::new([
    0x1f, 0x08, 0x41, 0x61, 0xa4, 0x4b, 0xb6, 0xd9, 0x37, 0x78, 0xa9, 0x04, 0x87, 0x7d, 0x48, 0x19,
    0xca, 0xfa, 0x5d, 0x05, 0xef, 0x41, 0x93, 0xb2, 0xde, 0xd9, 0xdd, 0x9c, 0x73, 0xdd, 0x3f, 0x6a,
]);

/// "aws.nitro-enclaves", valid until 2049, as the Nitro Enclaves user guide publishes its
/// fingerprint.
pub const AWS_NITRO_ROOT_G1: AnchorId = AnchorId::new([
    0x64, 0x1a, 0x03, 0x21, 0xa3, 0xe2, 0x44, 0xef, 0xe4, 0x56, 0x46, 0x31, 0x95, 0xd6, 0x06, 0x31,
    0x7e, 0xd7, 0xcd, 0xcc, 0x3c, 0x17, 0x56, 0xe0, 0x98, 0x93, 0xf3, 0xc6, 0x8f, 0x79, 0xbb, 0x5b,
]);

impl AnchorClass {
    /// The class of an anchor.
    pub fn of(anchor: &AnchorId) -> Self {
        if PRODUCTION_ANCHORS.contains(anchor) { Self::Production } else { Self::Development }
    }

    /// The word that people see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Development => "development",
        }
    }
}

impl AttestationResult {
    /// The code that the TEE loaded. Never zero.
    pub fn measurement(&self) -> Measurement {
        self.measurement
    }

    /// What made the evidence.
    pub fn kind(&self) -> TeeKind {
        self.measurement.kind()
    }

    /// Who signed the code: SGX and TPM only. Never zero; never enough to hold a key.
    pub fn signer(&self) -> Option<MrSigner> {
        self.signed.map(|signed| signed.signer)
    }

    /// The signer's number for the product (ISVPRODID): SGX and TPM only.
    pub fn product_id(&self) -> Option<u16> {
        self.signed.map(|signed| signed.product_id)
    }

    /// The security version of the code: ISVSVN, or an SEV-SNP guest's from its identity block. 0
    /// where the kind has none, which is TDX and Nitro.
    pub fn security_version(&self) -> SecurityVersion {
        self.security_version
    }

    /// The machine; all zero if the evidence names none, so that two unknown machines never count
    /// as two.
    pub fn platform(&self) -> PlatformId {
        match self.host {
            Host::Known(platform) => platform,
            Host::Unknown => PlatformId::new([0; 32]),
        }
    }

    /// The machine, or that the evidence names none.
    pub fn host(&self) -> Host {
        self.host
    }

    /// The root that vouches for the machine.
    pub fn anchor(&self) -> AnchorId {
        self.anchor
    }

    /// Whether that root is a manufacturer's.
    pub fn anchor_class(&self) -> AnchorClass {
        AnchorClass::of(&self.anchor)
    }

    /// What is known about the machine's firmware. The policy accepts it.
    pub fn tcb(&self) -> Tcb {
        self.tcb
    }

    /// The advisories that apply to the machine, sorted. The policy accepts each of them.
    pub fn advisories(&self) -> &[String] {
        &self.advisories
    }

    /// What the attester put into its evidence. Equal to what the caller expected.
    pub fn report_data(&self) -> &ReportData {
        &self.report_data
    }

    /// From this second on the result says nothing: something that it rests on has expired.
    pub fn expires(&self) -> Time {
        self.expires
    }

    /// Present if the result rests on expired endorsements.
    pub fn grace(&self) -> Option<Grace> {
        self.grace
    }
}
