//! Flag days: rehearsals, consent taken back, and the report of an event.

use std::fmt::Write as _;
use std::path::PathBuf;

use heirloom_model::digest::PlanDigest;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::plan::{Action, Plan, Step};
use heirloom_model::service::{Rehearsal, Revocation, Standing, Tip};
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::{AbortCause, PlanState, PlanStatus};
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::{plan, upgrade};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::key;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::{Report, columns, table};
use crate::view_service;

/// Which rehearsal, and who says so.
#[derive(Debug, clap::Args)]
pub(crate) struct RehearseArgs {
    /// The test network: its id, or its `network.toml`
    #[arg(long, value_name = "ID|FILE")]
    test_network: String,
    /// Address of the test network's registry; by default what its `network.toml` says
    #[arg(long, value_name = "URL")]
    test_registry: Option<String>,
    /// The test network's log in a file, instead of a registry
    #[arg(long, value_name = "FILE", conflicts_with = "test_registry")]
    test_log: Option<PathBuf>,
    /// The test network's domain; by default its only one
    #[arg(long, value_name = "ID")]
    test_domain: Option<DomainId>,
    /// The plan that was finished there; by default the latest
    #[arg(long, value_name = "DIGEST")]
    plan: Option<PlanDigest>,
    /// Operator's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

/// Whose consent to which plan is taken back.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// Digest of the plan
    #[arg(long, value_name = "DIGEST")]
    plan: PlanDigest,
    /// Operator's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

/// Which event.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Digest of the plan; by default the latest of the domain
    #[arg(long, value_name = "DIGEST")]
    plan: Option<PlanDigest>,
    /// The domain; by default the only one
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    #[command(flatten)]
    log: LogArgs,
}

/// Looks at a test network's log, and records what was rehearsed there.
pub(crate) fn rehearse(args: &RehearseArgs) -> Result<Report, Diagnostic> {
    let key = key::read(&args.key)?;
    let (registry, log) = (args.test_registry.clone(), args.test_log.clone());
    let test = LogArgs::of(args.test_network.clone(), registry, log).open(Access::Read)?;
    let found = upgrade::latest(&test, args.plan, args.test_domain)?;
    let refused = |message: String| Diagnostic::new(Code::PlanRefused, message);
    let Some(change) = &found.plan().service else {
        return Err(refused(format!("plan {} is no flag day", found.digest())));
    };
    if found.status() != PlanStatus::Finished {
        let message = format!("plan {} on the test network is {}", found.digest(), found.status());
        return Err(refused(message).hint("only a plan that was finished is a rehearsal"));
    }
    let mut ledger = args.log.open(Access::Append)?;
    let rehearsal = Rehearsal {
        network: ledger.state.network(),
        terms: change.terms.digest(),
        rehearsed_on: test.state.network(),
        plan: *found.digest(),
        seen: test.state.position(),
    };
    let at = ledger.append(&Envelope::signed(&rehearsal, [&key]))?;
    let text = format!(
        "terms {} were carried out on network {}; recorded as log entry {at}\n",
        rehearsal.terms, rehearsal.rehearsed_on
    );
    let mut json = view_service::rehearsal(&rehearsal);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("index".to_owned(), at.0.into());
    }
    Ok(Report::new("upgrade.rehearsed", json, text))
}

/// Takes an operator's consent back.
pub(crate) fn revoke(args: &RevokeArgs, context: Context) -> Result<Report, Diagnostic> {
    let key = key::read(&args.key)?;
    let mut ledger = args.log.open(Access::Append)?;
    plan::in_log(&args.plan, &ledger.state)?;
    let digest = args.plan.to_string();
    context.confirm(&format!("This takes your consent to plan {digest} back."), "revoke")?;
    let revocation = Revocation { network: ledger.state.network(), plan: args.plan };
    let at = ledger.append(&Envelope::signed(&revocation, [&key]))?;
    let status = ledger.state.plan(&args.plan).map_or("unknown", |plan| plan.status().name());
    let text = format!("consent to plan {digest} taken back, log entry {at}; it is {status}\n");
    let json = json!({ "plan": digest, "index": at.0, "status": status });
    Ok(Report::new("upgrade.revoked", json, text))
}

