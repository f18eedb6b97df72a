//! Policies: which code may hold a domain's keys, give them to whom, and serve whom.
//!
//! There is no default in a policy: every field is written down, and "any" is a word, never an
//! empty list.

use minicbor::{Decode, Encode};

use crate::appraisal::{
    AcceptedAdvisory, NitroRule, SnpRule, TcbGrace, TdxRule, TpmRule, VtpmRule,
};
use crate::counter::{SecurityVersion, Serial, Time};
use crate::digest::{DigestOf, NetworkId, PlanDigest, PolicyDigest};
use crate::identifier::{ApplicationId, DomainId, KeyId, PlatformId};
use crate::limit::PAYLOAD_BYTES_MAX;
use crate::measurement::Measurement;
use crate::wire;

/// The policy of one domain.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Policy {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain.
    #[n(1)]
    pub domain: DomainId,
    /// 1 for the first policy; each successor adds one.
    #[n(2)]
    pub serial: Serial,
    /// Whether several holders may be active. Settled with the domain's first generation.
    #[n(3)]
    pub sharing: Sharing,
    /// The fewest proven holders, in distinct failure domains, that must remain outside any node
    /// that is being changed.
    #[n(4)]
    pub holders_min: u32,
    /// The code that may hold the keyring, sorted by measurement. Nothing else may.
    #[n(5)]
    pub holders: Vec<HolderRule>,
    /// The applications that may ask for keys, sorted by application and measurement.
    #[n(6)]
    pub applications: Vec<ApplicationRule>,
    /// What evidence must show, whoever sends it.
    #[n(7)]
    pub appraisal: AppraisalPolicy,
    /// Serving sessions demand new evidence after this many seconds of network time.
    #[n(8)]
    pub session_seconds_max: u64,
    /// How many epochs back ephemeral keys are served.
    #[n(9)]
    pub ephemeral_epochs: u32,
    /// After this time the policy permits nothing.
    #[n(10)]
    pub not_after: Time,
    /// The plan that this policy completes. It takes effect at that plan's point of no return;
    /// without a plan, at once.
    #[n(11)]
    pub completes: Option<PlanDigest>,
    /// How many epochs an upgrader keeps its copy after the new keeper took over.
    #[n(12)]
    pub forget_after_epochs: u32,
    /// Whether a release that this policy names is installed without asking.
    #[n(13)]
    pub update: UpdateMode,
}

/// What an agent does with a release that the policy names on an edge from what it runs.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum UpdateMode {
    /// It is fetched, verified and tried; operators decide about a plan.
    #[n(0)]
    Ask,
    /// The signers of the policy have decided: the agent of a node may propose a handover of its
    /// own node, which needs no approval.
    #[n(1)]
    Auto,
}

/// Whether a domain may have several active holders.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Sharing {
    /// Many.
    #[n(0)]
    Replicated,
    /// Exactly one.
    #[n(1)]
    Exclusive,
}

/// One measurement that may hold, and its outgoing edges.
///
/// Every measurement may give to itself. Any other edge is named here, on the side of the giver;
/// the receiver must have a rule of its own.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct HolderRule {
    /// The code.
    #[n(0)]
    pub measurement: Measurement,
    /// The lowest security version of that code.
    #[n(1)]
    pub security_version: SecurityVersion,
    /// The code that it may give the keyring to, sorted.
    #[n(2)]
    pub gives_to: Vec<Measurement>,
    /// What the code does with the keyring.
    #[n(3)]
    pub role: HolderRole,
}

/// What holding code does with a keyring.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum HolderRole {
    /// It serves applications and gives to others.
    #[n(0)]
    Keeper,
    /// It takes the keyring from one keeper and gives it to the next, and never serves.
    #[n(1)]
    Upgrader,
}

impl HolderRole {
    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::Upgrader => "upgrader",
        }
    }
}

/// One measurement of an application, and the keys that it may ask for.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ApplicationRule {
    /// Whose keys. Several measurements of one application share them.
    #[n(0)]
    pub application: ApplicationId,
    /// The code.
    #[n(1)]
    pub measurement: Measurement,
    /// The lowest security version of that code.
    #[n(2)]
    pub security_version: SecurityVersion,
    /// Which of the application's keys.
    #[n(3)]
    pub keys: KeyScope,
}

