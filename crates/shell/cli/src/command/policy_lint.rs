//! `heirloom policy lint`: finds mistakes that would block an upgrade or its way back.

use std::path::PathBuf;

use crate::diagnostic::Diagnostic;
use crate::ledger::LogArgs;
use crate::output::Report;

/// Which policy.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The policy: a statement, or TOML
    policy: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

/// Looks for mistakes.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let _policy = super::policy::read(&args.policy, &args.log)?;
    Ok(Report::raw(""))
}
