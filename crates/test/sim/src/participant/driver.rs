//! The driver of two participants, over the world: every change is an operation of its own, before
//! and after which the agent may die, and whose answer may get lost.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::digest::{ContractSetDigest, SnapshotDigest};
use heirloom_model::identifier::NodeId;
use heirloom_model::participant::{
    ContractSetHasher, CustodianKind, Enrolled, Exported, ForeignParty, LedgerOffset, PartyKind,
    PartyMove, Reconciled, Rewritten, SharedContracts, SnapshotHasher, SurveyFindings,
    SurveyedParty, SynchronizerRoute, map_digest,
};
use heirloom_model::party::{ParticipantId, PartyId, SynchronizerId};
use heirloom_upgrade::port::{
    Connection, DriverError, Imported, Link, ParticipantCall, ParticipantDriver,
    ParticipantObservation, PlanWork, Restart, ServerObservation,
};

use super::{Contract, Contracts, Defect, Folder, Line, Server, Side, renamed};
use crate::node::SimDriver;
use crate::world::{World, lock};

/// Contracts that are imported or purged by one operation.
const BATCH: usize = 3;
/// What sources and targets run.
const VERSIONS: [&str; 2] = ["3.4.12", "3.5.1"];

fn unknown<T>(reason: &str) -> Result<T, DriverError> {
    Err(DriverError::Unknown(reason.to_owned()))
}

fn expect<T: PartialEq + std::fmt::Debug>(expected: &T, found: &T) -> Result<(), DriverError> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
    Err(DriverError::Unexpected { expected, found })
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn ids_digest<'a>(ids: impl Iterator<Item = &'a Vec<u8>>) -> ContractSetDigest {
    let mut hasher = ContractSetHasher::default();
    for id in ids {
        hasher.push(id).expect("a map has its keys in order");
    }
    hasher.finish()
}

fn snapshot_digest(contracts: &Contracts) -> SnapshotDigest {
    let mut hasher = SnapshotHasher::default();
    for (id, contract) in contracts {
        hasher.update(id);
        hasher.update(format!("{contract:?}").as_bytes());
    }
    hasher.finish()
}

impl SimDriver {
    /// One operation on the node. It may get no answer, whether it happened or not.
    fn operation<R>(
        &self,
        what: &'static str,
        effect: impl FnOnce(&mut World, &NodeId) -> Result<R, DriverError>,
    ) -> Result<R, DriverError> {
        let (silent, lost) = {
            let mut world = lock(&self.world);
            let (peer, lost) = (world.faults.peer, world.faults.lost_answer);
            (world.chance(peer), world.chance(lost))
        };
        if silent {
            return unknown("no answer");
        }
        let done = self.change(what, |world| effect(world, &self.node))?;
        if lost { unknown("the answer was lost") } else { Ok(done) }
    }

    fn at<R>(
        &self,
        what: &'static str,
        side: Side,
        effect: impl FnOnce(&mut Server) -> R,
    ) -> Result<R, DriverError> {
        self.operation(what, |world, node| world.server_mut(node, side).map(effect))
    }

    fn folder<R>(
        &self,
        what: &'static str,
        call: ParticipantCall<'_>,
        effect: impl FnOnce(&mut Folder) -> R,
    ) -> Result<R, DriverError> {
        self.operation(what, |world, node| {
            world.has_room()?;
            let pair = world.pair_mut(node)?;
            Ok(effect(pair.folders.entry(call.plan).or_default()))
        })
    }

    fn kept(&self, call: ParticipantCall<'_>) -> Result<Folder, DriverError> {
        let mut world = lock(&self.world);
        Ok(world.pair_mut(&self.node)?.folders.get(&call.plan).cloned().unwrap_or_default())
    }

    /// The source must be the one of the plan.
    fn expect_source(&self, call: ParticipantCall<'_>) -> Result<(), DriverError> {
        let found = self.at("the source's name", Side::Source, |it| it.participant.clone())?;
        expect(&Some(call.moved.source.clone()), &found)
    }

    fn lines(&self, side: Side) -> Result<BTreeMap<SynchronizerId, Line>, DriverError> {
        self.at("how it is connected", side, |server| server.lines.clone())
    }

