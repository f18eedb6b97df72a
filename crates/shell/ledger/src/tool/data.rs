//! What the agent does with a ledger that is not being served, and the archive.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heirloom_ledger_store::archive::{Archive, Distribution};
use heirloom_ledger_store::database::Database;
use heirloom_ledger_store::inspect::inspect as look;
use heirloom_ledger_store::migrate::{migrate as apply, revert as undo};
use heirloom_ledger_store::snapshot::{Progress, snapshot as keep};
use heirloom_model::service::{Height, SchemaVersion, Tip};
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Map, Value, json};

use crate::command::{At, Distribute, Inspect, Migrate, Revert, Snapshot};
use crate::tool::outcome::{ToolError, done, line};

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How long the distribution rests when there is no new block.
const REST: Duration = Duration::from_millis(100);
/// Blocks that are archived before it is looked whether to end.
const BATCH: usize = 64;

impl At {
    fn tip(&self) -> Tip {
        Tip { height: Height(self.height), id: self.tip }
    }
}

/// Tells progress now and then.
struct Teller {
    begun: Instant,
    told: Option<Instant>,
}

impl Teller {
    fn new() -> Self {
        Self { begun: Instant::now(), told: None }
    }

    fn tell(&mut self, progress: Progress) {
        let is_end = progress.bytes >= progress.of;
        if self.told.is_some_and(|told| told.elapsed() < PROGRESS_EVERY) && !is_end {
            return;
        }
        self.told = Some(Instant::now());
        let milliseconds = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rate = progress.bytes.saturating_mul(1_000).checked_div(milliseconds.max(1));
        let (bytes, of) = (progress.bytes, progress.of);
        line(&json!({ "progress": { "bytes": bytes, "of": of, "rate": rate } }));
    }
}

fn describe(tip: Tip) -> Value {
    json!({ "height": tip.height.0, "id": tip.id.to_string() })
}

/// Where a state file is that nobody named: nowhere.
fn no_state(data: &Path) -> std::path::PathBuf {
    data.join("distribution.json")
}

/// Says what a data directory has.
pub fn inspect(asked: &Inspect) -> Result<(), ToolError> {
    let state = asked.state.clone().unwrap_or_else(|| no_state(&asked.data));
    let found = look(&asked.data, &state)?;
    let snapshots: Map<String, Value> =
        found.snapshots.iter().map(|(plan, tip)| (plan.to_string(), describe(*tip))).collect();
    done(&json!({
        "tip": describe(found.tip),
        "schema": found.schema.0,
        "migrated": found.migrated.map(|plan| plan.to_string()),
        "snapshots": snapshots,
        "held": found.held,
        "next": found.next,
    }));
    Ok(())
}

/// Keeps a copy of a ledger that has stopped.
pub fn snapshot(asked: &Snapshot) -> Result<(), ToolError> {
    let state = asked.state.clone().unwrap_or_else(|| no_state(&asked.data));
    let (plan, tip) = (&asked.at.plan, asked.at.tip());
    let mut teller = Teller::new();
    keep(&asked.data, &state, plan, &tip, &mut |progress| teller.tell(progress))?;
    done(&json!({ "plan": plan.to_string(), "tip": describe(tip) }));
    Ok(())
}

/// Makes the working copy of a plan.
pub fn migrate(asked: &Migrate) -> Result<(), ToolError> {
    let (plan, tip) = (&asked.at.plan, asked.at.tip());
    let (to, names) = (SchemaVersion(asked.schema_to), &asked.migration);
    let mut teller = Teller::new();
    apply(&asked.data, plan, &tip, to, names, &mut |progress| teller.tell(progress))?;
    done(&json!({ "plan": plan.to_string(), "tip": describe(tip), "schema": to.0 }));
    Ok(())
}

/// Gives the original its place back.
pub fn revert(asked: &Revert) -> Result<(), ToolError> {
    let (plan, tip) = (&asked.at.plan, asked.at.tip());
    undo(&asked.data, plan, &tip)?;
    done(&json!({ "plan": plan.to_string(), "tip": describe(tip) }));
    Ok(())
}

/// Copies blocks to an archive as they come, until SIGTERM. The block at hand is finished.
pub fn distribute(asked: &Distribute) -> Result<(), ToolError> {
    let is_over = ends_with_signal()?;
    let database = Database::open(&asked.data)?;
    let archive = Archive::open(&asked.archive)?;
    let mut distribution = Distribution::open(&database, archive, &asked.state)?;
    while !is_over.load(Ordering::Acquire) {
        if distribution.advance(&database, BATCH)? == 0 {
            std::thread::park_timeout(REST);
        } else {
            line(&json!({ "progress": { "next": distribution.next().0 } }));
        }
    }
    done(&json!({ "next": distribution.next().0 }));
    Ok(())
}

/// A flag that a signal to end sets.
pub(crate) fn ends_with_signal() -> Result<Arc<AtomicBool>, ToolError> {
    let is_over = Arc::new(AtomicBool::new(false));
    // Blocked before there is another thread, so that only the one that waits for them gets them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    let blocked = signals.thread_block();
    blocked.map_err(|error| ToolError::TryAgain(format!("signals cannot be received: {error}")))?;
    let (over, waiting) = (Arc::clone(&is_over), std::thread::current());
    std::thread::spawn(move || {
        // Waiting fails only for a set that is not one.
        if signals.wait().is_ok() {
            over.store(true, Ordering::Release);
            waiting.unpark();
        }
    });
    Ok(is_over)
}
