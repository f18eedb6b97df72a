//! Participants move to another key store: one step for each node stands in each block, and each
//! block waits for the whole one before it.

use heirloom_model::counter::Epoch;
use heirloom_model::digest::{Nonce, PlanDigest};
use heirloom_model::identifier::{DomainId, NodeId, OperatorId};
use heirloom_model::limit::{PARTICIPANTS_MAX, PLAN_BYTES_MAX, SURVEY_EPOCHS_MAX};
use heirloom_model::participant::{CustodianKind, ParticipantChange, ParticipantMove};
use heirloom_model::party::{ParticipantId, PartyId};
use heirloom_model::plan::{Action, Gate, ParticipantAction, Plan, StepId, Strategy};
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;

use super::draft::Draft;
use crate::inventory::InventoryError;
use crate::inventory::participants::Participants;

/// What an operator wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MigrationRequest {
    /// The domain, which has no keyring.
    pub domain: DomainId,
    /// The nodes whose participants move, each once.
    pub nodes: Vec<NodeId>,
    /// Who asks: nobody has to agree with himself.
    pub operator: OperatorId,
    /// The epoch in which the window opens.
    pub opens: Epoch,
    /// After this epoch the plan is called off by itself; by default early enough for the way
    /// back, see [`RETREAT_EPOCHS`].
    pub abort_after: Option<Epoch>,
    /// The last epoch in which a step may start.
    pub not_after: Epoch,
    /// Random. Makes the plan unique.
    pub nonce: Nonce,
}

/// How many of its last epochs a plan keeps for the way back where nobody named a deadline, and
/// never more than a quarter of its window. The way back takes a few epochs; the rest is for an
/// operator who is away. After the last epoch others may plan, and it would not end.
pub const RETREAT_EPOCHS: u64 = 64;

impl MigrationRequest {
    /// The last epoch before the plan is called off by itself.
    fn deadline(&self) -> Epoch {
        let window = self.not_after.0.saturating_sub(self.opens.0);
        let retreat = RETREAT_EPOCHS.min(window / 4);
        self.abort_after.unwrap_or(Epoch(self.not_after.0.saturating_sub(retreat)))
    }
}

/// What was planned, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MigrationReport {
    /// Forward steps.
    pub steps: usize,
    /// Steps of the way back.
    pub rollback_steps: usize,
    /// The point of no return.
    pub point_of_no_return: StepId,
    /// Size of the plan's encoding.
    pub bytes: usize,
    /// From this step on the sources are off their synchronizers.
    pub closes: StepId,
    /// At this step the targets begin to answer.
    pub opens: StepId,
    /// Whether operators must agree to the party map.
    pub consents: Vec<OperatorId>,
    /// What an operator should know.
    pub notes: Vec<MigrationNote>,
}

/// What an operator should know about a migration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MigrationNote {
    /// Every party and every other participant of its contracts is of one operator.
    OneOperator(OperatorId),
    /// Nobody named a deadline: after this epoch the plan is called off by itself.
    Deadline(Epoch),
    /// Nothing was tried before: other strategies have a rehearsal or a trial.
    NoRehearsal,
    /// The way back takes keys out of a stronger place: whoever can read the file can sign.
    ToSoftware(NodeId),
    /// What does not move.
    Lost(&'static str),
}

/// What does not move with any participant.
pub const LOST: [&str; 8] = [
    "transaction history, offsets, completions and the deduplication of commands",
    "contracts that were divulged to parties without a stake",
    "pruning state and schedules, and the history of commitments",
    "identity providers, and rights for parties that stay: make them again; users are made again \
     with their annotations, and with rights and primary parties under the new names",
    "every contract id: whoever keeps ids elsewhere needs the map of contracts",
    "contract keys with parties in them: they have the new names",
    "explicitly disclosed contracts that were handed out, and databases of query services",
    "nothing of the old keys: they still open old messages and sign for the old namespace",
];

