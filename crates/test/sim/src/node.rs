//! A node's journal and driver, as an agent's ports over the world.

use std::collections::BTreeSet;

use heirloom_keeper::handshake::Peer;
use heirloom_model::digest::Nonce;
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::protocol::{PeerRequest, PeerResponse, ReplicatedGeneration};
use heirloom_model::release::Release;
use heirloom_upgrade::journal::Durable;
use heirloom_upgrade::port::{DriverError, JournalError, JournalStore, NodeDriver, Observation};

use crate::world::{Crashed, Process, Shared, World, identity, lock, stored};

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
        let node = world.node(&self.node);
        if node.agent_down {
            return Err(DriverError::Stopping);
        }
        Ok(Observation {
            installed: node.disk.installed,
            running: node.process.as_ref().map(|process| Box::new(process.keeper.status())),
            live: node.disk.sealers(),
            quarantined: node.disk.quarantine.iter().map(|(by, _)| *by).collect(),
        })
    }

    fn prepare(
        &mut self,
        _release: &Release,
        measurement: &Measurement,
    ) -> Result<Vec<u8>, DriverError> {
        let node = self.node.clone();
        self.change("prepare", |world| {
            world.node(&node).disk.staged.insert(*measurement);
            let mut trial = world
                .launch(&node, measurement, &std::collections::BTreeMap::new())
                .map_err(DriverError::Refused)?;
            let entries = world.entries.clone();
            // A trial instance has no files: what it would write is thrown away with it.
            let followed = trial.keeper.follow(&trial.enclave, &entries);
            let _position = followed.map_err(|error| DriverError::Refused(error.to_string()))?;
            let registration = trial.keeper.register(&trial.enclave).map_err(refused)?;
            let files = stored(&world.node(&node).disk.live);
            let Some(process) = world.node(&node).process.as_ref() else {
                return Err(DriverError::Unknown("no keeper runs".to_owned()));
            };
            process.keeper.probe(&process.enclave, &files).map_err(refused)?;
            Ok(registration)
        })
    }

    fn drain(&mut self) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("drain", |world| {
            if let Some(process) = world.node(&node).process.as_mut() {
                process.keeper.drain();
            }
            Ok(())
        })
    }

    fn resume(&mut self) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("resume", |world| {
            if let Some(process) = world.node(&node).process.as_mut() {
                process.keeper.resume();
            }
            Ok(())
        })
    }

    fn stop(&mut self, expect: &Measurement) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("stop", |world| {
            let running = world.node(&node).process.as_ref().map(identity);
            expect_code(running, *expect)?;
            world.node(&node).process = None;
            Ok(())
        })
    }

    fn quarantine(&mut self, measurement: &Measurement) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("quarantine", |world| {
            let node = world.node(&node);
            expect_down(node.process.as_ref())?;
            let live = node.disk.sealers();
            if !live.contains(measurement) {
                return Ok(());
            }
            expect_code(live.iter().find(|other| *other != measurement).copied(), *measurement)?;
            let moved = std::mem::take(&mut node.disk.live);
            node.disk.quarantine.push((*measurement, moved));
            Ok(())
        })
    }

    fn restore(&mut self, measurement: &Measurement) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("restore", |world| {
            let node = world.node(&node);
            expect_down(node.process.as_ref())?;
            let live = node.disk.sealers();
            if live.contains(measurement) {
                return Ok(());
            }
            expect_code(live.first().copied(), *measurement)?;
            let newest = node.disk.quarantine.iter().rposition(|(by, _)| by == measurement);
            if let Some(newest) = newest {
                let (_, files) = node.disk.quarantine.remove(newest);
                node.disk.live = files;
            }
            Ok(())
        })
    }

    fn install(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("install", |world| {
            let node = world.node(&node);
            expect_down(node.process.as_ref())?;
            if node.disk.installed == Some(*install) {
                return Ok(());
            }
            expect_code(node.disk.installed, *expect)?;
            if !node.disk.staged.contains(install) {
                return Err(DriverError::Missing { what: "the bundle".to_owned() });
            }
            node.disk.installed = Some(*install);
            Ok(())
        })
    }

    fn start(&mut self, expect: &Measurement) -> Result<(), DriverError> {
        let node = self.node.clone();
        self.change("start", |world| {
            expect_code(world.node(&node).disk.installed, *expect)?;
            if let Some(process) = world.node(&node).process.as_ref() {
                return expect_code(Some(identity(process)), *expect);
            }
            let files = world.node(&node).disk.live.clone();
            let process = world.launch(&node, expect, &files).map_err(DriverError::Refused)?;
            world.node(&node).process = Some(process);
            Ok(())
        })
    }

    fn replicate(&mut self, sources: &[NodeId]) -> Result<(), DriverError> {
        for _ in 0..REQUESTS_MAX {
            let wanted = self.with_keeper("ask", |_, process| {
                Ok(process.keeper.replication_next().map(|request| request.message()))
            })?;
            let Some(request) = wanted else { return Ok(()) };
            let (peer, sent) = self.ask_any(sources, &request)?;
            self.with_keeper("receive", |world, process| {
                let made = process.keeper.accept_generations(&process.enclave, &peer, &sent);
                let intent = made.map_err(refused)?;
                world.0.commit(world.1, process, intent).map(|_| ()).map_err(DriverError::Unknown)
            })?;
        }
        Err(DriverError::Unknown("replication does not end".to_owned()))
    }

    fn follow(&mut self, entries: &[LogEntry]) -> Result<LogPosition, DriverError> {
        self.with_keeper("follow", |world, process| {
            let intent = process.keeper.follow(&process.enclave, entries).map_err(refused)?;
            world.0.commit(world.1, process, intent).map_err(DriverError::Unknown)
        })
    }

    fn register(&mut self) -> Result<Vec<u8>, DriverError> {
        self.with_keeper("register", |_, process| {
            process.keeper.register(&process.enclave).map_err(refused)
        })
    }

    fn prove(&mut self, challenge: &Nonce) -> Result<Vec<u8>, DriverError> {
        self.with_keeper("prove", |world, process| {
            let files = stored(&world.0.node(world.1).disk.live);
            process.keeper.prove(&process.enclave, *challenge, &files).map_err(refused)
        })
    }

    fn create_generation(&mut self, order: &Nonce) -> Result<Vec<u8>, DriverError> {
        self.with_keeper("create", |world, process| {
            let made = process.keeper.create_generation(&process.enclave, *order);
            let intent = made.map_err(refused)?;
            world.0.commit(world.1, process, intent).map_err(DriverError::Unknown)
        })
    }

    fn receive_generation(
        &mut self,
        order: &Nonce,
        sources: &[NodeId],
    ) -> Result<Vec<u8>, DriverError> {
        let request = PeerRequest::ReplicateProposed { order: *order };
        let (peer, sent) = self.ask_any(sources, &request)?;
        let [sent] = sent.as_slice() else {
            return Err(DriverError::Unknown("not one generation".to_owned()));
        };
        self.with_keeper("receive proposed", |world, process| {
            let made = process.keeper.accept_proposed(&process.enclave, &peer, *order, sent);
            let intent = made.map_err(refused)?;
            world.0.commit(world.1, process, intent).map_err(DriverError::Unknown)
        })
    }
}

