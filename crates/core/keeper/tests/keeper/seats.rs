//! One host with three seats, and the plan that hands its keyring from the first to the last.

use heirloom_keeper::handover::{DonorSession, ReceiverAsk};
use heirloom_keeper::handshake::Peer;
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_keeper::port::Platform;
use heirloom_model::counter::{Epoch, PlanNumber, Serial};
use heirloom_model::digest::{Nonce, PlanDigest, ReleaseDigest, sha256};
use heirloom_model::domain::{ActivationCause, HoldingOrigin, PlanStep, PossessionProof};
use heirloom_model::envelope::Envelope;
use heirloom_model::handover::{HandoverChallenge, HandoverRequest};
use heirloom_model::plan::{
    Action, Gate, KeyringGround, Placement, Plan, RollbackStep, Step, StepId, Strategy,
};
use heirloom_model::policy::{Policy, Sharing};
use heirloom_model::protocol::{PeerRefusal, PeerRequest, PeerResponse, ServingState};
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_testkit::ceremony::{Ceremony, Code, FORGET_AFTER_EPOCHS};

use crate::world::{Disk, Node, World};

/// Steps of [`Play::plan`].
pub(crate) const ASK_OLD: u32 = 0;
pub(crate) const TO_VIA: u32 = 1;
pub(crate) const ASK_VIA: u32 = 2;
pub(crate) const TO_NEW: u32 = 3;
pub(crate) const ASK_NEW: u32 = 4;
pub(crate) const SUSPEND: u32 = 5;
pub(crate) const ACTIVATE: u32 = 6;
pub(crate) const ASK_AGAIN: u32 = 7;
pub(crate) const FORGET: u32 = 8;
pub(crate) const ACTIVATE_BACK: u32 = 9;
pub(crate) const ASK_BACK: u32 = 10;
pub(crate) const FORGET_BACK: u32 = 11;

/// An exclusive domain whose keyring moves from `old` over `via` to `new`, on one host.
pub(crate) struct Play {
    pub(crate) world: World,
    pub(crate) plan: Plan,
    pub(crate) old: Node,
    pub(crate) via: Node,
    pub(crate) new: Node,
}

/// What stands before the receiver when the donor has answered.
pub(crate) struct Answered {
    pub(crate) ask: ReceiverAsk,
    pub(crate) request: HandoverRequest,
    pub(crate) challenge: HandoverChallenge,
    pub(crate) session: DonorSession,
    /// The receiver, as the donor sees it.
    pub(crate) receiver: Peer,
    /// The donor, as the receiver sees it.
    pub(crate) donor: Peer,
}

/// Why a handover did not come about: because of the donor, or of the receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Stopped {
    Donor(PeerRefusal),
    Receiver(KeeperError),
}

impl World {
    /// Publishes a policy that lets the keyring go from old over via to new, on one host.
    pub(crate) fn publish_handover(&mut self, serial: u64, change: impl FnOnce(&mut Policy)) {
        let (old, via, new) = (self.old, self.via, self.new);
        let edges = [(old, via), (via, new), (old, new)];
        let mut policy = self.ceremony.policy_of(Serial(serial), &[old, via, new], &edges);
        Ceremony::admit(&mut policy, "wallet", &self.application);
        policy.sharing = Sharing::Exclusive;
        policy.holders_min = 1;
        change(&mut policy);
        self.accept(&self.ceremony.policy(&policy));
    }

    pub(crate) fn placement(&self, code: &Code) -> Placement {
        let mut known = self.state.releases_with(code.measurement);
        let release: ReleaseDigest = known.next().unwrap().get().digest();
        Placement { release, measurement: code.measurement }
    }

    /// Registers an instance, so that the log says who runs there.
    pub(crate) fn register(&mut self, node: &mut Node) {
        self.feed(node);
        let statement = node.keeper.register(&node.enclave).unwrap();
        self.accept_bytes(&statement);
        self.feed(node);
    }

    /// Proposes a plan, and approves it if told to.
    pub(crate) fn propose(&mut self, plan: &Plan) -> PlanDigest {
        self.accept(&self.ceremony.proposal(plan));
        for operator in 0..2 {
            self.accept(&self.ceremony.approval(plan.digest(), operator, plan.not_after));
        }
        plan.digest()
    }

