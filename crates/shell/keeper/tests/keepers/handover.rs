//! A keyring goes from seat to seat on one machine: old, upgrader, new. Over real sockets, with
//! real files, in the steps of a plan.

use heirloom_model::admin::{AdminRefusal, AdminRequest, AdminResponse, Source};
use heirloom_model::counter::{Epoch, Generation, PlanNumber, Serial};
use heirloom_model::digest::Nonce;
use heirloom_model::domain::{ActivationCause, HoldingOrigin, PlanStep};
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{
    Action, Gate, KeyringGround, Placement, Plan, RollbackStep, Step, StepId, Strategy,
};
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;
use heirloom_testkit::ceremony::{Code, FORGET_AFTER_EPOCHS};

use crate::wire::Wire;
use crate::world::{Node, World, requests};

const TO_VIA: u32 = 0;
const VERIFY_VIA: u32 = 1;
const TO_NEW: u32 = 2;
const VERIFY_NEW: u32 = 3;
const SUSPEND: u32 = 4;
const ACTIVATE: u32 = 5;
const VERIFY_AGAIN: u32 = 6;
const FORGET: u32 = 7;

/// An exclusive domain, its active holder, the upgrader and the new keeper beside it, and an
/// approved plan.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) plan: Plan,
    pub(crate) old: Node,
    pub(crate) via: Node,
    pub(crate) new: Node,
    /// Bytes that the donor sent in the first handover.
    pub(crate) carried: usize,
}

impl Scene {
    fn new() -> Self {
        Self::with(|world| {
            let mut first = world.seat("node-1", "1", 1, &world.old);
            world.accept(&world.ceremony.order(Generation(0), &first.name, Epoch(5)));
            world.feed(&first);
            let domain = world.state.domain(&world.ceremony.domain).unwrap();
            let order = domain.order().unwrap().order().nonce;
            world.accept_bytes(&first.statement(&AdminRequest::CreateGeneration { order }));
            world.feed(&first);
            first.running.take().unwrap().stop();
        })
    }

    /// The directory `1` has the keyring after `create`.
    pub(crate) fn with(create: impl FnOnce(&mut World)) -> Self {
        let mut world = World::exclusive();
        create(&mut world);
        let old = world.seat("node-1", "1", 1, &world.old);
        world.feed(&old);
        assert_eq!(old.status().state, ServingState::Standby);
        let domain = world.state.domain(&world.ceremony.domain).unwrap();
        let cause = match domain.activity().active() {
            None => ActivationCause::First,
            Some(_) => ActivationCause::Restarted,
        };
        activate(&mut world, &old, cause);
        let via = world.seat("node-1", "via", 1, &world.via);
        let new = world.seat("node-1", "new", 1, &world.new);
        let plan = plan(&world);
        world.accept(&world.ceremony.proposal(&plan));
        for operator in [0, 1] {
            let approval = world.ceremony.approval(plan.digest(), operator, plan.not_after);
            world.accept(&approval);
        }
        let mut scene = Self { world, plan, old, via, new, carried: 0 };
        for seat in [&scene.old, &scene.via, &scene.new] {
            register(&mut scene.world, seat);
        }
        scene.feed();
        scene
    }

    fn feed(&self) {
        self.world.attend(&self.old);
        self.world.feed(&self.via);
        self.world.feed(&self.new);
    }

    fn at(&self, step: u32) -> PlanStep {
        PlanStep { plan: self.plan.digest(), step: StepId(step) }
    }

    fn finish(&mut self, step: u32) {
        self.world.accept(&self.world.ceremony.result(&self.plan, StepId(step)));
        self.feed();
    }

    /// A seat proves what it recovered, and the step that asked is done.
    fn verify(&mut self, step: u32) {
        let nonce = Nonce::new([u8::try_from(step).unwrap(); 32]);
        self.world.accept(&self.world.ceremony.challenge(&self.plan, StepId(step), nonce));
        self.feed();
        let seat = if step == VERIFY_VIA { &self.via } else { &self.new };
        let proof = seat.statement(&AdminRequest::Prove { challenge: nonce });
        self.world.accept_bytes(&proof);
        self.finish(step);
    }

