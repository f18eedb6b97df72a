//! The approvals that a machine has: that of the host that runs, and one of another host.
//!
//! Both are in one file, which is replaced as a whole. Wherever a crash stops a change, both are as
//! they were before it or as they are after it: the way back to the host before is never lost
//! between two files.

use std::fs::File;
use std::path::Path;

use heirloom_launcher::files::{self, FileError};
use heirloom_model::wire;
use minicbor::{Decode, Encode};

use super::state::HostApproval;

/// File name of the approvals.
pub const APPROVALS: &str = "tpm-approvals";

/// The approvals in a machine's directory.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct Approvals {
    /// Of the host that opened the machine last, or that was installed.
    #[n(0)]
    pub current: Option<HostApproval>,
    /// Of another host: the next one, or the one before.
    #[n(1)]
    pub staged: Option<HostApproval>,
}

impl Approvals {
    /// Reads the approvals of a machine. One that nobody approved has none.
    pub fn read(state: &Path) -> Result<Self, FileError> {
        match files::read_value(&state.join(APPROVALS)) {
            Err(FileError::Missing { .. }) => Ok(Self::default()),
            read => read,
        }
    }

    /// Makes an approval the current one. If it was staged, it changes places with the one before.
    pub(super) fn place(state: &Path, approval: &HostApproval) -> Result<(), FileError> {
        Self::change(state, |approvals| {
            if approvals.staged.as_ref() == Some(approval) {
                approvals.staged = approvals.current.take();
            }
            approvals.current = Some(approval.clone());
        })
    }

    /// Puts an approval beside the current one, in the place of what was staged.
    pub(super) fn stage(state: &Path, approval: &HostApproval) -> Result<(), FileError> {
        Self::change(state, |approvals| {
            // The same one twice would be no way back.
            if approvals.current.as_ref() != Some(approval) {
                approvals.staged = Some(approval.clone());
            }
        })
    }

    /// Staging works beside a machine that starts, so that changes wait for each other. Each only
    /// reads and writes one small file.
    fn change(state: &Path, change: impl FnOnce(&mut Self)) -> Result<(), FileError> {
        let failed = |source| FileError::Failed { path: state.to_owned(), source };
        let directory = File::open(state).map_err(failed)?;
        directory.lock().map_err(failed)?;
        let found = Self::read(state)?;
        let mut approvals = found.clone();
        change(&mut approvals);
        if approvals == found {
            return Ok(());
        }
        files::replace(&state.join(APPROVALS), &wire::encode(&approvals))
    }
}

wire! {
    Approvals: "approvals of a machine's hosts", 8 * 1024;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(counter: u64) -> HostApproval {
        HostApproval { registers: Vec::new(), counter, signature: vec![1; 64] }
    }

    /// The counts of both.
    fn found(state: &Path) -> [Option<u64>; 2] {
        let Approvals { current, staged } = Approvals::read(state).unwrap();
        [current, staged].map(|one| one.map(|one| one.counter))
    }

    #[test]
    fn an_approval_that_takes_its_place_keeps_the_way_back() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        assert_eq!(found(state), [None, None]);
        Approvals::stage(state, &approval(1)).unwrap();
        assert_eq!(found(state), [None, Some(1)]);
        Approvals::place(state, &approval(1)).unwrap();
        assert_eq!(found(state), [Some(1), None]);
        Approvals::stage(state, &approval(2)).unwrap();
        for (placed, expected) in [(2, [2, 1]), (2, [2, 1]), (1, [1, 2])] {
            Approvals::place(state, &approval(placed)).unwrap();
            assert_eq!(found(state), expected.map(Some));
        }
        Approvals::stage(state, &approval(1)).unwrap();
        assert_eq!(found(state), [Some(1), Some(2)], "the same one is not staged");
        // Staged while the machine started by the one that was staged before.
        Approvals::stage(state, &approval(3)).unwrap();
        Approvals::place(state, &approval(2)).unwrap();
        assert_eq!(found(state), [Some(2), Some(3)]);
        let mut names = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!((names.next(), names.next()), (Some(APPROVALS.into()), None));
    }

    #[test]
    fn a_damaged_file_is_neither_taken_for_none_nor_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(APPROVALS);
        std::fs::write(&path, b"damaged").unwrap();
        let corrupt =
            |result: Result<(), FileError>| matches!(result, Err(FileError::Corrupt { .. }));
        assert!(corrupt(Approvals::read(folder.path()).map(drop)));
        assert!(corrupt(Approvals::place(folder.path(), &approval(1))));
        assert!(corrupt(Approvals::stage(folder.path(), &approval(1))));
        assert_eq!(std::fs::read(&path).unwrap(), b"damaged");
    }
}
