//! Every seat of some nodes, as far as the steps of a handover change it.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_custody::holding::Seat;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Placement, Step};

/// A step does not fit the world: what it would need.
pub(super) type Misfit = &'static str;

/// The nodes that a plan changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct World {
    sites: BTreeMap<NodeId, Site>,
    activity: Activity,
    /// The upgrader's code.
    carrier: Option<Measurement>,
}

/// Which seat answers for an exclusive domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Activity {
    /// The domain is replicated: whoever holds answers.
    Shared,
    Active(Seat),
    Suspended,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Site {
    installed: Measurement,
    prepared: BTreeSet<Measurement>,
    /// By code: what has live state or a process.
    places: BTreeMap<Measurement, Place>,
    quarantined: BTreeMap<Measurement, Keys>,
    preserved: BTreeSet<Measurement>,
}

/// One seat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    process: Option<Process>,
    keys: Keys,
    sealing: Sealing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Process {
    /// Whether everything that it holds came from disk, as the disk is now, when it started.
    recovered: bool,
    service: Service,
}

/// Whether a process takes requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Service {
    Open,
    Draining,
    /// It said that it serves no more, and never does again.
    Ended,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keys {
    Absent,
    Present,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sealing {
    AsFound,
    Again,
}

const STARTED: Process = Process { recovered: true, service: Service::Open };
const EMPTY: Place = Place { process: None, keys: Keys::Absent, sealing: Sealing::AsFound };

impl World {
    /// Nodes before a plan: each runs what `nodes` says, and those in `holding` have the keyring.
    pub(super) fn before(
        nodes: &BTreeMap<NodeId, Measurement>,
        holding: &BTreeSet<NodeId>,
        activity: Activity,
        carrier: Option<Measurement>,
    ) -> Self {
        let site = |(node, code): (&NodeId, &Measurement)| {
            let code = *code;
            let keys = if holding.contains(node) { Keys::Present } else { Keys::Absent };
            let place = Place { process: Some(STARTED), keys, ..EMPTY };
            let site = Site {
                installed: code,
                prepared: BTreeSet::new(),
                places: BTreeMap::from([(code, place)]),
                quarantined: BTreeMap::new(),
                preserved: BTreeSet::new(),
            };
            (node.clone(), site)
        };
        Self { sites: nodes.iter().map(site).collect(), activity, carrier }
    }

    /// Whether the plan changes this node.
    pub(super) fn changes(&self, node: &NodeId) -> bool {
        self.sites.contains_key(node)
    }

    /// Whether the keyring is in this seat, live, whatever runs.
    pub(super) fn has_keys(&self, seat: &Seat) -> bool {
        self.place(seat).is_some_and(|place| place.keys == Keys::Present)
    }

    /// Seats with the keyring in live state.
    pub(super) fn holders(&self) -> BTreeSet<Seat> {
        self.seats().filter(|seat| self.has_keys(seat)).collect()
    }

    /// A copy that an upgrader still has, in whatever form.
    pub(super) fn carried(&self) -> Option<Seat> {
        let carrier = self.carrier?;
        let kept = |site: &Site| site.quarantined.get(&carrier) == Some(&Keys::Present);
        let site = self.sites.iter().find(|(_, site)| kept(site));
        let quarantined = site.map(|(node, _)| Seat::new(node, &carrier));
        quarantined.or_else(|| self.holders().into_iter().find(|seat| seat.measurement == carrier))
    }

    /// Seats with a process or live state.
    pub(super) fn seats(&self) -> impl Iterator<Item = Seat> {
        self.sites.iter().flat_map(|(node, site)| {
            site.places.keys().map(|code| Seat { node: node.clone(), measurement: *code })
        })
    }

    /// Whether an instance runs there that unsealed the keyring when it started: only such a one
    /// proves possession.
    pub(super) fn proves(&self, seat: &Seat) -> bool {
        self.has_keys(seat) && self.process(seat).is_some_and(|process| process.recovered)
    }

    /// Whether this seat answers applications with what it unsealed.
    pub(super) fn answers(&self, seat: &Seat) -> bool {
        let open = self.process(seat).is_some_and(|found| found.service == Service::Open);
        let allowed = match &self.activity {
            Activity::Shared => true,
            Activity::Active(active) => active == seat,
            Activity::Suspended => false,
        };
        open && allowed && self.has_keys(seat)
    }

    /// Whether this code is the one that its node starts by itself.
    pub(super) fn is_installed(&self, seat: &Seat) -> bool {
        self.sites.get(&seat.node).is_some_and(|site| site.installed == seat.measurement)
    }

    /// Whether everything in this seat was sealed again.
    pub(super) fn is_sealed_again(&self, seat: &Seat) -> bool {
        self.place(seat).is_some_and(|place| place.sealing == Sealing::Again)
    }

    /// What an abort changes by itself: nobody waits any more for requests to end.
    pub(super) fn called_off(&mut self) {
        let places = self.sites.values_mut().flat_map(|site| site.places.values_mut());
        for process in places.filter_map(|place| place.process.as_mut()) {
            if process.service == Service::Draining {
                process.service = Service::Open;
            }
        }
    }

    /// An instance has said that it serves no more, and the log did not take it.
    pub(super) fn end_service(&mut self, seat: &Seat) {
        if let Some(process) = self.place_mut(seat).and_then(|place| place.process.as_mut()) {
            process.service = Service::Ended;
        }
    }

    /// Carries out a step. One that finds its work done changes nothing; one that finds something
    /// else is a misfit.
    pub(super) fn run(&mut self, step: &Step) -> Result<(), Misfit> {
        let at = |placement: &Placement| Seat::new(&step.node, &placement.measurement);
        match &step.action {
            Action::Prepare(placement) => {
                self.site(&step.node)?.prepared.insert(placement.measurement);
                Ok(())
            }
            Action::Verify { targets, code, .. } => self.verify(targets, code.as_ref()),
            Action::Drain(placement) => {
                self.drain(&at(placement));
                Ok(())
            }
            Action::Stop(placement) => self.stop(&at(placement)),
            Action::Quarantine(code) => self.quarantine(&Seat::new(&step.node, code)),
            Action::Install { expect, install } => {
                self.install(&step.node, expect.measurement, install.measurement)
            }
            Action::Start(placement) => self.start(&at(placement)),
            Action::Restart(placement) => self.restart(&at(placement)),
            Action::HandOver { from_node, from, to } => {
                self.hand_over(&Seat::new(from_node, &from.measurement), &at(to))
            }
            Action::Suspend(placement) => self.suspend(&at(placement)),
            Action::Activate(placement) => self.activate(at(placement)),
            Action::Forget(placement) => self.forget(&at(placement)),
            Action::Preserve(code) => self.preserve(&Seat::new(&step.node, code)),
            Action::Reseal(placement) => self.reseal(&at(placement)),
            Action::Withdraw(_) => Ok(()),
            Action::Restore(_) | Action::Replicate { .. } => Err("nodes that change in waves"),
            Action::Service(_) | Action::Commit => Err("a plan that changes a service"),
            Action::Participant(_) => Err("a plan that moves a participant"),
        }
    }

    fn verify(&self, targets: &[NodeId], code: Option<&Measurement>) -> Result<(), Misfit> {
        for node in targets.iter().filter(|node| self.changes(node)) {
            let code = code.ok_or("to name the code that shall answer where several run")?;
            if !self.proves(&Seat::new(node, code)) {
                return Err("a running instance of this code that unsealed the keyring");
            }
        }
        Ok(())
    }

    fn drain(&mut self, seat: &Seat) {
        if let Some(process) = self.place_mut(seat).and_then(|place| place.process.as_mut())
            && process.service == Service::Open
        {
            process.service = Service::Draining;
        }
    }

    fn stop(&mut self, seat: &Seat) -> Result<(), Misfit> {
        if matches!(&self.activity, Activity::Active(active) if active == seat) {
            return Err("another active holder before the active one is stopped");
        }
        if let Some(place) = self.place_mut(seat) {
            place.process = None;
        }
        Ok(())
    }

    fn quarantine(&mut self, seat: &Seat) -> Result<(), Misfit> {
        if self.process(seat).is_some() {
            return Err("a stopped process before sealed state is moved");
        }
        let site = self.site(&seat.node)?;
        if let Some(place) = site.places.remove(&seat.measurement) {
            site.quarantined.insert(seat.measurement, place.keys);
        }
        Ok(())
    }

    fn install(
        &mut self,
        node: &NodeId,
        expect: Measurement,
        install: Measurement,
    ) -> Result<(), Misfit> {
        let site = self.site(node)?;
        if site.installed != expect && site.installed != install {
            return Err("the bundle that it expects");
        }
        if site.installed == expect && !site.has_bundle(install) {
            return Err("the bundle that it installs to be staged");
        }
        // What was installed stays where it was, as a staged one.
        site.prepared.insert(expect);
        site.installed = install;
        Ok(())
    }

    fn start(&mut self, seat: &Seat) -> Result<(), Misfit> {
        let site = self.site(&seat.node)?;
        if !site.has_bundle(seat.measurement) {
            return Err("a bundle that is installed or staged");
        }
        let place = site.places.entry(seat.measurement).or_insert(EMPTY);
        place.process.get_or_insert(STARTED);
        Ok(())
    }

    fn restart(&mut self, seat: &Seat) -> Result<(), Misfit> {
        let place = self.place_mut(seat).ok_or("a running process")?;
        place.process = Some(place.process.map(|_| STARTED).ok_or("a running process")?);
        Ok(())
    }

    fn hand_over(&mut self, donor: &Seat, receiver: &Seat) -> Result<(), Misfit> {
        if !self.proves(donor) {
            return Err("a donor that runs and unsealed the keyring");
        }
        let place = self.place_mut(receiver).ok_or("a receiver that runs")?;
        let process = place.process.as_mut().ok_or("a receiver that runs")?;
        if place.keys == Keys::Absent {
            place.keys = Keys::Present;
            process.recovered = false;
        }
        Ok(())
    }

    fn suspend(&mut self, seat: &Seat) -> Result<(), Misfit> {
        match &self.activity {
            Activity::Active(active) if active == seat => {
                self.end_service(seat);
                self.activity = Activity::Suspended;
                Ok(())
            }
            Activity::Active(_) | Activity::Suspended => Err("the active holder to be this one"),
            Activity::Shared => Err("an exclusive domain"),
        }
    }

    fn activate(&mut self, seat: Seat) -> Result<(), Misfit> {
        if self.carrier == Some(seat.measurement) {
            return Err("a keeper: an upgrader never answers");
        }
        match &self.activity {
            Activity::Shared => return Err("an exclusive domain"),
            Activity::Active(active) if *active == seat => return Ok(()),
            Activity::Active(_) => return Err("nobody to be active"),
            Activity::Suspended => {}
        }
        let fresh = self.process(&seat).is_some_and(|process| process.service == Service::Open);
        if !fresh || !self.proves(&seat) {
            return Err("a running instance that never ended its service and unsealed the keyring");
        }
        self.activity = Activity::Active(seat);
        Ok(())
    }

    fn forget(&mut self, seat: &Seat) -> Result<(), Misfit> {
        if self.carrier != Some(seat.measurement) {
            return Err("an upgrader: a keeper forgets nothing");
        }
        if let Some(place) = self.place_mut(seat) {
            place.keys = Keys::Absent;
        }
        Ok(())
    }

    fn preserve(&mut self, seat: &Seat) -> Result<(), Misfit> {
        if !self.has_keys(seat) {
            return Err("sealed state with the keyring");
        }
        self.site(&seat.node)?.preserved.insert(seat.measurement);
        Ok(())
    }

    fn reseal(&mut self, seat: &Seat) -> Result<(), Misfit> {
        if !self.site(&seat.node)?.preserved.contains(&seat.measurement) {
            return Err("a preserved copy of what it writes again");
        }
        if !self.proves(seat) {
            return Err("a running instance that unsealed the keyring");
        }
        if let Some(place) = self.place_mut(seat) {
            place.sealing = Sealing::Again;
            // What it holds came from what the disk was before.
            place.process = place.process.map(|process| Process { recovered: false, ..process });
        }
        Ok(())
    }

    fn site(&mut self, node: &NodeId) -> Result<&mut Site, Misfit> {
        self.sites.get_mut(node).ok_or("a node that the plan changes")
    }

    fn place(&self, seat: &Seat) -> Option<&Place> {
        self.sites.get(&seat.node)?.places.get(&seat.measurement)
    }

    fn place_mut(&mut self, seat: &Seat) -> Option<&mut Place> {
        self.sites.get_mut(&seat.node)?.places.get_mut(&seat.measurement)
    }

    fn process(&self, seat: &Seat) -> Option<Process> {
        self.place(seat)?.process
    }
}

impl Site {
    fn has_bundle(&self, code: Measurement) -> bool {
        self.installed == code || self.prepared.contains(&code)
    }
}
