//! Snapshots out and in, contracts away.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use heirloom_canton_node::wire::participant::participant_repair_service_server::ParticipantRepairService;
use heirloom_canton_node::wire::participant::{
    ContractImportMode, ExportAcsRequest, ExportAcsResponse, ImportAcsRequest, ImportAcsResponse,
    PurgeContractsRequest, PurgeContractsResponse,
};
use heirloom_model::causes::with_causes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::limit::STREAM_QUEUE;
use crate::log::event;
use crate::node::Node;
use crate::node::error::NodeError;
use crate::repair::RepairError;
use crate::repair::export::Export;
use crate::repair::import::{Import, Mode, Overrides};
use crate::service::{Services, status_of};
use crate::version::Line;

type Chunk = Result<Vec<u8>, io::Error>;

#[tonic::async_trait]
impl ParticipantRepairService for Services {
    type ExportAcsStream = Pin<Box<dyn Stream<Item = Result<ExportAcsResponse, Status>> + Send>>;

    async fn export_acs(
        &self,
        request: Request<ExportAcsRequest>,
    ) -> Result<Response<Self::ExportAcsStream>, Status> {
        if self.node().settings().version.line < Line::V34 {
            return Err(Status::unimplemented("3.3 exports in the service of parties"));
        }
        let request = request.into_inner();
        let renames = request.contract_synchronizer_renames.into_iter();
        let export = Export {
            parties: request.party_ids,
            synchronizer: request.synchronizer_id,
            offset: request.ledger_offset,
            renames: renames.map(|(from, to)| (from, to.target_synchronizer_id)).collect(),
            excluded: request.excluded_stakeholder_ids.into_iter().collect(),
        };
        let chunks = self.exported(export)?;
        Ok(Response::new(Box::pin(chunks.map(|chunk| Ok(ExportAcsResponse { chunk: chunk? })))))
    }

    async fn import_acs(
        &self,
        request: Request<Streaming<ImportAcsRequest>>,
    ) -> Result<Response<ImportAcsResponse>, Status> {
        self.may_begin("ImportAcs")?;
        let node = Arc::clone(self.node());
        let messages = request.into_inner();
        let acted = match node.faults().import_outlives_caller() {
            None => import(&node, messages).await,
            Some(late) => {
                // Everything is there first: what goes on needs no caller.
                let messages: Vec<_> = messages.collect().await;
                let alone = tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    import(&node, tokio_stream::iter(messages)).await
                });
                let acted = alone.await;
                acted.unwrap_or_else(|error| Err(NodeError::Refused(error.to_string())))
            }
        };
        self.answered("ImportAcs", acted.map(|()| ImportAcsResponse::default()))
    }

    async fn purge_contracts(
        &self,
        request: Request<PurgeContractsRequest>,
    ) -> Result<Response<PurgeContractsResponse>, Status> {
        let request = request.into_inner();
        self.with("PurgeContracts", |node| async move {
            let _apart = node.while_apart().await?;
            let purging = Arc::clone(&node);
            let purged = tokio::task::spawn_blocking(move || {
                let ids = &request.contract_ids;
                purging.purge(&request.synchronizer_alias, ids, request.ignore_already_purged)
            });
            let purged = purged.await.map_err(|error| NodeError::Refused(error.to_string()))??;
            event("purged", purged);
            Ok(PurgeContractsResponse {})
        })
        .await
    }
}

impl Services {
    /// The chunks of an export.
    pub(crate) fn exported(
        &self,
        export: Export,
    ) -> Result<impl Stream<Item = Result<Vec<u8>, Status>> + Send + 'static, Status> {
        self.may_begin("ExportAcs")?;
        let node = Arc::clone(self.node());
        let offset = node.check_export(&export).map_err(|error| status_of(&error))?;
        let (chunks, mut gathered) = mpsc::channel(STREAM_QUEUE);
        let (out, stream) = mpsc::channel(STREAM_QUEUE);
        let exporting = tokio::task::spawn_blocking(move || node.export(&export, offset, chunks));
        tokio::spawn(async move {
            while let Some(chunk) = gathered.recv().await {
                if out.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            // A stream that ends well is a snapshot that is whole: it has no other end.
            let failed = match exporting.await {
                Ok(Ok(count)) => return event("exported", count),
                Ok(Err(error)) => status_of(&error),
                Err(error) => Status::internal(error.to_string()),
            };
            out.send(Err(failed)).await.ok();
        });
        Ok(ReceiverStream::new(stream))
    }
}

