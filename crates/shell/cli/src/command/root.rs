//! `heirloom root`: who may sign what.

use std::path::{Path, PathBuf};

use heirloom_model::digest::{DigestOf as _, NetworkId};
use heirloom_model::root::Root;
use heirloom_model::statement::StatementKind;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use serde_json::json;

use crate::command::publish;
use crate::diagnostic::Diagnostic;
use crate::ledger;
use crate::output::{Report, table};
use crate::{statement, time};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
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

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    match command {
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
