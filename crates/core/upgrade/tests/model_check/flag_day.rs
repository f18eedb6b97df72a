//! The flag day of a small network: no fork, no payment lost, no two versions that serve clients,
//! and an abort that always ends where it began.

use std::num::NonZeroUsize;

use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action as Deed, Gate, Plan, ServiceAction, Step, StepId};
use heirloom_upgrade::planner;
use stateright::{Checker, Model, Property};

use crate::common;
use crate::record::{Record, Steps};

/// Nodes of the network.
const NODES: usize = 3;
/// Payments that clients make in one history.
const PAYMENTS_MAX: u8 = 2;
/// Times that a service dies in one history.
const DEATHS_MAX: u8 = 1;

/// Which version.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Version {
    Old,
    New,
}

/// One node's service, ledger and proxy.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Node {
    runs: Option<Version>,
    installed: Version,
    /// Whether it promised to append nothing.
    frozen: bool,
    /// Whether clients reach it: proxy and node.
    admits: bool,
    /// Payments in the original ledger.
    original: u8,
    /// Payments in the migrated copy, if that is the live ledger.
    migrated: Option<u8>,
    /// What it stated when it froze.
    stated: Option<u8>,
    snapshot: Option<u8>,
    /// Whether its agent knows that the plan is called off.
    knows: bool,
}

impl Node {
    fn live(&self) -> u8 {
        self.migrated.unwrap_or(self.original)
    }

    fn append(&mut self, height: u8) {
        match &mut self.migrated {
            Some(live) => *live = height,
            None => self.original = height,
        }
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    record: Record,
    /// Steps whose effect an agent has made and journaled.
    journal: Steps,
    nodes: [Node; NODES],
    /// Payments that clients were told are made.
    accepted: u8,
    deaths: u8,
    /// The version that took the last payment.
    served: Version,
    harm: Option<Harm>,
}

/// What may never happen.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Harm {
    /// A payment was accepted on top of a ledger that lacks an earlier one.
    Lost,
    /// The old version took a payment after the new one had.
    Fork,
    /// The new version took a payment before everybody was committed to it.
    TooEarly,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    /// An agent carries out its next step, and journals it.
    Carry(usize),
    /// An agent reports its next step.
    Report(usize),
    /// An agent reads the log to its end.
    Read(usize),
    /// Somebody calls the plan off.
    Abort,
    /// A client pays through a node.
    Pay(usize),
    /// A service dies and is started again.
    Die(usize),
}

struct Network {
    plan: Plan,
}

impl Network {
    fn of(plan: Plan) -> Self {
        assert_eq!(plan.nodes.len(), NODES);
        Self { plan }
    }

    fn name(&self, node: usize) -> &NodeId {
        &self.plan.nodes[node]
    }

    /// The step that an agent works on, by what it knows.
    fn next(&self, world: &World, node: usize) -> Option<&Step> {
        let own = |step: &Step| step.node == *self.name(node);
        Self::view(world, node).next(&self.plan, own, world.nodes[node].knows)
    }

    /// The log as an agent has read it.
    fn view(world: &World, node: usize) -> Record {
        if world.nodes[node].knows { world.record } else { world.record.until_abort() }
    }

    fn is_ready(&self, world: &World, node: usize, step: &Step) -> bool {
        Self::view(world, node).is_open(&self.plan, step) && self.agrees(world, step)
    }

    /// Whether the services stated the same, where a step asks for it.
    fn agrees(&self, world: &World, step: &Step) -> bool {
        let freezes = |id: StepId| {
            let step = self.plan.step(id);
            step.is_some_and(|step| matches!(step.action, Deed::Service(ServiceAction::Freeze(_))))
        };
        let asks = |gate: &Gate| matches!(gate, Gate::Agreed { first, .. } if freezes(*first));
        !step.gates.iter().any(asks)
            || world.nodes.iter().all(|node| node.stated == world.nodes[0].stated)
    }

