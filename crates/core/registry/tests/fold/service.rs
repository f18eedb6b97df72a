//! A flag day of three nodes, each of which runs one instance of a service.

use heirloom_model::counter::{Epoch, SecurityVersion, Serial};
use heirloom_model::domain::LogPosition;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::plan::{
    Abort, Action, Gate, KeyringGround, Placement, Plan, RollbackStep, ServiceAction, Step, StepId,
    Strategy,
};
use heirloom_model::policy::{ApplicationRule, KeyScope, Policy};
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_model::root::Role;
use heirloom_model::service::{Rehearsal, Standing};
use heirloom_model::{digest::NetworkId, digest::PlanDigest};
use heirloom_registry::plan::{PlanState, PlanStatus};
use heirloom_testkit::service::{self, APPLICATION, tip};

use crate::world::{Instance, OLD, World, agent, name, role_keys, signed};

/// The service before.
pub(crate) const APP_OLD: Measurement = Measurement::Sgx(MrEnclave::new([0x11; 32]));
/// The service after.
pub(crate) const APP_NEW: Measurement = Measurement::Sgx(MrEnclave::new([0x12; 32]));
pub(crate) const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Where the ledger froze.
pub(crate) const FROZEN: u64 = 7;
/// When the window opens.
pub(crate) const OPENS: Epoch = Epoch(2);
/// The last epoch of the window.
pub(crate) const ABORT_AFTER: Epoch = Epoch(4);

/// The first step of each block of the plan: three steps, but one of `VERIFY_AGAIN`, `COMMIT`.
pub(crate) const EQUIP: u32 = 1;
pub(crate) const MUSTER: u32 = 4;
pub(crate) const FENCE: u32 = 7;
pub(crate) const FREEZE: u32 = 10;
pub(crate) const HALT: u32 = 13;
pub(crate) const MIGRATE: u32 = 19;
pub(crate) const DEPLOY: u32 = 22;
pub(crate) const LAUNCH: u32 = 25;
pub(crate) const JOIN: u32 = 28;
pub(crate) const EXERCISE: u32 = 31;
pub(crate) const VERIFY_AGAIN: u32 = 34;
pub(crate) const COMMIT: u32 = 35;
pub(crate) const OPEN: u32 = 36;
pub(crate) const WATCH: u32 = 39;
/// The first step after the last.
pub(crate) const END_OF_PLAN: u32 = 42;

/// A network with a flag day.
pub(crate) struct FlagDay {
    pub(crate) world: World,
    pub(crate) plan: Plan,
}

pub(crate) fn application_release(world: &World, text: &str, code: Measurement) -> Release {
    Release { kind: ReleaseKind::Application, ..world.release(text, code) }
}

fn policy_with_applications(world: &World) -> Policy {
    let rule = |measurement| ApplicationRule {
        application: name(APPLICATION),
        measurement,
        security_version: SecurityVersion(2),
        keys: KeyScope::All,
    };
    Policy { applications: vec![rule(APP_OLD), rule(APP_NEW)], ..world.policy() }
}

/// Counts steps and makes one for each node.
struct Block {
    steps: Vec<Step>,
}

impl Block {
    fn one(&mut self, node: &str, action: Action, gates: &[Gate]) {
        let id = StepId(u32::try_from(self.steps.len()).unwrap());
        self.steps.push(Step { id, node: name(node), wave: 0, action, gates: gates.to_vec() });
    }

    fn all(&mut self, action: &Action, gates: &[Gate]) {
        for node in NODES {
            self.one(node, action.clone(), gates);
        }
    }
}

pub(crate) fn all_done(first: u32) -> Gate {
    Gate::AllDone { first: StepId(first), last: StepId(first + 2) }
}

pub(crate) fn agreed(first: u32) -> Gate {
    Gate::Agreed { first: StepId(first), last: StepId(first + 2) }
}

fn done(step: u32) -> Gate {
    Gate::Done(StepId(step))
}

fn verify() -> Action {
    Action::Verify { targets: vec![name("n1"), name("n2")], need: 1, code: None }
}

