//! A node's journal and driver, as an agent's ports over the world.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_keeper::handshake::Peer;
use heirloom_model::admin::Ticket;
use heirloom_model::digest::Nonce;
use heirloom_model::domain::{ActivationCause, LogPosition, PlanStep};
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::protocol::{PeerRequest, PeerResponse, ReplicatedGeneration};
use heirloom_model::release::Release;
use heirloom_upgrade::journal::Durable;
use heirloom_upgrade::port::{
    DriverError, JournalError, JournalStore, NodeDriver, Observation, ParticipantDriver,
    ServiceDriver,
};

use crate::world::{Crashed, DIED, Process, Shared, World, identity, lock, stored};

/// The journal of a node.
pub struct SimJournal {
    /// The world.
    pub world: Shared,
    /// Whose.
    pub node: NodeId,
}

impl JournalStore for SimJournal {
    fn append(&mut self, record: &[u8]) -> Result<Durable, JournalError> {
        let mut world = lock(&self.world);
        let full = world.faults.full;
        if world.chance(full) {
            return Err(JournalError::Full);
        }
        let node = &self.node;
        world
            .operate(node, "a journal record", |world| {
                world.node(node).disk.journal.push(record.to_vec());
            })
            .map_err(|Crashed| JournalError::Stopping)?;
        Ok(Durable::assertion())
    }
}

/// The driver of a node.
pub struct SimDriver {
    /// The world.
    pub world: Shared,
    /// Whose.
    pub node: NodeId,
}

/// Requests of one replication; a keyring of a simulated fleet needs a few.
const REQUESTS_MAX: u32 = 64;

impl NodeDriver for SimDriver {
    fn observe(&mut self) -> Result<Observation, DriverError> {
        let mut world = lock(&self.world);
        let now = world.now;
        let service = world.service_observation(&self.node);
        let node = world.node(&self.node);
        if node.agent_down {
            return Err(DriverError::Stopping);
        }
        let status = |(code, process): (&Measurement, &Process)| {
            (*code, Box::new(process.keeper.status(now)))
        };
        Ok(Observation {
            installed: node.disk.installed,
            running: node.processes.iter().map(status).collect(),
            silent: BTreeSet::new(),
            live: node.disk.sealers(),
            quarantined: node.disk.quarantine.iter().map(|(by, _)| *by).collect(),
            service,
            participant: None,
        })
    }

    fn stage(
        &mut self,
        _release: &Release,
        measurement: &Measurement,
    ) -> Result<Vec<u8>, DriverError> {
        let node = self.node.clone();
        self.change("stage", |world| {
            world.node(&node).disk.staged.insert(*measurement);
            let mut trial =
                world.launch(&node, measurement, &BTreeMap::new()).map_err(DriverError::Refused)?;
            let (entries, now) = (world.entries.clone(), world.now);
            let followed = trial.keeper.follow(&trial.enclave, &entries, None, now);
            let intent = followed.map_err(refused)?;
            World::try_out(&mut trial, intent).map_err(DriverError::Refused)?;
            trial.keeper.register(&trial.enclave).map_err(refused)
        })
    }

    fn prepare(
        &mut self,
        release: &Release,
        measurement: &Measurement,
    ) -> Result<Vec<u8>, DriverError> {
        let registration = self.stage(release, measurement)?;
        let node = self.node.clone();
        self.change("probe", |world| {
            let codes: Vec<Measurement> = world.node(&node).processes.keys().copied().collect();
            for code in codes {
                let node = world.node(&node);
                let files = stored(&node.disk.seat(&code));
                if let Some(process) = node.processes.get(&code) {
                    process.keeper.probe(&process.enclave, &files).map_err(refused)?;
                }
            }
            Ok(registration)
        })
    }

    fn drain(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.with_keeper("drain", code, |_, process| {
            process.keeper.drain();
            Ok(())
        })
    }

    fn resume(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.with_keeper("resume", code, |_, process| {
            process.keeper.resume();
            Ok(())
        })
    }

