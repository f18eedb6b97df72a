//! Plans: immutable, complete, and the same words for every strategy.

use minicbor::{Decode, Encode};

use crate::counter::{Epoch, Generation, PlanNumber, Serial};
use crate::digest::{Checksum, DigestOf, JournalHash, NetworkId, Nonce, PlanDigest, ReleaseDigest};
use crate::identifier::{DomainId, NodeId};
use crate::limit::PLAN_BYTES_MAX;
use crate::measurement::Measurement;
use crate::participant::ParticipantChange;
use crate::service::ServiceChange;
use crate::wire;

/// What will be done, by whom, and behind which gates.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Plan {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain whose custody changes.
    #[n(1)]
    pub domain: DomainId,
    /// Grows with each plan of the domain. An actor with a lower number is stale.
    #[n(2)]
    pub number: PlanNumber,
    /// How the steps were arranged. Nothing outside the planner asks.
    #[n(3)]
    pub strategy: Strategy,
    /// The keyring that must survive; none where there is none to lose. Then participants move.
    #[n(4)]
    pub keyring: Option<KeyringGround>,
    /// The nodes that hold before and after, or whose participants move, sorted.
    #[n(5)]
    pub nodes: Vec<NodeId>,
    /// Forward steps, numbered from 0 in order.
    #[n(6)]
    pub steps: Vec<Step>,
    /// Steps that put things back after an abort, numbered on from `steps`. A rollback step runs
    /// only if the forward steps that it undoes were started.
    #[n(7)]
    pub rollback: Vec<RollbackStep>,
    /// From this step on there is no way back but a new plan.
    #[n(8)]
    pub point_of_no_return: StepId,
    /// The last epoch in which a step may start.
    #[n(9)]
    pub not_after: Epoch,
    /// Makes the plan unique.
    #[n(10)]
    pub nonce: Nonce,
    /// What happens to the service of every node, in a plan that changes no keeper.
    #[n(11)]
    pub service: Option<ServiceChange>,
    /// What happens to the participant of every node, in a plan for nodes without a keeper.
    #[n(12)]
    pub participant: Option<ParticipantChange>,
}

/// What a plan must not lose, and what holds it.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct KeyringGround {
    /// What runs before.
    #[n(0)]
    pub from: Placement,
    /// What runs after.
    #[n(1)]
    pub to: Placement,
    /// What carries the keyring in between, in a handover.
    #[n(2)]
    pub via: Option<Placement>,
    /// The policy that names the edge and the way back.
    #[n(3)]
    pub policy: Serial,
    /// The newest generation of the keyring.
    #[n(4)]
    pub generation: Generation,
    /// The keyring's checksum.
    #[n(5)]
    pub checksum: Checksum,
    /// The fewest proven holders outside the nodes under change, at every moment.
    #[n(6)]
    pub holders_min: u32,
    /// What the two releases are on nodes whose platform is of another kind than that of
    /// [`Self::from`], sorted; empty where all are of one kind.
    #[n(7)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub others: Vec<CodePair>,
}

/// What the two releases of a plan are on one kind of platform.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct CodePair {
    /// What runs before.
    #[n(0)]
    pub from: Measurement,
    /// What runs after.
    #[n(1)]
    pub to: Measurement,
}

impl KeyringGround {
    /// What runs before and after, on each kind of platform.
    pub fn pairs(&self) -> impl Iterator<Item = (Placement, Placement)> + '_ {
        let at = |release, measurement| Placement { release, measurement };
        let others = self
            .others
            .iter()
            .map(move |pair| (at(self.from.release, pair.from), at(self.to.release, pair.to)));
        std::iter::once((self.from, self.to)).chain(others)
    }

    /// What runs before and after where this code runs before; none if it is not the old release.
    pub fn pair_from(&self, before: &Measurement) -> Option<(Placement, Placement)> {
        self.pairs().find(|(from, _)| from.measurement == *before)
    }

    /// Whether this is what runs before, on some kind of platform.
    pub fn is_from(&self, code: &Measurement) -> bool {
        self.pairs().any(|(from, _)| from.measurement == *code)
    }

    /// Whether this is what runs after, on some kind of platform.
    pub fn is_to(&self, code: &Measurement) -> bool {
        self.pairs().any(|(_, to)| to.measurement == *code)
    }
}