    /// The first hop, to its end.
    pub(crate) fn hand_over_to_via(&mut self) {
        let wire = Wire::to(&self.old.source().address, usize::MAX);
        let request = AdminRequest::HandOver { step: self.at(TO_VIA), source: wire.source() };
        assert_eq!(self.via.ask(&request), AdminResponse::Done);
        self.carried = wire.carried();
        assert_eq!(self.via.ask(&request), AdminResponse::Done, "it may be repeated");
        assert_eq!(wire.carried(), self.carried, "and then asks nobody");
    }

    /// Everything before the second hop.
    pub(crate) fn open_hop_to_new(&mut self) {
        self.world.restart(&mut self.via, &self.world.via);
        self.finish(TO_VIA);
        register(&mut self.world, &self.via);
        self.verify(VERIFY_VIA);
    }

    pub(crate) fn request_of_new(&self, source: &Source) -> AdminRequest {
        AdminRequest::HandOver { step: self.at(TO_NEW), source: source.clone() }
    }

    pub(crate) fn restart_new(&mut self) {
        self.world.restart(&mut self.new, &self.world.new);
        self.world.feed(&self.new);
    }

    pub(crate) fn register_new(&mut self) {
        register(&mut self.world, &self.new);
        self.feed();
    }

    /// Everything before the switch.
    fn prepared() -> Self {
        let mut scene = Self::new();
        scene.hand_over_to_via();
        scene.open_hop_to_new();
        let request = scene.request_of_new(&scene.via.source());
        assert_eq!(scene.new.ask(&request), AdminResponse::Done);
        assert_eq!(scene.new.status().holding.unwrap().origin, HoldingOrigin::Received);
        scene.restart_new();
        scene.finish(TO_NEW);
        scene.verify(VERIFY_NEW);
        scene
    }

    fn keys(&self, seat: &Node) -> Result<Vec<[u8; 32]>, String> {
        self.world.keys(seat, &requests(20)).into_iter().collect()
    }

    fn refusal(&self, seat: &Node) -> String {
        self.keys(seat).expect_err("nobody may serve here")
    }
}

fn register(world: &mut World, seat: &Node) {
    world.feed(seat);
    let registration = seat.statement(&AdminRequest::Register);
    world.accept_bytes(&registration);
    world.feed(seat);
}

fn activate(world: &mut World, seat: &Node, cause: ActivationCause) {
    let activation = seat.statement(&AdminRequest::Activate(cause));
    assert_eq!(seat.status().state, ServingState::Standby, "the log decides, not the statement");
    world.accept_bytes(&activation);
    world.attend(seat);
}

fn placement(world: &World, name: &str, code: &Code) -> Placement {
    let (_, release) = world.ceremony.release(name, code);
    Placement { release, measurement: code.measurement }
}