async fn import(
    node: &Arc<Node>,
    mut messages: impl Stream<Item = Result<ImportAcsRequest, Status>> + Unpin,
) -> Result<(), NodeError> {
    let gone = |status: Status| NodeError::Unreachable(status.message().to_owned());
    let _apart = node.while_apart().await?;
    let Some(first) = messages.next().await else { return Ok(()) };
    let mut first = first.map_err(gone)?;
    let (chunks, incoming) = mpsc::channel::<Chunk>(STREAM_QUEUE);
    let import = understood(&first, node.settings().version.line)?;
    let importing = Arc::clone(node);
    let imported = tokio::task::spawn_blocking(move || {
        importing.import(&import, Incoming { incoming, chunk: io::Cursor::default() })
    });
    let bytes = std::mem::take(&mut first.acs_snapshot);
    let mut fed = chunks.send(Ok(bytes)).await.is_ok();
    let mut refused = None;
    let mut number = 1;
    while fed {
        let Some(message) = messages.next().await else { break };
        number += 1;
        let checked = message.map_err(gone).and_then(|mut message| {
            let bytes = std::mem::take(&mut message.acs_snapshot);
            check_later(&first, &message, number, node.settings().version.line)?;
            Ok(bytes)
        });
        match checked {
            Ok(bytes) => fed = chunks.send(Ok(bytes)).await.is_ok(),
            Err(error) => {
                // What was read so far is not the end of the snapshot.
                let broken = io::Error::new(io::ErrorKind::UnexpectedEof, with_causes(&error));
                chunks.send(Err(broken)).await.ok();
                refused = Some(error);
                break;
            }
        }
    }
    drop(chunks);
    let imported = imported.await.map_err(|error| NodeError::Refused(error.to_string()))?;
    match refused {
        Some(error) => Err(error),
        None => imported.map(|_| ()),
    }
}

/// What the first message asks for, in the shape of this version.
fn understood(first: &ImportAcsRequest, line: Line) -> Result<Import, RepairError> {
    let unknown = |field, since| Err(RepairError::UnknownField { field, since });
    if line < Line::V34 && !first.excluded_stakeholder_ids.is_empty() {
        return unknown("excluded_stakeholder_ids", "3.4");
    }
    let synchronizer = match (&first.synchronizer_id, line >= Line::V35) {
        (Some(_), false) => return unknown("synchronizer_id", "3.5"),
        (None, true) => return Err(RepairError::NoSynchronizer),
        (None, false) => None,
        (Some(name), true) => {
            let wrong = |_| RepairError::UnknownSynchronizer(name.clone());
            Some(name.parse().map_err(wrong)?)
        }
    };
    // 3.3 calls it the mode of recomputing suffixes; the numbers are the same.
    let number = first.contract_import_mode.unwrap_or_default();
    let mode = match ContractImportMode::try_from(number) {
        Ok(ContractImportMode::Accept) => Mode::Accept,
        Ok(ContractImportMode::Validation) => Mode::Validation,
        // Since 3.5 the safe one is the default.
        Ok(ContractImportMode::Unspecified) if line >= Line::V35 => Mode::Validation,
        Ok(ContractImportMode::Recomputation) if line < Line::V35 => {
            return Err(RepairError::Recomputation);
        }
        _ => return Err(RepairError::UnknownMode(number)),
    };
    let overrides = first.representative_package_id_override.clone().unwrap_or_default();
    Ok(Import {
        synchronizer,
        mode,
        workflow: first.workflow_id_prefix.clone().unwrap_or_default(),
        excluded: first.excluded_stakeholder_ids.iter().cloned().collect(),
        overrides: Overrides {
            contracts: overrides.contract_override.into_iter().collect(),
            packages: overrides.package_id_override.into_iter().collect(),
            names: overrides.package_name_override.into_iter().collect(),
        },
    })
}

/// Since 3.5 only the first message has more than bytes; before, all of them have the same.
fn check_later(
    first: &ImportAcsRequest,
    later: &ImportAcsRequest,
    number: u64,
    line: Line,
) -> Result<(), RepairError> {
    let wrong = |field, rule| Err(RepairError::LaterField { number, field, rule });
    if line >= Line::V35 {
        let is_bare = *later == ImportAcsRequest::default();
        return if is_bare { Ok(()) } else { wrong("fields", "only the first message has any") };
    }
    if later.contract_import_mode != first.contract_import_mode {
        return wrong("contract_import_mode", "all messages have the same");
    }
    if later.workflow_id_prefix != first.workflow_id_prefix {
        return wrong("workflow_id_prefix", "all messages have the same");
    }
    Ok(())
}

/// Chunks as they come in, for a reader that waits.
struct Incoming {
    incoming: mpsc::Receiver<Chunk>,
    chunk: io::Cursor<Vec<u8>>,
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.chunk.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            match self.incoming.blocking_recv() {
                Some(chunk) => self.chunk = io::Cursor::new(chunk?),
                None => return Ok(0),
            }
        }
    }
}
