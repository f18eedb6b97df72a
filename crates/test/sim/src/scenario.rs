//! What a run does: genesis without faults, then an upgrade with them, then the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use heirloom_emulated::host::EmulatedHost;
use heirloom_model::counter::{Epoch, Generation, Moment, Time};
use heirloom_model::digest::{DigestOf, PlanDigest, sha256};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::Plan;
use heirloom_model::policy::Sharing;
use heirloom_model::protocol::ServingState;
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::{PlanState, PlanStatus};
use heirloom_testkit::ceremony::{Ceremony, Code};
use heirloom_testkit::machine::SoftTpm;
use heirloom_upgrade::agent::{Agent, AgentError, Tick};
use heirloom_upgrade::checker;
use heirloom_upgrade::journal::Progress;
use heirloom_upgrade::planner::{self, PlanRequest};

use crate::invariant::{self, Ledger, Violation};
use crate::invariant_participant::{self, MoveViolation, Moves};
use crate::invariant_service::{self, Books, ServiceViolation};
use crate::log::SimLog;
use crate::machine::SimHost;
use crate::node::{SimDriver, SimJournal};
use crate::rogue;
use crate::world::{Faults, Shared, World, lock};

mod describe;
mod handover;
mod migration;
mod mixed;
mod rolling;
mod service;

/// What is expensive to make and the same for every run.
#[derive(Clone)]
pub struct Fixture {
    uniform: Network,
    mixed: Network,
}

/// A network and its machines.
#[derive(Clone)]
struct Network {
    ceremony: Arc<Ceremony>,
    hosts: Vec<SimHost>,
}

/// What a run does after genesis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scenario {
    /// An upgrade; operators are slow, and some of them approve something else.
    Upgrade,
    /// An upgrade that an operator calls off at some moment.
    Abort,
    /// An upgrade and the way back.
    ThereAndBack,
    /// One host hands over to new code through an upgrader; the domain is exclusive.
    Handover,
    /// A handover that an operator calls off at some moment.
    HandoverAbort,
    /// A handover, and another one back, through another upgrader.
    HandoverThereAndBack,
    /// A handover that an agent proposes by itself, because the policy says that it may.
    Auto,
    /// A handover while somebody starts copies of the sealed state.
    Clones,
    /// A handover in a domain with many holders.
    HandoverReplicated,
    /// The same code takes over on another host.
    Move,
    /// Everything is sealed again after a microcode update.
    Reseal,
    /// A service moves to new code on all nodes at once, while clients pay.
    FlagDay,
    /// A flag day that an operator calls off at some moment.
    FlagDayAbort,
    /// A flag day while an operator is away, for long or for good.
    FlagDayAbsent,
    /// A flag day while one node has another configuration.
    FlagDayConfiguration,
    /// A flag day with a database that cannot be migrated.
    FlagDayBadData,
    /// A flag day with a node that lies about its ledger, or whose copy somebody changes.
    FlagDayLiar,
    /// A flag day in a window that is too short for most runs.
    FlagDayDeadline,
    /// The same code of a service starts again, node by node.
    Restart,
    /// An upgrade of a fleet in which every second machine has a TPM; some are called off, and
    /// some go back.
    Mixed,
    /// A keyring moves from an emulated CPU to a machine with a TPM, and back.
    MixedMove,
    /// Somebody puts disks of a mixed fleet back to what they were.
    MixedRestored,
    /// Two or three operators move their participants together.
    Migration,
    /// One operator moves a participant alone.
    MigrationAlone,
    /// A migration that an operator calls off at some moment; and now and then another one.
    MigrationAbort,
    /// A migration to which one operator never agrees.
    MigrationSilent,
    /// A migration in which one node gives shared contracts other ids.
    MigrationDiffers,
    /// A migration in which people or servers do something that they should not.
    MigrationMishap,
    /// A migration without a deadline, of which an operator is away once its source is off.
    MigrationExpiry,
    /// Two operators move together; one of them agrees late, and the other one tries to do it for
    /// him.
    MigrationJoint,
}

