//! What a long run tells while it runs, and how it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::SnapshotError;

/// Which pass over the contracts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pass {
    /// Every contract reproduces its own id.
    Verify,
    /// Contracts that others refer to are set aside.
    Gather,
    /// Their new ids are computed, each after those that it refers to.
    Order,
    /// Every contract is rewritten.
    Rewrite,
    /// What was written is read again.
    VerifyAfter,
    /// The way back gives the source.
    Invert,
}

/// How far a pass is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Advance {
    /// Which pass.
    pub pass: Pass,
    /// Contracts so far.
    pub contracts: u64,
    /// Bytes so far, after decompression.
    pub bytes: u64,
}

/// Is told about progress. It may be lost, and nothing depends on it.
pub trait Progress {
    /// Called about once a megabyte.
    fn advanced(&mut self, advance: Advance);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn advanced(&mut self, _: Advance) {}
}

/// Stops a run from another thread. The run then leaves no output.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the run to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), SnapshotError> {
        if self.0.load(Ordering::Relaxed) { Err(SnapshotError::Cancelled) } else { Ok(()) }
    }
}
