//! What every operation on a snapshot needs beside the snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use heirloom_canton::name::SynchronizerId;
use heirloom_canton::types::TypeStore;
use heirloom_model::identifier::NodeId;
use heirloom_participant::map::PartyMap;
use heirloom_participant::shared::Hosting;

use crate::error::SnapshotError;
use crate::pipeline::all_cores;
use crate::progress::{Advance, Cancel, Pass, Progress, Silent};
use crate::scratch::Scratch;

/// How much memory one sorter uses before it writes to temporary files. There are up to three.
pub const SORT_BYTES: usize = 32 * 1024 * 1024;

/// Where and how something runs.
pub struct Run<'r> {
    /// The types of the packages whose contracts are in the snapshot.
    pub types: &'r (dyn TypeStore + Sync),
    /// Temporary files.
    pub scratch: &'r Scratch,
    /// How many threads decode and hash. The results do not depend on it.
    pub workers: NonZeroUsize,
    /// How much memory one sorter uses.
    pub sort_bytes: usize,
    /// Stops it.
    pub cancel: Cancel,
    /// Hears how far it is.
    pub progress: Box<dyn Progress + 'r>,
}

impl<'r> Run<'r> {
    /// On all cores, with nobody listening.
    pub fn new(types: &'r (dyn TypeStore + Sync), scratch: &'r Scratch) -> Self {
        Self {
            types,
            scratch,
            workers: all_cores(),
            sort_bytes: SORT_BYTES,
            cancel: Cancel::default(),
            progress: Box::new(Silent),
        }
    }

    pub(crate) fn advanced(
        &mut self,
        pass: Pass,
        contracts: u64,
        bytes: u64,
    ) -> Result<(), SnapshotError> {
        self.cancel.check()?;
        self.progress.advanced(Advance { pass, contracts, bytes });
        Ok(())
    }
}

/// What changes in a snapshot.
#[derive(Clone, Debug)]
pub struct Change {
    pub(crate) map: PartyMap,
    pub(crate) synchronizers: BTreeMap<SynchronizerId, SynchronizerId>,
    pub(crate) sharing: Option<Sharing>,
}

/// Whose contracts are compared with whose.
#[derive(Clone, Debug)]
pub struct Sharing {
    /// The node whose snapshot it is.
    pub own: NodeId,
    /// Which nodes host which parties, under their new names.
    pub hosting: Hosting,
}

impl Change {
    /// Other parties, and other synchronizers where there are any. No two of them become one.
    pub fn new(
        map: PartyMap,
        synchronizers: BTreeMap<SynchronizerId, SynchronizerId>,
    ) -> Result<Self, SnapshotError> {
        let mut targets = BTreeSet::new();
        if let Some(to) = synchronizers.values().find(|to| !targets.insert(*to)) {
            return Err(SnapshotError::Synchronizers { to: to.clone() });
        }
        Ok(Self { map, synchronizers, sharing: None })
    }

    /// Digests of the contracts that other nodes have as well are computed on the way.
    #[must_use]
    pub fn shared_with(mut self, sharing: Sharing) -> Self {
        self.sharing = Some(sharing);
        self
    }

    /// The map of parties.
    pub fn map(&self) -> &PartyMap {
        &self.map
    }

    /// The way back.
    #[must_use]
    pub fn invert(&self) -> Self {
        let synchronizers = self.synchronizers.iter();
        Self {
            map: self.map.invert(),
            synchronizers: synchronizers.map(|(from, to)| (to.clone(), from.clone())).collect(),
            sharing: None,
        }
    }
}

/// Where the results go. What is there already is replaced, as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outputs {
    /// The new snapshot. It takes its place last: where it is, the others are.
    pub snapshot: PathBuf,
    /// Old and new contract ids.
    pub contract_map: PathBuf,
    /// What was left as it is.
    pub report: PathBuf,
}
