//! `heirloom upgrade`: a plan under way.

use std::collections::BTreeSet;
use std::path::PathBuf;

use heirloom_model::digest::PlanDigest;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::DomainId;
use heirloom_model::plan::{Abort, Step};
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::{PlanState, PlanStatus};
use heirloom_upgrade::gate;
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::{plan, plan_create, upgrade_watch};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::{self, Report, columns, table};
use crate::{file, key};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Plan an upgrade, check the plan, propose it, and print the digest to approve
    Start(Start),
    /// Show where plans stand and what they wait for
    Status(Status),
    /// Follow a plan until it is over; Ctrl-C detaches
    Watch(upgrade_watch::Args),
    /// Call a plan off; what was started is put back
    Abort(AbortArgs),
}

/// What to start.
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    #[command(flatten)]
    wish: plan_create::Wish,
    /// Operator's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write the plan to a file too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// Which plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// Digest of the plan; by default the latest of the domain
    #[arg(long, value_name = "DIGEST")]
    plan: Option<PlanDigest>,
    /// The domain; by default the only one
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    #[command(flatten)]
    log: LogArgs,
}

/// Which plan, and who calls it off.
#[derive(Debug, clap::Args)]
pub(crate) struct AbortArgs {
    /// Digest of the plan
    #[arg(long, value_name = "DIGEST")]
    plan: PlanDigest,
    /// Operator's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command, context: Context) -> Result<Report, Diagnostic> {
    match command {
        Command::Start(args) => start(args),
        Command::Status(args) => status(args),
        Command::Watch(args) => upgrade_watch::run(args, context),
        Command::Abort(args) => abort(args, context),
    }
}

fn start(args: &Start) -> Result<Report, Diagnostic> {
    let key = key::read(&args.key)?;
    let mut ledger = args.log.open(Access::Append)?;
    let (plan, report) = plan_create::make(&args.wish, &ledger)?;
    if let Some(out) = &args.out {
        file::create(out, &heirloom_model::wire::encode(&plan))?;
    }
    let at = ledger.append(&plan_create::proposal(&plan, &key))?;
    let (mut json, mut text) = plan_create::show(&plan, &report);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("index".to_owned(), at.0.into());
    }
    let digest = plan.digest();
    output::line(
        &mut text,
        format_args!(
            "\nproposed as log entry {at}; nothing happens before enough operators approve it:\n  \
         heirloom plan show {digest}\n  heirloom plan approve --plan {digest} --key FILE"
        ),
    );
    Ok(Report::new("upgrade.started", json, text))
}

fn status(args: &Status) -> Result<Report, Diagnostic> {
    let ledger = args.log.open(Access::Read)?;
    let found = latest(&ledger, args.plan, args.domain)?;
    let view = View::of(found, &ledger.state);
    let text = view.text();
    Ok(Report::new("upgrade.status", view.json(), text))
}

fn abort(args: &AbortArgs, context: Context) -> Result<Report, Diagnostic> {
    let key = key::read(&args.key)?;
    let mut ledger = args.log.open(Access::Append)?;
    plan::in_log(&args.plan, &ledger.state)?;
    let digest = args.plan.to_string();
    context.confirm(&format!("This calls plan {digest} off."), "abort")?;
    let abort = Abort { network: ledger.state.network(), plan: args.plan };
    let at = ledger.append(&Envelope::signed(&abort, [&key]))?;
    let status = ledger.state.plan(&args.plan).map_or("unknown", |plan| plan.status().name());
    let text = format!("plan {digest} called off, log entry {at}; it is {status}\n");
    let json = json!({ "plan": digest, "index": at.0, "status": status });
    Ok(Report::new("upgrade.aborted", json, text))
}

/// The plan of a digest, or the latest of a domain.
pub(crate) fn latest(
    ledger: &Ledger,
    plan: Option<PlanDigest>,
    domain: Option<DomainId>,
) -> Result<&PlanState, Diagnostic> {
    let digest = if let Some(digest) = plan {
        digest
    } else {
        let domain = ledger.domain(domain)?;
        let known = ledger.state.domain(&domain).and_then(|known| known.plan());
        *known.ok_or_else(|| {
            Diagnostic::new(Code::PlanUnknown, format!("domain {domain} has no plan"))
        })?
    };
    ledger
        .state
        .plan(&digest)
        .ok_or_else(|| Diagnostic::new(Code::PlanUnknown, format!("the log has no plan {digest}")))
}

