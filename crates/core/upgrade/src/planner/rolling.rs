//! Rolling: many replicas, one wave after the other. The new version cannot read what the old
//! one sealed, so each new instance copies the keyring from holders outside its wave.

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, Placement, Plan, StepId, Strategy};

use super::draft::{self, Draft, Frame};
use super::eligible::{self, Changing};
use super::layout::Layout;
use super::verifier::Verifiers;
use super::{Downtime, Note, PlanError, PlanReport, PlanRequest, WaveSize};
use crate::inventory::Inventory;

/// What an operator wants of a rolling upgrade in particular.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) wave_size: WaveSize,
    pub(super) upgrade_epoch: Option<Epoch>,
    pub(super) withdraw: Serial,
}

pub(super) fn plan(
    request: &PlanRequest,
    wish: Wish,
    inventory: &Inventory,
) -> Result<(Plan, PlanReport), PlanError> {
    let earliest = wish.upgrade_epoch.unwrap_or_default();
    let ground = eligible::ground(request, Changing::All, earliest, inventory)?;
    eligible::rolling(&ground, wish.withdraw, inventory)?;
    let need = ground.need;
    let layout = Layout::new(inventory, wish.wave_size, &ground)?;
    let verifiers = Verifiers::new(&layout);
    let pair = |position| ground.pair(&layout.node(position).node, inventory);
    let mut rolling = Rolling {
        layout: &layout,
        codes: layout.positions().map(pair).collect(),
        need,
        draft: Draft::default(),
        undo: vec![Undo::UNKNOWN; layout.positions().len()],
        pairs: Vec::new(),
    };
    rolling.forward(&verifiers, &wish);
    let point_of_no_return = rolling.draft.last();
    rolling.backward();
    let Rolling { draft, pairs, .. } = rolling;
    let nodes = layout.names(layout.positions());
    let frame =
        Frame { strategy: Strategy::Rolling, via: None, nodes, point_of_no_return, service: None };
    let (plan, bytes) = draft.finish(request, &ground, frame, inventory)?;
    let report = report((&plan, bytes, need), &layout, inventory, &pairs);
    Ok((plan, report))
}

/// The plan so far.
struct Rolling<'l, 'i> {
    layout: &'l Layout<'i>,
    /// What runs before and after, by position in the line.
    codes: Vec<(Placement, Placement)>,
    need: u32,
    draft: Draft,
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

impl Rolling<'_, '_> {
    fn forward(&mut self, verifiers: &Verifiers, wish: &Wish) {
        let mut before = self.prepare();
        let last = self.layout.waves.len().saturating_sub(1);
        for wave in 0..self.layout.waves.len() {
            let done = self.change_wave(wave, before);
            if wave == last {
                self.finish(verifiers, done, wish.withdraw);
            } else {
                let epoch = wish.upgrade_epoch.filter(|_| wave == 0);
                before = self.verify_wave(verifiers, wave, done, epoch);
            }
        }
    }