/// The bones of a handover: what keepers look at.
fn plan(world: &World) -> Plan {
    let node: NodeId = "node-1".parse().unwrap();
    let old = placement(world, "old-1", &world.old);
    let via = placement(world, "via-1", &world.via);
    let new = placement(world, "new-1", &world.new);
    let hop = |from: &Placement, to: &Placement| Action::HandOver {
        from_node: node.clone(),
        from: *from,
        to: *to,
    };
    let verify = |code: &Placement| Action::Verify {
        targets: vec![node.clone()],
        need: 1,
        code: Some(code.measurement),
    };
    let actions = [
        hop(&old, &via),
        verify(&via),
        hop(&via, &new),
        verify(&new),
        Action::Suspend(old),
        Action::Activate(new),
        verify(&new),
        Action::Forget(via),
        Action::Restart(old),
        Action::Activate(old),
    ];
    let mut steps: Vec<Step> = (0_u32..)
        .zip(actions)
        .map(|(id, action)| {
            let before = id.checked_sub(1).map(|before| Gate::Done(StepId(before)));
            let gates = before.into_iter().collect();
            Step { id: StepId(id), node: node.clone(), wave: 0, action, gates }
        })
        .collect();
    let waited = Gate::Waited { since: StepId(ACTIVATE), epochs: FORGET_AFTER_EPOCHS };
    steps[usize::try_from(FORGET).unwrap()].gates.push(waited);
    let mut back = steps.split_off(usize::try_from(FORGET + 1).unwrap());
    back[0].gates.clear();
    let undo = |step| RollbackStep { step, undoes: StepId(SUSPEND) };
    let rollback = back.into_iter().map(undo).collect();
    let domain = world.state.domain(&world.ceremony.domain).unwrap();
    let committed = domain.committed().unwrap();
    Plan {
        network: world.ceremony.network,
        keyring: Some(KeyringGround {
            from: old,
            to: new,
            via: Some(via),
            policy: Serial(1),
            generation: committed.generation,
            checksum: committed.checksum,
            holders_min: 1,
            others: Vec::new(),
        }),
        domain: world.ceremony.domain,
        number: PlanNumber(1),
        strategy: Strategy::Handover,
        nodes: vec![node.clone()],
        steps,
        rollback,
        point_of_no_return: StepId(ACTIVATE),
        not_after: Epoch(world.state.epoch().0 + 50),
        nonce: Nonce::new([3; 32]),
        service: None,
        participant: None,
    }
}

/// The whole way, as an agent would take it.
#[test]
fn a_keyring_goes_from_old_by_way_of_an_upgrader_to_new() {
    let mut scene = Scene::prepared();
    let keys = scene.keys(&scene.old).unwrap();
    let carrying = scene.via.status();
    assert_eq!((carrying.role, carrying.state), (HolderRole::Upgrader, ServingState::Carrying));
    let refused = "this keeper is not serving: ";
    assert_eq!(scene.refusal(&scene.via), format!("{refused}carrying"));
    assert_eq!(scene.refusal(&scene.new), format!("{refused}standby"));

    let may_send = |seat: &Node| seat.running.as_ref().unwrap().service().may_send_keys();
    assert!(may_send(&scene.old) && !may_send(&scene.via) && !may_send(&scene.new));
    let suspension = scene.old.statement(&AdminRequest::Suspend(scene.at(SUSPEND)));
    // From this moment on, although the log knows nothing of it.
    assert!(!may_send(&scene.old), "not even what was derived before");
    assert_eq!(scene.refusal(&scene.old), format!("{refused}suspended"));
    scene.world.accept_bytes(&suspension);
    scene.finish(SUSPEND);
    let planned = ActivationCause::Planned(scene.at(ACTIVATE));
    activate(&mut scene.world, &scene.new, planned);
    assert_eq!(scene.new.status().state, ServingState::Ready);
    assert_eq!(scene.keys(&scene.new).unwrap(), keys);
    scene.world.attend(&scene.old);
    assert!(scene.refusal(&scene.old).starts_with(refused));

    scene.finish(ACTIVATE);
    scene.world.attend(&scene.new);
    scene.verify(VERIFY_AGAIN);
    let forget = AdminRequest::Forget(scene.at(FORGET));
    let early = scene.via.ask(&forget);
    let is_early = matches!(early, AdminResponse::Refused(AdminRefusal::NotAuthorised(_)));
    assert!(is_early, "{early:?}");
    assert_eq!(scene.via.status().state, ServingState::Carrying);
    for _ in 0..FORGET_AFTER_EPOCHS {
        let next = Epoch(scene.world.state.epoch().0 + 1);
        scene.world.accept(&scene.world.ceremony.epoch(next));
    }
    scene.feed();
    // A write of the keyring was interrupted: where, nobody can say.
    let unfinished = scene.via.state.join(".keyring-0-0.sealed.new");
    std::fs::create_dir(&unfinished).unwrap();
    let stuck = scene.via.ask(&forget);
    assert!(matches!(stuck, AdminResponse::Refused(AdminRefusal::Storage(_))), "{stuck:?}");
    assert_eq!(scene.via.status().state, ServingState::Carrying);
    std::fs::remove_dir(&unfinished).unwrap();
    std::fs::write(&unfinished, b"sealed").unwrap();
    assert_eq!(scene.via.ask(&forget), AdminResponse::Done);
    assert_eq!(scene.via.status().state, ServingState::Empty);
    let left = std::fs::read_dir(&scene.via.state).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    let is_witness = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("witness");
    assert!(left.iter().all(is_witness), "{left:?}");
    assert_eq!(scene.via.ask(&forget), AdminResponse::Done, "it may be repeated");
    scene.world.restart(&mut scene.via, &scene.world.via);
    scene.world.feed(&scene.via);
    assert_eq!(scene.via.status().state, ServingState::Empty, "nothing is left on disk");
    scene.world.attend(&scene.new);
    assert_eq!(scene.keys(&scene.new).unwrap(), keys);
}

