//! Makes a plan: pure, complete, and leaving no choice to whoever carries it out.
//!
//! One module per strategy; nothing outside this module knows strategies.
//!
//! **Size.** A plan for 10,000 nodes must stay readable in bytes and time, so no step lists the
//! whole fleet, except a fixed number of barriers and the two verifications of each wave, in
//! which each node appears once. Who proves before a node stops is a bounded set of witnesses:
//! as many as needed, in distinct failure domains, and [`WITNESS_SPARE`] more, so that some may
//! be slow. Who gives the keyring to a new instance is at most [`SOURCES_MAX`] holders. Both are
//! chosen deterministically and spread over the fleet. What bounds a plan in the end are
//! `STEPS_MAX` and `PLAN_BYTES_MAX` of `heirloom_model::limit`.
//!
//! **Seats.** A handover, a move and a reseal change one seat after the other, so their steps stand
//! in one line. They name few nodes: those that they change, and, where the policy wants several
//! holders, all of the domain's, because copies are counted over the nodes of a plan.
//!
//! **Services.** A flag day changes the service of all nodes at once, so its steps stand in blocks,
//! one step for each node, and each block waits for the whole one before it. Nothing on its way
//! back waits for another node. Keepers stay as they are, and prove twice.
//!
//! **Participants.** A migration concerns nodes without keepers, so it has a request and a report of
//! its own: [`migration`]. Its steps stand in blocks too.
//!
//! **The way back.** Rollback steps of one node stand in the order in which they run. Each
//! undoes a forward step of the same node. Where keepers change, those that undo later steps come
//! first, so what has to run after an abort is always the tail of the node's list.

use heirloom_custody::invariant::{LeakRisk, LossRisk};
use heirloom_model::counter::{Epoch, Generation, SecurityVersion, Serial, Time};
use heirloom_model::digest::{Nonce, PlanDigest, ReleaseDigest};
use heirloom_model::identifier::{ApplicationId, DomainId, HostId, NodeId};
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::plan::{Plan, StepId};
use heirloom_model::policy::HolderRole;
use heirloom_model::service::Terms;
use heirloom_registry::network::NetworkState;

use self::service::ServiceError;
use crate::inventory::{Inventory, InventoryError};

pub mod migration;
pub mod service;

mod draft;
mod durable;
mod eligible;
mod flag_day;
mod handover;
mod layout;
mod restart;
mod rolling;
mod terms;
mod verifier;
mod witness;

/// Holders that may be asked for the keyring: one bad source must not stop a new instance.
pub const SOURCES_MAX: usize = 8;
/// Witnesses beyond the number needed: some may be slow or down.
pub const WITNESS_SPARE: usize = 4;

/// What an operator wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlanRequest {
    /// Whose custody changes.
    pub domain: DomainId,
    /// What runs now.
    pub from: ReleaseDigest,
    /// What shall run. The same release for a move and for a reseal.
    pub to: ReleaseDigest,
    /// The last epoch in which a step may start.
    pub not_after: Epoch,
    /// Random. Makes the plan unique.
    pub nonce: Nonce,
    /// How to get there.
    pub arrangement: Arrangement,
}

/// How the steps are arranged. Only the planner asks.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one for each plan that is made")]
pub enum Arrangement {
    /// Many replicas, one wave after the other.
    Rolling {
        /// How many nodes change together.
        wave_size: WaveSize,
        /// After the first wave nothing goes on before this epoch.
        upgrade_epoch: Option<Epoch>,
        /// The serial of the policy that will complete the plan.
        withdraw: Serial,
    },
    /// One node: the old keeper gives to an upgrader beside it, which gives to the new keeper.
    Handover {
        /// The node.
        node: NodeId,
        /// The upgrader's release.
        via: ReleaseDigest,
        /// The serial of the policy that will complete the plan; without it, old code keeps its
        /// rights until a policy takes them.
        withdraw: Option<Serial>,
    },
    /// The same release on another node takes over.
    Move {
        /// Who holds now.
        from_node: NodeId,
        /// Who shall hold.
        to_node: NodeId,
    },
    /// The keeper of one node seals everything again, for the platform as it is now.
    Reseal {
        /// The node.
        node: NodeId,
    },
    /// The service of every node changes. Keepers stay as they are: the request names the same
    /// release twice.
    FlagDay(FlagDayRequest),
}