    /// Disconnects a server from everything, so that it stays so.
    fn take_off(&self, side: Side) -> Result<(), DriverError> {
        for (synchronizer, line) in self.lines(side)? {
            if line.restart == Restart::Automatic {
                self.at("no connection by itself", side, |server| {
                    if let Some(line) = server.lines.get_mut(&synchronizer) {
                        line.restart = Restart::Manual;
                    }
                })?;
            }
        }
        // Also one that is connected to nothing: it may still try since it started.
        self.at("disconnect", side, |server| {
            for line in server.lines.values_mut() {
                (line.link, line.tries) = (Link::Disconnected, false);
            }
        })?;
        self.expect_off(side)
    }

    fn expect_off(&self, side: Side) -> Result<(), DriverError> {
        let off = |line: &Line| (line.link, line.restart) == (Link::Disconnected, Restart::Manual);
        if self.lines(side)?.values().all(off) {
            return Ok(());
        }
        unknown("it is still connected, or would connect by itself")
    }

    /// Connects a server to everything that the plan names.
    fn connect_all(&self, call: ParticipantCall<'_>, side: Side) -> Result<(), DriverError> {
        for route in &call.moved.routes {
            self.connect_one(side, &route.to)?;
        }
        Ok(())
    }

    fn connect_one(&self, side: Side, synchronizer: &SynchronizerId) -> Result<(), DriverError> {
        self.at("connect", side, |server| {
            let line = server.lines.get_mut(synchronizer);
            line.map(|line| (line.link, line.tries) = (Link::Connected, false))
        })?
        .ok_or_else(|| DriverError::Missing { what: format!("synchronizer {synchronizer}") })
    }

    /// What has to be true while the source is quiet.
    fn still(&self, ledger_end: LedgerOffset) -> Result<(), DriverError> {
        let found = self.at("the end of the ledger", Side::Source, |it| it.ledger_end)?;
        expect(&ledger_end.0, &found)?;
        match self.expect_off(Side::Source) {
            Err(DriverError::Unknown(found)) if found.starts_with("it is") => {
                Err(DriverError::Unexpected { expected: "a source that is off".to_owned(), found })
            }
            found => found,
        }
    }

    fn target(&self) -> Result<ParticipantId, DriverError> {
        let found = self.at("the target's name", Side::Target, |it| it.participant.clone())?;
        found.ok_or_else(|| DriverError::Missing { what: "the target's name".to_owned() })
    }

    fn found_on_target(&self) -> Result<Contracts, DriverError> {
        self.at("contracts of the target", Side::Target, |it| it.contracts.clone())
    }
}

impl World {
    fn has_room(&mut self) -> Result<(), DriverError> {
        let full = self.faults.full;
        if self.chance(full) {
            Err(DriverError::Unknown("no space now".to_owned()))
        } else {
            Ok(())
        }
    }

    fn findings(&self, node: &NodeId) -> Option<SurveyFindings> {
        let (source, target) = (&self.pair(node)?.source, &self.pair(node)?.target);
        let name = source.participant.clone()?;
        let kind = |party: &PartyId| {
            if *party == name.admin_party() { PartyKind::Admin } else { PartyKind::Local }
        };
        let mut parties: BTreeSet<PartyId> = source.parties.clone();
        parties.insert(name.admin_party());
        let others: BTreeSet<&PartyId> = source
            .contracts
            .values()
            .flat_map(|contract| &contract.stakeholders)
            .filter(|party| !source.parties.contains(party))
            .collect();
        let hosts = |party: &PartyId| {
            let of = self.pairs().filter(|(_, pair)| pair.source.parties.contains(party));
            of.filter_map(|(_, pair)| pair.source.participant.clone()).collect()
        };
        let foreign =
            others.into_iter().map(|it| ForeignParty { party: it.clone(), hosts: hosts(it) });
        let routes = source.lines.keys().cloned();
        Some(SurveyFindings {
            source: name.clone(),
            source_version: VERSIONS[0].parse().ok()?,
            target_version: VERSIONS[1].parse().ok()?,
            custodian: CustodianKind::Pkcs11,
            target: target.participant.clone(),
            routes: routes.map(|from| SynchronizerRoute { to: from.clone(), from }).collect(),
            parties: parties
                .into_iter()
                .map(|party| SurveyedParty { kind: kind(&party), party })
                .collect(),
            foreign: foreign.collect(),
            packages: count(source.packages.len()),
            contracts: count(source.contracts.len()),
            ledger_end: LedgerOffset(source.ledger_end),
            remarks: Vec::new(),
        })
    }
}

