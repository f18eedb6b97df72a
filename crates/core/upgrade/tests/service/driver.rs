//! The ports of one agent, over the world.

use std::sync::MutexGuard;
use std::time::Duration;

use heirloom_model::admin::Ticket;
use heirloom_model::counter::{Generation, LogIndex, Serial};
use heirloom_model::digest::{Nonce, PlanDigest};
use heirloom_model::domain::{
    ActivationCause, HoldingOrigin, LogPosition, PlanStep, PossessionProof,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{NodeId, TestName};
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::Release;
use heirloom_model::service::{Admission, Terms, Tip, Writing};
use heirloom_model::wire;
use heirloom_registry::network::Applied;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_upgrade::journal::Durable;
use heirloom_upgrade::port::{
    DriverError, EdgeAdmission, JournalError, JournalStore, NodeDriver, Observation, ServiceDriver,
};

use crate::world::{CHECKSUM, Fate, Host, Shared, World, lock};

/// The journal of a node.
pub(crate) struct Journal(pub(crate) Shared, pub(crate) NodeId);

impl JournalStore for Journal {
    fn append(&mut self, record: &[u8]) -> Result<Durable, JournalError> {
        let mut world = lock(&self.0);
        let fate = world.fate(&self.1);
        if fate == Fate::DiesBefore {
            return Err(JournalError::Stopping);
        }
        world.hosts.get_mut(&self.1).unwrap().journal.push(record.to_vec());
        if fate == Fate::DiesAfter { Err(JournalError::Stopping) } else { Ok(Durable::assertion()) }
    }
}

/// The registry, as the agent of a node reaches it.
pub(crate) struct Log(pub(crate) Shared, pub(crate) NodeId);

impl LogStore for Log {
    fn append(&self, expected: LogIndex, envelope: &[u8]) -> Result<LogPosition, AppendError> {
        let mut world = lock(&self.0);
        let head = world.state().position();
        if head.length != expected {
            return Err(AppendError::Conflict { head });
        }
        let unknown = || AppendError::Unknown { reason: "no answer".to_owned() };
        let kind = wire::decode::<Envelope>(envelope).unwrap().kind;
        if let Some(left) = world.lost.get_mut(&kind).filter(|left| **left > 0) {
            *left -= 1;
            return Err(unknown());
        }
        let fate = world.fate(&self.1);
        if fate == Fate::DiesBefore {
            return Err(unknown());
        }
        let applied = world.push(envelope);
        assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
        if fate == Fate::DiesAfter { Err(unknown()) } else { Ok(world.state().position()) }
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        Ok(lock(&self.0).state().position())
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        let world = lock(&self.0);
        let from = usize::try_from(from.0).unwrap();
        Ok(world.entries.iter().skip(from).take(max).cloned().collect())
    }

    fn watch(&self, _: LogIndex, _: Duration) -> Result<LogPosition, ReadError> {
        self.head()
    }
}

/// The driver of a node.
pub(crate) struct Driver(pub(crate) Shared, pub(crate) NodeId);

fn unexpected(expected: &impl ToString, found: &impl ToString) -> DriverError {
    DriverError::Unexpected { expected: expected.to_string(), found: found.to_string() }
}

fn down() -> DriverError {
    DriverError::Unknown("nothing runs".to_owned())
}

impl Driver {
    fn call(&self, what: &'static str) -> Result<MutexGuard<'_, World>, DriverError> {
        let mut world = lock(&self.0);
        let service = &mut world.hosts.get_mut(&self.1).unwrap().service;
        service.calls.push(what.to_owned());
        match service.fail.get(what) {
            Some(error) => Err(error.clone()),
            None => Ok(world),
        }
    }

    /// A call that changes the host, unless the process dies before.
    fn change(
        &self,
        what: &'static str,
        change: impl FnOnce(&mut Host) -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        let mut world = self.call(what)?;
        let fate = world.fate(&self.1);
        if fate == Fate::DiesBefore {
            return Err(DriverError::Stopping);
        }
        let changed = change(world.hosts.get_mut(&self.1).unwrap());
        if fate == Fate::DiesAfter { Err(DriverError::Stopping) } else { changed }
    }
}

/// A keeper does nothing in these plans but prove what it has.
fn never() -> DriverError {
    DriverError::Refused("keepers do not change".to_owned())
}

impl NodeDriver for Driver {
    fn observe(&mut self) -> Result<Observation, DriverError> {
        Ok(lock(&self.0).observation(&self.1))
    }

    fn stage(&mut self, _: &Release, _: &Measurement) -> Result<Vec<u8>, DriverError> {
        Err(never())
    }

    fn prepare(&mut self, _: &Release, _: &Measurement) -> Result<Vec<u8>, DriverError> {
        Err(never())
    }

    fn drain(&mut self, _: &Measurement) -> Result<(), DriverError> {
        Err(never())
    }

    fn resume(&mut self, _: &Measurement) -> Result<(), DriverError> {
        Err(never())
    }

    fn stop(&mut self, _: &Measurement) -> Result<(), DriverError> {
        Err(never())
    }

    fn quarantine(&mut self, _: &Measurement) -> Result<(), DriverError> {
        Err(never())
    }

    fn restore(&mut self, _: &Measurement) -> Result<(), DriverError> {
        Err(never())
    }

    fn install(&mut self, _: &Measurement, _: &Measurement) -> Result<(), DriverError> {
        Err(never())
    }

    fn start(&mut self, _: &Measurement) -> Result<(), DriverError> {
        Err(never())
    }

    fn replicate(&mut self, _: &Measurement, _: &[NodeId]) -> Result<(), DriverError> {
        Err(never())
    }

    fn attend(&mut self, _: &Measurement) -> Result<Ticket, DriverError> {
        Err(never())
    }

    fn follow(
        &mut self,
        _: &Measurement,
        entries: &[LogEntry],
        _: Option<Ticket>,
    ) -> Result<LogPosition, DriverError> {
        Ok(lock(&self.0).follow(&self.1, entries))
    }

    fn register(&mut self, _: &Measurement) -> Result<Vec<u8>, DriverError> {
        let world = lock(&self.0);
        Ok(world.keeper_states(&self.1, &world.registration(&self.1)))
    }

    fn prove(&mut self, code: &Measurement, challenge: &Nonce) -> Result<Vec<u8>, DriverError> {
        let world = lock(&self.0);
        let proof = PossessionProof {
            network: world.ceremony.network,
            domain: world.ceremony.domain,
            node: self.1.clone(),
            challenge: *challenge,
            generation: Generation(0),
            checksum: CHECKSUM,
            origin: HoldingOrigin::Recovered,
            as_of: world.state().position(),
            policy: Serial(1),
            measurement: *code,
        };
        Ok(world.keeper_states(&self.1, &proof))
    }

    fn create_generation(&mut self, _: &Measurement, _: &Nonce) -> Result<Vec<u8>, DriverError> {
        Err(never())
    }

    fn receive_generation(
        &mut self,
        _: &Measurement,
        _: &Nonce,
        _: &[NodeId],
    ) -> Result<Vec<u8>, DriverError> {
        Err(never())
    }

    fn hand_over(
        &mut self,
        _: &Measurement,
        _: PlanStep,
        _: &NodeId,
        _: &Measurement,
    ) -> Result<(), DriverError> {
        Err(never())
    }

    fn suspend(&mut self, _: &Measurement, _: PlanStep) -> Result<Vec<u8>, DriverError> {
        Err(never())
    }

    fn activate(&mut self, _: &Measurement, _: ActivationCause) -> Result<Vec<u8>, DriverError> {
        Err(never())
    }

    fn forget(&mut self, _: &Measurement, _: PlanStep) -> Result<(), DriverError> {
        Err(never())
    }

    fn preserve(&mut self, _: &Measurement) -> Result<(), DriverError> {
        Err(never())
    }

    fn reseal(&mut self, _: &Measurement) -> Result<(), DriverError> {
        Err(never())
    }

    fn service(&mut self) -> Option<&mut dyn ServiceDriver> {
        Some(self)
    }
}

impl ServiceDriver for Driver {
    fn equip(
        &mut self,
        release: &Release,
        code: &Measurement,
        step: PlanStep,
    ) -> Result<Vec<u8>, DriverError> {
        assert!(release.measurements.contains(code));
        let mut world = self.call("equip")?;
        Ok(world.trial(&self.1, *code, step))
    }

    fn state(&mut self, code: &Measurement, step: PlanStep) -> Result<Vec<u8>, DriverError> {
        let world = self.call("state")?;
        let running = world.hosts[&self.1].service.process.as_ref().map(|it| it.code);
        if running.is_some_and(|running| running != *code) {
            return Err(unexpected(&code, &"other code"));
        }
        world.standing(&self.1, step).ok_or_else(down)
    }

    fn fence(&mut self) -> Result<(), DriverError> {
        self.change("fence", |host| {
            let service = &mut host.service;
            service.edge = EdgeAdmission::Closed;
            service.wanted = service.wanted.map(|(code, _)| (code, Admission::Closed));
            let process = service.process.as_mut().ok_or_else(down)?;
            process.admission = Admission::Closed;
            Ok(())
        })
    }

    fn freeze(&mut self, code: &Measurement, quiet: Duration) -> Result<(), DriverError> {
        assert!(!quiet.is_zero());
        self.change("freeze", |host| {
            let process = host.service.process.as_mut().ok_or_else(down)?;
            assert_eq!((process.code, process.admission), (*code, Admission::Closed));
            process.writing = Writing::Frozen;
            Ok(())
        })
    }

    fn halt(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.change("halt", |host| {
            let service = &mut host.service;
            if service.process.as_ref().is_some_and(|process| process.code == *code) {
                assert_eq!(service.edge, EdgeAdmission::Closed);
                service.process = None;
            }
            if service.wanted.is_some_and(|(wanted, _)| wanted == *code) {
                service.wanted = None;
            }
            Ok(())
        })
    }

    fn snapshot(&mut self, plan: &PlanDigest, tip: &Tip) -> Result<(), DriverError> {
        self.change("snapshot", |host| {
            let service = &mut host.service;
            assert!(service.process.is_none());
            if service.tip != *tip {
                return Err(unexpected(&tip, &service.tip));
            }
            service.snapshots.insert(*plan, *tip);
            Ok(())
        })
    }

    fn migrate(&mut self, plan: &PlanDigest, tip: &Tip, _: &Terms) -> Result<(), DriverError> {
        self.change("migrate", |host| {
            let service = &mut host.service;
            assert!(service.process.is_none());
            assert_eq!(service.snapshots.get(plan), Some(tip));
            if service.slow {
                service.background = Some(*plan);
                return Err(DriverError::Unknown("a migration goes on".to_owned()));
            }
            service.migrated = Some(*plan);
            Ok(())
        })
    }

    fn revert(&mut self, _: &PlanDigest, _: &Tip) -> Result<(), DriverError> {
        self.change("revert", |host| {
            assert!(host.service.process.is_none());
            if host.service.background.is_some() {
                return Err(DriverError::Unknown("a migration goes on".to_owned()));
            }
            host.service.migrated = None;
            Ok(())
        })
    }

    fn deploy(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError> {
        self.change("deploy", |host| {
            assert!([*expect, *install].contains(&host.service.installed));
            host.service.installed = *install;
            Ok(())
        })
    }

    fn launch(&mut self, code: &Measurement, expected: Option<&Tip>) -> Result<(), DriverError> {
        self.change("launch", |host| {
            let service = &mut host.service;
            assert_eq!(service.installed, *code);
            assert_eq!(service.edge, EdgeAdmission::Closed);
            if expected.is_some_and(|expected| service.tip != *expected) {
                return Err(unexpected(&"the frozen tip", &service.tip));
            }
            service.wanted = Some((*code, Admission::SideDoor));
            let loaded = service.process.as_ref().filter(|it| it.code == *code);
            let taken = loaded.is_some_and(|process| {
                expected.is_none_or(|expected| process.loaded.height >= expected.height)
            });
            if !taken {
                host.run(*code, Admission::SideDoor);
            }
            Ok(())
        })
    }

    fn exercise(&mut self, step: PlanStep, tests: &[TestName]) -> Result<(), DriverError> {
        assert!(!tests.is_empty());
        self.change("exercise", |host| {
            let process = host.service.process.as_ref().ok_or_else(down)?;
            assert_eq!(process.admission, Admission::SideDoor);
            host.service.exercised.insert(step);
            Ok(())
        })
    }

    fn open(&mut self) -> Result<(), DriverError> {
        self.change("open", |host| {
            let service = &mut host.service;
            service.wanted = service.wanted.map(|(code, _)| (code, Admission::Open));
            let process = service.process.as_mut().ok_or_else(down)?;
            (process.admission, process.writing) = (Admission::Open, Writing::Active);
            service.edge = EdgeAdmission::Open;
            Ok(())
        })
    }

    fn keep(&mut self) -> Result<(), DriverError> {
        self.change("keep", |host| {
            let Some((code, admission)) = host.service.wanted else { return Ok(()) };
            if host.service.process.is_none() {
                host.run(code, admission);
            }
            host.service.edge = match admission {
                Admission::Open => EdgeAdmission::Open,
                Admission::Closed | Admission::SideDoor => EdgeAdmission::Closed,
            };
            Ok(())
        })
    }
}
