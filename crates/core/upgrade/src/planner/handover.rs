//! Handover: from one seat to another, with the old one in place until the new one is proven.
//!
//! Three arrangements of the same steps: an upgrade on one node by way of an upgrader, a move to
//! another node, and sealing again in place.
//!
//! Every step waits for the one before it, also on the way back. So there is one place at which
//! an abort can come, and nothing happens at the same time as something else. Before a seat stops
//! answering, or gives up what it has, the others have proven theirs.

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::digest::ReleaseDigest;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Gate, Placement, Plan, StepId, Strategy};
use heirloom_model::policy::Sharing;

use super::draft::{self, Draft, Frame};
use super::eligible::{self, Changing, Ground};
use super::{Downtime, Hop, Lease, Note, PlanError, PlanReport, PlanRequest, witness};
use crate::inventory::Inventory;

/// Entries that the log takes between the suspension of one holder and the moment at which the
/// next one may answer: the result of the suspension, and the activation.
const SWITCH_ENTRIES: u32 = 2;

/// Another release on the same node, by way of an upgrader.
pub(super) fn upgrade(
    request: &PlanRequest,
    node: &NodeId,
    via: ReleaseDigest,
    withdraw: Option<Serial>,
    inventory: &Inventory,
) -> Result<(Plan, PlanReport), PlanError> {
    let ground = eligible::ground(request, Changing::One(node), Epoch::default(), inventory)?;
    eligible::check_changes(&ground)?;
    let kind = ground.from.measurement.kind();
    let (carrier, via) = eligible::upgrader(via, (node, kind), inventory)?;
    for placement in [&ground.from, &ground.to] {
        if placement.measurement == via.measurement {
            return Err(PlanError::SameMeasurement(via.measurement));
        }
    }
    eligible::handing(&ground, node, inventory)?;
    let (old, new) =
        (eligible::party(&ground.from, inventory)?, eligible::party(&ground.to, inventory)?);
    eligible::check_hop(Hop::ToUpgrader, &old, &carrier, inventory)?;
    eligible::check_hop(Hop::FromUpgrader, &carrier, &new, inventory)?;
    if let Some(withdraw) = withdraw {
        eligible::check_withdrawal(withdraw, inventory)?;
    }
    let mut line = Line::new(&ground, &[node], inventory)?;
    let (undo, switch) = line.upgrade(node, via);
    line.finish_upgrade(node, via, &switch, withdraw);
    line.upgrade_back(node, via, &undo, &switch);
    line.finish(request, Some(via), switch.no_return, switch.downtime)
}

/// The same release on another node.
pub(super) fn relocate(
    request: &PlanRequest,
    from_node: &NodeId,
    to_node: &NodeId,
    inventory: &Inventory,
) -> Result<(Plan, PlanReport), PlanError> {
    let changing = Changing::Move(from_node, to_node);
    let ground = eligible::stays(request, changing, Epoch::default(), inventory)?;
    eligible::handing(&ground, from_node, inventory)?;
    check_target(from_node, to_node, &ground.to, inventory)?;
    let giver = eligible::party(&ground.from, inventory)?;
    let receiver = eligible::party(&ground.to, inventory)?;
    eligible::check_hop(Hop::Itself, &giver, &receiver, inventory)?;
    let mut line = Line::new(&ground, &[from_node, to_node], inventory)?;
    let switch = line.relocate(from_node, to_node);
    line.finish(request, None, switch.no_return, switch.downtime)
}

/// The same release on the same node, sealed again.
pub(super) fn reseal(
    request: &PlanRequest,
    node: &NodeId,
    inventory: &Inventory,
) -> Result<(Plan, PlanReport), PlanError> {
    let ground = eligible::stays(request, Changing::One(node), Epoch::default(), inventory)?;
    eligible::handing(&ground, node, inventory)?;
    let mut line = Line::new(&ground, &[node], inventory)?;
    let at = ground.from;
    let holds = line.ask(node, node, &at);
    let proof = line.proofs(&[&holds]);
    line.step(node, Action::Preserve(at.measurement), proof);
    line.step(node, Action::Reseal(at), Vec::new());
    let restart = line.step(node, Action::Restart(at), Vec::new());
    let last = line.ask(node, node, &at).step;
    let downtime = if line.exclusive {
        Downtime::Restart { restart, lease: Lease::Attendance }
    } else if inventory.nodes.len() > 1 {
        Downtime::None
    } else {
        Downtime::Restart { restart, lease: Lease::None }
    };
    line.finish(request, None, last, downtime)
}

