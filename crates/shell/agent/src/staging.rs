//! Getting the releases at hand that [`release_watch`](crate::release_watch) names: fetched,
//! verified, tried once, and, where the policy says so, put forward as a plan.
//!
//! Nothing here changes what runs. Whatever fails is tried again after a pause that grows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use heirloom_model::causes::with_causes;
use heirloom_model::counter::Epoch;
use heirloom_model::digest::{Nonce, ReleaseDigest};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::Plan;
use heirloom_model::policy::UpdateMode;
use heirloom_registry::network::NetworkState;
use heirloom_upgrade::agent::{AgentError, Tick};
use heirloom_upgrade::checker;
use heirloom_upgrade::planner::{self, Arrangement, PlanRequest};
use serde_json::{Value, json};

use crate::downloads::{Fetching, Received};
use crate::release_watch::{Candidate, Offer, offer, was_called_off, was_left_behind};
use crate::run::KeeperAgent;

/// The first pause after a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// Epochs in which a plan that this agent puts forward may be carried out, besides those that the
/// policy lets an upgrader keep its copy.
const PLAN_EPOCHS: u64 = 64;

/// What is at hand, and what is on its way.
#[derive(Default)]
pub(crate) struct Staging {
    offer: Option<Offer>,
    stages: BTreeMap<Measurement, Stage>,
    plan: Retry,
}

/// How far one release is.
#[derive(Default)]
struct Stage {
    state: Reached,
    retry: Retry,
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Reached {
    /// Nothing was done yet.
    #[default]
    Named,
    /// It is on its way.
    Fetching(Received),
    /// It is on the disk and measures as it should.
    Staged,
    /// It was started once, and the log knows its registration.
    Tried,
}

/// What went wrong last, and when to try again.
#[derive(Default)]
struct Retry {
    reason: Option<String>,
    until: Option<Instant>,
    pause: Duration,
}

impl Retry {
    fn is_due(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    fn failed(&mut self, now: Instant, reason: String) {
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.until = Some(now + self.pause);
        self.reason = Some(reason);
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }
}

impl Staging {
    /// Does at most one thing, which may take as long as a start of a process. Call it only when
    /// nothing else is to be done.
    pub(crate) fn advance(
        &mut self,
        agent: &mut KeeperAgent,
        node: &NodeId,
        now: Instant,
        random: &mut dyn FnMut() -> Nonce,
    ) -> Result<(), AgentError> {
        let installed = agent.observed().and_then(|observed| observed.installed);
        self.offer = installed.and_then(|installed| offer(agent.state(), node, &installed));
        let Some(offer) = self.offer.clone() else {
            self.stages.clear();
            self.plan = Retry::default();
            return Ok(());
        };
        self.stages.retain(|code, _| offer.candidates().any(|it| it.measurement == *code));
        if is_changing(agent.state(), node) {
            return Ok(());
        }
        for candidate in offer.candidates() {
            if !self.is_tried(candidate) {
                return self.get(agent, node, candidate, now);
            }
        }
        let may_propose = offer.update == UpdateMode::Auto && !is_planned(agent.state(), node);
        if may_propose && self.plan.is_due(now) {
            return self.propose(agent, node, &offer, now, random);
        }
        Ok(())
    }

    fn is_tried(&self, candidate: &Candidate) -> bool {
        let stage = self.stages.get(&candidate.measurement);
        stage.is_some_and(|stage| stage.state == Reached::Tried)
    }

