//! An exclusive domain, one of whose nodes hands its keyring to other code by way of an upgrader.

use heirloom_model::counter::{Epoch, Generation, PlanNumber, SecurityVersion, Serial};
use heirloom_model::digest::Nonce;
use heirloom_model::domain::{
    Activation, ActivationCause, HoldingOrigin, LogPosition, PlanStep, Suspension,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{
    Action, Gate, KeyringGround, Placement, Plan, RollbackStep, Step, StepId, Strategy,
};
use heirloom_model::policy::{HolderRole, HolderRule, Policy, Sharing};
use heirloom_model::release::ReleaseKind;
use heirloom_model::root::Role;
use heirloom_registry::activity::Activity;
use heirloom_registry::plan::PlanStatus;

use crate::world::{CHECKSUM, DOMAIN, Instance, NEW, OLD, UPGRADER, World, name, signed};

/// Steps of [`World::handover`].
pub(crate) const VERIFY_VIA: u32 = 2;
pub(crate) const VERIFY_TO: u32 = 4;
pub(crate) const SUSPEND: u32 = 5;
pub(crate) const ACTIVATE: u32 = 6;
pub(crate) const FORGET: u32 = 8;
pub(crate) const RESTART_BACK: u32 = 9;
pub(crate) const ACTIVATE_BACK: u32 = 10;

impl World {
    /// One active holder at a time; the upgrader carries from old to new and back.
    pub(crate) fn exclusive_policy(&self) -> Policy {
        let rule = |measurement, gives_to: &[Measurement], role| HolderRule {
            measurement,
            security_version: SecurityVersion(2),
            gives_to: gives_to.to_vec(),
            role,
        };
        Policy {
            sharing: Sharing::Exclusive,
            holders: vec![
                rule(OLD, &[UPGRADER], HolderRole::Keeper),
                rule(NEW, &[UPGRADER], HolderRole::Keeper),
                rule(UPGRADER, &[OLD, NEW], HolderRole::Upgrader),
            ],
            ..self.policy()
        }
    }

    /// A network whose exclusive domain has a keyring on n1, and nobody who serves.
    pub(crate) fn exclusive() -> Self {
        let mut world = Self::equipped_with(Self::exclusive_policy);
        let mut upgrader = world.release("upgrader-1", UPGRADER);
        upgrader.kind = ReleaseKind::Upgrader;
        world.accept(&signed(&upgrader, Role::Release));
        world.accept(&signed(&world.order(), Role::Operator));
        let receipt = world.receipt("n1");
        world.accept(&Instance::new("n1", OLD).attest(&receipt));
        world
    }

    /// As before, with an active holder: the first start of old code on n1.
    pub(crate) fn served() -> Self {
        let mut world = Self::exclusive();
        let activation = world.activation("n1", ActivationCause::First);
        world.accept(&Instance::new("n1", OLD).attest(&activation));
        world
    }

    /// As before, with an approved handover whose steps before the suspension are done.
    pub(crate) fn handing_over() -> Self {
        let mut world = Self::served();
        let plan = world.handover();
        world.accept(&world.proposal(&plan));
        world.accept(&signed(&world.approval(&plan), Role::Operator));
        world.proceed(0..SUSPEND);
        world
    }

    /// As before, and the active holder said that it serves no more.
    pub(crate) fn suspended() -> Self {
        let mut world = Self::handing_over();
        let suspension = world.suspension("n1");
        world.accept(&Instance::new("n1", OLD).attest(&suspension));
        world
    }

    /// As before, by a plan whose last epoch this is.
    pub(crate) fn suspended_by_its_last_epoch() -> (Self, Plan) {
        let mut world = Self::served();
        let mut plan = world.handover();
        plan.not_after = world.state.epoch();
        world.accept(&world.proposal(&plan));
        world.accept(&signed(&world.approval(&plan), Role::Operator));
        for step in 0..SUSPEND {
            world.finish_of(&plan, step, "n1");
        }
        let mut suspension = world.suspension("n1");
        suspension.step.plan = plan.digest();
        world.accept(&Instance::new("n1", OLD).attest(&suspension));
        (world, plan)
    }

    /// Records good results of these steps of the handover.
    pub(crate) fn proceed(&mut self, steps: impl IntoIterator<Item = u32>) {
        let plan = self.handover();
        for step in steps {
            self.finish_of(&plan, step, "n1");
        }
    }

    /// From old to new code on n1, by way of the upgrader.
    pub(crate) fn handover(&self) -> Plan {
        let placement = |text, measurement, kind| {
            let mut release = self.release(text, measurement);
            release.kind = kind;
            Placement { release: release.digest(), measurement }
        };
        let from = placement("keeper-1", OLD, ReleaseKind::Keeper);
        let to = placement("keeper-2", NEW, ReleaseKind::Keeper);
        let via = placement("upgrader-1", UPGRADER, ReleaseKind::Upgrader);
        let step = |id: u32, action, after: &[u32]| Step {
            id: StepId(id),
            node: name("n1"),
            wave: 0,
            action,
            gates: after.iter().map(|before| Gate::Done(StepId(*before))).collect(),
        };
        let verify = |code| Action::Verify { targets: vec![name("n1")], need: 1, code: Some(code) };
        let hop = |from, to| Action::HandOver { from_node: name("n1"), from, to };
        let mut forget = step(FORGET, Action::Forget(via), &[7]);
        forget.gates.push(Gate::Waited { since: StepId(ACTIVATE), epochs: 2 });
        let back = |step| RollbackStep { step, undoes: StepId(SUSPEND) };
        let base = self.plan();
        Plan {
            number: PlanNumber(1),
            keyring: Some(KeyringGround {
                from,
                to,
                via: Some(via),
                ..base.keyring.clone().unwrap()
            }),
            strategy: Strategy::Handover,
            service: None,
            nodes: vec![name("n1")],
            steps: vec![
                step(0, Action::Prepare(to), &[]),
                step(1, hop(from, via), &[0]),
                step(VERIFY_VIA, verify(UPGRADER), &[1]),
                step(3, hop(via, to), &[VERIFY_VIA]),
                step(VERIFY_TO, verify(NEW), &[3]),
                step(SUSPEND, Action::Suspend(from), &[VERIFY_VIA, VERIFY_TO]),
                step(ACTIVATE, Action::Activate(to), &[SUSPEND]),
                step(7, Action::Stop(from), &[ACTIVATE]),
                forget,
            ],
            rollback: vec![
                back(step(RESTART_BACK, Action::Restart(from), &[])),
                back(step(ACTIVATE_BACK, Action::Activate(from), &[RESTART_BACK])),
            ],
            point_of_no_return: StepId(ACTIVATE),
            not_after: Epoch(100),
            nonce: Nonce::new([1; 32]),
            ..base
        }
    }

    /// A step of the handover.
    pub(crate) fn at_step(&self, step: u32) -> PlanStep {
        PlanStep { plan: self.handover().digest(), step: StepId(step) }
    }

    pub(crate) fn suspension(&self, node: &str) -> Suspension {
        Suspension {
            network: self.network,
            domain: DOMAIN,
            node: name(node),
            step: self.at_step(SUSPEND),
            generation: Generation(0),
            checksum: CHECKSUM,
            as_of: self.state.position(),
        }
    }

    pub(crate) fn activation(&self, node: &str, cause: ActivationCause) -> Activation {
        Activation {
            network: self.network,
            domain: DOMAIN,
            node: name(node),
            cause,
            generation: Generation(0),
            checksum: CHECKSUM,
            origin: HoldingOrigin::Recovered,
            as_of: self.state.position(),
        }
    }

    /// The activation of new code that the handover names.
    pub(crate) fn planned(&self) -> Activation {
        self.activation("n1", ActivationCause::Planned(self.at_step(ACTIVATE)))
    }

    pub(crate) fn activity(&self) -> &Activity {
        self.state.domain(&DOMAIN).unwrap().activity()
    }

    /// Whether this instance is the one that the log names.
    pub(crate) fn is_active(&self, instance: &Instance) -> bool {
        let active = self.activity().active();
        active.is_some_and(|active| *active.instance() == instance.key.public_key())
    }

    pub(crate) fn handover_status(&self) -> PlanStatus {
        self.state.plan(&self.handover().digest()).unwrap().status()
    }

    /// An order of the next generation for this node, with another nonce than that of genesis.
    pub(crate) fn next_order(&self, node: &str, nonce: u8) -> Envelope {
        let mut order = self.order();
        (order.node, order.nonce) = (name(node), Nonce::new([nonce; 32]));
        signed(&order, Role::Operator)
    }

    /// The position before the last `entries` entries.
    pub(crate) fn earlier(&self, entries: u64) -> LogPosition {
        let mut length = self.state.position().length;
        length.0 -= entries;
        LogPosition { length, head: *self.state.head_at(length).unwrap() }
    }

    /// The serial in force.
    pub(crate) fn serial(&self) -> Serial {
        self.state.policy(&DOMAIN).unwrap().serial
    }
}
