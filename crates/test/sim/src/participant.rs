//! The two participants of each simulated node, and the ledger that they and their clients share.
//!
//! Contracts are ids, a synchronizer and stakeholders. Statements and everything that judges them
//! are real.

pub mod driver;

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::digest::{PlanDigest, sha256};
use heirloom_model::identifier::NodeId;
use heirloom_model::party::{ParticipantId, PartyId, SynchronizerId};
use heirloom_registry::plan::PlanState;
use heirloom_upgrade::port::{DriverError, Link, Restart};

use crate::world::World;

/// An active contract.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contract {
    /// Where it is.
    pub synchronizer: SynchronizerId,
    /// Whose it is.
    pub stakeholders: BTreeSet<PartyId>,
}

/// Active contracts by id.
pub type Contracts = BTreeMap<Vec<u8>, Contract>;

/// How a server is with one synchronizer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Line {
    /// Now.
    pub link: Link,
    /// After a restart.
    pub restart: Restart,
    /// Whether it tries to connect since it started, until it does or is told to disconnect.
    pub tries: bool,
}

/// A participant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// Its name, once it has one.
    pub participant: Option<ParticipantId>,
    /// The parties that it hosts.
    pub parties: BTreeSet<PartyId>,
    /// The packages that it has.
    pub packages: BTreeSet<u32>,
    /// What is active.
    pub contracts: Contracts,
    /// Every synchronizer that it knows.
    pub lines: BTreeMap<SynchronizerId, Line>,
    /// How far its ledger went.
    pub ledger_end: u64,
    /// For so many rounds it does not answer; it starts after them.
    pub down: u32,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The one that contracts leave.
    Source,
    /// The one that they move to.
    Target,
}

/// What a plan left on the disk of a node.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// How the source was with each synchronizer: whether connected, and what after a restart.
    pub before: Option<BTreeMap<SynchronizerId, (Link, Restart)>>,
    /// The snapshot of the source, and where its ledger ended.
    pub exported: Option<(u64, Contracts)>,
    /// The snapshot for the target.
    pub rewritten: Option<Contracts>,
    /// The target's store as it was before anything was imported.
    pub safeguard: Option<Server>,
}

/// What is wrong with a node, until somebody repairs it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Defect {
    /// It gives contracts other ids than everybody else.
    OtherIds,
    /// Its target refuses what it is to import.
    RefusesImport,
    /// Somebody puts the target's store back as it was before the import.
    PutsBack,
    /// Somebody connects the source again while it should be quiet.
    Reconnects,
    /// The source hosts a party that nobody surveyed.
    OtherParty,
}

/// Source and target of a node.
#[derive(Clone, Debug)]
pub struct Pair {
    /// What contracts leave.
    pub source: Server,
    /// What they move to.
    pub target: Server,
    /// The work of each plan.
    pub folders: BTreeMap<PlanDigest, Folder>,
    /// What is wrong with it.
    pub defect: Option<Defect>,
}

/// What clients of all participants have.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// The synchronizers.
    pub synchronizers: Vec<SynchronizerId>,
    /// The plan that moves the participants.
    pub plan: Option<PlanDigest>,
    /// What is active under the old names.
    pub old: Contracts,
    /// What is active under the new names, once a plan is committed to.
    pub new: Option<Contracts>,
    /// Contracts with smaller numbers are there for good.
    pub kept: u64,
    numbers: u64,
}

/// Chances in a thousand, for each round.
mod chance {
    /// A client does something.
    pub(super) const TRADES: u32 = 200;
    /// A server that tries to connect does.
    pub(super) const CONNECTS: u32 = 300;
    /// A person connects a source that connects only when it is told to.
    pub(super) const BY_HAND: u32 = 50;
}

/// Rounds for which a server that died does not answer, at most.
const DOWN_ROUNDS: u32 = 25;

impl Line {
    /// Connected, also after a restart.
    pub const ON: Self = Self { link: Link::Connected, restart: Restart::Automatic, tries: false };

    /// Whether it is not connected, and stays so.
    pub fn is_off(&self) -> bool {
        (self.link, self.restart, self.tries) == (Link::Disconnected, Restart::Manual, false)
    }
}

