//! `heirloom agent`: the agent of one node.

use std::path::PathBuf;

use heirloom_agent::run::AgentRunError;

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
    heirloom_agent::run::run(&args.config)
        .map_err(|error| Diagnostic::new(code(&error), "the agent stopped").because(&error))?;
    Ok(Report::raw(""))
}

/// Which of our codes an agent's end stands for.
fn code(error: &AgentRunError) -> Code {
    match error {
        AgentRunError::Journal(_) | AgentRunError::NotNew { .. } => Code::JournalCorrupt,
        AgentRunError::Config(_)
        | AgentRunError::Key(_)
        | AgentRunError::Store(_)
        | AgentRunError::Bundle(_)
        | AgentRunError::State(_)
        | AgentRunError::Api { .. }
        | AgentRunError::System { .. }
        | AgentRunError::Agent(_) => Code::AgentFailed,
    }
}
