//! `heirloom custody`: who holds which keyring, and who has proven it.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_custody::facts::{self, Emptied};
use heirloom_custody::invariant::{LossRisk, NextEffect, Requirement, no_loss};
use heirloom_model::counter::LogIndex;
use heirloom_model::fleet::Node;
use heirloom_model::identifier::DomainId;
use heirloom_model::policy::Sharing;
use heirloom_registry::domain::{DomainState, Proven};
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanState;
use serde_json::{Value, json};

use crate::command::{custody_prove, seat};
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
    /// Ask every holder of a domain for a proof now, and show what they answer
    ///
    /// A challenge is a statement of one agent: run this where the key of an agent is. Nothing is
    /// changed on any node. The exit code is that of `custody show`, counting only answers to this
    /// challenge.
    Prove(custody_prove::Args),
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
    match command {
        Command::Show(args) => {
            let ledger = args.log.open(Access::Read)?;
            report(&ledger.state, args.domain, args.since)
        }
        Command::Prove(args) => custody_prove::run(args),
    }
}

/// Who holds the keyring of a domain, or of all, counting answers to challenges since an entry.
pub(crate) fn report(
    state: &NetworkState,
    only: Option<DomainId>,
    since: LogIndex,
) -> Result<Report, Diagnostic> {
    let mut domains = Vec::new();
    let mut text = String::new();
    let mut exit = Exit::Done;
    let wanted = |id: &DomainId| only.is_none_or(|domain| domain == *id);
    for (id, domain) in state.domains().filter(|(id, _)| wanted(id)) {
        let (json, lines, found) = show(id, domain, state, since);
        // A keyring at risk matters more than one of which nothing is known.
        if exit != Exit::Refused && found != Exit::Done {
            exit = found;
        }
        domains.push(json);
        text.push_str(&lines);
    }
    if let Some(domain) = only.filter(|_| domains.is_empty()) {
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
    let emptied = Emptied::of(id, state);
    let judged = judge(id, domain, state, (since, &emptied));
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
    let (holders, rows) = holders(id, domain, state, &emptied);
    let none = || "none".to_owned();
    let generation = keyring.map(|keyring| keyring.generation.0);
    let checksum = keyring.map(|keyring| keyring.checksum.to_string());
    let mut lines = vec![
        ("domain", id.to_string()),
        ("policy", domain.policy().map_or_else(none, |policy| format!("serial {}", policy.serial))),
        ("generation", generation.map_or_else(none, |generation| generation.to_string())),
        ("checksum", checksum.clone().unwrap_or_else(none)),
        ("custody", said.clone()),
    ];
    let is_exclusive = domain.policy().is_some_and(|policy| policy.sharing == Sharing::Exclusive);
    if is_exclusive {
        lines.push(("active", seat::activity_text(domain.activity())));
    }
    let mut text = table(&lines);
    let header = ["node", "failure domain", "part", "log entry", "proof", "measurement"];
    text.push_str(&columns(&header, &rows));
    text.push('\n');
    let json = json!({
        "domain": id.to_string(),
        "policy": domain.policy().map(|policy| policy.serial.0),
        "generation": generation,
        "checksum": checksum,
        "survives": (exit != Exit::Incomplete).then_some(exit == Exit::Done),
        "custody": said,
        "activity": is_exclusive.then(|| seat::activity_json(domain.activity())),
        "holders": holders,
    });
    (json, text, exit)
}

/// Every node that is meant to hold, and the last thing that it proved; while a plan is carried
/// out, the last thing that each of its seats proved. A seat that is gone is shown where nothing
/// else is.
fn holders(
    id: &DomainId,
    domain: &DomainState,
    state: &NetworkState,
    emptied: &Emptied,
) -> (Vec<Value>, Vec<Vec<String>>) {
    let plan = state.active_plan(id).map(PlanState::plan);
    let proofs = seat::proofs(domain);
    let mut rows = Vec::new();
    let mut holders = Vec::new();
    for node in state.nodes_of(*id) {
        let part = |proven: &Proven| seat::part(plan?, &node.node, &proven.result().measurement());
        let known = proofs.get(&node.node).into_iter().flat_map(BTreeMap::values).copied();
        let mut seats: Vec<&Proven> = known.collect();
        let stands = |proven: &&&Proven| emptied.since(proven).is_none();
        let last = seats.iter().filter(stands).map(|proven| proven.at()).max();
        let last = last.or_else(|| seats.iter().map(|proven| proven.at()).max());
        seats.retain(|proven| Some(proven.at()) == last || part(proven).is_some());
        seats.sort_by_key(|proven| proven.at());
        let seats = seats.into_iter().map(Some);
        let none = last.is_none().then_some(None);
        for proven in seats.chain(none) {
            let (json, row) = holder(node, domain, (proven, emptied), proven.and_then(part));
            rows.push(row);
            holders.push(json);
        }
    }
    (holders, rows)
}

/// One seat, or a node that proved nothing.
fn holder(
    node: &Node,
    domain: &DomainState,
    (proven, emptied): (Option<&Proven>, &Emptied),
    part: Option<&'static str>,
) -> (Value, Vec<String>) {
    let judged = |proven| seat::judged(domain, proven, emptied);
    let shown = proven.map_or_else(|| "no proof".to_owned(), judged);
    let code = proven.map(|proven| proven.result().measurement());
    let row = vec![
        node.node.to_string(),
        node.failure_domain.to_string(),
        part.unwrap_or("-").to_owned(),
        proven.map_or_else(|| "-".to_owned(), |proven| proven.at().to_string()),
        shown.clone(),
        code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
    ];
    let json = json!({
        "node": node.node.to_string(),
        "failure_domain": node.failure_domain.to_string(),
        "measurement": code.map(|code| code.to_string()),
        "part": part,
        "active": code.is_some_and(|code| seat::is_active(domain, &node.node, &code)),
        "proof": shown,
        "proof_index": proven.map(|proven| proven.at().0),
        "origin": proven.map(|proven| view::origin(proven.proof().origin)),
    });
    (json, row)
}

/// What custody says about the domain as it is; none before genesis.
fn judge(
    id: &DomainId,
    domain: &DomainState,
    state: &NetworkState,
    (since, emptied): (LogIndex, &Emptied),
) -> Option<Result<heirloom_custody::invariant::Survivors, LossRisk>> {
    let policy = domain.policy()?;
    let requirement = Requirement {
        policy,
        keyring: facts::keyring(domain)?,
        need: policy.holders_min,
        fresh_from: since,
    };
    let copies = facts::copies(state.nodes_of(*id), &BTreeSet::new());
    Some(no_loss(
        &requirement,
        &copies,
        &facts::standing_proofs(domain, emptied),
        &NextEffect::None,
    ))
}