/// Whether a node can take over what another one has.
fn check_target(
    from_node: &NodeId,
    to_node: &NodeId,
    placement: &Placement,
    inventory: &Inventory,
) -> Result<(), PlanError> {
    if from_node == to_node {
        return Err(PlanError::SameNode(to_node.clone()));
    }
    let unknown = |node: &NodeId| PlanError::UnknownNode(node.clone());
    let source = inventory.node(from_node).ok_or_else(|| unknown(from_node))?;
    let target = inventory.node(to_node).ok_or_else(|| unknown(to_node))?;
    if source.host == target.host {
        let (from_node, to_node) = (from_node.clone(), to_node.clone());
        return Err(PlanError::SameHost { from_node, to_node, host: target.host.clone() });
    }
    let expected = placement.measurement;
    match inventory.latest(to_node) {
        Some(found) if found != expected => {
            return Err(PlanError::OtherRelease { node: to_node.clone(), found, expected });
        }
        Some(_) | None => eligible::check_registered(to_node, placement, inventory)?,
    }
    // Nodes of a replicated domain copy by themselves; there a move only ends the old one.
    let exclusive = inventory.policy.sharing == Sharing::Exclusive;
    if exclusive && inventory.holds(to_node, &expected) {
        return Err(PlanError::AlreadyHolds { node: to_node.clone() });
    }
    Ok(())
}

/// Steps in one line.
struct Line<'i> {
    inventory: &'i Inventory,
    ground: Ground,
    exclusive: bool,
    draft: Draft,
    last: Option<StepId>,
    last_back: Option<StepId>,
    /// Other nodes that prove; none if the policy asks for no holder besides.
    beside: Vec<NodeId>,
    nodes: Vec<NodeId>,
}

/// A question to one seat.
struct Asked {
    step: StepId,
    node: NodeId,
}

/// Forward steps that the way back of an upgrade undoes.
struct Undo {
    carrier: StepId,
    taken: StepId,
    newcomer: StepId,
}

/// How service goes from one seat to the other.
struct Switch {
    /// The old seat's last own step that an abort undoes.
    leaves: StepId,
    /// What took the installed bundle's place before the way back closed, if anything did.
    installed: Option<StepId>,
    no_return: StepId,
    downtime: Downtime,
}

impl<'i> Line<'i> {
    fn new(
        ground: &Ground,
        changing: &[&NodeId],
        inventory: &'i Inventory,
    ) -> Result<Self, PlanError> {
        let mut nodes: Vec<NodeId> = changing.iter().map(|node| (*node).clone()).collect();
        let mut beside = Vec::new();
        // One holder is what a node under handover keeps itself, in another seat.
        if ground.need > 1 {
            let found = witness::beside(inventory, changing, ground.need);
            let judged = witness::enough(inventory, ground, found.iter().copied());
            if let (Err(risk), Some(node)) = (judged, nodes.first().cloned()) {
                return Err(PlanError::TooFewOutside { node, needed: ground.need, risk });
            }
            beside = found.iter().map(|node| node.node.clone()).collect();
            nodes = inventory.nodes.iter().map(|node| node.node.clone()).collect();
        }
        nodes.sort();
        let exclusive = inventory.policy.sharing == Sharing::Exclusive;
        let (draft, ground) = (Draft::default(), ground.clone());
        let (last, last_back) = (None, None);
        Ok(Self { inventory, ground, exclusive, draft, last, last_back, beside, nodes })
    }

    /// A step after the last one.
    fn step(&mut self, node: &NodeId, action: Action, gates: Vec<Gate>) -> StepId {
        let mut all: Vec<Gate> = self.last.map(Gate::Done).into_iter().collect();
        all.extend(gates);
        let step = self.draft.push(node, 0, action, all);
        self.last = Some(step);
        step
    }

    /// A step after the last one of the way back.
    fn back(&mut self, node: &NodeId, undoes: StepId, action: Action, gates: Vec<Gate>) -> StepId {
        let mut all: Vec<Gate> = self.last_back.map(Gate::Done).into_iter().collect();
        all.extend(gates);
        let step = self.draft.push_back((node, 0), undoes, action, all);
        self.last_back = Some(step);
        step
    }

    /// A node's agent asks one seat to prove that it holds.
    fn ask(&mut self, by: &NodeId, node: &NodeId, at: &Placement) -> Asked {
        let step = self.step(by, question(node, at.measurement), Vec::new());
        Asked { step, node: node.clone() }
    }

    /// A node's agent asks nodes that do not change to prove that they hold.
    fn ask_beside(&mut self, by: &NodeId) -> Option<Gate> {
        let question = self.question_beside()?;
        let since = self.step(by, question, Vec::new());
        Some(self.proven_beside(since))
    }

    fn question_beside(&self) -> Option<Action> {
        let (targets, need) = (self.beside.clone(), self.ground.need);
        (!targets.is_empty()).then_some(Action::Verify { targets, need, code: None })
    }

