//! What a supervisor writes down, one JSON object per line, and what it means.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::table::{Outcome, Row};

/// How often to look for new lines.
const INTERVAL: Duration = Duration::from_millis(200);

/// A process under a supervisor, and the file with its events.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its phase.
    pub(crate) phase: &'static str,
    /// `agent`, `keeper`, `mover`, `server` or `tool`.
    pub(crate) role: &'static str,
    /// Its node.
    pub(crate) node: String,
    /// Its events.
    pub(crate) file: PathBuf,
}

/// One operation of a process.
struct Operation {
    life: u64,
    what: (String, String, String),
    killed: Option<String>,
}

impl Source {
    /// One row for each kill, in order.
    fn rows(&self) -> Vec<Row> {
        self.rows_of(&read(&self.file))
    }

    /// One row for each kill, when the phase has ended well or not.
    pub(crate) fn rows_at_the_end(&self, is_well: bool) -> Vec<Row> {
        let mut rows = self.rows();
        if let Some(last) = rows.last_mut() {
            if !is_well {
                last.outcome = last.outcome.max(Outcome::Stuck);
            } else if self.ends_with_a_kill() {
                // Killed after the last look at it: it came back when it was left alone, and the
                // phase ended with everybody serving.
                last.outcome = Outcome::Serving;
            }
        }
        rows
    }

    fn rows_of(&self, events: &[Value]) -> Vec<Row> {
        let operations: Vec<Operation> = events.iter().filter_map(operation).collect();
        let mut rows = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            let Some(when) = &operation.killed else { continue };
            let (name, file, stage) = &operation.what;
            let later = operations.get(index + 1..).unwrap_or_default();
            let repeated = later.iter().any(|other| other.what == operation.what);
            // An agent that finds a step begun in its journal goes on with that step, also one in
            // the foreground.
            let interrupted =
                ["agent", "mover"].contains(&self.role) && stage.starts_with("started");
            let outcome = match self.came_back(events, operation.life) {
                false => Outcome::Stuck,
                true if repeated || interrupted => Outcome::Resumed,
                true => Outcome::Serving,
            };
            rows.push(Row {
                phase: self.phase,
                process: format!("{} of {}", self.role, self.node),
                operation: name.clone(),
                file: file.clone(),
                stage: stage.clone(),
                when: when.clone(),
                outcome,
            });
        }
        rows
    }

    /// Whether the process began again after this life, and did not give up by itself. A keeper
    /// may end by itself: its agent stops it, and the trial of a release ends. A mover ends in
    /// order when its plan is over.
    fn came_back(&self, events: &[Value], life: u64) -> bool {
        let of = |event: &&Value| event.get("life").and_then(Value::as_u64) == Some(life + 1);
        let is =
            |event: &Value, name: &str| event.get("event").and_then(Value::as_str) == Some(name);
        let mut next = events.iter().filter(of);
        let began = next.clone().any(|event| is(event, "began"));
        let in_order = |event: &Value| {
            self.role == "mover" && event.get("how").and_then(Value::as_str) == Some("exit 0")
        };
        let gave_up = next.any(|event| is(event, "ended") && !in_order(event));
        began && !(self.role != "keeper" && gave_up)
    }

    /// Whether the process runs again after its last kill.
    pub(crate) fn is_back(&self) -> bool {
        let events = read(&self.file);
        let mut killed = events.iter().filter_map(operation).filter(|it| it.killed.is_some());
        killed.next_back().is_none_or(|last| self.came_back(&events, last.life))
    }

    /// Whether a kill is the last thing that the supervisor saw.
    fn ends_with_a_kill(&self) -> bool {
        let last = read(&self.file).last().and_then(operation);
        last.is_some_and(|operation| operation.killed.is_some())
    }

    /// How many operations there were that differ, and at how many of them somebody was killed.
    pub(crate) fn coverage(&self) -> (usize, usize) {
        let events = read(&self.file);
        let operations: Vec<Operation> = events.iter().filter_map(operation).collect();
        let all: BTreeSet<_> = operations.iter().map(|it| &it.what).collect();
        let killed = operations.iter().filter(|it| it.killed.is_some());
        (all.len(), killed.map(|it| &it.what).collect::<BTreeSet<_>>().len())
    }

    /// Whether there were more operations than kills.
    pub(crate) fn is_exhausted(&self) -> bool {
        let exhausted =
            |event: &Value| event.get("event").and_then(Value::as_str) == Some("exhausted");
        read(&self.file).iter().any(exhausted)
    }
}

