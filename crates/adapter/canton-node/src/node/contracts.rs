//! Contracts: exported, imported, purged, and read through the interface of applications.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use heirloom_canton::contract_id::ContractId;
use heirloom_model::party::{PartyId, SynchronizerId};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::error::{Effect, NodeError};
use crate::node::call::{MESSAGE_BYTES_MAX, ask};
use crate::node::{Node, Port, Shape};
use crate::wire::ledger::GetLedgerEndRequest;
use crate::wire::ledger::state_service_client::StateServiceClient;
use crate::wire::older;
use crate::wire::older::party_management_service_client as older_client;
use crate::wire::participant::participant_repair_service_client::ParticipantRepairServiceClient;
use crate::wire::participant::{
    ContractImportMode, ExportAcsRequest, ExportAcsTargetSynchronizer, ImportAcsRequest,
    PurgeContractsRequest,
};
use crate::wire::slim;
use crate::wire::slim::get_active_contracts_response::ContractEntry;
use crate::wire::slim::state_service_client::StateServiceClient as SlimClient;

/// Bytes in one message of an import. Servers take 10 MiB in their default configuration.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Messages of an import that wait to be sent.
const CHUNKS_WAITING: usize = 4;
/// The largest snapshot: a hundred million contracts of some kilobytes, compressed.
pub(crate) const SNAPSHOT_BYTES_MAX: u64 = 256 * 1024 * 1024 * 1024;
/// Contracts are confidential.
const FILE_MODE: u32 = 0o600;
/// Contracts in one request to purge.
const PURGE_BATCH: usize = 1_000;
/// Contracts of one participant.
const CONTRACTS_MAX: u64 = 1_000_000_000;

/// Which contracts are exported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExportRequest {
    /// The parties whose contracts they are. Not empty: what "nobody" means changed in 3.5.
    pub parties: BTreeSet<PartyId>,
    /// Only those of one synchronizer.
    pub synchronizer: Option<SynchronizerId>,
    /// As they were at this end of the ledger.
    pub ledger_end: u64,
    /// Synchronizers that are called differently in the snapshot.
    pub renames: BTreeMap<SynchronizerId, SynchronizerId>,
}

/// What is imported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImportRequest {
    /// The snapshot, as it is exported.
    pub file: PathBuf,
    /// The synchronizer of all its contracts. Contracts of others would be dropped in silence.
    pub synchronizer: SynchronizerId,
    /// In front of the identifiers of what the import writes into the ledger.
    pub prefix: String,
}

/// A contract as applications see it, without its arguments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActiveContract {
    /// Its id.
    pub id: ContractId,
    /// Where it is.
    pub synchronizer: SynchronizerId,
    /// How often it moved from one synchronizer to another.
    pub reassigned: u64,
    /// Who signed it.
    pub signatories: BTreeSet<String>,
    /// Who else sees it.
    pub observers: BTreeSet<String>,
    /// The whole contract, as it was asked for; empty if it was not.
    pub blob: Vec<u8>,
}

/// What comes when active contracts are read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Visit {
    /// A contract.
    Active(ActiveContract),
    /// One that is on its way between two synchronizers.
    Incomplete,
}

impl Node {
    /// How far its ledger goes.
    pub fn ledger_end(&self) -> Result<u64, NodeError> {
        let call = "GetLedgerEnd";
        let request = ask!(StateServiceClient<_>, get_ledger_end, GetLedgerEndRequest {});
        let answer = self.read(Port::Ledger, call, request)?;
        u64::try_from(answer.offset).map_err(|_| self.corrupt(call, "the ledger ends before 0"))
    }

    /// How far its ledger goes, if two looks with a rest between them see the same; none if it
    /// moves.
    pub fn resting_ledger_end(&self) -> Result<Option<u64>, NodeError> {
        let first = self.ledger_end()?;
        let time = self.shared.deadlines.rest;
        self.wait(async { tokio::time::sleep(time).await });
        let second = self.ledger_end()?;
        Ok((first == second).then_some(second))
    }