impl std::fmt::Display for MigrationNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OneOperator(operator) => {
                write!(f, "{operator} runs every participant that these contracts name")
            }
            Self::Deadline(last) => {
                write!(f, "no deadline was named: after epoch {last} the plan is called off")
            }
            Self::NoRehearsal => f.write_str(
                "nothing is tried out before sources are disconnected: rehearse on a test network",
            ),
            Self::ToSoftware(node) => write!(
                f,
                "the target of {node} keeps its keys in software: whoever reads its store can sign"
            ),
            Self::Lost(what) => write!(f, "does not move: {what}"),
        }
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MigrationError {
    /// The log does not say enough.
    #[error("the log does not say enough to plan a migration")]
    Inventory(#[from] InventoryError),
    /// The domain has keepers.
    #[error("domain {0} has keepers: its plans are about its keyring")]
    HasKeepers(DomainId),
    /// Nothing would move.
    #[error("no node is named")]
    NoNodes,
    /// A node is named twice.
    #[error("{0} is named twice")]
    NamedTwice(NodeId),
    /// A node is not in the fleet with this domain.
    #[error("{0} is not a node of the domain")]
    UnknownNode(NodeId),
    /// A node has said nothing about its participants.
    #[error("{0} has said nothing about its participants")]
    NotSurveyed(NodeId),
    /// What a node said may not be true any more.
    #[error("{node} looked at its participants in epoch {found}, and it is {epoch}")]
    SurveyOld {
        /// The node.
        node: NodeId,
        /// When it looked.
        found: Epoch,
        /// Now.
        epoch: Epoch,
    },
    /// A node found something that must be put right.
    #[error("{node} cannot move: {remark}")]
    Blocked {
        /// The node.
        node: NodeId,
        /// The first thing that it found.
        remark: String,
    },
    /// A participant has nothing that could move.
    #[error("{0} is connected to no synchronizer")]
    NoSynchronizer(NodeId),
    /// Two nodes name one participant, or one party.
    #[error("{node} and {other} move the same {what}")]
    MovedTwice {
        /// One of them.
        node: NodeId,
        /// The other one.
        other: NodeId,
        /// What.
        what: &'static str,
    },
    /// Somebody else's party stands in the contracts.
    #[error(
        "{operator} must move too, or agree: {party} in contracts of {node} is on {participant}"
    )]
    NeedsAgreement {
        /// Who runs the participant, as the fleet says; else the participant's own name.
        operator: String,
        /// The participant.
        participant: ParticipantId,
        /// The party.
        party: PartyId,
        /// Whose contracts name it.
        node: NodeId,
    },
    /// Nobody is known to host a party.
    #[error("{party} stands in contracts of {node}, and no participant is known to host it")]
    UnknownHost {
        /// The party.
        party: PartyId,
        /// Whose contracts name it.
        node: NodeId,
    },
    /// Somebody must agree whose agreement nobody could recognise.
    #[error("{0} must agree to the party map, and the fleet names no key of it")]
    NoOperatorKey(OperatorId),
    /// Another plan is active in this domain.
    #[error("plan {0} is active in this domain")]
    PlanActive(PlanDigest),
    /// The epochs contradict each other.
    #[error("the window opens with epoch {opens}, and the plan ends with {last}; it is {epoch}")]
    WrongWindow {
        /// The window's first.
        opens: Epoch,
        /// The last of the plan.
        last: Epoch,
        /// Now.
        epoch: Epoch,
    },
    /// The plan would be too large.
    #[error("the plan has {found} {what}, more than the {limit} allowed")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// No number is left.
    #[error("no plan number is left")]
    OutOfNumbers,
}