fn operation(event: &Value) -> Option<Operation> {
    let text = |name: &str| event.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    let what = (text("operation")?, text("path")?, text("stage")?);
    Some(Operation { life: event.get("life")?.as_u64()?, what, killed: text("killed") })
}

/// Whole lines. A supervisor that has not begun yet has written nothing.
fn read(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Shows kills while they happen.
pub(crate) struct Progress {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Progress {
    /// Begins to show.
    pub(crate) fn show(sources: Vec<Source>, say: fn(&str)) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || {
                let mut shown = vec![0; sources.len()];
                loop {
                    let last = stopping.load(Ordering::Relaxed);
                    for (source, shown) in sources.iter().zip(&mut shown) {
                        let events = read(&source.file);
                        events
                            .iter()
                            .skip(*shown)
                            .filter_map(|it| line(source, it))
                            .for_each(|line| say(&line));
                        *shown = events.len();
                    }
                    if last {
                        return;
                    }
                    std::thread::sleep(INTERVAL);
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { stop, thread })
    }

    /// Ends, when everything was shown.
    pub(crate) fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _joined = self.thread.join();
    }
}

/// One life that ended, for people.
fn line(source: &Source, event: &Value) -> Option<String> {
    let (role, node) = (source.role, &source.node);
    if let Some(how) = event.get("how").and_then(Value::as_str) {
        let life = event.get("life")?.as_u64()?;
        // A keeper that ends in order is nothing to tell.
        return (how != "exit 0")
            .then(|| format!("   {node} {role} {life:>3}: ended by itself, {how}"));
    }
    let Operation { life, what: (operation, file, stage), killed } = operation(event)?;
    let killed = killed?;
    Some(format!("   {node} {role} {life:>3}: killed {killed:<6} {operation:<8} {file} ({stage})"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn began(life: u64) -> Value {
        json!({ "event": "began", "life": life })
    }

    fn did(life: u64, path: &str, stage: &str, killed: Option<&str>) -> Value {
        json!({
            "event": "operation", "life": life, "operation": "fsync", "path": path,
            "stage": stage, "killed": killed,
        })
    }

    fn outcomes(role: &'static str, events: &[Value]) -> Vec<Outcome> {
        let (phase, node, file) = ("first wave", "node-1".to_owned(), PathBuf::new());
        let source = Source { phase, role, node, file };
        source.rows_of(events).iter().map(|row| row.outcome).collect()
    }

    #[test]
    fn what_is_done_again_was_resumed() {
        let kill = did(1, "journal", "-", Some("before"));
        let events = [began(1), kill.clone(), began(2), did(2, "journal", "-", None)];
        assert_eq!(outcomes("agent", &events), [Outcome::Resumed]);
        let events = [began(1), kill, began(2), did(2, "installed", "-", None)];
        assert_eq!(outcomes("agent", &events), [Outcome::Serving]);
        let begun = [began(1), did(1, "journal", "started 3", Some("after")), began(2)];
        assert_eq!(outcomes("agent", &begun), [Outcome::Resumed]);
        assert_eq!(outcomes("keeper", &begun), [Outcome::Serving]);
    }

    #[test]
    fn who_does_not_come_back_or_gives_up_is_stuck() {
        let gone = [began(1), did(1, "journal", "-", Some("before"))];
        assert_eq!(outcomes("agent", &gone), [Outcome::Stuck]);
        let gave_up = json!({ "event": "ended", "life": 2, "how": "exit 3" });
        let given_up = [&gone[..], &[began(2), gave_up]].concat();
        assert_eq!(outcomes("agent", &given_up), [Outcome::Stuck]);
        assert_eq!(outcomes("keeper", &given_up), [Outcome::Serving]);
        assert_eq!(outcomes("mover", &given_up), [Outcome::Stuck]);
    }

    #[test]
    fn who_ends_in_order_when_the_plan_is_over_has_come_back() {
        let kill = did(1, "journal", "-", Some("before"));
        let done = json!({ "event": "ended", "life": 2, "how": "exit 0" });
        let events = [began(1), kill, began(2), done];
        assert_eq!(outcomes("mover", &events), [Outcome::Serving]);
        assert_eq!(outcomes("agent", &events), [Outcome::Stuck]);
    }
}