    /// The active holder of an exclusive domain, with generation 0.
    pub(crate) fn first_active(&mut self) -> Node {
        let code = self.old;
        let mut node = self.node(1, &code);
        let order = self.order(0, &node);
        self.feed(&mut node);
        let intent = node.keeper.create_generation(&node.enclave, order).unwrap();
        let receipt = node.carry_out(intent);
        self.accept_bytes(&receipt);
        self.feed(&mut node);
        assert_eq!(node.keeper.state(), ServingState::Standby);
        self.restart(&mut node, &code);
        self.register(&mut node);
        self.activate(&mut node, ActivationCause::First).unwrap();
        assert_eq!(node.keeper.state(), ServingState::Ready);
        node
    }

    /// Lets an instance activate itself, and everybody know.
    pub(crate) fn activate(
        &mut self,
        node: &mut Node,
        cause: ActivationCause,
    ) -> Result<(), KeeperError> {
        self.feed(node);
        let statement = node.keeper.activate(&node.enclave, cause)?;
        self.accept_bytes(&statement);
        self.feed(node);
        Ok(())
    }

    /// Another seat on the machine of a node, registered.
    pub(crate) fn beside(&mut self, node: &Node, code: &Code) -> Node {
        let start = u64::try_from(self.log.len()).unwrap();
        let mut seat = self.seat(&node.name, &node.host, code, Disk::default(), start);
        self.register(&mut seat);
        seat
    }
}

