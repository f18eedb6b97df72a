//! Migrations: participants move to other keys, their parties and contracts get new names, and
//! every operator goes along or nobody does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::digest::{PartyMapDigest, PlanDigest};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{NodeId, OperatorId};
use heirloom_model::participant::MapAgreement;
use heirloom_model::party::{ParticipantId, PartyId, SynchronizerId};
use heirloom_model::plan::Plan;
use heirloom_model::signature::SigningKey;
use heirloom_registry::plan::{PlanState, PlanStatus};
use heirloom_upgrade::planner::migration::{self, MigrationRequest};
use heirloom_upgrade::port::{Link, Restart};

use super::{FAULTY_ROUNDS, Failure, LIVENESS_ROUNDS_MAX, Run, Scenario, Weather, publish};
use crate::participant::{Contract, Defect, Line, Pair, Server};
use crate::world::{Faults, World, lock};

/// Ticks in which clients trade before anybody plans.
const PEACE_ROUNDS: u32 = 40;
/// Epochs of a plan that nobody lets expire.
const LONG_EPOCHS: u32 = 10_000;
/// Epochs of a window that everybody can keep.
const WINDOW_EPOCHS: u64 = 120;
/// Epochs after which a plan ends that somebody does not go along with, at most.
const SHORT_WINDOW_EPOCHS: u32 = 8;
/// The same, where somebody agrees late: everybody else tries all the time.
const IMPOSTORS: u32 = 200;
/// Epochs of a plan that is to expire while a source is off, at least, and by chance so many more.
const EXPIRY_EPOCHS: (u32, u32) = (5, 8);
/// Chances in a thousand, each round, that an operator is away once its source is off.
const ABSENCE: u32 = 20;
/// Chances in a thousand, each round, that an operator tries to agree to something else.
const WRONG_AGREEMENTS: u32 = 10;

/// An operator who is asked for consent.
pub(super) struct Consent {
    operator: OperatorId,
    /// Chances in a thousand, each round, that the others try to agree in his name.
    impostors: u32,
    /// The first round in which he may agree; none if he never does.
    from: Option<u32>,
}

impl Run {
    pub(super) fn play_migration(&mut self, scenario: Scenario) -> Result<PlanStatus, Failure> {
        self.found_migration()?;
        begin(&mut lock(&self.world));
        for _ in 0..PEACE_ROUNDS {
            self.round()?;
        }
        let mut status = self.migrate(scenario)?;
        let again = status == PlanStatus::RolledBack && lock(&self.world).chance(300);
        if again {
            // Nothing of the first attempt is in the way of the second.
            lock(&self.world).nodes.values_mut().for_each(|node| {
                if let Some(pair) = &mut node.pair {
                    pair.defect = None;
                }
            });
            status = self.migrate(Scenario::Migration)?;
        }
        Ok(status)
    }

    fn migrate(&mut self, scenario: Scenario) -> Result<PlanStatus, Failure> {
        self.survey()?;
        let defect = draw_defect(&mut lock(&self.world), scenario);
        let plan = self.propose_migration(scenario)?;
        let digest = plan.digest();
        lock(&self.world).exchange.plan = Some(digest);
        self.called_off(scenario, defect, digest);
        self.ask(scenario, &plan);
        let faults = Faults::draw(&mut lock(&self.world));
        lock(&self.world).faults = faults;
        for _ in 0..FAULTY_ROUNDS {
            self.disturb(Weather::CHANGING);
            self.leave(scenario);
            self.round()?;
        }
        lock(&self.world).faults = Faults::NONE;
        for node in lock(&self.world).nodes.values_mut() {
            node.partitioned = false;
        }
        if scenario == Scenario::MigrationExpiry {
            while lock(&self.world).judge.epoch() <= plan.not_after {
                self.round()?;
            }
            lock(&self.world).nodes.values_mut().for_each(|node| node.absent = false);
        }
        let status = self.settle(digest)?;
        self.consents.clear();
        ends_as_it_must(scenario, defect, status)?;
        self.all_at_rest(status)?;
        Ok(status)
    }

    /// Somebody whose source is off goes away, until the plan can only go back.
    fn leave(&self, scenario: Scenario) {
        let mut world = lock(&self.world);
        let mut nodes = world.nodes.values();
        if scenario != Scenario::MigrationExpiry || nodes.any(|node| node.absent) {
            return;
        }
        let off = world.pairs().find(|(_, pair)| pair.source.is_off());
        if let Some(name) = off.map(|(name, _)| name.clone())
            && world.chance(ABSENCE)
        {
            world.note(|| format!("{name} is away"));
            world.node(&name).absent = true;
        }
    }