    /// What a step does to its node; nothing if the node refuses.
    fn effect(&self, world: &mut World, index: usize, action: &Deed) -> bool {
        let quiet = world.nodes.iter().all(|node| {
            node.runs != Some(Version::Old) || {
                // A node that lags has not heard of the last block yet.
                node.original == world.nodes[index].original
            }
        });
        let node = &mut world.nodes[index];
        let version = |placement: &heirloom_model::plan::Placement| {
            let change = self.plan.service.as_ref().expect("the plan changes a service");
            if placement.measurement == change.to.measurement { Version::New } else { Version::Old }
        };
        let Deed::Service(action) = action else { return true };
        match action {
            ServiceAction::Fence(_) => node.admits = false,
            ServiceAction::Freeze(_) => {
                if node.admits || !quiet || node.runs != Some(Version::Old) {
                    return false;
                }
                node.frozen = true;
                node.stated = Some(node.original);
            }
            ServiceAction::Halt(code) if node.runs == Some(version(code)) => {
                node.runs = None;
                node.frozen = false;
            }
            ServiceAction::Snapshot => {
                if node.stated != Some(node.live()) {
                    return false;
                }
                node.snapshot = Some(node.live());
            }
            ServiceAction::Migrate if node.migrated.is_none() => {
                if node.snapshot != Some(node.original) {
                    return false;
                }
                node.migrated = Some(node.original);
            }
            ServiceAction::Revert => node.migrated = None,
            ServiceAction::Deploy { install, .. } => node.installed = version(install),
            ServiceAction::Launch(code) => {
                let wanted = version(code);
                if node.runs == Some(wanted) {
                    return true;
                }
                if node.runs.is_some() || node.installed != wanted {
                    return false;
                }
                if wanted == Version::New && node.stated != Some(node.live()) {
                    return false;
                }
                node.runs = Some(wanted);
            }
            ServiceAction::Open(code) => {
                if node.runs != Some(version(code)) {
                    return false;
                }
                node.frozen = false;
                node.admits = true;
            }
            _ => {}
        }
        true
    }

    /// A client pays through a node: its version needs a majority of the network.
    fn pay(&self, world: &mut World, index: usize) {
        let Some(version) = world.nodes[index].runs.filter(|_| world.nodes[index].admits) else {
            return;
        };
        let takes_part = |node: &Node| node.runs == Some(version) && !node.frozen;
        if !takes_part(&world.nodes[index]) {
            return;
        }
        let group: Vec<usize> = (0..NODES).filter(|it| takes_part(&world.nodes[*it])).collect();
        if group.len() * 2 <= NODES {
            return;
        }
        let height = group.iter().map(|it| world.nodes[*it].live()).max().unwrap_or(0);
        if height < world.accepted {
            world.harm = Some(Harm::Lost);
        }
        match (version, world.served) {
            (Version::Old, Version::New) => world.harm = Some(Harm::Fork),
            (Version::New, _) if !world.record.is_past_no_return(&self.plan) => {
                world.harm = Some(Harm::TooEarly);
            }
            _ => {}
        }
        for member in group {
            world.nodes[member].append(height + 1);
        }
        world.accepted += 1;
        world.served = version;
    }

    /// Whether nothing but clients and accidents can move the world any more.
    fn rests(&self, world: &World) -> bool {
        let over = world.record.is_finished(&self.plan) || world.record.is_rolled_back(&self.plan);
        let informed = world.record.aborted.is_none() || world.nodes.iter().all(|node| node.knows);
        over && informed
    }
}

impl Model for Network {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let node = Node {
            runs: Some(Version::Old),
            installed: Version::Old,
            frozen: false,
            admits: true,
            original: 0,
            migrated: None,
            stated: None,
            snapshot: None,
            knows: false,
        };
        vec![World {
            record: Record::default(),
            journal: Steps::default(),
            nodes: [node; NODES],
            accepted: 0,
            deaths: 0,
            served: Version::Old,
            harm: None,
        }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        if world.record.aborted.is_none() && !world.record.is_past_no_return(&self.plan) {
            events.push(Event::Abort);
        }
        for node in 0..NODES {
            match self.next(world, node) {
                Some(step) if world.journal.has(step.id) => events.push(Event::Report(node)),
                Some(step) if self.is_ready(world, node, step) => events.push(Event::Carry(node)),
                Some(_) | None => {}
            }
            if world.record.aborted.is_some() && !world.nodes[node].knows {
                events.push(Event::Read(node));
            }
            if world.accepted < PAYMENTS_MAX {
                events.push(Event::Pay(node));
            }
            if world.deaths < DEATHS_MAX && world.nodes[node].runs.is_some() {
                events.push(Event::Die(node));
            }
        }
    }

