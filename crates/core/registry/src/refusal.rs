//! Every reason for which a statement does not count.

use heirloom_attest::error::AppraiseError;
use heirloom_model::counter::{Epoch, Generation, LogIndex, PlanNumber, SecurityVersion};
use heirloom_model::counter::{Serial, Time};
use heirloom_model::digest::{
    Checksum, NetworkId, Nonce, PartyMapDigest, PlanDigest, ReleaseDigest,
};
use heirloom_model::identifier::{
    ApplicationId, DomainId, NodeId, OperatorId, PlatformId, ReleaseName,
};
use heirloom_model::measurement::Measurement;
use heirloom_model::party::PartyId;
use heirloom_model::plan::StepId;
use heirloom_model::signature::{BadSignature, PublicKey};
use heirloom_model::wire::WireError;

use crate::plan::PlanStatus;

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $code:literal $message:literal
        $name:ident $(($inner:ty))? $({ $($field:ident: $type:ty = $what:literal,)+ })?;)+) => {
        /// Why a statement does not count. It stays in the log without any effect.
        #[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
        pub enum Refusal {$(
            $(#[doc = $doc])+
            #[error($message)]
            $name $((#[source] $inner))? $({ $(#[doc = $what] $field: $type,)+ })?,
        )+}

        impl Refusal {
            /// Every stable code, in the order of the variants.
            pub const CODES: &'static [&'static str] = &[$($code),+];

            /// A stable word for this reason. Codes are never reused.
            pub fn code(&self) -> &'static str {
                match self {$(
                    Self::$name { .. } => $code,
                )+}
            }
        }
    };
}