pub(crate) fn forward(from: Placement, to: Placement) -> Vec<Step> {
    let mut steps = Block { steps: Vec::new() };
    steps.one("n1", verify(), &[]);
    steps.all(&Action::Service(ServiceAction::Equip(to)), &[]);
    let muster = [all_done(EQUIP), done(0), Gate::Epoch(OPENS), Gate::Rehearsed { need: 1 }];
    steps.all(&Action::Service(ServiceAction::Muster(from)), &muster);
    steps.all(&Action::Service(ServiceAction::Fence(from)), &[all_done(MUSTER)]);
    steps.all(&Action::Service(ServiceAction::Freeze(from)), &[all_done(FENCE)]);
    steps.all(&Action::Service(ServiceAction::Halt(from)), &[all_done(FREEZE), agreed(FREEZE)]);
    steps.all(&Action::Service(ServiceAction::Snapshot), &[all_done(HALT)]);
    steps.all(&Action::Service(ServiceAction::Migrate), &[all_done(HALT + 3)]);
    steps.all(
        &Action::Service(ServiceAction::Deploy { expect: from, install: to }),
        &[all_done(MIGRATE)],
    );
    steps.all(&Action::Service(ServiceAction::Launch(to)), &[all_done(DEPLOY)]);
    steps.all(&Action::Service(ServiceAction::Join(to)), &[all_done(LAUNCH), agreed(LAUNCH)]);
    steps.all(&Action::Service(ServiceAction::Exercise(to)), &[all_done(JOIN)]);
    steps.one("n1", verify(), &[all_done(EXERCISE)]);
    steps.one("n1", Action::Commit, &[all_done(EXERCISE), done(VERIFY_AGAIN)]);
    steps.one("n1", Action::Service(ServiceAction::Open(to)), &[done(COMMIT)]);
    steps.one("n2", Action::Service(ServiceAction::Open(to)), &[done(OPEN)]);
    steps.one("n3", Action::Service(ServiceAction::Open(to)), &[done(OPEN)]);
    steps.all(&Action::Service(ServiceAction::Watch(to)), &[all_done(OPEN)]);
    steps.steps
}

pub(crate) fn back(from: Placement, to: Placement) -> Vec<RollbackStep> {
    let mut id = END_OF_PLAN;
    let mut steps = Vec::new();
    for (index, node) in (0..).zip(NODES) {
        let way = [
            (Action::Service(ServiceAction::Halt(to)), LAUNCH),
            (Action::Service(ServiceAction::Revert), MIGRATE),
            (Action::Service(ServiceAction::Deploy { expect: to, install: from }), DEPLOY),
            (Action::Service(ServiceAction::Launch(from)), HALT),
            (Action::Service(ServiceAction::Open(from)), FENCE),
        ];
        for (place, (action, undoes)) in way.into_iter().enumerate() {
            let gates = if place == 0 { Vec::new() } else { vec![done(id - 1)] };
            let step = Step { id: StepId(id), node: name(node), wave: 0, action, gates };
            steps.push(RollbackStep { step, undoes: StepId(undoes + index) });
            id += 1;
        }
    }
    steps
}

impl FlagDay {
    /// The plan is made and not put forward.
    pub(crate) fn planned() -> Self {
        let mut world = World::equipped_with(policy_with_applications);
        let from = application_release(&world, "ledger-1", APP_OLD);
        let to = application_release(&world, "ledger-2", APP_NEW);
        world.accept(&signed(&from, Role::Release));
        world.accept(&signed(&to, Role::Release));
        world.accept(&signed(&world.order(), Role::Operator));
        for node in ["n1", "n2"] {
            let receipt = world.receipt(node);
            world.accept(&Instance::new(node, OLD).attest(&receipt));
        }
        let change = service::change(&from, &to, OPENS, ABORT_AFTER);
        let (from, to) = (change.from, change.to);
        let base = world.plan();
        let kept = base.keyring.clone().unwrap();
        let plan = Plan {
            strategy: Strategy::FlagDay,
            keyring: Some(KeyringGround { to: kept.from, ..kept }),
            steps: forward(from, to),
            rollback: back(from, to),
            point_of_no_return: StepId(COMMIT),
            not_after: Epoch(6),
            service: Some(change),
            ..base
        };
        Self { world, plan }
    }

    /// Put forward, not approved.
    pub(crate) fn proposed() -> Self {
        let mut day = Self::planned();
        let proposal = day.world.proposal(&day.plan);
        day.world.accept(&proposal);
        day
    }