/// Where a plan stands.
pub(crate) struct View {
    digest: PlanDigest,
    pub(crate) status: PlanStatus,
    pub(crate) done: usize,
    pub(crate) total: usize,
    approvals: usize,
    /// Of these, the ones whose last epoch has passed.
    lapsed: usize,
    /// For each node, the next step and what it waits for.
    pub(crate) next: Vec<Next>,
    not_after: u64,
}

/// What comes next on one node.
pub(crate) struct Next {
    node: String,
    step: u32,
    action: &'static str,
    wave: u32,
    pub(crate) waiting: Vec<String>,
}

impl View {
    /// Where a plan stands by the log.
    pub(crate) fn of(found: &PlanState, state: &NetworkState) -> Self {
        let plan = found.plan();
        let back = matches!(found.status(), PlanStatus::RollingBack | PlanStatus::RolledBack);
        let steps: Vec<&Step> =
            if back { found.rollback_needed().collect() } else { plan.steps.iter().collect() };
        let mut seen = BTreeSet::new();
        let pending = steps.iter().filter(|step| found.done_at(step.id).is_none());
        // The first open step of each node; the others wait for it.
        let first = pending.filter(|step| seen.insert(&step.node));
        let next = first
            .map(|step| Next {
                node: step.node.to_string(),
                step: step.id.0,
                action: step.action.name(),
                wave: step.wave,
                waiting: step
                    .gates
                    .iter()
                    .filter_map(|gate| gate::holds(gate, plan, state).err())
                    .map(|waiting| waiting.to_string())
                    .collect(),
            })
            .collect();
        Self {
            digest: *found.digest(),
            status: found.status(),
            done: steps.iter().filter(|step| found.done_at(step.id).is_some()).count(),
            total: steps.len(),
            approvals: found.approvals().len(),
            lapsed: found.approvals().values().filter(|end| **end < state.epoch()).count(),
            next,
            not_after: plan.not_after.0,
        }
    }

    /// On which side of the point of no return the plan is.
    fn side(&self) -> &'static str {
        match self.status {
            PlanStatus::PastNoReturn | PlanStatus::Finished => "after: only forward",
            PlanStatus::Proposed
            | PlanStatus::Approved
            | PlanStatus::ApprovalLapsed
            | PlanStatus::Expired => "before: an abort goes back",
            PlanStatus::RollingBack | PlanStatus::RolledBack => "before: called off",
        }
    }

    /// Whether nothing goes on before enough operators approve.
    pub(crate) fn awaits_operators(&self) -> bool {
        matches!(self.status, PlanStatus::Proposed | PlanStatus::ApprovalLapsed)
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let next: Vec<Value> = self
            .next
            .iter()
            .map(|next| {
                json!({
                    "node": next.node,
                    "step": next.step,
                    "action": next.action,
                    "wave": next.wave,
                    "waiting_for": next.waiting,
                })
            })
            .collect();
        json!({
            "plan": self.digest.to_string(),
            "status": self.status.name(),
            "point_of_no_return": self.side(),
            "steps_done": self.done,
            "steps": self.total,
            "approvals": self.approvals,
            "approvals_lapsed": self.lapsed,
            "not_after": self.not_after,
            "next": next,
        })
    }

    /// For people.
    fn text(&self) -> String {
        let approvals = match self.lapsed {
            0 => self.approvals.to_string(),
            lapsed => format!("{}, of which {lapsed} lapsed", self.approvals),
        };
        let mut text = table(&[
            ("plan", self.digest.to_string()),
            ("status", self.status.name().to_owned()),
            ("approvals", approvals),
            ("steps", format!("{} of {} done", self.done, self.total)),
            ("no return", self.side().to_owned()),
            ("last epoch", self.not_after.to_string()),
        ]);
        if !self.next.is_empty() {
            let rows: Vec<Vec<String>> = self
                .next
                .iter()
                .map(|next| {
                    let mut waiting = next.waiting.join("; ");
                    if self.awaits_operators() {
                        "approval by enough operators".clone_into(&mut waiting);
                    } else if waiting.is_empty() {
                        "nothing".clone_into(&mut waiting);
                    }
                    let step = format!("{} {}", next.step, next.action);
                    vec![next.node.clone(), next.wave.to_string(), step, waiting]
                })
                .collect();
            text.push('\n');
            text.push_str(&columns(&["node", "wave", "next step", "waits for"], &rows));
        }
        text
    }
}