/// What an operator wants of a flag day. If the measurement stays, it becomes a plain rolling
/// restart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlagDayRequest {
    /// Whose keys the service asks for.
    pub application: ApplicationId,
    /// The release of the service that runs now.
    pub from: ReleaseDigest,
    /// The release of the service that shall run.
    pub to: ReleaseDigest,
    /// What the operators agreed on.
    pub terms: Terms,
    /// The epoch in which the window opens.
    pub opens: Epoch,
    /// After this epoch the plan is called off by itself.
    pub abort_after: Epoch,
    /// How many operators must have recorded a rehearsal of these terms. None is said aloud.
    pub rehearsals: u32,
    /// Nodes that open together, in this order; each node once. Without any: the first node, then
    /// the others.
    pub stages: Vec<Vec<NodeId>>,
    /// The serial of the policy that will complete the plan; without it, the old code keeps its
    /// rights until a policy takes them.
    pub withdraw: Option<Serial>,
}

/// How many nodes change together, at most. Custody may demand fewer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WaveSize {
    /// Half of the fleet, then the other half.
    #[default]
    Half,
    /// This many. Zero is taken as one.
    Count(u32),
    /// One after the other.
    OneByOne,
}

/// What was decided, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlanReport {
    /// The nodes of each wave, in order.
    pub waves: Vec<Vec<NodeId>>,
    /// How many failure domains keep a proven holder outside every wave.
    pub need: u32,
    /// Who verifies each wave, first and again; the last pair verifies everything.
    pub verifiers: Vec<(NodeId, NodeId)>,
    /// Forward steps.
    pub steps: usize,
    /// Rollback steps.
    pub rollback_steps: usize,
    /// From this step on there is no way back but a new plan.
    pub point_of_no_return: StepId,
    /// When nobody answers, and for how long.
    pub downtime: Downtime,
    /// Size of the plan's encoding.
    pub bytes: usize,
    /// What an operator should know before approving.
    pub notes: Vec<Note>,
    /// What was decided about a service, if one changes.
    pub service: Option<ServiceReport>,
}

/// What was decided about a service, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceReport {
    /// The epoch in which the window opens.
    pub opens: Epoch,
    /// The last epoch before the plan is called off by itself.
    pub abort_after: Epoch,
    /// How many operators must have recorded a rehearsal.
    pub rehearsals: u32,
    /// How long a service must have been quiet before it freezes.
    pub quiet_milliseconds: u64,
    /// How long clients are watched at the end.
    pub watch_milliseconds: u64,
    /// The nodes that let clients in together, in order.
    pub stages: Vec<Vec<NodeId>>,
}

/// When nobody answers while a plan is carried out, and what that time consists of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Downtime {
    /// Somebody answers all the time.
    #[error("none: somebody answers all the time")]
    None,
    /// The active holder says that it stops before the next one says that it begins.
    #[error(
        "from step {suspend} to step {activate}: the old holder's suspension, and then {entries} \
         entries of the log until the new one may answer; no process starts in between"
    )]
    Suspension {
        /// The old holder answers until here.
        suspend: StepId,
        /// The new holder answers from here on.
        activate: StepId,
        /// Entries that the log must take in between, after the suspension.
        entries: u32,
    },
    /// The only keeper that answers starts again.
    #[error("step {restart}: one start of the keeper's process{}", lease_words(*.lease))]
    Restart {
        /// The step.
        restart: StepId,
        /// Whether the new instance also waits for the time in which the one before it may
        /// believe that it is the active one.
        lease: Lease,
    },
    /// No node of a service lets clients in.
    #[error(
        "closed window from step {closes} to step {opens}: no node of the service lets clients in"
    )]
    Window {
        /// The first node lets nobody in from here.
        closes: StepId,
        /// The first node lets clients in again.
        opens: StepId,
    },
}

