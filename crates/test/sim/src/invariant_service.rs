//! What must hold of a service after every event: for its clients, and for its ledger.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::digest::PlanDigest;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, ServiceAction};
use heirloom_model::service::{Admission, Height, ServiceChange, Tip, Writing};
use heirloom_registry::plan::PlanState;

use crate::service::clients::step_of;
use crate::service::{Chain, Flaw, SimService, Work};
use crate::world::World;

/// What was seen so far, to compare with.
#[derive(Debug, Default)]
pub struct Books {
    snapshots: BTreeMap<(NodeId, PlanDigest), Tip>,
    originals: BTreeMap<NodeId, Tip>,
    checks: u64,
}

/// An invariant of a service that does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ServiceViolation {
    /// A block on which somebody relies is in too few ledgers.
    #[error("{what}, block {tip}, is in {found} of {nodes} ledgers")]
    Lost {
        /// What.
        what: &'static str,
        /// Which block.
        tip: Tip,
        /// Ledgers that have it.
        found: usize,
        /// All ledgers.
        nodes: usize,
    },
    /// A payment is in a ledger twice.
    #[error("payment {payment} is twice in the ledger of {node}")]
    Doubled {
        /// Which.
        payment: u64,
        /// Where.
        node: NodeId,
    },
    /// Two ledgers that are served differ at one height.
    #[error("the ledgers of {left} and {right} are served, and differ")]
    Forked {
        /// One.
        left: NodeId,
        /// The other.
        right: NodeId,
    },
    /// Code took a payment that it must not take.
    #[error("{code} on {node} takes a payment, and the commit is in the log: {committed}")]
    WrongCode {
        /// Where.
        node: NodeId,
        /// Which.
        code: Measurement,
        /// Whether the log has the commit.
        committed: bool,
    },
    /// Two versions let clients in at the same time.
    #[error("{left} and {right} let clients into different code")]
    TwoVersions {
        /// One.
        left: NodeId,
        /// The other.
        right: NodeId,
    },
    /// A node lets clients into code which must not serve.
    #[error("{node} admits clients to {code}, and the commit is in the log: {committed}")]
    Admits {
        /// Where.
        node: NodeId,
        /// Which.
        code: Measurement,
        /// Whether the log has the commit.
        committed: bool,
    },
    /// Somebody told a proxy to let clients in that the plan keeps out.
    #[error("the proxy of {node} is told to open behind the fence")]
    OpenedBehindFence {
        /// Whose.
        node: NodeId,
    },
    /// The archive has another block.
    #[error("{node} distributes another block {height} than the archive has")]
    OtherBlock {
        /// Who.
        node: NodeId,
        /// Where they differ.
        height: Height,
    },
    /// A service that the plan halted runs.
    #[error("the service of {node} runs, and the plan halted it")]
    RunsHalted {
        /// Which.
        node: NodeId,
    },
    /// A service was halted although the frozen ledgers differ.
    #[error("{node} was halted, and the frozen ledgers differ")]
    HaltedApart {
        /// Which.
        node: NodeId,
    },
    /// A ledger went on after its service had promised that it would not.
    #[error("the ledger of {node} froze at {frozen} and ends at {found}")]
    BrokenPromise {
        /// Whose.
        node: NodeId,
        /// Where it froze.
        frozen: Tip,
        /// Where it ends.
        found: Tip,
    },
    /// The instance that promised to append nothing may append.
    #[error("the instance of {node} that froze is active")]
    Thawed {
        /// Whose.
        node: NodeId,
    },
    /// New code began with another ledger than the one that froze.
    #[error("the new service of {node} loaded {loaded}, and {frozen} froze")]
    LaunchedElsewhere {
        /// Which.
        node: NodeId,
        /// What it loaded.
        loaded: Tip,
        /// What froze.
        frozen: Tip,
    },
    /// A snapshot is gone, or another.
    #[error("the snapshot of plan {plan} on {node} is gone or changed")]
    Snapshot {
        /// Where.
        node: NodeId,
        /// Whose.
        plan: PlanDigest,
    },
    /// The original database changed after a migrated copy took its place.
    #[error("the original database of {node} changed behind a migrated copy")]
    Original {
        /// Whose.
        node: NodeId,
    },
    /// In the end the ledgers are not the same.
    #[error("in the end the ledgers of {left} and {right} are not the same")]
    Apart {
        /// One.
        left: NodeId,
        /// The other.
        right: NodeId,
    },
}