    /// Publishes what a network without keepers begins with.
    fn found_migration(&self) -> Result<(), Failure> {
        let mut world = lock(&self.world);
        let ceremony = Arc::clone(&world.ceremony);
        let fleet = ceremony.fleet(Serial(1), ceremony.nodes(world.nodes.len()));
        for envelope in [ceremony.root(), ceremony.epoch(Epoch(1)), fleet] {
            publish(&mut world, &envelope)?;
        }
        Ok(())
    }

    /// Every node's agent says what it finds.
    fn survey(&mut self) -> Result<(), Failure> {
        let names: Vec<NodeId> = lock(&self.world).nodes.keys().cloned().collect();
        let limit = self.rounds.saturating_add(LIVENESS_ROUNDS_MAX);
        for name in names {
            let before = lock(&self.world)
                .judge
                .survey(&name)
                .map(heirloom_registry::migration::SurveySeen::at);
            while lock(&self.world)
                .judge
                .survey(&name)
                .map(heirloom_registry::migration::SurveySeen::at)
                == before
            {
                if let Some(agent) = self.agents.get_mut(&name) {
                    let surveyed = agent.sync().and_then(|()| agent.survey());
                    lock(&self.world).note(|| format!("{name}: {surveyed:?}"));
                }
                if self.rounds > limit {
                    return Err(Failure::Stuck(format!("{name} is not surveyed")));
                }
                self.round()?;
            }
        }
        Ok(())
    }

    /// Plans, checks, proposes; operators approve, late.
    fn propose_migration(&mut self, scenario: Scenario) -> Result<Plan, Failure> {
        let plan = {
            let mut world = lock(&self.world);
            let nodes: Vec<NodeId> = world.nodes.keys().cloned().collect();
            let first = nodes.first().and_then(|node| world.judge.node(node));
            let operator = first.expect("the fleet has a node").operator.clone();
            let opens = world.judge.epoch().0.saturating_add(u64::from(world.below(3)));
            let hopeless = scenario == Scenario::MigrationSilent;
            let expires = scenario == Scenario::MigrationExpiry;
            let epochs = if expires {
                EXPIRY_EPOCHS.0.saturating_add(world.below(EXPIRY_EPOCHS.1))
            } else {
                LONG_EPOCHS
            };
            let window = if expires {
                None
            } else if hopeless && world.chance(500) {
                Some(u64::from(world.below(SHORT_WINDOW_EPOCHS)))
            } else {
                world.chance(500).then_some(WINDOW_EPOCHS)
            };
            let request = MigrationRequest {
                domain: world.ceremony.domain,
                nodes,
                operator,
                opens: Epoch(opens),
                abort_after: window.map(|window| Epoch(opens.saturating_add(window))),
                not_after: Epoch(opens.saturating_add(u64::from(epochs))),
                nonce: world.nonce(),
            };
            // Whoever plans by hand need not name a deadline.
            let by_hand = expires && world.chance(500);
            draw_up(&world, &request, by_hand)?
        };
        let proposal = lock(&self.world).ceremony.proposal(&plan);
        publish(&mut lock(&self.world), &proposal)?;
        self.approve(&plan)?;
        Ok(plan)
    }

    /// An operator calls the plan off: at any moment, or because nothing else ends it.
    fn called_off(&mut self, scenario: Scenario, defect: Option<Defect>, plan: PlanDigest) {
        let late = match (scenario, defect) {
            (Scenario::MigrationAbort, _) => 0,
            // Nobody notices these two but people: nothing is closed yet.
            (Scenario::MigrationSilent, _) | (_, Some(Defect::OtherParty)) => FAULTY_ROUNDS / 2,
            _ => return,
        };
        let mut world = lock(&self.world);
        let at = self.rounds.saturating_add(late).saturating_add(world.below(FAULTY_ROUNDS));
        self.pending.push_back((at, world.ceremony.abort(plan)));
    }

    /// Whom the plan asks, and when they will agree.
    fn ask(&mut self, scenario: Scenario, plan: &Plan) {
        let mut world = lock(&self.world);
        let count = u32::try_from(plan.nodes.len()).unwrap_or(1);
        let silent = usize::try_from(world.below(count)).unwrap_or(0);
        self.consents.clear();
        for (place, node) in plan.nodes.iter().enumerate() {
            let Some(operator) = world.judge.node(node).map(|it| it.operator.clone()) else {
                continue;
            };
            let late = self.rounds.saturating_add(world.below(FAULTY_ROUNDS / 2));
            let never = scenario == Scenario::MigrationSilent && place == silent;
            let joint = scenario == Scenario::MigrationJoint;
            // The last of them comes when everybody else has waited for long.
            let last = joint && place.saturating_add(1) == plan.nodes.len();
            let from = late.saturating_add(if last { FAULTY_ROUNDS } else { 0 });
            let impostors = if joint { IMPOSTORS } else { WRONG_AGREEMENTS };
            self.consents.push(Consent { operator, impostors, from: (!never).then_some(from) });
        }
    }