/// The world without one process, and whose process it is.
struct Rest<'w>(&'w mut World, &'w NodeId);

impl SimDriver {
    fn change<R>(
        &self,
        what: &'static str,
        effect: impl FnOnce(&mut World) -> Result<R, DriverError>,
    ) -> Result<R, DriverError> {
        lock(&self.world)
            .operate(&self.node, what, effect)
            .map_err(|Crashed| DriverError::Stopping)?
    }

    /// Lends the keeper to `work`. A keeper that dies meanwhile stays dead.
    fn with_keeper<R>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Rest<'_>, &mut Process) -> Result<R, DriverError>,
    ) -> Result<R, DriverError> {
        let mut world = lock(&self.world);
        let stopping = |Crashed| DriverError::Stopping;
        world.point(&self.node, what, "before").map_err(stopping)?;
        let Some(mut process) = world.node(&self.node).process.take() else {
            return Err(DriverError::Unknown("no keeper runs".to_owned()));
        };
        let worked = work(&mut Rest(&mut world, &self.node), &mut process);
        let died = matches!(&worked, Err(DriverError::Unknown(reason)) if reason == "died");
        if !died {
            world.node(&self.node).process = Some(process);
        }
        world.point(&self.node, what, "after").map_err(stopping)?;
        worked
    }

    /// Asks one source after the other, beginning anywhere, until one gives something.
    fn ask_any(
        &self,
        sources: &[NodeId],
        request: &PeerRequest,
    ) -> Result<(Peer, Vec<ReplicatedGeneration>), DriverError> {
        let mut world = lock(&self.world);
        let mut last = "no source".to_owned();
        if world.node(&self.node).partitioned {
            return Err(DriverError::Unknown("cut off".to_owned()));
        }
        let Some(mut own) = world.node(&self.node).process.take() else {
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
        world.node(&self.node).process = Some(own);
        given.ok_or(DriverError::Unknown(last))
    }
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
    let Some(mut peer) = world.node(source).process.take() else {
        return Err("not running".to_owned());
    };
    let opened = world.session(own, &mut peer);
    let answer = opened.and_then(|(seen, ours)| match peer.keeper.serve(&ours, request) {
        PeerResponse::Generations(sent) => Ok((seen, sent)),
        PeerResponse::Refused(refusal) => Err(refusal.to_string()),
        PeerResponse::Key(_) => Err("an answer to another question".to_owned()),
    });
    world.node(source).process = Some(peer);
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
