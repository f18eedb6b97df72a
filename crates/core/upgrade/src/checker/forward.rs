//! Walks every node forward, with the rest of its wave down.

use std::collections::BTreeSet;

use heirloom_custody::holding::{Condition, KeyCopy, Keyring, Proof, Seat};
use heirloom_custody::invariant::{LossRisk, NextEffect, Requirement, no_loss};
use heirloom_model::counter::{LogIndex, Serial};
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::identifier::{FailureDomain, NodeId};
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Gate, KeyringPlan, Placement, Step, StepId};

use super::host::Host;
use super::survey::{Survey, Surveyed, waits_for};
use super::{Fault, Report};
use crate::inventory::Inventory;

pub(super) fn check(survey: &Survey<'_>, report: &mut Report) {
    for node in &survey.nodes {
        check_node(survey, node, report);
    }
    check_questions(survey.plan, report);
    check_failure_domains(survey, report);
    check_withdrawal(survey, report);
}

fn check_node(survey: &Survey<'_>, surveyed: &Surveyed<'_>, report: &mut Report) {
    let plan = survey.plan;
    let name = &surveyed.node.node;
    let codes = survey.codes(name);
    let (before_code, after_code) = (codes.0.measurement, codes.1.measurement);
    let mut host = Host::holding(before_code);
    let mut before: Option<&Step> = None;
    for step in &surveyed.forward {
        check_order(survey, surveyed, step, before, report);
        if !names_the_plan(plan, codes, &step.action) {
            report.step(step.id, Fault::ForeignPlacement);
        }
        match &step.action {
            Action::Stop(_) => {
                if !host.is_prepared_for(after_code) {
                    report.step(step.id, Fault::NotPrepared { node: name.clone() });
                }
                check_stop(survey, surveyed, step, report);
            }
            Action::Replicate { sources, .. } => {
                check_sources(survey, surveyed, step.id, sources, report);
            }
            _ => {}
        }
        if let Err(needed) = host.run(&step.action) {
            report.step(step.id, Fault::Unexpected { node: name.clone(), needed });
            return;
        }
        before = Some(step);
    }
    let proves =
        matches!(surveyed.forward.last(), Some(Step { action: Action::Verify { .. }, .. }));
    if surveyed.wave == 0 || !proves || !host.proves(after_code) {
        report.plan(Fault::NotUpgraded { node: name.clone() });
    }
}

/// Steps of one node follow each other, all in one wave, whatever order agents prefer.
fn check_order(
    survey: &Survey<'_>,
    surveyed: &Surveyed<'_>,
    step: &Step,
    before: Option<&Step>,
    report: &mut Report,
) {
    if matches!(step.action, Action::Prepare(_)) {
        return;
    }
    if step.wave != surveyed.wave {
        let (expected, found) = (surveyed.wave, step.wave);
        let node = surveyed.node.node.clone();
        report.step(step.id, Fault::WrongWave { node, expected, found });
    }
    let before = before.filter(|before| before.wave == step.wave);
    if before.is_none() {
        check_begin(survey, surveyed.wave, step, report);
    }
    if let Some(before) = before.filter(|before| !waits_for(step, before.id)) {
        report.step(step.id, Fault::LooseStep { before: before.id });
    }
}

/// A node is left alone until everybody is prepared and the wave before is verified twice.
fn check_begin(survey: &Survey<'_>, wave: u32, step: &Step, report: &mut Report) {
    if !survey.is_ready_before(step.id) {
        report.step(step.id, Fault::NotEveryoneReady);
    }
    if !survey.is_after_wave_before(step.id, wave) {
        report.step(step.id, Fault::WavesOverlap { wave, before: wave.saturating_sub(1) });
    }
}

/// Forward steps put the plan's new release in place of its old one, as both are on the node's
/// kind of platform, and nothing else.
fn names_the_plan(
    plan: KeyringPlan<'_>,
    (from, to): (Placement, Placement),
    action: &Action,
) -> bool {
    match action {
        Action::Prepare(placement)
        | Action::Start(placement)
        | Action::Restart(placement)
        | Action::Replicate { to: placement, .. } => *placement == to,
        Action::Stop(placement) | Action::Drain(placement) => *placement == from,
        Action::Quarantine(measurement) => *measurement == from.measurement,
        Action::Install { expect, install } => *expect == from && *install == to,
        Action::Verify { code, .. } => code.is_none_or(|code| plan.keyring.is_to(&code)),
        Action::Withdraw(_) => true,
        Action::Restore(_)
        | Action::HandOver { .. }
        | Action::Suspend(_)
        | Action::Activate(_)
        | Action::Forget(_)
        | Action::Preserve(_)
        | Action::Reseal(_)
        | Action::Service(_)
        | Action::Commit
        | Action::Participant(_) => false,
    }
}

