//! Counters of all code on a machine, in one table that the TPM keeps fresh.
//!
//! The table has a sequence number and is authenticated with a key from the machine's secret. The
//! TPM has two things about it: a counter, which nobody can lower, stands at the number of the
//! table that counts; and a note, which only this machine can write, has the digest of that table.
//! A raise makes the next table durable, writes its digest into the note, and increments the
//! counter. Each table has the digest of the one before it, so that wherever a crash stops this,
//! the next start knows how far it came, and goes on.
//!
//! Whoever stops the machine before the note is written may choose between the table before and
//! the one after. He takes back one raise that nobody was told of; and once another table was
//! noted, the one that he kept is none that ever counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heirloom_keeper::kmac::kmac256;
use heirloom_launcher::files;
use heirloom_model::digest::{CounterName, sha256};
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::secret::Secret;
use heirloom_model::{context, wire};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::counter::Counter;
use crate::error::{Absent, TpmError};
use crate::key::StorageRoot;
use crate::machine::error::MachineError;
use crate::machine::setup::count;
use crate::machine::state::{TABLE_INDEX, freshness};
use crate::note::{Note, Noted};

/// File name of the counters.
pub const COUNTERS: &str = "tpm-counters";
/// A machine runs a handful of keepers, each version of which has one.
pub const COUNTERS_MAX: usize = 4_096;
/// A keeper has one for each domain and node that it is started for, which is one. More would let
/// one bundle take the room of all others.
pub const COUNTERS_OF_CODE_MAX: usize = 16;
/// For each counter, which may be the only one of its code: two names of 32 bytes and a number of
/// up to nine, with their CBOR.
const TABLE_BYTES_MAX: usize = 128 + COUNTERS_MAX * 96;

/// The counters of a machine.
pub struct Counters {
    path: PathBuf,
    keys: CounterKeys,
}

/// What the machine's secret is used for here.
pub struct CounterKeys {
    authentication: Zeroizing<[u8; 32]>,
    note: Zeroizing<[u8; 32]>,
}

/// Some code in its mode, which has counters that no other code can name.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(transparent)]
pub struct CounterOwner(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    [u8; 32],
);

#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
struct Table {
    /// What the TPM's counter stands at once this table counts.
    #[n(0)]
    sequence: u64,
    /// Digest of the table before this one; zeros in the first one.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    before: [u8; 32],
    #[n(2)]
    values: BTreeMap<CounterOwner, BTreeMap<CounterName, u64>>,
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

/// How far the raise came that made this table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    /// It is the table that counts.
    Counts,
    /// It is noted, and not counted yet.
    Noted,
    /// It is durable, and the table before it is the one that counts.
    Written,
}

impl CounterKeys {
    /// From the machine's secret, by purpose.
    pub fn derive(derive: impl Fn(&[u8]) -> Zeroizing<[u8; 32]>) -> Self {
        Self {
            authentication: derive(context::TPM_COUNTER_KEY),
            note: derive(context::TPM_COUNTER_NOTE),
        }
    }
}

impl CounterOwner {
    /// This code, by this signer, in this mode.
    pub fn new(measurement: &MrEnclave, signer: &MrSigner, is_debug: bool) -> Self {
        let (code, signer) = (measurement.as_bytes(), signer.as_bytes());
        Self(sha256(&[context::TPM_COUNTER_OWNER, code, signer, &[u8::from(is_debug)]]))
    }
}

impl Table {
    /// What is counted, and what the TPM notes.
    fn digest(&self) -> [u8; 32] {
        sha256(&[context::TPM_COUNTER_TABLE, &wire::encode(self)])
    }

    /// How far the raise came that made this table, by what the TPM says. Everything that a crash
    /// of ours does not leave is refused, by name.
    fn progress(&self, noted: &[u8; 32], counted: u64) -> Result<Progress, MachineError> {
        let file = self.sequence;
        if file < counted {
            return Err(MachineError::CountersRolledBack { file, counted });
        }
        let is_counted = file == counted;
        if !is_counted && counted.checked_add(1) != Some(file) {
            return Err(MachineError::TpmRolledBack { file, counted });
        }
        match (is_counted, *noted == self.digest(), *noted == self.before) {
            (true, true, _) => Ok(Progress::Counts),
            (false, true, _) => Ok(Progress::Noted),
            (false, false, true) => Ok(Progress::Written),
            (_, false, _) => Err(MachineError::OtherTable { sequence: file }),
        }
    }
}

impl Counters {
    /// The counters in a directory.
    pub fn new(state: &Path, keys: CounterKeys) -> Self {
        Self { path: state.join(COUNTERS), keys }
    }

    /// Writes the first table, for a machine whose TPM stood at `founded` when it was made. May be
    /// repeated after a crash: a table that has counted stays as it is, and is never made again,
    /// whatever becomes of its file. What a raise left half done is for those who serve the machine.
    pub(super) fn create(&self, root: &StorageRoot<'_>, founded: u64) -> Result<(), MachineError> {
        let counter = Counter::open(root.tpm(), freshness())?;
        if counter.read(root)? != founded {
            return Ok(());
        }
        let sequence = founded.saturating_add(1);
        let table = Table { sequence, before: [0; 32], values: BTreeMap::new() };
        let note = self.note(root);
        note.define(root)?;
        self.write(&table)?;
        note.write(root, &table.digest())?;
        self.settle(root)
    }