impl Server {
    /// A server that hosts these parties.
    pub fn new(participant: Option<ParticipantId>, parties: BTreeSet<PartyId>) -> Self {
        Self {
            participant,
            parties,
            packages: BTreeSet::new(),
            contracts: Contracts::new(),
            lines: BTreeMap::new(),
            ledger_end: 40,
            down: 0,
        }
    }

    /// Whether it takes part in what happens on a synchronizer.
    pub fn is_on(&self, synchronizer: &SynchronizerId) -> bool {
        let line = self.lines.get(synchronizer);
        self.down == 0 && line.is_some_and(|line| line.link == Link::Connected)
    }

    /// Whether it takes part in anything.
    pub fn is_on_any(&self) -> bool {
        self.lines.keys().any(|synchronizer| self.is_on(synchronizer))
    }

    /// Whether it takes part in nothing, and stays so whatever happens to its process.
    pub fn is_off(&self) -> bool {
        self.lines.values().all(Line::is_off)
    }

    fn hosts(&self, contract: &Contract) -> bool {
        !self.parties.is_disjoint(&contract.stakeholders)
    }

    /// What it must have of all these contracts.
    pub fn part_of(&self, all: &Contracts) -> Contracts {
        let part = all.iter().filter(|(_, contract)| self.hosts(contract));
        part.map(|(id, contract)| (id.clone(), contract.clone())).collect()
    }

    fn fail(&mut self, rounds: u32) {
        self.down = rounds.max(1);
        for line in self.lines.values_mut() {
            (line.link, line.tries) = (Link::Disconnected, false);
        }
    }

    fn start(&mut self) {
        for line in self.lines.values_mut() {
            line.tries = line.restart == Restart::Automatic;
        }
    }
}

impl Pair {
    /// One of the two.
    pub fn server(&self, side: Side) -> &Server {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// One of the two, to change.
    pub fn server_mut(&mut self, side: Side) -> &mut Server {
        match side {
            Side::Source => &mut self.source,
            Side::Target => &mut self.target,
        }
    }

    /// What becomes of the names of the source's parties, once the target has its name.
    pub fn names(&self) -> BTreeMap<PartyId, PartyId> {
        let Some(target) = &self.target.participant else { return BTreeMap::new() };
        let namespace = target.namespace();
        let moved = |party: &PartyId| Some((party.clone(), party.moved_to(&namespace).ok()?));
        self.source.parties.iter().filter_map(moved).collect()
    }
}

/// A contract under new names. Equal contracts get equal ids, wherever that happens.
pub fn renamed(
    id: &[u8],
    contract: &Contract,
    names: &BTreeMap<PartyId, PartyId>,
    salt: &[u8],
) -> (Vec<u8>, Contract) {
    let new = |party: &PartyId| names.get(party).unwrap_or(party).clone();
    let stakeholders: BTreeSet<PartyId> = contract.stakeholders.iter().map(new).collect();
    let text: Vec<&str> = stakeholders.iter().map(PartyId::as_str).collect();
    let new_id = sha256(&[b"sim contract", salt, id, text.join(",").as_bytes()]);
    (new_id.to_vec(), Contract { synchronizer: contract.synchronizer.clone(), stakeholders })
}

impl World {
    /// The participants of a node.
    pub fn pair(&self, node: &NodeId) -> Option<&Pair> {
        self.nodes.get(node)?.pair.as_ref()
    }

    /// The participants of a node, to change.
    pub fn pair_mut(&mut self, node: &NodeId) -> Result<&mut Pair, DriverError> {
        let missing = || DriverError::Missing { what: "participants on this node".to_owned() };
        self.node(node).pair.as_mut().ok_or_else(missing)
    }

    /// Everybody's participants.
    pub fn pairs(&self) -> impl Iterator<Item = (&NodeId, &Pair)> {
        self.nodes.iter().filter_map(|(name, node)| Some((name, node.pair.as_ref()?)))
    }

    /// A participant of a node, if it answers.
    pub fn server_mut(&mut self, node: &NodeId, side: Side) -> Result<&mut Server, DriverError> {
        let server = self.pair_mut(node)?.server_mut(side);
        if server.down > 0 {
            return Err(DriverError::Unknown(format!("the {side:?} does not answer")));
        }
        Ok(server)
    }

