//! Clients who pay, services that agree on blocks, and the archive that gets them.
//!
//! A majority of all nodes agrees on each block: processes of one code and one configuration that
//! reach each other and may append. Who was away catches up with the longest ledger it meets.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::digest::{BlockId, PlanDigest};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, ServiceAction, StepId};
use heirloom_model::service::{Height, Tip, Writing};
use heirloom_registry::plan::PlanState;
use heirloom_upgrade::port::EdgeAdmission;

use super::{Chain, Database, Instance, Job, Work};
use crate::invariant_service::ServiceViolation;
use crate::world::World;

/// Everybody outside of the nodes.
#[derive(Debug, Default)]
pub struct Market {
    /// The code before.
    pub from: Option<Measurement>,
    /// The code after.
    pub to: Option<Measurement>,
    /// The plan.
    pub plan: Option<PlanDigest>,
    /// Whether clients pay.
    pub pays: bool,
    /// Payments that clients were told are done, with the block that has them.
    pub accepted: BTreeMap<u64, Tip>,
    /// The block of the payment that was accepted last.
    pub newest: Option<Tip>,
    /// Every block that was distributed.
    pub archive: BTreeMap<Height, BlockId>,
    /// What was seen to be wrong in the moment in which it happened.
    pub seen: Vec<ServiceViolation>,
    /// Payments whose clients have no answer, and try again.
    unanswered: BTreeSet<u64>,
    numbers: u64,
}

impl Market {
    /// A number that nothing else has.
    pub fn number(&mut self) -> u64 {
        self.numbers = self.numbers.saturating_add(1);
        self.numbers
    }
}

/// Chances in a thousand, each round.
mod chance {
    /// A client pays.
    pub(super) const PAYS: u32 = 300;
    /// It is one that has no answer yet.
    pub(super) const AGAIN: u32 = 300;
    /// An answer is lost.
    pub(super) const LOST: u32 = 50;
    /// The services agree on what is pending at a node.
    pub(super) const AGREES: u32 = 500;
    /// A node that was away catches up.
    pub(super) const CATCHES_UP: u32 = 250;
    /// A payment that is pending is given up.
    pub(super) const GIVES_UP: u32 = 20;
    /// The service writes something itself.
    pub(super) const BEATS: u32 = 2;
    /// Distribution takes what is new.
    pub(super) const DISTRIBUTES: u32 = 400;
    /// A migration that is under way ends.
    pub(super) const MIGRATES: u32 = 60;
    /// A process that can ask for its keys does so.
    pub(super) const ASKS: u32 = 400;
}

impl World {
    /// What happens besides agents and keepers in one round.
    pub fn serve(&mut self) {
        if self.market.from.is_none() {
            return;
        }
        let names: Vec<NodeId> = self.nodes.keys().cloned().collect();
        self.client(&names);
        for name in &names {
            self.fail(name);
            self.work(name);
            self.ask_for_keys(name);
            if self.chance(chance::CATCHES_UP) {
                self.catch_up(name);
            }
            self.settle_payments(name);
            if self.chance(chance::DISTRIBUTES) {
                self.distribute(name);
            }
        }
        if self.chance(chance::BEATS) {
            let index = self.below(u32::try_from(names.len()).unwrap_or(1));
            let name = names.get(usize::try_from(index).unwrap_or(0));
            let number = self.market.number();
            // Behind the fence the new code writes nothing but what it was given to do.
            if let Some(name) = name.filter(|name| self.code_of(name) == self.market.from) {
                let _tip = self.agree(name, Work::Beat(number));
            }
        }
    }

    fn code_of(&self, node: &NodeId) -> Option<Measurement> {
        Some(self.service(node)?.instance.as_ref()?.code)
    }

    fn instance_mut(&mut self, node: &NodeId) -> Option<&mut Instance> {
        self.node(node).service.as_mut()?.instance.as_mut()
    }

    /// A process dies, or a proxy forgets what it was told.
    fn fail(&mut self, node: &NodeId) {
        let (dies, forgets) = (self.faults.keeper / 4, self.faults.peer / 10);
        if self.chance(dies) {
            self.note(|| format!("{node}: the service dies"));
            self.kill_service(node);
        }
        if self.chance(forgets) {
            let edge = self.any_edge();
            self.note(|| format!("{node}: the proxy is {edge:?} after a reload"));
            if let Some(service) = &mut self.node(node).service {
                service.edge = edge;
            }
        }
    }

