//! The handover of an exclusive domain on one host: never two instances that answer, never no
//! copy, and an abort that ends where it began. Somebody may start a copy of the old files.

use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action as Deed, KeyringGround, Placement, Plan, Step};
use heirloom_model::policy::Sharing;
use heirloom_upgrade::planner;
use stateright::{Checker, Model, Property};

use crate::common;
use crate::record::{Record, Steps};

/// Times that an instance dies in one history.
const DEATHS_MAX: u8 = 1;
/// Copies of the old files that somebody starts in one history.
const CLONES_MAX: u8 = 1;

/// Where an instance runs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Seat {
    Old,
    Via,
    New,
    /// The files of the old seat, started elsewhere.
    Clone,
}

const SEATS: [Seat; 4] = [Seat::Old, Seat::Via, Seat::New, Seat::Clone];

impl Seat {
    fn index(self) -> usize {
        match self {
            Self::Old => 0,
            Self::Via => 1,
            Self::New => 2,
            Self::Clone => 3,
        }
    }
}

/// One start of some code.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Instance {
    /// Distinct for each start: its identity key.
    key: u8,
    /// Whether it unsealed the keyring when it started.
    recovered: bool,
    /// Whether it said that it serves no more.
    spent: bool,
    /// Whether it believes that it is the active one.
    believes: bool,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    record: Record,
    journal: Steps,
    running: [Option<Instance>; 4],
    /// Whether the seat's live files open.
    sealed: [bool; 4],
    /// The active instance by the log: its seat and key.
    active: Option<(Seat, u8)>,
    starts: u8,
    deaths: u8,
    clones: u8,
    knows: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Carry,
    /// The old holder suspends itself, and the statement never gets anywhere.
    SuspendInVain,
    Report,
    Read,
    Abort,
    Die(Seat),
    /// The agent starts what should run, and lets it ask to be active again.
    Duty(Seat),
    StartClone,
    /// An instance reads the log to its end.
    Follow(Seat),
    /// An instance was not attended for so long that it stops answering by itself.
    Lapse(Seat),
}

struct Host {
    plan: Plan,
}

impl Host {
    fn next(&self, world: &World) -> Option<&Step> {
        Self::view(world).next(&self.plan, |_| true, world.knows)
    }

    /// The log as the agent has read it.
    fn view(world: &World) -> Record {
        if world.knows { world.record } else { world.record.until_abort() }
    }

    fn seat(&self, placement: &Placement) -> Seat {
        self.measured(&placement.measurement)
    }

    fn measured(&self, code: &Measurement) -> Seat {
        let ground = self.ground();
        match *code {
            it if it == ground.from.measurement => Seat::Old,
            it if it == ground.to.measurement => Seat::New,
            _ => Seat::Via,
        }
    }

    fn ground(&self) -> &KeyringGround {
        self.plan.keyring.as_ref().expect("a handover moves a keyring")
    }

    fn start(world: &mut World, seat: Seat) {
        world.starts += 1;
        let recovered = world.sealed[seat.index()];
        world.running[seat.index()] =
            Some(Instance { key: world.starts, recovered, spent: false, believes: false });
    }

    /// What a step does; nothing if somebody refuses.
    fn effect(&self, world: &mut World, step: &Step) -> bool {
        let at = |world: &World, seat: Seat| world.running[seat.index()];
        match &step.action {
            Deed::Verify { code: Some(code), .. } => {
                return at(world, self.measured(code)).is_some_and(|it| it.recovered);
            }
            Deed::Start(code) => {
                let seat = self.seat(code);
                if at(world, seat).is_none() {
                    Self::start(world, seat);
                }
            }
            Deed::Restart(code) => Self::start(world, self.seat(code)),
            Deed::HandOver { from, to, .. } => {
                let (from, to) = (self.seat(from), self.seat(to));
                if !at(world, from).is_some_and(|it| it.recovered) || at(world, to).is_none() {
                    return false;
                }
                world.sealed[to.index()] = true;
            }
            Deed::Suspend(code) => return Self::suspend(world, self.seat(code), step),
            Deed::Activate(code) => return self.activate(world, self.seat(code), step),
            Deed::Stop(code) => world.running[self.seat(code).index()] = None,
            Deed::Quarantine(code) => {
                let seat = self.measured(code);
                if at(world, seat).is_some() {
                    return false;
                }
                world.sealed[seat.index()] = false;
            }
            Deed::Forget(code) => {
                let seat = self.seat(code);
                world.sealed[seat.index()] = false;
                if let Some(instance) = &mut world.running[seat.index()] {
                    instance.recovered = false;
                }
            }
            _ => {}
        }
        true
    }

