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
    removing: Removing,
    change: Change,
    answer: T,
}

/// What the removals of an intent are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Removing {
    /// Tidiness: a later intent repeats what fails.
    Leftovers,
    /// They are the effect itself.
    Secrets,
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
        Self::with(Vec::new(), Vec::new(), Change::default(), answer)
    }

    pub(crate) fn with(
        writes: Vec<FileWrite>,
        removals: Vec<String>,
        change: Change,
        answer: T,
    ) -> Self {
        Self { writes, removals, removing: Removing::Leftovers, change, answer }
    }

    /// The files to make durable, in order.
    pub fn writes(&self) -> &[FileWrite] {
        &self.writes
    }

    /// The files that may go once the writes are durable. Those of a keeper that gives up its
    /// copy must go.
    pub fn removals(&self) -> &[String] {
        &self.removals
    }

    /// Makes every file durable. A removal that fails is repeated by a later intent, unless it is
    /// what this one is about.
    pub fn persist(&self, store: &mut dyn StateStore) -> Result<Durable, StoreError> {
        for write in &self.writes {
            store.write(&write.name, &write.bytes)?;
        }
        let mut removed = Vec::new();
        for name in &self.removals {
            match (store.remove(name), self.removing) {
                (Ok(()), _) => removed.push(name.clone()),
                (Err(_), Removing::Leftovers) => {}
                (Err(error), Removing::Secrets) => return Err(error),
            }
        }
        Ok(Durable { files: self.files(), removed })
    }

    /// Checks that the receipt belongs to this intent, and unlocks change and answer.
    pub(crate) fn release(self, receipt: Durable) -> Released<T> {
        let Durable { files, removed } = receipt;
        assert!(files == self.files(), "a receipt is traded for the intent that it was made for");
        let written = self.writes.into_iter().map(|write| write.name).collect();
        Released { change: self.change, written, removed, answer: self.answer }
    }

    /// Digest of what must be durable: what is written, and what must be gone.
    fn files(&self) -> [u8; 32] {
        let writes = self.writes.iter();
        let mut parts: Vec<[u8; 32]> = writes
            .flat_map(|write| [sha256(&[write.name.as_bytes()]), sha256(&[&write.bytes])])
            .collect();
        if self.removing == Removing::Secrets {
            parts.extend(self.removals.iter().map(|name| sha256(&[b"gone", name.as_bytes()])));
        }
        sha256(&[parts.as_flattened()])
    }
}

impl Intent<()> {
    /// Removes files that hold secrets. Nothing takes effect before all of them are gone.
    pub(crate) fn burning(removals: Vec<String>, change: Change) -> Self {
        Self { writes: Vec::new(), removals, removing: Removing::Secrets, change, answer: () }
    }
}

/// An intent that was traded for its receipt.
pub(crate) struct Released<T> {
    pub(crate) change: Change,
    /// The files that are durable now.
    pub(crate) written: Vec<String>,
    /// The files that are gone.
    pub(crate) removed: Vec<String>,
    pub(crate) answer: T,
}