    /// The plan that moves participants, as the log has it.
    pub fn moving_plan(&self) -> Option<&PlanState> {
        self.judge.plan(self.exchange.plan.as_ref()?)
    }

    /// Whether the log has the commit of that plan.
    pub fn has_moved(&self) -> bool {
        let done = |plan: &PlanState| plan.done_at(plan.plan().point_of_no_return).is_some();
        self.moving_plan().is_some_and(done)
    }

    /// Every old name that gets a new one.
    pub fn names(&self) -> BTreeMap<PartyId, PartyId> {
        self.pairs().flat_map(|(_, pair)| pair.names()).collect()
    }

    /// What becomes of all contracts.
    pub fn all_renamed(&self) -> Contracts {
        let names = self.names();
        let all = self.exchange.old.iter();
        all.map(|(id, contract)| renamed(id, contract, &names, &[])).collect()
    }

    /// With the commit, clients go on under the new names.
    pub fn note_move(&mut self) {
        if self.exchange.new.is_none() && self.has_moved() {
            self.exchange.new = Some(self.all_renamed());
        }
    }

    /// One participant of a node dies, and starts again by itself.
    pub fn kill_participant(&mut self, node: &NodeId) {
        let side = if self.chance(500) { Side::Source } else { Side::Target };
        let rounds = self.below(DOWN_ROUNDS);
        if let Ok(pair) = self.pair_mut(node) {
            pair.server_mut(side).fail(rounds);
        }
        self.note(|| format!("{node}: the {side:?} dies"));
    }

    /// Both participants of a node die.
    pub fn kill_participants(&mut self, node: &NodeId) {
        let rounds = [self.below(DOWN_ROUNDS), self.below(DOWN_ROUNDS)];
        if let Ok(pair) = self.pair_mut(node) {
            pair.source.fail(rounds[0]);
            pair.target.fail(rounds[1]);
        }
    }

    /// One round of servers, clients, and of people who do what they should not.
    pub fn serve_participants(&mut self) {
        if self.exchange.synchronizers.is_empty() {
            return;
        }
        self.note_move();
        let names: Vec<NodeId> = self.nodes.keys().cloned().collect();
        for name in &names {
            for side in [Side::Source, Side::Target] {
                self.serve_participant(name, side);
            }
            self.harm(name);
        }
        if self.chance(chance::TRADES) {
            self.trade(&names);
        }
    }

    fn serve_participant(&mut self, node: &NodeId, side: Side) {
        let (connects, by_hand) = (self.chance(chance::CONNECTS), self.chance(chance::BY_HAND));
        // People look after sources that no plan has taken off.
        let is_quiet = self.is_quiet(node);
        let Ok(pair) = self.pair_mut(node) else { return };
        let server = pair.server_mut(side);
        if server.down > 0 {
            server.down -= 1;
            if server.down == 0 {
                server.start();
            }
            return;
        }
        for line in server.lines.values_mut() {
            let told = by_hand && side == Side::Source && !is_quiet;
            if told || (line.tries && connects) {
                (line.link, line.tries) = (Link::Connected, false);
            }
        }
    }

    /// Whether a plan may have begun to take the source of a node off, and did not bring it back.
    fn is_quiet(&self, node: &NodeId) -> bool {
        use heirloom_model::plan::ParticipantAction;
        let Some(plan) = self.moving_plan() else { return false };
        if plan.is_over() {
            return self.has_moved();
        }
        let quiesce = plan.plan().participant_step(node, ParticipantAction::Quiesce);
        let begun = self.pair(node).and_then(|pair| pair.folders.get(plan.digest()));
        begun.is_some_and(|folder| folder.before.is_some())
            || quiesce.is_some_and(|step| plan.done_at(step).is_some())
    }

