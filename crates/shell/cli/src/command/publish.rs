//! Publishing: a statement file is judged by the log's rules and appended.

use std::path::{Path, PathBuf};

use heirloom_model::envelope::Envelope;
use heirloom_model::statement::StatementKind;
use serde_json::json;

use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::Report;
use crate::statement;

/// A statement file and the log that it goes to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Statement file
    file: PathBuf,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Publishes a statement of one kind.
pub(crate) fn run(args: &Args, kind: StatementKind) -> Result<Report, Diagnostic> {
    append(&args.log, &args.envelope(kind)?)
}

impl Args {
    /// The statement, of this kind, whose signatures verify.
    pub(crate) fn envelope(&self, kind: StatementKind) -> Result<Envelope, Diagnostic> {
        read(&self.file, kind)
    }
}

/// Appends a statement and reports where it is.
pub(crate) fn append(log: &LogArgs, envelope: &Envelope) -> Result<Report, Diagnostic> {
    append_to(&mut log.open(Access::Append)?, envelope)
}

/// Appends a statement to an open log and reports where it is.
pub(crate) fn append_to(ledger: &mut Ledger, envelope: &Envelope) -> Result<Report, Diagnostic> {
    let at = ledger.append(envelope)?;
    let kind = envelope.kind.name();
    let json = json!({ "kind": kind, "index": at.0 });
    Ok(Report::new("published", json, format!("{kind} published as log entry {at}\n")))
}

fn read(path: &Path, kind: StatementKind) -> Result<Envelope, Diagnostic> {
    let envelope = statement::read(path)?;
    statement::require_kind(&envelope, kind, path)?;
    statement::verify_signatures(&envelope, path)?;
    Ok(envelope)
}