/// Whether this code is one of the two that a plan in waves runs.
pub(super) fn is_of(plan: KeyringPlan<'_>, code: &Measurement) -> bool {
    plan.keyring.is_from(code) || plan.keyring.is_to(code)
}

/// A plan in waves asks nobody else than the code of its two releases.
fn check_questions(plan: KeyringPlan<'_>, report: &mut Report) {
    for step in &plan.steps {
        if let Action::Verify { code: Some(code), .. } = &step.action
            && !is_of(plan, code)
        {
            report.step(step.id, Fault::ForeignPlacement);
        }
    }
    if plan.keyring.via.is_some() {
        report.plan(Fault::ForeignPlacement);
    }
}

fn check_stop(survey: &Survey<'_>, surveyed: &Surveyed<'_>, stop: &Step, report: &mut Report) {
    let (name, wave) = (&surveyed.node.node, surveyed.wave);
    check_begin(survey, wave, stop, report);
    let (_, to) = survey.codes(name);
    let tried = |gate: &Gate| {
        matches!(gate, Gate::Registered { node, measurement }
            if node == name && *measurement == to.measurement)
    };
    if !stop.gates.iter().any(tried) {
        report.step(stop.id, Fault::NoTrial { node: name.clone() });
    }
    let fresh = |asked: &Step| {
        asked.wave == wave
            && survey.is_ready_before(asked.id)
            && survey.is_after_wave_before(asked.id, wave)
    };
    let nothing = BTreeSet::new();
    let away = survey.members(wave).unwrap_or(&nothing);
    let judged = best_gate(stop, |gate| judge_proofs(survey, surveyed, stop, gate, &fresh, away));
    match judged {
        None => report.step(stop.id, Fault::StopWithoutProof),
        Some(Err(fault)) => report.step(stop.id, fault),
        Some(Ok(())) => {}
    }
}

/// Judges every proof gate of a step; one good one is enough. None if there is no such gate.
pub(super) fn best_gate(
    step: &Step,
    judge: impl Fn(&Gate) -> Result<(), Fault>,
) -> Option<Result<(), Fault>> {
    let proven = step.gates.iter().filter(|gate| matches!(gate, Gate::Proven { .. }));
    proven.map(judge).reduce(Result::or)
}

/// Whether a gate of a stop asks enough of the right nodes: if exactly those prove, and all of
/// `away` goes at once, is nothing lost?
pub(super) fn judge_proofs(
    survey: &Survey<'_>,
    surveyed: &Surveyed<'_>,
    stop: &Step,
    gate: &Gate,
    fresh: &dyn Fn(&Step) -> bool,
    away: &BTreeSet<NodeId>,
) -> Result<(), Fault> {
    let Gate::Proven { holders, need, since } = gate else {
        return Err(Fault::StopWithoutProof);
    };
    let since = *since;
    let asked = survey.plan.step(since).ok_or(Fault::ProofNotFresh { since })?;
    let Action::Verify { targets, need: asked_need, .. } = &asked.action else {
        return Err(Fault::ProofNotFresh { since });
    };
    if asked.node != surveyed.node.node || asked.id >= stop.id || !fresh(asked) {
        return Err(Fault::ProofNotFresh { since });
    }
    if let Some(node) = holders.iter().find(|node| survey.wave_of(node) == surveyed.wave) {
        return Err(Fault::WitnessInWave { node: node.clone() });
    }
    let targets: BTreeSet<&NodeId> = targets.iter().collect();
    if let Some(node) = holders.iter().find(|node| !targets.contains(node)) {
        return Err(Fault::WitnessNotAsked { node: node.clone(), since });
    }
    let needed = survey.plan.keyring.holders_min.max(survey.inventory.policy.holders_min);
    let found = (*need).min(*asked_need);
    if found < needed {
        return Err(Fault::HoldersMinTooLow { needed, found });
    }
    let survivors = lose(survey, surveyed.wave, holders, away).map_err(Fault::Loss)?;
    if survivors < *need {
        return Err(Fault::Unsatisfiable { need: *need, possible: survivors });
    }
    Ok(())
}