impl Scenario {
    /// Every scenario, and its name.
    pub const ALL: [(Self, &'static str); 30] = [
        (Self::Upgrade, "upgrade"),
        (Self::Abort, "abort"),
        (Self::ThereAndBack, "there-and-back"),
        (Self::Handover, "handover"),
        (Self::HandoverAbort, "handover-abort"),
        (Self::HandoverThereAndBack, "handover-there-and-back"),
        (Self::Auto, "auto"),
        (Self::Clones, "clones"),
        (Self::HandoverReplicated, "handover-replicated"),
        (Self::Move, "move"),
        (Self::Reseal, "reseal"),
        (Self::FlagDay, "flag-day"),
        (Self::FlagDayAbort, "flag-day-abort"),
        (Self::FlagDayAbsent, "flag-day-absent"),
        (Self::FlagDayConfiguration, "flag-day-configuration"),
        (Self::FlagDayBadData, "flag-day-bad-data"),
        (Self::FlagDayLiar, "flag-day-liar"),
        (Self::FlagDayDeadline, "flag-day-deadline"),
        (Self::Restart, "restart"),
        (Self::Mixed, "mixed"),
        (Self::MixedMove, "mixed-move"),
        (Self::MixedRestored, "mixed-restored"),
        (Self::Migration, "migration"),
        (Self::MigrationAlone, "migration-alone"),
        (Self::MigrationAbort, "migration-abort"),
        (Self::MigrationSilent, "migration-silent"),
        (Self::MigrationDiffers, "migration-differs"),
        (Self::MigrationMishap, "migration-mishap"),
        (Self::MigrationExpiry, "migration-expiry"),
        (Self::MigrationJoint, "migration-joint"),
    ];

    /// Whether it changes a service, and not keepers.
    pub fn concerns_service(self) -> bool {
        matches!(
            self,
            Self::FlagDay
                | Self::FlagDayAbort
                | Self::FlagDayAbsent
                | Self::FlagDayConfiguration
                | Self::FlagDayBadData
                | Self::FlagDayLiar
                | Self::FlagDayDeadline
                | Self::Restart
        )
    }

    /// Whether every second machine has a TPM.
    fn is_mixed(self) -> bool {
        matches!(self, Self::Mixed | Self::MixedMove | Self::MixedRestored)
    }

    /// Whether participants move, and there are no keepers.
    pub fn moves_participants(self) -> bool {
        matches!(
            self,
            Self::Migration
                | Self::MigrationAlone
                | Self::MigrationAbort
                | Self::MigrationSilent
                | Self::MigrationDiffers
                | Self::MigrationMishap
                | Self::MigrationExpiry
                | Self::MigrationJoint
        )
    }

    /// Whether the service moves to other code.
    pub fn is_flag_day(self) -> bool {
        self.concerns_service() && self != Self::Restart
    }

    fn sharing(self) -> Sharing {
        match self {
            Self::Upgrade
            | Self::Abort
            | Self::ThereAndBack
            | Self::HandoverReplicated
            | Self::Mixed
            | Self::MixedRestored
            | Self::FlagDay
            | Self::FlagDayAbort
            | Self::FlagDayAbsent
            | Self::FlagDayConfiguration
            | Self::FlagDayBadData
            | Self::FlagDayLiar
            | Self::FlagDayDeadline
            | Self::Restart => Sharing::Replicated,
            Self::Handover
            | Self::HandoverAbort
            | Self::HandoverThereAndBack
            | Self::Auto
            | Self::Clones
            | Self::Move
            | Self::Reseal
            | Self::MixedMove
            | Self::Migration
            | Self::MigrationAlone
            | Self::MigrationAbort
            | Self::MigrationSilent
            | Self::MigrationDiffers
            | Self::MigrationMishap
            | Self::MigrationExpiry
            | Self::MigrationJoint => Sharing::Exclusive,
        }
    }

    /// How many nodes a run has.
    fn nodes(self, seed: u64) -> usize {
        if self.concerns_service() {
            let turn = usize::from(sha256(&[b"nodes", &seed.to_be_bytes()])[0]);
            return SERVICE_NODES_MIN + turn % (SERVICE_NODES_MAX - SERVICE_NODES_MIN + 1);
        }
        let one_more = usize::from(sha256(&[b"participants", &seed.to_be_bytes()])[0] % 2);
        match self {
            Self::Migration
            | Self::MigrationSilent
            | Self::MigrationDiffers
            | Self::MigrationExpiry => 2 + one_more,
            Self::MigrationAbort | Self::MigrationMishap => 1 + one_more,
            Self::Upgrade
            | Self::Abort
            | Self::ThereAndBack
            | Self::Mixed
            | Self::MixedRestored => NODES,
            Self::Move | Self::MixedMove | Self::MigrationJoint => 2,
            Self::HandoverReplicated => 3,
            Self::Handover
            | Self::HandoverAbort
            | Self::HandoverThereAndBack
            | Self::Auto
            | Self::Clones
            | Self::Reseal
            | Self::MigrationAlone => 1,
            _ => SERVICE_NODES_MIN,
        }
    }
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Where the last plan ended.
    pub status: PlanStatus,
    /// Operations that happened.
    pub operations: u64,
    /// Crashes that happened.
    pub crashes: u64,
    /// Whether one or many may answer.
    pub sharing: Sharing,
    /// The fewest holders at any moment.
    pub holders_min: u32,
    /// The most instances that answered at any moment.
    pub active_max: u32,
    /// Payments that clients of a service were told are done.
    pub payments: usize,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An invariant does not hold.
    #[error("an invariant does not hold")]
    Violation(#[from] Violation),
    /// An invariant of a service does not hold.
    #[error("an invariant of the service does not hold")]
    Service(#[source] Box<ServiceViolation>),
    /// An invariant of participants does not hold.
    #[error("an invariant of the participants does not hold")]
    Move(#[from] MoveViolation),
    /// The run does not come to its end.
    #[error("it does not end: {0}")]
    Stuck(String),
    /// Evidence was believed although the policy has no rule for its kind.
    #[error("{holder} believes evidence of a kind for which its policy has no rule")]
    Believed {
        /// Who believes it.
        holder: NodeId,
    },
    /// Code that no policy names was given something.
    #[error("{holder} gave something to code that no policy names")]
    Leak {
        /// Who gave.
        holder: NodeId,
    },
    /// Old code was counted as new.
    #[error("old code of {node} was taken for new code")]
    Joined {
        /// Where it ran.
        node: NodeId,
    },
    /// An agent stopped for good.
    #[error("the agent of {node} stopped for good: {error}")]
    Agent {
        /// Whose.
        node: NodeId,
        /// Why.
        error: String,
    },
    /// The planner or checker refuses what must be possible.
    #[error("no plan: {0}")]
    Plan(String),
    /// The registry refuses an operator's statement that must be possible.
    #[error("the registry refuses: {0}")]
    Refused(String),
}

impl From<ServiceViolation> for Failure {
    fn from(violation: ServiceViolation) -> Self {
        Self::Service(Box::new(violation))
    }
}

/// How often nodes are cut off and joined again, in thousandths of a round.
#[derive(Clone, Copy)]
struct Weather {
    leaves: u32,
    returns: u32,
}

impl Weather {
    /// Often, and not for long.
    const CHANGING: Self = Self { leaves: 5, returns: 60 };
    /// For longer than an active holder may go without the log.
    const ROUGH: Self = Self { leaves: 20, returns: 8 };
}

/// What machines with a TPM boot.
pub(crate) const BOOT: &[u8] = b"the hosts of a simulated fleet";
/// Nodes of a simulated fleet.
const NODES: usize = 4;
/// Nodes with a service, at least.
const SERVICE_NODES_MIN: usize = 3;
/// Nodes with a service, at most.
const SERVICE_NODES_MAX: usize = 5;
/// Ticks until genesis is over.
const GENESIS_ROUNDS_MAX: u32 = 2_000;
/// Ticks with faults.
const FAULTY_ROUNDS: u32 = 500;
/// Ticks without faults until everything must have come to its end.
const LIVENESS_ROUNDS_MAX: u32 = 6_000;
/// Ticks from one attempt of code that no policy names to the next.
const ROGUE_ROUNDS: u32 = 150;
/// Ticks from one attempt of old code to pass for new to the next.
const INTRUDER_ROUNDS: u32 = 40;
/// Ticks of one epoch.
const EPOCH_ROUNDS: u32 = 60;

type SimAgent = Agent<SimJournal, SimLog, SimDriver>;

struct Run {
    world: Shared,
    agents: BTreeMap<NodeId, SimAgent>,
    ledger: Ledger,
    books: Books,
    moves: Moves,
    consents: Vec<migration::Consent>,
    rounds: u32,
    /// What operators will publish, and in which round at the earliest.
    pending: VecDeque<(u32, Envelope)>,
    sharing: Sharing,
}

impl Fixture {
    /// Makes the networks and their machines.
    pub fn new() -> Self {
        let emulated = |ceremony: &Ceremony, seed: &[u8; 32]| {
            SimHost::Emulated(EmulatedHost::from_seed(&ceremony.manufacturer, seed))
        };
        let mixed = |ceremony: &Ceremony, index: usize, seed: &[u8; 32]| match index % 2 {
            0 => emulated(ceremony, seed),
            _ => SimHost::Tpm(SoftTpm::from_seed(&ceremony.attestation_ca, seed, BOOT)),
        };
        Self {
            uniform: Network::new(Ceremony::new(&[7; 32]), |ceremony, _, seed| {
                emulated(ceremony, seed)
            }),
            mixed: Network::new(Ceremony::mixed(&[7; 32]), mixed),
        }
    }

    fn network(&self, scenario: Scenario) -> &Network {
        if scenario.is_mixed() { &self.mixed } else { &self.uniform }
    }

    /// The machines of one run. A microcode update changes a machine for good, so whoever makes
    /// one gets a machine of its own.
    fn hosts(&self, seed: u64, scenario: Scenario) -> Vec<SimHost> {
        let Network { ceremony, hosts } = self.network(scenario);
        if scenario == Scenario::Reseal {
            let seed = sha256(&[b"sim host of one run", &seed.to_be_bytes()]);
            let host = EmulatedHost::from_seed(&ceremony.manufacturer, &seed);
            return vec![SimHost::Emulated(host)];
        }
        hosts.iter().take(scenario.nodes(seed)).map(SimHost::renewed).collect()
    }
}

impl Network {
    fn new(ceremony: Ceremony, host: impl Fn(&Ceremony, usize, &[u8; 32]) -> SimHost) -> Self {
        let seed = |index: usize| sha256(&[b"sim host", &index.to_be_bytes()]);
        let count = NODES.max(SERVICE_NODES_MAX);
        let hosts = (0..count).map(|index| host(&ceremony, index, &seed(index))).collect();
        Self { hosts, ceremony: Arc::new(ceremony) }
    }
}

impl Default for Fixture {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs one seed of one scenario. On failure the second value is what happened last.
pub fn run(
    fixture: &Fixture,
    seed: u64,
    scenario: Scenario,
) -> Result<Outcome, (Failure, Vec<String>)> {
    let first = Code::named("keeper-1", 1);
    let hosts = fixture.hosts(seed, scenario);
    let ceremony = Arc::clone(&fixture.network(scenario).ceremony);
    let world = World::new(seed, ceremony, &hosts, first);
    let world = Arc::new(Mutex::new(world));
    let mut run = Run {
        world: Arc::clone(&world),
        agents: BTreeMap::new(),
        ledger: Ledger::default(),
        books: Books::default(),
        moves: Moves::default(),
        consents: Vec::new(),
        rounds: 0,
        pending: VecDeque::new(),
        sharing: scenario.sharing(),
    };
    run.play(scenario).map_err(|failure| (failure, std::mem::take(&mut lock(&world).trace)))
}

impl Run {
    fn play(&mut self, scenario: Scenario) -> Result<Outcome, Failure> {
        let status = match scenario {
            Scenario::Upgrade | Scenario::Abort | Scenario::ThereAndBack | Scenario::Mixed => {
                self.play_rolling(scenario)?
            }
            Scenario::MixedMove => self.play_mixed_move()?,
            Scenario::MixedRestored => self.play_mixed_restored()?,
            Scenario::Handover
            | Scenario::HandoverAbort
            | Scenario::HandoverThereAndBack
            | Scenario::Auto
            | Scenario::Clones
            | Scenario::HandoverReplicated => self.play_handover(scenario)?,
            Scenario::Move => self.play_move()?,
            Scenario::Reseal => self.play_reseal()?,
            Scenario::FlagDay
            | Scenario::FlagDayAbort
            | Scenario::FlagDayAbsent
            | Scenario::FlagDayConfiguration
            | Scenario::FlagDayBadData
            | Scenario::FlagDayLiar
            | Scenario::FlagDayDeadline
            | Scenario::Restart => self.play_service(scenario)?,
            Scenario::Migration
            | Scenario::MigrationAlone
            | Scenario::MigrationAbort
            | Scenario::MigrationSilent
            | Scenario::MigrationDiffers
            | Scenario::MigrationMishap
            | Scenario::MigrationExpiry
            | Scenario::MigrationJoint => self.play_migration(scenario)?,
        };
        let world = lock(&self.world);
        Ok(Outcome {
            status,
            operations: world.operations,
            crashes: world.crashes,
            sharing: self.sharing,
            holders_min: self.ledger.holders_min.unwrap_or(0),
            active_max: self.ledger.active_max,
            payments: world.market.accepted.len(),
        })
    }

    /// Two generations, held and recovered by everybody.
    fn genesis(&mut self) -> Result<(), Failure> {
        self.generation(Generation(0))?;
        self.generation(Generation(1))
    }

    /// A generation, held and recovered by everybody.
    fn generation(&mut self, generation: Generation) -> Result<(), Failure> {
        let node = lock(&self.world).nodes.keys().next().cloned().expect("a fleet has nodes");
        let order = lock(&self.world).ceremony.order(generation, &node, Epoch(1_000));
        publish(&mut lock(&self.world), &order)?;
        let limit = self.rounds.saturating_add(GENESIS_ROUNDS_MAX);
        while !self.all_recovered(generation) {
            self.round()?;
            if self.rounds > limit {
                return Err(Failure::Stuck(format!("generation {generation}: {:?}", self.nodes())));
            }
        }
        Ok(())
    }

    fn all_recovered(&self, generation: Generation) -> bool {
        use heirloom_model::domain::HoldingOrigin::Recovered;
        let world = lock(&self.world);
        let recovered = |node: &crate::world::SimNode| {
            node.processes.values().any(|process| {
                let status = process.keeper.status(world.now);
                status.state == ServingState::Ready
                    && status.holding.is_some_and(|holding| {
                        holding.generation == generation && holding.origin == Recovered
                    })
            })
        };
        match self.sharing {
            Sharing::Replicated => world.nodes.values().all(recovered),
            Sharing::Exclusive => world.nodes.values().any(recovered),
        }
    }

    /// Plans and checks.
    fn draw_up(&self, request: &PlanRequest) -> Result<Plan, Failure> {
        let world = lock(&self.world);
        let (plan, _report) = planner::plan(request, &world.judge)
            .map_err(|error| Failure::Plan(error.to_string()))?;
        let findings = checker::check(&plan, &world.judge);
        if findings.is_empty() { Ok(plan) } else { Err(Failure::Plan(format!("{findings:?}"))) }
    }

    /// Plans, checks, proposes.
    fn put_forward(&self, request: &PlanRequest) -> Result<Plan, Failure> {
        let plan = self.draw_up(request)?;
        let mut world = lock(&self.world);
        let proposal = world.ceremony.proposal(&plan);
        publish(&mut world, &proposal)?;
        Ok(plan)
    }

    /// Lets operators approve: late, and one of them something else first.
    fn approve(&mut self, plan: &Plan) -> Result<(), Failure> {
        let mut world = lock(&self.world);
        let ceremony = Arc::clone(&world.ceremony);
        let wrong = PlanDigest::of(b"another plan".as_slice());
        let refused = world.publish(&ceremony.approval(wrong, 0, plan.not_after));
        if refused.is_ok() {
            return Err(Failure::Plan("approval of an unknown plan was accepted".to_owned()));
        }
        let now = self.rounds;
        for operator in 0..2 {
            let delay = world.below(80);
            let approval = ceremony.approval(plan.digest(), operator, plan.not_after);
            self.pending.push_back((now.saturating_add(delay), approval));
        }
        Ok(())
    }

    /// The safety phase.
    fn faulty(&mut self) -> Result<(), Failure> {
        let faults = Faults::draw(&mut lock(&self.world));
        lock(&self.world).faults = faults;
        for _ in 0..FAULTY_ROUNDS {
            self.disturb(Weather::CHANGING);
            self.round()?;
        }
        lock(&self.world).faults = Faults::NONE;
        for node in lock(&self.world).nodes.values_mut() {
            node.partitioned = false;
        }
        Ok(())
    }

    /// Cuts nodes off, and joins them again.
    fn disturb(&self, weather: Weather) {
        let mut world = lock(&self.world);
        let names: Vec<NodeId> = world.nodes.keys().cloned().collect();
        for name in names {
            let (leaves, returns) = (world.chance(weather.leaves), world.chance(weather.returns));
            let node = world.node(&name);
            node.partitioned = if node.partitioned { !returns } else { leaves };
        }
    }

    /// The liveness phase: everything comes to its end.
    fn settle(&mut self, plan: PlanDigest) -> Result<PlanStatus, Failure> {
        let limit = self.rounds.saturating_add(LIVENESS_ROUNDS_MAX);
        loop {
            let status = lock(&self.world).judge.plan(&plan).map(PlanState::status);
            match status {
                Some(status @ (PlanStatus::Finished | PlanStatus::RolledBack))
                    if self.pending.is_empty() =>
                {
                    return Ok(status);
                }
                Some(_) | None => {}
            }
            if self.rounds > limit {
                return Err(Failure::Stuck(self.describe(&plan)));
            }
            self.round()?;
        }
    }

    /// Everybody must come to serve with this code.
    fn everybody_serves(&mut self, code: Code) -> Result<(), Failure> {
        let limit = self.rounds.saturating_add(LIVENESS_ROUNDS_MAX);
        loop {
            if self.serves(code) {
                return Ok(());
            }
            if self.rounds > limit {
                return Err(Failure::Stuck(format!("not everybody serves: {:?}", self.nodes())));
            }
            self.round()?;
        }
    }

    /// Whether everybody, or the one that may, serves with this code.
    fn serves(&self, code: Code) -> bool {
        let world = lock(&self.world);
        let serves = |node: &crate::world::SimNode| {
            let process = node.processes.get(&node.host.code(code).measurement);
            process.is_some_and(|it| it.keeper.state_at(world.now) == ServingState::Ready)
        };
        match self.sharing {
            Sharing::Replicated => world.nodes.values().all(serves),
            Sharing::Exclusive => world.nodes.values().any(serves),
        }
    }

    /// One tick of one node's agent, and whatever else happens in that time.
    fn round(&mut self) -> Result<(), Failure> {
        self.rounds = self.rounds.saturating_add(1);
        self.let_time_pass();
        if self.rounds.is_multiple_of(EPOCH_ROUNDS) {
            let mut world = lock(&self.world);
            let next = world.judge.epoch().next().expect("runs are short");
            let epoch = world.ceremony.epoch(next);
            publish(&mut world, &epoch)?;
        }
        self.operators();
        lock(&self.world).deliver_late();
        lock(&self.world).serve();
        lock(&self.world).serve_participants();
        self.agree()?;
        if self.rounds.is_multiple_of(ROGUE_ROUNDS) && !self.scenario_moves() {
            rogue::tries(&mut lock(&self.world))?;
        }
        if self.rounds.is_multiple_of(INTRUDER_ROUNDS) {
            rogue::joins(&mut lock(&self.world))?;
        }
        let node = {
            let mut world = lock(&self.world);
            let count = u32::try_from(world.nodes.len()).unwrap_or(1);
            let index = world.below(count);
            let name = world.nodes.keys().nth(usize::try_from(index).unwrap_or(0));
            name.cloned().expect("the index is below the number of nodes")
        };
        self.tick(&node)?;
        invariant::check(&lock(&self.world), &mut self.ledger)?;
        invariant_service::check(&mut lock(&self.world), &mut self.books)?;
        invariant_participant::check(&mut lock(&self.world), &mut self.moves)?;
        Ok(())
    }

    /// Whether participants move: then there is no keyring to ask for.
    fn scenario_moves(&self) -> bool {
        !lock(&self.world).exchange.synchronizers.is_empty()
    }

    /// Some milliseconds a tick, and now and then a machine that slept.
    fn let_time_pass(&self) {
        let mut world = lock(&self.world);
        let slept = world.chance(4);
        let passed = if slept { world.below(10_000) } else { world.below(60) };
        world.now = Moment(world.now.0.saturating_add(u64::from(passed)));
    }

    /// Operators publish what is due. What the registry refuses by then is not repeated: an abort
    /// after the point of no return, or an approval after an abort.
    fn operators(&mut self) {
        let now = self.rounds;
        let mut world = lock(&self.world);
        let due = self.pending.iter().filter(|(round, _)| *round <= now);
        for (_, envelope) in due {
            if let Err(refusal) = world.publish(envelope) {
                world.note(|| format!("an operator is refused: {refusal}"));
            }
        }
        self.pending.retain(|(round, _)| *round > now);
    }

    fn tick(&mut self, node: &NodeId) -> Result<(), Failure> {
        if lock(&self.world).node(node).absent {
            return Ok(());
        }
        if lock(&self.world).node(node).agent_down {
            self.agents.remove(node);
            lock(&self.world).node(node).agent_down = false;
        }
        if !self.agents.contains_key(node) {
            let agent = self.recover(node)?;
            self.agents.insert(node.clone(), agent);
        }
        let agent = self.agents.get_mut(node).expect("it was just made");
        let world = Arc::clone(&self.world);
        let ticked = agent.tick(Time(0), &mut || lock(&world).nonce());
        let mut world = lock(&self.world);
        if !matches!(&ticked, Ok(Tick::Idle(waiting)) if waiting.is_empty()) {
            world.note(|| format!("{node}: {ticked:?}"));
        }
        match ticked {
            Err(error @ (AgentError::History(_) | AgentError::CorruptJournal(_))) => {
                Err(Failure::Agent { node: node.clone(), error: format!("{error:?}") })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// A new agent process, from what is on disk. The log is folded by the same function as
    /// everywhere, so the registry's fold stands for its own.
    fn recover(&self, node: &NodeId) -> Result<SimAgent, Failure> {
        let mut world = lock(&self.world);
        let state: NetworkState = world.judge.clone();
        let records = world.node(node).disk.journal.clone();
        let progress = Progress::recover(records.iter().map(Vec::as_slice))
            .map_err(|error| Failure::Agent { node: node.clone(), error: error.to_string() })?;
        let shared = || Arc::clone(&self.world);
        let key = world.ceremony.agent_key(node);
        let ports = (
            SimJournal { world: shared(), node: node.clone() },
            SimLog { world: shared(), node: node.clone() },
            SimDriver { world: shared(), node: node.clone() },
        );
        Ok(Agent::recover(node.clone(), key, state, progress, ports))
    }
}

fn publish(world: &mut World, envelope: &Envelope) -> Result<(), Failure> {
    world
        .publish(envelope)
        .map_err(|refusal| Failure::Refused(format!("{}: {refusal}", envelope.kind.name())))
}