    /// Finds that the table is fresh, and heals what a crash left.
    pub fn settle(&self, root: &StorageRoot<'_>) -> Result<(), MachineError> {
        self.settled(root).map(drop)
    }

    /// Where a counter stands.
    pub fn value(
        &self,
        root: &StorageRoot<'_>,
        owner: &CounterOwner,
        name: &CounterName,
    ) -> Result<u64, MachineError> {
        let table = self.settled(root)?;
        let values = table.values.get(owner);
        Ok(values.and_then(|values| values.get(name)).copied().unwrap_or_default())
    }

    /// Raises a counter by one step. One that stands there or higher stays as it is.
    pub fn raise(
        &self,
        root: &StorageRoot<'_>,
        owner: &CounterOwner,
        name: &CounterName,
        to: u64,
    ) -> Result<(), MachineError> {
        let mut table = self.settled(root)?;
        let before = table.digest();
        let values = table.values.entry(*owner).or_default();
        let stands = values.get(name).copied().unwrap_or_default();
        if to <= stands {
            return Ok(());
        }
        if to > stands.saturating_add(1) {
            return Err(MachineError::CounterJump { stands, to });
        }
        values.insert(*name, to);
        if values.len() > COUNTERS_OF_CODE_MAX {
            return Err(MachineError::TooManyCountersOfCode { limit: COUNTERS_OF_CODE_MAX });
        }
        if table.values.values().map(BTreeMap::len).sum::<usize>() > COUNTERS_MAX {
            return Err(MachineError::TooManyCounters { limit: COUNTERS_MAX });
        }
        table.before = before;
        table.sequence = table.sequence.saturating_add(1);
        self.write(&table)?;
        // From here on the file is one ahead, until the TPM has noted and counted it.
        self.settle(root)
    }

    fn settled(&self, root: &StorageRoot<'_>) -> Result<Table, MachineError> {
        let table = self.read()?;
        let counter = Counter::open(root.tpm(), freshness())?;
        let counted = counter.read(root)?;
        let progress = table.progress(&self.noted(root)?, counted)?;
        if progress == Progress::Written {
            let digest = table.digest();
            self.note(root).write(root, &digest)?;
            // Whoever sits on the way to the TPM can say that it was written.
            if self.noted(root)? != digest {
                return Err(MachineError::OtherTable { sequence: table.sequence });
            }
        }
        if progress != Progress::Counts {
            count(&counter, root, table.sequence)?;
        }
        Ok(table)
    }

    /// The digest of the table that counts, or is about to.
    fn noted(&self, root: &StorageRoot<'_>) -> Result<[u8; 32], MachineError> {
        let index = TABLE_INDEX;
        match self.note(root).read(root) {
            Ok(Noted::Content(digest)) => Ok(digest),
            Ok(Noted::Nothing | Noted::Other) => Err(MachineError::NoteReplaced { index }),
            Err(TpmError::Missing(Absent::Index(_))) => Err(MachineError::NoteRemoved { index }),
            Err(error) => Err(error.into()),
        }
    }

    fn note<'tpm>(&self, root: &StorageRoot<'tpm>) -> Note<'tpm> {
        Note::new(root.tpm(), TABLE_INDEX, self.keys.note.clone())
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
        *kmac256::<32>(self.keys.authentication.as_slice(), &[table], context::TPM_COUNTERS)
    }
}

wire! {
    Table: "counters of a machine", TABLE_BYTES_MAX;
    AuthenticatedTable: "authenticated counters of a machine", TABLE_BYTES_MAX + 64;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of the file's number against the TPM's, and of what the TPM has noted.
    #[test]
    fn a_table_counts_only_where_a_raise_of_ours_can_have_stopped() {
        let table = Table { sequence: 7, before: [1; 32], values: BTreeMap::new() };
        let (own, before, other) = (table.digest(), table.before, [2; 32]);
        for counted in [0, 1, 5, 6, 7, 8, 9, u64::MAX] {
            for noted in [own, before, other, [0; 32]] {
                let found = table.progress(&noted, counted);
                let expected = match (counted, noted) {
                    (7, noted) if noted == own => Some(Progress::Counts),
                    (6, noted) if noted == own => Some(Progress::Noted),
                    (6, noted) if noted == before => Some(Progress::Written),
                    _ => None,
                };
                assert_eq!(found.as_ref().ok().copied(), expected, "{counted} {noted:?}");
                match (expected, counted) {
                    (Some(_), _) => {}
                    (None, ..=5) => {
                        assert!(matches!(found, Err(MachineError::TpmRolledBack { .. })));
                    }
                    (None, 6 | 7) => {
                        assert!(matches!(found, Err(MachineError::OtherTable { sequence: 7 })));
                    }
                    (None, 8..) => {
                        assert!(matches!(found, Err(MachineError::CountersRolledBack { .. })));
                    }
                }
            }
        }
    }

    #[test]
    fn code_in_another_mode_or_of_another_signer_has_other_counters() {
        let (code, signer) = (MrEnclave::new([1; 32]), MrSigner::new([2; 32]));
        let own = CounterOwner::new(&code, &signer, false);
        assert_ne!(own, CounterOwner::new(&code, &signer, true));
        assert_ne!(own, CounterOwner::new(&code, &MrSigner::new([3; 32]), false));
        assert_ne!(own, CounterOwner::new(&MrEnclave::new([3; 32]), &signer, false));
    }
}