type Checked = Result<(), ServiceViolation>;

/// How often ledgers are read from end to end: in between their ends vouch for them.
const FULL_CHECKS: u64 = 97;

/// Checks everything.
pub fn check(world: &mut World, books: &mut Books) -> Checked {
    if let Some(seen) = world.market.seen.pop() {
        return Err(seen);
    }
    if world.market.from.is_none() {
        return Ok(());
    }
    books.checks = books.checks.wrapping_add(1);
    nothing_lost(world)?;
    one_version(world)?;
    no_fork(world)?;
    for (node, service) in world.services() {
        keeps(node, service, books)?;
        if let Some(plan) = world.service_plan() {
            follows(node, service, plan)?;
        }
    }
    if books.checks.is_multiple_of(FULL_CHECKS) { whole(world) } else { Ok(()) }
}

/// Every payment that a client was told is done is in most ledgers, once; so is everything that
/// was distributed.
pub fn whole(world: &World) -> Checked {
    let accepted = world.market.accepted.values().map(|tip| ("an accepted payment", *tip));
    for (what, tip) in accepted {
        in_most(world, what, tip)?;
    }
    for (node, service) in world.services() {
        let mut seen = BTreeSet::new();
        for block in service.kept.database().chain.blocks() {
            if let Work::Payment(payment) = block.work
                && !seen.insert(payment)
            {
                return Err(ServiceViolation::Doubled { payment, node: node.clone() });
            }
        }
    }
    Ok(())
}

/// In the end all ledgers are the same.
pub fn same(world: &World) -> Checked {
    let mut services = world.services();
    let Some((left, first)) = services.next() else { return Ok(()) };
    for (right, other) in services {
        if first.kept.database().chain != other.kept.database().chain {
            let (left, right) = (left.clone(), right.clone());
            return Err(ServiceViolation::Apart { left, right });
        }
    }
    Ok(())
}

/// The newest block vouches for those before it.
fn nothing_lost(world: &World) -> Checked {
    if let Some(tip) = world.market.newest {
        in_most(world, "the newest payment", tip)?;
    }
    match world.market.archive.last_key_value() {
        Some((height, id)) => {
            in_most(world, "what was distributed last", Tip { height: *height, id: *id })
        }
        None => Ok(()),
    }
}

fn in_most(world: &World, what: &'static str, tip: Tip) -> Checked {
    let (mut found, mut nodes) = (0_usize, 0_usize);
    for (_, service) in world.services() {
        nodes = nodes.saturating_add(1);
        found = found.saturating_add(usize::from(service.kept.database().chain.has(&tip)));
    }
    if found.saturating_mul(2) > nodes {
        return Ok(());
    }
    Err(ServiceViolation::Lost { what, tip, found, nodes })
}

/// Clients are let into one version, and into the one that the log says.
fn one_version(world: &World) -> Checked {
    let committed = world.is_committed();
    let mut first: Option<(&NodeId, Measurement)> = None;
    for (node, service) in world.services() {
        let open = service.instance.as_ref().filter(|it| it.admission == Admission::Open);
        let Some(code) = open.map(|it| it.code) else { continue };
        if let Some(committed) = committed
            && (Some(code) == world.market.to) != committed
        {
            let node = node.clone();
            return Err(ServiceViolation::Admits { node, code, committed });
        }
        match first {
            Some((left, other)) if other != code => {
                let (left, right) = (left.clone(), node.clone());
                return Err(ServiceViolation::TwoVersions { left, right });
            }
            Some(_) => {}
            None => first = Some((node, code)),
        }
    }
    Ok(())
}