refusals! {
    /// The bytes are not a statement, or its payload is not what its kind says.
    "malformed" "the statement cannot be read"
    Malformed(WireError);
    /// More signatures than any rule can ask for.
    "too-many-signatures" "the statement has {found} signatures, more than the {limit} allowed"
    TooManySignatures { found: usize = "Present.", limit: usize = "Allowed.", };
    /// Signatures are in ascending order of their keys, one per key.
    "signatures-not-sorted" "the signature by {key} is repeated or out of order"
    SignaturesNotSorted { key: PublicKey = "The key out of order.", };
    /// A signature does not belong to the payload.
    "bad-signature" "a signature does not verify"
    BadSignature(BadSignature);
    /// A key signed that may not sign this kind of statement.
    "unknown-signer" "{key} may not sign this statement"
    UnknownSigner { key: PublicKey = "The key.", };
    /// Too few of those who may sign did.
    "threshold-not-met" "{found} of the {of} keys signed, but {needed} must"
    ThresholdNotMet {
        of: &'static str = "Whose keys.",
        found: usize = "Distinct keys that signed.",
        needed: u32 = "Distinct keys that must sign.",
    };
    /// This kind of statement is signed by exactly one key.
    "not-one-signature" "the statement has {found} signatures, but exactly one is needed"
    NotOneSignature { found: usize = "Present.", };
    /// An attested statement is signed by exactly its instance and the agent of its node.
    "not-two-signatures" "the statement has {found} signatures, but exactly two are needed"
    NotTwoSignatures { found: usize = "Present.", };
    /// Only attested statements carry evidence.
    "evidence-unexpected" "a statement of this kind carries no evidence"
    EvidenceUnexpected;
    /// The signer must show that it is an attested instance.
    "evidence-missing" "the statement carries no evidence of its signer"
    EvidenceMissing;
    /// The evidence, or an endorsement, was appraised and refused.
    "evidence-refused" "the evidence is refused"
    Evidence(Box<AppraiseError>);
    /// The statement belongs to another network.
    "other-network" "the statement is made for another network"
    OtherNetwork { found: Option<NetworkId> = "The network that it names.", };
    /// The log does not begin with a root.
    "no-root" "no root is known yet"
    NoRoot;
    /// The first root is not the one that the network is named after.
    "wrong-first-root" "the first root belongs to network {found}"
    WrongFirstRoot { found: NetworkId = "The network that it makes.", };
    /// Only a new root is accepted after a root expired.
    "root-expired" "the root expired at {not_after}: only a new root is accepted"
    RootExpired { not_after: Time = "Its end.", };
    /// Nothing can be judged by time before the first epoch.
    "no-time" "the network has no time before its first epoch"
    NoTime;
    /// A serial, epoch or number that is not the next one.
    "not-next" "the {what} has number {found} where {expected} comes next"
    NotNext {
        what: &'static str = "What is numbered.",
        expected: u64 = "The next number.",
        found: u64 = "The number given.",
    };
    /// The statement, or what it depends on, has expired.
    "expired" "the {what} expired at {not_after}, and it is {now}"
    Expired {
        what: &'static str = "What expired.",
        not_after: Time = "Its end.",
        now: Time = "The network's time.",
    };
    /// Its last epoch has passed.
    "epoch-passed" "the {what} ended with epoch {not_after}, and it is {epoch}"
    EpochPassed {
        what: &'static str = "What ended.",
        not_after: Epoch = "Its last epoch.",
        epoch: Epoch = "The network's epoch.",
    };
    /// Time never decreases.
    "time-went-back" "the epoch starts at {found}, before {now}"
    TimeWentBack { now: Time = "The network's time.", found: Time = "The time given.", };
    /// A field is not as its format says.
    "shape" "{field} {fault}"
    Shape { field: &'static str = "The field.", fault: Fault = "What is wrong with it.", };
    /// A release of this name exists.
    "name-taken" "a release named {name} exists"
    NameTaken { name: ReleaseName = "The name.", };
    /// More of something than one network may have.
    "limit" "the network has {limit} {what}, and no more are accepted"
    Limit { what: &'static str = "Of what.", limit: usize = "How many.", };
    /// No fleet is known.
    "no-fleet" "no fleet is known yet"
    NoFleet;
    /// The node is not in the fleet.
    "unknown-node" "node {node} is not in the fleet"
    UnknownNode { node: NodeId = "The node.", };
    /// The node is meant for another domain.
    "other-domain" "node {node} belongs to another domain"
    OtherDomain { node: NodeId = "The node.", };
    /// The domain has no policy in force.
    "no-policy" "domain {domain} has no policy in force"
    NoPolicy { domain: DomainId = "The domain.", };
    /// A plan is under way; what is asked would change the ground under it.
    "plan-under-way" "plan {plan} is under way in this domain: finish it, abort it, or let its last epoch pass"
    PlanUnderWay { plan: PlanDigest = "The plan.", };
    /// A generation is ordered and not committed; a plan would lose it or stop it.
    "rotation-under-way" "generation {generation} is ordered and not committed yet"
    RotationUnderWay { generation: Generation = "The generation.", };
    /// The plan is not known, or not any more.
    "unknown-plan" "plan {plan} is not known"
    UnknownPlan { plan: PlanDigest = "The plan.", };
    /// Another plan took its place.
    "stale-plan" "plan {plan} is stale: plan number {current} of its domain is the one that counts"
    StalePlan { plan: PlanDigest = "The plan.", current: PlanNumber = "The one that counts.", };
    /// The plan was made for another state of the domain.
    "plan-mismatch" "the plan's {what} is not that of its domain"
    PlanMismatch { what: &'static str = "What differs.", };
    /// The plan does not stand where this statement makes sense.
    "plan-status" "the plan is {status}"
    PlanStatus { status: PlanStatus = "Where it stands.", };
    /// The plan has no such step.
    "unknown-step" "the plan has no step {step}"
    UnknownStep { step: StepId = "The step.", };
    /// The step belongs to another node, or is of another kind.
    "wrong-step" "step {step} {reason}"
    WrongStep { step: StepId = "The step.", reason: &'static str = "What differs.", };
    /// Something that must be done before has no result.
    "too-early" "step {before} must be done before step {step}"
    TooEarly { step: StepId = "The step.", before: StepId = "What must be done before.", };
    /// The step verifies, and too few holders have proven possession to it.
    "not-proven" "{found} of {needed} holders have proven possession to step {step}"
    NotProven {
        step: StepId = "The step.",
        found: u32 = "Who have.",
        needed: u32 = "How many must.",
    };
    /// It is in the log already.
    "already-recorded" "the {what} is recorded already, as entry {at}"
    AlreadyRecorded { what: &'static str = "What.", at: LogIndex = "Where.", };
    /// A policy waits for a plan already.
    "policy-pending" "policy {serial} waits for a plan already"
    PolicyPending { serial: Serial = "The one that waits.", };
    /// What was decided before the first key was made.
    "sharing-settled" "domain {domain} has a keyring: whether its holders share it stays as it is"
    SharingSettled { domain: DomainId = "The domain.", };
    /// No policy of this serial waits for this plan.
    "policy-not-pending" "no policy {serial} waits for this plan"
    PolicyNotPending { serial: Serial = "The serial.", };
    /// The statement says that it follows another policy than was in force.
    "wrong-policy" "the instance follows policy {found}, but {expected:?} was in force"
    WrongPolicy {
        expected: Option<Serial> = "In force when the instance looked.",
        found: Serial = "Followed.",
    };
    /// The policy does not let this code hold the domain's keys.
    "measurement-refused" "the policy does not let {measurement} hold keys"
    MeasurementRefused { measurement: Measurement = "The code.", };
    /// The code is older than the policy allows.
    "security-version-too-low" "security version {found} is below {needed}"
    SecurityVersionTooLow {
        needed: SecurityVersion = "The lowest that is allowed.",
        found: SecurityVersion = "Attested.",
    };
    /// The statement names another measurement than its evidence.
    "measurement-mismatch" "the statement names {stated}, its evidence {attested}"
    MeasurementMismatch {
        stated: Measurement = "In the statement.",
        attested: Measurement = "In the evidence.",
    };
    /// The instance followed another history of the log, or one that does not exist yet.
    "other-history" "the instance followed another history of {length} entries"
    OtherHistory { length: LogIndex = "How much of it.", };
    /// The instance had not seen what it must have seen; the statement may be an old one.
    "stale" "the instance had followed {length} entries, and entry {needed} must be among them"
    Stale { length: LogIndex = "Followed.", needed: LogIndex = "Must be among them.", };
    /// Only the ordered node makes the first receipt; or nothing is ordered.
    "no-order" "no open order {order} asks this node for this generation"
    NoOrder { order: Nonce = "The nonce of the order.", };
    /// The node holds something else than what was proposed.
    "checksum-mismatch" "the node holds checksum {found}, but {expected} was proposed"
    ChecksumMismatch { expected: Checksum = "Proposed.", found: Checksum = "Held.", };
    /// No such challenge is remembered.
    "unknown-challenge" "challenge {nonce} is not known"
    UnknownChallenge { nonce: Nonce = "The challenge.", };
    /// The challenge does not ask this node.
    "not-asked" "the challenge does not ask node {node}"
    NotAsked { node: NodeId = "The node.", };
    /// Whoever seals nothing proves nothing about durable state.
    "holds-in-memory" "node {node} holds in memory only, as it registered, and proves nothing durable"
    HoldsInMemory { node: NodeId = "The node.", };
    /// A plan names a release that the network does not have.
    "unknown-release" "release {release} is not known"
    UnknownRelease { release: ReleaseDigest = "The release.", };
    /// Only an exclusive domain has one active holder.
    "not-exclusive" "domain {domain} is not exclusive: it has no single active holder"
    NotExclusive { domain: DomainId = "The domain.", };
    /// The statement can only come from the active holder.
    "not-active-holder" "instance {instance} is not the active holder"
    NotActiveHolder { instance: PublicKey = "Who signed.", };
    /// Only the node of the active holder creates generations of an exclusive domain.
    "not-active-node" "node {node} does not run the active holder"
    NotActiveNode { node: NodeId = "The node.", };
    /// Somebody, or this seat, is or was the active holder.
    "already-active" "there is an active holder already, by entry {at}"
    AlreadyActive { at: LogIndex = "What made it so.", };
    /// A holder can only follow itself if it was the active one.
    "nobody-active" "nobody is active whom a restarted holder could follow"
    NobodyActive;
    /// The active holder has not said that it serves no more.
    "not-suspended" "no active holder is suspended whom this one could follow"
    NotSuspended;
    /// An instance is active once in its life.
    "activated-before" "instance {instance} was the active holder before, by entry {at}"
    ActivatedBefore {
        instance: PublicKey = "The instance.",
        at: LogIndex = "What made it active.",
    };
    /// The first active holder is where the first key was made.
    "not-genesis-node" "node {node} did not carry out genesis"
    NotGenesisNode { node: NodeId = "The node.", };
    /// The active holder is elsewhere.
    "other-seat" "{measurement} on node {node} is not where the active holder is"
    OtherSeat {
        node: NodeId = "The node that was named.",
        measurement: Measurement = "The code that was attested.",
    };
    /// The active holder was on another machine.
    "other-platform" "platform {found} is not that of the active holder"
    OtherPlatform { found: PlatformId = "Attested.", };
    /// The holder does not have exactly the committed keyring.
    "keyring-mismatch" "generation {generation} with checksum {checksum} is not what is committed"
    KeyringMismatch {
        generation: Generation = "Held.",
        checksum: Checksum = "Held.",
    };
    /// The holder has not restarted since it received something.
    "not-recovered" "the instance received keys since it started; its durable state is unproven"
    NotRecovered;
    /// The policy lets the code hold, but not do this.
    "role-refused" "{measurement} holds keys as {role}, which may not do this"
    RoleRefused {
        measurement: Measurement = "The code.",
        role: &'static str = "What the policy lets it do.",
    };
    /// The challenge asks one code, and another one answered.
    "other-code-asked" "the challenge asks {asked}, and {found} answered"
    OtherCodeAsked { asked: Measurement = "Asked.", found: Measurement = "Answered.", };
    /// Some epochs must begin after another step.
    "not-waited" "{epochs} epochs must begin after step {since} before step {step}"
    NotWaited {
        step: StepId = "The step.",
        since: StepId = "The step before.",
        epochs: u32 = "How many epochs.",
    };
    /// Only a statement of the holder itself shows that the step is done.
    "not-witnessed" "no statement of a holder shows that step {step} is done"
    NotWitnessed { step: StepId = "The step.", };
    /// The plan changes no service.
    "no-service" "plan {plan} changes no service"
    NoService { plan: PlanDigest = "The plan.", };
    /// What a service states is not what the step asks for, or not what operators agreed on.
    "standing-mismatch" "the service's {what} is not what the step and the terms ask for"
    StandingMismatch { what: &'static str = "What differs.", };
    /// The policy does not let this code ask for the application's keys.
    "application-refused" "the policy does not name {measurement} as {application}"
    ApplicationRefused {
        application: ApplicationId = "The application.",
        measurement: Measurement = "The code.",
    };
    /// One platform states the same for two nodes.
    "same-platform" "platform {platform} stated the same for node {node}"
    SamePlatform { platform: PlatformId = "Attested.", node: NodeId = "The other node.", };
    /// An instance that another one followed states something.
    "superseded" "instance {instance} was followed by another one, which stated entry {at}"
    Superseded {
        instance: PublicKey = "The instance.",
        at: LogIndex = "What the other one stated last.",
    };
    /// Only a statement of the service itself shows that the step is done.
    "not-stated" "no statement of the service shows that step {step} is done"
    NotStated { step: StepId = "The step.", };
    /// Services that must agree before the step stated different things.
    "disagreed" "steps {a} and {b} state different {what}, and step {step} needs agreement"
    Disagreed {
        step: StepId = "The step.",
        a: StepId = "What one stated.",
        b: StepId = "What the other stated.",
        what: &'static str = "What differs.",
    };
    /// Too few operators recorded a rehearsal of these terms.
    "not-rehearsed" "{found} of {needed} operators rehearsed the terms before step {step}"
    NotRehearsed {
        step: StepId = "The step.",
        found: u32 = "Who have.",
        needed: u32 = "How many must.",
    };
    /// The window in which the service changes is not open yet.
    "window-closed" "step {step} waits for epoch {opens}, and it is {epoch}"
    WindowClosed {
        step: StepId = "The step.",
        opens: Epoch = "When the window opens.",
        epoch: Epoch = "The network's epoch.",
    };
    /// What happens here is no rehearsal of what happens here.
    "rehearsed-here" "the rehearsal took place on the network for which it is to count"
    RehearsedHere;
    /// The plan moves no participant.
    "no-participant" "plan {plan} moves no participant"
    NoParticipant { plan: PlanDigest = "The plan.", };
    /// Where a keyring is, plans look after it.
    "has-keyring" "domain {domain} has keepers: its plans are about its keyring"
    HasKeyring { domain: DomainId = "The domain.", };
    /// Nobody knows what a node would move.
    "not-surveyed" "node {node} has said nothing about its participants"
    NotSurveyed { node: NodeId = "The node.", };
    /// What a node said about its participants may not be true any more.
    "survey-old" "node {node} looked at its participants in epoch {found}, and it is {epoch}"
    SurveyOld {
        node: NodeId = "The node.",
        found: Epoch = "When it looked.",
        epoch: Epoch = "Now.",
    };
    /// The plan is made for another participant than there is.
    "survey-differs" "the {what} that node {node} found differ from the plan"
    SurveyDiffers { node: NodeId = "The node.", what: &'static str = "What differs.", };
    /// A node found something that must be put right first.
    "survey-blocks" "node {node} found something that must be put right before it can move"
    SurveyBlocks { node: NodeId = "The node.", };
    /// Somebody else's contracts would differ.
    "foreign-party" "party {party} in contracts of node {node} is hosted by who does not move"
    ForeignParty { node: NodeId = "The node.", party: PartyId = "The party.", };
    /// What a node states does not continue what the plan says and what was stated before.
    "facts-mismatch" "the node's {what} is not what the step, the plan and earlier steps ask for"
    FactsMismatch { what: &'static str = "What differs.", };
    /// Only who runs a node of the plan is asked.
    "not-its-operator" "{operator} runs no node of the plan"
    NotItsOperator { operator: OperatorId = "The operator.", };
    /// Nobody knows whose signature is this operator's.
    "no-operator-key" "the fleet names no key of {operator}: publish a fleet with its key"
    NoOperatorKey { operator: OperatorId = "The operator.", };
    /// An operator speaks for nobody else.
    "not-operators-key" "{found} is not the key of {operator}: the fleet names {expected}"
    NotOperatorsKey {
        operator: OperatorId = "The operator.",
        expected: PublicKey = "The fleet's.",
        found: PublicKey = "Who signed.",
    };
    /// Consent counts for exactly one map.
    "other-map" "the plan's party map is {expected}, not {found}"
    OtherMap { expected: PartyMapDigest = "The plan's.", found: PartyMapDigest = "Agreed to.", };
    /// One key speaks for one operator.
    "speaks-for-other" "{key} agreed for operator {operator} already"
    SpeaksForOther { key: PublicKey = "The key.", operator: OperatorId = "The other operator.", };
    /// Operators whose parties get new names have not agreed.
    "not-consented" "{operator} has not agreed to the party map before step {step}"
    NotConsented { step: StepId = "The step.", operator: OperatorId = "The first who has not.", };
    /// There is no consent that could be taken back.
    "not-approved" "{key} did not approve the plan"
    NotApproved { key: PublicKey = "The operator.", };
    /// Something may have begun that only an abort puts back.
    "revoked-too-late" "step {step} may have begun: consent is not taken back any more, but an abort is possible"
    RevokedTooLate { step: StepId = "The step.", };
    /// The operator took back consent up to this epoch.
    "revoked" "{key} took back its consent until epoch {not_after}: only a later epoch counts"
    Revoked { key: PublicKey = "The operator.", not_after: Epoch = "Its last epoch.", };
    /// Consent would end while nodes may be closed.
    "approval-too-short" "the approval ends with epoch {found}, before epoch {needed}, in which the plan calls itself off"
    ApprovalTooShort { needed: Epoch = "The last epoch of the window.", found: Epoch = "Its last epoch.", };
}

impl Refusal {
    pub(crate) fn evidence(error: AppraiseError) -> Self {
        Self::Evidence(Box::new(error))
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// "None" is never the same as "any".
    #[error("must not be empty")]
    Empty,
    /// Repeated, or out of order.
    #[error("must be sorted and without repetition")]
    NotSorted,
    /// Repeated.
    #[error("must be without repetition")]
    NotDistinct,
    /// All zero, as debug enclaves report it.
    #[error("must not be zero")]
    Zero,
    /// More than allowed.
    #[error("has {found} elements, more than the {limit} allowed")]
    TooLong {
        /// Present.
        found: usize,
        /// Allowed.
        limit: usize,
    },
    /// Smaller or larger than makes sense.
    #[error("is out of range")]
    OutOfRange,
    /// Refers to something that is not there.
    #[error("must name only what exists")]
    Dangling,
    /// Present where it must not be, or absent where it must be.
    #[error("is not what a statement of this kind and position has")]
    Unexpected,
}
