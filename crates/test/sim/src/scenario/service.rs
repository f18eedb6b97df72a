//! Flag days: the service of all nodes moves to new code at once, while clients pay; and restarts,
//! which need none.

use std::sync::Arc;

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::digest::{PlanDigest, ReleaseDigest};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::Plan;
use heirloom_model::policy::Policy;
use heirloom_model::release::Release;
use heirloom_model::service::{Admission, Writing};
use heirloom_registry::plan::{PlanState, PlanStatus};
use heirloom_testkit::ceremony::{Ceremony, Code};
use heirloom_testkit::service;
use heirloom_upgrade::planner::{Arrangement, FlagDayRequest, PlanRequest};

use super::{Failure, LIVENESS_ROUNDS_MAX, Run, Scenario, Weather, publish};
use crate::invariant_service;
use crate::service::{Flaw, SimService};
use crate::world::{Faults, SimNode, World, lock};

/// Ticks with faults.
const FAULTY_ROUNDS: u32 = 1_200;
/// Epochs of a window that everybody can keep, and of one that is too short for most.
const WINDOW_EPOCHS: u64 = 45;
const SHORT_WINDOW_EPOCHS: u32 = 10;
/// Ticks with payments before anybody plans.
const PEACE_ROUNDS: u32 = 60;

/// The code of these scenarios, and what was signed for it.
struct Cast {
    keeper: (Code, ReleaseDigest),
    from: (Code, Release),
    to: (Code, Release),
}

/// What goes wrong in a run, besides faults.
#[derive(Default)]
struct Hazards {
    absence: Option<Absence>,
    /// Somebody gives processes of a node another configuration from this round on.
    configuration: Option<(u32, NodeId)>,
    /// In this round every agent is killed, one after the other.
    sweep: Option<u32>,
}

/// An operator who is away.
struct Absence {
    node: NodeId,
    from: u32,
    /// None: until everybody else has come to an end.
    until: Option<u32>,
    /// The machine is off, not only its agent.
    machine: bool,
}

impl Cast {
    fn new(scenario: Scenario, ceremony: &Ceremony) -> Self {
        let keeper = Code::named("keeper-1", 1);
        let old = Code::application("ledger-1", 1);
        let new = match scenario {
            Scenario::Restart => old,
            _ => Code::application("ledger-2", 1),
        };
        let digest = ceremony.release_of("keeper-1", &keeper).digest();
        Self {
            keeper: (keeper, digest),
            from: (old, ceremony.release_of("ledger-1.0.0", &old)),
            to: (new, ceremony.release_of("ledger-2.0.0", &new)),
        }
    }

    fn policy(&self, ceremony: &Ceremony) -> Policy {
        let mut policy = ceremony.policy_of(Serial(1), &[self.keeper.0], &[]);
        Ceremony::admit(&mut policy, service::APPLICATION, &self.from.0);
        if self.from.0 != self.to.0 {
            Ceremony::admit(&mut policy, service::APPLICATION, &self.to.0);
        }
        policy
    }
}

impl Run {
    pub(super) fn play_service(&mut self, scenario: Scenario) -> Result<PlanStatus, Failure> {
        let cast = Cast::new(scenario, &Arc::clone(&lock(&self.world).ceremony));
        self.found_service(&cast)?;
        self.genesis()?;
        self.begin_service(&cast)?;
        let plan = self.propose_service(scenario, &cast)?;
        let digest = plan.digest();
        lock(&self.world).market.plan = Some(digest);
        if self.is_called_off(scenario) {
            let at = lock(&self.world).below(FAULTY_ROUNDS);
            let abort = lock(&self.world).ceremony.abort(digest);
            self.pending.push_back((self.rounds.saturating_add(at), abort));
        }
        let hazards = self.hazards(scenario);
        self.faulty_service(&hazards)?;
        if let Some(away) = hazards.absence.filter(|away| away.until.is_none()) {
            self.others_serve(digest, &away.node)?;
            lock(&self.world).node(&away.node).absent = false;
        }
        self.repair();
        let status = self.settle(digest)?;
        let expected = if status == PlanStatus::Finished { cast.to.0 } else { cast.from.0 };
        self.everybody_serves_clients(expected.measurement)?;
        never_finishes(scenario, status)?;
        Ok(status)
    }

