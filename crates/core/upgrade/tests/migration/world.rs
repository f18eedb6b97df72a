//! A few nodes with a source and a target each: a log and journals in memory, servers in a few
//! fields. What fails, and when, is under each test's control.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::digest::{ContractSetDigest, PlanDigest};
use heirloom_model::envelope::Envelope;
use heirloom_model::fleet::OperatorKey;
use heirloom_model::identifier::{NodeId, OperatorId};
use heirloom_model::log::LogEntry;
use heirloom_model::participant::{
    ContractSetHasher, CustodianKind, Exported, ForeignParty, LedgerOffset, MapAgreement,
    ParticipantSurvey, PartyKind, Rewritten, SnapshotHasher, SurveyFindings, SurveyedParty,
    SynchronizerRoute,
};
use heirloom_model::party::{ParticipantId, PartyId, SynchronizerId};
use heirloom_model::statement::{Statement, StatementKind};
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_testkit::ceremony::Ceremony;
use heirloom_upgrade::port::{Connection, DriverError, Link, Restart};

/// Everything outside of the agents.
pub(crate) struct World {
    pub(crate) ceremony: Ceremony,
    pub(crate) entries: Vec<LogEntry>,
    pub(crate) state: NetworkState,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    /// How many appends of a kind do not reach the log.
    pub(crate) lost: BTreeMap<StatementKind, u32>,
    /// A process that dies.
    pub(crate) fault: Option<Fault>,
}

/// The process of one agent dies at its `left`th change of the world, before or after it.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) node: NodeId,
    pub(crate) left: u32,
    pub(crate) after: bool,
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Happens,
    DiesBefore,
    DiesAfter,
}

/// One node.
pub(crate) struct Host {
    pub(crate) node: NodeId,
    pub(crate) journal: Vec<Vec<u8>>,
    pub(crate) source: Server,
    pub(crate) target: Server,
    /// Ids of contracts, and the other nodes whose parties stand in them.
    pub(crate) contracts: BTreeMap<Vec<u8>, BTreeSet<NodeId>>,
    pub(crate) foreign: Vec<ForeignParty>,
    pub(crate) lacking: u64,
    pub(crate) exported: Option<Exported>,
    pub(crate) rewritten: Option<Rewritten>,
    pub(crate) safeguarded: BTreeSet<PlanDigest>,
    /// Ids of contracts that are active on the target.
    pub(crate) imported: BTreeSet<Vec<u8>>,
    /// How often the custodian made keys.
    pub(crate) keys_made: u32,
    /// Rewrites shared contracts in another way than everybody else.
    pub(crate) stubborn: bool,
    /// Calls that are answered with an error before anything happens.
    pub(crate) fail: BTreeMap<&'static str, DriverError>,
    pub(crate) calls: Vec<&'static str>,
}

pub(crate) struct Server {
    pub(crate) participant: Option<ParticipantId>,
    pub(crate) parties: BTreeSet<PartyId>,
    pub(crate) connection: Connection,
    pub(crate) ledger_end: u64,
}

pub(crate) type Shared = Arc<Mutex<World>>;

pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) const ON: Connection = Connection { link: Link::Connected, restart: Restart::Automatic };
pub(crate) const HALF: Connection = Connection { link: Link::Connected, restart: Restart::Manual };
pub(crate) const OFF: Connection =
    Connection { link: Link::Disconnected, restart: Restart::Manual };

pub(crate) fn synchronizer() -> SynchronizerId {
    "global::1220dd".parse().unwrap()
}

fn namespace(node: &NodeId, which: &str) -> String {
    let number = node.as_str().strip_prefix("node-").unwrap();
    format!("1220{which}{number:0>4}")
}

pub(crate) fn source_of(node: &NodeId) -> ParticipantId {
    format!("participant::{}", namespace(node, "aa")).parse().unwrap()
}

