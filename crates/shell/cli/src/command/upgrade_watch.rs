//! `heirloom upgrade watch`: follows a plan until it is over. It never stops anything.

use std::sync::atomic::Ordering;
use std::time::Duration;

use heirloom_model::digest::PlanDigest;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::DomainId;
use heirloom_model::log::LogEntry;
use heirloom_model::participant::{MapAgreement, ParticipantStanding};
use heirloom_model::plan::{Plan, StepResult};
use heirloom_model::service::{Standing, Writing};
use heirloom_model::statement::StatementKind;
use heirloom_model::wire;
use heirloom_registry::network::Applied;
use heirloom_registry::plan::PlanStatus;
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::upgrade::{self, View};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::{self, Report};
use crate::progress::Progress;
use crate::{interrupt, view};

/// Which plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Digest of the plan; by default the latest of the domain
    #[arg(long, value_name = "DIGEST")]
    plan: Option<PlanDigest>,
    /// The domain; by default the only one
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    #[command(flatten)]
    log: LogArgs,
}

/// After so much silence the watcher looks whether Ctrl-C was pressed and says what is awaited.
const WAIT: Duration = Duration::from_millis(500);
/// Failures of the registry in a row that are waited through: half a minute.
const FAILURES_MAX: u32 = 60;

/// Watches.
pub(crate) fn run(args: &Args, context: Context) -> Result<Report, Diagnostic> {
    let detached = interrupt::flag()?;
    let mut ledger = args.log.open(Access::Read)?;
    let digest = *upgrade::latest(&ledger, args.plan, args.domain)?.digest();
    let mut progress = Progress::new(context.output);
    let mut failures = 0;
    loop {
        let found = upgrade::latest(&ledger, Some(digest), None)?;
        let shown = View::of(found, &ledger.state);
        progress.show(shown.done, shown.total, &message(&shown));
        if let Some(exit) = end(shown.status) {
            progress.finish();
            let mut text = format!("plan {digest}: {}\n", shown.status.name());
            if let Some(advice) = shown.advice() {
                output::line(&mut text, format_args!("{advice}"));
            }
            return Ok(Report::new("upgrade.status", shown.json(), text).exit(exit));
        }
        if detached.load(Ordering::Relaxed) {
            progress.finish();
            return Err(Diagnostic::new(Code::Interrupted, "detached; the upgrade goes on"));
        }
        match advance(&mut ledger, &digest, &progress, context) {
            Ok(()) => failures = 0,
            Err(error) if error.is_transient() && failures < FAILURES_MAX => {
                failures += 1;
                std::thread::park_timeout(WAIT);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits for news and tells them.
fn advance(
    ledger: &mut Ledger,
    digest: &PlanDigest,
    progress: &Progress,
    context: Context,
) -> Result<(), Diagnostic> {
    ledger.wait(WAIT)?;
    let plan = upgrade::latest(ledger, Some(*digest), None)?.plan().clone();
    ledger.follow(|entry, applied| {
        let Some((event, text)) = event(entry, applied, digest, &plan) else { return };
        if context.output.is_json() {
            context.output.report(&Report::new("upgrade.event", event, text));
        } else {
            progress.event(&text);
        }
    })
}

/// The exit code of a plan that is over.
fn end(status: PlanStatus) -> Option<Exit> {
    match status {
        PlanStatus::Finished => Some(Exit::Done),
        PlanStatus::RolledBack | PlanStatus::Expired => Some(Exit::Refused),
        PlanStatus::Proposed
        | PlanStatus::Approved
        | PlanStatus::ApprovalLapsed
        | PlanStatus::RollingBack
        | PlanStatus::PastNoReturn => None,
    }
}

/// What happens, or what is awaited.
fn message(shown: &View) -> String {
    let awaited = shown.next.iter().flat_map(|next| &next.waiting).next();
    match (shown.status, awaited) {
        _ if shown.awaits_operators() => "waiting for approval by enough operators".to_owned(),
        (status, Some(awaited)) => format!("{}, waiting for {awaited}", status.name()),
        (status, None) => status.name().to_owned(),
    }
}

/// What an entry means for the plan, if anything.
fn event(
    entry: &LogEntry,
    applied: &Applied,
    digest: &PlanDigest,
    plan: &Plan,
) -> Option<(Value, String)> {
    let Applied::Accepted(kind) = applied else { return None };
    let envelope: Envelope = wire::decode(&entry.envelope).ok()?;
    let content = view::payload(&envelope).ok()?;
    let text = match kind {
        StatementKind::StepResult => {
            let result: StepResult = envelope.unverified().ok()?;
            let step = plan.step(result.step).filter(|_| result.plan == *digest)?;
            let (action, outcome) = (step.action.name(), view::outcome(result.outcome));
            format!("step {} {action} on {}: {outcome}", result.step, result.node)
        }
        StatementKind::Approval | StatementKind::Abort | StatementKind::Revocation => {
            let about = content.get("plan")?.as_str()?;
            let node = content.get("node").and_then(Value::as_str);
            let by = node.map_or("an operator".to_owned(), |node| format!("the agent of {node}"));
            let why = content.get("reason").and_then(Value::as_str);
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            (about == digest.to_string()).then(|| format!("{} by {by}{why}", kind.name()))?
        }
        StatementKind::Standing => {
            let said: Standing = envelope.unverified().ok()?;
            let step = plan.step(said.step.step).filter(|_| said.step.plan == *digest)?;
            let tip = said.tip.map_or(String::new(), |tip| format!(", its ledger ends at {tip}"));
            let writing = if said.writing == Writing::Frozen { ", frozen" } else { "" };
            let (at, action) = (said.step.step, step.action.name());
            format!("service of {} states step {at} {action}{writing}{tip}", said.node)
        }
        StatementKind::ParticipantStanding => {
            let said: ParticipantStanding = envelope.unverified().ok()?;
            let step = plan.step(said.step.step).filter(|_| said.step.plan == *digest)?;
            let (at, action) = (said.step.step, step.action.name());
            format!("participant of {} states step {at} {action}", said.node)
        }
        StatementKind::MapAgreement => {
            let said: MapAgreement = envelope.unverified().ok()?;
            let operator = Some(&said.operator).filter(|_| said.plan == *digest)?;
            format!("{operator} agrees to the party map {}", said.map)
        }
        StatementKind::ParticipantSurvey
        | StatementKind::Registration
        | StatementKind::PossessionProof
        | StatementKind::Suspension
        | StatementKind::Activation => {
            format!("{} of {}", kind.name(), content.get("node")?.as_str()?)
        }
        StatementKind::Epoch | StatementKind::Policy | StatementKind::Rehearsal => {
            kind.name().to_owned()
        }
        StatementKind::Root
        | StatementKind::Fleet
        | StatementKind::Release
        | StatementKind::Endorsements
        | StatementKind::GenerationOrder
        | StatementKind::GenerationReceipt
        | StatementKind::Challenge
        | StatementKind::Proposal => return None,
    };
    Some((json!({ "index": entry.index.0, "kind": kind.name(), "content": content }), text))
}