/// A plan that concerns a keyring: whoever looks after keyrings takes this, so that nobody can
/// forget that a plan may have none.
#[derive(Clone, Copy, Debug)]
pub struct KeyringPlan<'a> {
    plan: &'a Plan,
    /// The keyring.
    pub keyring: &'a KeyringGround,
}

impl<'a> KeyringPlan<'a> {
    /// The plan, if it concerns a keyring.
    pub fn of(plan: &'a Plan) -> Option<Self> {
        Some(Self { plan, keyring: plan.keyring.as_ref()? })
    }

    /// The whole plan.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }
}

impl std::ops::Deref for KeyringPlan<'_> {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        self.plan
    }
}

/// A way of planning.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Strategy {
    /// Many replicas, one wave after the other.
    #[n(0)]
    Rolling,
    /// From one seat to another, with the old one in place until the new one is proven.
    #[n(1)]
    Handover,
    /// All nodes of a service at once.
    #[n(2)]
    FlagDay,
    /// To another key store, and so to other names.
    #[n(3)]
    Migration,
}

impl Strategy {
    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Handover => "handover",
            Self::FlagDay => "flag-day",
            Self::Migration => "migration",
        }
    }
}

/// A release and the measurement that it launches to on the fleet's platform.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Placement {
    /// The release.
    #[n(0)]
    pub release: ReleaseDigest,
    /// Its measurement.
    #[n(1)]
    pub measurement: Measurement,
}

/// Position of a step in its plan.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cbor(transparent)]
pub struct StepId(#[n(0)] pub u32);

impl std::fmt::Display for StepId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// One idempotent change, or one observation, by one agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Step {
    /// Its position.
    #[n(0)]
    pub id: StepId,
    /// Whose agent carries it out.
    #[n(1)]
    pub node: NodeId,
    /// The group of nodes that change together; 0 before the first and after the last.
    #[n(2)]
    pub wave: u32,
    /// What to do.
    #[n(3)]
    pub action: Action,
    /// What must hold first. Approval, an unbroken plan number and no abort always must.
    #[n(4)]
    pub gates: Vec<Gate>,
}

/// A step of the way back.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct RollbackStep {
    /// The step.
    #[n(0)]
    pub step: Step,
    /// The forward step that makes this one necessary once it was started.
    #[n(1)]
    pub undoes: StepId,
}