    fn stop(&mut self, code: &Measurement) -> Result<(), DriverError> {
        let (node, code) = (self.node.clone(), *code);
        self.change("stop", |world| {
            world.node(&node).processes.remove(&code);
            Ok(())
        })
    }

    fn quarantine(&mut self, measurement: &Measurement) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("quarantine", |world| {
            let node = world.node(&node);
            expect_down(node.processes.get(measurement))?;
            if let Some(moved) = node.disk.live.remove(measurement).filter(|it| !it.is_empty()) {
                node.disk.quarantine.push((*measurement, moved));
            }
            Ok(())
        })
    }

    fn restore(&mut self, measurement: &Measurement) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("restore", |world| {
            let node = world.node(&node);
            expect_down(node.processes.get(measurement))?;
            if !node.disk.seat(measurement).is_empty() {
                return Ok(());
            }
            let newest = node.disk.quarantine.iter().rposition(|(by, _)| by == measurement);
            if let Some(newest) = newest {
                let (_, files) = node.disk.quarantine.remove(newest);
                node.disk.live.insert(*measurement, files);
            }
            Ok(())
        })
    }

    fn preserve(&mut self, measurement: &Measurement) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("preserve", |world| {
            let disk = &mut world.node(&node).disk;
            let copy = disk.seat(measurement);
            if !copy.is_empty() {
                disk.quarantine.push((*measurement, copy));
            }
            Ok(())
        })
    }

    fn install(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("install", |world| {
            let node = world.node(&node);
            if node.disk.installed == Some(*install) {
                return Ok(());
            }
            expect_down(node.processes.get(expect))?;
            expect_code(node.disk.installed, *expect)?;
            if !node.disk.staged.contains(install) {
                return Err(DriverError::Missing { what: "the bundle".to_owned() });
            }
            node.disk.installed = Some(*install);
            Ok(())
        })
    }

    fn start(&mut self, code: &Measurement) -> Result<(), DriverError> {
        let (node, code) = (self.node.clone(), *code);
        self.change("start", |world| {
            let here = world.node(&node);
            if !here.disk.staged.contains(&code) {
                return Err(DriverError::Missing { what: "the bundle".to_owned() });
            }
            if here.processes.contains_key(&code) {
                return Ok(());
            }
            let files = here.disk.seat(&code);
            let process = world.launch(&node, &code, &files).map_err(DriverError::Refused)?;
            world.node(&node).processes.insert(code, process);
            Ok(())
        })
    }

    fn replicate(&mut self, code: &Measurement, sources: &[NodeId]) -> Result<(), DriverError> {
        for _ in 0..REQUESTS_MAX {
            let wanted = self.with_keeper("ask", code, |_, process| {
                Ok(process.keeper.replication_next().map(|request| request.message()))
            })?;
            let Some(request) = wanted else { return Ok(()) };
            let (peer, sent) = self.ask_any(code, sources, &request)?;
            self.with_keeper("receive", code, |world, process| {
                let made = process.keeper.accept_generations(&process.enclave, &peer, &sent);
                let intent = made.map_err(refused)?;
                world.0.commit(world.1, process, intent).map(|_| ()).map_err(DriverError::Unknown)
            })?;
        }
        Err(DriverError::Unknown("replication does not end".to_owned()))
    }

    fn hand_over(
        &mut self,
        to: &Measurement,
        step: PlanStep,
        from_node: &NodeId,
        from: &Measurement,
    ) -> Result<(), DriverError> {
        for _ in 0..REQUESTS_MAX {
            if self.hand_over_once(to, step, (from_node, from))?.is_none() {
                return Ok(());
            }
        }
        Err(DriverError::Unknown("the handover does not end".to_owned()))
    }

    fn attend(&mut self, code: &Measurement) -> Result<Ticket, DriverError> {
        let mut world = lock(&self.world);
        let now = world.now;
        match world.node(&self.node).processes.get_mut(code) {
            Some(process) => Ok(process.keeper.attend(now)),
            None => Err(DriverError::Unknown("no keeper runs".to_owned())),
        }
    }

    fn follow(
        &mut self,
        code: &Measurement,
        entries: &[LogEntry],
        attended: Option<Ticket>,
    ) -> Result<LogPosition, DriverError> {
        self.with_keeper("follow", code, |world, process| {
            let now = world.0.now;
            let followed = process.keeper.follow(&process.enclave, entries, attended, now);
            let intent = followed.map_err(refused)?;
            let position =
                world.0.commit(world.1, process, intent).map_err(DriverError::Unknown)?;
            world.0.count(world.1, process).map_err(DriverError::Unknown)?;
            Ok(position)
        })
    }

    fn register(&mut self, code: &Measurement) -> Result<Vec<u8>, DriverError> {
        self.with_keeper("register", code, |_, process| {
            process.keeper.register(&process.enclave).map_err(refused)
        })
    }

    fn prove(&mut self, code: &Measurement, challenge: &Nonce) -> Result<Vec<u8>, DriverError> {
        self.with_keeper("prove", code, |world, process| {
            let files = stored(&world.0.node(world.1).disk.seat(&identity(process)));
            process.keeper.prove(&process.enclave, *challenge, &files).map_err(refused)
        })
    }

    fn create_generation(
        &mut self,
        code: &Measurement,
        order: &Nonce,
    ) -> Result<Vec<u8>, DriverError> {
        self.with_keeper("create", code, |world, process| {
            let made = process.keeper.create_generation(&process.enclave, *order);
            let intent = made.map_err(refused)?;
            world.0.commit(world.1, process, intent).map_err(DriverError::Unknown)
        })
    }

    fn receive_generation(
        &mut self,
        code: &Measurement,
        order: &Nonce,
        sources: &[NodeId],
    ) -> Result<Vec<u8>, DriverError> {
        let request = PeerRequest::ReplicateProposed { order: *order };
        let (peer, sent) = self.ask_any(code, sources, &request)?;
        let [sent] = sent.as_slice() else {
            return Err(DriverError::Unknown("not one generation".to_owned()));
        };
        self.with_keeper("receive proposed", code, |world, process| {
            let made = process.keeper.accept_proposed(&process.enclave, &peer, *order, sent);
            let intent = made.map_err(refused)?;
            world.0.commit(world.1, process, intent).map_err(DriverError::Unknown)
        })
    }

    fn suspend(&mut self, code: &Measurement, step: PlanStep) -> Result<Vec<u8>, DriverError> {
        self.with_keeper("suspend", code, |_, process| {
            process.keeper.suspend(&process.enclave, step).map_err(refused)
        })
    }

    fn activate(
        &mut self,
        code: &Measurement,
        cause: ActivationCause,
    ) -> Result<Vec<u8>, DriverError> {
        self.with_keeper("activate", code, |_, process| {
            process.keeper.activate(&process.enclave, cause).map_err(refused)
        })
    }

    fn forget(&mut self, code: &Measurement, step: PlanStep) -> Result<(), DriverError> {
        self.with_keeper("forget", code, |world, process| {
            let files = stored(&world.0.node(world.1).disk.seat(&identity(process)));
            let intent = process.keeper.forget(step, &files).map_err(refused)?;
            world.0.commit(world.1, process, intent).map_err(DriverError::Unknown)
        })
    }

    fn reseal(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.with_keeper("reseal", code, |world, process| {
            let files = stored(&world.0.node(world.1).disk.seat(&identity(process)));
            let intent = process.keeper.reseal(&process.enclave, &files).map_err(refused)?;
            world.0.commit(world.1, process, intent).map_err(DriverError::Unknown)
        })
    }

    fn service(&mut self) -> Option<&mut dyn ServiceDriver> {
        let runs = lock(&self.world).service(&self.node).is_some();
        if runs { Some(self) } else { None }
    }

    fn participant(&mut self) -> Option<&mut dyn ParticipantDriver> {
        let runs = lock(&self.world).pair(&self.node).is_some();
        if runs { Some(self) } else { None }
    }
}

