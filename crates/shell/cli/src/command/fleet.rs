//! `heirloom fleet`: which nodes exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use heirloom_model::counter::Serial;
use heirloom_model::fleet::{Fleet, Node, OperatorKey};
use heirloom_model::statement::StatementKind;
use heirloom_registry::network::NetworkState;
use serde::Deserialize;

use crate::command::publish;
use crate::diagnostic::Diagnostic;
use crate::input;
use crate::ledger::{Access, LogArgs};
use crate::output::{self, Report};
use crate::statement::{self, SignArgs};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Sign a fleet (TOML), or add a signature to a statement
    Sign(Sign),
    /// Publish a fleet statement; says where it is too small for a policy in force, and who gets
    /// another key
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
        Command::Publish(args) => publish(args),
        Command::Show { file } => statement::show(file, StatementKind::Fleet),
    }
}

/// Publishes a fleet, and says where it is too small for the policies in force.
fn publish(args: &publish::Args) -> Result<Report, Diagnostic> {
    let envelope = args.envelope(StatementKind::Fleet)?;
    let mut ledger = args.log.open(Access::Append)?;
    if let Ok(fleet) = envelope.unverified::<Fleet>() {
        for warning in too_small(&fleet, &ledger.state) {
            output::note(&warning);
        }
        for warning in other_keys(&fleet, &ledger.state) {
            output::note(&warning);
        }
    }
    publish::append_to(&mut ledger, &envelope)
}

/// Domains of which the fleet has fewer nodes, or fewer failure domains, than their policy needs.
fn too_small(fleet: &Fleet, state: &NetworkState) -> Vec<String> {
    let mut warnings = Vec::new();
    for (id, domain) in state.domains() {
        let Some(policy) = domain.policy() else { continue };
        let nodes: Vec<&Node> = fleet.nodes.iter().filter(|node| node.domain == *id).collect();
        let failure_domains: BTreeSet<_> = nodes.iter().map(|node| &node.failure_domain).collect();
        let needed = usize::try_from(policy.holders_min).unwrap_or(usize::MAX);
        if failure_domains.len() < needed {
            warnings.push(format!(
                "domain {id} has {} nodes in {} failure domains, and policy serial {} demands \
                 {needed} proven holders in distinct ones: no node of it can be changed",
                nodes.len(),
                failure_domains.len(),
                policy.serial
            ));
        }
    }
    warnings
}

/// Operators who speak with another key, or with none, once this fleet is in force.
fn other_keys(fleet: &Fleet, state: &NetworkState) -> Vec<String> {
    let known = state.fleet().map(|known| known.operators.as_slice()).unwrap_or_default();
    let others = known.iter().filter(|known| fleet.key_of(&known.operator) != Some(&known.key));
    others
        .map(|known| {
            format!(
                "{} speaks with {} no more: what it agreed to with this key does not count any more",
                known.operator, known.key
            )
        })
        .collect()
}

/// A fleet as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetInput {
    serial: u64,
    not_after: String,
    node: Vec<NodeInput>,
    /// Whose key is whose, where operators agree to something in their own names.
    #[serde(default)]
    operator: Vec<OperatorInput>,
}

/// An operator as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorInput {
    name: String,
    key: String,
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
    let operators =
        found.operator.iter().map(operator).collect::<Result<Vec<OperatorKey>, Diagnostic>>()?;
    Ok(Fleet {
        network: log.network()?,
        serial: Serial(found.serial),
        nodes: input::sorted("node", nodes, |node| node.node.clone())?,
        not_after: input::time("not_after", &found.not_after)?,
        operators: input::sorted("operator", operators, |known| known.operator.clone())?,
    })
}

fn operator(found: &OperatorInput) -> Result<OperatorKey, Diagnostic> {
    let operator = input::value("operator.name", &found.name)?;
    Ok(OperatorKey { operator, key: input::value("operator.key", &found.key)? })
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
