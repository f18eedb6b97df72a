//! What goes wrong on purpose. Without a `[faults]` table in the configuration, nothing does.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::configuration::Faults;
use crate::node::lock;

/// What is still to go wrong in this process.
pub struct FaultState {
    faults: Faults,
    import_failed: AtomicBool,
    unavailable: Mutex<BTreeSet<String>>,
    answers_lost: Mutex<BTreeSet<String>>,
}

impl FaultState {
    /// Everything that is configured is still to go wrong.
    pub fn new(faults: Faults) -> Self {
        Self {
            import_failed: AtomicBool::new(false),
            unavailable: Mutex::new(faults.unavailable_once.iter().cloned().collect()),
            answers_lost: Mutex::new(faults.answer_lost_once.iter().cloned().collect()),
            faults,
        }
    }

    /// Whether this call is unavailable now.
    pub fn is_unavailable(&self, call: &str) -> bool {
        lock(&self.unavailable).remove(call)
    }

    /// Whether the answer of this call gets lost now.
    pub fn is_answer_lost(&self, call: &str) -> bool {
        lock(&self.answers_lost).remove(call)
    }

    /// Whether the import ends here.
    pub fn does_import_fail(&self, batches: u64) -> bool {
        self.faults.import_fails_after_batches == Some(batches)
            && !self.import_failed.swap(true, Ordering::AcqRel)
    }

    /// How long an import rests after a batch.
    pub fn import_pause(&self) -> Duration {
        Duration::from_millis(self.faults.import_pause_ms)
    }

    /// How late an import begins that goes on without its caller, if there is such a fault.
    pub fn import_outlives_caller(&self) -> Option<Duration> {
        self.faults.import_outlives_caller_ms.map(Duration::from_millis)
    }

    /// How long an export rests after a chunk.
    pub fn export_pause(&self) -> Duration {
        Duration::from_millis(self.faults.export_pause_ms)
    }
}