/// Whether a restarted instance waits before it answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lease {
    /// It answers at once.
    None,
    /// It waits until the instance before it can no longer believe that it is the active one.
    Attendance,
}

fn lease_words(lease: Lease) -> &'static str {
    match lease {
        Lease::None => "",
        Lease::Attendance => {
            ", and the time in which the instance before it may believe that it is the active one"
        }
    }
}

/// What an operator should know before approving.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Note {
    /// Custody made waves smaller than asked.
    #[error(
        "waves are smaller than the {asked} nodes asked for: {largest} at most, so that enough \
         failure domains keep a proven holder"
    )]
    SmallerWaves {
        /// Nodes asked for.
        asked: usize,
        /// Nodes in the largest wave.
        largest: usize,
    },
    /// Both verifiers answer to the same operator.
    #[error("only one operator verifies: {first} and {second} answer to the same one")]
    OneOperator {
        /// Verifies.
        first: NodeId,
        /// Verifies again.
        second: NodeId,
    },
    /// A single failure during the upgrade leaves nobody.
    #[error(
        "the policy asks for one proven holder outside a wave: a single failure during the \
         upgrade leaves only quarantined copies"
    )]
    NoMargin,
    /// Every copy is on one machine.
    #[error(
        "all copies are on {host}: a second node in another failure domain would keep the keyring \
         when that machine is lost"
    )]
    OneHost {
        /// The machine.
        host: HostId,
    },
    /// The plan ends some time after it takes effect.
    #[error(
        "the upgrader keeps its copy for {epochs} epochs after the new keeper takes over; the plan \
         ends after that, and no other plan begins before"
    )]
    KeepsCarriedCopy {
        /// How long.
        epochs: u32,
    },
    /// The code of the service stays.
    #[error(
        "both releases launch to {0}: peers accept each other all the time, so this is a rolling \
         restart, one node after the other, and no flag day"
    )]
    NoFlagDay(Measurement),
    /// Nobody has to have tried it.
    #[error("no rehearsal on a test network is demanded: this network may be the first that tries")]
    NotRehearsed,
    /// Clients come to the new version everywhere at once.
    #[error("all nodes open together: no node shows first what clients do to the new version")]
    NoCanary,
    /// A single failure stops the service while the plan is carried out.
    #[error("the service runs on one node: it is closed while that node changes")]
    OneNode,
    /// A development root is trusted.
    #[error("a development root is trusted: platforms under it protect nothing from their owner")]
    DevelopmentRoot,
}

/// A way of the keyring from one seat to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Hop {
    /// From the old keeper to the upgrader.
    #[error("the old keeper give to the upgrader")]
    ToUpgrader,
    /// From the upgrader to the new keeper.
    #[error("the upgrader give to the new keeper")]
    FromUpgrader,
    /// From a keeper to the same code on another node.
    #[error("a keeper give to the same code on another node")]
    Itself,
}

