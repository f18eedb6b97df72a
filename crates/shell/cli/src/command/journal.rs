//! `heirloom journal`: what one agent has done, read from its file without changing it.

use std::path::{Path, PathBuf};

use heirloom_model::digest::JournalHash;
use heirloom_model::wire;
use heirloom_store::journal_file::JournalFile;
use heirloom_upgrade::journal::{CorruptJournal, JournalEntry, Progress, Record, StepProgress};
use serde_json::{Value, json};

use crate::code::Code;
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::output::{self, Report, columns, table};
use crate::{file, time, view};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show every record
    Show {
        /// Journal file
        file: PathBuf,
    },
    /// Verify the hash chain and that the records tell one possible story
    Verify {
        /// Journal file
        file: PathBuf,
        /// The newest hash that was seen elsewhere, for example in a step result
        #[arg(long, value_name = "HASH")]
        contains: Option<JournalHash>,
    },
    /// Write every record as a line of JSON
    Export {
        /// Journal file
        file: PathBuf,
    },
}

/// Runs a verb.
pub(crate) fn run(command: &Command, context: Context) -> Result<Report, Diagnostic> {
    match command {
        Command::Show { file } => show(file),
        Command::Verify { file, contains } => verify(file, *contains),
        Command::Export { file } => export(file, context),
    }
}

/// A journal that was read and verified.
struct Story {
    entries: Vec<JournalEntry>,
    progress: Progress,
}

fn read(path: &Path) -> Result<Story, Diagnostic> {
    let records = JournalFile::inspect(path).map_err(|error| match error {
        heirloom_store::error::StoreError::Corrupt { .. } => {
            Diagnostic::new(Code::JournalCorrupt, error.to_string())
        }
        _ => file::store_error(&error),
    })?;
    if let Some(torn) = JournalFile::torn_tail(path).map_err(|error| file::store_error(&error))? {
        let message = format!("{} ends within a record", path.display());
        let cause =
            format!("from byte {} on, {} bytes were never finished", torn.offset, torn.bytes);
        return Err(Diagnostic::new(Code::JournalTorn, message).cause(cause));
    }
    let corrupt = |error: &CorruptJournal| {
        let message = format!("{} contradicts itself", path.display());
        Diagnostic::new(Code::JournalCorrupt, message).because(error)
    };
    let mut progress = Progress::default();
    let mut entries = Vec::new();
    for record in &records {
        let sequence = progress.length();
        let entry: JournalEntry = wire::decode(record)
            .map_err(|source| corrupt(&CorruptJournal::Unreadable { sequence, source }))?;
        progress.apply(&entry).map_err(|error| corrupt(&error))?;
        entries.push(entry);
    }
    Ok(Story { entries, progress })
}

fn show(path: &Path) -> Result<Report, Diagnostic> {
    let story = read(path)?;
    let rows: Vec<Vec<String>> = story
        .entries
        .iter()
        .map(|entry| {
            vec![entry.sequence.to_string(), time::show(entry.written), describe(entry.record)]
        })
        .collect();
    let json: Vec<Value> = story.entries.iter().map(entry_json).collect();
    let text = columns(&["record", "written", "what"], &rows);
    Ok(Report::new("journal", json!({ "records": json }), text))
}

fn verify(path: &Path, contains: Option<JournalHash>) -> Result<Report, Diagnostic> {
    let story = read(path)?;
    if let Some(hash) = contains
        && !story.entries.iter().any(|entry| entry.hash() == hash)
    {
        let message = format!("{} does not contain record {hash}", path.display());
        return Err(Diagnostic::new(Code::JournalCorrupt, message)
            .cause("it is another journal, or its end was cut off"));
    }
    let progress = &story.progress;
    let plan = progress.plan().map(|(plan, _)| plan.to_string());
    let interrupted = story
        .entries
        .iter()
        .filter_map(|entry| match entry.record {
            Record::Started(step) => Some(step),
            _ => None,
        })
        .filter(|step| progress.step(*step) == Some(StepProgress::Interrupted))
        .count();
    let text = table(&[
        ("records", progress.length().to_string()),
        ("head", progress.head().to_string()),
        ("plan", plan.clone().unwrap_or_else(|| "none".to_owned())),
        ("steps under way", interrupted.to_string()),
    ]);
    let json = json!({
        "records": progress.length(),
        "head": progress.head().to_string(),
        "plan": plan,
        "interrupted": interrupted,
        "turned_back": progress.turned_back(),
    });
    Ok(Report::new("journal.verified", json, text))
}

fn export(path: &Path, context: Context) -> Result<Report, Diagnostic> {
    let story = read(path)?;
    let mut lines = String::new();
    for entry in &story.entries {
        output::line(&mut lines, format_args!("{}", entry_json(entry)));
    }
    if !context.output.is_json() {
        output::note(&format!("{} records, the chain is whole", story.entries.len()));
    }
    Ok(Report::raw(lines))
}

fn entry_json(entry: &JournalEntry) -> Value {
    let (record, step) = match entry.record {
        Record::Adopted { .. } => ("adopted", None),
        Record::Started(step) => ("started", Some(step)),
        Record::Succeeded(step, _) => ("succeeded", Some(step)),
        Record::Refused(step) => ("refused", Some(step)),
        Record::TurnedBack => ("turned-back", None),
        Record::CalledOff(step, _) => ("called-off", Some(step)),
    };
    let mut json = json!({
        "schema": "heirloom.journal.record.v1",
        "sequence": entry.sequence,
        "written": time::show(entry.written),
        "previous": entry.previous.to_string(),
        "hash": entry.hash().to_string(),
        "record": record,
    });
    if let Some(fields) = json.as_object_mut() {
        if let Some(step) = step {
            fields.insert("step".to_owned(), step.0.into());
        }
        match entry.record {
            Record::Adopted { plan, number } => {
                fields.insert("plan".to_owned(), plan.to_string().into());
                fields.insert("number".to_owned(), number.0.into());
            }
            Record::Succeeded(_, how) => {
                fields.insert("outcome".to_owned(), view::outcome(how).into());
            }
            Record::CalledOff(_, cause) => {
                fields.insert("cause".to_owned(), cause.to_string().into());
            }
            Record::Started(_) | Record::Refused(_) | Record::TurnedBack => {}
        }
    }
    json
}

fn describe(record: Record) -> String {
    match record {
        Record::Adopted { plan, number } => format!("acts for plan {plan}, number {number}"),
        Record::Started(step) => format!("step {step} started"),
        Record::Succeeded(step, how) => format!("step {step} {}", view::outcome(how)),
        Record::Refused(step) => format!("step {step} refused, may be tried again"),
        Record::TurnedBack => "the plan was called off: going back".to_owned(),
        Record::CalledOff(step, cause) => format!("calls the plan off at step {step}: {cause}"),
    }
}
