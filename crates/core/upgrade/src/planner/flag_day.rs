//! A flag day: the service of all nodes moves to new code at once.
//!
//! Instances accept only their own code as peers, so no node can change before the others. Each
//! block has one step for every node and waits for the whole block before it, up to the commit.
//! Until there everything that was closed can be opened again with the old code, by each node for
//! itself: who is absent must not keep the others closed.

use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, Plan, ServiceAction, StepId, Strategy};

use super::draft::{self, Draft, Frame};
use super::terms::{self, Footing};
use super::{
    Downtime, FlagDayRequest, Note, PlanError, PlanReport, PlanRequest, ServiceReport, restart,
};
use crate::inventory::Inventory;

/// The first question is whether peers can tell the two versions apart.
pub(super) fn plan(
    request: &PlanRequest,
    wish: &FlagDayRequest,
    inventory: &Inventory,
) -> Result<(Plan, PlanReport), PlanError> {
    let footing = terms::footing(request, wish, inventory)?;
    if !footing.change.changes_code() {
        return restart::plan(request, wish, &footing, inventory);
    }
    let mut day = FlagDay { footing: &footing, draft: Draft::default() };
    let window = day.forward(wish);
    day.backward(&window);
    let outline = Outline {
        strategy: Strategy::FlagDay,
        point_of_no_return: window.commit,
        downtime: Downtime::Window { closes: window.fence.first, opens: window.open.first },
        stages: footing.stages.clone(),
        waves: Vec::new(),
    };
    finish(day.draft, request, wish, &footing, outline, inventory)
}

/// One step of every node, in a row.
#[derive(Clone, Copy)]
struct Block {
    first: StepId,
    last: StepId,
}

impl Block {
    fn done(self) -> Gate {
        Gate::AllDone { first: self.first, last: self.last }
    }

    fn agreed(self) -> Gate {
        Gate::Agreed { first: self.first, last: self.last }
    }
}

/// The blocks that the way back undoes, and what the report says of the rest.
struct Window {
    fence: Block,
    halt: Block,
    migrate: Block,
    deploy: Block,
    launch: Block,
    commit: StepId,
    open: Block,
}

struct FlagDay<'f, 'i> {
    footing: &'f Footing<'i>,
    draft: Draft,
}

impl FlagDay<'_, '_> {
    fn forward(&mut self, wish: &FlagDayRequest) -> Window {
        let Footing { change, verifiers, .. } = self.footing;
        let (from, to) = (change.from, change.to);
        let asked = verify(&mut self.draft, self.footing, &verifiers.0.node, Vec::new());
        let equip = self.block(&Action::Service(ServiceAction::Equip(to)), &[]);
        let mut gates = vec![equip.done()];
        gates.extend(proven(self.footing, asked));
        gates.push(Gate::Epoch(change.opens));
        if wish.rehearsals > 0 {
            gates.push(Gate::Rehearsed { need: wish.rehearsals });
        }
        let muster = self.block(&Action::Service(ServiceAction::Muster(from)), &gates);
        let fence = self.block(&Action::Service(ServiceAction::Fence(from)), &[muster.done()]);
        let freeze = self.block(&Action::Service(ServiceAction::Freeze(from)), &[fence.done()]);
        let halt = self
            .block(&Action::Service(ServiceAction::Halt(from)), &[freeze.done(), freeze.agreed()]);
        let snapshot = self.block(&Action::Service(ServiceAction::Snapshot), &[halt.done()]);
        let migrate = self.block(&Action::Service(ServiceAction::Migrate), &[snapshot.done()]);
        let install = Action::Service(ServiceAction::Deploy { expect: from, install: to });
        let deploy = self.block(&install, &[migrate.done()]);
        let launch = self.block(&Action::Service(ServiceAction::Launch(to)), &[deploy.done()]);
        let join = self
            .block(&Action::Service(ServiceAction::Join(to)), &[launch.done(), launch.agreed()]);
        let exercise = self.block(&Action::Service(ServiceAction::Exercise(to)), &[join.done()]);
        let by = &verifiers.1.node;
        let again = verify(&mut self.draft, self.footing, by, vec![exercise.done()]);
        // The commit says itself what it stands for, whatever follows from what.
        let mut gates = vec![join.done(), exercise.done()];
        gates.extend(proven(self.footing, again));
        let commit = self.draft.push(&verifiers.0.node, 0, Action::Commit, gates);
        let open = self.open(commit);
        let watch = self.block(&Action::Service(ServiceAction::Watch(to)), &[open.done()]);
        if let Some(serial) = wish.withdraw {
            let gates = vec![watch.done(), Gate::PolicyPublished(serial)];
            self.draft.push(&verifiers.0.node, 0, Action::Withdraw(serial), gates);
        }
        Window { fence, halt, migrate, deploy, launch, commit, open }
    }

    /// The same step on every node, in the order of names.
    fn block(&mut self, action: &Action, gates: &[Gate]) -> Block {
        let first = self.draft.next();
        for node in self.footing.nodes {
            self.draft.push(&node.node, 0, action.clone(), gates.to_vec());
        }
        Block { first, last: self.draft.last() }
    }

