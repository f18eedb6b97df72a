//! Active contracts, as a compressed snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use heirloom_canton::acs::{ActiveContract, write_frame};
use heirloom_model::party::{PartyId, SynchronizerId};
use prost::Message;
use tokio::sync::mpsc::Sender;

use crate::limit::{EXPORT_CHUNK_BYTES, READ_CONTRACTS};
use crate::node::Node;
use crate::node::contracts::Shows;
use crate::node::error::NodeError;
use crate::record::{ContractRecord, Place};
use crate::repair::RepairError;
use crate::version::Line;

/// What is exported.
#[derive(Clone, Debug, Default)]
pub struct Export {
    /// Contracts of these parties; nothing for all that are hosted, where the version allows it.
    pub parties: Vec<String>,
    /// Contracts of this synchronizer; nothing for all.
    pub synchronizer: String,
    /// What was active there.
    pub offset: i64,
    /// Other names of synchronizers.
    pub renames: BTreeMap<String, String>,
    /// Contracts of these parties are left out.
    pub excluded: BTreeSet<String>,
}

impl Node {
    /// Looks whether this can be exported.
    pub fn check_export(&self, export: &Export) -> Result<u64, NodeError> {
        if export.parties.is_empty() && self.settings().version.line < Line::V35 {
            return Err(RepairError::NoParties.into());
        }
        if !export.excluded.is_empty() && self.settings().version.line < Line::V34 {
            let (field, since) = ("excluded_stakeholder_ids", "3.4");
            return Err(RepairError::UnknownField { field, since }.into());
        }
        for party in &export.parties {
            let parsed: PartyId = party.parse()?;
            let id = self.required_id()?;
            let is_hosted = parsed == id.admin_party()
                || self.parties()?.iter().any(|known| known.party == *party && known.is_local);
            if !is_hosted {
                return Err(RepairError::PartyNotHosted(party.clone()).into());
            }
        }
        let end = self.ledger_end()?;
        let found = export.offset;
        u64::try_from(found)
            .ok()
            .filter(|offset| *offset <= end)
            .ok_or(NodeError::Repair(RepairError::Offset { found, end }))
    }

    /// Exports into chunks. Memory does not grow with the ledger.
    pub fn export(
        self: &Arc<Self>,
        export: &Export,
        offset: u64,
        chunks: Sender<Vec<u8>>,
    ) -> Result<u64, NodeError> {
        let pause = self.faults().export_pause();
        let failed = |error: io::Error| NodeError::Unreachable(error.to_string());
        let chunked = Chunks { out: chunks, gathered: Vec::new(), pause };
        let mut out = GzEncoder::new(chunked, Compression::fast());
        let read = self.store().read()?;
        let (mut place, mut count) = (Some(Place { offset: 0, node: 0 }), 0);
        while let Some(from) = place {
            let (contracts, next) = self.contracts_from(&read, from, READ_CONTRACTS)?;
            for (_, record) in contracts {
                if is_exported(export, &record, offset) {
                    let mut frame = Vec::new();
                    write_frame(&mut frame, self.entry(export, &record)?.encode());
                    out.write_all(&frame).map_err(failed)?;
                    count += 1;
                }
            }
            place = next;
        }
        let mut chunked = out.finish().map_err(failed)?;
        chunked.send().map_err(failed)?;
        Ok(count)
    }

    fn entry(&self, export: &Export, record: &ContractRecord) -> Result<ActiveContract, NodeError> {
        let shows = Shows { verbose: true, blob: true };
        let event = self.created_event(record, shows, &record.stakeholders)?;
        let name = export.renames.get(&record.synchronizer).unwrap_or(&record.synchronizer);
        let synchronizer: SynchronizerId = name.parse()?;
        let made = ActiveContract::new(&event.encode_to_vec(), &synchronizer, record.counter);
        Ok(made.map_err(RepairError::from)?)
    }
}

fn is_exported(export: &Export, record: &ContractRecord, offset: u64) -> bool {
    let stakeholders = &record.stakeholders;
    let is_of = export.parties.is_empty()
        || export.parties.iter().any(|party| stakeholders.contains(party));
    let is_there = export.synchronizer.is_empty() || record.synchronizer == export.synchronizer;
    let is_excluded = stakeholders.iter().any(|party| export.excluded.contains(party));
    record.is_active_at(offset) && is_of && is_there && !is_excluded
}

/// Gathers bytes into chunks, and waits while the caller is slow.
struct Chunks {
    out: Sender<Vec<u8>>,
    gathered: Vec<u8>,
    pause: std::time::Duration,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.gathered);
        if chunk.is_empty() {
            return Ok(());
        }
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the caller has gone");
        self.out.blocking_send(chunk).map_err(gone)
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= EXPORT_CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