    fn proven_beside(&self, since: StepId) -> Gate {
        Gate::Proven { holders: self.beside.clone(), need: self.ground.need, since }
    }

    /// Gates over proofs of single seats. Where the policy wants several holders, one seat alone
    /// never satisfies it: there the questions have to be answered, and others prove besides.
    fn proofs(&self, asked: &[&Asked]) -> Vec<Gate> {
        if self.ground.need > 1 {
            return Vec::new();
        }
        let proven = |asked: &&Asked| {
            let holders = vec![asked.node.clone()];
            Gate::Proven { holders, need: 1, since: asked.step }
        };
        asked.iter().map(proven).collect()
    }

    /// Up to the point of no return: the keyring goes to the upgrader and to the new keeper, each
    /// proves it, and the new one takes over.
    fn upgrade(&mut self, node: &NodeId, via: Placement) -> (Undo, Switch) {
        let Ground { from, to, .. } = self.ground;
        self.step(node, Action::Prepare(via), Vec::new());
        self.step(node, Action::Prepare(to), Vec::new());
        let old = self.ask(node, node, &from);
        let proof = self.proofs(&[&old]);
        let carrier = self.step(node, Action::Start(via), proof);
        let from_node = node.clone();
        let taken = self.step(node, Action::HandOver { from_node, from, to: via }, Vec::new());
        self.step(node, Action::Restart(via), Vec::new());
        let carried = self.ask(node, node, &via);
        let proof = self.proofs(&[&carried]);
        let newcomer = self.step(node, Action::Start(to), proof);
        let from_node = node.clone();
        self.step(node, Action::HandOver { from_node, from: via, to }, Vec::new());
        self.step(node, Action::Restart(to), Vec::new());
        let new = self.ask(node, node, &to);
        let beside = self.ask_beside(node);
        let mut proofs = self.proofs(&[&carried, &new]);
        proofs.extend(beside);
        let switch = self.switch((node, node), proofs);
        (Undo { carrier, taken, newcomer }, switch)
    }

    /// The old seat stops answering, and the new one answers. In a replicated domain both did
    /// until here; what ends the way back there is the step after which the node would start
    /// something else than before.
    fn switch(&mut self, (old, new): (&NodeId, &NodeId), proofs: Vec<Gate>) -> Switch {
        let Ground { from, to, .. } = self.ground;
        // On another node, what is installed there is what takes over.
        let replaces = old == new;
        let install = Action::Install { expect: from, install: to };
        if self.exclusive {
            let suspend = self.step(old, Action::Suspend(from), proofs.clone());
            let activate = self.step(new, Action::Activate(to), Vec::new());
            self.step(old, Action::Stop(from), proofs);
            if replaces {
                self.step(old, install, Vec::new());
            }
            let entries = SWITCH_ENTRIES;
            let downtime = Downtime::Suspension { suspend, activate, entries };
            return Switch { leaves: suspend, installed: None, no_return: activate, downtime };
        }
        self.step(old, Action::Drain(from), proofs.clone());
        let stop = self.step(old, Action::Stop(from), proofs);
        let installed = replaces.then(|| self.step(old, install, Vec::new()));
        let (no_return, downtime) = (installed.unwrap_or(stop), Downtime::None);
        Switch { leaves: stop, installed, no_return, downtime }
    }

    /// After the point of no return: the old state goes into quarantine, and the upgrader gives
    /// up its copy when the new keeper has proven its own once more.
    fn finish_upgrade(
        &mut self,
        node: &NodeId,
        via: Placement,
        switch: &Switch,
        withdraw: Option<Serial>,
    ) {
        let Ground { from, to, .. } = self.ground;
        let again = self.ask(node, node, &to);
        let mut proof = self.proofs(&[&again]);
        proof.extend(self.ask_beside(node));
        self.step(node, Action::Quarantine(from.measurement), proof.clone());
        let mut gates = proof.clone();
        let epochs = self.inventory.policy.forget_after_epochs;
        gates.push(Gate::Waited { since: switch.no_return, epochs });
        self.step(node, Action::Forget(via), gates);
        self.step(node, Action::Stop(via), Vec::new());
        self.step(node, Action::Quarantine(via.measurement), Vec::new());
        if let Some(serial) = withdraw {
            let mut gates = proof;
            gates.push(Gate::PolicyPublished(serial));
            self.step(node, Action::Withdraw(serial), gates);
        }
    }

