//! At which operations to kill: at each one once before and once after it.
//!
//! An operation is known by what it does, to which file, and at which stage of the node's plan.
//! A process that comes back and does it again is killed at the other moment. So every run makes
//! progress, and comes to an end.
//!
//! What is found done is not done again: a journal's record is written once. Therefore operations
//! of a kind take turns in which moment comes first, and nobody is killed right after a write:
//! that is the same moment as before the flush that follows, which would never be reached.

use std::collections::{BTreeMap, BTreeSet};

/// Who is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Role {
    /// The program itself.
    Agent,
    /// What the program launches.
    Keeper,
}

/// Which operation.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Site {
    /// What it does.
    pub(crate) operation: &'static str,
    /// To what.
    pub(crate) path: String,
    /// The last record of the agent's journal.
    pub(crate) stage: String,
}

/// When, relative to the operation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Moment {
    /// The system has not begun it.
    Before,
    /// The system has done it.
    After,
}

/// The operation after which nobody is killed.
const WRITE: &str = "write";

impl Moment {
    fn other(self) -> Self {
        match self {
            Self::Before => Self::After,
            Self::After => Self::Before,
        }
    }

    /// Its name in events.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Where was killed already, and how often at most.
#[derive(Debug)]
pub(crate) struct Selection {
    killed: BTreeSet<(Site, Moment)>,
    /// The moment that comes first, for sites that were seen.
    first: BTreeMap<Site, Moment>,
    /// Sites so far of each operation on each file.
    kinds: BTreeMap<(&'static str, String), u64>,
    kills_max: usize,
}

impl Selection {
    /// Nothing was killed yet.
    pub(crate) fn new(kills_max: usize) -> Self {
        let (killed, first, kinds) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self { killed, first, kinds, kills_max }
    }

    /// Whether to kill here, which is answered with yes once.
    pub(crate) fn strikes(&mut self, site: &Site, moment: Moment) -> bool {
        if self.killed.len() >= self.kills_max {
            return false;
        }
        let first = self.first_moment(site);
        let begun = self.killed.contains(&(site.clone(), first));
        let turn = if begun { first.other() } else { first };
        if moment != turn || (site.operation == WRITE && moment == Moment::After) {
            return false;
        }
        self.killed.insert((site.clone(), moment))
    }

    fn first_moment(&mut self, site: &Site) -> Moment {
        if let Some(first) = self.first.get(site) {
            return *first;
        }
        let seen = self.kinds.entry((site.operation, site.path.clone())).or_default();
        let even = seen.is_multiple_of(2);
        *seen += 1;
        let first = if even || site.operation == WRITE { Moment::Before } else { Moment::After };
        self.first.insert(site.clone(), first);
        first
    }

    /// Whether operations may have been left out.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.killed.len() >= self.kills_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(operation: &'static str, stage: &str) -> Site {
        Site { operation, path: "journal".to_owned(), stage: stage.to_owned() }
    }

    #[test]
    fn every_site_is_struck_once_before_and_once_after_and_kinds_take_turns() {
        let mut selection = Selection::new(9);
        let turns = [(Moment::Before, Moment::After), (Moment::After, Moment::Before)];
        for (stage, (first, second)) in ["Started(1)", "Succeeded(1)"].into_iter().zip(turns) {
            let site = site("fsync", stage);
            assert!(!selection.strikes(&site, second));
            assert!(selection.strikes(&site, first));
            assert!(!selection.strikes(&site, first));
            assert!(selection.strikes(&site, second));
            assert!(!selection.strikes(&site, second));
        }
        assert!(!selection.is_exhausted());
    }

    #[test]
    fn nobody_is_killed_between_a_write_and_its_flush_twice() {
        let mut selection = Selection::new(9);
        for stage in ["Started(1)", "Succeeded(1)"] {
            let site = site("write", stage);
            assert!(!selection.strikes(&site, Moment::After));
            assert!(selection.strikes(&site, Moment::Before));
            assert!(!selection.strikes(&site, Moment::After));
        }
    }

    #[test]
    fn there_are_at_most_so_many_kills() {
        let mut selection = Selection::new(1);
        assert!(selection.strikes(&site("fsync", ""), Moment::Before));
        assert!(selection.is_exhausted());
        assert!(!selection.strikes(&site("fsync", ""), Moment::After));
    }
}
