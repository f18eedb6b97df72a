//! `heirloom upgrade`: a plan under way.

use std::collections::BTreeSet;
use std::path::PathBuf;

use heirloom_model::counter::LogIndex;
use heirloom_model::digest::PlanDigest;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::plan::{Abort, Action, Step};
use heirloom_registry::activity::Activity;
use heirloom_registry::domain::DomainState;
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::{AbortCause, Consent, PlanState, PlanStatus};
use heirloom_upgrade::gate;
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::{flag_day, node, plan, plan_create, plan_make, upgrade_watch};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::key;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::{Report, columns, table};

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
    /// Take one's consent to a plan back, before anything that clients notice was done
    Revoke(flag_day::RevokeArgs),
    /// Record that the terms of a flag day were carried out on a test network
    Rehearse(flag_day::RehearseArgs),
    /// Report on a flag day: who agreed, who saw whom, where every ledger ends
    Report(flag_day::ReportArgs),
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
    /// Address of the interface of the node's agent, `http://host:port`: what it measured of the
    /// latest switch-over is shown too
    #[arg(long, value_name = "URL")]
    agent: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

/// Which plan, and who calls it off.
#[derive(Debug, clap::Args)]
pub(crate) struct AbortArgs {
    /// Digest of the plan
    #[arg(long, value_name = "DIGEST")]
    plan: PlanDigest,
    /// Why, for the others
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
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
        Command::Revoke(args) => flag_day::revoke(args, context),
        Command::Rehearse(args) => flag_day::rehearse(args),
        Command::Report(args) => flag_day::report(args),
    }
}

fn start(args: &Start) -> Result<Report, Diagnostic> {
    let key = key::read(&args.key)?;
    let mut ledger = args.log.open(Access::Append)?;
    let request = args.wish.request(&ledger)?;
    plan_make::start(&request, &mut ledger, &key, args.out.as_deref())
}

fn status(args: &Status) -> Result<Report, Diagnostic> {
    let ledger = args.log.open(Access::Read)?;
    let found = latest(&ledger, args.plan, args.domain)?;
    let mut view = View::of(found, &ledger.state);
    if let Some(agent) = &args.agent {
        let status = node::status(agent)?;
        view.milliseconds = status.pointer("/heirloom/switch_over_ms").and_then(Value::as_u64);
    }
    let text = view.text();
    Ok(Report::new("upgrade.status", view.json(), text))
}

fn abort(args: &AbortArgs, context: Context) -> Result<Report, Diagnostic> {
    let key = key::read(&args.key)?;
    let mut ledger = args.log.open(Access::Append)?;
    plan::in_log(&args.plan, &ledger.state)?;
    let digest = args.plan.to_string();
    context.confirm(&format!("This calls plan {digest} off."), "abort")?;
    let reason = args.reason.clone();
    let abort = Abort { network: ledger.state.network(), plan: args.plan, node: None, reason };
    let appended = ledger.append(&Envelope::signed(&abort, [&key]));
    let found = ledger.state.plan(&args.plan);
    let at =
        appended.map_err(|error| match found.and_then(|found| too_late(found, &ledger.state)) {
            Some(advice) => error.instead(advice),
            None => error,
        })?;
    let status = ledger.state.plan(&args.plan).map_or("unknown", |plan| plan.status().name());
    let text = format!("plan {digest} called off, log entry {at}; it is {status}\n");
    let json = json!({ "plan": digest, "index": at.0, "status": status });
    Ok(Report::new("upgrade.aborted", json, text))
}

