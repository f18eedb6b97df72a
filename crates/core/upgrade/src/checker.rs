//! Says what is wrong with a plan. Empty means that nothing was found.
//!
//! The checker shares no code with the planner. It takes the plan as it is, walks through it
//! from the state that the log shows, and treats everything that may happen at the same time as
//! if it did: all nodes of a wave are down together, every agent is cut off between any two of
//! its steps, and an abort may come at each of those moments.
//!
//! Nobody has to say how the plan was made. Where nodes change in waves, many things happen at the
//! same time, and the checks look at every node with its whole wave down. Where there are no waves,
//! every step must wait for the one before it, and the checks walk through the world seat by
//! seat: which have the keyring, which have proven it, which one answers.
//!
//! Where the service of all nodes changes, steps of different nodes run in any order that their
//! gates allow. What certainly came before a step is read off the gates once, and every rule about
//! other nodes is asked of that; each node by itself is walked like a seat.

use heirloom_custody::invariant::{LeakRisk, LossRisk};
use heirloom_model::counter::{Epoch, Generation, PlanNumber, SecurityVersion, Serial, Time};
use heirloom_model::digest::{PlanDigest, ReleaseDigest};
use heirloom_model::identifier::{ApplicationId, DomainId, NodeId, OperatorId};
use heirloom_model::measurement::Measurement;
use heirloom_model::participant::ParticipantChange;
use heirloom_model::party::PartyId;
use heirloom_model::plan::{KeyringPlan, Plan, StepId};
use heirloom_model::policy::HolderRole;
use heirloom_registry::network::NetworkState;

use crate::inventory::participants::Participants;
use crate::inventory::{Inventory, InventoryError};

mod back;
mod durable;
mod edges;
mod evidence;
mod forward;
mod ground;
mod host;
mod line;
mod order;
mod participant;
mod retreat;
mod service;
mod survey;
mod world;

/// Findings that one check reports; a plan that is wrong everywhere needs no list of everything.
pub const FINDINGS_MAX: usize = 256;

/// One thing that is wrong with a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The step that shows it, if one does.
    pub step: Option<StepId>,
    /// What is wrong.
    pub fault: Fault,
}

/// What a finding means for the plan.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// The plan is weaker than it could be.
    Warning,
    /// The plan must not be approved.
    Error,
}

impl Severity {
    /// The word that people see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Finding {
    /// Its stable code.
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }

    /// What it means for the plan.
    pub fn severity(&self) -> Severity {
        match self.fault {
            Fault::OneOperator { .. } | Fault::NotRehearsed => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.step {
            Some(step) => write!(f, "{} step {step}: {}", self.code(), self.fault),
            None => write!(f, "{}: {}", self.code(), self.fault),
        }
    }
}

macro_rules! faults {
    ($($code:literal $message:literal $(, .$argument:ident.name())?
        $name:ident $(($inner:ty))? $({ $($field:ident: $type:ty = $what:literal,)+ })?;)+) => {
        /// What is wrong with a plan.
        #[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
        pub enum Fault {$(
            #[doc = concat!("Code `", $code, "`; the text of the error says what it is.")]
            #[error($message $(, $argument.name())?)]
            $name $((#[source] $inner))? $({ $(#[doc = $what] $field: $type,)+ })?,
        )+}

        impl Fault {
            /// Every code, in order.
            pub const CODES: &'static [&'static str] = &[$($code),+];

            /// Its stable code. Codes are never reused.
            pub fn code(&self) -> &'static str {
                match self {$(Self::$name { .. } => $code,)+}
            }
        }
    };
}

