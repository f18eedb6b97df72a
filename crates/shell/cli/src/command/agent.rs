//! `heirloom agent`: the agent of one node.

use std::path::PathBuf;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::output::Report;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run the agent of one node, until SIGTERM or Ctrl-C; the keeper goes on
    Run(Run),
}

/// Which node.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    let Command::Run(args) = command;
    let _ = args;
    Err(Diagnostic::new(Code::AgentFailed, "no agent yet"))
}