fn seen(server: &Server, version: &str) -> Option<ServerObservation> {
    let connection = |line: &Line| Connection { link: line.link, restart: line.restart };
    (server.down == 0).then(|| ServerObservation {
        participant: server.participant.clone(),
        version: version.parse().expect("it is a version"),
        synchronizers: server
            .lines
            .iter()
            .map(|(name, line)| (name.clone(), connection(line)))
            .collect(),
        parties: server.parties.clone(),
        ledger_end: Some(LedgerOffset(server.ledger_end)),
    })
}

impl ParticipantDriver for SimDriver {
    fn survey(&mut self) -> Result<SurveyFindings, DriverError> {
        self.operation("survey", |world, node| {
            for side in [Side::Source, Side::Target] {
                world.server_mut(node, side)?;
            }
            let missing = || DriverError::Missing { what: "participants".to_owned() };
            world.findings(node).ok_or_else(missing)
        })
    }

    fn observe(
        &mut self,
        call: ParticipantCall<'_>,
    ) -> Result<ParticipantObservation, DriverError> {
        let mut world = lock(&self.world);
        if world.node(&self.node).agent_down {
            return Err(DriverError::Stopping);
        }
        let pair = world.pair_mut(&self.node)?;
        let folder = pair.folders.get(&call.plan).cloned().unwrap_or_default();
        let [source, target] = [(&pair.source, VERSIONS[0]), (&pair.target, VERSIONS[1])]
            .map(|(server, version)| seen(server, version));
        let on_target = &pair.target.contracts;
        let told = on_target.is_empty() || folder.rewritten.is_some();
        let imported = target.is_some() && told;
        let lacking = pair.source.packages.difference(&pair.target.packages).count();
        Ok(ParticipantObservation {
            work: PlanWork {
                lacking: (source.is_some() && target.is_some()).then(|| count(lacking)),
                safeguarded: folder.safeguard.is_some(),
                imported: imported.then(|| Imported {
                    contracts: count(on_target.len()),
                    ids: ids_digest(on_target.keys()),
                }),
            },
            source,
            target,
            under_way: None,
        })
    }

    fn enroll(&mut self, call: ParticipantCall<'_>) -> Result<Enrolled, DriverError> {
        self.expect_source(call)?;
        let name = format!("target::1220bb{}", self.node.as_str().replace("node-", "000"));
        let name: ParticipantId = name.parse().expect("it is a name");
        self.at("a name", Side::Target, |server| {
            server.participant.get_or_insert_with(|| name.clone());
        })?;
        for route in &call.moved.routes {
            self.at("a synchronizer", Side::Target, |server| {
                server.lines.entry(route.to.clone()).or_insert(Line::ON);
            })?;
        }
        self.connect_all(call, Side::Target)?;
        Ok(Enrolled { target: self.target()?, custodian: call.moved.custodian })
    }

    fn allocate(&mut self, call: ParticipantCall<'_>) -> Result<Vec<PartyMove>, DriverError> {
        self.expect_source(call)?;
        let hosted = self.at("parties", Side::Source, |server| server.parties.clone())?;
        expect(&call.moved.parties.iter().cloned().collect(), &hosted)?;
        let namespace = self.target()?.namespace();
        // A target that came back from an earlier plan does not connect by itself.
        self.connect_all(call, Side::Target)?;
        let mut moves = Vec::new();
        for from in &call.moved.parties {
            let to = from.moved_to(&namespace).expect("names of this world are short");
            let done = self.at("a party", Side::Target, |server| {
                let on = call.moved.routes.iter().all(|route| server.is_on(&route.to));
                if on {
                    server.parties.insert(to.clone());
                }
                on
            })?;
            if !done {
                return unknown("the target is not connected");
            }
            moves.push(PartyMove { from: from.clone(), to });
        }
        Ok(moves)
    }