    fn next_state(&self, before: &World, event: Event) -> Option<World> {
        let mut world = before.clone();
        match event {
            Event::Carry(node) => {
                let step = self.next(before, node)?;
                if self.effect(&mut world, node, &step.action) {
                    world.journal.add(step.id);
                }
            }
            Event::Report(node) => {
                // Who appends has read the log to its end.
                let step = self.next(before, node)?;
                world.record.report(&self.plan, step);
                world.nodes[node].knows = world.record.aborted.is_some();
            }
            Event::Read(node) => world.nodes[node].knows = true,
            Event::Abort => world.record.abort(&self.plan, |step| self.agrees(before, step)),
            Event::Pay(node) => self.pay(&mut world, node),
            Event::Die(node) => {
                // What it promised dies with it; what it admits is its agent's to say.
                world.nodes[node].frozen = false;
                world.deaths += 1;
            }
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no fork, no loss, nothing too early", |_, world: &World| {
                world.harm.is_none()
            }),
            Property::always("no two versions admit clients", |_, world: &World| {
                let serves = |version| {
                    let serving = |node: &Node| node.admits && node.runs == Some(version);
                    world.nodes.iter().any(serving)
                };
                let old_can = {
                    let takes_part = |node: &&Node| node.runs == Some(Version::Old) && !node.frozen;
                    world.nodes.iter().filter(takes_part).count() * 2 > NODES
                };
                !(serves(Version::New) && serves(Version::Old) && old_can)
            }),
            Property::always("an abort ends where it began", |network: &Self, world: &World| {
                let is_back = |node: &Node| {
                    node.runs == Some(Version::Old)
                        && node.installed == Version::Old
                        && node.admits
                        && !node.frozen
                        && node.migrated.is_none()
                };
                !(network.rests(world) && world.record.aborted.is_some())
                    || world.nodes.iter().all(is_back)
            }),
            Property::always("a finished day is everywhere", |network: &Self, world: &World| {
                let is_new = |node: &Node| {
                    node.runs == Some(Version::New) && node.admits && node.migrated.is_some()
                };
                !world.record.is_finished(&network.plan) || world.nodes.iter().all(is_new)
            }),
            Property::always("nobody waits for ever", |network: &Self, world: &World| {
                let mut events = Vec::new();
                network.actions(world, &mut events);
                let moves = |event: &Event| match event {
                    Event::Carry(_) => network.next_state(world, *event).is_some(),
                    Event::Report(_) | Event::Read(_) | Event::Abort => true,
                    Event::Pay(_) | Event::Die(_) => false,
                };
                network.rests(world) || events.iter().any(moves)
            }),
            Property::sometimes("a flag day is finished", |network: &Self, world: &World| {
                world.record.is_finished(&network.plan)
            }),
            Property::sometimes(
                "a flag day is rolled back from the end",
                |network: &Self, world: &World| {
                    let exercised = |step: &&Step| {
                        matches!(step.action, Deed::Service(ServiceAction::Exercise(_)))
                    };
                    let mut all = network.plan.steps.iter().filter(exercised);
                    world.record.is_rolled_back(&network.plan)
                        && all.all(|step| world.record.done.has(step.id))
                },
            ),
            Property::sometimes("the new version serves clients", |_, world: &World| {
                world.served == Version::New
            }),
        ]
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn plan() -> Plan {
    let request = common::flag_day(common::wish());
    let inventory = common::served(NODES, 1);
    let (plan, _report) = planner::plan_from(&request, &inventory).expect("there is a plan");
    plan
}

#[test]
fn no_order_of_events_forks_loses_or_strands_a_flag_day() {
    let checker = Network::of(plan()).checker().threads(threads()).spawn_bfs().join();
    checker.assert_properties();
}

/// The model can see what it looks for: with a barrier taken away, something it forbids happens.
#[test]
fn without_one_of_its_barriers_a_flag_day_comes_to_harm() {
    type Names = fn(&Deed) -> bool;
    let barriers: [(&str, Names); 2] = [
        ("freeze before all are fenced", |action| {
            matches!(action, Deed::Service(ServiceAction::Freeze(_)))
        }),
        ("open before the commit", |action| {
            matches!(action, Deed::Service(ServiceAction::Open(_)))
        }),
    ];
    for (what, names) in barriers {
        let mut plan = plan();
        for step in plan.steps.iter_mut().filter(|step| names(&step.action)) {
            step.gates.clear();
        }
        let checker = Network::of(plan).checker().threads(threads()).spawn_bfs().join();
        assert!(!checker.discoveries().is_empty(), "{what}");
        let harmful = checker.discoveries().keys().any(|name| !name.contains("flag day is"));
        assert!(harmful, "{what}: {:?}", checker.discoveries().keys());
    }
}
