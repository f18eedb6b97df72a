//! `heirloom custody`: who holds which keyring, and who has proven it.

use std::collections::BTreeSet;

use heirloom_custody::facts;
use heirloom_custody::invariant::{LossRisk, NextEffect, Requirement, no_loss};
use heirloom_model::counter::LogIndex;
use heirloom_model::identifier::DomainId;
use heirloom_registry::domain::DomainState;
use heirloom_registry::network::NetworkState;
use serde_json::{Value, json};

use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::ledger::{Access, LogArgs};
use crate::output::{Report, columns, table};
use crate::view;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show holders, proofs and failure domains, and whether the keyring survives
    Show(Show),
}

/// Which domain, and how fresh proofs must be.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The domain; by default all
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    /// Only answers to challenges at or after this log entry count
    #[arg(long, value_name = "INDEX", default_value = "0")]
    since: LogIndex,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    let Command::Show(args) = command;
    let ledger = args.log.open(Access::Read)?;
    let state = &ledger.state;
    let mut domains = Vec::new();
    let mut text = String::new();
    let mut exit = Exit::Done;
    let wanted = |id: &DomainId| args.domain.is_none_or(|domain| domain == *id);
    for (id, domain) in state.domains().filter(|(id, _)| wanted(id)) {
        let (json, lines, found) = show(id, domain, state, args.since);
        // A keyring at risk matters more than one of which nothing is known.
        if exit != Exit::Refused && found != Exit::Done {
            exit = found;
        }
        domains.push(json);
        text.push_str(&lines);
    }
    if let Some(domain) = args.domain.filter(|_| domains.is_empty()) {
        let message = format!("the network has no domain {domain}");
        return Err(Diagnostic::new(crate::code::Code::LogNothing, message));
    }
    if domains.is_empty() {
        text.push_str("the network has no domain\n");
    }
    Ok(Report::new("custody", json!({ "domains": domains }), text).exit(exit))
}

/// One domain: JSON, text, and what its custody means for the exit code.
fn show(
    id: &DomainId,
    domain: &DomainState,
    state: &NetworkState,
    since: LogIndex,
) -> (Value, String, Exit) {
    let keyring = facts::keyring(domain);
    let judged = judge(id, domain, state, since);
    // Proofs from before a rotation say nothing about the generation that it made.
    let committed = domain.committed().map(|committed| committed.at);
    let was_asked = domain.challenges().any(|asked| Some(asked.at()) > committed);
    let exit = match &judged {
        None | Some(Ok(_)) => Exit::Done,
        Some(Err(_)) if was_asked => Exit::Refused,
        Some(Err(_)) => Exit::Incomplete,
    };
    let said = match &judged {
        None => "no generation is committed, so nothing can be lost yet".to_owned(),
        Some(Err(_)) if !was_asked => {
            "not known: nobody was asked for proof since this generation was made".to_owned()
        }
        Some(Ok(survivors)) => format!(
            "no loss: proven in {} failure domains, {} needed, {} may vanish",
            survivors.failure_domains(),
            survivors.needed(),
            survivors.margin()
        ),
        Some(Err(risk)) => format!("AT RISK: {risk}"),
    };
    let (holders, rows) = holders(id, domain, state);
    let none = || "none".to_owned();
    let generation = keyring.map(|keyring| keyring.generation.0);
    let checksum = keyring.map(|keyring| keyring.checksum.to_string());
    let mut text = table(&[
        ("domain", id.to_string()),
        ("policy", domain.policy().map_or_else(none, |policy| format!("serial {}", policy.serial))),
        ("generation", generation.map_or_else(none, |generation| generation.to_string())),
        ("checksum", checksum.clone().unwrap_or_else(none)),
        ("custody", said.clone()),
    ]);
    let header = ["node", "failure domain", "log entry", "proof", "measurement"];
    text.push_str(&columns(&header, &rows));
    text.push('\n');
    let json = json!({
        "domain": id.to_string(),
        "policy": domain.policy().map(|policy| policy.serial.0),
        "generation": generation,
        "checksum": checksum,
        "survives": (exit != Exit::Incomplete).then_some(exit == Exit::Done),
        "custody": said,
        "holders": holders,
    });
    (json, text, exit)
}

/// Every node that is meant to hold, and the last thing that it proved.
fn holders(
    id: &DomainId,
    domain: &DomainState,
    state: &NetworkState,
) -> (Vec<Value>, Vec<Vec<String>>) {
    let keyring = facts::keyring(domain);
    let mut rows = Vec::new();
    let mut holders = Vec::new();
    for node in state.nodes_of(*id) {
        let proven = domain.latest_proof(&node.node);
        let flaw = proven
            .zip(keyring)
            .map(|(proven, keyring)| proven.flaw(keyring.generation, &keyring.checksum));
        let shown = match flaw {
            None => "no proof".to_owned(),
            Some(None) => "proven".to_owned(),
            Some(Some(flaw)) => flaw.to_string(),
        };
        let measurement = proven.map(|proven| proven.result().measurement().to_string());
        rows.push(vec![
            node.node.to_string(),
            node.failure_domain.to_string(),
            proven.map_or_else(|| "-".to_owned(), |proven| proven.at().to_string()),
            shown.clone(),
            measurement.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
        holders.push(json!({
            "node": node.node.to_string(),
            "failure_domain": node.failure_domain.to_string(),
            "measurement": measurement,
            "proof": shown,
            "proof_index": proven.map(|proven| proven.at().0),
            "origin": proven.map(|proven| view::origin(proven.proof().origin)),
        }));
    }
    (holders, rows)
}

/// What custody says about the domain as it is; none before genesis.
fn judge(
    id: &DomainId,
    domain: &DomainState,
    state: &NetworkState,
    since: LogIndex,
) -> Option<Result<heirloom_custody::invariant::Survivors, LossRisk>> {
    let policy = domain.policy()?;
    let requirement = Requirement {
        policy,
        keyring: facts::keyring(domain)?,
        need: policy.holders_min,
        fresh_from: since,
    };
    let copies = facts::copies(state.nodes_of(*id), &BTreeSet::new());
    Some(no_loss(&requirement, &copies, &facts::proofs(domain), &NextEffect::None))
}
