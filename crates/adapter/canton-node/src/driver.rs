//! The two participants of a node, and the steps with which contracts move from one to the other.
//!
//! Every step looks at what is there and does what is left: the participants decide, and the
//! folder of the plan has what neither of them knows. Nothing in that folder is ever overwritten
//! with something else.
//!
//! * `survey`: what source and target look like.
//! * `enroll`: the target's keys and its name.
//! * `supply`: its parties and packages.
//! * `quiet`: who is connected to what.
//! * `carry`: contracts, out of the one and into the other.
//! * `purge`: the way back.
//! * `rewriting`: the snapshot between the two.
//! * `roster`: the ids and stakeholders of a snapshot, sorted, on disk.
//! * `safeguard`, `users`, `work`: the rest.

mod carry;
mod enroll;
mod fault;
mod purge;
mod quiet;
mod rewriting;
mod roster;
mod safeguard;
mod supply;
mod survey;
mod users;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;

use heirloom_model::identifier::NodeId;
use heirloom_model::participant::{
    Enrolled, Exported, LedgerOffset, PartyMove, Reconciled, Rewritten, ServerVersion,
    SurveyFindings, SynchronizerRoute,
};
use heirloom_model::party::{ParsePartyError, ParticipantId, SynchronizerId};
use heirloom_participant::custodian::Custodian;
use heirloom_participant::custodian::key::{KeyScheme, KeyUsage, Label};
use heirloom_upgrade::port::{
    DriverError, ParticipantCall, ParticipantDriver, ParticipantObservation,
};

use crate::driver::fault::{node_error, unexpected};
use crate::driver::work::Work;
use crate::node::config::{NodeConfig, OpenError};
use crate::node::{Node, Standing};
use heirloom_participant::preflight::Ground;

/// What an operator says about the two participants of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The participant whose contracts move.
    pub source: NodeConfig,
    /// The participant that they move to.
    pub target: NodeConfig,
    /// What stands in front of `::` in the target's name.
    pub identifier: String,
    /// The keys that the target gets, one for each usage.
    pub keys: Vec<WantedKey>,
    /// Where contracts go, sorted by `from`.
    pub routes: Vec<SynchronizerRoute>,
    /// How the target's store is copied before anything is imported.
    pub safeguard: Safeguard,
    /// A folder for what is made on the way, one folder inside for each plan. It has contracts.
    pub work: PathBuf,
    /// What the target runs. Servers before 3.5 do not say so before they have a name.
    pub target_version: Option<ServerVersion>,
}

/// A key that the target gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WantedKey {
    /// What it is for.
    pub usage: KeyUsage,
    /// Its mathematics.
    pub scheme: KeyScheme,
    /// What it is called, in the custodian and in the participant.
    pub label: Label,
}

/// How a store is copied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Safeguard {
    /// The files of this directory are copied.
    Directory(PathBuf),
    /// A program copies it, and ends with 0 if it did. The folder that it may write to is its last
    /// argument.
    Command(Vec<String>),
}

/// Who makes and holds the target's keys.
pub enum Keeping {
    /// A custodian, whose keys the target registers.
    Custodian(Box<dyn Custodian>),
    /// The target itself, in its own database: the way back from a custodian.
    Participant,
}