/// Why there is no plan. Each says which rule stands in the way; [`PlanError::hint`] says what to
/// do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The log lacks something.
    #[error("the log does not say enough to plan")]
    Inventory(#[from] InventoryError),
    /// No keyring is committed, so there is nothing whose survival could be shown.
    #[error("domain {0} has no committed generation")]
    NoGeneration(DomainId),
    /// Only one node holds.
    #[error("domain {domain} has {found} node(s): nobody could give the keyring to a new instance")]
    SingleHolder {
        /// The domain.
        domain: DomainId,
        /// Its nodes.
        found: usize,
    },
    /// The domain allows one active holder.
    #[error("domain {0} is exclusive: it never has two active holders")]
    Exclusive(DomainId),
    /// An exclusive domain can never have what its policy demands.
    #[error(
        "domain {domain} is exclusive, and policy serial {policy} demands {needed} proven holders"
    )]
    ExclusiveNeedsOne {
        /// The domain.
        domain: DomainId,
        /// The policy in force.
        policy: Serial,
        /// What it demands.
        needed: u32,
    },
    /// Nobody is the active holder of an exclusive domain.
    #[error("domain {0} is exclusive, and nobody is its active holder")]
    NobodyActive(DomainId),
    /// The keyring would leave from a seat that is not the active one.
    #[error("{node} with {measurement} is not the active holder: {active} is")]
    NotActive {
        /// Where the plan would start from.
        node: NodeId,
        /// What should run there.
        measurement: Measurement,
        /// Who is active.
        active: NodeId,
    },
    /// A node is not in the domain.
    #[error("{0} is not a node of this domain")]
    UnknownNode(NodeId),
    /// A release is not for upgraders, or launches on no platform.
    #[error("release {0} is not an upgrader's")]
    NotAnUpgrader(ReleaseDigest),
    /// The policy gives code another role than the plan needs.
    #[error("policy serial {policy} gives {measurement} no role of {}", expected.name())]
    WrongRole {
        /// The policy in force.
        policy: Serial,
        /// The code.
        measurement: Measurement,
        /// The role that it would play.
        expected: HolderRole,
    },
    /// The policy does not let the keyring go from seat to seat.
    #[error("policy serial {policy} does not let {hop}")]
    NoHop {
        /// The policy in force.
        policy: Serial,
        /// From which seat to which.
        hop: Hop,
        /// What is missing.
        #[source]
        risk: LeakRisk,
    },
    /// A move, or a reseal, keeps the release.
    #[error("this keeps the release: {from} and {to} must be the same one")]
    ReleaseChanges {
        /// What runs.
        from: ReleaseDigest,
        /// What was asked for.
        to: ReleaseDigest,
    },
    /// A move goes from a node to itself.
    #[error("{0} is where the keyring is")]
    SameNode(NodeId),
    /// A move stays on one machine.
    #[error("{from_node} and {to_node} are both on {host}")]
    SameHost {
        /// Who holds.
        from_node: NodeId,
        /// Who shall hold.
        to_node: NodeId,
        /// Their machine.
        host: HostId,
    },
    /// The target of a move has a keyring.
    #[error("{node} has proven already that it holds the keyring")]
    AlreadyHolds {
        /// The target.
        node: NodeId,
    },
    /// The target of a move runs other code.
    #[error("{node} runs {found}, and {expected} should take over")]
    OtherRelease {
        /// The target.
        node: NodeId,
        /// What registered there last.
        found: Measurement,
        /// What should run there.
        expected: Measurement,
    },
    /// A release is not in the log.
    #[error("release {0} is not known")]
    UnknownRelease(ReleaseDigest),
    /// A release is not for keepers, or launches on no platform.
    #[error("release {0} is not a keeper's")]
    NotAKeeper(ReleaseDigest),
    /// The target may not be installed any more.
    #[error("release {release} expired at {not_after}, and it is {now}")]
    ReleaseExpired {
        /// The release.
        release: ReleaseDigest,
        /// Its end.
        not_after: Time,
        /// The network's time.
        now: Time,
    },
    /// The target is older than what runs.
    #[error("the security version would go down from {from} to {to}")]
    SecurityVersionLower {
        /// What runs.
        from: SecurityVersion,
        /// The target.
        to: SecurityVersion,
    },
    /// Both releases launch to the same measurement.
    #[error("both releases launch to {0}: there is nothing to do")]
    SameMeasurement(Measurement),
    /// The release does not say what it launches to on a node's kind of platform.
    #[error("release {release} has no measurement for {node}, whose platform is of kind {kind}")]
    NotOnPlatform {
        /// The node.
        node: NodeId,
        /// The kind of its platform.
        kind: TeeKind,
        /// The release.
        release: ReleaseDigest,
    },
    /// The policy does not let the new code receive.
    #[error("policy serial {policy} does not allow the way forward")]
    NoWayForward {
        /// The policy in force.
        policy: Serial,
        /// What is missing.
        #[source]
        risk: LeakRisk,
    },
    /// The policy does not let the old code receive from the new one.
    #[error("policy serial {policy} does not allow the way back")]
    NoWayBack {
        /// The policy in force.
        policy: Serial,
        /// What is missing.
        #[source]
        risk: LeakRisk,
    },
    /// A generation is ordered and not committed.
    #[error("generation {0} is ordered and not committed yet")]
    RotationPending(Generation),
    /// Another plan counts.
    #[error("plan {0} is active in this domain")]
    PlanActive(PlanDigest),
    /// The withdrawing policy would not be the next one.
    #[error("the policy that completes the plan must have serial {expected}, not {found}")]
    WrongWithdrawal {
        /// The next serial.
        expected: Serial,
        /// The serial asked for.
        found: Serial,
    },
    /// A holder is not in the fleet.
    #[error("{node} registered as a holder of this domain and is not in the fleet")]
    NotInFleet {
        /// The node.
        node: NodeId,
    },
    /// Nothing is known about what runs on a node.
    #[error("{node} never registered with {measurement}")]
    NotRegistered {
        /// The node.
        node: NodeId,
        /// What should run there.
        measurement: Measurement,
    },
    /// No wave can be made.
    #[error(
        "{node} cannot be changed: {needed} failure domains must keep a proven holder outside its wave"
    )]
    TooFewOutside {
        /// The node.
        node: NodeId,
        /// How many failure domains.
        needed: u32,
        /// What custody says.
        #[source]
        risk: LossRisk,
    },
    /// The plan would end before it begins.
    #[error("the plan would end with epoch {not_after}, and it is {needed} or later when it runs")]
    EndsTooEarly {
        /// The last epoch of the plan.
        not_after: Epoch,
        /// What it must at least be.
        needed: Epoch,
    },
    /// The plan would be larger than a plan may be.
    #[error("the plan would have {found} {what}, more than the {limit} allowed")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The change of a service cannot be planned.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A node would have to prove what it holds, and holds it in memory.
    #[error(
        "{node} holds the keyring in memory only: its platform seals nothing, so it proves nothing"
    )]
    HoldsInMemory {
        /// The node.
        node: NodeId,
    },
    /// Keys of the node's platform do not outlive an update.
    #[error(
        "{node} seals for its platform as it is now only: an update takes what is sealed, and \
         sealing again does not keep it"
    )]
    SealsForThePresent {
        /// The node.
        node: NodeId,
    },
    /// A counter is at its end.
    #[error("no number is left for another {0}")]
    OutOfNumbers(&'static str),
}