/// What the log says about a flag day, from its proposal to its end.
pub(crate) fn report(args: &ReportArgs) -> Result<Report, Diagnostic> {
    let ledger = args.log.open(Access::Read)?;
    let found = upgrade::latest(&ledger, args.plan, args.domain)?;
    if found.plan().service.is_none() {
        let message = format!("plan {} is no flag day", found.digest());
        return Err(Diagnostic::new(Code::PlanRefused, message)
            .hint("`heirloom upgrade status` shows where other plans stand"));
    }
    let told = Told::of(found, &ledger);
    let exit = if told.fork.is_some() { Exit::Refused } else { Exit::Done };
    Ok(Report::new("upgrade.report", told.json(), told.text()).exit(exit))
}

/// What the report says.
struct Told<'a> {
    found: &'a PlanState,
    state: &'a NetworkState,
    /// Rows of who saw whom: a node, and whether it sees each other node as an attested peer.
    matrix: Vec<(NodeId, Vec<NodeId>)>,
    frozen: Option<Tip>,
    /// The end of each ledger at its last word.
    tips: Vec<(NodeId, Tip)>,
    fork: Option<(NodeId, Tip)>,
}

impl<'a> Told<'a> {
    fn of(found: &'a PlanState, ledger: &'a Ledger) -> Self {
        let plan = found.plan();
        let joined = said(found, plan, |action| matches!(action, Action::Join(_)));
        let matrix = joined
            .iter()
            .map(|(node, said)| {
                ((*node).clone(), said.peers.iter().map(|peer| peer.node.clone()).collect())
            })
            .collect();
        let frozen = plan.nodes.iter().find_map(|node| found.frozen_tip(node));
        let all = said(found, plan, |_| true);
        let mut tips: Vec<(NodeId, Tip)> = Vec::new();
        let mut fork = None;
        for (node, said) in all {
            if let Some(other) = said.fork {
                fork = Some((node.clone(), other));
            }
            if let Some(tip) = said.tip {
                tips.retain(|(known, _)| known != node);
                tips.push((node.clone(), tip));
            }
        }
        tips.sort();
        Self { found, state: &ledger.state, matrix, frozen, tips, fork }
    }

    /// Whether every node saw every other one, and nobody else.
    fn matrix_is_full(&self) -> bool {
        let nodes = &self.found.plan().nodes;
        let full = |(node, seen): &(NodeId, Vec<NodeId>)| {
            nodes.iter().filter(|other| *other != node).eq(seen.iter())
        };
        self.matrix.len() == nodes.len() && self.matrix.iter().all(full)
    }

    fn rehearsals(&self) -> usize {
        let change = self.found.plan().service.as_ref();
        change.map_or(0, |change| self.state.rehearsals(&change.terms.digest()))
    }

    fn json(&self) -> Value {
        let plan = self.found.plan();
        let matrix: Vec<Value> = self
            .matrix
            .iter()
            .map(|(node, seen)| {
                let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
                json!({ "node": node.to_string(), "peers": seen })
            })
            .collect();
        let tips: Vec<Value> = self
            .tips
            .iter()
            .map(|(node, tip)| json!({ "node": node.to_string(), "tip": view_service::tip(tip) }))
            .collect();
        let steps: Vec<Value> = plan
            .steps
            .iter()
            .chain(plan.rollback.iter().map(|back| &back.step))
            .filter_map(|step| {
                let at = self.found.done_at(step.id)?;
                Some(json!({
                    "step": step.id.0,
                    "action": step.action.name(),
                    "node": step.node.to_string(),
                    "index": at.0,
                    "epoch": self.found.epoch_of(step.id).map(|epoch| epoch.0),
                }))
            })
            .collect();
        json!({
            "plan": self.found.digest().to_string(),
            "status": self.found.status().name(),
            "service": plan.service.as_ref().map(view_service::change),
            "approvals": self.found.approvals().len(),
            "rehearsals": self.rehearsals(),
            "frozen": self.frozen.as_ref().map(view_service::tip),
            "peer_matrix": matrix,
            "peer_matrix_ok": self.matrix_is_full(),
            "tips": tips,
            "fork": self.fork.as_ref().map(|(node, tip)| {
                json!({ "node": node.to_string(), "tip": view_service::tip(tip) })
            }),
            "called_off_by": self.found.abort_cause().map(who),
            "called_off_for": self.found.abort_cause().and_then(why),
            "rolled_back": self.found.status() == PlanStatus::RolledBack,
            "steps_done": steps,
        })
    }

