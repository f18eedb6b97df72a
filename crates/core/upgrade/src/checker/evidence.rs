//! Which seats have proven that they hold, and what custody makes of it.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_custody::holding::{Condition, KeyCopy, Keyring, Proof, Seat};
use heirloom_custody::invariant::{NextEffect, Requirement, no_loss};
use heirloom_model::counter::LogIndex;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::plan::{Action, Gate, Step, StepId};

use super::Fault;
use super::line::Line;
use super::world::World;

/// Proofs that still say something: the seats that each question was answered by, without those
/// that changed since.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing(BTreeMap<StepId, BTreeSet<Seat>>);

impl Standing {
    /// Takes note of a step that was carried out, in the world as it is afterwards.
    pub(super) fn follow(&mut self, step: &Step, after: &World) {
        let at = |code| Seat { node: step.node.clone(), measurement: code };
        let changed = match &step.action {
            Action::Verify { targets, code, .. } => {
                let seats = targets.iter().filter_map(|node| Some(Seat::new(node, code.as_ref()?)));
                let proven = seats.filter(|seat| after.proves(seat)).collect();
                self.0.insert(step.id, proven);
                return;
            }
            Action::Stop(found)
            | Action::Restart(found)
            | Action::Forget(found)
            | Action::Reseal(found)
            | Action::HandOver { to: found, .. } => at(found.measurement),
            Action::Quarantine(code) | Action::Restore(code) => at(*code),
            Action::Start(_)
            | Action::Prepare(_)
            | Action::Drain(_)
            | Action::Install { .. }
            | Action::Replicate { .. }
            | Action::Withdraw(_)
            | Action::Suspend(_)
            | Action::Activate(_)
            | Action::Preserve(_)
            | Action::Service(_)
            | Action::Commit
            | Action::Participant(_) => return,
        };
        for proven in self.0.values_mut() {
            proven.remove(&changed);
        }
    }

    /// Whether a seat has proven what it holds now.
    pub(super) fn is_proven(&self, seat: &Seat) -> bool {
        self.proven_at(seat).is_some()
    }

    /// The latest question that a seat answered and that still counts.
    pub(super) fn proven_at(&self, seat: &Seat) -> Option<StepId> {
        let asked = self.0.iter().rev().find(|(_, proven)| proven.contains(seat));
        asked.map(|(step, _)| *step)
    }

    fn answered(&self, step: StepId, seat: &Seat) -> bool {
        self.0.get(&step).is_some_and(|proven| proven.contains(seat))
    }
}

/// Whether some gate of a step demands enough fresh proofs of others: if exactly those prove, and
/// the seat goes, is nothing lost?
pub(super) fn judge(
    line: &Line<'_>,
    step: &Step,
    goes: &Seat,
    standing: &Standing,
    fresh: &dyn Fn(&Step) -> bool,
) -> Result<(), Fault> {
    let proven = step.gates.iter().filter(|gate| matches!(gate, Gate::Proven { .. }));
    let judged = proven.map(|gate| judge_gate(line, gate, goes, standing, fresh));
    judged.reduce(Result::or).unwrap_or(Err(Fault::GivenUpWithoutProof))
}

fn judge_gate(
    line: &Line<'_>,
    gate: &Gate,
    goes: &Seat,
    standing: &Standing,
    fresh: &dyn Fn(&Step) -> bool,
) -> Result<(), Fault> {
    let Gate::Proven { holders, need, since } = gate else {
        return Err(Fault::GivenUpWithoutProof);
    };
    let since = *since;
    let stale = Fault::ProofNotFresh { since };
    let Some(asked) = line.plan.step(since).filter(|asked| fresh(asked)) else {
        return Err(stale);
    };
    let Action::Verify { targets, need: asked_need, code } = &asked.action else {
        return Err(stale);
    };
    if let Some(node) = holders.iter().find(|node| !targets.contains(node)) {
        return Err(Fault::WitnessNotAsked { node: node.clone(), since });
    }
    let needed = line.plan.keyring.holders_min.max(line.inventory.policy.holders_min).max(1);
    let found = (*need).min(*asked_need);
    if found < needed {
        return Err(Fault::HoldersMinTooLow { needed, found });
    }
    let mut seats = Vec::new();
    for node in holders {
        let before = line.plan.keyring.from;
        // Who only proves may be of another kind of platform.
        let own = || line.inventory.code_of(node, &before.release).unwrap_or(before.measurement);
        let code = code.unwrap_or_else(own);
        let seat = Seat { node: node.clone(), measurement: code };
        if line.before.changes(node) && !standing.answered(since, &seat) {
            return Err(Fault::ProofNotFresh { since });
        }
        seats.push(seat);
    }
    let remaining = lose(line, &seats, goes).map_err(Fault::Loss)?;
    if remaining < *need {
        return Err(Fault::Unsatisfiable { need: *need, possible: remaining });
    }
    Ok(())
}

/// Asks custody: these prove, then that seat is gone. How many failure domains remain.
fn lose(
    line: &Line<'_>,
    seats: &[Seat],
    goes: &Seat,
) -> Result<u32, heirloom_custody::invariant::LossRisk> {
    let Line { plan, inventory, .. } = line;
    let copy = |seat: &Seat| {
        let node = inventory.node(&seat.node)?;
        Some(KeyCopy {
            node: node.node.clone(),
            failure_domain: node.failure_domain.clone(),
            condition: Condition::Steady,
            changing: BTreeSet::new(),
        })
    };
    let copies: Vec<KeyCopy> = seats.iter().filter_map(copy).collect();
    let proof = |seat: &Seat| Proof {
        node: seat.node.clone(),
        platform: inventory.platform(&seat.node),
        measurement: seat.measurement,
        generation: plan.keyring.generation,
        checksum: plan.keyring.checksum,
        origin: HoldingOrigin::Recovered,
        asked_at: LogIndex(0),
    };
    let proofs: Vec<Proof> = seats.iter().map(proof).collect();
    let requirement = Requirement {
        policy: &inventory.policy,
        keyring: Keyring { generation: plan.keyring.generation, checksum: plan.keyring.checksum },
        need: plan.keyring.holders_min,
        fresh_from: LogIndex(0),
    };
    let away = BTreeSet::from([goes.clone()]);
    let survivors = no_loss(&requirement, &copies, &proofs, &NextEffect::TakeAway(&away))?;
    Ok(survivors.failure_domains())
}