impl Play {
    /// Up to the moment at which the upgrader may ask.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Plan)) -> Self {
        Self::first(World::new(), change)
    }

    /// As [`Self::with`], in a network that is not used yet.
    pub(crate) fn first(mut world: World, change: impl FnOnce(&mut Plan)) -> Self {
        world.publish_handover(2, |_| {});
        let old = world.first_active();
        Self::begin(world, old, change)
    }

    /// As [`Self::with`], from this active holder of the world's old code, to new seats beside it.
    pub(crate) fn begin(mut world: World, old: Node, change: impl FnOnce(&mut Plan)) -> Self {
        let (code_of_via, code_of_new) = (world.via, world.new);
        let via = world.beside(&old, &code_of_via);
        let new = world.beside(&old, &code_of_new);
        let mut plan = plan(&world, &old);
        change(&mut plan);
        world.propose(&plan);
        let mut play = Self { world, plan, old, via, new };
        play.feed();
        play.verify(ASK_OLD, |play| &mut play.old);
        play
    }

    /// Up to the moment at which the new keeper may ask: the upgrader has proven its copy.
    pub(crate) fn carried() -> Self {
        Self::new().carry()
    }

    pub(crate) fn carry(self) -> Self {
        let mut play = self;
        play.hand_over(TO_VIA).unwrap();
        let code = play.world.via;
        play.restart(&code);
        assert_eq!(play.via.keeper.state(), ServingState::Carrying);
        play.done(TO_VIA);
        play.verify(ASK_VIA, |play| &mut play.via);
        play
    }

    /// Up to the moment at which the old keeper may be suspended: the new one has proven its copy.
    pub(crate) fn prepared() -> Self {
        Self::carried().prepare()
    }

    pub(crate) fn prepare(self) -> Self {
        let mut play = self;
        play.hand_over(TO_NEW).unwrap();
        let code = play.world.new;
        play.restart(&code);
        assert_eq!(play.new.keeper.state(), ServingState::Standby);
        play.done(TO_NEW);
        play.verify(ASK_NEW, |play| &mut play.new);
        play
    }

    /// Up to the moment at which the upgrader may count epochs: the new keeper is the active one
    /// and has proven its copy again.
    pub(crate) fn moved() -> Self {
        let mut play = Self::moved_with(|_| {});
        play.verify(ASK_AGAIN, |play| &mut play.new);
        play
    }

    /// As [`Self::moved`], by another plan, and before the last proof.
    pub(crate) fn moved_with(change: impl FnOnce(&mut Plan)) -> Self {
        Self::with(change).carry().prepare().switch()
    }

    pub(crate) fn switch(self) -> Self {
        let mut play = self;
        let step = play.step(SUSPEND);
        let statement = play.old.keeper.suspend(&play.old.enclave, step).unwrap();
        play.world.accept_bytes(&statement);
        play.done(SUSPEND);
        let cause = ActivationCause::Planned(play.step(ACTIVATE));
        play.world.activate(&mut play.new, cause).unwrap();
        play.done(ACTIVATE);
        play
    }

    pub(crate) fn step(&self, step: u32) -> PlanStep {
        PlanStep { plan: self.plan.digest(), step: StepId(step) }
    }

    /// Shows everybody the whole log.
    pub(crate) fn feed(&mut self) {
        for node in [&mut self.old, &mut self.via, &mut self.new] {
            self.world.feed(node);
        }
    }

    /// The agent says that a step is done.
    pub(crate) fn done(&mut self, step: u32) {
        let result = self.world.ceremony.result(&self.plan, StepId(step));
        self.world.accept(&result);
        self.feed();
    }

    /// Starts the seat of this code anew, and lets everybody know.
    pub(crate) fn restart(&mut self, code: &Code) {
        let node = if *code == self.world.old {
            &mut self.old
        } else if *code == self.world.via {
            &mut self.via
        } else {
            &mut self.new
        };
        self.world.restart(node, code);
        self.world.register(node);
        self.feed();
    }

    /// Carries out a step that verifies one seat.
    pub(crate) fn verify(&mut self, step: u32, seat: fn(&mut Self) -> &mut Node) {
        let nonce = self.ask(step);
        let node = seat(self);
        let files = node.disk.stored();
        let proof = node.keeper.prove(&node.enclave, nonce, &files).unwrap();
        self.world.accept_bytes(&proof);
        self.done(step);
    }

    /// Operators call the plan off.
    pub(crate) fn abort(&mut self) {
        let abort = self.world.ceremony.abort(self.plan.digest());
        self.world.accept(&abort);
        self.feed();
    }

    /// Issues the challenge of a step.
    pub(crate) fn ask(&mut self, step: u32) -> Nonce {
        let nonce = Nonce::new(sha256(&[b"asked", &self.world.log.len().to_be_bytes()]));
        let asked = self.world.ceremony.challenge(&self.plan, StepId(step), nonce);
        self.world.accept(&asked);
        self.feed();
        nonce
    }

    /// An honest answer to a challenge from a seat of some other machine or node, which the
    /// network believes: it is a proof of that seat.
    pub(crate) fn proof_of(&mut self, nonce: Nonce, node: &str, machine: u8, code: &Code) {
        let key = SigningKey::from_seed(Secret::new([machine; 32]));
        let proof = PossessionProof {
            network: self.plan.network,
            domain: self.plan.domain,
            node: node.parse().unwrap(),
            challenge: nonce,
            generation: self.plan.keyring.as_ref().expect("it moves a keyring").generation,
            checksum: self.plan.keyring.as_ref().expect("it moves a keyring").checksum,
            origin: HoldingOrigin::Recovered,
            as_of: self.world.state.position(),
            policy: self.plan.keyring.as_ref().expect("it moves a keyring").policy,
            measurement: code.measurement,
        };
        let mut envelope = Envelope::signed(&proof, [&key]);
        let data = envelope.report_data(&key.public_key());
        let enclave = self.world.node(machine, code).enclave;
        envelope.evidence = Some(enclave.evidence(&data).unwrap());
        self.world.accept(&envelope);
        self.feed();
    }

    /// Both sides of a step that hands over.
    pub(crate) fn sides(&mut self, step: u32) -> (&World, &mut Node, &mut Node) {
        match step {
            TO_VIA => (&self.world, &mut self.old, &mut self.via),
            _ => (&self.world, &mut self.via, &mut self.new),
        }
    }

    /// Lets the receiver ask and the donor answer.
    pub(crate) fn answered(&mut self, step: u32) -> Result<Answered, Stopped> {
        let asked = self.step(step);
        let (world, from, to) = self.sides(step);
        answered(world, asked, from, to)
    }

    /// Carries out a step that hands over.
    pub(crate) fn hand_over(&mut self, step: u32) -> Result<usize, Stopped> {
        let asked = self.step(step);
        let (world, from, to) = self.sides(step);
        hand_over(world, asked, from, to)
    }
}

pub(crate) fn answered(
    world: &World,
    step: PlanStep,
    from: &mut Node,
    to: &mut Node,
) -> Result<Answered, Stopped> {
    let (receiver, donor) = world.session(to, from);
    let asked = to.keeper.request_handover(&to.enclave, step).map_err(Stopped::Receiver)?;
    let (ask, request) = asked;
    let mut session = DonorSession::default();
    let message = PeerRequest::HandOver(request.clone());
    let challenge = match from.converse(&receiver, &mut session, &message) {
        PeerResponse::HandoverChallenge(challenge) => *challenge,
        PeerResponse::Refused(refusal) => return Err(Stopped::Donor(refusal)),
        PeerResponse::Key(_) | PeerResponse::Generations(_) => panic!("another answer"),
    };
    Ok(Answered { ask, request, challenge, session, receiver, donor })
}