    /// What people do to a node with a defect, at the moment when it hurts.
    fn harm(&mut self, node: &NodeId) {
        use heirloom_model::plan::ParticipantAction;
        if !self.chance(100) {
            return;
        }
        let Some(plan) = self.moving_plan().filter(|plan| plan.aborted().is_none()) else { return };
        let digest = *plan.digest();
        let done = |action| {
            let step = plan.plan().participant_step(node, action);
            step.is_some_and(|step| {
                plan.done_at(step).is_some() || plan.participant_standing(step).is_some()
            })
        };
        let quiet = done(ParticipantAction::Quiesce);
        // Who puts a store back after it was compared takes contracts away behind everybody's back.
        let connected = done(ParticipantAction::Connect);
        let Ok(pair) = self.pair_mut(node) else { return };
        let folder = pair.folders.get(&digest).cloned().unwrap_or_default();
        match (pair.defect, folder.safeguard) {
            (Some(Defect::PutsBack), Some(kept))
                if !connected && !pair.target.contracts.is_empty() =>
            {
                pair.target = kept;
                pair.target.fail(1);
                self.note(|| format!("{node}: somebody puts the target's store back"));
            }
            (Some(Defect::Reconnects), _) if quiet && folder.exported.is_none() => {
                for line in pair.source.lines.values_mut() {
                    *line = Line::ON;
                }
                pair.defect = None;
                self.note(|| format!("{node}: somebody connects the source"));
            }
            _ => {}
        }
    }

    /// A client makes a contract, or ends one: with everybody whose parties stand in it.
    fn trade(&mut self, names: &[NodeId]) {
        let side = if self.has_moved() { Side::Target } else { Side::Source };
        let (id, contract) = if self.chance(600) {
            let Some(contract) = self.any_contract(names, side) else { return };
            (self.number(), contract)
        } else {
            let all = self.ledger();
            let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let index = usize::try_from(self.below(count)).unwrap_or(0);
            let Some((id, contract)) = self.ledger().iter().nth(index) else { return };
            (id.clone(), contract.clone())
        };
        let kept = self.exchange.kept.to_be_bytes();
        let ends = self.ledger().contains_key(&id);
        if ends && side == Side::Source && id.as_slice() < kept.as_slice() {
            return;
        }
        let all_take_part = self
            .pairs()
            .map(|(_, pair)| pair.server(side))
            .all(|server| !server.hosts(&contract) || server.is_on(&contract.synchronizer));
        if all_take_part {
            self.settle_trade(side, ends, &id, &contract);
        }
    }

    fn settle_trade(&mut self, side: Side, ends: bool, id: &[u8], contract: &Contract) {
        let change = |all: &mut Contracts| {
            if ends {
                all.remove(id);
            } else {
                all.insert(id.to_vec(), contract.clone());
            }
        };
        for node in self.nodes.values_mut() {
            let Some(pair) = &mut node.pair else { continue };
            let server = pair.server_mut(side);
            if server.hosts(contract) {
                change(&mut server.contracts);
                server.ledger_end = server.ledger_end.saturating_add(1);
            }
        }
        change(self.exchange.new.as_mut().unwrap_or(&mut self.exchange.old));
    }

    /// What is active for clients.
    fn ledger(&self) -> &Contracts {
        self.exchange.new.as_ref().unwrap_or(&self.exchange.old)
    }

    /// A new contract of one or two nodes' parties.
    fn any_contract(&mut self, names: &[NodeId], side: Side) -> Option<Contract> {
        let mut stakeholders = BTreeSet::new();
        for _ in 0..=self.below(2) {
            let count = u32::try_from(names.len()).unwrap_or(1);
            let node = names.get(usize::try_from(self.below(count)).unwrap_or(0))?;
            let parties = self.pair(node)?.server(side).parties.clone();
            let count = u32::try_from(parties.len()).unwrap_or(1);
            let index = usize::try_from(self.below(count)).unwrap_or(0);
            stakeholders.insert(parties.into_iter().nth(index)?);
        }
        let synchronizer = self.any_synchronizer()?;
        Some(Contract { synchronizer, stakeholders })
    }

    /// One of the synchronizers.
    pub fn any_synchronizer(&mut self) -> Option<SynchronizerId> {
        let count = u32::try_from(self.exchange.synchronizers.len()).unwrap_or(1);
        let index = usize::try_from(self.below(count)).unwrap_or(0);
        self.exchange.synchronizers.get(index).cloned()
    }

    /// An id that no contract has.
    pub fn number(&mut self) -> Vec<u8> {
        self.exchange.numbers = self.exchange.numbers.saturating_add(1);
        self.exchange.numbers.to_be_bytes().to_vec()
    }

    /// Contracts that are there by now stay.
    pub fn keep_contracts(&mut self) {
        self.exchange.kept = self.exchange.numbers.saturating_add(1);
    }
}