/// Ledgers that are served are the same as far as both go.
fn no_fork(world: &World) -> Checked {
    let mut longest: Option<(&NodeId, &Chain)> = None;
    for (node, service) in world.services().filter(|(_, service)| service.lets_in()) {
        let chain = &service.kept.database().chain;
        match longest {
            Some((left, other)) if !other.continues(chain) && !chain.continues(other) => {
                let (left, right) = (left.clone(), node.clone());
                return Err(ServiceViolation::Forked { left, right });
            }
            Some((_, other)) if other.tip().height >= chain.tip().height => {}
            Some(_) | None => longest = Some((node, chain)),
        }
    }
    Ok(())
}

/// What a node must never lose.
fn keeps(node: &NodeId, service: &SimService, books: &mut Books) -> Checked {
    let kept = &service.kept;
    for (plan, chain) in &kept.snapshots {
        books.snapshots.entry((node.clone(), *plan)).or_insert_with(|| chain.tip());
    }
    for ((owner, plan), tip) in &books.snapshots {
        let same = kept.snapshots.get(plan).is_some_and(|chain| chain.tip() == *tip);
        if owner == node && !same {
            return Err(ServiceViolation::Snapshot { node: node.clone(), plan: *plan });
        }
    }
    let original = kept.original.chain.tip();
    if kept.live.is_none() {
        books.originals.remove(node);
        return Ok(());
    }
    let before = *books.originals.entry(node.clone()).or_insert(original);
    if before == original {
        return Ok(());
    }
    Err(ServiceViolation::Original { node: node.clone() })
}

/// What the plan says of a node while it goes forward.
fn follows(node: &NodeId, service: &SimService, plan: &PlanState) -> Checked {
    if plan.aborted().is_some() {
        return Ok(());
    }
    let done = |wanted: fn(&Action) -> bool| {
        step_of(plan, node, wanted).is_some_and(|step| plan.done_at(step).is_some())
    };
    let instance = service.instance.as_ref();
    let halted = done(|action| matches!(action, Action::Service(ServiceAction::Halt(_))));
    if halted && instance.is_some() && !may_launch(plan, node) {
        return Err(ServiceViolation::RunsHalted { node: node.clone() });
    }
    let Some(frozen) = plan.frozen_tip(node) else { return Ok(()) };
    let found = service.kept.original.chain.tip();
    if found != frozen && service.flaw != Some(Flaw::Lies) {
        return Err(ServiceViolation::BrokenPromise { node: node.clone(), frozen, found });
    }
    let freeze = plan.plan().freeze_of(node).and_then(|step| plan.standing(step));
    let is_it = |key| freeze.is_some_and(|seen| *seen.instance() == key);
    if instance.is_some_and(|it| is_it(it.key.public_key()) && it.writing == Writing::Active) {
        return Err(ServiceViolation::Thawed { node: node.clone() });
    }
    if halted && !all_froze_there(plan, frozen) {
        return Err(ServiceViolation::HaltedApart { node: node.clone() });
    }
    let launched = done(|action| matches!(action, Action::Service(ServiceAction::Launch(_))));
    match instance.filter(|_| halted && !launched).map(|it| it.loaded) {
        Some(loaded) if loaded != frozen => {
            let node = node.clone();
            Err(ServiceViolation::LaunchedElsewhere { node, loaded, frozen })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether everything is done that must be before a node starts its service again.
fn may_launch(plan: &PlanState, node: &NodeId) -> bool {
    let is_launch = |action: &Action| matches!(action, Action::Service(ServiceAction::Launch(_)));
    let Some(launch) = step_of(plan, node, is_launch) else { return false };
    let steps = &plan.plan().steps;
    // In a flag day everybody has the new code first; in a restart each node stands for itself.
    let before = steps.iter().filter(|step| step.id < launch && !is_launch(&step.action));
    let flag_day = plan.plan().service.as_ref().is_some_and(ServiceChange::changes_code);
    before.filter(|step| flag_day || step.node == *node).all(|step| plan.is_settled(step.id))
}

/// Whether every ledger of the plan froze at this tip.
fn all_froze_there(plan: &PlanState, tip: Tip) -> bool {
    plan.plan().nodes.iter().all(|node| plan.frozen_tip(node) == Some(tip))
}