    /// Clients are let in, stage by stage.
    fn open(&mut self, commit: StepId) -> Block {
        let to = self.footing.change.to;
        let first = self.draft.next();
        let mut gate = Gate::Done(commit);
        for stage in &self.footing.stages {
            let begin = self.draft.next();
            for node in stage {
                self.draft.push(
                    node,
                    0,
                    Action::Service(ServiceAction::Open(to)),
                    vec![gate.clone()],
                );
            }
            let last = self.draft.last();
            gate = match stage.len() {
                1 => Gate::Done(last),
                _ => Gate::AllDone { first: begin, last },
            };
        }
        Block { first, last: self.draft.last() }
    }

    /// Each node goes back by itself. That its old service takes part again needs most of the
    /// others anyway.
    fn backward(&mut self, window: &Window) {
        let (from, to) = (self.footing.change.from, self.footing.change.to);
        for (place, node) in (0_u32..).zip(self.footing.nodes) {
            let of = |block: Block| StepId(block.first.0.saturating_add(place));
            let put_back = Action::Service(ServiceAction::Deploy { expect: to, install: from });
            let chain = [
                (window.launch, Action::Service(ServiceAction::Halt(to))),
                (window.migrate, Action::Service(ServiceAction::Revert)),
                (window.deploy, put_back),
                (window.halt, Action::Service(ServiceAction::Launch(from))),
                (window.fence, Action::Service(ServiceAction::Open(from))),
            ];
            let mut before = None;
            for (block, action) in chain {
                let gates = before.map(Gate::Done).into_iter().collect();
                before = Some(self.draft.push_back((&node.node, 0), of(block), action, gates));
            }
        }
    }
}

/// The keepers prove what they hold.
pub(super) fn verify(
    draft: &mut Draft,
    footing: &Footing<'_>,
    by: &NodeId,
    gates: Vec<Gate>,
) -> StepId {
    let (targets, need) = (footing.holders.clone(), footing.ground.need);
    draft.push(by, 0, Action::Verify { targets, need, code: None }, gates)
}

/// They have proven since they were asked.
pub(super) fn proven(footing: &Footing<'_>, since: StepId) -> [Gate; 2] {
    let (holders, need) = (footing.holders.clone(), footing.ground.need);
    [Gate::Done(since), Gate::Proven { holders, need, since }]
}

/// What was decided besides steps.
pub(super) struct Outline {
    pub(super) strategy: Strategy,
    pub(super) point_of_no_return: StepId,
    pub(super) downtime: Downtime,
    pub(super) stages: Vec<Vec<NodeId>>,
    pub(super) waves: Vec<Vec<NodeId>>,
}

pub(super) fn finish(
    draft: Draft,
    request: &PlanRequest,
    wish: &FlagDayRequest,
    footing: &Footing<'_>,
    outline: Outline,
    inventory: &Inventory,
) -> Result<(Plan, PlanReport), PlanError> {
    let Outline { strategy, point_of_no_return, downtime, stages, waves } = outline;
    let frame = Frame {
        strategy,
        via: None,
        nodes: footing.nodes.iter().map(|node| node.node.clone()).collect(),
        point_of_no_return,
        service: Some(footing.change.clone()),
    };
    let (plan, bytes) = draft.finish(request, &footing.ground, frame, inventory)?;
    let notes = notes(wish, footing, &stages, inventory);
    let (first, second) = footing.verifiers;
    let report = PlanReport {
        waves,
        need: footing.ground.need,
        verifiers: vec![(first.node.clone(), second.node.clone())],
        steps: plan.steps.len(),
        rollback_steps: plan.rollback.len(),
        point_of_no_return,
        downtime,
        bytes,
        notes,
        service: Some(ServiceReport {
            opens: wish.opens,
            abort_after: wish.abort_after,
            rehearsals: if footing.change.changes_code() { wish.rehearsals } else { 0 },
            quiet_milliseconds: wish.terms.quiet_milliseconds,
            watch_milliseconds: wish.terms.watch_milliseconds,
            stages,
        }),
    };
    Ok((plan, report))
}

fn notes(
    wish: &FlagDayRequest,
    footing: &Footing<'_>,
    stages: &[Vec<NodeId>],
    inventory: &Inventory,
) -> Vec<Note> {
    let mut notes = Vec::new();
    if footing.change.changes_code() {
        if wish.rehearsals == 0 {
            notes.push(Note::NotRehearsed);
        }
        if stages.len() == 1 && footing.nodes.len() > 1 {
            notes.push(Note::NoCanary);
        }
        let (first, second) = footing.verifiers;
        if first.operator == second.operator {
            let (first, second) = (first.node.clone(), second.node.clone());
            notes.push(Note::OneOperator { first, second });
        }
    } else {
        notes.push(Note::NoFlagDay(footing.change.to.measurement));
    }
    if footing.nodes.len() == 1 {
        notes.push(Note::OneNode);
    }
    notes.extend(draft::notes(footing.ground.need, inventory));
    notes
}
