//! `heirloom endorsements`: what manufacturers say about platforms.

use std::path::{Path, PathBuf};

use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::Endorsements;
use heirloom_model::limit::ENDORSEMENTS_BYTES_MAX;
use heirloom_model::wire;

use crate::code::Code;
use crate::command::publish;
use crate::diagnostic::Diagnostic;
use crate::ledger::LogArgs;
use crate::output::Report;
use crate::{file, key};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Publish endorsements
    Publish(Publish),
}

/// What to publish.
#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// Encoded endorsements
    file: PathBuf,
    /// Key file of an operator or an agent; the endorsements themselves are the manufacturer's
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    let Command::Publish(args) = command;
    let endorsements = read(&args.file)?;
    let key = key::read(&args.key)?;
    publish::append(&args.log, &Envelope::signed(&endorsements, [&key]))
}

/// Reads encoded endorsements.
pub(crate) fn read(path: &Path) -> Result<Endorsements, Diagnostic> {
    wire::decode(&file::read(path, ENDORSEMENTS_BYTES_MAX)?).map_err(|error| {
        let message = format!("{} has no endorsements in it", path.display());
        Diagnostic::new(Code::InputMalformed, message).because(&error)
    })
}