/// A whole handover. Returns how often the receiver asked for generations.
pub(crate) fn hand_over(
    world: &World,
    step: PlanStep,
    from: &mut Node,
    to: &mut Node,
) -> Result<usize, Stopped> {
    let Answered { ask, challenge, mut session, receiver, donor, .. } =
        answered(world, step, from, to)?;
    let donor = to
        .keeper
        .prove_to_donor(&to.enclave, &donor, &ask, &challenge)
        .map_err(Stopped::Receiver)?;
    let mut asked = 0;
    while let Some(proof) = to.keeper.handover_next(&donor) {
        asked += 1;
        let message = PeerRequest::ProveHandover(proof);
        let sent = match from.converse(&receiver, &mut session, &message) {
            PeerResponse::Generations(sent) => sent,
            PeerResponse::Refused(refusal) => return Err(Stopped::Donor(refusal)),
            PeerResponse::Key(_) | PeerResponse::HandoverChallenge(_) => panic!("another answer"),
        };
        let accepted = to.keeper.accept_handed_over(&to.enclave, &donor, &sent);
        to.carry_out(accepted.map_err(Stopped::Receiver)?);
    }
    Ok(asked)
}

/// The plan of a handover on one host, with everything that a keeper looks at.
pub(crate) fn plan(world: &World, node: &Node) -> Plan {
    let (from, via, to) =
        (world.placement(&world.old), world.placement(&world.via), world.placement(&world.new));
    let committed = *world.state.domain(&world.ceremony.domain).unwrap().committed().unwrap();
    let step = |id: u32, action: Action, gates: Vec<Gate>| Step {
        id: StepId(id),
        node: node.name.clone(),
        wave: 0,
        action,
        gates,
    };
    let done = |step: u32| Gate::Done(StepId(step));
    let from_node = node.name.clone();
    let ask = |code: &Placement| Action::Verify {
        targets: vec![from_node.clone()],
        need: 1,
        code: Some(code.measurement),
    };
    let hand = |from: Placement, to: Placement| Action::HandOver {
        from_node: from_node.clone(),
        from,
        to,
    };
    let since = StepId(ASK_AGAIN);
    let proven = Gate::Proven { holders: vec![node.name.clone()], need: 1, since };
    let waited = Gate::Waited { since: StepId(ACTIVATE), epochs: FORGET_AFTER_EPOCHS };
    let steps = vec![
        step(ASK_OLD, ask(&from), vec![]),
        step(TO_VIA, hand(from, via), vec![done(ASK_OLD)]),
        step(ASK_VIA, ask(&via), vec![done(TO_VIA)]),
        step(TO_NEW, hand(via, to), vec![done(ASK_VIA)]),
        step(ASK_NEW, ask(&to), vec![done(TO_NEW)]),
        step(SUSPEND, Action::Suspend(from), vec![done(ASK_NEW)]),
        step(ACTIVATE, Action::Activate(to), vec![done(SUSPEND)]),
        step(ASK_AGAIN, ask(&to), vec![done(ACTIVATE)]),
        step(FORGET, Action::Forget(via), vec![done(ASK_AGAIN), proven, waited]),
    ];
    let back = |step: Step, undoes: u32| RollbackStep { step, undoes: StepId(undoes) };
    let since = StepId(ASK_BACK);
    let proven = Gate::Proven { holders: vec![node.name.clone()], need: 1, since };
    let rollback = vec![
        back(step(ACTIVATE_BACK, Action::Activate(from), vec![]), SUSPEND),
        back(step(ASK_BACK, ask(&from), vec![done(ACTIVATE_BACK)]), TO_VIA),
        back(step(FORGET_BACK, Action::Forget(via), vec![done(ASK_BACK), proven]), TO_VIA),
    ];
    let policy = world.state.policy(&world.ceremony.domain).unwrap();
    Plan {
        network: world.ceremony.network,
        keyring: Some(KeyringGround {
            from,
            to,
            via: Some(via),
            policy: policy.serial,
            generation: committed.generation,
            checksum: committed.checksum,
            holders_min: policy.holders_min,
            others: Vec::new(),
        }),
        domain: world.ceremony.domain,
        number: PlanNumber(1),
        strategy: Strategy::Handover,
        nodes: vec![node.name.clone()],
        steps,
        rollback,
        point_of_no_return: StepId(ACTIVATE),
        not_after: Epoch(50),
        nonce: Nonce::new([0x70; 32]),
        service: None,
        participant: None,
    }
}
