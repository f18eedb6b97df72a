//! Watches the sealed state of all nodes: what was sealed once is live or in quarantine, always.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::SharedLab;

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(50);
/// Looks in a row that must agree: a file that is moved may be in neither list of one look.
const LOOKS: u32 = 5;

/// A sealed generation: its node, the code whose seat it lies in, and the name of its file.
type Sealed = (String, String, String);

/// Looks all the time, on a thread of its own.
pub(crate) struct Vault {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<Sealed>>,
}

impl Vault {
    /// Begins.
    pub(crate) fn watch(lab: SharedLab) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("vault".to_owned())
            .spawn(move || {
                let (mut known, mut vanished) = (BTreeSet::new(), BTreeSet::new());
                let look = || sealed(&lab.directory, lab.nodes.iter().map(|node| &*node.name));
                while !stopping.load(Ordering::Relaxed) {
                    known.extend(look());
                    vanished.extend(missing(look, &known));
                    std::thread::sleep(INTERVAL);
                }
                vanished.extend(missing(look, &known));
                vanished
            })
            .context("cannot start a thread")?;
        Ok(Self { stop, thread })
    }

    /// Ends, and names what has vanished. These upgraders give up what they carried.
    pub(crate) fn finish(self, upgraders: &[String]) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let vanished = self.thread.join().unwrap_or_default();
        vanished
            .into_iter()
            .filter(|(_, code, _)| !upgraders.contains(code))
            .map(|(node, code, file)| format!("{file} of {code} on {node}"))
            .collect()
    }
}

/// What is known and not there, look after look.
fn missing(look: impl Fn() -> BTreeSet<Sealed>, known: &BTreeSet<Sealed>) -> BTreeSet<Sealed> {
    let mut missing = known.clone();
    for _ in 0..LOOKS {
        let there = look();
        missing.retain(|sealed| !there.contains(sealed));
        if missing.is_empty() {
            break;
        }
        std::thread::sleep(INTERVAL);
    }
    missing
}

/// Keyring files of these nodes, live or in quarantine.
fn sealed<'n>(lab: &Path, nodes: impl Iterator<Item = &'n str>) -> BTreeSet<Sealed> {
    let mut found = BTreeSet::new();
    for node in nodes {
        let state = lab.join(node).join("data/state");
        for place in [state.join("live"), state.join("quarantine")] {
            for seat in names(&place).into_iter().filter(|name| !name.starts_with('.')) {
                // Quarantined state is numbered.
                let code = seat.rsplit_once('.').map_or(&*seat, |(code, _)| code).to_owned();
                let files = names(&place.join(&seat)).into_iter();
                let keyrings = files.filter(|name| name.starts_with("keyring-"));
                found.extend(keyrings.map(|name| (node.to_owned(), code.clone(), name)));
            }
        }
    }
    found
}

/// Names in a directory; none if it is not there in this moment.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_into_quarantine_is_there_and_what_is_deleted_is_not() {
        let lab = std::env::temp_dir().join(format!("heirloom-vault-{}", std::process::id()));
        let state = lab.join("node-1/data/state");
        fs::create_dir_all(state.join("live/old")).unwrap();
        fs::create_dir_all(state.join("quarantine")).unwrap();
        for name in ["keyring-0-0.sealed", "witness-1.sealed"] {
            fs::write(state.join("live/old").join(name), "").unwrap();
        }
        let look = || sealed(&lab, ["node-1", "node-2"].into_iter());
        let known = look();
        assert_eq!(known.len(), 1);
        let kept = state.join("quarantine/old.1");
        fs::rename(state.join("live/old"), &kept).unwrap();
        assert_eq!(missing(look, &known), BTreeSet::new());
        fs::remove_file(kept.join("keyring-0-0.sealed")).unwrap();
        assert_eq!(missing(look, &known), known);
        fs::remove_dir_all(lab).unwrap();
    }
}
