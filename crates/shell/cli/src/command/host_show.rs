//! `heirloom host list` and `heirloom host show`: what the log and the agents say about seats.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_custody::facts::Emptied;
use heirloom_model::fleet::Node;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::measurement::Measurement;
use heirloom_registry::domain::DomainState;
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanState;
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::{node, seat};
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, LogArgs};
use crate::output::{self, Report, columns, table};

/// Which nodes.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// The domain; by default all
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    #[command(flatten)]
    log: LogArgs,
}

/// Which node.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The node
    #[arg(long, value_name = "NODE")]
    node: NodeId,
    /// Address of the agent's interface, `http://host:port`
    #[arg(long, value_name = "URL")]
    agent: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

/// Lists the nodes of the fleet.
pub(crate) fn list(args: &List) -> Result<Report, Diagnostic> {
    let ledger = args.log.open(Access::Read)?;
    let state = &ledger.state;
    let nodes = state.fleet().map(|fleet| fleet.nodes.as_slice()).unwrap_or_default();
    let wanted = nodes.iter().filter(|node| args.domain.is_none_or(|id| id == node.domain));
    let (mut hosts, mut rows) = (Vec::new(), Vec::new());
    for node in wanted {
        let domain = state.domain(&node.domain);
        let runs = domain.and_then(|domain| seat::runs_on(domain, state, node));
        let release = runs.and_then(|code| seat::release_name(state, &code));
        let active = domain.and_then(|domain| domain.activity().active());
        let is_active = active.is_some_and(|active| *active.node() == node.node);
        rows.push(vec![
            node.node.to_string(),
            node.host.to_string(),
            node.failure_domain.to_string(),
            release.clone().unwrap_or_else(|| "-".to_owned()),
            if is_active { "active" } else { "-" }.to_owned(),
        ]);
        hosts.push(json!({
            "node": node.node.to_string(),
            "host": node.host.to_string(),
            "domain": node.domain.to_string(),
            "failure_domain": node.failure_domain.to_string(),
            "operator": node.operator.to_string(),
            "measurement": runs.map(|code| code.to_string()),
            "release": release,
            "active": is_active,
        }));
    }
    let text = columns(&["node", "host", "failure domain", "release", "exclusive"], &rows);
    Ok(Report::new("hosts", json!({ "hosts": hosts }), text))
}

/// Shows the seats of one node.
pub(crate) fn show(args: &Show) -> Result<Report, Diagnostic> {
    let ledger = args.log.open(Access::Read)?;
    let state = &ledger.state;
    let found = seat::in_fleet(&args.node, state)?;
    let domain = state.domain(&found.domain).ok_or_else(|| {
        let message = format!("domain {} has no policy", found.domain);
        Diagnostic::new(Code::LogNothing, message)
    })?;
    let told = args.agent.as_deref().map(node::status).transpose()?;
    let own = told.as_ref().and_then(|status| status.get("heirloom"));
    if let Some(other) = other_node(own, found) {
        let message = format!("this is the agent of {other}, not of {}", found.node);
        return Err(Diagnostic::new(Code::InputValue, message).hint("give its own agent's address"));
    }
    let seats = seats(found, domain, state, own);
    let field = |name: &str| own.and_then(|own| own.get(name)).cloned().unwrap_or_default();
    let text = text(found, domain, &seats, own);
    let json = json!({
        "node": found.node.to_string(),
        "host": found.host.to_string(),
        "domain": found.domain.to_string(),
        "failure_domain": found.failure_domain.to_string(),
        "asked_agent": told.is_some(),
        "activity": seat::activity_json(domain.activity()),
        "seats": seats,
        "quarantined": field("quarantined_state_of"),
        "staged": field("staged"),
        "hint": field("hint"),
        "warnings": field("warnings"),
    });
    Ok(Report::new("host", json, text))
}

/// The node of another agent that answered by mistake.
fn other_node(own: Option<&Value>, expected: &Node) -> Option<String> {
    let node = own?.get("node")?.as_str()?;
    (node != expected.node.as_str()).then(|| node.to_owned())
}