impl MigrationError {
    /// What an operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Inventory(_) => "publish root, fleet and an epoch first",
            Self::HasKeepers(_) => "name a domain whose nodes have no keeper",
            Self::NoNodes | Self::NamedTwice(_) => "name each node once",
            Self::UnknownNode(_) => "publish a fleet with this node, or correct the name",
            Self::NotSurveyed(_) | Self::SurveyOld { .. } => {
                "let the node's agent look: heirloom participant preflight --publish"
            }
            Self::Blocked { .. } => "put it right and let the node look once more",
            Self::NoSynchronizer(_) => "connect the source once, so that it names a synchronizer",
            Self::MovedTwice { .. } => "leave one of the nodes out, or correct its configuration",
            Self::NeedsAgreement { .. } => {
                "plan together with that operator: add its node, let it be surveyed, and let it \
                 agree to the party map"
            }
            Self::UnknownHost { .. } => {
                "ask whose party it is: its contracts would not be the same on both sides"
            }
            Self::NoOperatorKey(_) => "publish a fleet with its key",
            Self::PlanActive(_) => "let it finish, abort it, or plan again after its last epoch",
            Self::WrongWindow { .. } => "ask for a later last epoch",
            Self::TooLarge { .. } => "plan fewer nodes",
            Self::OutOfNumbers => "nothing: this network has run for longer than time",
        }
    }
}

/// Plans a migration as the log shows its nodes.
pub fn plan(
    request: &MigrationRequest,
    state: &NetworkState,
) -> Result<(Plan, MigrationReport), MigrationError> {
    plan_from(request, &Participants::of(state, &request.domain)?)
}

/// Plans a migration as its nodes described themselves.
pub fn plan_from(
    request: &MigrationRequest,
    known: &Participants,
) -> Result<(Plan, MigrationReport), MigrationError> {
    check_ground(request, known)?;
    let moves = moves(request, known)?;
    check_hosts(&moves, known)?;
    let nodes: Vec<NodeId> = moves.iter().map(|moved| moved.node.clone()).collect();
    let consents = consents(request, &nodes, known)?;
    let mut draft = Draft::default();
    let line = forward(&mut draft, request, &nodes, !consents.is_empty());
    backward(&mut draft, &nodes, &line);
    let (steps, rollback) = draft.into_steps();
    let custodians: Vec<(NodeId, CustodianKind)> =
        moves.iter().map(|moved| (moved.node.clone(), moved.custodian)).collect();
    let plan = Plan {
        network: known.network,
        domain: known.domain,
        number: known.plan_number.next().ok_or(MigrationError::OutOfNumbers)?,
        strategy: Strategy::Migration,
        keyring: None,
        nodes,
        steps,
        rollback,
        point_of_no_return: line.commit,
        not_after: request.not_after,
        nonce: request.nonce,
        service: None,
        participant: Some(ParticipantChange {
            moves,
            opens: request.opens,
            abort_after: Some(request.deadline()),
        }),
    };
    let bytes = wire::encode(&plan).len();
    if bytes > PLAN_BYTES_MAX {
        let (found, limit) = (bytes, PLAN_BYTES_MAX);
        return Err(MigrationError::TooLarge { what: "bytes", found, limit });
    }
    let report = MigrationReport {
        steps: plan.steps.len(),
        rollback_steps: plan.rollback.len(),
        point_of_no_return: line.commit,
        bytes,
        closes: line.quiesce.first,
        opens: line.connect.first,
        consents,
        notes: notes(request, &plan, &custodians, known),
    };
    Ok((plan, report))
}

fn check_ground(request: &MigrationRequest, known: &Participants) -> Result<(), MigrationError> {
    if known.has_keepers {
        return Err(MigrationError::HasKeepers(known.domain));
    }
    if let Some(holding) = known.holding_plan {
        return Err(MigrationError::PlanActive(holding));
    }
    let (opens, epoch) = (request.opens, known.epoch);
    let last = request.deadline();
    if opens > last || last > request.not_after || last < epoch {
        return Err(MigrationError::WrongWindow { opens, last, epoch });
    }
    let (found, limit) = (request.nodes.len(), PARTICIPANTS_MAX);
    if found > limit {
        return Err(MigrationError::TooLarge { what: "nodes", found, limit });
    }
    if found == 0 { Err(MigrationError::NoNodes) } else { Ok(()) }
}