/// The world without one process, and whose process it is.
struct Rest<'w>(&'w mut World, &'w NodeId);

impl SimDriver {
    /// A call that changes something: a crash may strike before and after it.
    pub(crate) fn change<R>(
        &self,
        what: &'static str,
        effect: impl FnOnce(&mut World) -> Result<R, DriverError>,
    ) -> Result<R, DriverError> {
        lock(&self.world)
            .operate(&self.node, what, effect)
            .map_err(|Crashed| DriverError::Stopping)?
    }

    /// Lends a keeper to `work`. A keeper that dies meanwhile stays dead.
    fn with_keeper<R>(
        &self,
        what: &'static str,
        code: &Measurement,
        work: impl FnOnce(&mut Rest<'_>, &mut Process) -> Result<R, DriverError>,
    ) -> Result<R, DriverError> {
        let mut world = lock(&self.world);
        let stopping = |Crashed| DriverError::Stopping;
        world.point(&self.node, what, "before").map_err(stopping)?;
        let Some(mut process) = world.node(&self.node).processes.remove(code) else {
            return Err(DriverError::Unknown("no keeper runs".to_owned()));
        };
        let worked = work(&mut Rest(&mut world, &self.node), &mut process);
        let died = matches!(&worked, Err(DriverError::Unknown(reason)) if reason == DIED);
        if !died {
            world.node(&self.node).processes.insert(*code, process);
        }
        world.point(&self.node, what, "after").map_err(stopping)?;
        worked
    }

    /// Asks one source after the other, beginning anywhere, until one gives something.
    fn ask_any(
        &self,
        code: &Measurement,
        sources: &[NodeId],
        request: &PeerRequest,
    ) -> Result<(Peer, Vec<ReplicatedGeneration>), DriverError> {
        let mut world = lock(&self.world);
        let mut last = "no source".to_owned();
        if world.node(&self.node).partitioned {
            return Err(DriverError::Unknown("cut off".to_owned()));
        }
        let Some(mut own) = world.node(&self.node).processes.remove(code) else {
            return Err(DriverError::Unknown("no keeper runs".to_owned()));
        };
        let mut given = None;
        let distinct: BTreeSet<&NodeId> = sources.iter().filter(|it| **it != self.node).collect();
        for source in distinct {
            match ask(&mut world, &mut own, source, request) {
                Ok(answer) => {
                    given = Some(answer);
                    break;
                }
                Err(reason) => last = format!("{source}: {reason}"),
            }
        }
        world.node(&self.node).processes.insert(*code, own);
        given.ok_or(DriverError::Unknown(last))
    }

    /// One session of a handover: question, answer, proof, one batch. None if nothing is missing.
    fn hand_over_once(
        &self,
        to: &Measurement,
        step: PlanStep,
        (from_node, from): (&NodeId, &Measurement),
    ) -> Result<Option<()>, DriverError> {
        let holds =
            |world: &mut World, process: &mut Process| process.keeper.state_at(world.now).holds();
        if self.with_keeper("ask", to, |world, process| Ok(holds(world.0, process)))? {
            return Ok(None);
        }
        let mut world = lock(&self.world);
        let silent = world.faults.peer;
        let remote = *from_node != self.node;
        let cut = world.node(&self.node).partitioned || world.node(from_node).partitioned;
        if (remote && cut) || world.chance(silent) {
            return Err(DriverError::Unknown("no answer".to_owned()));
        }
        let Some(mut donor) = world.node(from_node).processes.remove(from) else {
            return Err(DriverError::Unknown("the donor does not run".to_owned()));
        };
        let Some(mut receiver) = world.node(&self.node).processes.remove(to) else {
            world.node(from_node).processes.insert(*from, donor);
            return Err(DriverError::Unknown("no keeper runs".to_owned()));
        };
        let received = receive(&mut world, &mut receiver, &mut donor, step);
        world.node(from_node).processes.insert(*from, donor);
        world.node(&self.node).processes.insert(*to, receiver);
        let (giver, sent) = received.map_err(DriverError::Refused)?;
        drop(world);
        if sent.is_empty() {
            return Ok(None);
        }
        self.with_keeper("receive handed over", to, |world, process| {
            let made = process.keeper.accept_handed_over(&process.enclave, &giver, &sent);
            let intent = made.map_err(refused)?;
            world.0.commit(world.1, process, intent).map_err(DriverError::Unknown)
        })?;
        Ok(Some(()))
    }
}

/// What a receiver gets from a donor in one session of its own.
fn receive(
    world: &mut World,
    receiver: &mut Process,
    donor: &mut Process,
    step: PlanStep,
) -> Result<(heirloom_keeper::handover::Donor, Vec<ReplicatedGeneration>), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (seen_donor, seen_receiver) =
        world.session(receiver, donor).map_err(|error| text(&error))?;
    let (asked, request) =
        receiver.keeper.request_handover(&receiver.enclave, step).map_err(|error| text(&error))?;
    let (mut pending, challenge) = donor
        .keeper
        .challenge_receiver(&donor.enclave, &seen_receiver, &request)
        .map_err(|error| text(&error))?;
    let giver = receiver
        .keeper
        .prove_to_donor(&receiver.enclave, &seen_donor, &asked, &challenge)
        .map_err(|error| text(&error))?;
    let Some(proof) = receiver.keeper.handover_next(&giver) else {
        return Ok((giver, Vec::new()));
    };
    let sent = donor
        .keeper
        .hand_over(&donor.enclave, &seen_receiver, &mut pending, &proof)
        .map_err(|error| text(&error))?;
    Ok((giver, sent))
}

