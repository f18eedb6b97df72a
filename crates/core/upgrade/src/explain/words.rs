//! Sentences for steps and gates.

use std::fmt::Write as _;

use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Gate, KeyringPlan, Step, StepId};

use super::service;

/// Names that one sentence lists.
const NAMED_MAX: usize = 6;

pub(super) fn names(nodes: &[NodeId]) -> String {
    let mut text = String::new();
    for (position, node) in nodes.iter().take(NAMED_MAX).enumerate() {
        let separator = if position == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}{node}");
    }
    if let Some(more @ 1..) = nodes.len().checked_sub(NAMED_MAX) {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Which of the plan's releases a measurement is.
enum Side {
    Old,
    New,
    Carrier,
    /// The plan keeps the release.
    Kept,
}

fn side(plan: KeyringPlan<'_>, measurement: &Measurement) -> Side {
    if plan.keyring.via.is_some_and(|via| via.measurement == *measurement) {
        Side::Carrier
    } else if plan.keyring.from.release == plan.keyring.to.release {
        Side::Kept
    } else if plan.keyring.is_to(measurement) {
        Side::New
    } else {
        Side::Old
    }
}

fn release(plan: KeyringPlan<'_>, measurement: &Measurement) -> &'static str {
    match side(plan, measurement) {
        Side::Old => "old release",
        Side::New => "new release",
        Side::Carrier => "upgrader's release",
        Side::Kept => "release",
    }
}

fn instance(plan: KeyringPlan<'_>, measurement: &Measurement) -> &'static str {
    match side(plan, measurement) {
        Side::Old => "old keeper",
        Side::New => "new keeper",
        Side::Carrier => "upgrader",
        Side::Kept => "keeper",
    }
}

fn sealed(plan: KeyringPlan<'_>, measurement: &Measurement) -> &'static str {
    match side(plan, measurement) {
        Side::Old => "old sealed state",
        Side::New => "new sealed state",
        Side::Carrier => "the upgrader's sealed state",
        Side::Kept => "sealed state",
    }
}

pub(super) fn action(plan: KeyringPlan<'_>, action: &Action) -> String {
    let instance = |at: &heirloom_model::plan::Placement| instance(plan, &at.measurement);
    match action {
        Action::Prepare(at) => {
            format!("stage and try the {}", release(plan, &at.measurement))
        }
        Action::Verify { targets, need, code } => {
            let who = code.map(|code| format!(" by the {}", self::instance(plan, &code)));
            let who = who.unwrap_or_default();
            format!("ask for proof{who}, {need} of: {}", names(targets))
        }
        Action::Drain(_) => "let running requests end".to_owned(),
        Action::Stop(at) => format!("stop the {}", instance(at)),
        Action::Quarantine(measurement) => format!("quarantine {}", sealed(plan, measurement)),
        Action::Restore(measurement) => format!("restore {}", sealed(plan, measurement)),
        Action::Install { expect, install } => {
            let new = release(plan, &install.measurement);
            let old = match side(plan, &expect.measurement) {
                Side::Old => "old",
                Side::New => "new",
                Side::Carrier => "upgrader's",
                Side::Kept => "same",
            };
            format!("install the {new} in place of the {old} one")
        }
        Action::Start(at) => format!("start the {}", instance(at)),
        Action::Replicate { sources, .. } => {
            format!("copy the keyring from one of: {}", names(sources))
        }
        Action::Restart(at) => {
            format!("restart the {}, so that it must unseal", instance(at))
        }
        Action::Withdraw(serial) => {
            format!("policy serial {serial} takes effect: the old release loses its rights")
        }
        Action::HandOver { from_node, from, to } => {
            let (from, to) = (instance(from), instance(to));
            format!("the {from} on {from_node} hands the keyring over to the {to} here")
        }
        Action::Suspend(at) => format!("the {} says that it serves no more", instance(at)),
        Action::Activate(at) => {
            format!("the {} says that it is the active holder from now on", instance(at))
        }
        Action::Forget(at) => format!("the {} gives up its copy", instance(at)),
        Action::Preserve(measurement) => {
            format!("copy {} into quarantine, and leave it in place", sealed(plan, measurement))
        }
        Action::Reseal(at) => {
            format!("the {} seals everything again, for its platform as it is now", instance(at))
        }
        Action::Service(_) | Action::Commit => service::action(plan, action),
        Action::Participant(action) => super::participant::action(*action).to_owned(),
    }
}

/// `Done` gates that one row lists.
const DONE_NAMED_MAX: usize = 4;

pub(super) fn gates(plan: KeyringPlan<'_>, step: &Step) -> Vec<String> {
    let mut told = Vec::new();
    let mut done: Vec<StepId> = Vec::new();
    for gate in &step.gates {
        match gate {
            Gate::Done(before) => done.push(*before),
            Gate::Proven { holders, need, since } => told.push(format!(
                "{need} failure domains proven since step {since}, out of: {}",
                names(holders)
            )),
            Gate::Registered { node, measurement } => {
                told.push(format!("the {} registered on {node}", release(plan, measurement)));
            }
            Gate::Epoch(epoch) => told.push(format!("epoch {epoch} reached")),
            Gate::PolicyPublished(serial) => told.push(format!("policy serial {serial} published")),
            Gate::Waited { since, epochs } => {
                told.push(format!("{epochs} epochs since the result of step {since}"));
            }
            Gate::AllDone { first, last } => {
                told.push(format!("steps {first} to {last} done on every node"));
            }
            Gate::Agreed { first, last } => told.push(format!(
                "one tip, one configuration and the same long-lived keys stated in steps {first} \
                 to {last}"
            )),
            Gate::Rehearsed { need } => {
                told.push(format!("a rehearsal of these terms recorded by {need} operators"));
            }
            Gate::Consented { first, last } => told.push(format!(
                "every operator agreed to the party map stated in steps {first} to {last}"
            )),
            Gate::Concordant { first, last } => told.push(format!(
                "one party map, and the same contracts where parties of two nodes stand together, \
                 stated in steps {first} to {last}"
            )),
        }
    }
    match (done.first(), done.last()) {
        (Some(first), Some(last)) if done.len() > DONE_NAMED_MAX => {
            told.insert(0, format!("{} steps done, {first} to {last}", done.len()));
        }
        _ => {
            let steps = done.iter().map(|before| format!("step {before} done"));
            told.splice(0..0, steps);
        }
    }
    told
}
