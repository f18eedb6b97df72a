//! What happened, one JSON object per line.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use heirloom_model::wire;
use heirloom_store::journal_file::JournalFile;
use heirloom_upgrade::journal::{JournalEntry, Record};
use serde_json::{Value, json};

use crate::selection::{Moment, Site};

/// The events of one supervisor.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    journal: Option<PathBuf>,
}

impl Log {
    /// Appends to a file.
    pub(crate) fn open(path: &Path, journal: Option<&Path>) -> Result<Self> {
        let file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, journal: journal.map(Path::to_owned) })
    }

    /// The last record of the agent's journal, for people and for telling operations apart.
    ///
    /// The number of records is not part of it: a step that is refused because its keeper was
    /// killed is started again, and that is the same stage. Without a journal it is how many
    /// operations came before.
    pub(crate) fn stage(&self, before: u64) -> String {
        let Some(journal) = &self.journal else { return format!("operation {before}") };
        let Ok(records) = JournalFile::inspect(journal) else { return "-".to_owned() };
        let last = records.last().and_then(|record| wire::decode::<JournalEntry>(record).ok());
        match last.map(|entry| entry.record) {
            None => "-".to_owned(),
            Some(Record::Adopted { number, .. }) => format!("adopted plan {}", number.0),
            Some(Record::TurnedBack) => "turned back".to_owned(),
            Some(Record::CalledOff(step, _)) => format!("called off at {step}"),
            Some(Record::Started(step) | Record::Refused(step)) => format!("started {step}"),
            Some(Record::Succeeded(step, _)) => format!("succeeded {step}"),
        }
    }

    /// A process began.
    pub(crate) fn began(&mut self, life: u64) -> Result<()> {
        self.write(&json!({ "event": "began", "life": life }))
    }

    /// A process did something, and was killed there or not.
    pub(crate) fn did(&mut self, life: u64, site: &Site, killed: Option<Moment>) -> Result<()> {
        self.write(&json!({
            "event": "operation",
            "life": life,
            "operation": site.operation,
            "path": site.path,
            "stage": site.stage,
            "killed": killed.map(Moment::name),
        }))
    }

    /// A process ended, and not because it was killed here.
    pub(crate) fn ended(&mut self, life: u64, how: &str) -> Result<()> {
        self.write(&json!({ "event": "ended", "life": life, "how": how }))
    }

    /// There were more operations than kills.
    pub(crate) fn exhausted(&mut self) -> Result<()> {
        self.write(&json!({ "event": "exhausted" }))
    }

    fn write(&mut self, event: &Value) -> Result<()> {
        // One write for one line: readers never see half of it.
        self.file.write_all(format!("{event}\n").as_bytes()).context("cannot write an event")
    }
}