/// Every seat of the node that the log or the agent knows.
fn seats(
    node: &Node,
    domain: &DomainState,
    state: &NetworkState,
    own: Option<&Value>,
) -> Vec<Value> {
    let running = running(own);
    let proofs = seat::proofs(domain);
    let emptied = Emptied::of(&node.domain, state);
    let of_node = proofs.get(&node.node);
    let plan = state.active_plan(&node.domain).map(PlanState::plan);
    let named = |code: &Measurement| domain.policy().is_some_and(|it| it.holder(code).is_some());
    // What the policy does not name any more, and what does not run, is history.
    let registered = domain.registrations().filter(|found| found.statement().node == node.node);
    let known = registered.map(|found| found.result().measurement()).filter(named);
    let silent = codes(own, "silent");
    let known = known.chain(running.keys().copied()).chain(silent.iter().copied());
    let known: BTreeSet<Measurement> = known.collect();
    let seat = |code: &Measurement| {
        let proven = of_node.and_then(|of_node| of_node.get(code));
        let registered = domain.registration_with(&node.node, code);
        let now = running.get(code).copied();
        let field = |name: &str| now.and_then(|seat| seat.get(name)).cloned().unwrap_or_default();
        json!({
            "measurement": code.to_string(),
            "release": seat::release_name(state, code),
            "part": plan.and_then(|plan| seat::part(plan, &node.node, code)),
            "role": seat::role(domain, code),
            "active": seat::is_active(domain, &node.node, code),
            "registered": registered.map(|found| found.at().0),
            "proof": proven.map(|proven| seat::judged(domain, proven, &emptied)),
            "proof_index": proven.map(|proven| proven.at().0),
            "running": own.map(|_| now.is_some() || silent.contains(code)),
            "state": if silent.contains(code) { "silent".into() } else { field("state") },
            "instance": field("instance"),
            "address": field("address"),
            "sealing": field("sealing"),
            "generation": field("generation"),
            "progress": field("progress"),
        })
    };
    known.iter().map(seat).collect()
}

/// Measurements that the agent lists under a name.
fn codes(own: Option<&Value>, name: &str) -> BTreeSet<Measurement> {
    let listed = own.and_then(|own| own.get(name)).and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|code| code.as_str()?.parse().ok()).collect()
}

/// What the agent says of each instance that runs.
fn running(own: Option<&Value>) -> BTreeMap<Measurement, &Value> {
    let seats = own.and_then(|own| own.get("seats")).and_then(Value::as_array);
    let parsed = |seat| -> Option<(Measurement, &Value)> {
        let seat: &Value = seat;
        Some((seat.get("measurement")?.as_str()?.parse().ok()?, seat))
    };
    seats.into_iter().flatten().filter_map(parsed).collect()
}

fn text(node: &Node, domain: &DomainState, seats: &[Value], own: Option<&Value>) -> String {
    let mut rows = vec![
        ("node", node.node.to_string()),
        ("host", node.host.to_string()),
        ("domain", node.domain.to_string()),
        ("failure domain", node.failure_domain.to_string()),
    ];
    if domain.activity().at().is_some() {
        rows.push(("active", seat::activity_text(domain.activity())));
    }
    let quarantined = codes(own, "quarantined_state_of");
    if !quarantined.is_empty() {
        let shown: Vec<String> = quarantined.iter().map(ToString::to_string).collect();
        rows.push(("quarantine", shown.join(" ")));
    }
    if let Some(hint) = own.and_then(|own| own.get("hint")).and_then(Value::as_str) {
        rows.push(("next", hint.to_owned()));
    }
    let mut text = table(&rows);
    text.push('\n');
    let state = |seat: &Value| match (seat["running"].as_bool(), seat["state"].as_str()) {
        (_, Some(state)) => state.to_owned(),
        (Some(false), None) => "not running".to_owned(),
        (Some(true) | None, None) => "-".to_owned(),
    };
    let word = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let shown = |value: &Value| word(value).unwrap_or_else(|| "-".to_owned());
    let cells: Vec<Vec<String>> = seats
        .iter()
        .map(|seat| {
            vec![
                word(&seat["release"]).unwrap_or_else(|| shown(&seat["measurement"])),
                shown(&seat["part"]),
                shown(&seat["role"]),
                state(seat),
                word(&seat["proof"]).unwrap_or_else(|| "no proof".to_owned()),
                shown(&seat["sealing"]),
                shown(&seat["address"]),
            ]
        })
        .collect();
    let header = ["release", "part", "role", "state", "proof", "sealing", "address"];
    text.push_str(&columns(&header, &cells));
    staged(&mut text, own);
    text
}

/// What is staged, and what became of it.
fn staged(text: &mut String, own: Option<&Value>) {
    let staged = own.and_then(|own| own.get("staged")).and_then(Value::as_array);
    let Some(staged) = staged.filter(|staged| !staged.is_empty()) else { return };
    let shown = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let cells: Vec<Vec<String>> = staged
        .iter()
        .map(|staged| {
            let progress = &staged["progress"];
            let state = match (progress["received"].as_u64(), progress["wanted"].as_u64()) {
                (Some(received), Some(wanted)) => {
                    format!("{} {received} of {wanted} bytes", shown(&staged["state"]))
                }
                _ => shown(&staged["state"]),
            };
            vec![shown(&staged["release"]), shown(&staged["kind"]), state, shown(&staged["reason"])]
        })
        .collect();
    output::line(text, format_args!(""));
    text.push_str(&columns(&["staged release", "kind", "state", "reason"], &cells));
}
