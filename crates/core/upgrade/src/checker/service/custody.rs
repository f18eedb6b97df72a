//! Whether a gate demands enough fresh proofs of the keyring.

use std::collections::BTreeSet;

use heirloom_custody::holding::{Condition, KeyCopy, Keyring, Proof};
use heirloom_custody::invariant::{NextEffect, Requirement, no_loss};
use heirloom_model::counter::LogIndex;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::fleet::Node;
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, Step, StepId};

use super::super::{Fault, Report};
use super::View;

/// Some of these gates demands enough proofs, which answer a question that comes after all of
/// `fresh`.
pub(super) fn check<'g>(
    view: &View<'_>,
    step: StepId,
    gates: impl Iterator<Item = &'g Gate>,
    fresh: &[&Step],
    what: &'static str,
    report: &mut Report,
) {
    let judged = gates.filter_map(|gate| match gate {
        Gate::Proven { holders, need, since } => Some(judge(view, (holders, *need, *since), fresh)),
        _ => None,
    });
    let best = judged.reduce(Result::or).unwrap_or(Err(Fault::CustodyUnproven { what }));
    if let Err(fault) = best {
        report.step(step, fault);
    }
}

fn judge(
    view: &View<'_>,
    (holders, need, since): (&[NodeId], u32, StepId),
    fresh: &[&Step],
) -> Result<(), Fault> {
    let stale = Fault::ProofNotFresh { since };
    let asked = view.plan.step(since).ok_or(stale.clone())?;
    let Action::Verify { targets, need: asked_need, .. } = &asked.action else {
        return Err(stale);
    };
    if fresh.iter().any(|step| !view.reach.is_after(since, step.id)) {
        return Err(stale);
    }
    if let Some(node) = holders.iter().find(|node| !targets.contains(node)) {
        return Err(Fault::WitnessNotAsked { node: node.clone(), since });
    }
    let needed = view.plan.keyring.holders_min.max(view.inventory.policy.holders_min).max(1);
    let found = need.min(*asked_need);
    if found < needed {
        return Err(Fault::HoldersMinTooLow { needed, found });
    }
    let possible = remaining(view, holders)?;
    if possible < need {
        return Err(Fault::Unsatisfiable { need, possible });
    }
    Ok(())
}

/// Asks custody: if exactly these prove, how many failure domains have a holder?
fn remaining(view: &View<'_>, holders: &[NodeId]) -> Result<u32, Fault> {
    let View { plan, inventory, .. } = view;
    let nodes: BTreeSet<&NodeId> = holders.iter().collect();
    let nodes = || nodes.iter().filter_map(|node| inventory.node(node));
    let copies: Vec<KeyCopy> = nodes()
        .map(|node| KeyCopy {
            node: node.node.clone(),
            failure_domain: node.failure_domain.clone(),
            condition: Condition::Steady,
            changing: BTreeSet::new(),
        })
        .collect();
    let kept = plan.keyring.from;
    let runs =
        |node: &Node| inventory.code_of(&node.node, &kept.release).unwrap_or(kept.measurement);
    let proofs: Vec<Proof> = nodes()
        .map(|node| Proof {
            node: node.node.clone(),
            platform: inventory.platform(&node.node),
            measurement: runs(node),
            generation: plan.keyring.generation,
            checksum: plan.keyring.checksum,
            origin: HoldingOrigin::Recovered,
            asked_at: LogIndex(0),
        })
        .collect();
    let requirement = Requirement {
        policy: &inventory.policy,
        keyring: Keyring { generation: plan.keyring.generation, checksum: plan.keyring.checksum },
        need: plan.keyring.holders_min,
        fresh_from: LogIndex(0),
    };
    let survivors = no_loss(&requirement, &copies, &proofs, &NextEffect::None);
    Ok(survivors.map_err(Fault::Loss)?.failure_domains())
}