/// Why there is no driver.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// A participant cannot be called.
    #[error("{name} cannot be called")]
    Open {
        /// What it is called.
        name: String,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// A usage has no key, or two.
    #[error("{count} keys are for {usage}; a participant has one for each use")]
    Keys {
        /// Which usage.
        usage: KeyUsage,
        /// How many keys are for it.
        count: usize,
    },
    /// Contracts would go nowhere, or to two places.
    #[error("synchronizers must be sorted, each once, and at least one")]
    Routes,
    /// The target's name is none.
    #[error("the target has no possible name")]
    Identifier(#[from] ParsePartyError),
    /// A command has no program.
    #[error("the command that copies the target's store has no program")]
    Command,
}

/// The two participants of a node.
pub struct Driver {
    settings: Settings,
    source: Node,
    target: Node,
    keeping: Keeping,
    /// What was last seen of imported contracts.
    seen: Option<carry::Seen>,
}

impl Driver {
    /// Prepares calls; none is made yet.
    pub fn new(settings: Settings, keeping: Keeping) -> Result<Self, SettingsError> {
        for usage in KeyUsage::ALL.iter().copied() {
            let count = settings.keys.iter().filter(|key| key.usage == usage).count();
            if count != 1 {
                return Err(SettingsError::Keys { usage, count });
            }
        }
        let is_sorted = settings.routes.windows(2).all(|pair| pair[0].from < pair[1].from);
        if settings.routes.is_empty() || !is_sorted {
            return Err(SettingsError::Routes);
        }
        // The namespace comes later, and any is as long as this one at most.
        let namespace = "1220".to_owned().parse()?;
        let _possible = ParticipantId::new(&settings.identifier, &namespace)?;
        if matches!(&settings.safeguard, Safeguard::Command(words) if words.is_empty()) {
            return Err(SettingsError::Command);
        }
        let open = |config: &NodeConfig| {
            Node::open(config)
                .map_err(|source| SettingsError::Open { name: config.name.clone(), source })
        };
        let (source, target) = (open(&settings.source)?, open(&settings.target)?);
        Ok(Self { settings, source, target, keeping, seen: None })
    }

    /// The participant whose contracts move.
    pub fn source(&self) -> &Node {
        &self.source
    }

    /// The participant that they move to.
    pub fn target(&self) -> &Node {
        &self.target
    }

    /// What source, target and custodian look like, for people and for the rules of a preflight.
    pub fn look(&self) -> Result<(SurveyFindings, Ground), DriverError> {
        survey::look(self)
    }

    /// The folder of a plan, which is made if it is not there.
    fn work(&self, task: ParticipantCall<'_>) -> Result<Work, DriverError> {
        Work::open(&self.settings.work, task.plan)
    }

    /// Where contracts go, each once.
    fn destinations(&self) -> Vec<SynchronizerId> {
        let mut all: Vec<_> = self.settings.routes.iter().map(|route| route.to.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Compares settings and source with the plan.
    fn expect_source(&self, task: ParticipantCall<'_>) -> Result<(), DriverError> {
        let (participant, version) = ready(&self.source)?;
        let moved = task.moved;
        unexpected("source", &moved.source, &participant)?;
        unexpected("version of the source", &moved.source_version.as_str(), &version.as_str())?;
        self.expect_settings(task)
    }

    fn expect_settings(&self, task: ParticipantCall<'_>) -> Result<(), DriverError> {
        let moved = task.moved;
        unexpected("custodian", &moved.custodian, &self.custodian_kind())?;
        if moved.routes != self.settings.routes {
            let show = |routes: &[SynchronizerRoute]| {
                let one = |route: &SynchronizerRoute| format!("{} to {}", route.from, route.to);
                routes.iter().map(one).collect::<Vec<_>>().join(", ")
            };
            let (expected, found) = (show(&moved.routes), show(&self.settings.routes));
            return Err(DriverError::Unexpected { expected, found });
        }
        Ok(())
    }

    /// Compares the target, which has its name, with the plan; returns the name.
    fn expect_target(&self, task: ParticipantCall<'_>) -> Result<ParticipantId, DriverError> {
        self.expect_settings(task)?;
        let (participant, version) = ready(&self.target)?;
        let expected = task.moved.target_version.as_str();
        unexpected("version of the target", &expected, &version.as_str())?;
        if participant == task.moved.source {
            return Err(DriverError::Refused(format!("the target is the source, {participant}")));
        }
        unexpected(
            "identifier of the target",
            &&*self.settings.identifier,
            &participant.identifier(),
        )?;
        Ok(participant)
    }
}

/// The name and the version of a participant that has its name.
fn ready(node: &Node) -> Result<(ParticipantId, ServerVersion), DriverError> {
    match node.standing().map_err(node_error)? {
        Standing::Ready { participant, version, is_active: true, .. } => {
            let corrupt =
                |error: heirloom_model::participant::ParseVersionError| DriverError::Corrupt {
                    what: format!("version of {}", node.name()),
                    reason: error.to_string(),
                };
            Ok((participant, version.parse().map_err(corrupt)?))
        }
        Standing::Ready { .. } => Err(DriverError::Refused(format!(
            "{} is the passive one of several replicas: name the active one",
            node.name()
        ))),
        Standing::Waiting { waiting, .. } => {
            Err(DriverError::Unknown(format!("{} still waits for {waiting:?}", node.name())))
        }
    }
}

impl ParticipantDriver for Driver {
    fn survey(&mut self) -> Result<SurveyFindings, DriverError> {
        self.look().map(|(findings, _)| findings)
    }

    fn observe(
        &mut self,
        task: ParticipantCall<'_>,
    ) -> Result<ParticipantObservation, DriverError> {
        survey::observe(self, task)
    }

    fn enroll(&mut self, task: ParticipantCall<'_>) -> Result<Enrolled, DriverError> {
        self.expect_source(task)?;
        enroll::enroll(self, task, &self.work(task)?)
    }

    fn allocate(&mut self, task: ParticipantCall<'_>) -> Result<Vec<PartyMove>, DriverError> {
        self.expect_source(task)?;
        let target = self.expect_target(task)?;
        // A target that came back from an earlier plan does not connect by itself.
        quiet::connect(&self.target, &self.destinations())?;
        supply::allocate(self, task, &target)
    }

    fn supply(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.expect_source(task)?;
        let target = self.expect_target(task)?;
        quiet::connect(&self.target, &self.destinations())?;
        supply::supply(self, &self.work(task)?, &target)
    }

    fn quiesce(&mut self, task: ParticipantCall<'_>) -> Result<LedgerOffset, DriverError> {
        self.expect_source(task)?;
        let work = self.work(task)?;
        // Noted while the source surely answers: it may be gone when they are made again.
        users::note(self, &work)?;
        quiet::quiesce(self, &work)
    }

    fn export(
        &mut self,
        task: ParticipantCall<'_>,
        ledger_end: LedgerOffset,
    ) -> Result<Exported, DriverError> {
        self.expect_source(task)?;
        carry::export(self, task, &self.work(task)?, ledger_end)
    }

    fn rewrite(
        &mut self,
        task: ParticipantCall<'_>,
        exported: &Exported,
        parts: &BTreeMap<NodeId, Vec<PartyMove>>,
    ) -> Result<Rewritten, DriverError> {
        rewriting::rewrite(self, task, &self.work(task)?, exported, parts)
    }

    fn safeguard(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError> {
        let target = self.expect_target(task)?;
        let work = self.work(task)?;
        if work.is_safeguarded()? {
            return Ok(());
        }
        quiet::pass_time(self, &target)?;
        quiet::take_off(&self.target)?;
        safeguard::copy(&self.settings.safeguard, &work)
    }

    fn import(
        &mut self,
        task: ParticipantCall<'_>,
        rewritten: &Rewritten,
    ) -> Result<(), DriverError> {
        self.expect_target(task)?;
        let work = self.work(task)?;
        carry::import(self, task, &work, rewritten)
    }

    fn connect(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.expect_target(task)?;
        quiet::connect(&self.target, &self.destinations())
    }

    fn reconcile(
        &mut self,
        task: ParticipantCall<'_>,
        rewritten: &Rewritten,
    ) -> Result<Reconciled, DriverError> {
        let target = self.expect_target(task)?;
        let work = self.work(task)?;
        carry::reconcile(self, task, &work, &target, rewritten)
    }

    fn settle(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError> {
        let target = self.expect_target(task)?;
        let work = self.work(task)?;
        users::recreate(self, task, &work, &target)?;
        quiet::settle(self, task)
    }

    fn disconnect(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.expect_target(task)?;
        quiet::take_off(&self.target)
    }

    fn purge(
        &mut self,
        task: ParticipantCall<'_>,
        rewritten: Option<&Rewritten>,
    ) -> Result<(), DriverError> {
        let Some(rewritten) = rewritten else {
            // Nothing is imported before this node stated what.
            return Ok(());
        };
        let target = self.expect_target(task)?;
        let work = self.work(task)?;
        purge::purge(self, task, &work, &target, rewritten)
    }

    fn reconnect(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError> {
        let work = self.work(task)?;
        let (found, _) = ready(&self.source)?;
        unexpected("source", &task.moved.source, &found)?;
        quiet::reconnect(self, task, &work)
    }
}