    fn suspend(world: &mut World, seat: Seat, step: &Step) -> bool {
        if world.record.witnessed.has(step.id) {
            return true;
        }
        let Some(instance) = &mut world.running[seat.index()] else { return false };
        if world.active != Some((seat, instance.key)) {
            return false;
        }
        (instance.spent, instance.believes) = (true, false);
        world.active = None;
        world.record.witnessed.add(step.id);
        true
    }

    fn activate(&self, world: &mut World, seat: Seat, step: &Step) -> bool {
        let Some(instance) = world.running[seat.index()] else { return false };
        if world.active == Some((seat, instance.key)) {
            return true;
        }
        let forward = !self.plan.is_rollback(step.id);
        let late = forward && world.record.aborted.is_some();
        if !instance.recovered || instance.spent || world.active.is_some() || late {
            return false;
        }
        world.active = Some((seat, instance.key));
        world.record.witnessed.add(step.id);
        true
    }

    /// Whoever runs in the seat of the active holder, and is another start, asks to be it again.
    /// It answers only after everybody else has stopped by itself: see [`Event::Follow`].
    fn ask_again(world: &mut World, seat: Seat) {
        let claims = if seat == Seat::Clone { Seat::Old } else { seat };
        let Some(instance) = world.running[seat.index()] else { return };
        let same_seat = match world.active {
            Some((active, _)) => active == claims || (active == Seat::Clone && claims == Seat::Old),
            None => false,
        };
        let is_it = world.active == Some((seat, instance.key));
        if instance.recovered && !instance.spent && same_seat && !is_it {
            world.active = Some((seat, instance.key));
        }
    }

    fn follow(world: &mut World, seat: Seat) {
        let others = SEATS.iter().any(|other| {
            *other != seat && world.running[other.index()].is_some_and(|it| it.believes)
        });
        let active = world.active;
        let Some(instance) = &mut world.running[seat.index()] else { return };
        let is_it = active == Some((seat, instance.key)) && !instance.spent;
        // An activation that no suspension made way for waits until any other has lapsed.
        instance.believes = is_it && (instance.believes || !others);
    }

    fn rests(&self, world: &World) -> bool {
        let over = world.record.is_finished(&self.plan) || world.record.is_rolled_back(&self.plan);
        over && (world.record.aborted.is_none() || world.knows)
    }
}

impl Model for Host {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let active = Instance { key: 1, recovered: true, spent: false, believes: true };
        vec![World {
            record: Record::default(),
            journal: Steps::default(),
            running: [Some(active), None, None, None],
            sealed: [true, false, false, false],
            active: Some((Seat::Old, 1)),
            starts: 1,
            deaths: 0,
            clones: 0,
            knows: false,
        }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        if world.record.aborted.is_none() && !world.record.is_past_no_return(&self.plan) {
            events.push(Event::Abort);
        }
        match self.next(world) {
            Some(step) if world.journal.has(step.id) => events.push(Event::Report),
            Some(step) if Self::view(world).is_open(&self.plan, step) => {
                events.push(Event::Carry);
                if matches!(step.action, Deed::Suspend(_)) {
                    events.push(Event::SuspendInVain);
                }
            }
            Some(_) | None => {}
        }
        if world.record.aborted.is_some() && !world.knows {
            events.push(Event::Read);
        }
        for seat in SEATS {
            events.extend([Event::Duty(seat), Event::Follow(seat), Event::Lapse(seat)]);
            if world.deaths < DEATHS_MAX && world.running[seat.index()].is_some() {
                events.push(Event::Die(seat));
            }
        }
        if world.clones < CLONES_MAX && world.sealed[Seat::Old.index()] {
            events.push(Event::StartClone);
        }
    }