    fn is_called_off(&self, scenario: Scenario) -> bool {
        match scenario {
            Scenario::FlagDayAbort => true,
            Scenario::Restart => lock(&self.world).chance(300),
            _ => false,
        }
    }

    /// Publishes what a network with a service begins with.
    fn found_service(&self, cast: &Cast) -> Result<(), Failure> {
        let mut world = lock(&self.world);
        let ceremony = Arc::clone(&world.ceremony);
        for code in [cast.keeper.0, cast.from.0, cast.to.0] {
            world.code.insert(code.measurement, code);
        }
        for envelope in [
            ceremony.root(),
            ceremony.epoch(Epoch(1)),
            ceremony.fleet(Serial(1), ceremony.nodes(world.nodes.len())),
            ceremony.endorsements(),
            ceremony.release("keeper-1", &cast.keeper.0).0,
            ceremony.release("ledger-1.0.0", &cast.from.0).0,
            ceremony.release("ledger-2.0.0", &cast.to.0).0,
            ceremony.policy(&cast.policy(&ceremony)),
        ] {
            publish(&mut world, &envelope)?;
        }
        Ok(())
    }

    /// The old service starts everywhere, and clients come.
    fn begin_service(&mut self, cast: &Cast) -> Result<(), Failure> {
        let code = cast.from.0.measurement;
        {
            let mut world = lock(&self.world);
            for node in world.nodes.values_mut() {
                node.service = Some(SimService::new(code));
            }
            world.market.from = Some(code);
            world.market.to = Some(cast.to.0.measurement);
            world.market.pays = true;
        }
        for _ in 0..PEACE_ROUNDS {
            self.round()?;
        }
        Ok(())
    }

    /// Plans, checks, proposes; operators approve, late.
    fn propose_service(&mut self, scenario: Scenario, cast: &Cast) -> Result<Plan, Failure> {
        let request = {
            let mut world = lock(&self.world);
            let epoch = world.judge.epoch().0;
            let opens = epoch.saturating_add(u64::from(world.below(4)));
            let window = match scenario {
                Scenario::FlagDayDeadline => u64::from(world.below(SHORT_WINDOW_EPOCHS)),
                _ => WINDOW_EPOCHS,
            };
            let rehearsals = u32::from(world.chance(500));
            let terms = service::terms(&cast.from.1, &cast.to.1);
            if rehearsals > 0 {
                let rehearsal = world.ceremony.rehearsal(terms.digest(), 0);
                let at = self.rounds.saturating_add(world.below(200));
                self.pending.push_back((at, rehearsal));
            }
            PlanRequest {
                domain: world.ceremony.domain,
                from: cast.keeper.1,
                to: cast.keeper.1,
                arrangement: Arrangement::FlagDay(FlagDayRequest {
                    application: service::application(),
                    from: cast.from.1.digest(),
                    to: cast.to.1.digest(),
                    terms,
                    opens: Epoch(opens),
                    abort_after: Epoch(opens.saturating_add(window)),
                    rehearsals,
                    stages: Vec::new(),
                    withdraw: None,
                }),
                not_after: Epoch(epoch.saturating_add(10_000)),
                nonce: world.nonce(),
            }
        };
        let plan = self.draw_up_service(&request)?;
        let proposal = lock(&self.world).ceremony.proposal(&plan);
        publish(&mut lock(&self.world), &proposal)?;
        self.approve(&plan)?;
        Ok(plan)
    }

    /// Plans and checks. A flag day without a rehearsal is warned of, and may be wanted.
    fn draw_up_service(&self, request: &PlanRequest) -> Result<Plan, Failure> {
        use heirloom_upgrade::{checker, planner};
        let world = lock(&self.world);
        let (plan, _report) = planner::plan(request, &world.judge)
            .map_err(|error| Failure::Plan(error.to_string()))?;
        let findings = checker::check(&plan, &world.judge);
        let wrong = findings.iter().find(|found| found.severity() != checker::Severity::Warning);
        match wrong {
            None => Ok(plan),
            Some(_) => Err(Failure::Plan(format!("{findings:?}"))),
        }
    }