/// What to do in place of an abort for which it is too late; nothing if it is not.
fn too_late(found: &PlanState, state: &NetworkState) -> Option<String> {
    let latest = state.domain(&found.plan().domain).and_then(DomainState::plan);
    if let Some(latest) = latest.filter(|latest| *latest != found.digest()) {
        return Some(format!(
            "plan {latest} took the place of this one, of which no step starts any more: look at \
             `heirloom upgrade status`, and call that one off if it must not go on"
        ));
    }
    let back = if found.plan().service.is_some() {
        "the way back is another flag day, to a release that serves the schema of now"
    } else {
        "the way back is a plan of its own: `heirloom upgrade start` with the two releases \
         exchanged, `--from` the new one and `--to` the old one, under a policy that names the \
         edges back"
    };
    match found.status() {
        PlanStatus::PastNoReturn => Some(format!(
            "there is only forward now: let the plan finish with `heirloom upgrade watch`; {back}"
        )),
        PlanStatus::Finished => Some(format!("nothing is left to call off; {back}")),
        PlanStatus::RollingBack => {
            Some("it was called off already: follow it with `heirloom upgrade watch`".to_owned())
        }
        PlanStatus::RolledBack => {
            Some("it was called off already, and everything that it started is back".to_owned())
        }
        PlanStatus::Proposed
        | PlanStatus::Approved
        | PlanStatus::ApprovalLapsed
        | PlanStatus::Expired => None,
    }
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

/// What a step waits for whose gates are open. The log does not know why an agent does not get on.
const IN_HAND: &str =
    "its agent, which tries; if it stays so, `heirloom node status --waiting` says why";

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
    consent: Consent,
    was_approved: bool,
    /// Who called it off, and why.
    called_off: Option<CalledOff>,
    /// When an exclusive domain changes its active holder.
    switch: Option<Switch>,
    /// How long nobody was active, as the agent measured it.
    milliseconds: Option<u64>,
}

/// Who called a plan off, and why.
pub(crate) struct CalledOff {
    pub(crate) by: String,
    pub(crate) reason: Option<String>,
    pub(crate) at: Option<LogIndex>,
}

impl CalledOff {
    /// What the log says, if somebody did.
    pub(crate) fn of(found: &PlanState) -> Option<Self> {
        let (by, reason) = match found.abort_cause()? {
            AbortCause::Operator { reason } => ("an operator".to_owned(), reason.clone()),
            AbortCause::Agent { node, reason } => (format!("the agent of {node}"), reason.clone()),
            AbortCause::Deadline => {
                ("the plan itself".to_owned(), Some("its abort deadline has passed".to_owned()))
            }
        };
        Some(Self { by, reason, at: found.aborted() })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or("no reason was given");
        let at = self.at.map_or(String::new(), |at| format!(", log entry {at}"));
        format!("by {}: {reason}{at}", self.by)
    }
}

/// The entries with which the old holder said that it stops, and the new one that it begins.
struct Switch {
    suspended: Option<LogIndex>,
    activated: Option<LogIndex>,
    /// After an abort: who became active instead of the new holder.
    restored: Option<Restored>,
}

/// Who is active again after a suspension that was for nothing.
struct Restored {
    node: NodeId,
    at: LogIndex,
}

impl Switch {
    /// The switch of a plan that has one.
    fn of(found: &PlanState, state: &NetworkState) -> Option<Self> {
        let step = |wanted: fn(&Action) -> bool| {
            found.plan().steps.iter().find(|step| wanted(&step.action)).map(|step| step.id)
        };
        let suspends = step(|action| matches!(action, Action::Suspend(_)))?;
        let activates = step(|action| matches!(action, Action::Activate(_)))?;
        let suspended = found.witnessed_at(suspends);
        let activated = found.witnessed_at(activates);
        let activity = state.domain(&found.plan().domain).map(DomainState::activity);
        // Whoever became active later without the step for it took the keyring back.
        let active = activity.and_then(Activity::active);
        let active = active.filter(|active| Some(active.at()) > suspended);
        let restored = active.filter(|_| suspended.is_some() && activated.is_none());
        let restored =
            restored.map(|active| Restored { node: active.node().clone(), at: active.at() });
        Some(Self { suspended, activated, restored })
    }

