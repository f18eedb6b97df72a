//! `heirloom participant`: ledger participants that move to another key store.

use crate::command::{
    participant_agree, participant_inspect, participant_map, participant_migrate, participant_plan,
    participant_preflight, participant_rewrite, participant_status, participant_verify,
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
    /// Look at source and target, say what stands in the way of a migration, and change nothing
    Preflight(participant_preflight::Args),
    /// Show the ways to other keys, plan the migration, and propose the plan
    Plan(participant_plan::Args),
    /// Agree to the party map of a plan, for an operator
    Agree(participant_agree::Args),
    /// Carry out this node's part of a plan until it is over; Ctrl-C detaches, the same command
    /// goes on
    Migrate(participant_migrate::Args),
    /// Show where a migration stands, and what both participants say
    Status(participant_status::Args),
}

/// Runs a verb.
pub(crate) fn run(command: &Command, context: Context) -> Result<Report, Diagnostic> {
    match command {
        Command::Inspect(args) => participant_inspect::run(args),
        Command::Verify(args) => participant_verify::run(args, context),
        Command::Map(command) => participant_map::run(command),
        Command::Rewrite(args) => participant_rewrite::run(args, context),
        Command::Preflight(args) => participant_preflight::run(args),
        Command::Plan(args) => participant_plan::run(args),
        Command::Agree(args) => participant_agree::run(args, context),
        Command::Migrate(args) => participant_migrate::run(args, context),
        Command::Status(args) => participant_status::run(args),
    }
}