    fn any_node(&self) -> NodeId {
        let mut world = lock(&self.world);
        let count = u32::try_from(world.nodes.len()).unwrap_or(1);
        let index = usize::try_from(world.below(count)).unwrap_or(0);
        world.nodes.keys().nth(index).cloned().expect("the index is below the number of nodes")
    }

    /// What goes wrong in this run.
    fn hazards(&self, scenario: Scenario) -> Hazards {
        let node = self.any_node();
        let soon = |most: u32| self.rounds.saturating_add(lock(&self.world).below(most));
        let mut hazards = Hazards::default();
        let mut flaw = None;
        match scenario {
            Scenario::FlagDay | Scenario::Restart => {
                let sweeps = lock(&self.world).chance(400);
                hazards.sweep = sweeps.then(|| soon(FAULTY_ROUNDS));
            }
            Scenario::FlagDayAbsent => {
                let (from, lasts) = (soon(FAULTY_ROUNDS / 2), lock(&self.world).below(900));
                let (good, machine) = {
                    let mut world = lock(&self.world);
                    (world.chance(500), world.chance(500))
                };
                let until = (!good).then(|| from.saturating_add(lasts));
                hazards.absence = Some(Absence { node: node.clone(), from, until, machine });
            }
            Scenario::FlagDayConfiguration => {
                hazards.configuration = Some((soon(FAULTY_ROUNDS / 2), node.clone()));
            }
            Scenario::FlagDayBadData => flaw = Some(Flaw::BadData),
            Scenario::FlagDayLiar => {
                let lies = lock(&self.world).chance(500);
                flaw = Some(if lies { Flaw::Lies } else { Flaw::Tampers });
            }
            _ => {}
        }
        if let Ok(service) = lock(&self.world).service_mut(&node) {
            service.flaw = flaw;
        }
        hazards
    }

    /// The safety phase.
    fn faulty_service(&mut self, hazards: &Hazards) -> Result<(), Failure> {
        let faults = Faults::draw(&mut lock(&self.world));
        lock(&self.world).faults = faults;
        for _ in 0..FAULTY_ROUNDS {
            self.disturb(Weather::CHANGING);
            strike(&mut lock(&self.world), hazards, self.rounds);
            self.round()?;
        }
        let mut world = lock(&self.world);
        world.faults = Faults::NONE;
        let for_good =
            hazards.absence.as_ref().filter(|away| away.until.is_none()).map(|away| &away.node);
        for (name, node) in &mut world.nodes {
            if Some(name) != for_good {
                (node.partitioned, node.absent) = (false, false);
            }
        }
        Ok(())
    }

    /// Somebody repairs what is wrong: faults are over.
    fn repair(&self) {
        let mut world = lock(&self.world);
        for node in world.nodes.values_mut() {
            node.partitioned = false;
            let Some(service) = &mut node.service else { continue };
            if service.flaw == Some(Flaw::Configuration) {
                (service.flaw, service.instance) = (None, None);
            }
        }
    }

    /// Who is away must not keep the others closed, unless the plan is committed to.
    fn others_serve(&mut self, plan: PlanDigest, away: &NodeId) -> Result<(), Failure> {
        let limit = self.rounds.saturating_add(LIVENESS_ROUNDS_MAX);
        loop {
            let status = lock(&self.world).judge.plan(&plan).map(PlanState::status);
            let expected = match status {
                Some(PlanStatus::RollingBack | PlanStatus::RolledBack) => {
                    lock(&self.world).market.from
                }
                Some(PlanStatus::Finished) => lock(&self.world).market.to,
                // There is only forward, and the stages of the plan decide who comes when.
                Some(PlanStatus::PastNoReturn) => return Ok(()),
                Some(_) | None => None,
            };
            if let Some(code) = expected
                && self.all_serve_clients(code, Some(away))
            {
                return Ok(());
            }
            if self.rounds > limit {
                let text = self.describe(&plan);
                return Err(Failure::Stuck(format!("without {away}: {text}, {}", self.services())));
            }
            self.round()?;
        }
    }

