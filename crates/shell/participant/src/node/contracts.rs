//! The ledger of a participant: what accepted transactions do, and what is active.

use heirloom_canton::blob::FatContract;
use heirloom_canton::contract_id::ContractId;
use heirloom_canton_node::wire::ledger::CreatedEvent;
use heirloom_model::causes::with_causes;
use heirloom_model::party::{PartyId, SynchronizerId};
use minicbor::bytes::ByteVec;
use prost::Message;
use prost_types::Timestamp;

use crate::log::event;
use crate::node::error::NodeError;
use crate::node::synchronizers::position_key;
use crate::node::{LEDGER_END_KEY, Node, lock};
use crate::record::{
    CommandRecord, ContractRecord, ContractState, Place, PositionRecord, TopologyRecord,
    UpdateRecord,
};
use crate::store::{Table, Write};
use crate::synchronizer::wire::{Accepted, Archive, Entry, Happening, Submission};
use crate::topology::{Demands, Topology, read_next};
use crate::values::{identifier, shown, shown_value};

/// Contracts, and where to go on.
pub type Found = (Vec<(ContractId, ContractRecord)>, Option<Place>);

/// What an event shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shows {
    /// Labels and names of types.
    pub verbose: bool,
    /// The blob.
    pub blob: bool,
}

impl Node {
    /// Takes up the next entry of a synchronizer's log: all that it does, and that it was done.
    pub fn process(&self, synchronizer: &SynchronizerId, entry: &Entry) -> Result<(), NodeError> {
        let mut known = lock(&self.known);
        let known = known.entry(synchronizer.clone()).or_default();
        if entry.position < known.position.next {
            return Ok(());
        }
        if entry.position > known.position.next {
            let (found, next) = (entry.position, known.position.next);
            return Err(NodeError::Rejected(format!("entry {found} came, and {next} is next")));
        }
        let position = PositionRecord { next: entry.position + 1, time_micros: entry.time_micros };
        let mut accepted = None;
        if let Some(Accepted::Topology(bytes)) = &entry.accepted {
            let demands =
                Demands { synchronizer: Some(synchronizer.to_string()), ..Demands::default() };
            accepted = Some(read_next(&known.topology, bytes, &demands, entry.time_micros)?);
        }
        self.store().write::<_, NodeError>(|write| {
            write.put(Table::Meta, &position_key(synchronizer), &position)?;
            if let Some(accepted) = &accepted {
                let key = format!("{synchronizer}\0{:?}", accepted.subject);
                let (signed, time_micros) = (accepted.signed.encode_to_vec(), entry.time_micros);
                write.put(
                    Table::Topology,
                    key.as_bytes(),
                    &TopologyRecord { signed, time_micros },
                )?;
            }
            if let Some(Accepted::Transaction(bytes)) = &entry.accepted {
                self.apply(write, &known.topology, bytes, entry)?;
            }
            Ok(())
        })?;
        // Only what is durable is believed.
        if let Some(accepted) = accepted {
            known.topology.accept(accepted);
        }
        known.position = position;
        Ok(())
    }

    fn apply(
        &self,
        write: &Write,
        topology: &Topology,
        submission: &[u8],
        entry: &Entry,
    ) -> Result<(), NodeError> {
        let submission = Submission::decode(submission);
        let submission = submission.map_err(|error| NodeError::Rejected(error.to_string()))?;
        let offset = write.one(Table::Meta, LEDGER_END_KEY)?.unwrap_or(0_u64) + 1;
        let mut command = CommandRecord {
            offset,
            position: entry.position,
            time_micros: entry.time_micros,
            archived: Vec::new(),
            created: Vec::new(),
        };
        for (number, node) in (0_u32..).zip(&submission.nodes) {
            let place = Place { offset, node: number };
            match &node.happening {
                Some(Happening::Create(blob)) => {
                    let made = self.create(write, topology, blob, place, &submission)?;
                    command.created.extend(made.map(|id| ByteVec::from(id.as_bytes().to_vec())));
                }
                Some(Happening::Archive(archive)) => {
                    command.archived.extend(end(write, archive, offset)?);
                }
                None => {}
            }
        }
        if !command.created.is_empty() || !command.archived.is_empty() {
            write.put(Table::Meta, LEDGER_END_KEY, &offset)?;
        }
        if self.id().is_some_and(|id| id.as_str() == submission.participant) {
            let key = command_key(&submission);
            write.put(Table::Commands, &key, &command)?;
        }
        Ok(())
    }

    fn create(
        &self,
        write: &Write,
        topology: &Topology,
        blob: &[u8],
        created: Place,
        submission: &Submission,
    ) -> Result<Option<ContractId>, NodeError> {
        let contract = FatContract::decode(blob);
        let contract = contract.map_err(|error| NodeError::Rejected(with_causes(&error)))?;
        let stakeholders: Vec<String> =
            contract.stakeholders().iter().map(ToString::to_string).collect();
        if !self.hosts_any(topology, &stakeholders) {
            return Ok(None);
        }
        let record = ContractRecord {
            synchronizer: submission.synchronizer_id.clone(),
            blob: blob.to_vec(),
            representative: contract.template.package.to_string(),
            counter: 0,
            created,
            state: ContractState::Active,
            stakeholders,
            workflow: submission.workflow_id.clone(),
        };
        put_contract(write, &contract.contract_id, &record)?;
        Ok(Some(contract.contract_id))
    }