fn ask(
    world: &mut World,
    own: &mut Process,
    source: &NodeId,
    request: &PeerRequest,
) -> Result<(Peer, Vec<ReplicatedGeneration>), String> {
    let silent = world.faults.peer;
    if world.node(source).partitioned || world.chance(silent) {
        return Err("no answer".to_owned());
    }
    let now = world.now;
    let serves = |process: &Process| process.keeper.state_at(now).answers();
    let running = &world.node(source).processes;
    let holder = running.iter().find(|(_, it)| serves(it));
    let any = holder.or(running.iter().next()).map(|(code, _)| *code);
    let taken = any.and_then(|code| Some((code, world.node(source).processes.remove(&code)?)));
    let Some((code, mut peer)) = taken else {
        return Err("not running".to_owned());
    };
    let opened = world.session(own, &mut peer).map_err(|error| error.to_string());
    let answer = opened.and_then(|(seen, ours)| match peer.keeper.serve(&ours, request, now) {
        PeerResponse::Generations(sent) => Ok((seen, sent)),
        PeerResponse::Refused(refusal) => Err(refusal.to_string()),
        PeerResponse::Key(_) | PeerResponse::HandoverChallenge(_) => {
            Err("an answer to another question".to_owned())
        }
    });
    world.node(source).processes.insert(code, peer);
    answer
}

fn expect_down(process: Option<&Process>) -> Result<(), DriverError> {
    match process {
        None => Ok(()),
        Some(process) => Err(DriverError::Unexpected {
            expected: "no running keeper".to_owned(),
            found: identity(process).to_string(),
        }),
    }
}

/// Nothing there, or exactly this code.
fn expect_code(found: Option<Measurement>, expected: Measurement) -> Result<(), DriverError> {
    match found {
        Some(found) if found != expected => Err(DriverError::Unexpected {
            expected: expected.to_string(),
            found: found.to_string(),
        }),
        Some(_) | None => Ok(()),
    }
}

fn refused(error: impl std::fmt::Display) -> DriverError {
    DriverError::Refused(error.to_string())
}
