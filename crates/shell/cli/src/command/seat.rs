//! Seats as the log shows them: which code is on which node, and what it is there for.

use std::collections::BTreeMap;

use heirloom_custody::facts::{self, Emptied};
use heirloom_model::counter::Serial;
use heirloom_model::fleet::Node;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Plan};
use heirloom_model::release::ReleaseKind;
use heirloom_registry::activity::Activity;
use heirloom_registry::domain::{Challenged, DomainState, Proven};
use heirloom_registry::network::NetworkState;
use serde_json::{Value, json};

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::view;

/// The newest proof of each seat, good or bad.
pub(crate) type Proofs<'d> = BTreeMap<&'d NodeId, BTreeMap<Measurement, &'d Proven>>;

/// A node of the fleet.
pub(crate) fn in_fleet<'s>(node: &NodeId, state: &'s NetworkState) -> Result<&'s Node, Diagnostic> {
    state.node(node).ok_or_else(|| {
        let message = format!("the fleet has no node {node}");
        Diagnostic::new(Code::LogNothing, message).hint("`heirloom host list` lists the nodes")
    })
}

/// The newest proof of each seat. Looks at every challenge once.
pub(crate) fn proofs(domain: &DomainState) -> Proofs<'_> {
    let mut newest: Proofs<'_> = BTreeMap::new();
    let answers = domain.challenges().flat_map(Challenged::proofs);
    for (node, proven) in answers {
        let of_node = newest.entry(node).or_default();
        let seat = of_node.entry(proven.result().measurement()).or_insert(proven);
        if proven.at() > seat.at() {
            *seat = proven;
        }
    }
    newest
}

/// The code of the keeper on a node: the active holder, or who proved last and is still there, or
/// who registered last. Code that was only tried has registered too, and proves nothing.
pub(crate) fn runs_on(
    domain: &DomainState,
    state: &NetworkState,
    node: &Node,
) -> Option<Measurement> {
    let emptied = Emptied::of(&node.domain, state);
    let node = &node.node;
    let is_keeper = |code: &Measurement| {
        state.releases_with(*code).any(|release| release.kind == ReleaseKind::Keeper)
    };
    let active = domain.activity().active().filter(|active| active.node() == node);
    if let Some(active) = active {
        return Some(active.measurement());
    }
    let answers = domain.challenges().filter_map(|asked| asked.proofs().get(node));
    let of_keepers = answers.filter(|proven| is_keeper(&proven.result().measurement()));
    let mut proven: Vec<&Proven> = of_keepers.collect();
    let was_proven = !proven.is_empty();
    proven.retain(|proven| emptied.since(proven).is_none());
    let last = proven.into_iter().max_by_key(|proven| proven.at());
    let proven = last.map(|proven| proven.result().measurement());
    let registered = || {
        let on_node = domain.registrations().filter(|found| found.statement().node == *node);
        let of_keepers = on_node.filter(|found| is_keeper(&found.result().measurement()));
        let last = of_keepers.max_by_key(|found| found.at())?;
        Some(last.result().measurement())
    };
    // What was tried beside a keeper that is gone does not take its place.
    if was_proven { proven } else { registered() }
}

/// What a seat is for in a plan: old, upgrader or new.
pub(crate) fn part(plan: &Plan, node: &NodeId, code: &Measurement) -> Option<&'static str> {
    if !plan.nodes.contains(node) {
        return None;
    }
    let (mut gives, mut receives, mut moves) = (false, false, false);
    for step in &plan.steps {
        let Action::HandOver { from_node, from, to } = &step.action else { continue };
        moves = true;
        gives |= from_node == node && from.measurement == *code;
        receives |= step.node == *node && to.measurement == *code;
    }
    if moves {
        return match (gives, receives) {
            (true, false) => Some("old"),
            (true, true) => Some("upgrader"),
            (false, true) => Some("new"),
            (false, false) => None,
        };
    }
    // Without a handover the new code takes the place of the old one on every node.
    let kept = plan.keyring.as_ref()?;
    match (kept.is_from(code), kept.is_to(code)) {
        (true, false) => Some("old"),
        (false, true) => Some("new"),
        (true, true) | (false, false) => None,
    }
}

/// The serial of the policy that completes a plan, if one does.
pub(crate) fn withdraws(plan: &Plan) -> Option<Serial> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::Withdraw(serial) => Some(*serial),
        _ => None,
    })
}

/// The name of the release that launches to a measurement, if the log has one.
pub(crate) fn release_name(state: &NetworkState, code: &Measurement) -> Option<String> {
    state.releases_with(*code).next().map(|release| release.name.to_string())
}

/// The word for the role that the policy in force gives to code.
pub(crate) fn role(domain: &DomainState, code: &Measurement) -> &'static str {
    domain.policy().and_then(|policy| policy.holder(code)).map_or("none", |rule| rule.role.name())
}

/// What a proof shows of the committed keyring, and whether who gave it is still there.
pub(crate) fn judged(domain: &DomainState, proven: &Proven, emptied: &Emptied) -> String {
    if let Some(at) = emptied.since(proven) {
        return format!("gone since log entry {at}");
    }
    let Some(keyring) = facts::keyring(domain) else { return "proven".to_owned() };
    let flaw = proven.flaw(keyring.generation, &keyring.checksum);
    flaw.map_or_else(|| "proven".to_owned(), |flaw| flaw.to_string())
}

/// Whether the log names this seat as the active holder.
pub(crate) fn is_active(domain: &DomainState, node: &NodeId, code: &Measurement) -> bool {
    domain.activity().active().is_some_and(|active| active.is_at(node, code))
}

/// Who is the active holder, for programs.
pub(crate) fn activity_json(activity: &Activity) -> Value {
    match activity {
        Activity::None => json!({ "state": "none" }),
        Activity::Active(active) => json!({
            "state": "active",
            "node": active.node().to_string(),
            "measurement": active.measurement().to_string(),
            "instance": active.instance().to_string(),
            "cause": view::cause(&active.cause()),
            "since": active.at().0,
        }),
        Activity::Suspended(holder) => json!({
            "state": "suspended",
            "node": holder.node().to_string(),
            "measurement": holder.measurement().to_string(),
            "instance": holder.instance().to_string(),
            "step": view::plan_step(&holder.step()),
            "since": holder.at().0,
        }),
    }
}

/// Who is the active holder, for people.
pub(crate) fn activity_text(activity: &Activity) -> String {
    match activity {
        Activity::None => "nobody was active yet".to_owned(),
        Activity::Active(active) => format!(
            "{} since log entry {} ({}), instance {}",
            active.node(),
            active.at(),
            view::cause(&active.cause()),
            active.instance()
        ),
        Activity::Suspended(holder) => format!(
            "nobody: {} is suspended since log entry {} by step {} of plan {}",
            holder.node(),
            holder.at(),
            holder.step().step,
            holder.step().plan
        ),
    }
}