impl PlanError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Inventory(_) => "publish what is missing, or follow the log to its end",
            Self::NoGeneration(_) => "order generation 0 and wait until it is committed",
            Self::SingleHolder { .. } => {
                "use --strategy handover --via <upgrader release>, or add a second node and let \
                 it replicate first"
            }
            Self::Exclusive(_) => "use --strategy handover --via <upgrader release>",
            Self::ExclusiveNeedsOne { .. } => {
                "publish a policy with holders_min = 1: an exclusive domain has one holder, and \
                 during a handover several copies on its node"
            }
            Self::NobodyActive(_) => {
                "start the keeper that was active last and wait until it is active again; in a \
                 new domain, the one that carried out genesis; after an unfinished plan, abort it"
            }
            Self::NotActive { .. } => "name the node and the release that are active now",
            Self::UnknownNode(_) => "publish a fleet with this node, or correct the name",
            Self::NotAnUpgrader(_) => "name a release of kind upgrader with --via",
            Self::WrongRole { .. } => {
                "publish a policy whose rule for this measurement has the role: `upgrader` for \
                 what carries the keyring, `keeper` for what serves it"
            }
            Self::NoHop { .. } => {
                "publish a policy whose rule for the giver names the receiver, which has a rule too"
            }
            Self::ReleaseChanges { .. } => "name the release that runs, or use --strategy handover",
            Self::SameNode(_) => "name another node; to change the release use --strategy handover",
            Self::SameHost { .. } => {
                "move to a node on another host; to change what runs on this host use \
                 --strategy handover"
            }
            Self::AlreadyHolds { .. } => {
                "quarantine its sealed state and start its keeper, so that it registers anew; or \
                 take the other node out of the fleet"
            }
            Self::OtherRelease { .. } => "install the release there and start it",
            Self::UnknownRelease(_) => "publish the release, signed by the release role",
            Self::NotAKeeper(_) => "name a keeper release",
            Self::ReleaseExpired { .. } => "sign the release again with a later end",
            Self::SecurityVersionLower { .. } => {
                "build the release with at least the security version that runs now"
            }
            Self::NotOnPlatform { .. } => {
                "make the release with its measurement on every kind of platform of the domain"
            }
            Self::SameMeasurement(_) => "nothing, or restart one node after the other",
            Self::NoWayForward { .. } => {
                "publish a policy in which the old measurement's rule gives to the new one, and \
                 the new one has a rule of its own"
            }
            Self::NoWayBack { .. } => {
                "publish a policy in which the new measurement's rule gives to the old one, so \
                 that an abort can catch up"
            }
            Self::RotationPending(_) => "wait until it is committed, or until its order lapses",
            Self::PlanActive(_) => "let it finish, abort it, or plan again after its last epoch",
            Self::WrongWithdrawal { .. } => "ask for the next policy serial",
            Self::NotInFleet { .. } => "publish a fleet with this node, or retire it first",
            Self::NotRegistered { .. } => "start the node's keeper and let it register",
            Self::TooFewOutside { .. } => {
                "add nodes in more failure domains, or publish a policy that needs fewer holders"
            }
            Self::EndsTooEarly { .. } => "ask for a later last epoch",
            Self::TooLarge { .. } => "plan fewer nodes, or larger waves",
            Self::Service(error) => error.hint(),
            Self::HoldsInMemory { .. } => durable::LEAVE_AND_RETURN,
            Self::SealsForThePresent { .. } => durable::RECEIVE_AGAIN,
            Self::OutOfNumbers(_) => "nothing: this network has run for longer than time",
        }
    }
}

