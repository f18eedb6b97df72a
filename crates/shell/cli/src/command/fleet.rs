//! `heirloom fleet`: which nodes exist.

use std::path::{Path, PathBuf};

use heirloom_model::counter::Serial;
use heirloom_model::fleet::{Fleet, Node};
use heirloom_model::statement::StatementKind;
use serde::Deserialize;

use crate::command::publish;
use crate::diagnostic::Diagnostic;
use crate::input;
use crate::ledger::LogArgs;
use crate::output::Report;
use crate::statement::{self, SignArgs};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Sign a fleet (TOML), or add a signature to a statement
    Sign(Sign),
    /// Publish a fleet statement
    Publish(publish::Args),
    /// Show a fleet statement
    Show {
        /// Statement file
        file: PathBuf,
    },
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
        Command::Sign(args) => statement::sign(&args.statement, |path| parse(path, &args.log)),
        Command::Publish(args) => publish::run(args, StatementKind::Fleet),
        Command::Show { file } => statement::show(file, StatementKind::Fleet),
    }
}

/// A fleet as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetInput {
    serial: u64,
    not_after: String,
    node: Vec<NodeInput>,
}

/// A node as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeInput {
    node: String,
    domain: String,
    host: String,
    failure_domain: String,
    operator: String,
    agent: String,
}

fn parse(path: &Path, log: &LogArgs) -> Result<Fleet, Diagnostic> {
    let found: FleetInput = input::read(path)?;
    let nodes = found.node.iter().map(node).collect::<Result<Vec<Node>, Diagnostic>>()?;
    Ok(Fleet {
        network: log.network()?,
        serial: Serial(found.serial),
        nodes: input::sorted("node", nodes, |node| node.node.clone())?,
        not_after: input::time("not_after", &found.not_after)?,
    })
}

fn node(found: &NodeInput) -> Result<Node, Diagnostic> {
    Ok(Node {
        node: input::value("node", &found.node)?,
        domain: input::value("domain", &found.domain)?,
        host: input::value("host", &found.host)?,
        failure_domain: input::value("failure_domain", &found.failure_domain)?,
        operator: input::value("operator", &found.operator)?,
        agent: input::value("agent", &found.agent)?,
    })
}
