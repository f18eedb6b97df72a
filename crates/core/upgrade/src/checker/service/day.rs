//! A flag day: what has to have happened on all nodes before a step of one node.

use std::collections::BTreeMap;

use heirloom_model::plan::{Action, Gate, ServiceAction, Step};

use super::super::{Fault, Report};
use super::{View, custody};

/// The kinds of steps that every node has once.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Equip,
    Muster,
    Fence,
    Freeze,
    Halt,
    Snapshot,
    Migrate,
    Deploy,
    Launch,
    Join,
    Exercise,
    Open,
    Watch,
}

const KINDS: [(Kind, &str); 13] = [
    (Kind::Equip, "equip"),
    (Kind::Muster, "muster"),
    (Kind::Fence, "fence"),
    (Kind::Freeze, "freeze"),
    (Kind::Halt, "halt"),
    (Kind::Snapshot, "snapshot"),
    (Kind::Migrate, "migrate"),
    (Kind::Deploy, "deploy"),
    (Kind::Launch, "launch"),
    (Kind::Join, "join"),
    (Kind::Exercise, "exercise"),
    (Kind::Open, "open"),
    (Kind::Watch, "watch"),
];

/// On every node, before the first of these on any.
const RULES: [(Kind, &[Kind], &str); 11] = [
    (Kind::Muster, &[Kind::Equip], "the window opens only when the new code runs everywhere"),
    (
        Kind::Fence,
        &[Kind::Equip, Kind::Muster],
        "nothing is fenced before every node is equipped and has mustered",
    ),
    (Kind::Freeze, &[Kind::Fence], "nothing freezes while some node still takes work"),
    (Kind::Halt, &[Kind::Freeze], "nobody ends a process before every node froze"),
    (Kind::Snapshot, &[Kind::Halt], "nothing is copied while some process may still run"),
    (
        Kind::Migrate,
        &[Kind::Halt, Kind::Snapshot],
        "nothing is migrated before every node has its snapshot",
    ),
    (
        Kind::Deploy,
        &[Kind::Halt, Kind::Migrate],
        "nothing is installed before every database is migrated",
    ),
    (
        Kind::Launch,
        &[Kind::Halt, Kind::Migrate, Kind::Deploy],
        "no new instance starts while an old one may run, or some node is not ready for it",
    ),
    (Kind::Join, &[Kind::Launch], "nobody counts peers before all of them run"),
    (Kind::Exercise, &[Kind::Join], "nothing is tried before every node has all of its peers"),
    (Kind::Watch, &[Kind::Open], "nobody watches clients before every node lets them in"),
];

/// Statements that must be the same everywhere before the next block.
const AGREEMENTS: [(Kind, Kind, &str); 2] = [
    (Kind::Halt, Kind::Freeze, "all nodes must have frozen at one tip"),
    (Kind::Join, Kind::Launch, "all nodes must have loaded that tip"),
];

type Blocks<'a> = BTreeMap<Kind, Vec<&'a Step>>;

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let blocks = blocks(view, report);
    let of = |kind: Kind| blocks.get(&kind).map_or(&[][..], Vec::as_slice);
    for (kind, after, rule) in RULES {
        for step in of(kind) {
            for needed in after {
                view.require(step, of(*needed).iter().copied(), rule, report);
            }
        }
    }
    for (kind, stated, rule) in AGREEMENTS {
        for step in of(kind) {
            check_agreed(step, of(stated), rule, report);
        }
    }
    for fence in of(Kind::Fence) {
        view.check_closing(fence, report);
    }
    check_rehearsed(view, of(Kind::Fence), report);
    for (kind, _) in KINDS.into_iter().filter(|(kind, _)| *kind != Kind::Open) {
        check_even(of(kind), report);
    }
    check_commit(view, &blocks, report);
    check_back(view, report);
}

/// Every node has one step of each kind.
fn blocks<'a>(view: &View<'a>, report: &mut Report) -> Blocks<'a> {
    let mut blocks = Blocks::new();
    for (node, own) in &view.nodes {
        for (kind, action) in KINDS {
            let of_kind = own.forward.iter().filter(|step| kind_of(&step.action) == Some(kind));
            let found: Vec<&'a Step> = of_kind.copied().collect();
            if found.len() != 1 {
                let (node, found) = ((*node).clone(), found.len());
                report.plan(Fault::NotOnce { node, action, found });
            }
            blocks.entry(kind).or_default().extend(found);
        }
    }
    blocks
}