    fn next_state(&self, before: &World, event: Event) -> Option<World> {
        let mut world = before.clone();
        match event {
            Event::Carry => {
                let step = self.next(before)?;
                if self.effect(&mut world, step) {
                    world.journal.add(step.id);
                }
            }
            Event::SuspendInVain => {
                let instance = world.running[Seat::Old.index()].as_mut()?;
                (instance.spent, instance.believes) = (true, false);
            }
            Event::Report => {
                let step = self.next(before)?;
                world.record.report(&self.plan, step);
                world.knows = world.record.aborted.is_some();
            }
            Event::Read => world.knows = true,
            Event::Abort => world.record.abort(&self.plan, |_| true),
            Event::Die(seat) => {
                world.running[seat.index()] = None;
                world.deaths += 1;
            }
            Event::Duty(seat) => {
                // What the log calls active, or had begun, is started again if it died.
                let wanted = seat != Seat::Clone && world.sealed[seat.index()];
                let is_wanted = wanted && world.active.is_some_and(|(active, _)| active == seat);
                if is_wanted && world.running[seat.index()].is_none() && world.starts < 12 {
                    Self::start(&mut world, seat);
                }
                let carrying = seat == Seat::Via || seat == Seat::New;
                if wanted && carrying && world.running[seat.index()].is_none() && world.starts < 12
                {
                    Self::start(&mut world, seat);
                }
                Self::ask_again(&mut world, seat);
            }
            Event::StartClone => {
                world.sealed[Seat::Clone.index()] = true;
                world.clones += 1;
                Self::start(&mut world, Seat::Clone);
            }
            Event::Follow(seat) => Self::follow(&mut world, seat),
            Event::Lapse(seat) => {
                world.running[seat.index()].as_mut()?.believes = false;
            }
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one instance answers", |_, world: &World| {
                let answers = |it: &&Option<Instance>| it.is_some_and(|it| it.believes);
                world.running.iter().filter(answers).count() <= 1
            }),
            Property::always(
                "no loss: a keeper's seat always has the keyring",
                |_, world: &World| {
                    world.sealed[Seat::Old.index()] || world.sealed[Seat::New.index()]
                },
            ),
            Property::always("what is spent never answers", |_, world: &World| {
                world.running.iter().flatten().all(|it| !(it.spent && it.believes))
            }),
            Property::always("an abort leaves the old seat whole", |host: &Self, world: &World| {
                !(host.rests(world) && world.record.aborted.is_some())
                    || (world.sealed[Seat::Old.index()] && !world.sealed[Seat::New.index()])
            }),
            Property::always("a finished handover forgets", |host: &Self, world: &World| {
                !world.record.is_finished(&host.plan)
                    || (world.sealed[Seat::New.index()] && !world.sealed[Seat::Via.index()])
            }),
            Property::sometimes("a handover is finished", |host: &Self, world: &World| {
                world.record.is_finished(&host.plan)
            }),
            Property::sometimes("a handover is rolled back", |host: &Self, world: &World| {
                world.record.is_rolled_back(&host.plan)
                    && world.record.witnessed != Steps::default()
            }),
            Property::sometimes("the new instance answers", |_, world: &World| {
                world.running[Seat::New.index()].is_some_and(|it| it.believes)
            }),
        ]
    }
}

fn plan() -> Plan {
    let inventory = common::carried(1, Sharing::Exclusive, 1);
    let (plan, _report) =
        planner::plan_from(&common::handover(None), &inventory).expect("there is a plan");
    plan
}

#[test]
fn no_order_of_events_makes_two_instances_answer_or_loses_the_keyring() {
    Host { plan: plan() }.checker().threads(2).spawn_bfs().join().assert_properties();
}

/// The model can see what it looks for.
#[test]
fn without_the_proof_before_it_a_handover_gives_the_only_copy_away() {
    let mut plan = plan();
    // Nothing waits for anything any more.
    for step in &mut plan.steps {
        step.gates.clear();
    }
    plan.steps.retain(|step| matches!(step.action, Deed::Stop(_) | Deed::Quarantine(_)));
    for (index, step) in (0_u32..).zip(&mut plan.steps) {
        step.id = heirloom_model::plan::StepId(index);
    }
    plan.rollback.clear();
    plan.point_of_no_return = heirloom_model::plan::StepId(0);
    let checker = Host { plan }.checker().threads(2).spawn_bfs().join();
    assert!(checker.discovery("no loss: a keeper's seat always has the keyring").is_some());
}
