//! Rolling: many replicas, one wave after the other. The new version cannot read what the old
//! one sealed, so each new instance copies the keyring from holders outside its wave.

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::{PLAN_BYTES_MAX, STEPS_MAX};
use heirloom_model::plan::{Action, Gate, Plan, RollbackStep, Step, StepId, Strategy};
use heirloom_model::wire;

use super::eligible::{self, Ground};
use super::layout::Layout;
use super::verifier::Verifiers;
use super::{Note, PlanError, PlanReport, PlanRequest};
use crate::inventory::Inventory;

pub(super) fn plan(
    request: &PlanRequest,
    inventory: &Inventory,
) -> Result<(Plan, PlanReport), PlanError> {
    let ground = eligible::ground(request, inventory)?;
    let layout = Layout::new(
        inventory,
        ground.need,
        request.wave_size,
        ground.keyring,
        ground.from.measurement,
    )?;
    let verifiers = Verifiers::new(&layout);
    let mut draft = Draft {
        layout: &layout,
        ground,
        steps: Vec::new(),
        undo: vec![Undo::UNKNOWN; layout.positions().len()],
        pairs: Vec::new(),
    };
    draft.forward(&verifiers, request);
    let rollback = draft.backward();
    let Draft { steps, pairs, .. } = draft;
    let forward = steps.len();
    for found in [forward, rollback.len()] {
        if found > STEPS_MAX {
            return Err(PlanError::TooLarge { what: "steps", found, limit: STEPS_MAX });
        }
    }
    let plan = Plan {
        network: inventory.network,
        domain: inventory.domain,
        number: ground.number,
        strategy: Strategy::Rolling,
        from: ground.from,
        to: ground.to,
        policy: inventory.policy.serial,
        generation: ground.keyring.generation,
        checksum: ground.keyring.checksum,
        holders_min: ground.need,
        nodes: layout.names(layout.positions()),
        point_of_no_return: id(forward.saturating_sub(1)),
        steps,
        rollback,
        not_after: request.not_after,
        nonce: request.nonce,
    };
    let report = report(&plan, &layout, inventory, &pairs)?;
    Ok((plan, report))
}

/// The steps so far.
struct Draft<'l, 'i> {
    layout: &'l Layout<'i>,
    ground: Ground,
    steps: Vec<Step>,
    /// By position in the line.
    undo: Vec<Undo>,
    pairs: Vec<(usize, usize)>,
}

/// The forward steps of one node that its way back undoes.
#[derive(Clone, Copy)]
struct Undo {
    prepare: StepId,
    drain: StepId,
    stop: StepId,
    quarantine: StepId,
    install: StepId,
    start: StepId,
}

impl Undo {
    /// Before the steps of the node are known.
    const UNKNOWN: Self = Self {
        prepare: StepId(0),
        drain: StepId(0),
        stop: StepId(0),
        quarantine: StepId(0),
        install: StepId(0),
        start: StepId(0),
    };
}

impl Draft<'_, '_> {
    fn forward(&mut self, verifiers: &Verifiers, request: &PlanRequest) {
        let mut before = self.prepare();
        let last = self.layout.waves.len().saturating_sub(1);
        for wave in 0..self.layout.waves.len() {
            let done = self.change_wave(wave, before);
            if wave == last {
                self.finish(verifiers, done, request.withdraw);
            } else {
                let epoch = request.upgrade_epoch.filter(|_| wave == 0);
                before = self.verify_wave(verifiers, wave, done, epoch);
            }
        }
    }

    /// Everybody is ready, and everybody proves, before anything changes.
    fn prepare(&mut self) -> StepId {
        let mut ready = Vec::new();
        for position in self.layout.positions() {
            let step = self.push(position, 0, Action::Prepare(self.ground.to), Vec::new());
            self.undo_mut(position).prepare = step;
            ready.push(Gate::Done(step));
        }
        self.verify(0, 0, self.layout.names(self.layout.positions()), ready)
    }

    /// The steps of every node of a wave; returns the last step of each.
    fn change_wave(&mut self, wave: usize, before: StepId) -> Vec<Gate> {
        let range = self.layout.waves.get(wave).cloned().unwrap_or(0..0);
        range.map(|position| Gate::Done(self.change(position, wave, before))).collect()
    }

