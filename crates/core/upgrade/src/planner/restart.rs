//! The release of a service changes and its measurement does not: peers accept each other all the
//! time, so one node after the other starts again, and nobody needs a flag day.
//!
//! Never more than one node is closed, on the way back neither: what already runs the new release
//! goes back in the opposite order.

use heirloom_model::plan::{Action, Gate, Plan, ServiceAction, StepId, Strategy};

use super::draft::Draft;
use super::flag_day::{Outline, finish, proven, verify};
use super::terms::Footing;
use super::{Downtime, FlagDayRequest, PlanError, PlanReport, PlanRequest};
use crate::inventory::Inventory;

/// The forward steps of one node that its way back undoes.
struct Undo {
    fence: StepId,
    halt: StepId,
    deploy: Option<StepId>,
    launch: StepId,
}

pub(super) fn plan(
    request: &PlanRequest,
    wish: &FlagDayRequest,
    footing: &Footing<'_>,
    inventory: &Inventory,
) -> Result<(Plan, PlanReport), PlanError> {
    let mut draft = Draft::default();
    let asked = verify(&mut draft, footing, &footing.verifiers.0.node, Vec::new());
    let mut gates = proven(footing, asked).to_vec();
    gates.push(Gate::Epoch(footing.change.opens));
    let mut undo = Vec::new();
    for place in 0..footing.nodes.len() {
        undo.push(forward(&mut draft, footing, place, gates));
        gates = vec![Gate::Done(draft.last())];
    }
    let last = draft.last();
    if let Some(serial) = wish.withdraw {
        let gates = vec![Gate::Done(last), Gate::PolicyPublished(serial)];
        draft.push(&footing.verifiers.0.node, 0, Action::Withdraw(serial), gates);
    }
    let mut before = None;
    for (place, undo) in undo.iter().enumerate().rev() {
        before = Some(backward(&mut draft, footing, place, undo, before));
    }
    let downtime = match undo.as_slice() {
        [only] => Downtime::Window { closes: only.fence, opens: last },
        _ => Downtime::None,
    };
    let waves: Vec<_> = footing.nodes.iter().map(|node| vec![node.node.clone()]).collect();
    let outline = Outline {
        strategy: Strategy::Rolling,
        point_of_no_return: last,
        downtime,
        stages: waves.clone(),
        waves,
    };
    finish(draft, request, wish, footing, outline, inventory)
}

/// One node starts again; returns the steps that its way back undoes.
fn forward(draft: &mut Draft, footing: &Footing<'_>, place: usize, gates: Vec<Gate>) -> Undo {
    let (from, to) = (footing.change.from, footing.change.to);
    let (node, wave) = at(footing, place);
    let fence = draft.push(node, wave, Action::Service(ServiceAction::Fence(from)), gates);
    let halt = draft.then(node, wave, Action::Service(ServiceAction::Halt(from)), fence);
    let replaces = from.release != to.release;
    let exchange = Action::Service(ServiceAction::Deploy { expect: from, install: to });
    let deploy = replaces.then(|| draft.then(node, wave, exchange, halt));
    let launch =
        draft.then(node, wave, Action::Service(ServiceAction::Launch(to)), deploy.unwrap_or(halt));
    let join = draft.then(node, wave, Action::Service(ServiceAction::Join(to)), launch);
    draft.then(node, wave, Action::Service(ServiceAction::Open(to)), join);
    Undo { fence, halt, deploy, launch }
}

/// One node goes back; returns its last step.
fn backward(
    draft: &mut Draft,
    footing: &Footing<'_>,
    place: usize,
    undo: &Undo,
    mut before: Option<StepId>,
) -> StepId {
    let (from, to) = (footing.change.from, footing.change.to);
    // Clients may be in again already when a node has to go back.
    let mut chain = vec![
        (undo.launch, Action::Service(ServiceAction::Fence(to))),
        (undo.launch, Action::Service(ServiceAction::Halt(to))),
    ];
    let put_back = Action::Service(ServiceAction::Deploy { expect: to, install: from });
    chain.extend(undo.deploy.map(|deploy| (deploy, put_back)));
    chain.push((undo.halt, Action::Service(ServiceAction::Launch(from))));
    let open = (undo.fence, Action::Service(ServiceAction::Open(from)));
    for (undoes, action) in chain {
        let gates = before.map(Gate::Done).into_iter().collect();
        before = Some(draft.push_back(at(footing, place), undoes, action, gates));
    }
    let gates = before.map(Gate::Done).into_iter().collect();
    draft.push_back(at(footing, place), open.0, open.1, gates)
}

/// A node, and its wave: waves are numbered from 1.
fn at<'f>(footing: &'f Footing<'_>, place: usize) -> (&'f heirloom_model::identifier::NodeId, u32) {
    let node = footing.nodes.get(place).expect("places are those of the nodes");
    (&node.node, u32::try_from(place).unwrap_or(u32::MAX).saturating_add(1))
}