/// What moves, as the nodes found it, sorted by node.
fn moves(
    request: &MigrationRequest,
    known: &Participants,
) -> Result<Vec<ParticipantMove>, MigrationError> {
    let mut nodes = request.nodes.clone();
    nodes.sort_unstable();
    if let Some([twice, _]) = nodes
        .windows(2)
        .find_map(|pair| <&[NodeId; 2]>::try_from(pair).ok().filter(|[a, b]| a == b))
    {
        return Err(MigrationError::NamedTwice(twice.clone()));
    }
    let mut moves: Vec<ParticipantMove> = Vec::new();
    for node in nodes {
        let moved = moved(node, known)?;
        for other in &moves {
            let what = match () {
                () if other.source == moved.source => "participant",
                () if other.parties.iter().any(|party| moved.parties.contains(party)) => "party",
                () => continue,
            };
            let (node, other) = (moved.node.clone(), other.node.clone());
            return Err(MigrationError::MovedTwice { node, other, what });
        }
        moves.push(moved);
    }
    Ok(moves)
}

fn moved(node: NodeId, known: &Participants) -> Result<ParticipantMove, MigrationError> {
    if known.node(&node).is_none() {
        return Err(MigrationError::UnknownNode(node));
    }
    let Some(seen) = known.surveys.get(&node) else {
        return Err(MigrationError::NotSurveyed(node));
    };
    if seen.epoch.0 < known.epoch.0.saturating_sub(SURVEY_EPOCHS_MAX) {
        let (found, epoch) = (seen.epoch, known.epoch);
        return Err(MigrationError::SurveyOld { node, found, epoch });
    }
    if let Some(remark) = seen.found.blocks().next() {
        return Err(MigrationError::Blocked { node, remark: remark.to_owned() });
    }
    if seen.found.routes.is_empty() {
        return Err(MigrationError::NoSynchronizer(node));
    }
    Ok(ParticipantMove::of(node, &seen.found))
}

/// Everybody whose parties stand in contracts of the plan moves with it.
fn check_hosts(moves: &[ParticipantMove], known: &Participants) -> Result<(), MigrationError> {
    for moved in moves {
        let Some(seen) = known.surveys.get(&moved.node) else { continue };
        for foreign in &seen.found.foreign {
            let (party, node) = (foreign.party.clone(), moved.node.clone());
            if foreign.hosts.is_empty() {
                return Err(MigrationError::UnknownHost { party, node });
            }
            let elsewhere =
                foreign.hosts.iter().find(|host| moves.iter().all(|other| other.source != **host));
            if let Some(participant) = elsewhere.cloned() {
                let operator = known.operators.get(&participant);
                let operator =
                    operator.map_or_else(|| participant.to_string(), ToString::to_string);
                return Err(MigrationError::NeedsAgreement { operator, participant, party, node });
            }
        }
    }
    Ok(())
}

/// Who must agree to the map: everybody, unless there is only the one who asks.
fn consents(
    request: &MigrationRequest,
    nodes: &[NodeId],
    known: &Participants,
) -> Result<Vec<OperatorId>, MigrationError> {
    let operators = nodes.iter().filter_map(|node| known.node(node)).map(|node| &node.operator);
    let mut operators: Vec<OperatorId> = operators.cloned().collect();
    operators.sort_unstable();
    operators.dedup();
    if nodes.len() == 1 && operators == [request.operator.clone()] {
        operators.clear();
    }
    match operators.iter().find(|operator| !known.keys.contains_key(operator)) {
        Some(mute) => Err(MigrationError::NoOperatorKey(mute.clone())),
        None => Ok(operators),
    }
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
}