    fn supply(&mut self, call: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.expect_source(call)?;
        self.connect_all(call, Side::Target)?;
        let packages = self.at("packages", Side::Source, |server| server.packages.clone())?;
        for package in packages {
            let on = self.at("a package", Side::Target, |server| {
                let on = call.moved.routes.iter().all(|route| server.is_on(&route.to));
                if on {
                    server.packages.insert(package);
                }
                on
            })?;
            if !on {
                return unknown("the target is not connected");
            }
        }
        Ok(())
    }

    fn quiesce(&mut self, call: ParticipantCall<'_>) -> Result<LedgerOffset, DriverError> {
        self.expect_source(call)?;
        if self.kept(call)?.before.is_none() {
            let lines = self.lines(Side::Source)?;
            let before = lines.into_iter().map(|(name, line)| (name, (line.link, line.restart)));
            let before: BTreeMap<_, _> = before.collect();
            self.folder("how it was connected", call, |folder| {
                folder.before.get_or_insert(before);
            })?;
        }
        self.take_off(Side::Source)?;
        self.at("the end of the ledger", Side::Source, |it| LedgerOffset(it.ledger_end))
    }

    fn export(
        &mut self,
        call: ParticipantCall<'_>,
        ledger_end: LedgerOffset,
    ) -> Result<Exported, DriverError> {
        self.expect_source(call)?;
        self.still(ledger_end)?;
        if self.kept(call)?.exported.is_none() {
            let found = self.at("contracts of the source", Side::Source, |it| {
                (it.ledger_end, it.contracts.clone())
            })?;
            self.still(ledger_end)?;
            self.folder("the snapshot", call, |folder| folder.exported = Some(found))?;
        }
        let (_, contracts) = self.kept(call)?.exported.unwrap_or_default();
        let snapshot = snapshot_digest(&contracts);
        Ok(Exported { ledger_end, snapshot, contracts: count(contracts.len()) })
    }

    fn rewrite(
        &mut self,
        call: ParticipantCall<'_>,
        exported: &Exported,
        parts: &BTreeMap<NodeId, Vec<PartyMove>>,
    ) -> Result<Rewritten, DriverError> {
        let (_, contracts) = self.kept(call)?.exported.unwrap_or_default();
        expect(&exported.snapshot, &snapshot_digest(&contracts))?;
        let all: Vec<PartyMove> = parts.values().flatten().cloned().collect();
        let names = all.iter().map(|it| (it.from.clone(), it.to.clone())).collect();
        let defect = lock(&self.world).pair_mut(&self.node)?.defect;
        let salt: &[u8] = if defect == Some(Defect::OtherIds) { b"other" } else { b"" };
        let new: Contracts =
            contracts.iter().map(|(id, contract)| renamed(id, contract, &names, salt)).collect();
        self.folder("the new snapshot", call, |folder| folder.rewritten = Some(new.clone()))?;
        let with = |others: &[PartyMove]| {
            let theirs = |contract: &Contract| {
                others.iter().any(|party| contract.stakeholders.contains(&party.to))
            };
            let of = new.iter().filter(|(_, contract)| theirs(contract));
            of.map(|(id, _)| id).collect::<Vec<_>>()
        };
        let others = parts.iter().filter(|(node, _)| **node != self.node);
        let shared = others.map(|(node, moves)| {
            let ids = with(moves);
            let (contracts, ids) = (count(ids.len()), ids_digest(ids.into_iter()));
            SharedContracts { node: node.clone(), contracts, ids }
        });
        Ok(Rewritten {
            source: exported.snapshot,
            map: map_digest(&all),
            snapshot: snapshot_digest(&new),
            contracts: count(new.len()),
            ids: ids_digest(new.keys()),
            shared: shared.collect(),
        })
    }

    fn safeguard(&mut self, call: ParticipantCall<'_>) -> Result<(), DriverError> {
        if self.kept(call)?.safeguard.is_some() {
            return Ok(());
        }
        self.take_off(Side::Target)?;
        let copy = self.at("the store", Side::Target, |server| server.clone())?;
        self.folder("the copy of the store", call, |folder| folder.safeguard = Some(copy))
    }