    /// Writes a snapshot to a file that does not exist yet; returns its bytes. The file is
    /// complete and durable, or not there.
    pub fn export(&self, wanted: &ExportRequest, to: &Path) -> Result<u64, ContractsError> {
        let call = "ExportAcs";
        if wanted.parties.is_empty() {
            return Err(ContractsError::NoParties);
        }
        let shape = self.shape()?;
        let line = self.line(Port::Admin, call)?;
        let mut part = Part::create(to)?;
        let time = self.shared.deadlines.stream;
        let silent = |_| NodeError::silent(self.name(), call, Effect::Reads, time);
        self.wait(async {
            if shape == Shape::V33 {
                let mut client = older_client::PartyManagementServiceClient::new(line)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX);
                let opened = timeout(time, client.export_acs(older_export(wanted))).await;
                let opened = opened.map_err(silent)?;
                let stream = opened.map_err(|s| self.failed(call, &s))?.into_inner();
                return self.receive(call, stream, &mut part, |answer| answer.chunk).await;
            }
            let mut client = ParticipantRepairServiceClient::new(line)
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
            let opened = timeout(time, client.export_acs(export(wanted))).await;
            let opened = opened.map_err(silent)?;
            let stream = opened.map_err(|s| self.failed(call, &s))?.into_inner();
            self.receive(call, stream, &mut part, |answer| answer.chunk).await
        })?;
        part.finish(to)
    }

    async fn receive<T>(
        &self,
        call: &'static str,
        mut stream: Streaming<T>,
        part: &mut Part,
        chunk: impl Fn(T) -> Vec<u8>,
    ) -> Result<(), ContractsError> {
        let time = self.shared.deadlines.stream;
        loop {
            let next = timeout(time, stream.message()).await;
            let next = next.map_err(|_| NodeError::silent(self.name(), call, Effect::Reads, time));
            match next?.map_err(|status| self.failed(call, &status))? {
                Some(answer) => part.write(&chunk(answer))?,
                None => return Ok(()),
            }
        }
    }

    fn failed(&self, call: &'static str, status: &Status) -> NodeError {
        NodeError::of(self.name(), call, Effect::Reads, status)
    }

    /// Sends a snapshot into a participant that is disconnected, which checks every contract. What
    /// is there already is left as it is, so that it may be repeated; after an error, part of it
    /// is there.
    pub fn import(&self, wanted: &ImportRequest) -> Result<(), ContractsError> {
        let call = "ImportAcs";
        let shape = self.shape()?;
        let line = self.line(Port::Admin, call)?;
        let mut file =
            File::open(&wanted.file).map_err(|e| ContractsError::of(&wanted.file, &e))?;
        let (sender, receiver) = tokio::sync::mpsc::channel(CHUNKS_WAITING);
        let time = self.shared.deadlines.import;
        let mut client = ParticipantRepairServiceClient::new(line);
        // The sender ends with this, and the stream with the sender.
        let send = async move {
            let mut is_first = true;
            loop {
                let chunk = read_chunk(&mut file)?;
                if chunk.is_empty() && !is_first {
                    return Ok::<(), std::io::Error>(());
                }
                let request = import_message(shape, wanted, chunk, is_first);
                is_first = false;
                if sender.send(request).await.is_err() {
                    // The server ended the call: its answer says why.
                    return Ok(());
                }
            }
        };
        let (sent, answered) = self.wait(async {
            let ask = timeout(time, client.import_acs(ReceiverStream::new(receiver)));
            tokio::join!(send, ask)
        });
        sent.map_err(|error| ContractsError::of(&wanted.file, &error))?;
        let answer =
            answered.map_err(|_| NodeError::silent(self.name(), call, Effect::Changes, time))?;
        let answer = answer
            .map_err(|status| NodeError::of(self.name(), call, Effect::Changes, &status))?
            .into_inner();
        let renamed: Vec<_> =
            answer.contract_id_mappings.iter().filter(|(old, new)| old != new).collect();
        if !renamed.is_empty() {
            let why = format!("{} contracts got other ids", renamed.len());
            return Err(self.corrupt(call, why).into());
        }
        Ok(())
    }

    /// Takes contracts away from a participant that is disconnected. What is away already stays
    /// so.
    pub fn purge(
        &self,
        alias: &str,
        ids: impl IntoIterator<Item = ContractId>,
    ) -> Result<u64, NodeError> {
        let mut purged = 0_u64;
        let mut ids = ids.into_iter();
        loop {
            let batch: Vec<String> =
                ids.by_ref().take(PURGE_BATCH).map(|id| id.to_string()).collect();
            if batch.is_empty() {
                return Ok(purged);
            }
            purged = purged.saturating_add(batch.len() as u64);
            let request = PurgeContractsRequest {
                synchronizer_alias: alias.to_owned(),
                contract_ids: batch,
                ignore_already_purged: true,
            };
            let request = ask!(ParticipantRepairServiceClient<_>, purge_contracts, request);
            self.change(Port::Admin, "PurgeContracts", request)?;
        }
    }

    /// Reads every contract of these parties that was active at this end of the ledger, one after
    /// the other, in no order. Nothing is kept here.
    pub fn visit_contracts<E: From<NodeError>>(
        &self,
        parties: &BTreeSet<PartyId>,
        ledger_end: u64,
        with_blob: bool,
        mut visit: impl FnMut(Visit) -> Result<(), E>,
    ) -> Result<u64, E> {
        let call = "GetActiveContracts";
        let line = self.line(Port::Ledger, call)?;
        let request = active(parties, ledger_end, with_blob);
        let time = self.shared.deadlines.stream;
        let silent = || NodeError::silent(self.name(), call, Effect::Reads, time);
        self.wait(async {
            let mut client = SlimClient::new(line).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let opened = timeout(time, client.get_active_contracts(request)).await;
            let opened = opened.map_err(|_| silent())?;
            let mut stream = opened.map_err(|status| self.failed(call, &status))?.into_inner();
            let mut count = 0_u64;
            loop {
                let next = timeout(time, stream.message()).await.map_err(|_| silent())?;
                let Some(answer) = next.map_err(|status| self.failed(call, &status))? else {
                    return Ok(count);
                };
                let visited = match answer.contract_entry {
                    // An offset without a contract, to say that there is progress.
                    None => continue,
                    Some(ContractEntry::ActiveContract(found)) => {
                        count = count.saturating_add(1);
                        Visit::Active(self.active(call, found)?)
                    }
                    Some(
                        ContractEntry::IncompleteUnassigned(_)
                        | ContractEntry::IncompleteAssigned(_),
                    ) => Visit::Incomplete,
                };
                if count > CONTRACTS_MAX {
                    let why = format!("more than {CONTRACTS_MAX} contracts");
                    return Err(self.corrupt(call, why).into());
                }
                visit(visited)?;
            }
        })
    }

    fn active(
        &self,
        call: &'static str,
        found: slim::ActiveContract,
    ) -> Result<ActiveContract, NodeError> {
        let event = found.created_event.ok_or_else(|| self.corrupt(call, "no contract"))?;
        Ok(ActiveContract {
            id: self.parse(call, &event.contract_id)?,
            synchronizer: self.parse(call, &found.synchronizer_id)?,
            reassigned: found.reassignment_counter,
            signatories: event.signatories.into_iter().collect(),
            observers: event.observers.into_iter().collect(),
            blob: event.created_event_blob,
        })
    }
}

