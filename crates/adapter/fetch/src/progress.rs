//! What an observer of a fetch sees. It may be lost; nothing depends on it.

use std::ops::ControlFlow;

use heirloom_model::identifier::ReleaseName;

use crate::error::Failure;

/// How far a fetch is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Advance<'a> {
    /// The file.
    pub artifact: &'a ReleaseName,
    /// Its bytes that are on the disk.
    pub received: u64,
    /// The bytes that it has.
    pub size: u64,
}

/// Watches a fetch, and may end it.
pub trait Progress {
    /// Some bytes are on the disk. A break ends the fetch; what is there stays and is resumed.
    fn advanced(&mut self, advance: Advance<'_>) -> ControlFlow<()>;

    /// A mirror did not give a file. The next one is asked, if there is one.
    fn mirror_failed(&mut self, failure: &Failure);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn advanced(&mut self, _: Advance<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn mirror_failed(&mut self, _: &Failure) {}
}
