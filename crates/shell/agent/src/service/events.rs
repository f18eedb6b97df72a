//! What was done when and how long it took: one line of JSON for each finished effect, for people
//! and reports. Nothing is decided by it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// At this size the file is set aside, in place of the one that was set aside before.
const EVENTS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The file.
pub(crate) struct Events {
    path: PathBuf,
}

impl Events {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Writes one line, durably. An event that cannot be written is told in the log; what it tells
    /// of happened all the same.
    pub(crate) fn write(&self, step: &str, lasted: Duration, done: Option<&Value>) {
        let ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        let bytes = done.and_then(|done| done.get("bytes")).and_then(Value::as_u64);
        tracing::info!(step, ms, bytes = bytes.unwrap_or(0), "service");
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let mut line = json!({ "at_ms": at_ms, "step": step, "ms": ms });
        if let Some(bytes) = bytes {
            line["bytes"] = bytes.into();
        }
        if let Some(done) = done {
            line["done"] = done.clone();
        }
        if let Err(error) = self.append(&format!("{line}\n")) {
            tracing::warn!(%error, path = %self.path.display(), "an event was not written");
        }
    }

    fn append(&self, line: &str) -> io::Result<()> {
        let mut file = self.open()?;
        if file.metadata()?.len() >= EVENTS_BYTES_MAX {
            std::fs::rename(&self.path, self.path.with_extension("old.jsonl"))?;
            file = self.open()?;
        }
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)
    }
}
