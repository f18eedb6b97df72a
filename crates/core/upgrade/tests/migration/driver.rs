//! The ports of one agent, over the world.

use std::collections::BTreeMap;
use std::time::Duration;

use heirloom_model::counter::LogIndex;
use heirloom_model::domain::LogPosition;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::participant::{
    Enrolled, Exported, LedgerOffset, PartyMove, Reconciled, Rewritten, SharedContracts,
    SnapshotHasher, SurveyFindings, map_digest,
};
use heirloom_model::wire;
use heirloom_registry::network::Applied;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_upgrade::journal::Durable;
use heirloom_upgrade::port::{
    DriverError, Imported, JournalError, JournalStore, ParticipantCall, ParticipantDriver,
    ParticipantObservation, PlanWork, ServerObservation,
};

use crate::world::{
    Fate, HALF, Host, OFF, ON, Server, Shared, digest_of, lock, synchronizer, target_of,
};

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
        let head = world.state.position();
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
        if fate == Fate::DiesAfter { Err(unknown()) } else { Ok(world.state.position()) }
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        Ok(lock(&self.0).state.position())
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        let from = usize::try_from(from.0).unwrap();
        Ok(lock(&self.0).entries.iter().skip(from).take(max).cloned().collect())
    }

    fn watch(&self, _: LogIndex, _: Duration) -> Result<LogPosition, ReadError> {
        self.head()
    }
}

/// Source and target of a node.
pub(crate) struct Driver(pub(crate) Shared, pub(crate) NodeId);

impl Driver {
    /// A call that may fail, and during which the process may die.
    fn call<T>(
        &self,
        name: &'static str,
        act: impl FnOnce(&mut Host) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let mut world = lock(&self.0);
        let fate = world.fate(&self.1);
        let host = world.hosts.get_mut(&self.1).unwrap();
        if fate == Fate::DiesBefore {
            return Err(DriverError::Stopping);
        }
        host.calls.push(name);
        if let Some(error) = host.fail.get(name) {
            return Err(error.clone());
        }
        let done = act(host);
        if fate == Fate::DiesAfter { Err(DriverError::Stopping) } else { done }
    }
}

fn seen(server: &Server, version: &str) -> ServerObservation {
    ServerObservation {
        participant: server.participant.clone(),
        version: version.parse().unwrap(),
        synchronizers: BTreeMap::from([(synchronizer(), server.connection)]),
        parties: server.parties.clone(),
        ledger_end: Some(LedgerOffset(server.ledger_end)),
    }
}

fn expect(holds: bool, expected: &str) -> Result<(), DriverError> {
    if holds {
        return Ok(());
    }
    let (expected, found) = (expected.to_owned(), "something else".to_owned());
    Err(DriverError::Unexpected { expected, found })
}

impl ParticipantDriver for Driver {
    fn survey(&mut self) -> Result<SurveyFindings, DriverError> {
        self.call("survey", |host| Ok(host.findings()))
    }

    fn observe(
        &mut self,
        task: ParticipantCall<'_>,
    ) -> Result<ParticipantObservation, DriverError> {
        let world = lock(&self.0);
        let host = &world.hosts[&self.1];
        let contracts = u64::try_from(host.imported.len()).unwrap();
        Ok(ParticipantObservation {
            source: Some(seen(&host.source, "3.4.12")),
            target: Some(seen(&host.target, "3.5.1")),
            work: PlanWork {
                lacking: Some(host.lacking),
                safeguarded: host.safeguarded.contains(&task.plan),
                imported: Some(Imported { contracts, ids: digest_of(&host.imported) }),
            },
            under_way: None,
        })
    }

    fn enroll(&mut self, task: ParticipantCall<'_>) -> Result<Enrolled, DriverError> {
        self.call("enroll", |host| {
            if host.target.participant.is_none() {
                host.keys_made += 1;
                host.target.participant = Some(target_of(&host.node));
            }
            let target = host.target.participant.clone().unwrap();
            Ok(Enrolled { target, custodian: task.moved.custodian })
        })
    }

    fn allocate(&mut self, task: ParticipantCall<'_>) -> Result<Vec<PartyMove>, DriverError> {
        self.call("allocate", |host| {
            let namespace = host.target.participant.as_ref().unwrap().namespace();
            let moves = task.moved.parties.iter().map(|from| {
                let to = from.moved_to(&namespace).unwrap();
                host.target.parties.insert(to.clone());
                PartyMove { from: from.clone(), to }
            });
            Ok(moves.collect())
        })
    }

