//! `heirloom key`: keys of applications.

use crate::cli::Measured;
use crate::command::key_get;
use crate::diagnostic::Diagnostic;
use crate::output::Report;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Get a key from a holder that was attested, and show its public half and its digest
    ///
    /// Holders give keys to measured applications only. This command therefore has the platform
    /// launch a bundle that was made of the `heirloom` program itself, released as an application,
    /// and listed in the policy. The secret half is never shown.
    Get(key_get::Args),
}

/// Runs a verb.
pub(crate) fn run(command: &Command, measured: &Measured) -> Result<Report, Diagnostic> {
    let Command::Get(args) = command;
    match &measured.platform {
        Some(socket) => key_get::measured(args, socket),
        None => key_get::launch(args),
    }
}