    /// Operators agree to the map as soon as it is whole, and now and then to something else,
    /// which must not count.
    pub(super) fn agree(&self) -> Result<(), Failure> {
        let mut world = lock(&self.world);
        let Some(plan) = world.exchange.plan else { return Ok(()) };
        for consent in &self.consents {
            let map = world.judge.plan(&plan).and_then(|plan| plan.settled_map().ok());
            if world.chance(WRONG_AGREEMENTS) {
                let wrong = PartyMapDigest::new(*world.nonce().as_bytes());
                let envelope = agreement(&world, plan, consent, wrong);
                if world.publish(&envelope).is_ok() {
                    return Err(Failure::Plan("a map that nobody stated was agreed to".to_owned()));
                }
            }
            if let Some(map) = map.filter(|_| world.chance(consent.impostors)) {
                speaks_for(&mut world, plan, consent, map)?;
            }
            let due = consent.from.is_some_and(|from| from <= self.rounds);
            if let Some(map) = map.filter(|_| due)
                && !has_agreed(&world, &plan, &consent.operator)
            {
                let envelope = agreement(&world, plan, consent, map);
                if let Err(refusal) = world.publish(&envelope) {
                    world.note(|| format!("an operator may not agree: {refusal}"));
                }
            }
        }
        Ok(())
    }

    /// In the end every node has one participant that takes part: the right one, and for good.
    fn all_at_rest(&mut self, status: PlanStatus) -> Result<(), Failure> {
        let limit = self.rounds.saturating_add(LIVENESS_ROUNDS_MAX);
        loop {
            let wrong = {
                let world = lock(&self.world);
                let mut pairs = world.pairs();
                pairs.find(|(_, pair)| !rests(pair, status)).map(|(node, pair)| {
                    format!("{node}: {:?}, {:?}", pair.source.lines, pair.target.lines)
                })
            };
            match wrong {
                None => return Ok(()),
                Some(wrong) if self.rounds > limit => return Err(Failure::Stuck(wrong)),
                Some(_) => self.round()?,
            }
        }
    }
}

fn rests(pair: &Pair, status: PlanStatus) -> bool {
    let on = |server: &Server| {
        server.lines.values().all(|line| line.link == Link::Connected) && server.down == 0
    };
    let by_itself =
        |server: &Server| server.lines.values().all(|line| line.restart == Restart::Automatic);
    if status == PlanStatus::Finished {
        return on(&pair.target) && by_itself(&pair.target) && pair.source.is_off();
    }
    let as_before =
        pair.folders.values().filter_map(|folder| folder.before.as_ref()).all(|before| {
            before.iter().all(|(name, (_, restart))| {
                pair.source.lines.get(name).is_some_and(|line| line.restart == *restart)
            })
        });
    on(&pair.source) && as_before && pair.target.contracts.is_empty()
}

/// What can never succeed must not, and what nothing stands in the way of must.
fn ends_as_it_must(
    scenario: Scenario,
    defect: Option<Defect>,
    status: PlanStatus,
) -> Result<(), Failure> {
    let harmless = matches!(defect, None | Some(Defect::Reconnects | Defect::PutsBack));
    let hopeless = scenario == Scenario::MigrationSilent || !harmless;
    if hopeless && status == PlanStatus::Finished {
        return Err(Failure::Stuck(format!("a migration finished that could not: {defect:?}")));
    }
    // Faults are over when the last operator agrees, and nothing is closed before.
    if scenario == Scenario::MigrationJoint && status != PlanStatus::Finished {
        return Err(Failure::Stuck("two operators who agree do not come to move".to_owned()));
    }
    Ok(())
}

fn has_agreed(world: &World, plan: &PlanDigest, operator: &OperatorId) -> bool {
    world.judge.plan(plan).is_some_and(|plan: &PlanState| plan.agreements().contains_key(operator))
}

fn agreement(world: &World, plan: PlanDigest, consent: &Consent, map: PartyMapDigest) -> Envelope {
    let network = world.ceremony.network;
    let agreement = MapAgreement { network, plan, operator: consent.operator.clone(), map };
    Envelope::signed(&agreement, world.ceremony.operator_key(&consent.operator))
}