    fn upgrade_back(&mut self, node: &NodeId, via: Placement, undo: &Undo, switch: &Switch) {
        let to = self.ground.to;
        self.switch_back(node, switch);
        let proofs = self.ask_back(node, undo.carrier);
        self.back(node, undo.newcomer, Action::Stop(to), proofs.clone());
        self.back(node, undo.newcomer, Action::Quarantine(to.measurement), Vec::new());
        self.back(node, undo.taken, Action::Forget(via), proofs);
        self.back(node, undo.carrier, Action::Stop(via), Vec::new());
        self.back(node, undo.carrier, Action::Quarantine(via.measurement), Vec::new());
    }

    /// The old seat answers again. What said that it serves no more never serves again, so an
    /// exclusive domain needs a fresh instance.
    fn switch_back(&mut self, old: &NodeId, switch: &Switch) {
        let Ground { from, to, .. } = self.ground;
        if self.exclusive {
            self.back(old, switch.leaves, Action::Restart(from), Vec::new());
            self.back(old, switch.leaves, Action::Activate(from), Vec::new());
            return;
        }
        if let Some(installed) = switch.installed {
            let put_back = Action::Install { expect: to, install: from };
            self.back(old, installed, put_back, Vec::new());
        }
        self.back(old, switch.leaves, Action::Start(from), Vec::new());
    }

    /// On the way back the old seat proves before anything else is given up. Returns the gates of
    /// what gives up.
    fn ask_back(&mut self, node: &NodeId, undoes: StepId) -> Vec<Gate> {
        let code = self.ground.from.measurement;
        let step = self.back(node, undoes, question(node, code), Vec::new());
        let mut gates = self.proofs(&[&Asked { step, node: node.clone() }]);
        if let Some(question) = self.question_beside() {
            let since = self.back(node, undoes, question, Vec::new());
            gates.push(self.proven_beside(since));
        }
        gates
    }

    /// A move, and its way back.
    fn relocate(&mut self, old: &NodeId, new: &NodeId) -> Switch {
        let Ground { from, to, .. } = self.ground;
        let holds = self.ask(old, old, &from);
        let proof = self.proofs(&[&holds]);
        let from_node = old.clone();
        let taken = self.step(new, Action::HandOver { from_node, from, to }, proof);
        self.step(new, Action::Restart(to), Vec::new());
        let first = self.ask(old, new, &to);
        let second = self.ask(new, new, &to);
        let beside = self.ask_beside(old);
        let mut proofs = self.proofs(&[&first, &second]);
        proofs.extend(beside);
        let switch = self.switch((old, new), proofs);
        let again = self.ask(old, new, &to);
        let mut proof = self.proofs(&[&again]);
        proof.extend(self.ask_beside(old));
        self.step(old, Action::Quarantine(from.measurement), proof);

        self.switch_back(old, &switch);
        let proofs = self.ask_back(old, holds.step);
        self.back(new, taken, Action::Stop(to), proofs);
        self.back(new, taken, Action::Quarantine(to.measurement), Vec::new());
        self.back(new, taken, Action::Start(to), Vec::new());
        switch
    }

    fn finish(
        self,
        request: &PlanRequest,
        via: Option<Placement>,
        point_of_no_return: StepId,
        downtime: Downtime,
    ) -> Result<(Plan, PlanReport), PlanError> {
        let Self { inventory, ground, draft, nodes, .. } = self;
        let frame =
            Frame { strategy: Strategy::Handover, via, nodes, point_of_no_return, service: None };
        let (plan, bytes) = draft.finish(request, &ground, frame, inventory)?;
        let report = PlanReport {
            waves: Vec::new(),
            need: ground.need,
            verifiers: Vec::new(),
            steps: plan.steps.len(),
            rollback_steps: plan.rollback.len(),
            point_of_no_return,
            downtime,
            bytes,
            notes: notes(&plan, ground.need, inventory),
            service: None,
        };
        Ok((plan, report))
    }
}

fn question(node: &NodeId, code: Measurement) -> Action {
    Action::Verify { targets: vec![node.clone()], need: 1, code: Some(code) }
}

fn notes(plan: &Plan, need: u32, inventory: &Inventory) -> Vec<Note> {
    let mut notes = draft::notes(need, inventory);
    let hosts = plan.nodes.iter().filter_map(|node| inventory.node(node)).map(|node| &node.host);
    let mut hosts: Vec<_> = hosts.collect();
    hosts.dedup();
    if let [host] = hosts.as_slice()
        && (inventory.policy.sharing == Sharing::Exclusive || inventory.nodes.len() == 1)
    {
        notes.push(Note::OneHost { host: (*host).clone() });
    }
    let waits = |step: &heirloom_model::plan::Step| {
        step.gates.iter().any(|gate| matches!(gate, Gate::Waited { epochs: 1.., .. }))
    };
    if plan.steps.iter().any(waits) {
        let epochs = inventory.policy.forget_after_epochs;
        notes.push(Note::KeepsCarriedCopy { epochs });
    }
    notes
}