    fn text(&self) -> String {
        let mut rows = vec![
            ("plan", self.found.digest().to_string()),
            ("status", self.found.status().name().to_owned()),
            ("approvals", self.found.approvals().len().to_string()),
            ("rehearsals", self.rehearsals().to_string()),
        ];
        if let Some(change) = &self.found.plan().service {
            rows.push(("from", change.from.measurement.to_string()));
            rows.push(("to", change.to.measurement.to_string()));
            rows.push(("terms", change.terms.digest().to_string()));
        }
        if let Some(tip) = &self.frozen {
            rows.push(("frozen at", tip.to_string()));
        }
        if let Some(cause) = self.found.abort_cause() {
            let why = why(cause).unwrap_or("no reason was given");
            rows.push(("called off", format!("by {}: {why}", who(cause))));
        }
        if let Some((node, tip)) = &self.fork {
            rows.push(("FORK", format!("{node} saw block {tip} of a peer, which is not its own")));
        }
        let mut text = table(&rows);
        if !self.matrix.is_empty() {
            let _written = write!(text, "\npeers (attested, both directions)\n{}", self.grid());
        }
        if !self.tips.is_empty() {
            let rows: Vec<Vec<String>> = self
                .tips
                .iter()
                .map(|(node, tip)| {
                    vec![node.to_string(), tip.height.to_string(), tip.id.to_string()]
                })
                .collect();
            let _written = write!(text, "\n{}", columns(&["node", "height", "block"], &rows));
        }
        text
    }

    /// The matrix as a table: a row sees a column.
    fn grid(&self) -> String {
        let nodes = &self.found.plan().nodes;
        let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        let mut heads = vec!["sees"];
        heads.extend(names.iter().map(String::as_str));
        let rows: Vec<Vec<String>> = self
            .matrix
            .iter()
            .map(|(node, seen)| {
                let cell = |other: &NodeId| match (other == node, seen.contains(other)) {
                    (true, _) => "-".to_owned(),
                    (false, true) => "yes".to_owned(),
                    (false, false) => "NO".to_owned(),
                };
                std::iter::once(node.to_string()).chain(nodes.iter().map(cell)).collect()
            })
            .collect();
        columns(&heads, &rows)
    }
}

/// What services said at steps of this kind, in the order of the plan.
fn said<'a>(
    found: &'a PlanState,
    plan: &'a Plan,
    wanted: impl Fn(&Action) -> bool,
) -> Vec<(&'a NodeId, &'a Standing)> {
    let steps = plan.steps.iter().chain(plan.rollback.iter().map(|back| &back.step));
    let standing = |step: &'a Step| Some((&step.node, found.standing(step.id)?.standing().get()));
    steps.filter(|step| wanted(&step.action)).filter_map(standing).collect()
}

fn who(cause: &AbortCause) -> String {
    match cause {
        AbortCause::Operator { .. } => "an operator".to_owned(),
        AbortCause::Agent { node, .. } => format!("the agent of {node}"),
        AbortCause::Deadline => "the plan itself".to_owned(),
    }
}

fn why(cause: &AbortCause) -> Option<&str> {
    match cause {
        AbortCause::Operator { reason } => reason.as_deref(),
        AbortCause::Agent { reason, .. } => reason.as_deref(),
        AbortCause::Deadline => Some("its abort deadline has passed"),
    }
}