/// Asks custody: these prove, then those are gone. How many failure domains remain.
fn lose(
    survey: &Survey<'_>,
    wave: u32,
    holders: &[NodeId],
    away: &BTreeSet<NodeId>,
) -> Result<u32, LossRisk> {
    let plan = survey.plan;
    let copies: Vec<KeyCopy> = holders
        .iter()
        .filter_map(|node| survey.surveyed(node))
        .map(|found| KeyCopy {
            node: found.node.node.clone(),
            failure_domain: found.node.failure_domain.clone(),
            condition: Condition::Steady,
            changing: BTreeSet::new(),
        })
        .collect();
    let runs = |node: &NodeId| -> Measurement {
        let changed = survey.wave_of(node) < wave;
        let (from, to) = survey.codes(node);
        if changed { to.measurement } else { from.measurement }
    };
    let proofs: Vec<Proof> = holders
        .iter()
        .map(|node| Proof {
            node: node.clone(),
            platform: survey.inventory.platform(node),
            measurement: runs(node),
            generation: plan.keyring.generation,
            checksum: plan.keyring.checksum,
            origin: HoldingOrigin::Recovered,
            asked_at: LogIndex(0),
        })
        .collect();
    let requirement = Requirement {
        policy: &survey.inventory.policy,
        keyring: Keyring { generation: plan.keyring.generation, checksum: plan.keyring.checksum },
        need: plan.keyring.holders_min,
        fresh_from: LogIndex(0),
    };
    // Every seat of a node that is down with its wave is gone.
    let away: BTreeSet<Seat> = away
        .iter()
        .flat_map(|node| {
            let (from, to) = survey.codes(node);
            [from, to].map(|at| Seat::new(node, &at.measurement))
        })
        .collect();
    let survivors = no_loss(&requirement, &copies, &proofs, &NextEffect::TakeAway(&away))?;
    Ok(survivors.failure_domains())
}

/// Nobody is asked for the keyring who may be without it at that moment.
pub(super) fn check_sources(
    survey: &Survey<'_>,
    surveyed: &Surveyed<'_>,
    step: StepId,
    sources: &[NodeId],
    report: &mut Report,
) {
    if sources.is_empty() {
        report.step(step, Fault::NoSource);
    }
    if let Some(node) = sources.iter().find(|node| survey.wave_of(node) == surveyed.wave) {
        report.step(step, Fault::SourceInWave { node: node.clone() });
    }
}

/// No wave leaves the keyring in one failure domain if it takes several away at once.
fn check_failure_domains(survey: &Survey<'_>, report: &mut Report) {
    let mut sizes = std::collections::BTreeMap::<&FailureDomain, usize>::new();
    for found in &survey.nodes {
        *sizes.entry(&found.node.failure_domain).or_default() += 1;
    }
    for (wave, members) in (1_u32..).zip(&survey.waves) {
        let mut taken = std::collections::BTreeMap::<&FailureDomain, usize>::new();
        for found in members.iter().filter_map(|node| survey.surveyed(node)) {
            *taken.entry(&found.node.failure_domain).or_default() += 1;
        }
        let emptied = taken.iter().filter(|(domain, count)| sizes.get(*domain) == Some(count));
        let emptied = emptied.count();
        let remaining = sizes.len().saturating_sub(emptied);
        if remaining == 0 || (emptied >= 2 && remaining < 2) {
            report.plan(Fault::LastDomains { wave });
        }
    }
}

/// Rights are withdrawn once, last, after everybody was verified twice.
fn check_withdrawal(survey: &Survey<'_>, report: &mut Report) {
    let plan = survey.plan;
    let is_withdrawal = |step: &&Step| matches!(step.action, Action::Withdraw(_));
    let mut withdrawals = plan.steps.iter().filter(is_withdrawal);
    let (Some(step), None) = (withdrawals.next(), withdrawals.next()) else {
        return report.plan(Fault::NoReturn);
    };
    let is_last = plan.steps.last().is_some_and(|last| last.id == step.id);
    if !is_last || plan.point_of_no_return != step.id {
        report.step(step.id, Fault::NoReturn);
    }
    if !survey.is_after_everything(step.id) {
        report.step(step.id, Fault::EarlyWithdrawal);
    }
    if let Action::Withdraw(serial) = step.action {
        check_serial(step, serial, survey.inventory, report);
    }
}

/// The policy that withdraws rights is the next one, and everybody can read it before.
pub(super) fn check_serial(
    step: &Step,
    serial: Serial,
    inventory: &Inventory,
    report: &mut Report,
) {
    let published = inventory.published;
    let expected = published.next().unwrap_or(published);
    // The policy may be in the log already, waiting for this plan.
    let waits = serial == published && serial > inventory.policy.serial;
    if serial != expected && !waits {
        report.step(step.id, Fault::WrongSerial { expected, found: serial });
    }
    let published = |gate: &Gate| matches!(gate, Gate::PolicyPublished(found) if *found == serial);
    if !step.gates.iter().any(published) {
        report.step(step.id, Fault::WithdrawalUnpublished);
    }
}