#[test]
fn who_was_active_never_becomes_so_again_by_starting_anew() {
    let mut scene = Scene::prepared();
    let early =
        scene.new.ask(&AdminRequest::Activate(ActivationCause::Planned(scene.at(ACTIVATE))));
    assert!(matches!(early, AdminResponse::Refused(_)), "old is not suspended: {early:?}");
    let other = scene.new.ask(&AdminRequest::Suspend(scene.at(SUSPEND)));
    assert!(matches!(other, AdminResponse::Refused(_)), "new is not active: {other:?}");
    let suspension = scene.old.statement(&AdminRequest::Suspend(scene.at(SUSPEND)));

    // The statement is lost with the process, or kept back: whoever starts anew from the same
    // files is another instance.
    scene.world.restart(&mut scene.old, &scene.world.old);
    scene.world.attend(&scene.old);
    assert_eq!(scene.old.status().state, ServingState::Standby);
    scene.world.accept_bytes(&suspension);
    scene.finish(SUSPEND);
    for cause in [
        ActivationCause::First,
        ActivationCause::Restarted,
        ActivationCause::Planned(scene.at(ACTIVATE)),
    ] {
        let refused = scene.old.ask(&AdminRequest::Activate(cause));
        assert!(matches!(refused, AdminResponse::Refused(_)), "{cause:?}: {refused:?}");
    }
    let planned = ActivationCause::Planned(scene.at(ACTIVATE));
    activate(&mut scene.world, &scene.new, planned);
    assert_eq!(scene.new.status().state, ServingState::Ready);
}

/// Its evidence is genuine and its node's agent vouches for it, but it is not where it says.
#[test]
fn an_upgrader_on_another_machine_gets_nothing() {
    let mut scene = Scene::new();
    let far = scene.world.seat("node-1", "far", 2, &scene.world.via);
    register(&mut scene.world, &far);
    scene.feed();
    let request = AdminRequest::HandOver { step: scene.at(TO_VIA), source: scene.old.source() };
    match far.ask(&request) {
        AdminResponse::Refused(AdminRefusal::NotReplicated(reason)) => {
            assert!(reason.contains("platform"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(far.status().state, ServingState::Empty);
    let files = std::fs::read_dir(&far.state).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(files.into_iter().all(|name| name.to_string_lossy().starts_with("witness")));
}

/// In an exclusive domain nobody receives by merely asking.
#[test]
fn a_keyring_of_an_exclusive_domain_is_not_replicated() {
    let scene = Scene::new();
    for seat in [&scene.via, &scene.new] {
        let replicate = AdminRequest::Replicate { sources: vec![scene.old.source()] };
        let refused = seat.ask(&replicate);
        assert!(matches!(refused, AdminResponse::Refused(_)), "{refused:?}");
        assert_eq!(seat.status().state, ServingState::Empty);
    }
    // A step of the plan, but not this seat's, or not its turn.
    for (seat, step) in [(&scene.new, TO_VIA), (&scene.via, TO_NEW), (&scene.new, TO_NEW)] {
        let source = scene.old.source();
        let refused = seat.ask(&AdminRequest::HandOver { step: scene.at(step), source });
        let expected = matches!(refused, AdminResponse::Refused(_));
        assert!(expected, "{step}: {refused:?}");
        assert_eq!(seat.status().state, ServingState::Empty);
    }
}
