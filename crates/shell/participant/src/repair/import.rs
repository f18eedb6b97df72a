//! A snapshot into the store of a participant that is connected to nothing.
//!
//! What is read is persisted batch by batch. A failure leaves what was persisted, and asking again
//! skips it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use heirloom_canton::acs::{ActiveContract, Entry, FrameReader};
use heirloom_canton::blob::FatContract;
use heirloom_canton::types::PackageId;
use heirloom_model::party::{PartyId, SynchronizerId};

use crate::limit::{IMPORT_BATCH_CONTRACTS, IMPORT_BYTES_MAX};
use crate::log::event;
use crate::node::confirm::{ContractRefusal, check_contract, check_version};
use crate::node::contracts::put_contract;
use crate::node::error::NodeError;
use crate::node::{LEDGER_END_KEY, Node};
use crate::record::{ContractRecord, ContractState, Place};
use crate::repair::RepairError;
use crate::store::{Table, Write};
use crate::topology::Topology;
use crate::version::Line;

/// How contracts are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Ids are not computed again, stakeholders not compared.
    Accept,
    /// Everything is looked at.
    Validation,
}

/// Which package stands for another one.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// By contract id.
    pub contracts: BTreeMap<String, String>,
    /// By package id.
    pub packages: BTreeMap<String, String>,
    /// By package name.
    pub names: BTreeMap<String, String>,
}

/// What is imported.
#[derive(Clone, Debug)]
pub struct Import {
    /// Contracts of other synchronizers are dropped; nothing before 3.5.
    pub synchronizer: Option<SynchronizerId>,
    /// How they are looked at.
    pub mode: Mode,
    /// The beginning of the names of the workflows that bring them.
    pub workflow: String,
    /// Contracts of these parties are left out.
    pub excluded: BTreeSet<String>,
    /// Which package stands for another one.
    pub overrides: Overrides,
}

/// What became of the entries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Imported {
    /// New ones.
    pub added: u64,
    /// Active already, with the same content.
    pub skipped: u64,
    /// Of other synchronizers.
    pub dropped: u64,
    /// Of parties that are left out.
    pub excluded: u64,
}

/// One entry that may be persisted.
struct Checked {
    contract: FatContract,
    record: ContractRecord,
}

/// A synchronizer while a snapshot is imported for it.
#[derive(Clone)]
struct Target {
    topology: Topology,
    protocol_version: u32,
}

impl Node {
    /// Imports a compressed snapshot. The caller sees to it that nothing is connected.
    pub fn import(&self, import: &Import, input: impl Read) -> Result<Imported, NodeError> {
        let mut targets = BTreeMap::new();
        if let Some(synchronizer) = &import.synchronizer {
            targets.insert(synchronizer.clone(), self.target(synchronizer)?);
        }
        let mut done = Imported::default();
        let mut buffered = std::io::BufReader::new(input);
        let is_empty = std::io::BufRead::fill_buf(&mut buffered).is_ok_and(<[u8]>::is_empty);
        if is_empty {
            return Ok(done);
        }
        let unpacked = MultiGzDecoder::new(buffered).take(IMPORT_BYTES_MAX);
        let frames = FrameReader::new(std::io::BufReader::new(unpacked));
        let (mut batch, mut batches) = (Vec::new(), 0);
        for (entry, frame) in (0_u64..).zip(frames) {
            let frame = frame.map_err(RepairError::from)?;
            let decoded = Entry::decode(&frame).map_err(RepairError::from)?;
            let Entry::Current(active) = decoded else {
                return Err(RepairError::OldEntry { entry }.into());
            };
            if let Some(checked) = self.check_entry(import, &active, &mut targets, &mut done)? {
                batch.push(checked);
            }
            if batch.len() >= IMPORT_BATCH_CONTRACTS {
                self.persist(std::mem::take(&mut batch), &mut done)?;
                batches += 1;
                self.rest(batches)?;
            }
        }
        if !batch.is_empty() {
            self.persist(batch, &mut done)?;
            self.rest(batches + 1)?;
        }
        event("imported", format_args!("{done:?}"));
        Ok(done)
    }

    fn rest(&self, batches: u64) -> Result<(), NodeError> {
        if self.faults().does_import_fail(batches) {
            return Err(RepairError::Fault { batches }.into());
        }
        let pause = self.faults().import_pause();
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        Ok(())
    }

    fn target(&self, synchronizer: &SynchronizerId) -> Result<Target, NodeError> {
        let unknown = || RepairError::UnknownSynchronizer(synchronizer.to_string());
        let registered = self.synchronizer_named(synchronizer).map_err(|_| unknown())?;
        let topology = self.with_known(synchronizer, |known| known.topology.clone());
        let protocol_version = registered.parameters.ok_or_else(unknown)?.protocol_version;
        Ok(Target { topology: topology.ok_or_else(unknown)?, protocol_version })
    }