pub(crate) fn target_of(node: &NodeId) -> ParticipantId {
    format!("participant::{}", namespace(node, "bb")).parse().unwrap()
}

pub(crate) fn party_of(node: &NodeId) -> PartyId {
    format!("alice::{}", namespace(node, "aa")).parse().unwrap()
}

pub(crate) fn digest_of<'a>(ids: impl IntoIterator<Item = &'a Vec<u8>>) -> ContractSetDigest {
    let mut hasher = ContractSetHasher::default();
    ids.into_iter().for_each(|id| hasher.push(id).unwrap());
    hasher.finish()
}

impl Host {
    fn new(node: &NodeId, all: &[NodeId]) -> Self {
        let others = || all.iter().filter(|other| *other != node);
        let mut contracts = BTreeMap::from([(node.as_str().as_bytes().to_vec(), BTreeSet::new())]);
        for other in others() {
            let mut pair = [node.as_str(), other.as_str()];
            pair.sort_unstable();
            let id = pair.join("+").into_bytes();
            contracts.insert(id, BTreeSet::from([other.clone()]));
        }
        let foreign = others()
            .map(|other| ForeignParty { party: party_of(other), hosts: vec![source_of(other)] });
        let server = |participant, parties: &[PartyId]| Server {
            participant,
            parties: parties.iter().cloned().collect(),
            connection: ON,
            ledger_end: 40,
        };
        Self {
            node: node.clone(),
            journal: Vec::new(),
            source: server(Some(source_of(node)), &[party_of(node)]),
            target: server(None, &[]),
            contracts,
            foreign: foreign.collect(),
            lacking: 2,
            exported: None,
            rewritten: None,
            safeguarded: BTreeSet::new(),
            imported: BTreeSet::new(),
            keys_made: 0,
            stubborn: false,
            fail: BTreeMap::new(),
            calls: Vec::new(),
        }
    }

    /// What a survey of this node finds.
    pub(crate) fn findings(&self) -> SurveyFindings {
        let admin = self.source.participant.as_ref().unwrap().admin_party();
        let mut parties: Vec<SurveyedParty> = self
            .source
            .parties
            .iter()
            .map(|party| SurveyedParty { party: party.clone(), kind: PartyKind::Local })
            .collect();
        parties.push(SurveyedParty { party: admin, kind: PartyKind::Admin });
        parties.sort_by(|left, right| left.party.cmp(&right.party));
        SurveyFindings {
            source: self.source.participant.clone().unwrap(),
            source_version: "3.4.12".parse().unwrap(),
            target_version: "3.5.1".parse().unwrap(),
            custodian: CustodianKind::Pkcs11,
            target: self.target.participant.clone(),
            routes: vec![SynchronizerRoute { from: synchronizer(), to: synchronizer() }],
            parties,
            foreign: self.foreign.clone(),
            packages: 2,
            contracts: u64::try_from(self.contracts.len()).unwrap(),
            ledger_end: LedgerOffset(self.source.ledger_end),
            remarks: Vec::new(),
        }
    }

    /// The new id of a contract.
    pub(crate) fn renamed(&self, id: &[u8]) -> Vec<u8> {
        let mark: &[u8] = if self.stubborn { b"?" } else { b"!" };
        [id, mark].concat()
    }

    pub(crate) fn snapshot(&self) -> Exported {
        let mut hasher = SnapshotHasher::default();
        self.contracts.keys().for_each(|id| hasher.update(id));
        Exported {
            ledger_end: LedgerOffset(self.source.ledger_end),
            snapshot: hasher.finish(),
            contracts: u64::try_from(self.contracts.len()).unwrap(),
        }
    }
}

