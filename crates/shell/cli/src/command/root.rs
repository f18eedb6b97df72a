//! `heirloom root`: who may sign what.

use std::path::{Path, PathBuf};

use heirloom_model::digest::{DigestOf as _, NetworkId};
use heirloom_model::root::Root;
use heirloom_model::statement::StatementKind;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use serde_json::json;

use crate::command::{publish, root_input};
use crate::diagnostic::Diagnostic;
use crate::ledger::{self, LogArgs};
use crate::output::{Report, table};
use crate::statement::{self, SignArgs};
use crate::time;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Sign the next root (TOML), or add a signature to a statement
    ///
    /// The next root needs the signatures of enough root keys of the present one, and of enough of
    /// its own. It is how keys are rotated, and how a trust anchor is added or taken away.
    Sign(Sign),
    /// Show a root statement
    Show {
        /// Statement file
        file: PathBuf,
    },
    /// Verify a first root: enough of its own root keys signed it, and which network it makes
    Verify {
        /// Statement file
        file: PathBuf,
        /// The network that it must make
        #[arg(long, value_name = "ID")]
        network: Option<NetworkId>,
    },
    /// Publish a root statement
    Publish(publish::Args),
}

/// What to sign, for which network.
#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    statement: SignArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    match command {
        Command::Sign(args) => {
            statement::sign(&args.statement, |path| root_input::parse(path, args.log.network()?))
        }
        Command::Show { file } => statement::show(file, StatementKind::Root),
        Command::Verify { file, network } => verify(file, *network),
        Command::Publish(args) => publish::run(args, StatementKind::Root),
    }
}

fn verify(file: &Path, network: Option<NetworkId>) -> Result<Report, Diagnostic> {
    let (envelope, root) = statement::read_as::<Root>(file)?;
    let found = NetworkId::of(envelope.payload.as_slice());
    NetworkState::new(network.unwrap_or(found))
        .judge(&wire::encode(&envelope))
        .map_err(|refusal| ledger::refused(&refusal))?;
    let text = table(&[
        ("network", found.to_string()),
        ("signatures", envelope.signatures.len().to_string()),
        ("expires", time::show(root.not_after)),
    ]);
    let json = json!({
        "network": found.to_string(),
        "signatures": envelope.signatures.len(),
        "not_after": time::show(root.not_after),
    });
    Ok(Report::new("root.verified", json, text))
}