    fn import(
        &mut self,
        call: ParticipantCall<'_>,
        rewritten: &Rewritten,
    ) -> Result<(), DriverError> {
        let folder = self.kept(call)?;
        let missing = |what: &str| DriverError::Missing { what: what.to_owned() };
        folder.safeguard.ok_or_else(|| missing("the copy of the target's store"))?;
        let wanted = folder.rewritten.ok_or_else(|| missing("the new snapshot"))?;
        expect(&rewritten.snapshot, &snapshot_digest(&wanted))?;
        self.take_off(Side::Target)?;
        if lock(&self.world).pair_mut(&self.node)?.defect == Some(Defect::RefusesImport) {
            return Err(DriverError::Refused("the target does not know a package".to_owned()));
        }
        let there = self.found_on_target()?;
        let lacking: Vec<_> = wanted.iter().filter(|(id, _)| !there.contains_key(*id)).collect();
        for batch in lacking.chunks(BATCH) {
            self.at("an import", Side::Target, |server| {
                if server.is_on_any() {
                    return Err(DriverError::Refused("it is still connected".to_owned()));
                }
                for (id, contract) in batch {
                    server.contracts.insert((*id).clone(), (*contract).clone());
                }
                server.ledger_end = server.ledger_end.saturating_add(1);
                Ok(())
            })??;
        }
        expect(&rewritten.ids, &ids_digest(self.found_on_target()?.keys()))
    }

    fn connect(&mut self, call: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.connect_all(call, Side::Target)
    }

    fn reconcile(
        &mut self,
        _: ParticipantCall<'_>,
        rewritten: &Rewritten,
    ) -> Result<Reconciled, DriverError> {
        let found = self.found_on_target()?;
        let ids = ids_digest(found.keys());
        expect(&rewritten.ids, &ids)?;
        let ledger_end = self.at("the end of the ledger", Side::Target, |it| it.ledger_end)?;
        Ok(Reconciled {
            contracts: count(found.len()),
            ids,
            signer: self.target()?.namespace(),
            ledger_end: LedgerOffset(ledger_end),
        })
    }

    fn settle(&mut self, call: ParticipantCall<'_>) -> Result<(), DriverError> {
        for route in &call.moved.routes {
            self.at("connection by itself", Side::Target, |server| {
                if let Some(line) = server.lines.get_mut(&route.to) {
                    line.restart = Restart::Automatic;
                }
            })?;
        }
        // One that started again since it was connected waits to be told to.
        self.connect_all(call, Side::Target)?;
        self.expect_off(Side::Source)
    }

    fn disconnect(&mut self, _: ParticipantCall<'_>) -> Result<(), DriverError> {
        self.take_off(Side::Target)
    }

    fn purge(
        &mut self,
        call: ParticipantCall<'_>,
        rewritten: Option<&Rewritten>,
    ) -> Result<(), DriverError> {
        if rewritten.is_none() {
            return Ok(());
        }
        let ours = self.kept(call)?.rewritten.unwrap_or_default();
        let there = self.found_on_target()?;
        let left: Vec<_> = there.keys().filter(|id| ours.contains_key(*id)).collect();
        if left.is_empty() {
            return Ok(());
        }
        self.take_off(Side::Target)?;
        for batch in left.chunks(BATCH) {
            self.at("a purge", Side::Target, |server| {
                for id in batch {
                    server.contracts.remove(*id);
                }
                server.ledger_end = server.ledger_end.saturating_add(1);
            })?;
        }
        Ok(())
    }

    fn reconnect(&mut self, call: ParticipantCall<'_>) -> Result<(), DriverError> {
        let Some(before) = self.kept(call)?.before else { return Ok(()) };
        // It may just have started when that was noted.
        for (synchronizer, (link, restart)) in before {
            self.at("as it was", Side::Source, |server| {
                if let Some(line) = server.lines.get_mut(&synchronizer) {
                    line.restart = restart;
                }
            })?;
            let is_left = call.moved.routes.iter().any(|route| route.from == synchronizer);
            if link == Link::Connected || restart == Restart::Automatic || is_left {
                self.connect_one(Side::Source, &synchronizer)?;
            }
        }
        Ok(())
    }
}