    fn supply(&mut self, _: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.call("supply", |host| {
            host.lacking = 0;
            Ok(())
        })
    }

    fn quiesce(&mut self, _: ParticipantCall<'_>) -> Result<LedgerOffset, DriverError> {
        self.call("quiesce", |host| {
            host.source.connection = OFF;
            Ok(LedgerOffset(host.source.ledger_end))
        })
    }

    fn export(
        &mut self,
        _: ParticipantCall<'_>,
        ledger_end: LedgerOffset,
    ) -> Result<Exported, DriverError> {
        self.call("export", |host| {
            expect(host.source.ledger_end == ledger_end.0, "the ledger's end")?;
            host.exported = Some(host.snapshot());
            Ok(host.snapshot())
        })
    }

    fn rewrite(
        &mut self,
        _: ParticipantCall<'_>,
        exported: &Exported,
        parts: &BTreeMap<NodeId, Vec<PartyMove>>,
    ) -> Result<Rewritten, DriverError> {
        self.call("rewrite", |host| {
            expect(host.exported.as_ref() == Some(exported), "the snapshot")?;
            let all: Vec<PartyMove> = parts.values().flatten().cloned().collect();
            let ids = |with: Option<&NodeId>| -> Vec<Vec<u8>> {
                let of = host
                    .contracts
                    .iter()
                    .filter(|(_, others)| with.is_none_or(|with| others.contains(with)));
                let mut ids: Vec<_> = of.map(|(id, _)| host.renamed(id)).collect();
                ids.sort_unstable();
                ids
            };
            let shared = parts.keys().filter(|node| **node != host.node).map(|node| {
                let ids = ids(Some(node));
                let contracts = u64::try_from(ids.len()).unwrap();
                SharedContracts { node: node.clone(), contracts, ids: digest_of(&ids) }
            });
            let mut snapshot = SnapshotHasher::default();
            for id in &ids(None) {
                snapshot.update(id);
            }
            let rewritten = Rewritten {
                source: exported.snapshot,
                map: map_digest(&all),
                snapshot: snapshot.finish(),
                contracts: exported.contracts,
                ids: digest_of(&ids(None)),
                shared: shared.collect(),
            };
            host.rewritten = Some(rewritten.clone());
            Ok(rewritten)
        })
    }

    fn safeguard(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.call("safeguard", |host| {
            expect(host.imported.is_empty(), "a target without contracts of the plan")?;
            host.safeguarded.insert(task.plan);
            Ok(())
        })
    }

    fn import(&mut self, _: ParticipantCall<'_>, _: &Rewritten) -> Result<(), DriverError> {
        self.call("import", |host| {
            host.target.connection = OFF;
            host.imported = host.contracts.keys().map(|id| host.renamed(id)).collect();
            host.target.ledger_end += 1;
            Ok(())
        })
    }

    fn connect(&mut self, _: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.call("connect", |host| {
            host.target.connection = HALF;
            Ok(())
        })
    }

    fn reconcile(
        &mut self,
        _: ParticipantCall<'_>,
        _: &Rewritten,
    ) -> Result<Reconciled, DriverError> {
        self.call("reconcile", |host| {
            Ok(Reconciled {
                contracts: u64::try_from(host.imported.len()).unwrap(),
                ids: digest_of(&host.imported),
                signer: host.target.participant.as_ref().unwrap().namespace(),
                ledger_end: LedgerOffset(host.target.ledger_end),
            })
        })
    }

    fn settle(&mut self, _: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.call("settle", |host| {
            host.target.connection = ON;
            Ok(())
        })
    }

    fn disconnect(&mut self, _: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.call("disconnect", |host| {
            host.target.connection = OFF;
            Ok(())
        })
    }

    fn purge(&mut self, _: ParticipantCall<'_>, _: Option<&Rewritten>) -> Result<(), DriverError> {
        self.call("purge", |host| {
            host.imported.clear();
            Ok(())
        })
    }

    fn reconnect(&mut self, _: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.call("reconnect", |host| {
            host.source.connection = ON;
            Ok(())
        })
    }
}
