//! A run in words, for whoever looks into a failure.

use heirloom_model::digest::PlanDigest;
use heirloom_model::identifier::NodeId;

use super::{Run, lock};

impl Run {
    pub(super) fn describe(&self, plan: &PlanDigest) -> String {
        let world = lock(&self.world);
        let status = world
            .judge
            .plan(plan)
            .map(|plan| (plan.status(), plan.results().len(), plan.plan().steps.len()));
        let length = world.judge.position().length;
        drop(world);
        format!("{status:?}, log {length}, {:?}", self.nodes())
    }

    pub(super) fn nodes(&self) -> Vec<String> {
        let world = lock(&self.world);
        let describe = |(name, node): (&NodeId, &crate::world::SimNode)| {
            let running: Vec<_> = node
                .processes
                .values()
                .map(|process| process.keeper.status(world.now))
                .map(|status| (status.state, status.measurement, status.unreadable))
                .collect();
            let (live, installed) = (node.disk.sealers(), node.disk.installed);
            format!("{name}: {running:?}, installed {installed:?}, live {live:?}")
        };
        world.nodes.iter().map(describe).collect()
    }
}