/// Which keys of an application.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum KeyScope {
    /// All of them, said aloud.
    #[n(0)]
    All,
    /// Exactly these, sorted; an empty list is refused.
    #[n(1)]
    Only(#[n(0)] Vec<KeyId>),
}

/// What evidence must show before anybody looks at who it is.
///
/// Debug, simulated and zero measurements are refused before this is consulted.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct AppraisalPolicy {
    /// The machines that may attest.
    #[n(0)]
    pub platforms: PlatformRule,
    /// Accepted TCB levels of SGX and TDX, sorted. Revoked is never accepted.
    #[n(1)]
    pub tcb: Vec<TcbLevel>,
    /// Advisories that do not refuse a platform although they apply to it, sorted.
    #[n(2)]
    pub advisories_accepted: Vec<AcceptedAdvisory>,
    /// Lowest evaluation data number of TCB info and QE identity.
    #[n(3)]
    pub tcb_evaluation_min: u32,
    /// For how many seconds collateral is still used after it expired. The attestation result
    /// says when it was.
    #[n(4)]
    pub collateral_grace_seconds: u64,
    /// TDX; without a rule its evidence is not accepted. SGX needs no rule of its own.
    #[n(5)]
    pub tdx: Option<TdxRule>,
    /// SEV-SNP; without a rule its evidence is not accepted.
    #[n(6)]
    pub snp: Option<SnpRule>,
    /// Nitro; without a rule its evidence is not accepted.
    #[n(7)]
    pub nitro: Option<NitroRule>,
    /// Machines with a TPM; without a rule their evidence is not accepted.
    #[n(8)]
    pub tpm: Option<TpmRule>,
    /// Confidential machines with a virtual TPM; without a rule, and one for what their report is,
    /// their evidence is not accepted.
    #[n(9)]
    pub vtpm: Option<VtpmRule>,
    /// TCB levels of SGX and TDX that are accepted for a while, sorted.
    #[n(10)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub tcb_grace: Vec<TcbGrace>,
}

/// Which machines may attest.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum PlatformRule {
    /// Any machine that the trust anchors vouch for, said aloud.
    #[n(0)]
    Any,
    /// Exactly these, sorted; an empty list is refused.
    #[n(1)]
    Only(#[n(0)] Vec<PlatformId>),
}

/// Intel's TCB levels, of SGX and TDX.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum TcbLevel {
    /// Nothing is known against the platform.
    #[n(0)]
    UpToDate,
    /// Software must mitigate known issues.
    #[n(1)]
    SwHardeningNeeded,
    /// The platform needs another configuration.
    #[n(2)]
    ConfigurationNeeded,
    /// Both of the above.
    #[n(3)]
    ConfigurationAndSwHardeningNeeded,
    /// Firmware is old.
    #[n(4)]
    OutOfDate,
    /// Firmware is old and the configuration matters.
    #[n(5)]
    OutOfDateConfigurationNeeded,
    /// TDX: the firmware is new enough, the trust domain was started before it.
    #[n(6)]
    RelaunchAdvised,
    /// Both that, and the platform needs another configuration.
    #[n(7)]
    RelaunchAdvisedConfigurationNeeded,
}

impl Policy {
    /// The digest by which holders say which policy they follow.
    pub fn digest(&self) -> PolicyDigest {
        PolicyDigest::of(wire::encode(self).as_slice())
    }

    /// The rule of one measurement, if it may hold.
    pub fn holder(&self, measurement: &Measurement) -> Option<&HolderRule> {
        self.holders.iter().find(|rule| rule.measurement == *measurement)
    }

    /// The rule of one measurement of an application, if it may ask for keys.
    pub fn application(
        &self,
        application: &ApplicationId,
        measurement: &Measurement,
    ) -> Option<&ApplicationRule> {
        self.applications
            .iter()
            .find(|rule| rule.application == *application && rule.measurement == *measurement)
    }

    /// Whether the policy names the edge `from` → `to`: both may hold, and `from` gives to `to`.
    pub fn names_edge(&self, from: &Measurement, to: &Measurement) -> bool {
        let Some(giver) = self.holder(from) else { return false };
        self.holder(to).is_some() && (from == to || giver.gives_to.contains(to))
    }
}

wire! { Policy: "policy", PAYLOAD_BYTES_MAX; }