/// Every other operator tries to agree in the name of this one, to the very map.
fn speaks_for(
    world: &mut World,
    plan: PlanDigest,
    consent: &Consent,
    map: PartyMapDigest,
) -> Result<(), Failure> {
    let network = world.ceremony.network;
    let agreement = MapAgreement { network, plan, operator: consent.operator.clone(), map };
    let own = world.ceremony.operator_key(&consent.operator).map(SigningKey::public_key);
    let ceremony = Arc::clone(&world.ceremony);
    for other in ceremony.operator_keys.iter().filter(|key| Some(key.public_key()) != own) {
        if world.publish(&Envelope::signed(&agreement, [other])).is_ok() {
            let who = &consent.operator;
            return Err(Failure::Plan(format!("somebody else agreed for {who}")));
        }
    }
    Ok(())
}

/// Plans and checks.
fn draw_up(world: &World, request: &MigrationRequest, by_hand: bool) -> Result<Plan, Failure> {
    let (mut plan, _report) = migration::plan(request, &world.judge)
        .map_err(|error| Failure::Plan(format!("{error}: {}", error.hint())))?;
    if by_hand && let Some(change) = &mut plan.participant {
        change.abort_after = None;
    }
    let findings = heirloom_upgrade::checker::check(&plan, &world.judge);
    if findings.is_empty() { Ok(plan) } else { Err(Failure::Plan(format!("{findings:?}"))) }
}

/// What is wrong with one node in this run.
fn draw_defect(world: &mut World, scenario: Scenario) -> Option<Defect> {
    let mishaps = [Defect::RefusesImport, Defect::PutsBack, Defect::Reconnects, Defect::OtherParty];
    let defect = match scenario {
        Scenario::MigrationDiffers => Defect::OtherIds,
        Scenario::MigrationMishap => mishaps[usize::try_from(world.below(4)).unwrap_or(0)],
        _ => return None,
    };
    let count = u32::try_from(world.nodes.len()).unwrap_or(1);
    let index = usize::try_from(world.below(count)).unwrap_or(0);
    let pair = world.nodes.values_mut().nth(index).and_then(|node| node.pair.as_mut())?;
    pair.defect = Some(defect);
    if defect == Defect::OtherParty {
        let namespace = pair.source.participant.as_ref()?.namespace();
        let party = PartyId::new("zoe", &namespace).ok()?;
        pair.source.parties.insert(party);
    }
    Some(defect)
}

/// Every node gets a participant with contracts, alone and with everybody else, and an empty one.
fn begin(world: &mut World) {
    let synchronizers = 1 + usize::from(world.chance(400));
    world.exchange.synchronizers = (0..synchronizers)
        .map(|index| format!("sync{index}::1220dd").parse().expect("it is a name"))
        .collect();
    let names: Vec<NodeId> = world.nodes.keys().cloned().collect();
    for name in &names {
        let by_hand = world.chance(200);
        let lines: BTreeMap<SynchronizerId, Line> = world
            .exchange
            .synchronizers
            .iter()
            .map(|known| {
                let restart = if by_hand { Restart::Manual } else { Restart::Automatic };
                (known.clone(), Line { restart, ..Line::ON })
            })
            .collect();
        let namespace = format!("1220aa{}", name.as_str().replace("node-", "000"));
        let parse = |what: &str| format!("{what}::{namespace}");
        let participant: ParticipantId = parse("source").parse().expect("it is a name");
        let parties: BTreeSet<PartyId> =
            ["alice", "bob"].map(|it| parse(it).parse().expect("it is a name")).into();
        let mut source = Server::new(Some(participant), parties);
        (source.packages, source.lines) = ((0..3).collect(), lines);
        let node = world.node(name);
        // No keeper runs here.
        (node.disk.installed, node.disk.staged) = (None, BTreeSet::new());
        node.pair = Some(Pair {
            source,
            target: Server::new(None, BTreeSet::new()),
            folders: BTreeMap::new(),
            defect: None,
        });
    }
    for first in &names {
        for second in names.iter().filter(|second| *second >= first) {
            first_contract(world, [first, second]);
        }
    }
    world.keep_contracts();
}

fn first_contract(world: &mut World, nodes: [&NodeId; 2]) {
    let party = |node: &NodeId| world.pair(node)?.source.parties.first().cloned();
    let stakeholders: BTreeSet<PartyId> = nodes.into_iter().filter_map(party).collect();
    let Some(synchronizer) = world.any_synchronizer() else { return };
    let (id, contract) = (world.number(), Contract { synchronizer, stakeholders });
    world.exchange.old.insert(id.clone(), contract.clone());
    for node in BTreeSet::from(nodes) {
        if let Ok(pair) = world.pair_mut(node) {
            pair.source.contracts.insert(id.clone(), contract.clone());
        }
    }
}