/// A change in the world, the same words for every strategy. Everything the executor needs is
/// here; it makes no choices.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Action {
    /// Fetch and stage the release, check its digests and the disk, start it once without keys so
    /// that it registers, and unseal every current secret once.
    #[n(0)]
    Prepare(#[n(0)] Placement),
    /// Ask these nodes to prove possession, and wait until `need` of them have.
    #[n(1)]
    Verify {
        /// Who is asked.
        #[n(0)]
        targets: Vec<NodeId>,
        /// How many must answer well.
        #[n(1)]
        need: u32,
        /// Only instances of this code; without it, each node's keeper.
        #[n(2)]
        code: Option<Measurement>,
    },
    /// Let running requests of this code end; accept no new ones.
    #[n(2)]
    Drain(#[n(0)] Placement),
    /// Stop the instance and observe that its process is gone.
    #[n(3)]
    Stop(#[n(0)] Placement),
    /// Move the sealed state of this measurement out of the way. Never deletes.
    #[n(4)]
    Quarantine(#[n(0)] Measurement),
    /// Move the quarantined state of this measurement back.
    #[n(5)]
    Restore(#[n(0)] Measurement),
    /// Make this release the node's one installed bundle, in place of the expected one.
    #[n(6)]
    Install {
        /// What is expected to be installed.
        #[n(0)]
        expect: Placement,
        /// What replaces it.
        #[n(1)]
        install: Placement,
    },
    /// Start this bundle, which is installed or staged, and let it register.
    #[n(7)]
    Start(#[n(0)] Placement),
    /// Copy the keyring from other holders, newest generation first.
    #[n(8)]
    Replicate {
        /// Who may be asked, in this order.
        #[n(0)]
        sources: Vec<NodeId>,
        /// Who receives.
        #[n(1)]
        to: Placement,
    },
    /// Stop the instance and start it again, so that it must unseal.
    #[n(9)]
    Restart(#[n(0)] Placement),
    /// The policy of this serial, which completes the plan, takes effect.
    #[n(10)]
    Withdraw(#[n(0)] Serial),
    /// Let `to`, on the node of the step, receive the keyring from `from` on another seat, in a
    /// session that both attest for this step alone.
    #[n(11)]
    HandOver {
        /// The donor's node.
        #[n(0)]
        from_node: NodeId,
        /// The donor.
        #[n(1)]
        from: Placement,
        /// The receiver.
        #[n(2)]
        to: Placement,
    },
    /// Exclusive domains: the active holder states that it serves no more.
    #[n(12)]
    Suspend(#[n(0)] Placement),
    /// Exclusive domains: this holder states that it is the active one from now on.
    #[n(13)]
    Activate(#[n(0)] Placement),
    /// An upgrader gives up its copy: the keeper that it served has proven its own.
    #[n(14)]
    Forget(#[n(0)] Placement),
    /// Copy the live sealed state of this measurement into quarantine, and leave it in place.
    #[n(15)]
    Preserve(#[n(0)] Measurement),
    /// Seal everything again, for the platform and code as they are now. Each new file is opened
    /// once before it takes the place of the old one.
    #[n(16)]
    Reseal(#[n(0)] Placement),
    /// Service: change the node's service.
    #[n(17)]
    Service(#[n(0)] ServiceAction),
    /// Nothing but this result in the log: until here the plan can be called off.
    #[n(18)]
    Commit,
    /// Participant: move it to another key store.
    #[n(19)]
    Participant(#[n(0)] ParticipantAction),
}

impl Action {
    /// The word that people use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepare(_) => "prepare",
            Self::Verify { .. } => "verify",
            Self::Drain(_) => "drain",
            Self::Stop(_) => "stop",
            Self::Quarantine(_) => "quarantine",
            Self::Restore(_) => "restore",
            Self::Install { .. } => "install",
            Self::Start(_) => "start",
            Self::Replicate { .. } => "replicate",
            Self::Restart(_) => "restart",
            Self::Withdraw(_) => "withdraw",
            Self::HandOver { .. } => "hand-over",
            Self::Suspend(_) => "suspend",
            Self::Activate(_) => "activate",
            Self::Forget(_) => "forget",
            Self::Preserve(_) => "preserve",
            Self::Reseal(_) => "reseal",
            Self::Service(action) => action.name(),
            Self::Commit => "commit",
            Self::Participant(action) => action.name(),
        }
    }

    /// Whether it is about the node's service, and not about its keeper.
    pub fn concerns_service(&self) -> bool {
        matches!(self, Self::Service(_) | Self::Commit)
    }

    /// Whether it is about the node's participant.
    pub fn concerns_participant(&self) -> bool {
        matches!(self, Self::Participant(_) | Self::Commit)
    }
}

/// A change of the service of a node, or what is found out about it.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum ServiceAction {
    /// Fetch and stage its release, check digests and space, and try it once without
    /// data, so that the new code attests on this very machine.
    #[n(0)]
    Equip(#[n(0)] Placement),
    /// State that it runs, as agreed, when the window opens.
    #[n(1)]
    Muster(#[n(0)] Placement),
    /// The proxy takes no new clients, the node takes no new work, and what runs ends.
    #[n(2)]
    Fence(#[n(0)] Placement),
    /// Once quiet, append nothing any more, and state the tip.
    #[n(3)]
    Freeze(#[n(0)] Placement),
    /// End the process, and see that it is gone and its database is free.
    #[n(4)]
    Halt(#[n(0)] Placement),
    /// Copy database and distribution state as a pair, durably, read the copy back, and
    /// compare its tip with the frozen one.
    #[n(5)]
    Snapshot,
    /// Apply the migrations to a copy, check what must not change, and put the copy in
    /// place of the database, which stays.
    #[n(6)]
    Migrate,
    /// The database that was there before [`Migrate`](Self::Migrate) is in place again.
    #[n(7)]
    Revert,
    /// Make this release the node's one installed service, in place of the expected one.
    #[n(8)]
    Deploy {
        /// What is expected to be installed.
        #[n(0)]
        expect: Placement,
        /// What replaces it.
        #[n(1)]
        install: Placement,
    },
    /// Start this code behind the fence. It must load the frozen tip, and states it.
    #[n(9)]
    Launch(#[n(0)] Placement),
    /// State that every other node, and nobody else, is an attested peer.
    #[n(10)]
    Join(#[n(0)] Placement),
    /// Carry out the tests of the terms through this node's side door.
    #[n(11)]
    Exercise(#[n(0)] Placement),
    /// Clients are let in, and blocks are distributed again.
    #[n(12)]
    Open(#[n(0)] Placement),
    /// For as long as the terms say, see no fork and few errors; state the tip.
    #[n(13)]
    Watch(#[n(0)] Placement),
}

impl ServiceAction {
    /// The word that people use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Equip(_) => "equip",
            Self::Muster(_) => "muster",
            Self::Fence(_) => "fence",
            Self::Freeze(_) => "freeze",
            Self::Halt(_) => "halt",
            Self::Snapshot => "snapshot",
            Self::Migrate => "migrate",
            Self::Revert => "revert",
            Self::Deploy { .. } => "deploy",
            Self::Launch(_) => "launch",
            Self::Join(_) => "join",
            Self::Exercise(_) => "exercise",
            Self::Open(_) => "open",
            Self::Watch(_) => "watch",
        }
    }
}

/// A change of the participant of a node, or what is found out about it. What is expected is in
/// the plan's [`ParticipantChange`], and in what the steps before stated.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum ParticipantAction {
    /// Look once more at source and target; both must be as planned.
    #[n(0)]
    Survey,
    /// Make the target's keys in its custodian, and give the target its name.
    #[n(1)]
    Enroll,
    /// Let the target host the parties under their new names.
    #[n(2)]
    Allocate,
    /// Give the target every package of the source, checked and vetted.
    #[n(3)]
    Supply,
    /// Take the source off every synchronizer, so that nothing connects it again by
    /// itself, and state where its ledger ends.
    #[n(4)]
    Quiesce,
    /// Take a snapshot of the source, whose ledger must not have moved.
    #[n(5)]
    Export,
    /// Verify the snapshot, put the new names in, and verify what was written.
    #[n(6)]
    Rewrite,
    /// Copy the target's store before anything is imported.
    #[n(7)]
    Safeguard,
    /// Import the rewritten snapshot into the target, which is disconnected.
    #[n(8)]
    Import,
    /// Connect the target.
    #[n(9)]
    Connect,
    /// Compare what the target shows with what was imported, and let its custodian
    /// sign once.
    #[n(10)]
    Reconcile,
    /// The target connects by itself from now on; the source stays as it is, and does
    /// not.
    #[n(11)]
    Settle,
    /// The target is disconnected again.
    #[n(12)]
    Disconnect,
    /// What this plan imported is gone from the target.
    #[n(13)]
    Purge,
    /// The source is connected again, as it was before.
    #[n(14)]
    Reconnect,
}

impl ParticipantAction {
    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Survey => "survey",
            Self::Enroll => "enroll",
            Self::Allocate => "allocate",
            Self::Supply => "supply",
            Self::Quiesce => "quiesce",
            Self::Export => "export",
            Self::Rewrite => "rewrite",
            Self::Safeguard => "safeguard",
            Self::Import => "import",
            Self::Connect => "connect",
            Self::Reconcile => "reconcile",
            Self::Settle => "settle",
            Self::Disconnect => "disconnect",
            Self::Purge => "purge",
            Self::Reconnect => "reconnect",
        }
    }

    /// Whether it belongs to the way back.
    pub fn is_back(self) -> bool {
        match self {
            Self::Disconnect | Self::Purge | Self::Reconnect => true,
            Self::Survey
            | Self::Enroll
            | Self::Allocate
            | Self::Supply
            | Self::Quiesce
            | Self::Export
            | Self::Rewrite
            | Self::Safeguard
            | Self::Import
            | Self::Connect
            | Self::Reconcile
            | Self::Settle => false,
        }
    }
}

/// A predicate over the log.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Gate {
    /// This step has a good result.
    #[n(0)]
    Done(#[n(0)] StepId),
    /// At least `need` of these nodes, counted in distinct failure domains, answered the challenge
    /// of step `since` with the plan's generation and checksum, recovered from durable state.
    #[n(1)]
    Proven {
        /// The nodes that count.
        #[n(0)]
        holders: Vec<NodeId>,
        /// How many are needed.
        #[n(1)]
        need: u32,
        /// The step that asked.
        #[n(2)]
        since: StepId,
    },
    /// An instance of this measurement registered on this node after this step started the work.
    #[n(2)]
    Registered {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// The code.
        #[n(1)]
        measurement: Measurement,
    },
    /// The network reached this epoch.
    #[n(3)]
    Epoch(#[n(0)] Epoch),
    /// A policy of this serial, which completes this plan, is published.
    #[n(4)]
    PolicyPublished(#[n(0)] Serial),
    /// So many epochs began since the epoch in which this step's result entered the log.
    #[n(5)]
    Waited {
        /// The step.
        #[n(0)]
        since: StepId,
        /// How many epochs.
        #[n(1)]
        epochs: u32,
    },
    /// Every step from `first` to `last` has a good result.
    #[n(6)]
    AllDone {
        /// The first of them.
        #[n(0)]
        first: StepId,
        /// The last of them.
        #[n(1)]
        last: StepId,
    },
    /// The services stated, at every step from `first` to `last`, the same tip, the same
    /// configuration and the same long-lived keys.
    #[n(7)]
    Agreed {
        /// The first of them.
        #[n(0)]
        first: StepId,
        /// The last of them.
        #[n(1)]
        last: StepId,
    },
    /// At least so many operators recorded a rehearsal of exactly these terms.
    #[n(8)]
    Rehearsed {
        /// How many.
        #[n(0)]
        need: u32,
    },
    /// The operator of every node of the plan agreed to the whole party map: to what was stated at
    /// the steps from `first` to `last`.
    #[n(9)]
    Consented {
        /// The first of them.
        #[n(0)]
        first: StepId,
        /// The last of them.
        #[n(1)]
        last: StepId,
    },
    /// What was stated at the steps from `first` to `last` was rewritten with one party map, and
    /// every two nodes have the same contracts where their parties stand together.
    #[n(10)]
    Concordant {
        /// The first of them.
        #[n(0)]
        first: StepId,
        /// The last of them.
        #[n(1)]
        last: StepId,
    },
}

/// A plan that an operator puts forward.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Proposal {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The encoding of the plan.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub plan: Vec<u8>,
}

/// Consent to exactly one plan. Each operator appends one; together they reach the threshold.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Approval {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The plan.
    #[n(1)]
    pub plan: PlanDigest,
    /// The last epoch in which this consent counts.
    #[n(2)]
    pub not_after: Epoch,
}

/// A plan is called off: by an operator, or, where a service changes, by the agent of a node that
/// cannot carry out its part.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Abort {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The plan.
    #[n(1)]
    pub plan: PlanDigest,
    /// The node whose agent calls it off; none for an operator.
    #[n(2)]
    pub node: Option<NodeId>,
    /// Why, for people.
    #[n(3)]
    pub reason: Option<String>,
}

/// How a step ended, signed by the agent that carried it out.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct StepResult {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The plan.
    #[n(1)]
    pub plan: PlanDigest,
    /// Its number; results of stale plans are refused.
    #[n(2)]
    pub number: PlanNumber,
    /// The step.
    #[n(3)]
    pub step: StepId,
    /// Who carried it out.
    #[n(4)]
    pub node: NodeId,
    /// How it ended.
    #[n(5)]
    pub outcome: StepOutcome,
    /// The head of the agent's journal, which holds the whole story.
    #[n(6)]
    pub journal: JournalHash,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum StepOutcome {
    /// Carried out.
    #[n(0)]
    Done,
    /// Found already done after an interruption.
    #[n(1)]
    FoundDone,
}

impl Plan {
    /// The digest that operators approve.
    pub fn digest(&self) -> PlanDigest {
        PlanDigest::of(wire::encode(self).as_slice())
    }

    /// A step, forward or back.
    pub fn step(&self, id: StepId) -> Option<&Step> {
        let index = usize::try_from(id.0).ok()?;
        let forward = self.steps.len();
        match index.checked_sub(forward) {
            None => self.steps.get(index),
            Some(back) => self.rollback.get(back).map(|rollback| &rollback.step),
        }
    }

    /// Whether a step belongs to the way back.
    pub fn is_rollback(&self, id: StepId) -> bool {
        usize::try_from(id.0).is_ok_and(|index| index >= self.steps.len())
    }

    /// Whether groups of nodes change, one after the other.
    pub fn has_waves(&self) -> bool {
        self.steps.iter().any(|step| step.wave != 0)
    }
}

wire! {
    Plan: "plan", PLAN_BYTES_MAX;
    Proposal: "proposal", PLAN_BYTES_MAX + 1024;
    Approval: "approval", 1024;
    Abort: "abort", 4 * 1024;
    StepResult: "step result", 1024;
}