    /// In the end everybody serves clients with this code, and all ledgers are the same.
    fn everybody_serves_clients(&mut self, code: Measurement) -> Result<(), Failure> {
        let limit = self.rounds.saturating_add(LIVENESS_ROUNDS_MAX);
        lock(&self.world).market.pays = false;
        let same = |run: &Self| invariant_service::same(&lock(&run.world));
        while !self.all_serve_clients(code, None) || same(self).is_err() {
            if self.rounds > limit {
                let text = format!("not everybody serves: {}", self.services());
                return Err(Failure::Stuck(text));
            }
            self.round()?;
        }
        invariant_service::whole(&lock(&self.world))?;
        Ok(())
    }

    fn all_serve_clients(&self, code: Measurement, except: Option<&NodeId>) -> bool {
        let world = lock(&self.world);
        let serves = |node: &SimNode| {
            node.service.as_ref().is_some_and(|service| {
                let instance = service.instance.as_ref();
                service.lets_in()
                    && service.kept.installed == code
                    && instance.is_some_and(|it| it.code == code && it.writing == Writing::Active)
            })
        };
        world.nodes.iter().all(|(name, node)| Some(name) == except || serves(node))
    }

    /// Every service, for people.
    fn services(&self) -> String {
        let world = lock(&self.world);
        let describe = |(name, it): (&NodeId, &SimService)| {
            let instance = it.instance.as_ref();
            let instance =
                instance.map(|it| (it.code, it.admission, it.writing, it.loaded, it.fork));
            let (tip, desired) = (it.kept.database().chain.tip(), it.kept.desired);
            format!("{name}: {instance:?}, {:?}, tip {tip}, {desired:?}", it.edge)
        };
        world.services().map(describe).collect::<Vec<_>>().join("; ")
    }
}

/// What can never succeed must not.
fn never_finishes(scenario: Scenario, status: PlanStatus) -> Result<(), Failure> {
    let hopeless = matches!(scenario, Scenario::FlagDayBadData | Scenario::FlagDayLiar);
    if hopeless && status == PlanStatus::Finished {
        return Err(Failure::Stuck("a flag day finished that could not".to_owned()));
    }
    Ok(())
}

/// What is due in a round.
fn strike(world: &mut World, hazards: &Hazards, round: u32) {
    if let Some(away) = &hazards.absence {
        let gone = away.from <= round && away.until.is_none_or(|until| round < until);
        let edge = world.any_edge();
        let node = world.node(&away.node);
        node.absent = gone;
        if gone && away.machine {
            node.partitioned = true;
            node.processes.clear();
            if let Some(service) = &mut node.service {
                service.power_failed(edge);
            }
        }
    }
    if let Some((_, node)) = hazards.configuration.as_ref().filter(|(from, _)| *from <= round)
        && let Ok(service) = world.service_mut(node)
    {
        service.flaw = Some(Flaw::Configuration);
    }
    if let Some(first) = hazards.sweep
        && let Some(place) = round.checked_sub(first).and_then(|it| usize::try_from(it).ok())
        && let Some(name) = world.nodes.keys().nth(place / 4).cloned()
    {
        world.node(&name).agent_down = true;
    }
    tamper(world);
}

/// Somebody changes a migrated copy while nothing runs on it.
fn tamper(world: &mut World) {
    for node in world.nodes.values_mut() {
        let Some(service) = node.service.as_mut().filter(|it| it.flaw == Some(Flaw::Tampers))
        else {
            continue;
        };
        let copied = service.kept.live.is_some() && service.instance.is_none();
        if copied && service.kept.desired.admission == Admission::Closed {
            service.kept.database_mut().chain.tamper();
            service.flaw = None;
        }
    }
}