impl World {
    /// A network with so many nodes, each with a participant and a survey in the log.
    pub(crate) fn new(nodes: usize) -> Self {
        let ceremony = Ceremony::new(&[9; 32]);
        let fleet = ceremony.nodes(nodes);
        let names: Vec<NodeId> = fleet.iter().map(|node| node.node.clone()).collect();
        let hosts = names.iter().map(|node| (node.clone(), Host::new(node, &names))).collect();
        let mut world = Self {
            state: NetworkState::new(ceremony.network),
            entries: Vec::new(),
            hosts,
            lost: BTreeMap::new(),
            fault: None,
            ceremony,
        };
        for statement in [
            world.ceremony.root(),
            world.ceremony.epoch(Epoch(1)),
            world.ceremony.fleet(Serial(1), fleet),
        ] {
            world.accept(&statement);
        }
        for node in &names {
            let survey = world.survey(node);
            world.accept(&survey);
        }
        world
    }

    pub(crate) fn signed<T: Statement>(&self, node: &NodeId, statement: &T) -> Envelope {
        Envelope::signed(statement, [&self.ceremony.agent_key(node)])
    }

    pub(crate) fn survey(&self, node: &NodeId) -> Envelope {
        self.signed(node, &self.survey_of(node))
    }

    pub(crate) fn survey_of(&self, node: &NodeId) -> ParticipantSurvey {
        ParticipantSurvey {
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            node: node.clone(),
            found: self.hosts[node].findings(),
        }
    }

    pub(crate) fn operator_of(&self, node: &NodeId) -> OperatorId {
        self.state.node(node).unwrap().operator.clone()
    }

    /// The agreement of the operator of a node, signed with its key.
    pub(crate) fn agreement(&self, plan: PlanDigest, node: &NodeId) -> Envelope {
        let map = self.state.plan(&plan).unwrap().party_map().unwrap().0;
        let agreement = MapAgreement {
            network: self.ceremony.network,
            plan,
            operator: self.operator_of(node),
            map,
        };
        self.agreed(&agreement, &agreement.operator)
    }

    /// An agreement, signed with the key of this operator.
    pub(crate) fn agreed(&self, agreement: &MapAgreement, signer: &OperatorId) -> Envelope {
        Envelope::signed(agreement, self.ceremony.operator_key(signer))
    }

    /// A fleet of the same nodes, whose operators have these keys.
    pub(crate) fn fleet_with(&self, operators: Vec<OperatorKey>) -> Envelope {
        let known = self.state.fleet().unwrap();
        let serial = known.serial.next().unwrap();
        let mut fleet = self.ceremony.fleet_of(serial, known.nodes.clone());
        fleet.operators = operators;
        self.ceremony.signed_fleet(&fleet)
    }

    /// The keys of the operators, as the fleet in force names them.
    pub(crate) fn operators(&self) -> Vec<OperatorKey> {
        self.state.fleet().unwrap().operators.clone()
    }

    /// Puts a statement into the log, which must accept it.
    pub(crate) fn accept(&mut self, envelope: &Envelope) {
        let applied = self.push(&wire::encode(envelope));
        assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
    }

    /// Why the log does not take a statement; `accepted` if it would.
    pub(crate) fn refusal(&self, envelope: &Envelope) -> &'static str {
        let judged = self.state.clone().judge(&wire::encode(envelope));
        judged.err().map_or("accepted", |refusal| refusal.code())
    }

    pub(crate) fn push(&mut self, envelope: &[u8]) -> Applied {
        let entry = LogEntry::following(&self.state.position(), envelope.to_vec());
        let applied = self.state.apply(&entry).unwrap();
        self.entries.push(entry);
        applied
    }

    /// A change of the world by the agent of a node.
    pub(crate) fn fate(&mut self, node: &NodeId) -> Fate {
        let Some(fault) = self.fault.as_mut().filter(|fault| fault.node == *node) else {
            return Fate::Happens;
        };
        fault.left = fault.left.saturating_sub(1);
        if fault.left > 0 {
            return Fate::Happens;
        }
        let after = fault.after;
        self.fault = None;
        if after { Fate::DiesAfter } else { Fate::DiesBefore }
    }
}