fn kind_of(action: &Action) -> Option<Kind> {
    Some(match action {
        Action::Service(ServiceAction::Equip(_)) => Kind::Equip,
        Action::Service(ServiceAction::Muster(_)) => Kind::Muster,
        Action::Service(ServiceAction::Fence(_)) => Kind::Fence,
        Action::Service(ServiceAction::Freeze(_)) => Kind::Freeze,
        Action::Service(ServiceAction::Halt(_)) => Kind::Halt,
        Action::Service(ServiceAction::Snapshot) => Kind::Snapshot,
        Action::Service(ServiceAction::Migrate) => Kind::Migrate,
        Action::Service(ServiceAction::Deploy { .. }) => Kind::Deploy,
        Action::Service(ServiceAction::Launch(_)) => Kind::Launch,
        Action::Service(ServiceAction::Join(_)) => Kind::Join,
        Action::Service(ServiceAction::Exercise(_)) => Kind::Exercise,
        Action::Service(ServiceAction::Open(_)) => Kind::Open,
        Action::Service(ServiceAction::Watch(_)) => Kind::Watch,
        // Placements were checked: nothing else is about the service of a node, forward.
        _ => return None,
    })
}

/// A step waits itself until all these, and nobody else, stated the same: a range with a hole
/// leaves a node out, and one with more never agrees.
fn check_agreed(step: &Step, stated: &[&Step], rule: &'static str, report: &mut Report) {
    let ids = || stated.iter().map(|stated| stated.id);
    let (Some(first), Some(last)) = (ids().min(), ids().max()) else { return };
    let exactly = usize::try_from(last.0 - first.0).is_ok_and(|span| span + 1 == stated.len());
    if !exactly || !step.gates.contains(&Gate::Agreed { first, last }) {
        report.step(step.id, Fault::NotAgreed { first, last, rule });
    }
}

/// A plan may go without, and says so; a number of nobody is not saying so.
fn check_rehearsed<'a>(view: &View<'a>, fences: &[&'a Step], report: &mut Report) {
    for fence in fences {
        let needs: Vec<u32> = view
            .gates_up_to(fence)
            .filter_map(|gate| match gate {
                Gate::Rehearsed { need } => Some(*need),
                _ => None,
            })
            .collect();
        if needs.contains(&0) {
            report.step(fence.id, Fault::Unsatisfiable { need: 0, possible: 0 });
        }
        if needs.is_empty() {
            report.step(fence.id, Fault::NotRehearsed);
            return;
        }
    }
}

/// The same step on every node waits for the same.
fn check_even(block: &[&Step], report: &mut Report) {
    let Some((first, others)) = block.split_first() else { return };
    for step in others {
        let same = step.gates.len() == first.gates.len()
            && step.gates.iter().all(|gate| first.gates.contains(gate));
        if !same {
            report.step(step.id, Fault::UnevenGates { other: first.id });
        }
    }
}

/// Everything before is done and custody is proven again when there is no way back any more, and
/// nobody lets clients in before.
fn check_commit<'a>(view: &View<'a>, blocks: &Blocks<'a>, report: &mut Report) {
    let is_commit = |step: &&Step| matches!(step.action, Action::Commit);
    let commits: Vec<&Step> = view.plan.steps.iter().filter(is_commit).collect();
    let [commit] = commits.as_slice() else {
        report.plan(Fault::NoCommit { found: commits.len() });
        return;
    };
    view.check_no_return(Some(commit.id), report);
    let of = |kind: Kind| blocks.get(&kind).map_or(&[][..], Vec::as_slice);
    for kind in [Kind::Join, Kind::Exercise] {
        let missing = of(kind).iter().find(|step| !covers(&commit.gates, step));
        if let Some(needed) = missing {
            report.step(commit.id, Fault::CommitWithout { needed: needed.id });
        }
    }
    let earlier = view.plan.steps.iter().filter(|step| step.id < commit.id);
    let rule = "there is no way back from an unfinished step";
    view.require(commit, earlier, rule, report);
    let exercised = of(Kind::Exercise);
    let what = "the point of no return is passed";
    custody::check(view, commit.id, commit.gates.iter(), exercised, what, report);
    for open in of(Kind::Open) {
        let rule = "no client is let in before the commit";
        view.require(open, [*commit], rule, report);
    }
}

/// Whether some gate itself waits for the result of a step.
fn covers(gates: &[Gate], step: &Step) -> bool {
    gates.iter().any(|gate| match gate {
        Gate::Done(found) => *found == step.id,
        Gate::AllDone { first, last } => (*first..=*last).contains(&step.id),
        _ => false,
    })
}

/// Each node goes back by itself: who is absent must not keep the others closed.
fn check_back(view: &View<'_>, report: &mut Report) {
    for (node, own) in &view.nodes {
        let mut before = None;
        for back in &own.back {
            let alone = |gate: &Gate| matches!(gate, Gate::Done(found) if Some(*found) == before);
            if !back.step.gates.iter().all(alone) {
                report.step(back.step.id, Fault::BackWaits { node: (*node).clone() });
            }
            before = Some(back.step.id);
        }
    }
}
