//! What an appraisal found out.

use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::digest::AnchorId;
use heirloom_model::evidence::ReportData;
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{Measurement, MrSigner};
use heirloom_model::policy::TcbLevel;

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
    pub(crate) signer: MrSigner,
    pub(crate) product_id: u16,
    pub(crate) security_version: SecurityVersion,
    pub(crate) platform: PlatformId,
    pub(crate) anchor: AnchorId,
    pub(crate) tcb: TcbLevel,
    pub(crate) advisories: Vec<String>,
    pub(crate) report_data: ReportData,
    pub(crate) expires: Time,
    pub(crate) grace: Option<Grace>,
}

/// Expired endorsements were used, because the appraisal policy allows it for a while.
///
/// Whoever shows an attestation result shows this too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grace {
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
pub const PRODUCTION_ANCHORS: &[AnchorId] = &[INTEL_SGX_ROOT_CA];

/// "Intel SGX Root CA", valid until the end of 2049.
pub const INTEL_SGX_ROOT_CA: AnchorId = AnchorId::new([
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35,
    0x0e, 0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
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

    /// Who signed the code. Never zero; never enough to hold a key.
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

    /// The machine.
    pub fn platform(&self) -> PlatformId {
        self.platform
    }

    /// The root that vouches for the machine.
    pub fn anchor(&self) -> AnchorId {
        self.anchor
    }

    /// Whether that root is a manufacturer's.
    pub fn anchor_class(&self) -> AnchorClass {
        AnchorClass::of(&self.anchor)
    }

    /// What the manufacturer says about the machine's firmware.
    pub fn tcb(&self) -> TcbLevel {
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
