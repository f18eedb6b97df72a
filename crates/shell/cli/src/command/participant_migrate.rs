//! `heirloom participant migrate`: carries out this node's part of a plan, in the foreground.

use std::collections::BTreeSet;

use heirloom_agent::participant::{self, Ended, Listener, Turn};
use heirloom_model::digest::PlanDigest;
use heirloom_model::plan::{ParticipantAction, StepId};
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::{PlanState, PlanStatus};
use serde_json::json;

use crate::code::Code;
use crate::command::upgrade::{self, View};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::interrupt;
use crate::ledger::Access;
use crate::output::{self, Report};
use crate::participant_setup::{Configured, Setup, migrate_error};
use crate::progress::Progress;

/// Which node, and which plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    configured: Configured,
    /// Digest of the plan; by default the latest of the node's domain
    #[arg(long, value_name = "DIGEST")]
    plan: Option<PlanDigest>,
    /// Do not ask before the source is disconnected; needed where nobody can be asked
    #[arg(long)]
    yes: bool,
}

/// Migrates.
pub(crate) fn run(args: &Args, context: Context) -> Result<Report, Diagnostic> {
    if !args.yes {
        context.expect_person("--yes")?;
    }
    let stopping = interrupt::flag()?;
    let setup = args.configured.open(Access::Read)?;
    let digest = chosen(args, &setup, context)?;
    let mut watcher = Watcher {
        plan: digest,
        context,
        progress: Progress::new(context.output),
        told: None,
        done: BTreeSet::new(),
    };
    let ended = participant::run(&setup.config, &digest, &stopping, &mut watcher);
    watcher.progress.finish();
    match ended.map_err(|error| migrate_error(&error))? {
        Ended::Stopped => Err(Diagnostic::new(Code::Interrupted, "detached; the plan waits")
            .instead("give the same command again: it continues where it was")),
        Ended::Over(_) => report(args, &digest),
    }
}

/// The plan, if it moves the participant of this node and a person agrees to what comes.
fn chosen(args: &Args, setup: &Setup, context: Context) -> Result<PlanDigest, Diagnostic> {
    let domain = setup.node()?.domain;
    let found = upgrade::latest(&setup.ledger, args.plan, Some(domain))?;
    let digest = *found.digest();
    let change = found.plan().participant.as_ref();
    let Some(moved) = change.and_then(|change| change.move_of(&setup.config.node)) else {
        let node = &setup.config.node;
        let message = format!("plan {digest} moves no participant of {node}");
        return Err(Diagnostic::new(Code::PlanRefused, message)
            .instead("make one with `heirloom participant plan`, or name it with --plan"));
    };
    let quiesce = found.plan().participant_step(&setup.config.node, ParticipantAction::Quiesce);
    let is_closed = quiesce.is_some_and(|step| found.done_at(step).is_some());
    if !args.yes && !is_closed && !found.is_over() {
        let source = &moved.source;
        let step = quiesce.map_or(0, |step| step.0);
        context.confirm(
            &format!(
                "Plan {digest} moves {source}. From step {step} on its clients get no answer, \
                 until the target is connected."
            ),
            "migrate",
        )?;
    }
    Ok(digest)
}

/// What became of the plan.
fn report(args: &Args, digest: &PlanDigest) -> Result<Report, Diagnostic> {
    let setup = args.configured.open(Access::Read)?;
    let found = upgrade::latest(&setup.ledger, Some(*digest), None)?;
    let exit = match found.status() {
        PlanStatus::Finished => Exit::Done,
        _ => Exit::Refused,
    };
    let view = View::of(found, &setup.ledger.state);
    let mut text = format!("plan {digest}: {}\n", found.status().name());
    if found.status() == PlanStatus::Finished {
        output::line(
            &mut text,
            format_args!(
                "the source stays disconnected and as it is; the maps of parties and contracts \
                 are in {}",
                setup.config.work().join(digest.to_string()).display()
            ),
        );
    }
    if let Some(advice) = view.advice() {
        output::line(&mut text, format_args!("{advice}"));
    }
    Ok(Report::new("participant.migrate", view.json(), text).exit(exit))
}

/// Tells what happens.
struct Watcher {
    plan: PlanDigest,
    context: Context,
    progress: Progress,
    told: Option<String>,
    done: BTreeSet<StepId>,
}

impl Listener for Watcher {
    fn turned(&mut self, turn: &Turn, state: &NetworkState) {
        let Some(found) = state.plan(&self.plan) else { return };
        for (step, text) in self.news(found) {
            self.tell("step", Some(step), &text);
        }
        let view = View::of(found, state);
        let status = found.status().name();
        let message = match turn {
            Turn::Progressed => status.to_owned(),
            Turn::Waiting(waiting) => match waiting.first() {
                Some(first) => format!("{status}, waiting for {first}"),
                None if view.awaits_operators() => "waiting for approval by operators".to_owned(),
                None => status.to_owned(),
            },
            Turn::Refused(why) => {
                self.trouble("refused", why);
                format!("{status}, trying again")
            }
            Turn::Unreachable(why) => {
                self.trouble("unreachable", why);
                format!("{status}, no answer, trying again")
            }
        };
        if !self.context.output.is_json() {
            self.progress.show(view.done, view.total, &message);
        }
    }
}

impl Watcher {
    /// Steps that have a result since the last look.
    fn news(&mut self, found: &PlanState) -> Vec<(StepId, String)> {
        let plan = found.plan();
        let steps = plan.steps.iter().chain(plan.rollback.iter().map(|back| &back.step));
        let done = steps.filter(|step| found.done_at(step.id).is_some());
        let new: Vec<_> = done.filter(|step| !self.done.contains(&step.id)).collect();
        self.done.extend(new.iter().map(|step| step.id));
        new.into_iter()
            .map(|step| {
                let text =
                    format!("step {} {} on {}: done", step.id, step.action.name(), step.node);
                (step.id, text)
            })
            .collect()
    }

    /// The same trouble is told once.
    fn trouble(&mut self, kind: &str, why: &str) {
        if self.told.as_deref() != Some(why) {
            self.tell(kind, None, why);
            self.told = Some(why.to_owned());
        }
    }

    fn tell(&self, kind: &str, step: Option<StepId>, text: &str) {
        if self.context.output.is_json() {
            let json = json!({
                "plan": self.plan.to_string(),
                "kind": kind,
                "step": step.map(|step| step.0),
                "text": text,
            });
            self.context.output.report(&Report::new("participant.event", json, ""));
        } else if kind == "step" {
            self.progress.event(text);
        } else {
            self.progress.event(&format!("{kind}: {text}"));
        }
    }
}
