//! Counters of all code on a machine, in one file that one counter of the TPM keeps fresh.
//!
//! The file has a sequence number and is authenticated with a key from the machine's secret. A
//! raise writes the next file durably, with the next number, and then increments the TPM's
//! counter: a file whose number the TPM has passed is an old one. A crash between the two leaves a
//! file that is one ahead, which is healed by incrementing.
//!
//! What this does not prevent: whoever stops the machine exactly between the two may choose
//! between the file before and the file after, and so take back one raise that nobody was told of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heirloom_keeper::kmac::kmac256;
use heirloom_launcher::files;
use heirloom_model::digest::CounterName;
use heirloom_model::secret::Secret;
use heirloom_model::{context, wire};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::counter::Counter;
use crate::key::StorageRoot;
use crate::machine::error::MachineError;
use crate::machine::setup::count;
use crate::machine::state::freshness;

/// File name of the counters.
pub const COUNTERS: &str = "tpm-counters";
/// A machine runs a handful of keepers, each version of which has one.
pub const COUNTERS_MAX: usize = 4_096;
/// A name of 32 bytes and a number of up to nine for each counter, with their CBOR.
const TABLE_BYTES_MAX: usize = 64 + COUNTERS_MAX * 48;

/// The counters of a machine.
pub struct Counters {
    path: PathBuf,
    key: Zeroizing<[u8; 32]>,
}

#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
struct Table {
    /// What the TPM's counter stands at once this table counts.
    #[n(0)]
    sequence: u64,
    #[n(1)]
    values: BTreeMap<CounterName, u64>,
}

#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
struct AuthenticatedTable {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    table: Vec<u8>,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    mac: [u8; 32],
}

impl Counters {
    /// The counters in a directory, which are authenticated with this key.
    pub fn new(state: &Path, key: [u8; 32]) -> Self {
        Self { path: state.join(COUNTERS), key: Zeroizing::new(key) }
    }

    /// Writes a file without counters, for a new machine.
    pub(super) fn create(&self, root: &StorageRoot<'_>) -> Result<(), MachineError> {
        let counter = Counter::define(root, freshness(), None)?;
        let sequence = counter.read(root)?;
        self.write(&Table { sequence, values: BTreeMap::new() })
    }

    /// Finds that the file is fresh, and heals what a crash left.
    pub fn settle(&self, root: &StorageRoot<'_>) -> Result<(), MachineError> {
        self.settled(root).map(drop)
    }

    /// Where a counter stands.
    pub fn value(&self, root: &StorageRoot<'_>, name: &CounterName) -> Result<u64, MachineError> {
        Ok(self.settled(root)?.values.get(name).copied().unwrap_or_default())
    }

    /// Raises a counter by one step. One that stands there or higher stays as it is.
    pub fn raise(
        &self,
        root: &StorageRoot<'_>,
        name: &CounterName,
        to: u64,
    ) -> Result<(), MachineError> {
        let mut table = self.settled(root)?;
        let stands = table.values.get(name).copied().unwrap_or_default();
        if to <= stands {
            return Ok(());
        }
        if to > stands.saturating_add(1) {
            return Err(MachineError::CounterJump { stands, to });
        }
        table.values.insert(*name, to);
        if table.values.len() > COUNTERS_MAX {
            return Err(MachineError::TooManyCounters { limit: COUNTERS_MAX });
        }
        table.sequence = table.sequence.saturating_add(1);
        self.write(&table)?;
        // From here on the file is one ahead, until the TPM has counted.
        self.settle(root)
    }

    fn settled(&self, root: &StorageRoot<'_>) -> Result<Table, MachineError> {
        let table = self.read()?;
        let counter = Counter::open(root.tpm(), freshness())?;
        let counted = counter.read(root)?;
        let file = table.sequence;
        if file < counted {
            return Err(MachineError::CountersRolledBack { file, counted });
        }
        if file > counted.saturating_add(1) {
            return Err(MachineError::TpmRolledBack { file, counted });
        }
        if file > counted {
            count(&counter, root, file)?;
        }
        Ok(table)
    }

    fn read(&self) -> Result<Table, MachineError> {
        let stored: AuthenticatedTable = files::read_value(&self.path)?;
        let expected = Secret::new(self.mac(&stored.table));
        if !expected.same_as(&Secret::new(stored.mac)) {
            return Err(MachineError::CountersCorrupt);
        }
        wire::decode(&stored.table).map_err(|_| MachineError::CountersCorrupt)
    }

    fn write(&self, table: &Table) -> Result<(), MachineError> {
        let table = wire::encode(table);
        let mac = self.mac(&table);
        Ok(files::replace(&self.path, &wire::encode(&AuthenticatedTable { table, mac }))?)
    }

    fn mac(&self, table: &[u8]) -> [u8; 32] {
        *kmac256::<32>(self.key.as_slice(), &[table], context::TPM_COUNTERS)
    }
}

wire! {
    Table: "counters of a machine", TABLE_BYTES_MAX;
    AuthenticatedTable: "authenticated counters of a machine", TABLE_BYTES_MAX + 64;
}