    /// For people. The log has no clock: milliseconds are the agent's.
    fn text(&self, milliseconds: Option<u64>) -> String {
        if let Some(Restored { node, at }) = &self.restored {
            return format!("undone: {node} is active again since log entry {at}");
        }
        match (self.suspended, self.activated) {
            (None, _) => "not yet: the old holder is active".to_owned(),
            (Some(suspended), None) => {
                format!("the old holder is suspended since log entry {suspended}: nobody is active")
            }
            (Some(suspended), Some(activated)) => {
                let entries = activated.0.saturating_sub(suspended.0);
                let measured = milliseconds.map_or_else(
                    || {
                        "--agent tells how long it took, if that agent gave way and still runs"
                            .to_owned()
                    },
                    |milliseconds| format!("{milliseconds} ms by the agent's clock"),
                );
                format!("over, within {entries} log entries; {measured}")
            }
        }
    }
}

/// What the steps of a plan wait for whose last epoch passed before its point of no return.
fn expired(found: &PlanState) -> Option<&'static str> {
    let is_expired = found.status() == PlanStatus::Expired;
    is_expired.then(|| match found.approved_at() {
        Some(_) => "an abort: the plan's last epoch has passed",
        None => "another plan: the last epoch of this one passed before it was approved",
    })
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
                waiting: match expired(found) {
                    Some(waits) => vec![waits.to_owned()],
                    None => step
                        .gates
                        .iter()
                        .filter_map(|gate| gate::holds(gate, plan, state).err())
                        .map(|waiting| waiting.to_string())
                        .collect(),
                },
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
            consent: found.consent(),
            was_approved: found.approved_at().is_some(),
            called_off: CalledOff::of(found),
            switch: Switch::of(found, state),
            milliseconds: None,
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

    /// What somebody must do who expects a plan to go on that never will.
    pub(crate) fn advice(&self) -> Option<String> {
        (self.status == PlanStatus::Expired).then(|| {
            if self.was_approved {
                format!(
                    "no step starts any more: put back what was started with `heirloom upgrade \
                     abort --plan {} --key FILE`, then plan again",
                    self.digest
                )
            } else {
                "no step ever starts: nothing has to be put back, plan again".to_owned()
            }
        })
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
        let switch = self.switch.as_ref().map(|switch| {
            json!({
                "suspended": switch.suspended.map(|at| at.0),
                "activated": switch.activated.map(|at| at.0),
                "restored": switch.restored.as_ref().map(|restored| restored.at.0),
                "milliseconds": self.milliseconds,
            })
        });
        json!({
            "plan": self.digest.to_string(),
            "status": self.status.name(),
            "point_of_no_return": self.side(),
            "steps_done": self.done,
            "steps": self.total,
            "approvals": self.approvals,
            "approvals_lapsed": self.lapsed,
            "consent": match self.consent {
                Consent::Operators => "operators",
                Consent::Policy => "policy",
            },
            "switch_over": switch,
            "called_off_by": self.called_off.as_ref().map(|off| off.by.clone()),
            "called_off_for": self.called_off.as_ref().and_then(|off| off.reason.clone()),
            "not_after": self.not_after,
            "advice": self.advice(),
            "next": next,
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let approvals = match (self.consent, self.lapsed) {
            (Consent::Policy, _) => "none needed: the policy gave them in advance".to_owned(),
            (Consent::Operators, 0) => self.approvals.to_string(),
            (Consent::Operators, lapsed) => {
                format!("{}, of which {lapsed} lapsed", self.approvals)
            }
        };
        let mut rows = vec![
            ("plan", self.digest.to_string()),
            ("status", self.status.name().to_owned()),
            ("approvals", approvals),
            ("steps", format!("{} of {} done", self.done, self.total)),
            ("no return", self.side().to_owned()),
            ("last epoch", self.not_after.to_string()),
        ];
        if let Some(off) = &self.called_off {
            rows.push(("called off", off.text()));
        }
        if let Some(switch) = &self.switch {
            rows.push(("switch-over", switch.text(self.milliseconds)));
        }
        if let Some(advice) = self.advice() {
            rows.push(("to do", advice));
        }
        let mut text = table(&rows);
        if !self.next.is_empty() {
            let rows: Vec<Vec<String>> = self
                .next
                .iter()
                .map(|next| {
                    let mut waiting = next.waiting.join("; ");
                    if self.awaits_operators() {
                        "approval by enough operators".clone_into(&mut waiting);
                    } else if waiting.is_empty() {
                        IN_HAND.clone_into(&mut waiting);
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