    /// Whether this participant hosts one of these parties.
    pub fn hosts_any(&self, topology: &Topology, parties: &[String]) -> bool {
        let Some(id) = self.id() else { return false };
        parties.iter().any(|party| {
            let party = party.parse::<PartyId>();
            party.is_ok_and(|party| topology.hosts_of(&party).contains(id.as_str()))
        })
    }

    /// A contract with this id, whatever became of it.
    pub fn contract(&self, id: &ContractId) -> Result<Option<ContractRecord>, NodeError> {
        Ok(self.store().read()?.one(Table::Contracts, id.as_bytes())?)
    }

    /// Contracts that were created from a place on, as they are now; at most so many places are
    /// looked at. Also says where to go on.
    pub fn contracts_from(
        &self,
        read: &crate::store::Read,
        from: Place,
        count: usize,
    ) -> Result<Found, NodeError> {
        let updates = read.some::<UpdateRecord>(Table::Updates, &from.key(), count)?;
        let mut contracts = Vec::new();
        let mut next = None;
        for (key, update) in updates {
            let place = place_of(&key);
            next = Some(Place { offset: place.offset, node: place.node.saturating_add(1) });
            let record: Option<ContractRecord> = read.one(Table::Contracts, &update.contract)?;
            // What was taken out and put in again has an earlier place, which is not its place now.
            if let Some(record) = record.filter(|record| record.created == place) {
                let id = ContractId::from_bytes(&update.contract);
                let id = id.map_err(|error| NodeError::Invalid(error.to_string()))?;
                contracts.push((id, record));
            }
        }
        Ok((contracts, next))
    }

    /// The template of a contract, as the wire names it.
    pub fn template_of(
        &self,
        record: &ContractRecord,
    ) -> Result<Option<heirloom_canton_node::wire::ledger::Identifier>, NodeError> {
        let contract = FatContract::decode(&record.blob);
        let contract = contract.map_err(|error| NodeError::Invalid(with_causes(&error)))?;
        Ok(Some(identifier(&contract.template)))
    }

    /// A contract as applications see it.
    pub fn created_event(
        &self,
        record: &ContractRecord,
        shows: Shows,
        witnesses: &[String],
    ) -> Result<CreatedEvent, NodeError> {
        let contract = FatContract::decode(&record.blob);
        let contract = contract.map_err(|error| NodeError::Invalid(with_causes(&error)))?;
        let packages = self.packages();
        let template = &contract.template;
        let arguments = shown(&*packages, template, &contract.create_arg, shows.verbose);
        let key = contract.key.as_ref().and_then(|key| {
            let ty = packages.get(&template.package)?.key_type(&template.name)?;
            shown_value(&*packages, ty, &key.key, shows.verbose).ok()
        });
        let (seconds, nanos) = contract.created_at.seconds_and_nanos();
        let texts = |parties: &std::collections::BTreeSet<heirloom_canton::name::Party>| {
            parties.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        Ok(CreatedEvent {
            offset: i64::try_from(record.created.offset).unwrap_or(i64::MAX),
            node_id: i32::try_from(record.created.node).unwrap_or(i32::MAX),
            contract_id: contract.contract_id.to_string(),
            template_id: Some(identifier(template)),
            contract_key: key,
            // A contract that was imported without validation may not have its type.
            create_arguments: arguments.ok(),
            created_event_blob: if shows.blob { record.blob.clone() } else { Vec::new() },
            witness_parties: witnesses.to_vec(),
            signatories: texts(&contract.signatories),
            observers: texts(&contract.observers),
            created_at: Some(Timestamp { seconds, nanos }),
            package_name: contract.package_name.to_string(),
            acs_delta: true,
            representative_package_id: record.representative.clone(),
            contract_key_hash: contract
                .key
                .as_ref()
                .and_then(|key| key.hash)
                .map(|hash| hash.as_bytes().to_vec())
                .unwrap_or_default(),
        })
    }
}

/// Ends a contract, and names it if this participant had it.
fn end(write: &Write, archive: &Archive, offset: u64) -> Result<Option<ByteVec>, NodeError> {
    let found: Option<ContractRecord> = write.one(Table::Contracts, &archive.contract_id)?;
    match found {
        Some(mut record) if record.state == ContractState::Active => {
            record.state = ContractState::Archived { offset };
            write.put(Table::Contracts, &archive.contract_id, &record)?;
            Ok(Some(ByteVec::from(archive.contract_id.clone())))
        }
        // Only participants of observers come here: those of signatories were asked before.
        Some(_) | None => {
            event("archived-unknown", hex::encode(&archive.contract_id));
            Ok(None)
        }
    }
}

/// Writes a contract and its place.
pub(crate) fn put_contract(
    write: &Write,
    id: &ContractId,
    record: &ContractRecord,
) -> Result<(), NodeError> {
    write.put(Table::Contracts, id.as_bytes(), record)?;
    let update = UpdateRecord { contract: id.as_bytes().to_vec() };
    Ok(write.put(Table::Updates, &record.created.key(), &update)?)
}

/// Where the fate of a submission is written.
pub(crate) fn command_key(submission: &Submission) -> Vec<u8> {
    let mut parties = submission.act_as.clone();
    parties.sort();
    format!("{}\0{}\0{}", submission.user_id, submission.command_id, parties.join("\0"))
        .into_bytes()
}

fn place_of(key: &[u8]) -> Place {
    let (offset, node) = key.split_at(key.len().min(8));
    Place {
        offset: offset.try_into().map(u64::from_be_bytes).unwrap_or_default(),
        node: node.try_into().map(u32::from_be_bytes).unwrap_or_default(),
    }
}