    /// Brings one release a step further.
    fn get(
        &mut self,
        agent: &mut KeeperAgent,
        node: &NodeId,
        candidate: &Candidate,
        now: Instant,
    ) -> Result<(), AgentError> {
        let code = &candidate.measurement;
        let stage = self.stages.entry(*code).or_default();
        if !stage.retry.is_due(now) {
            return Ok(());
        }
        if stage.state == Reached::Staged {
            return try_out(stage, agent, candidate, now);
        }
        if stage.state == Reached::Named && was_tried(agent, node, code) {
            stage.state = Reached::Tried;
            return Ok(());
        }
        let Some(release) = agent.state().release(&candidate.release).cloned() else {
            return Ok(());
        };
        let driver = agent.driver();
        if !driver.bundles.is_staged(code)
            && let Err(full) = driver.check_space(&release, code)
        {
            stage.retry.failed(now, full.to_string());
            return Ok(());
        }
        match driver.downloads.fetch(&release, code, Duration::ZERO) {
            Fetching::UnderWay(progress) => stage.state = Reached::Fetching(progress),
            Fetching::Staged => {
                tracing::info!(release = %candidate.name, "staged");
                stage.state = Reached::Staged;
                stage.retry.succeeded();
            }
            Fetching::Failed(error) => {
                let reason = with_causes(&error);
                tracing::warn!(release = %candidate.name, %reason, "not staged");
                stage.state = Reached::Named;
                stage.retry.failed(now, reason);
            }
        }
        Ok(())
    }

    /// Puts the plan forward that the policy lets this agent carry out without asking.
    fn propose(
        &mut self,
        agent: &mut KeeperAgent,
        node: &NodeId,
        offer: &Offer,
        now: Instant,
        random: &mut dyn FnMut() -> Nonce,
    ) -> Result<(), AgentError> {
        if let Some(reason) = objection(agent.state(), node, &offer.to.release) {
            self.plan.failed(now, reason.to_owned());
            return Ok(());
        }
        if agent.driver().listen.len() < 2 {
            let reason = "`listen` names one address; two keepers need two".to_owned();
            self.plan.failed(now, reason);
            return Ok(());
        }
        let plan = match planned(agent.state(), node, offer, random()) {
            Ok(plan) => plan,
            Err(reason) => {
                self.plan.failed(now, reason);
                return Ok(());
            }
        };
        match agent.propose(&plan)? {
            Tick::Progressed => {
                tracing::info!(release = %offer.to.name, plan = %plan.digest(), "proposed");
                self.plan.succeeded();
            }
            Tick::Idle(_) => {}
            Tick::Refused(trouble) => self.plan.failed(now, with_causes(&trouble)),
        }
        Ok(())
    }

    /// What is at hand and on its way, for the interface.
    pub(crate) fn json(&self) -> Value {
        let each = self.offer.iter().flat_map(Offer::candidates);
        each.map(|candidate| {
            let stage = self.stages.get(&candidate.measurement);
            let reached = stage.map(|stage| stage.state).unwrap_or_default();
            let reason = stage.and_then(|stage| stage.retry.reason.clone());
            let (word, progress) = match (reached, &reason) {
                (Reached::Tried, _) => ("tried", None),
                (_, Some(_)) => ("refused", None),
                (Reached::Staged, None) => ("staged", None),
                (Reached::Named, None) => ("fetching", None),
                (Reached::Fetching(received), None) => ("fetching", Some(received)),
            };
            json!({
                "release": candidate.name.as_str(),
                "measurement": candidate.measurement.to_string(),
                "kind": candidate.kind.name(),
                "state": word,
                "progress": progress.map(|progress| {
                    json!({ "received": progress.received, "wanted": progress.wanted })
                }),
                "reason": reason,
            })
        })
        .collect()
    }

