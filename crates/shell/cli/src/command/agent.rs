//! `heirloom agent`: the agent of one node.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use heirloom_agent::run::{self, AgentRunError};
use heirloom_upgrade::agent::AgentError;
use serde_json::json;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::output::{self, Report};
use crate::{file, key, ledger};

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
    output::log_as_json();
    run::run(&args.config).map_err(|error| stopped(&error))?;
    Ok(Report::new("agent.stopped", json!({}), ""))
}

/// Why the agent stopped, as our error.
fn stopped(error: &AgentRunError) -> Diagnostic {
    let code = match error {
        AgentRunError::Key(error) => return key::key_error(error),
        AgentRunError::Store(error) => return file::store_error(error),
        AgentRunError::NotNew { .. } => Code::AgentNotNew,
        AgentRunError::Platform(_) => Code::PlatformFailed,
        AgentRunError::Api { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            Code::AddressInUse
        }
        AgentRunError::Agent(AgentError::Read(error)) => return ledger::read_error(error),
        AgentRunError::Agent(AgentError::History(_)) => Code::LogHistory,
        AgentRunError::Journal(_) | AgentRunError::Agent(AgentError::CorruptJournal(_)) => {
            Code::JournalCorrupt
        }
        AgentRunError::Config(_)
        | AgentRunError::Bundle(_)
        | AgentRunError::State(_)
        | AgentRunError::Api { .. }
        | AgentRunError::System { .. }
        | AgentRunError::Agent(_) => Code::AgentFailed,
    };
    let diagnostic = Diagnostic::new(code, error.to_string());
    match error.source() {
        Some(cause) => diagnostic.because(cause),
        None => diagnostic,
    }
}