    /// Everybody is ready, and everybody proves, before anything changes.
    fn prepare(&mut self) -> StepId {
        let mut ready = Vec::new();
        for position in self.layout.positions() {
            let step = self.push(position, 0, Action::Prepare(self.codes(position).1), Vec::new());
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
        let ((from, to), need) = (self.codes(position), self.need);
        let number = number(wave);
        let witnesses = self.layout.names(self.layout.witnesses(wave, position));
        let sources = self.layout.sources(wave, position);
        let sources = sources.iter().map(|found| self.layout.node(*found).node.clone()).collect();
        let own = self.layout.node(position).node.clone();

        let ask = Action::Verify { targets: witnesses.clone(), need, code: None };
        let asked = self.push(position, number, ask, vec![Gate::Done(before)]);
        let drain = self.push(position, number, Action::Drain(from), vec![Gate::Done(asked)]);
        let trial = Gate::Registered { node: own.clone(), measurement: to.measurement };
        let proven = Gate::Proven { holders: witnesses, need, since: asked };
        let gates = vec![Gate::Done(drain), proven, trial];
        let stop = self.push(position, number, Action::Stop(from), gates);
        let action = Action::Quarantine(from.measurement);
        let quarantine = self.then(position, number, action, stop);
        let action = Action::Install { expect: from, install: to };
        let install = self.then(position, number, action, quarantine);
        let start = self.then(position, number, Action::Start(to), install);
        let replicate = self.then(position, number, Action::Replicate { sources, to }, start);
        let restart = self.then(position, number, Action::Restart(to), replicate);
        let itself = Action::Verify { targets: vec![own], need: 1, code: Some(to.measurement) };
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
        let proven = Gate::Proven { holders: all, need: self.need, since: again };
        let gates = vec![Gate::Done(again), proven, Gate::PolicyPublished(withdraw)];
        self.push(first, 0, Action::Withdraw(withdraw), gates);
    }

    /// The way back, last wave first.
    fn backward(&mut self) {
        let mut returned = vec![StepId(0); self.layout.positions().len()];
        for wave in (0..self.layout.waves.len()).rev() {
            let range = self.layout.waves.get(wave).cloned().unwrap_or(0..0);
            for position in range {
                let done = self.change_back(position, wave, &returned);
                if let Some(slot) = returned.get_mut(position) {
                    *slot = done;
                }
            }
        }
    }

    /// The way back of one node; returns its last step.
    fn change_back(&mut self, position: usize, wave: usize, returned: &[StepId]) -> StepId {
        let ((from, to), need) = (self.codes(position), self.need);
        let undo = self.undo.get(position).copied().unwrap_or(Undo::UNKNOWN);
        let (witnesses, later) = self.layout.witnesses_back(wave, position);
        let witnesses = self.layout.names(witnesses);
        let sources = self.layout.sources(wave, position);
        let sources = sources.iter().map(|found| self.layout.node(*found).node.clone()).collect();
        let own = self.layout.node(position).node.clone();
        let first = self.draft.next();
        let returned = later.iter().filter_map(|found| returned.get(*found));

        let ask = Action::Verify { targets: witnesses.clone(), need, code: None };
        let mut chain = vec![(undo.start, ask, returned.map(|step| Gate::Done(*step)).collect())];
        let proven = Gate::Proven { holders: witnesses, need, since: first };
        chain.push((undo.start, Action::Stop(to), vec![proven]));
        chain.push((undo.start, Action::Quarantine(to.measurement), Vec::new()));
        let put_back = Action::Install { expect: to, install: from };
        chain.push((undo.install, put_back, Vec::new()));
        chain.push((undo.quarantine, Action::Restore(from.measurement), Vec::new()));
        chain.push((undo.stop, Action::Start(from), Vec::new()));
        chain.push((undo.stop, Action::Replicate { sources, to: from }, Vec::new()));
        chain.push((undo.drain, Action::Restart(from), Vec::new()));
        let code = Some(from.measurement);
        let itself = Action::Verify { targets: vec![own.clone()], need: 1, code };
        chain.push((undo.prepare, itself, Vec::new()));

        let mut last = None;
        for (undoes, action, mut gates) in chain {
            // Settled also where the step before undoes something that never began.
            gates.splice(0..0, last.map(Gate::Done));
            last = Some(self.draft.push_back((&own, number(wave)), undoes, action, gates));
        }
        last.unwrap_or(first)
    }

    /// A verification of all `targets`.
    fn verify(&mut self, by: usize, wave: u32, targets: Vec<NodeId>, gates: Vec<Gate>) -> StepId {
        let need = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        self.push(by, wave, Action::Verify { targets, need, code: None }, gates)
    }

    fn then(&mut self, position: usize, wave: u32, action: Action, after: StepId) -> StepId {
        self.draft.then(&self.layout.node(position).node, wave, action, after)
    }

    fn push(&mut self, position: usize, wave: u32, action: Action, gates: Vec<Gate>) -> StepId {
        self.draft.push(&self.layout.node(position).node, wave, action, gates)
    }

    /// What runs before and after at a position.
    fn codes(&self, position: usize) -> (Placement, Placement) {
        *self.codes.get(position).expect("there is one for each position")
    }

    fn undo_mut(&mut self, position: usize) -> &mut Undo {
        self.undo.get_mut(position).expect("there is one for each position")
    }
}

/// Waves are numbered from 1; 0 is before the first and after the last.
fn number(wave: usize) -> u32 {
    u32::try_from(wave).unwrap_or(u32::MAX).saturating_add(1)
}

fn report(
    (plan, bytes, need): (&Plan, usize, u32),
    layout: &Layout<'_>,
    inventory: &Inventory,
    pairs: &[(usize, usize)],
) -> PlanReport {
    let name = |position: usize| layout.node(position).node.clone();
    PlanReport {
        waves: layout.waves.iter().map(|range| layout.names(range.clone())).collect(),
        need,
        verifiers: pairs.iter().map(|(first, second)| (name(*first), name(*second))).collect(),
        steps: plan.steps.len(),
        rollback_steps: plan.rollback.len(),
        point_of_no_return: plan.point_of_no_return,
        downtime: Downtime::None,
        bytes,
        notes: notes(need, layout, inventory, pairs),
        service: None,
    }
}

fn notes(
    need: u32,
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
    notes.extend(draft::notes(need, inventory));
    notes
}