fn active(
    parties: &BTreeSet<PartyId>,
    ledger_end: u64,
    with_blob: bool,
) -> slim::GetActiveContractsRequest {
    use crate::wire::slim::cumulative_filter::IdentifierFilter;
    let wildcard = slim::WildcardFilter { include_created_event_blob: with_blob };
    let filter = slim::Filters {
        cumulative: vec![slim::CumulativeFilter {
            identifier_filter: Some(IdentifierFilter::WildcardFilter(wildcard)),
        }],
    };
    let of = |party: &PartyId| (party.to_string(), filter.clone());
    slim::GetActiveContractsRequest {
        active_at_offset: ledger_end.cast_signed(),
        event_format: Some(slim::EventFormat {
            filters_by_party: parties.iter().map(of).collect(),
            filters_for_any_party: None,
            verbose: false,
        }),
    }
}

fn export(wanted: &ExportRequest) -> ExportAcsRequest {
    let rename = |(from, to): (&SynchronizerId, &SynchronizerId)| {
        (from.to_string(), ExportAcsTargetSynchronizer { target_synchronizer_id: to.to_string() })
    };
    ExportAcsRequest {
        party_ids: wanted.parties.iter().map(ToString::to_string).collect(),
        synchronizer_id: wanted.synchronizer.as_ref().map(ToString::to_string).unwrap_or_default(),
        ledger_offset: wanted.ledger_end.cast_signed(),
        contract_synchronizer_renames: wanted.renames.iter().map(rename).collect(),
        excluded_stakeholder_ids: Vec::new(),
    }
}

fn older_export(wanted: &ExportRequest) -> older::ExportAcsRequest {
    let rename = |(from, to): (&SynchronizerId, &SynchronizerId)| {
        let target_synchronizer_id = to.to_string();
        (from.to_string(), older::ExportAcsTargetSynchronizer { target_synchronizer_id })
    };
    older::ExportAcsRequest {
        party_ids: wanted.parties.iter().map(ToString::to_string).collect(),
        synchronizer_id: wanted.synchronizer.as_ref().map(ToString::to_string).unwrap_or_default(),
        ledger_offset: wanted.ledger_end.cast_signed(),
        contract_synchronizer_renames: wanted.renames.iter().map(rename).collect(),
    }
}