    /// Approved and rehearsed, in an open window.
    pub(crate) fn approved() -> Self {
        Self::approved_with(|_| {})
    }

    /// A plan that differs, approved and rehearsed, in an open window.
    pub(crate) fn approved_with(make: impl FnOnce(&mut Plan)) -> Self {
        let mut day = Self::planned();
        make(&mut day.plan);
        let proposal = day.world.proposal(&day.plan);
        day.world.accept(&proposal);
        let approval = day.world.approval(&day.plan);
        day.world.accept(&signed(&approval, Role::Operator));
        let rehearsal = day.rehearsal();
        day.world.accept(&Envelope::signed(&rehearsal, &role_keys(Role::Operator)[..1]));
        day.world.tick();
        assert_eq!(day.world.state.epoch(), OPENS);
        day
    }

    /// Every step before this one is done.
    pub(crate) fn at(step: u32) -> Self {
        let mut day = Self::approved();
        day.advance(0, step);
        day
    }

    /// Carries out these steps.
    pub(crate) fn advance(&mut self, first: u32, end: u32) {
        for step in first..end {
            self.carry_out(step);
        }
    }

    /// One step: its service states what it must, and its agent says that it is done.
    pub(crate) fn carry_out(&mut self, step: u32) {
        if self.asks(step) {
            let statement = stated(&self.standing(step));
            self.world.accept(&statement);
        }
        self.world.prove_step(&self.plan, step);
        let result = self.result(step);
        self.world.accept(&result);
    }

    fn asks(&self, step: u32) -> bool {
        matches!(
            self.plan.step(StepId(step)).unwrap().action,
            Action::Service(
                ServiceAction::Equip(_)
                    | ServiceAction::Muster(_)
                    | ServiceAction::Freeze(_)
                    | ServiceAction::Launch(_)
                    | ServiceAction::Join(_)
                    | ServiceAction::Watch(_)
            )
        )
    }

    /// What the service states for a step if all is well.
    pub(crate) fn standing(&self, step: u32) -> Standing {
        service::standing(self.world.network, &self.plan, StepId(step), tip(FROZEN))
    }

    pub(crate) fn result(&self, step: u32) -> Envelope {
        let node = self.node(step);
        self.world.result_of(&self.plan, step, node.as_str())
    }

    pub(crate) fn node(&self, step: u32) -> NodeId {
        self.plan.step(StepId(step)).unwrap().node.clone()
    }

    pub(crate) fn rehearsal(&self) -> Rehearsal {
        Rehearsal {
            network: self.world.network,
            terms: self.plan.service.as_ref().unwrap().terms.digest(),
            rehearsed_on: NetworkId::new([0x77; 32]),
            plan: PlanDigest::new([0x78; 32]),
            seen: LogPosition::START,
        }
    }

    /// The agent of a node calls the plan off.
    pub(crate) fn abort_of(&self, node: &str) -> Abort {
        Abort {
            network: self.world.network,
            plan: self.plan.digest(),
            node: Some(name(node)),
            reason: Some("the disk is full".to_owned()),
        }
    }

    pub(crate) fn state(&self) -> &PlanState {
        self.world.state.plan(&self.plan.digest()).unwrap()
    }

    pub(crate) fn status(&self) -> PlanStatus {
        self.state().status()
    }

    /// Lets the clock advance to this epoch.
    pub(crate) fn tick_to(&mut self, epoch: Epoch) {
        while self.world.state.epoch() < epoch {
            self.world.tick();
        }
    }
}

/// A statement as the instance on its node makes it.
pub(crate) fn stated(standing: &Standing) -> Envelope {
    Instance::new(standing.node.as_str(), standing.measurement).attest(standing)
}

/// An abort, as its agent signs it.
pub(crate) fn by_agent(abort: &Abort) -> Envelope {
    Envelope::signed(abort, [&agent(abort.node.as_ref().unwrap().as_str())])
}

/// The next policy, without the service's new code.
pub(crate) fn without_new_service(world: &World) -> Policy {
    let mut policy = policy_with_applications(world);
    policy.applications.retain(|rule| rule.measurement == APP_OLD);
    assert_eq!(policy.serial, Serial(2));
    policy
}
