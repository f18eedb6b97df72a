//! `heirloom key`: keys of applications.

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::output::Report;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Get a key
    Get,
}

/// Runs a verb.
pub(crate) fn run(_: &Command) -> Result<Report, Diagnostic> {
    Err(Diagnostic::new(Code::PlatformFailed, "not yet"))
}