    /// The steps of one node; returns the last one.
    fn change(&mut self, position: usize, wave: usize, before: StepId) -> StepId {
        let Ground { from, to, need, .. } = self.ground;
        let number = number(wave);
        let witnesses = self.layout.names(self.layout.witnesses(wave, position));
        let sources = self.layout.sources(wave, position);
        let sources = sources.iter().map(|found| self.layout.node(*found).node.clone()).collect();
        let own = self.layout.node(position).node.clone();

        let ask = Action::Verify { targets: witnesses.clone(), need };
        let asked = self.push(position, number, ask, vec![Gate::Done(before)]);
        let drain = self.push(position, number, Action::Drain, vec![Gate::Done(asked)]);
        let trial = Gate::Registered { node: own.clone(), measurement: to.measurement };
        let proven = Gate::Proven { holders: witnesses, need, since: asked };
        let gates = vec![Gate::Done(drain), proven, trial];
        let stop = self.push(position, number, Action::Stop(from), gates);
        let action = Action::Quarantine(from.measurement);
        let quarantine = self.then(position, number, action, stop);
        let action = Action::Install { expect: from, install: to };
        let install = self.then(position, number, action, quarantine);
        let start = self.then(position, number, Action::Start(to), install);
        let replicate = self.then(position, number, Action::Replicate { sources }, start);
        let restart = self.then(position, number, Action::Restart(to), replicate);
        let itself = Action::Verify { targets: vec![own], need: 1 };
        let done = self.then(position, number, itself, restart);

        let undo = self.undo_mut(position);
        *undo = Undo { prepare: undo.prepare, drain, stop, quarantine, install, start };
        done
    }

    /// A changed wave is verified by one node, and again by another one with new challenges.
    fn verify_wave(
        &mut self,
        verifiers: &Verifiers,
        wave: usize,
        done: Vec<Gate>,
        epoch: Option<Epoch>,
    ) -> StepId {
        let (first, second) = verifiers.of_wave(self.layout, wave);
        self.pairs.push((first, second));
        let range = self.layout.waves.get(wave).cloned().unwrap_or(0..0);
        let targets = self.layout.names(range);
        let mut gates = done;
        gates.extend(epoch.map(Gate::Epoch));
        let once = self.verify(first, number(wave), targets.clone(), gates);
        self.verify(second, number(wave), targets, vec![Gate::Done(once)])
    }

    /// Everybody proves twice; then the old measurement loses its rights, and there is no way
    /// back any more.
    fn finish(&mut self, verifiers: &Verifiers, done: Vec<Gate>, withdraw: Serial) {
        let (first, second) = verifiers.of_all(self.layout);
        self.pairs.push((first, second));
        let all = self.layout.names(self.layout.positions());
        let once = self.verify(first, 0, all.clone(), done);
        let again = self.verify(second, 0, all.clone(), vec![Gate::Done(once)]);
        let proven = Gate::Proven { holders: all, need: self.ground.need, since: again };
        let gates = vec![Gate::Done(again), proven, Gate::PolicyPublished(withdraw)];
        self.push(first, 0, Action::Withdraw(withdraw), gates);
    }

    /// The way back, last wave first.
    fn backward(&mut self) -> Vec<RollbackStep> {
        let mut back = Vec::new();
        let mut returned = vec![StepId(0); self.layout.positions().len()];
        for wave in (0..self.layout.waves.len()).rev() {
            let range = self.layout.waves.get(wave).cloned().unwrap_or(0..0);
            for position in range {
                let done = self.change_back(position, wave, &returned, &mut back);
                if let Some(slot) = returned.get_mut(position) {
                    *slot = done;
                }
            }
        }
        back
    }