    /// What an operator should know about a release that is at hand and not installed.
    pub(crate) fn hint(&self, state: &NetworkState, node: &NodeId) -> Option<String> {
        let offer = self.offer.as_ref()?;
        let is_ready = offer.candidates().all(|candidate| self.is_tried(candidate));
        if !is_ready || is_planned(state, node) {
            return None;
        }
        let name = &offer.to.name;
        match (offer.update, &self.plan.reason) {
            (UpdateMode::Auto, None) => None,
            (UpdateMode::Auto, Some(reason)) => {
                Some(format!("release {name} is staged and ready, and not installed: {reason}"))
            }
            (UpdateMode::Ask, _) => Some(match &offer.via {
                Some(via) => format!(
                    "release {name} is staged and ready: heirloom upgrade start --strategy \
                     handover --node {node} --via {} --to {name}",
                    via.name
                ),
                None => {
                    format!(
                        "release {name} is staged and ready: heirloom upgrade start --to {name}"
                    )
                }
            }),
        }
    }
}

/// Starts what was staged once, beside what runs, and puts its registration into the log.
fn try_out(
    stage: &mut Stage,
    agent: &mut KeeperAgent,
    candidate: &Candidate,
    now: Instant,
) -> Result<(), AgentError> {
    match agent.stage(&candidate.release, &candidate.measurement)? {
        Tick::Progressed => {
            tracing::info!(release = %candidate.name, "tried");
            stage.state = Reached::Tried;
            stage.retry.succeeded();
        }
        Tick::Idle(_) => {}
        Tick::Refused(trouble) => {
            let reason = with_causes(&trouble);
            tracing::warn!(release = %candidate.name, %reason, "not tried");
            // It may not even be what it was when it was staged: that is looked at again.
            stage.state = Reached::Named;
            stage.retry.failed(now, reason);
        }
    }
    Ok(())
}

/// Whether an agent before this one has tried what is staged: the log knows its registration.
fn was_tried(agent: &mut KeeperAgent, node: &NodeId, code: &Measurement) -> bool {
    let known = agent.state().node(node).map(|known| known.domain);
    let domain = known.and_then(|domain| agent.state().domain(&domain));
    let is_registered = domain.is_some_and(|it| it.registration_with(node, code).is_some());
    is_registered && agent.driver().bundles.is_staged(code)
}

/// Whether a plan may be at work here: then nothing else is started.
fn is_changing(state: &NetworkState, node: &NodeId) -> bool {
    let domain = state.node(node).map(|known| known.domain);
    domain.is_some_and(|domain| state.plan_under_way(&domain).is_some())
}

/// Whether somebody has put a plan forward, approved or not: an agent does not interfere.
fn is_planned(state: &NetworkState, node: &NodeId) -> bool {
    let domain = state.node(node).map(|known| known.domain);
    domain.is_some_and(|domain| state.active_plan(&domain).is_some())
}

/// Why only operators may put a plan forward that leads to this release.
fn objection(state: &NetworkState, node: &NodeId, to: &ReleaseDigest) -> Option<&'static str> {
    if was_called_off(state, node, to) {
        return Some("operators called its plan off");
    }
    was_left_behind(state, node, to)
        .then_some("this node has left it behind, and only operators go there again")
}

/// The handover to what is offered, if nobody finds anything wrong with it.
fn planned(
    state: &NetworkState,
    node: &NodeId,
    offer: &Offer,
    nonce: Nonce,
) -> Result<Plan, String> {
    let known = state.node(node).ok_or("the fleet does not know this node")?;
    let via = offer.via.as_ref().ok_or("the policy names no upgrader that carries the keyring")?;
    let policy = state.policy(&known.domain).ok_or("the domain has no policy in force")?;
    let epochs = PLAN_EPOCHS.saturating_add(policy.forget_after_epochs.into());
    let request = PlanRequest {
        domain: known.domain,
        from: offer.from.release,
        to: offer.to.release,
        not_after: Epoch(state.epoch().0.saturating_add(epochs)),
        nonce,
        arrangement: Arrangement::Handover { node: node.clone(), via: via.release, withdraw: None },
    };
    let (plan, _) = planner::plan(&request, state).map_err(|error| with_causes(&error))?;
    // Nobody reads this plan before it runs: it must be without the least objection.
    match checker::check(&plan, state).first() {
        None => Ok(plan),
        Some(finding) => Err(format!("{}: {}", finding.code(), finding.fault)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_a_success_forgets_them() {
        let mut retry = Retry::default();
        let start = Instant::now();
        assert!(retry.is_due(start));
        retry.failed(start, "no mirror".to_owned());
        assert!(!retry.is_due(start));
        assert!(retry.is_due(start + PAUSE_MIN));
        retry.failed(start, "no mirror".to_owned());
        assert!(!retry.is_due(start + PAUSE_MIN));
        for _ in 0..20 {
            retry.failed(start, "no mirror".to_owned());
        }
        assert!(!retry.is_due(start + PAUSE_MAX / 2));
        assert!(retry.is_due(start + PAUSE_MAX), "but not for ever");
        assert_eq!(retry.reason.as_deref(), Some("no mirror"));
        retry.succeeded();
        assert!(retry.is_due(start) && retry.reason.is_none());
    }
}
