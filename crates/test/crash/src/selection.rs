//! At which operations to kill: at each one once before and once after it.
//!
//! An operation is known by what it does, to which file, and at which stage of the node's plan.
//! A process that comes back and does it again is killed at the next moment that it was not
//! killed at yet. So every run makes progress, and comes to an end.

use std::collections::BTreeSet;

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

impl Moment {
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
    kills_max: usize,
}

impl Selection {
    /// Nothing was killed yet.
    pub(crate) fn new(kills_max: usize) -> Self {
        Self { killed: BTreeSet::new(), kills_max }
    }

    /// Whether to kill here, which is answered with yes once.
    pub(crate) fn strikes(&mut self, site: &Site, moment: Moment) -> bool {
        self.killed.len() < self.kills_max && self.killed.insert((site.clone(), moment))
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
    fn every_site_is_struck_once_before_and_once_after() {
        let mut selection = Selection::new(9);
        for stage in ["Started(1)", "Succeeded(1)"] {
            let site = site("fsync", stage);
            assert!(selection.strikes(&site, Moment::Before));
            assert!(!selection.strikes(&site, Moment::Before));
            assert!(selection.strikes(&site, Moment::After));
            assert!(!selection.strikes(&site, Moment::After));
        }
        assert!(!selection.is_exhausted());
    }

    #[test]
    fn there_are_at_most_so_many_kills() {
        let mut selection = Selection::new(1);
        assert!(selection.strikes(&site("fsync", ""), Moment::Before));
        assert!(selection.is_exhausted());
        assert!(!selection.strikes(&site("fsync", ""), Moment::After));
    }
}