    /// The way back of one node; returns its last step.
    fn change_back(
        &self,
        position: usize,
        wave: usize,
        returned: &[StepId],
        back: &mut Vec<RollbackStep>,
    ) -> StepId {
        let Ground { from, to, need, .. } = self.ground;
        let undo = self.undo.get(position).copied().unwrap_or(Undo::UNKNOWN);
        let (witnesses, later) = self.layout.witnesses_back(wave, position);
        let witnesses = self.layout.names(witnesses);
        let sources = self.layout.sources(wave, position);
        let sources = sources.iter().map(|found| self.layout.node(*found).node.clone()).collect();
        let own = self.layout.node(position).node.clone();
        let first = self.steps.len() + back.len();
        let returned = later.iter().filter_map(|found| returned.get(*found));

        let ask = Action::Verify { targets: witnesses.clone(), need };
        let mut chain = vec![(undo.start, ask, returned.map(|step| Gate::Done(*step)).collect())];
        let proven = Gate::Proven { holders: witnesses, need, since: id(first) };
        chain.push((undo.start, Action::Stop(to), vec![proven]));
        chain.push((undo.start, Action::Quarantine(to.measurement), Vec::new()));
        let put_back = Action::Install { expect: to, install: from };
        chain.push((undo.install, put_back, Vec::new()));
        chain.push((undo.quarantine, Action::Restore(from.measurement), Vec::new()));
        chain.push((undo.stop, Action::Start(from), Vec::new()));
        chain.push((undo.stop, Action::Replicate { sources }, Vec::new()));
        chain.push((undo.drain, Action::Restart(from), Vec::new()));
        let itself = Action::Verify { targets: vec![own.clone()], need: 1 };
        chain.push((undo.prepare, itself, Vec::new()));

        let mut last = id(first);
        for (index, (undoes, action, mut gates)) in chain.into_iter().enumerate() {
            let step = id(first + index);
            if index > 0 {
                // Settled also where the step before undoes something that never began.
                gates.insert(0, Gate::Done(last));
            }
            let wave = number(wave);
            let step = Step { id: step, node: own.clone(), wave, action, gates };
            last = step.id;
            back.push(RollbackStep { step, undoes });
        }
        last
    }

    /// A verification of all `targets`.
    fn verify(&mut self, by: usize, wave: u32, targets: Vec<NodeId>, gates: Vec<Gate>) -> StepId {
        let need = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        self.push(by, wave, Action::Verify { targets, need }, gates)
    }

    fn then(&mut self, position: usize, wave: u32, action: Action, after: StepId) -> StepId {
        self.push(position, wave, action, vec![Gate::Done(after)])
    }

    fn push(&mut self, position: usize, wave: u32, action: Action, gates: Vec<Gate>) -> StepId {
        let step = id(self.steps.len());
        let node = self.layout.node(position).node.clone();
        self.steps.push(Step { id: step, node, wave, action, gates });
        step
    }

    fn undo_mut(&mut self, position: usize) -> &mut Undo {
        self.undo.get_mut(position).expect("there is one for each position")
    }
}

/// Waves are numbered from 1; 0 is before the first and after the last.
fn number(wave: usize) -> u32 {
    u32::try_from(wave).unwrap_or(u32::MAX).saturating_add(1)
}

/// Saturates far beyond `STEPS_MAX`, which is checked before the plan is used.
fn id(index: usize) -> StepId {
    StepId(u32::try_from(index).unwrap_or(u32::MAX))
}

fn report(
    plan: &Plan,
    layout: &Layout<'_>,
    inventory: &Inventory,
    pairs: &[(usize, usize)],
) -> Result<PlanReport, PlanError> {
    let bytes = wire::encode(plan).len();
    if bytes > PLAN_BYTES_MAX {
        return Err(PlanError::TooLarge { what: "bytes", found: bytes, limit: PLAN_BYTES_MAX });
    }
    let name = |position: usize| layout.node(position).node.clone();
    Ok(PlanReport {
        waves: layout.waves.iter().map(|range| layout.names(range.clone())).collect(),
        need: plan.holders_min,
        verifiers: pairs.iter().map(|(first, second)| (name(*first), name(*second))).collect(),
        steps: plan.steps.len(),
        rollback_steps: plan.rollback.len(),
        bytes,
        notes: notes(plan, layout, inventory, pairs),
    })
}

fn notes(
    plan: &Plan,
    layout: &Layout<'_>,
    inventory: &Inventory,
    pairs: &[(usize, usize)],
) -> Vec<Note> {
    let mut notes = Vec::new();
    let largest = layout.waves.iter().map(ExactSizeIterator::len).max().unwrap_or_default();
    if largest < layout.asked {
        notes.push(Note::SmallerWaves { asked: layout.asked, largest });
    }
    let same = |(first, second): &&(usize, usize)| {
        layout.node(*first).operator == layout.node(*second).operator
    };
    if let Some((first, second)) = pairs.iter().find(same) {
        let (first, second) = (layout.node(*first).node.clone(), layout.node(*second).node.clone());
        notes.push(Note::OneOperator { first, second });
    }
    if plan.holders_min < 2 {
        notes.push(Note::NoMargin);
    }
    let development = heirloom_attest::result::AnchorClass::Development;
    if inventory.anchors.values().any(|class| *class == development) {
        notes.push(Note::DevelopmentRoot);
    }
    notes
}