/// Plans an upgrade of a domain as the log shows it.
pub fn plan(request: &PlanRequest, state: &NetworkState) -> Result<(Plan, PlanReport), PlanError> {
    plan_from(request, &Inventory::of(state, &request.domain)?)
}

/// Plans an upgrade of a domain as an inventory shows it.
pub fn plan_from(
    request: &PlanRequest,
    inventory: &Inventory,
) -> Result<(Plan, PlanReport), PlanError> {
    let planned = arrange(request, inventory)?;
    durable::check(&planned.0, inventory)?;
    Ok(planned)
}

fn arrange(request: &PlanRequest, inventory: &Inventory) -> Result<(Plan, PlanReport), PlanError> {
    match &request.arrangement {
        Arrangement::Rolling { wave_size, upgrade_epoch, withdraw } => {
            let wish = rolling::Wish {
                wave_size: *wave_size,
                upgrade_epoch: *upgrade_epoch,
                withdraw: *withdraw,
            };
            rolling::plan(request, wish, inventory)
        }
        Arrangement::Handover { node, via, withdraw } => {
            handover::upgrade(request, node, *via, *withdraw, inventory)
        }
        Arrangement::Move { from_node, to_node } => {
            handover::relocate(request, from_node, to_node, inventory)
        }
        Arrangement::Reseal { node } => handover::reseal(request, node, inventory),
        Arrangement::FlagDay(wish) => flag_day::plan(request, wish, inventory),
    }
}