    /// What a proxy does that was told nothing.
    pub fn any_edge(&mut self) -> EdgeAdmission {
        if self.chance(500) { EdgeAdmission::Open } else { EdgeAdmission::Closed }
    }

    /// The process of a service is gone, with what was pending in it.
    pub fn kill_service(&mut self, node: &NodeId) {
        if let Some(service) = &mut self.node(node).service {
            service.instance = None;
        }
    }

    /// A migration that somebody began comes to its end.
    fn work(&mut self, node: &NodeId) {
        let ends = self.chance(chance::MIGRATES);
        let Some(service) = self.node(node).service.as_mut().filter(|_| ends) else { return };
        let Some(Job { plan, schema }) = service.job.take() else { return };
        let chain = service.kept.database().chain.clone();
        service.kept.copies.insert(plan, Database { schema, chain });
        service.kept.live = Some(plan);
    }

    fn ask_for_keys(&mut self, node: &NodeId) {
        let given = self.keys_are_given(node) && self.chance(chance::ASKS);
        if let Some(instance) = self.instance_mut(node) {
            instance.keyed |= given;
        }
    }

    /// A client pays at some node, or tries again what nobody answered.
    fn client(&mut self, names: &[NodeId]) {
        if !self.market.pays || !self.chance(chance::PAYS) {
            return;
        }
        let index = self.below(u32::try_from(names.len()).unwrap_or(1));
        let Some(name) = names.get(usize::try_from(index).unwrap_or(0)) else { return };
        let old = self.market.unanswered.first().copied().filter(|_| self.chance(chance::AGAIN));
        let number = old.unwrap_or_else(|| self.market.number());
        self.market.unanswered.insert(number);
        let takes = self.service(name).is_some_and(super::SimService::lets_in);
        if takes && self.is_active(name) {
            self.watch_admission(name);
            if let Some(instance) = self.instance_mut(name) {
                instance.pending.push(number);
            }
        }
    }

    /// What is pending at a node is agreed on, or given up.
    fn settle_payments(&mut self, node: &NodeId) {
        let pending = self.instance_mut(node).map(|it| std::mem::take(&mut it.pending));
        let mut left = Vec::new();
        for number in pending.unwrap_or_default() {
            let agrees = self.chance(chance::AGREES);
            let agreed = if agrees { self.pay(node, number) } else { None };
            match agreed {
                Some(tip) if !self.chance(chance::LOST) => {
                    self.market.unanswered.remove(&number);
                    self.market.accepted.insert(number, tip);
                }
                Some(_) => {}
                None if self.chance(chance::GIVES_UP) => {}
                None => left.push(number),
            }
        }
        if let Some(instance) = self.instance_mut(node) {
            instance.pending.extend(left);
        }
    }