/// One message of an import. Until 3.4 all say how; since 3.5 only the first may.
fn import_message(
    shape: Shape,
    wanted: &ImportRequest,
    chunk: Vec<u8>,
    is_first: bool,
) -> ImportAcsRequest {
    let says_how = is_first || shape <= Shape::V34;
    let mode = i32::from(ContractImportMode::Validation);
    ImportAcsRequest {
        acs_snapshot: chunk,
        workflow_id_prefix: says_how.then(|| wanted.prefix.clone()),
        contract_import_mode: says_how.then_some(mode),
        excluded_stakeholder_ids: Vec::new(),
        representative_package_id_override: None,
        synchronizer_id: (shape >= Shape::V35 && is_first).then(|| wanted.synchronizer.to_string()),
    }
}

/// The next bytes of a file; empty at its end.
fn read_chunk(file: &mut File) -> Result<Vec<u8>, std::io::Error> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let limit = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut chunk)?;
    Ok(chunk)
}

/// Why contracts were not exported or imported.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ContractsError {
    /// The participant.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Nobody's contracts were asked for.
    #[error("a snapshot is exported for at least one party")]
    NoParties,
    /// The file is there already, and nothing is written over it.
    #[error("{} is there already", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// The file is not there.
    #[error("{} is missing", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// No space is left.
    #[error("no space is left for {}", path.display())]
    Full {
        /// Which.
        path: PathBuf,
    },
    /// The file cannot be used.
    #[error("{} cannot be used: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The snapshot grows without end.
    #[error("a snapshot has at most {limit} bytes")]
    TooLarge {
        /// How many it may have.
        limit: u64,
    },
}

impl ContractsError {
    fn of(path: &Path, error: &std::io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { path },
            std::io::ErrorKind::AlreadyExists => Self::Exists { path },
            std::io::ErrorKind::StorageFull => Self::Full { path },
            _ => Self::File { path, reason: error.to_string() },
        }
    }
}

/// A file that is being written, beside the place where it will be.
struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Part {
    fn create(target: &Path) -> Result<Self, ContractsError> {
        if target.exists() {
            return Err(ContractsError::Exists { path: target.to_owned() });
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = target.with_file_name(name);
        // What an earlier attempt left is no snapshot and belongs to nobody.
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let file = options.open(&path).map_err(|error| ContractsError::of(&path, &error))?;
        Ok(Self { path, file, bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ContractsError> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > SNAPSHOT_BYTES_MAX {
            return Err(ContractsError::TooLarge { limit: SNAPSHOT_BYTES_MAX });
        }
        self.file.write_all(bytes).map_err(|error| ContractsError::of(&self.path, &error))
    }

    /// Makes it durable and gives it its name, which nobody else has.
    fn finish(self, target: &Path) -> Result<u64, ContractsError> {
        self.file.sync_all().map_err(|error| ContractsError::of(&self.path, &error))?;
        // A link is refused if the name is taken; a rename would replace.
        std::fs::hard_link(&self.path, target)
            .and_then(|()| std::fs::remove_file(&self.path))
            .map_err(|error| ContractsError::of(target, &error))?;
        let folder = target.parent().unwrap_or(Path::new("."));
        heirloom_store::atomic::sync_directory(folder).map_err(|error| ContractsError::File {
            path: folder.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> ImportRequest {
        ImportRequest {
            file: "snapshot".into(),
            synchronizer: "global::1220aa".parse().unwrap(),
            prefix: "plan".to_owned(),
        }
    }

    #[test]
    fn before_35_every_message_of_an_import_says_how_and_no_synchronizer() {
        for shape in [Shape::V33, Shape::V34] {
            for is_first in [true, false] {
                let message = import_message(shape, &wanted(), vec![1], is_first);
                assert_eq!(message.contract_import_mode, Some(2), "{shape:?}");
                assert_eq!(message.workflow_id_prefix.as_deref(), Some("plan"));
                assert_eq!(message.synchronizer_id, None);
            }
        }
    }

    #[test]
    fn since_35_only_the_first_message_of_an_import_says_how_and_where() {
        let first = import_message(Shape::V35, &wanted(), vec![1], true);
        assert_eq!(first.contract_import_mode, Some(2));
        assert_eq!(first.synchronizer_id.as_deref(), Some("global::1220aa"));
        let second = import_message(Shape::V35, &wanted(), vec![2], false);
        let bytes_only = ImportAcsRequest { acs_snapshot: vec![2], ..Default::default() };
        assert_eq!(second, bytes_only);
    }
}
