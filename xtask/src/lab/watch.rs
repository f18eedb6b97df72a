//! What agents say about their nodes, and the fewest holders at any moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::network::Code;
use super::{Node, SharedLab, get};

/// A node's status, as its agent says.
#[derive(Clone, Debug)]
pub(crate) struct Status(Value);

/// Asks a node's agent.
pub(crate) fn status(node: &Node) -> Result<Status> {
    let status: Value = serde_json::from_str(&get(node.agent_port, "/v1/status")?)?;
    // An agent that has just started has not looked yet.
    ensure!(status.pointer("/heirloom").is_some(), "{} has not looked yet", node.name);
    Ok(Status(status))
}

impl Status {
    fn own(&self, name: &str) -> Option<&Value> {
        self.0.pointer("/heirloom")?.get(name)
    }

    fn is(&self, name: &str, text: &str) -> bool {
        self.own(name).and_then(Value::as_str) == Some(text)
    }

    /// Whether the keeper holds this generation, unsealed at its start, as the log says.
    pub(crate) fn has_recovered(&self, generation: u64) -> bool {
        self.is_proven() && self.own("generation").and_then(Value::as_u64) == Some(generation)
    }

    /// Whether the keeper serves what the log committed, recovered from its own durable state.
    fn is_proven(&self) -> bool {
        self.own("agrees_with_log").and_then(Value::as_bool) == Some(true)
            && self.is("origin", "recovered")
    }

    /// The code that runs.
    pub(crate) fn measurement(&self) -> Option<&str> {
        self.own("measurement")?.as_str()
    }

    /// Whether the keeper serves with this code.
    pub(crate) fn serves(&self, measurement: &str) -> bool {
        self.is("state", "ready") && self.is("measurement", measurement) && self.is_proven()
    }

    /// Whether this code is staged, and was started once.
    pub(crate) fn has_tried(&self, measurement: &str) -> bool {
        let staged = self.own("staged").and_then(Value::as_array);
        staged.into_iter().flatten().any(|it| {
            let is = |name: &str, text: &str| it.get(name).and_then(Value::as_str) == Some(text);
            is("measurement", measurement) && is("state", "tried")
        })
    }

    /// Whether every sealed file of the serving seat was made by platform and code as they are.
    pub(crate) fn is_sealed_anew(&self) -> bool {
        let seats = self.own("seats").and_then(Value::as_array);
        let current = |seat: &Value| seat.get("sealing").and_then(Value::as_str) == Some("current");
        seats.is_some_and(|seats| !seats.is_empty() && seats.iter().all(current))
    }

    /// Whether what was proven with this code is still where it was: the code is installed, and
    /// its sealed state is live. That holds also while the process is down or starting again.
    fn keeps(&self, measurement: &str) -> bool {
        let live = self.own("live_state_of").and_then(Value::as_array);
        self.is("installed", measurement)
            && live.is_some_and(|live| live.iter().any(|by| by.as_str() == Some(measurement)))
    }
}

/// Counts holders all the time, on a thread of its own.
pub(crate) struct Watcher {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The fewest holders at any moment.
    pub(crate) holders_min: Option<usize>,
    /// Nodes that have proven that they hold, and the code with which they did.
    holders: BTreeMap<String, String>,
    left: BTreeMap<String, Instant>,
    /// Seconds from a node's last good answer with the old code to its first with the new.
    pub(crate) changed: BTreeMap<String, f64>,
}

/// How often all nodes are asked.
const INTERVAL: Duration = Duration::from_millis(25);

impl Watcher {
    /// Begins to watch a fleet in which everybody holds; `new` is the code that nodes change to.
    pub(crate) fn start(lab: SharedLab, new: &Code) -> Result<Self> {
        let (seen, stop) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (shared, stopping, new) = (Arc::clone(&seen), Arc::clone(&stop), new.clone());
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                while !stopping.load(Ordering::Relaxed) {
                    look(&lab, &shared, &new);
                    std::thread::sleep(INTERVAL);
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { seen, stop, thread })
    }

    /// Ends, and says what was seen.
    pub(crate) fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let _joined = self.thread.join();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn look(lab: &SharedLab, seen: &Mutex<Seen>, new: &Code) {
    for node in &lab.nodes {
        let new = new.on(node);
        // An agent that does not answer says nothing about its keeper.
        let Ok(status) = status(node) else { continue };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let name = node.name.clone();
        if let Some(code) = status.measurement().filter(|_| status.is_proven()) {
            seen.holders.insert(name.clone(), code.to_owned());
        } else if seen.holders.get(&name).is_some_and(|code| !status.keeps(code)) {
            seen.holders.remove(&name);
        }
        if status.measurement().is_some_and(|running| running != new) && status.is_proven() {
            seen.left.insert(name, Instant::now());
        } else if status.serves(new) && !seen.changed.contains_key(&name) {
            let left = seen.left.get(&name).map_or(0.0, |left| left.elapsed().as_secs_f64());
            seen.changed.insert(name, left);
        }
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let now = seen.holders.len();
    // Before everybody has answered once, nothing is known yet.
    if seen.holders_min.is_some() || now == lab.nodes.len() {
        seen.holders_min = Some(seen.holders_min.map_or(now, |fewest| fewest.min(now)));
    }
}