faults! {
    // The ground that the plan stands on.
    "F-100" "the log does not say enough to check a plan"
    Inventory(InventoryError);
    "F-101" "the plan is made for another network"
    OtherNetwork;
    "F-102" "the plan has number {found}, and {expected} is the next one"
    WrongNumber { expected: PlanNumber = "The next one.", found: PlanNumber = "The plan's.", };
    "F-103" "plan {plan} is active in this domain"
    PlanActive { plan: PlanDigest = "The other plan.", };
    "F-104" "the plan is made for policy serial {found}, and {in_force} is in force"
    OtherPolicy { in_force: Serial = "In force.", found: Serial = "The plan's.", };
    "F-105" "the plan does not protect the keyring that is committed"
    OtherKeyring;
    "F-106" "the plan keeps {found} proven holders, and the policy demands {needed}"
    HoldersMinTooLow { needed: u32 = "By policy.", found: u32 = "By the plan.", };
    "F-107" "the plan leaves out or repeats {node}, or does not list nodes in order"
    WrongNodes { node: NodeId = "The first node that differs.", };
    "F-108" "release {release} is not a known keeper release with measurement {measurement}"
    WrongRelease {
        release: ReleaseDigest = "The release.",
        measurement: Measurement = "What the plan says it launches to.",
    };
    "F-109" "the release to install expired at {not_after}"
    ReleaseExpired { not_after: Time = "Its end.", };
    "F-110" "the security version would go down from {from} to {to}"
    SecurityVersionLower {
        from: SecurityVersion = "What runs.",
        to: SecurityVersion = "What shall run.",
    };
    "F-111" "the policy does not let the keyring go the way of this plan"
    Leak(LeakRisk);
    "F-112" "the plan ends with epoch {not_after}, and it is {epoch}"
    Ended { not_after: Epoch = "The last epoch.", epoch: Epoch = "Now.", };
    "F-113" "generation {generation} is ordered and not committed yet"
    RotationPending { generation: Generation = "The generation.", };
    "F-114" "both releases launch to the same measurement"
    NothingChanges;
    "F-115" "the domain is exclusive, and this plan has two active holders"
    Exclusive;
    "F-116" "the plan has {found} {what}, more than the {limit} allowed"
    TooLarge {
        what: &'static str = "Of what.",
        found: usize = "How many.",
        limit: usize = "How many are allowed.",
    };
    // Shape and order.
    "F-201" "the step has another number than its place"
    WrongStepNumber;
    "F-202" "{node} is not a node of this plan"
    ForeignNode { node: NodeId = "The node.", };
    "F-203" "the gate refers to step {to}, which does not come before"
    GateAhead { to: StepId = "The step that it refers to.", };
    "F-204" "the gate waits for epoch {epoch}, and the plan ends with {not_after}"
    EpochAfterEnd { epoch: Epoch = "Awaited.", not_after: Epoch = "The plan's last.", };
    "F-205" "nothing makes the step wait for step {before} of the same node"
    LooseStep { before: StepId = "The step before it on the node.", };
    "F-206" "the step is in wave {found}, and {node} changes in wave {expected}"
    WrongWave {
        node: NodeId = "The node.",
        expected: u32 = "Where it changes.",
        found: u32 = "Where the step is.",
    };
    "F-207" "{need} are needed, and at most {possible} can answer"
    Unsatisfiable { need: u32 = "Needed.", possible: u32 = "Possible.", };
    "F-208" "the step undoes step {undoes}, which is not a forward step of the same node"
    UndoesForeign { undoes: StepId = "What it says it undoes.", };
    "F-209" "the way back waits for step {to}, which is not on the way back"
    BackWaitsForward { to: StepId = "The step that it waits for.", };
    "F-210" "waves are not numbered from 1 without a gap"
    WaveNumbers;
    // One node.
    "F-301" "{node} is not as the step expects: it needs {needed}"
    Unexpected { node: NodeId = "The node.", needed: &'static str = "What the step needs.", };
    "F-302" "{node} does not end with the new release, running, with a keyring that it unsealed and proved"
    NotUpgraded { node: NodeId = "The node.", };
    "F-303" "{node} is stopped before it was prepared"
    NotPrepared { node: NodeId = "The node.", };
    "F-304" "the step names another release or measurement than the plan"
    ForeignPlacement;
    "F-305" "{node} is changed twice"
    ChangedTwice { node: NodeId = "The node.", };
    // Custody.
    "F-401" "a holder is stopped, and no gate asks for proofs of others"
    StopWithoutProof;
    "F-402" "the proofs answer step {since}, which does not ask anew for this stop"
    ProofNotFresh { since: StepId = "The step that the gate names.", };
    "F-403" "{node} counts as a witness and is changed in the same wave"
    WitnessInWave { node: NodeId = "The witness.", };
    "F-404" "{node} counts as a witness, and step {since} does not ask it"
    WitnessNotAsked { node: NodeId = "The witness.", since: StepId = "The step that asks.", };
    "F-405" "the keyring could be lost"
    Loss(LossRisk);
    "F-406" "{node} may be asked for the keyring and is changed in the same wave"
    SourceInWave { node: NodeId = "The source.", };
    "F-407" "nobody may be asked for the keyring"
    NoSource;
    "F-408" "wave {wave} takes the last two failure domains together"
    LastDomains { wave: u32 = "The wave.", };
    "F-409" "{node} is stopped before the new release registered there in a trial"
    NoTrial { node: NodeId = "The node.", };
    "F-410" "a node changes before every node is prepared and has proven that it holds"
    NotEveryoneReady;
    "F-411" "wave {wave} begins before wave {before} is verified twice"
    WavesOverlap { wave: u32 = "The wave.", before: u32 = "The wave before.", };
    "F-412" "wave {wave} is not verified twice after it changed"
    NotVerifiedTwice { wave: u32 = "The wave.", };
    "F-413" "{node} verifies wave {wave} and verifies it again"
    SameVerifier { wave: u32 = "The wave.", node: NodeId = "The verifier.", };
    "F-414" "both verifiers of wave {wave} answer to one operator, and the fleet has others"
    OneOperator { wave: u32 = "The wave.", };
    "F-415" "{node} is asked for a proof, and holds in memory only: its platform seals nothing"
    HoldsInMemory { node: NodeId = "The node.", };
    "F-416" "{node} seals again, and no key of its platform outlives an update"
    SealsForThePresent { node: NodeId = "The node.", };
    // The point of no return.
    "F-501" "the plan does not end with exactly one withdrawal, at its point of no return"
    NoReturn;
    "F-502" "the withdrawal names policy serial {found}, and {expected} is the next one"
    WrongSerial { expected: Serial = "The next one.", found: Serial = "The plan's.", };
    "F-503" "rights are withdrawn before every node is verified twice"
    EarlyWithdrawal;
    "F-504" "rights are withdrawn before the policy that does so is published"
    WithdrawalUnpublished;
    // The way back.
    "F-601" "an abort at this step does not bring {node} back to the old release with its keyring"
    NoWayBack { node: NodeId = "The node.", };
    "F-602" "an abort at step {aborted_at} leaves {node} so that this step cannot run: it needs {needed}"
    BackUnexpected {
        node: NodeId = "The node.",
        aborted_at: StepId = "The forward step.",
        needed: &'static str = "What the step needs.",
    };
    "F-603" "a new instance that may be a holder is stopped, and no gate asks for proofs of others"
    BackWithoutProof;
    "F-604" "{node} counts as a witness and may go away at the same time"
    BackCircle { node: NodeId = "The witness.", };
    "F-605" "{node} does not prove on its way back that it holds"
    BackNotVerified { node: NodeId = "The node.", };
    "F-606" "the step undoes step {undoes}, which lies behind the point of no return"
    NeverNeeded { undoes: StepId = "The forward step.", };
    // From seat to seat.
    "F-701" "{node} with {measurement} is not the active holder of this exclusive domain"
    NotTheActive {
        node: NodeId = "Where the plan begins.",
        measurement: Measurement = "What should be active there.",
    };
    "F-702" "release {release} with measurement {measurement} is not a known release of a {}", .role.name()
    WrongPlacement {
        release: ReleaseDigest = "The release.",
        measurement: Measurement = "What the plan says it launches to.",
        role: HolderRole = "What it does in this plan.",
    };
    "F-703" "the policy has no rule with the role of {} for {measurement}", .role.name()
    WrongRole {
        measurement: Measurement = "The code.",
        role: HolderRole = "What it does in this plan.",
    };
    "F-704" "{node} with {code} has not proven what it holds"
    Unproven { node: NodeId = "The node.", code: Measurement = "The code.", };
    "F-705" "a copy is given up, and no gate asks for a fresh proof of another one"
    GivenUpWithoutProof;
    "F-706" "the upgrader gives up its copy less than {needed} epochs after the point of no return"
    ForgottenEarly { needed: u32 = "What the policy demands.", };
    "F-707" "an activation has to follow a suspension at once, with nothing in between"
    Interposed;
    "F-708" "{node} is left with a process, live state or a carried copy of {code}"
    LeftBehind { node: NodeId = "The node.", code: Measurement = "The code.", };
    "F-709" "the point of no return is step {found}, and the way back is open until step {expected}"
    WrongNoReturn {
        found: StepId = "The plan's.",
        expected: StepId = "The first step that ends the way back.",
    };
    // Services.
    "F-801" "the step, or what it waits for, is about a service, and the plan names none"
    NoService;
    "F-802" "the plan changes a service, and keepers too"
    KeeperChanges;
    "F-803" "release {release} with measurement {measurement} is not a known release of an application"
    NotAnApplication {
        release: ReleaseDigest = "The release.",
        measurement: Measurement = "What the plan says it launches to.",
    };
    "F-804" "the policy does not give {application} with {measurement} the keys of the terms"
    NotServed {
        application: ApplicationId = "The application.",
        measurement: Measurement = "The code.",
    };
    "F-805" "the terms {what}"
    Terms { what: &'static str = "What is wrong with them.", };
    "F-806" "the window opens with epoch {opens}, and the plan is called off after {abort_after} and ends with {not_after}"
    WrongWindow {
        opens: Epoch = "The window's first.",
        abort_after: Epoch = "The last before it is called off.",
        not_after: Epoch = "The plan's last.",
    };
    "F-807" "{node} has {found} steps of the kind {action}, and needs exactly one"
    NotOnce {
        node: NodeId = "The node.",
        action: &'static str = "What they do.",
        found: usize = "How many there are.",
    };
    "F-808" "the step may run before step {before}: {rule}"
    TooSoon {
        before: StepId = "What has to come first.",
        rule: &'static str = "Why.",
    };
    "F-809" "the step does not wait for one statement of all nodes, steps {first} to {last}: {rule}"
    NotAgreed {
        first: StepId = "The first statement.",
        last: StepId = "The last statement.",
        rule: &'static str = "Why.",
    };
    "F-810" "{what} while nothing asks for fresh proofs of the keyring"
    CustodyUnproven { what: &'static str = "What happens.", };
    "F-811" "clients are shut out before epoch {opens}, in which the window opens"
    BeforeWindow { opens: Epoch = "The window's first.", };
    "F-812" "the step waits for other things than step {other}, which does the same on another node"
    UnevenGates { other: StepId = "The other step.", };
    "F-813" "no rehearsal of the terms is demanded"
    NotRehearsed;
    "F-814" "the plan has {found} commits and needs one: until there the flag day can be called off"
    NoCommit { found: usize = "How many there are.", };
    "F-815" "{node} does not end with the new service, let clients in, and nothing left to do"
    NotServing { node: NodeId = "The node.", };
    "F-816" "the way back of {node} waits for another node, or for more than its own step before"
    BackWaits { node: NodeId = "The node.", };
    "F-817" "{node} and {other} may be closed at the same time"
    ClosedTogether { node: NodeId = "The node.", other: NodeId = "The other node.", };
    "F-818" "the commit does not wait itself for step {needed}"
    CommitWithout { needed: StepId = "The step.", };
    // Participants.
    "F-901" "the plan is not about a keyring or about participants, or it is about both"
    OtherGround;
    "F-902" "the step, or what it waits for, does not belong into a plan that moves participants"
    NotOfParticipants;
    "F-903" "{node} has said nothing about its participants, or too long ago"
    NotSurveyed { node: NodeId = "The node.", };
    "F-904" "the {what} that {node} found differ from the plan"
    SurveyDiffers { node: NodeId = "The node.", what: &'static str = "What differs.", };
    "F-905" "{node} found something that must be put right first: {remark}"
    SurveyBlocks { node: NodeId = "The node.", remark: String = "What.", };
    "F-906" "the window opens with epoch {opens}, and the plan is called off after {last} and ends with {not_after}"
    WrongMoveWindow {
        opens: Epoch = "The window's first.",
        last: Epoch = "The last before it is called off.",
        not_after: Epoch = "The plan's last.",
    };
    "F-907" "the step does not wait for the consent of every operator to steps {first} to {last}"
    NotConsented { first: StepId = "The first part of the map.", last: StepId = "The last.", };
    "F-908" "the step does not wait until steps {first} to {last} show the same contracts"
    NotConcordant { first: StepId = "The first snapshot.", last: StepId = "The last.", };
    "F-909" "party {party} in contracts of {node} is hosted by {participant}, which does not move"
    ForeignParty {
        node: NodeId = "The node.",
        party: PartyId = "The party.",
        participant: String = "Who hosts it.",
    };
    "F-910" "{node} has no way back from {action}"
    NoRetreat { node: NodeId = "The node.", action: &'static str = "What has to be undone.", };
    "F-911" "the plan does not have exactly one commit, at its point of no return, before it settles"
    NoMoveCommit;
    "F-912" "{node} and {other} move the same {what}"
    MovedTwice {
        node: NodeId = "The node.",
        other: NodeId = "The other node.",
        what: &'static str = "What.",
    };
    "F-913" "domain {domain} has keepers: its plans are about its keyring"
    HasKeepers { domain: DomainId = "The domain.", };
    "F-914" "{operator} is asked to agree, and the fleet names no key of it"
    MuteOperator { operator: OperatorId = "Who could never agree.", };
}

/// Checks a plan against the log.
pub fn check(plan: &Plan, state: &NetworkState) -> Vec<Finding> {
    if let (None, Some(change)) = (&plan.keyring, &plan.participant) {
        return match Participants::of(state, &plan.domain) {
            Ok(participants) => check_participants(plan, change, &participants),
            Err(error) => vec![Finding { step: None, fault: Fault::Inventory(error) }],
        };
    }
    match Inventory::of(state, &plan.domain) {
        Ok(inventory) => check_from(plan, &inventory),
        Err(error) => vec![Finding { step: None, fault: Fault::Inventory(error) }],
    }
}

/// Checks a plan against an inventory.
pub fn check_from(plan: &Plan, inventory: &Inventory) -> Vec<Finding> {
    let mut report = Report::default();
    let (Some(plan), None) = (KeyringPlan::of(plan), &plan.participant) else {
        report.plan(Fault::OtherGround);
        return report.findings;
    };
    ground::check(plan, inventory, &mut report);
    durable::check(plan, inventory, &mut report);
    if !order::check(&plan, inventory.nodes.iter().map(|node| &node.node), &mut report) {
        // References that lead nowhere make everything below meaningless.
        return report.findings;
    }
    if let Some(change) = &plan.service {
        service::check(plan, change, inventory, &mut report);
        return report.findings;
    }
    service::check_stray(&plan, &mut report);
    if plan.has_waves() {
        let survey = survey::Survey::of(plan, inventory, &mut report);
        forward::check(&survey, &mut report);
        back::check(&survey, &mut report);
    } else {
        line::check(plan, inventory, &mut report);
    }
    report.findings
}

/// Checks a plan that moves participants against what their nodes found out.
pub fn check_participants(
    plan: &Plan,
    change: &ParticipantChange,
    participants: &Participants,
) -> Vec<Finding> {
    let mut report = Report::default();
    participant::check(plan, change, participants, &mut report);
    report.findings
}

/// The findings so far.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn plan(&mut self, fault: Fault) {
        self.push(None, fault);
    }

    fn step(&mut self, step: StepId, fault: Fault) {
        self.push(Some(step), fault);
    }

    fn push(&mut self, step: Option<StepId>, fault: Fault) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { step, fault });
        }
    }
}
