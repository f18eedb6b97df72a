//! `heirloom policy`: which code may hold keys, give them to whom, and serve whom.

use std::path::{Path, PathBuf};

use heirloom_model::digest::PlanDigest;
use heirloom_model::policy::Policy;
use heirloom_model::statement::StatementKind;

use crate::code::Code;
use crate::command::{plan, policy_diff, policy_input, policy_lint, publish};
use crate::diagnostic::Diagnostic;
use crate::ledger::LogArgs;
use crate::output::Report;
use crate::statement::{self, SignArgs};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Sign a policy (TOML), or add a signature to a statement
    Sign(Sign),
    /// Publish a policy statement
    Publish(publish::Args),
    /// Show a policy statement
    Show {
        /// Statement file
        file: PathBuf,
    },
    /// Show what one policy changes compared with another
    Diff(policy_diff::Args),
    /// Find mistakes that would block an upgrade or its way back
    Lint(policy_lint::Args),
}

/// What to sign, for which network.
#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    statement: SignArgs,
    /// The plan that this policy completes: its digest, or its file
    #[arg(long, value_name = "PLAN")]
    completes: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    match command {
        Command::Sign(args) => {
            let completes = args.completes.as_deref().map(plan_digest).transpose()?;
            if completes.is_some() && statement::is_statement(&args.statement.input)? {
                let message = "--completes belongs to a new policy, not to one that is signed";
                return Err(Diagnostic::new(Code::InputValue, message));
            }
            statement::sign(&args.statement, |path| {
                policy_input::parse(path, args.log.network()?, completes)
            })
        }
        Command::Publish(args) => publish::run(args, StatementKind::Policy),
        Command::Show { file } => statement::show(file, StatementKind::Policy),
        Command::Diff(args) => policy_diff::run(args),
        Command::Lint(args) => policy_lint::run(args),
    }
}

/// Reads a policy: a statement, or TOML.
pub(crate) fn read(path: &Path, log: &LogArgs) -> Result<Policy, Diagnostic> {
    if statement::is_statement(path)? {
        let (envelope, policy) = statement::read_as::<Policy>(path)?;
        statement::verify_signatures(&envelope, path)?;
        return Ok(policy);
    }
    policy_input::parse(path, log.network()?, None)
}

fn plan_digest(text: &str) -> Result<PlanDigest, Diagnostic> {
    match text.parse() {
        Ok(digest) => Ok(digest),
        Err(_) => Ok(plan::read_file(Path::new(text))?.digest()),
    }
}