/// The blocks that the way back undoes.
struct Line {
    quiesce: Block,
    import: Block,
    connect: Block,
    commit: StepId,
}

fn block(draft: &mut Draft, nodes: &[NodeId], action: ParticipantAction, gates: &[Gate]) -> Block {
    let first = draft.next();
    for node in nodes {
        draft.push(node, 0, Action::Participant(action), gates.to_vec());
    }
    Block { first, last: draft.last() }
}

fn forward(draft: &mut Draft, request: &MigrationRequest, nodes: &[NodeId], asks: bool) -> Line {
    let survey = block(draft, nodes, ParticipantAction::Survey, &[]);
    let enroll = block(draft, nodes, ParticipantAction::Enroll, &[survey.done()]);
    let allocate = block(draft, nodes, ParticipantAction::Allocate, &[enroll.done()]);
    let mut gates = vec![allocate.done()];
    if asks {
        gates.push(Gate::Consented { first: allocate.first, last: allocate.last });
    }
    let supply = block(draft, nodes, ParticipantAction::Supply, &gates);
    let gates = [supply.done(), Gate::Epoch(request.opens)];
    let quiesce = block(draft, nodes, ParticipantAction::Quiesce, &gates);
    let export = block(draft, nodes, ParticipantAction::Export, &[quiesce.done()]);
    let rewrite = block(draft, nodes, ParticipantAction::Rewrite, &[export.done()]);
    let mut gates = vec![rewrite.done()];
    if asks {
        gates.push(Gate::Concordant { first: rewrite.first, last: rewrite.last });
    }
    let safeguard = block(draft, nodes, ParticipantAction::Safeguard, &gates);
    let import = block(draft, nodes, ParticipantAction::Import, &[safeguard.done()]);
    let connect = block(draft, nodes, ParticipantAction::Connect, &[import.done()]);
    let reconcile = block(draft, nodes, ParticipantAction::Reconcile, &[connect.done()]);
    let commit = match nodes.first() {
        Some(first) => draft.push(first, 0, Action::Commit, vec![reconcile.done()]),
        None => draft.last(),
    };
    block(draft, nodes, ParticipantAction::Settle, &[Gate::Done(commit)]);
    Line { quiesce, import, connect, commit }
}

/// Each node goes back by itself.
fn backward(draft: &mut Draft, nodes: &[NodeId], line: &Line) {
    for (place, node) in (0_u32..).zip(nodes) {
        let of = |block: Block| StepId(block.first.0.saturating_add(place));
        let chain = [
            (line.connect, ParticipantAction::Disconnect),
            (line.import, ParticipantAction::Purge),
            (line.quiesce, ParticipantAction::Reconnect),
        ];
        let mut before = None;
        for (block, action) in chain {
            let gates = before.map(Gate::Done).into_iter().collect();
            let action = Action::Participant(action);
            before = Some(draft.push_back((node, 0), of(block), action, gates));
        }
    }
}

fn notes(
    request: &MigrationRequest,
    plan: &Plan,
    custodians: &[(NodeId, CustodianKind)],
    known: &Participants,
) -> Vec<MigrationNote> {
    let mut notes = Vec::new();
    let mut operators: Vec<&OperatorId> =
        plan.nodes.iter().filter_map(|node| known.node(node)).map(|node| &node.operator).collect();
    operators.dedup();
    if let [operator] = operators.as_slice() {
        notes.push(MigrationNote::OneOperator((*operator).clone()));
    }
    if request.abort_after.is_none() {
        notes.push(MigrationNote::Deadline(request.deadline()));
    }
    notes.push(MigrationNote::NoRehearsal);
    for (node, custodian) in custodians {
        if *custodian == CustodianKind::Software {
            notes.push(MigrationNote::ToSoftware(node.clone()));
        }
    }
    notes.extend(LOST.map(MigrationNote::Lost));
    notes
}
