//! `heirloom participant`: ledger participants that move to another key store.

use crate::command::{
    participant_inspect, participant_map, participant_rewrite, participant_verify,
};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::output::Report;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say what files are and what they have, without checking it
    Inspect(participant_inspect::Args),
    /// Check that every contract of a snapshot is what its id says, or every topology transaction
    /// what its signatures say
    Verify(participant_verify::Args),
    /// Which party becomes which
    #[command(subcommand)]
    Map(participant_map::Command),
    /// Rewrite a snapshot under other parties, and verify it before and after
    Rewrite(participant_rewrite::Args),
}

/// Runs a verb.
pub(crate) fn run(command: &Command, context: Context) -> Result<Report, Diagnostic> {
    match command {
        Command::Inspect(args) => participant_inspect::run(args),
        Command::Verify(args) => participant_verify::run(args, context),
        Command::Map(command) => participant_map::run(command),
        Command::Rewrite(args) => participant_rewrite::run(args, context),
    }
}