    fn check_entry(
        &self,
        import: &Import,
        active: &ActiveContract,
        targets: &mut BTreeMap<SynchronizerId, Target>,
        done: &mut Imported,
    ) -> Result<Option<Checked>, NodeError> {
        let synchronizer = active.synchronizer();
        if import.synchronizer.as_ref().is_some_and(|wanted| wanted != synchronizer) {
            done.dropped += 1;
            return Ok(None);
        }
        if !targets.contains_key(synchronizer) {
            targets.insert(synchronizer.clone(), self.target(synchronizer)?);
        }
        let target = targets.get(synchronizer).ok_or(NodeError::NotInitialized)?;
        let contract = active.contract().map_err(ContractRefusal::from)?;
        let stakeholders: Vec<String> =
            contract.stakeholders().iter().map(ToString::to_string).collect();
        if stakeholders.iter().any(|party| import.excluded.contains(party)) {
            done.excluded += 1;
            return Ok(None);
        }
        let counter = active.reassignment_counter();
        if counter != 0 && self.settings().version.line >= Line::V35 {
            let id = contract.contract_id;
            return Err(RepairError::ReassignmentCounter { id, counter }.into());
        }
        let representative = representative(import, active, &contract)?;
        match import.mode {
            Mode::Validation => {
                let version = target.protocol_version;
                check_contract(&contract, &representative, &self.packages(), version)?;
            }
            Mode::Accept => {
                check_version(&contract, target.protocol_version)?;
                if self.packages().get(&representative).is_none() {
                    let (id, package) = (contract.contract_id, representative);
                    return Err(ContractRefusal::UnknownPackage { id, package }.into());
                }
            }
        }
        self.check_stakeholders(&contract, &stakeholders, synchronizer, &target.topology)?;
        let record = ContractRecord {
            synchronizer: synchronizer.to_string(),
            blob: active.blob().to_vec(),
            representative: representative.to_string(),
            counter,
            // Decided when it is persisted.
            created: Place { offset: 0, node: 0 },
            state: ContractState::Active,
            stakeholders,
            workflow: import.workflow.clone(),
        };
        Ok(Some(Checked { contract, record }))
    }

    fn check_stakeholders(
        &self,
        contract: &FatContract,
        stakeholders: &[String],
        synchronizer: &SynchronizerId,
        topology: &Topology,
    ) -> Result<(), NodeError> {
        let id = || contract.contract_id.clone();
        for party in stakeholders {
            let hosts = topology.hosts_of(&party.parse::<PartyId>()?);
            if hosts.is_empty() {
                let (party, synchronizer) = (party.clone(), synchronizer.clone());
                let id = id();
                return Err(RepairError::UnknownStakeholder { id, party, synchronizer }.into());
            }
        }
        if self.hosts_any(topology, stakeholders) {
            Ok(())
        } else {
            Err(RepairError::NoLocalStakeholder { id: id() }.into())
        }
    }

    fn persist(&self, batch: Vec<Checked>, done: &mut Imported) -> Result<(), NodeError> {
        let (mut added, mut skipped) = (0, 0);
        self.store().write::<_, NodeError>(|write| {
            let offset = write.one(Table::Meta, LEDGER_END_KEY)?.unwrap_or(0_u64) + 1;
            for Checked { contract, mut record } in batch {
                if is_active_already(write, &contract, &record)? {
                    skipped += 1;
                    continue;
                }
                record.created = Place { offset, node: added };
                put_contract(write, &contract.contract_id, &record)?;
                added += 1;
            }
            if added > 0 {
                write.put(Table::Meta, LEDGER_END_KEY, &offset)?;
            }
            Ok(())
        })?;
        done.added += u64::from(added);
        done.skipped += skipped;
        Ok(())
    }
}

/// Whether this very contract is active. One that cannot become active is an error.
fn is_active_already(
    write: &Write,
    contract: &FatContract,
    record: &ContractRecord,
) -> Result<bool, NodeError> {
    let id = contract.contract_id.clone();
    let found: Option<ContractRecord> = write.one(Table::Contracts, id.as_bytes())?;
    let Some(found) = found else { return Ok(false) };
    match found.state {
        ContractState::Active => {
            let is_same = found.blob == record.blob
                && found.synchronizer == record.synchronizer
                && found.counter == record.counter;
            if is_same { Ok(true) } else { Err(RepairError::ActiveAndDifferent { id }.into()) }
        }
        ContractState::Archived { .. } => Err(RepairError::Archived { id }.into()),
        ContractState::Purged { .. } => Ok(false),
    }
}

/// Contract override, package id override, the snapshot's own, the package of the template, and
/// package name override for what is not here.
fn representative(
    import: &Import,
    active: &ActiveContract,
    contract: &FatContract,
) -> Result<PackageId, NodeError> {
    let overrides = &import.overrides;
    let own = active.representative_package().unwrap_or(&contract.template.package);
    let named = overrides
        .contracts
        .get(&contract.contract_id.to_string())
        .or_else(|| overrides.packages.get(own.as_str()))
        .or_else(|| overrides.names.get(contract.package_name.as_str()));
    match named {
        Some(text) => text.parse().map_err(|error: heirloom_canton::types::ParseNameError| {
            NodeError::Invalid(error.to_string())
        }),
        None => Ok(own.clone()),
    }
}
