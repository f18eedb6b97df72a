//! Effects that stay locked until their files are durable.

use heirloom_model::digest::sha256;

use crate::keeper::Change;
use crate::port::{StateStore, StoreError};

/// A file as the shell found it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredFile {
    /// Its name, without any directory.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A file to make durable. Sealed: nothing in it is secret to whoever stores it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileWrite {
    /// Its name, without any directory.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// An answer, and a change of the keeper's memory, that stay locked until the files are durable.
///
/// The answer cannot be taken out without a receipt, and a receipt cannot be made without
/// writing:
///
/// ```compile_fail
/// fn take<T>(intent: heirloom_keeper::intent::Intent<T>) -> T {
///     intent.answer
/// }
/// ```
///
/// ```compile_fail
/// let forged = heirloom_keeper::intent::Durable { files: [0; 32], removed: Vec::new() };
/// ```
#[must_use = "an intent that is dropped leaves the keeper where it was"]
pub struct Intent<T> {
    writes: Vec<FileWrite>,
    removals: Vec<String>,
    change: Change,
    answer: T,
}

/// Evidence that the files of one intent are durable. Only [`Intent::persist`] makes one.
#[derive(Debug)]
#[must_use = "nothing may act on files that are not durable"]
pub struct Durable {
    files: [u8; 32],
    removed: Vec<String>,
}

impl<T> Intent<T> {
    pub(crate) fn new(answer: T) -> Self {
        Self { writes: Vec::new(), removals: Vec::new(), change: Change::default(), answer }
    }

    pub(crate) fn with(
        writes: Vec<FileWrite>,
        removals: Vec<String>,
        change: Change,
        answer: T,
    ) -> Self {
        Self { writes, removals, change, answer }
    }

    /// The files to make durable, in order.
    pub fn writes(&self) -> &[FileWrite] {
        &self.writes
    }

    /// The files that may go once the writes are durable.
    pub fn removals(&self) -> &[String] {
        &self.removals
    }

    /// Makes every file durable. A removal that fails is repeated by a later intent.
    pub fn persist(&self, store: &mut dyn StateStore) -> Result<Durable, StoreError> {
        for write in &self.writes {
            store.write(&write.name, &write.bytes)?;
        }
        let mut removed = Vec::new();
        for name in &self.removals {
            if store.remove(name).is_ok() {
                removed.push(name.clone());
            }
        }
        Ok(Durable { files: self.files(), removed })
    }

    /// Checks that the receipt belongs to this intent, and unlocks change and answer.
    pub(crate) fn release(self, receipt: Durable) -> (Change, Vec<String>, T) {
        let Durable { files, removed } = receipt;
        assert!(files == self.files(), "a receipt is traded for the intent that it was made for");
        (self.change, removed, self.answer)
    }

    /// Digest of what must be durable.
    fn files(&self) -> [u8; 32] {
        let parts: Vec<[u8; 32]> = self
            .writes
            .iter()
            .flat_map(|write| [sha256(&[write.name.as_bytes()]), sha256(&[&write.bytes])])
            .collect();
        sha256(&[parts.as_flattened()])
    }
}