    /// Puts a payment into a block, once.
    fn pay(&mut self, node: &NodeId, number: u64) -> Option<Tip> {
        let longest = self.longest(&self.group(node))?;
        let is_it = |work: Work| work == Work::Payment(number);
        if let Some(at) = longest.blocks().iter().position(|block| is_it(block.work)) {
            let height = Height(u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1));
            return longest.at(height).map(|block| Tip { height, id: block.id });
        }
        self.watch_payment(node);
        let tip = self.agree(node, Work::Payment(number))?;
        self.market.newest = Some(tip);
        Some(tip)
    }

    fn is_active(&self, node: &NodeId) -> bool {
        let reached = self.nodes.get(node).is_some_and(|it| !it.partitioned);
        let instance = self.service(node).and_then(|service| service.instance.as_ref());
        reached && instance.is_some_and(|it| it.writing == Writing::Active && it.keyed)
    }

    /// Who agrees with this node on blocks: everybody who may append, reaches the others, and has
    /// the same code and configuration.
    fn group(&self, node: &NodeId) -> Vec<NodeId> {
        let what = |name: &NodeId| {
            let instance = self.service(name)?.instance.as_ref()?;
            self.is_active(name).then_some((instance.code, instance.configuration))
        };
        let Some(own) = what(node) else { return Vec::new() };
        self.nodes.keys().filter(|name| what(name) == Some(own)).cloned().collect()
    }

    /// The longest ledger of a majority.
    fn longest(&self, group: &[NodeId]) -> Option<Chain> {
        if group.len().saturating_mul(2) <= self.nodes.len() {
            return None;
        }
        let chains = group.iter().filter_map(|name| self.service(name));
        let chains = chains.map(|service| &service.kept.database().chain);
        chains.max_by_key(|chain| chain.tip().height).cloned()
    }

    /// A majority agrees on one block more, and has it.
    pub fn agree(&mut self, node: &NodeId, work: Work) -> Option<Tip> {
        let group = self.group(node);
        let mut next = self.longest(&group)?;
        next.append(work);
        let takes = |name: &&NodeId| {
            self.service(name).is_some_and(|it| next.continues(&it.kept.database().chain))
        };
        let takers: Vec<NodeId> = group.iter().filter(takes).cloned().collect();
        if takers.len().saturating_mul(2) <= self.nodes.len() {
            return None;
        }
        for name in &takers {
            self.take(name, &next);
        }
        Some(next.tip())
    }

    fn take(&mut self, node: &NodeId, chain: &Chain) {
        let now = self.now;
        if let Some(service) = &mut self.node(node).service {
            service.kept.database_mut().chain = chain.clone();
            if let Some(instance) = &mut service.instance {
                instance.quiet_since = now;
            }
        }
    }

    /// A node takes what its peers have, unless it is another ledger.
    fn catch_up(&mut self, node: &NodeId) {
        let mut ahead: Option<Chain> = None;
        let Some(own) = self.service(node).map(|it| it.kept.database().chain.clone()) else {
            return;
        };
        for name in self.group(node) {
            let Some(peer) = self.service(&name).map(|it| &it.kept.database().chain) else {
                continue;
            };
            let best = ahead.as_ref().unwrap_or(&own);
            if peer.tip().height > best.tip().height {
                ahead = Some(peer.clone());
            }
        }
        let Some(ahead) = ahead else { return };
        if ahead.continues(&own) {
            self.take(node, &ahead);
        } else if let Some(instance) = self.instance_mut(node) {
            instance.fork = Some(ahead.tip());
        }
    }

    /// New blocks of a node go to the archive.
    fn distribute(&mut self, node: &NodeId) {
        let Some(service) = self.service(node).filter(|service| service.distributes) else {
            return;
        };
        let chain = &service.kept.database().chain;
        let known = self.market.archive.last_key_value().map_or(Height(0), |(height, _)| *height);
        let mut wrong = Vec::new();
        let mut new = Vec::new();
        for (height, block) in (1..).map(Height).zip(chain.blocks()) {
            match self.market.archive.get(&height) {
                Some(id) if *id == block.id => {}
                Some(_) => wrong.push(height),
                None if height > known => new.push((height, block.id)),
                None => {}
            }
        }
        self.market.archive.extend(new);
        let found = |height| ServiceViolation::OtherBlock { node: node.clone(), height };
        self.market.seen.extend(wrong.into_iter().map(found));
    }

    /// Whether the plan is committed to; none if it replaces no code.
    pub fn is_committed(&self) -> Option<bool> {
        let plan = self.service_plan()?;
        let commit = plan.plan().steps.iter().find(|step| step.action == Action::Commit)?;
        Some(plan.done_at(commit.id).is_some())
    }

    /// Sees whether the right code is paid, in the moment in which a block is agreed on.
    fn watch_payment(&mut self, node: &NodeId) {
        let Some(code) = self.code_of(node) else { return };
        let Some(committed) = self.is_committed() else { return };
        let is_new = Some(code) == self.market.to;
        if is_new != committed {
            let node = node.clone();
            self.market.seen.push(ServiceViolation::WrongCode { node, code, committed });
        }
    }

    fn watch_admission(&mut self, node: &NodeId) {
        self.watch_payment(node);
    }

    /// Sees whether the plan lets clients in, in the moment in which a proxy is told to do so.
    pub(super) fn watch_edge(&mut self, node: &NodeId) {
        let Some(plan) = self.service_plan() else { return };
        if plan.aborted().is_some() {
            return;
        }
        let settled = |wanted: fn(&Action) -> bool| {
            step_of(plan, node, wanted).is_some_and(|step| plan.done_at(step).is_some())
        };
        let fenced = settled(|action| matches!(action, Action::Service(ServiceAction::Fence(_))));
        let may_open = match self.is_committed() {
            Some(committed) => committed,
            None => settled(|action| matches!(action, Action::Service(ServiceAction::Join(_)))),
        };
        if fenced && !may_open {
            self.market.seen.push(ServiceViolation::OpenedBehindFence { node: node.clone() });
        }
    }
}

/// The forward step of a node with such an action.
pub fn step_of(plan: &PlanState, node: &NodeId, wanted: fn(&Action) -> bool) -> Option<StepId> {
    let steps = &plan.plan().steps;
    Some(steps.iter().find(|step| step.node == *node && wanted(&step.action))?.id)
}
