//! A change of a service, told to people.

use std::collections::BTreeMap;
use std::fmt;

use heirloom_model::digest::ReleaseDigest;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Gate, KeyringPlan, ServiceAction, Step, StepId};
use heirloom_model::service::{KeyCustody, ServiceChange, Writing};

use super::words::names;

/// Consecutive steps of one kind, and how they leave the service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Phase {
    /// The first of the steps.
    pub first: StepId,
    /// The last of them.
    pub last: StepId,
    /// What they do.
    pub what: &'static str,
    /// Every node, once they are done.
    pub after: Fleet,
    /// What happens if the plan is called off during these steps.
    pub abort: &'static str,
    /// What happens if one of these steps fails.
    pub failure: &'static str,
}

/// The service of all nodes, counted, if every step so far was carried out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fleet {
    /// Nodes that let clients in.
    pub open: usize,
    /// Running instances of the old release.
    pub old: usize,
    /// Running instances of the new release.
    pub new: usize,
    /// Instances that promised to append nothing, whether their process still runs or not.
    pub frozen: usize,
    /// Migrated databases in place of those that were there before.
    pub migrated: usize,
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { open, old, new, frozen, migrated } = self;
        write!(f, "{open} open; {old} old and {new} new run; {frozen} frozen; {migrated} migrated")
    }
}

/// One node, while a plan is told.
#[derive(Clone, Copy)]
struct Site {
    open: bool,
    runs: Option<Measurement>,
    writing: Writing,
    migrated: bool,
}

/// The phases of a plan that changes a service; none for other plans.
pub(super) fn phases(plan: KeyringPlan<'_>) -> Vec<Phase> {
    let Some(change) = &plan.service else { return Vec::new() };
    let before = Site {
        open: true,
        runs: Some(change.from.measurement),
        writing: Writing::Active,
        migrated: false,
    };
    let mut sites: BTreeMap<&NodeId, Site> = plan.nodes.iter().map(|node| (node, before)).collect();
    let mut phases = Vec::new();
    let alike = |left: &Step, right: &Step| left.action.name() == right.action.name();
    for steps in plan.steps.chunk_by(alike) {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { continue };
        for step in steps {
            if let Some(site) = sites.get_mut(&step.node) {
                apply(&step.action, site);
            }
        }
        let past = last.id > plan.point_of_no_return;
        phases.push(Phase {
            first: first.id,
            last: last.id,
            what: first.action.name(),
            after: count(change, sites.values()),
            abort: if past { "impossible: there is only forward" } else { abort(change, first) },
            failure: failure(change, &first.action),
        });
    }
    phases
}

fn apply(action: &Action, site: &mut Site) {
    match action {
        Action::Service(ServiceAction::Fence(_)) => site.open = false,
        Action::Service(ServiceAction::Freeze(_)) => site.writing = Writing::Frozen,
        Action::Service(ServiceAction::Halt(_)) => site.runs = None,
        Action::Service(ServiceAction::Migrate) => site.migrated = true,
        Action::Service(ServiceAction::Launch(at)) => {
            site.runs = Some(at.measurement);
            site.writing = Writing::Active;
        }
        Action::Service(ServiceAction::Open(_)) => site.open = true,
        _ => {}
    }
}

fn count<'s>(change: &ServiceChange, sites: impl Iterator<Item = &'s Site>) -> Fleet {
    let mut fleet = Fleet::default();
    let new = |code| change.changes_code() && code == change.to.measurement;
    for site in sites {
        fleet.open += usize::from(site.open);
        fleet.old += usize::from(site.runs.is_some_and(|code| !new(code)));
        fleet.new += usize::from(site.runs.is_some_and(new));
        fleet.frozen += usize::from(site.writing == Writing::Frozen);
        fleet.migrated += usize::from(site.migrated);
    }
    fleet
}

/// What an abort does that comes while a step of this kind is carried out.
fn abort(change: &ServiceChange, step: &Step) -> &'static str {
    if !change.changes_code() && step.wave > 0 {
        return "what started again goes back, one node after the other";
    }
    match &step.action {
        Action::Service(ServiceAction::Fence(_)) => "each node lets clients in again",
        Action::Service(ServiceAction::Freeze(_)) => {
            "each node takes part again and lets clients in"
        }
        Action::Service(ServiceAction::Halt(_) | ServiceAction::Snapshot) => {
            "each node starts the old service at the frozen tip and lets clients in"
        }
        Action::Service(ServiceAction::Migrate) => {
            "each node puts its database back, starts the old service and lets clients in"
        }
        Action::Service(ServiceAction::Deploy { .. }) => {
            "each node puts its database and the old release back, starts it and lets clients in"
        }
        Action::Service(
            ServiceAction::Launch(_) | ServiceAction::Join(_) | ServiceAction::Exercise(_),
        )
        | Action::Verify { .. }
        | Action::Commit
            if step.id.0 > 0 =>
        {
            "each node ends the new service, puts its database and the old release back, starts \
             it and lets clients in"
        }
        _ => "nothing has to be put back: clients noticed nothing",
    }
}

/// What becomes of the plan if a step of this kind fails.
fn failure(change: &ServiceChange, action: &Action) -> &'static str {
    match action {
        Action::Service(ServiceAction::Equip(_) | ServiceAction::Muster(_)) => {
            "tried again until the plan is called off by itself; nothing is closed"
        }
        Action::Verify { .. } => "asked again until the plan is called off by itself",
        Action::Commit | Action::Withdraw(_) => "tried again",
        Action::Service(ServiceAction::Open(_)) if change.changes_code() => {
            "tried again, with an alarm: forward only"
        }
        Action::Service(ServiceAction::Watch(_)) => {
            "an alarm for people: a fork, or too many errors; forward only"
        }
        _ => "the agent of the node calls the plan off at once",
    }
}

/// What the plan is about.
pub(super) fn subject(
    plan: KeyringPlan<'_>,
    change: &ServiceChange,
    name: impl Fn(&ReleaseDigest) -> String,
) -> String {
    let ServiceChange { application, from, to, .. } = change;
    let how = if change.changes_code() { "flag day" } else { "rolling restart" };
    let (from, to) = (name(&from.release), name(&to.release));
    let (domain, number) = (plan.domain, plan.number);
    format!(
        "{how} of service {application} of domain {domain} from {from} to {to}, plan number {number}"
    )
}

/// What operators agree to, in sentences.
pub(super) fn summary(plan: KeyringPlan<'_>, change: &ServiceChange) -> Vec<String> {
    let ServiceChange { terms, opens, abort_after, .. } = change;
    let mut told = vec![
        format!("service from {} to {}", change.from.measurement, change.to.measurement),
        format!("{} nodes change: {}", plan.nodes.len(), names(&plan.nodes)),
        format!(
            "the window opens with epoch {opens}; after epoch {abort_after} the plan is called \
             off by itself, unless it is committed"
        ),
    ];
    if !change.changes_code() {
        told.push("never more than one node is closed, on the way back neither".to_owned());
        told.push(format!(
            "the point of no return is step {}, when the last node lets clients in",
            plan.point_of_no_return
        ));
        return told;
    }
    let find = |kind: fn(&Action) -> bool| plan.steps.iter().find(|step| kind(&step.action));
    let fence = find(|action| matches!(action, Action::Service(ServiceAction::Fence(_))));
    let open = find(|action| matches!(action, Action::Service(ServiceAction::Open(_))));
    if let (Some(fence), Some(open)) = (fence, open) {
        told.push(format!(
            "closed window from step {} to step {}: no node lets clients in",
            fence.id, open.id
        ));
    }
    told.push(format!(
        "schema {} to {}; migrations: {}; tests: {}",
        terms.schema_from,
        terms.schema_to,
        listed(&terms.migrations),
        listed(&terms.tests)
    ));
    let of = |custody| {
        let keys: Vec<_> = terms.keys.iter().filter(|term| term.custody == custody).collect();
        listed(&keys.iter().map(|term| &term.key).collect::<Vec<_>>())
    };
    let (lasting, made) = (of(KeyCustody::Keyring), of(KeyCustody::PerBoot));
    told.push(format!("keys from the keyring: {lasting}; keys that each start makes anew: {made}"));
    told.push(format!(
        "a service freezes after {} ms of quiet; clients are watched for {} ms, with at most {} \
         errors a node; clients older than protocol {} are turned away",
        terms.quiet_milliseconds, terms.watch_milliseconds, terms.errors_max, terms.clients_min
    ));
    told.push(format!("what is rehearsed are the terms {}", terms.digest()));
    told.push(format!(
        "the point of no return is step {}: before it an abort brings the old service back on \
         each node by itself, after it there is only forward",
        plan.point_of_no_return
    ));
    told
}

fn listed<T: fmt::Display>(names: &[T]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What must be said aloud.
pub(super) fn warnings(plan: KeyringPlan<'_>) -> Vec<String> {
    let Some(change) = &plan.service else { return Vec::new() };
    let rehearses =
        |step: &Step| step.gates.iter().any(|gate| matches!(gate, Gate::Rehearsed { need: 1.. }));
    let mut told = Vec::new();
    if change.changes_code() && !plan.steps.iter().any(rehearses) {
        told.push("no rehearsal of these terms is demanded".to_owned());
    }
    if plan.nodes.len() == 1 {
        told.push("the service runs on one node: it is closed while that node changes".to_owned());
    }
    told
}

/// The words for what runs as a service, by its code.
fn code(plan: KeyringPlan<'_>, measurement: &Measurement) -> &'static str {
    match &plan.service {
        Some(change) if !change.changes_code() => "service",
        Some(change) if *measurement == change.to.measurement => "new service",
        Some(_) => "old service",
        None => "service",
    }
}

/// What a step does to the service of its node.
pub(super) fn action(plan: KeyringPlan<'_>, action: &Action) -> String {
    let service = |at: &heirloom_model::plan::Placement| code(plan, &at.measurement);
    match action {
        Action::Service(ServiceAction::Equip(at)) => {
            format!("stage the {} and try it once without data", service(at))
        }
        Action::Service(ServiceAction::Muster(at)) => {
            format!("the {} states that it runs as agreed", service(at))
        }
        Action::Service(ServiceAction::Fence(at)) => {
            format!("the {} lets no client in any more; what runs ends", service(at))
        }
        Action::Service(ServiceAction::Freeze(at)) => {
            format!("the {} promises to append no block, and states its tip", service(at))
        }
        Action::Service(ServiceAction::Halt(at)) => {
            format!("end the {}, and see that its database is free", service(at))
        }
        Action::Service(ServiceAction::Snapshot) => {
            "copy database and distribution state, and read the copy".to_owned()
        }
        Action::Service(ServiceAction::Migrate) => {
            "put a migrated copy in place of the database, which stays".to_owned()
        }
        Action::Service(ServiceAction::Revert) => {
            "put the database that was there before in its place again".to_owned()
        }
        Action::Service(ServiceAction::Deploy { expect, install })
            if expect.measurement == install.measurement =>
        {
            "install the release in place of the one with the same code".to_owned()
        }
        Action::Service(ServiceAction::Deploy { expect, install }) => {
            format!("install the {} in place of the {}", service(install), service(expect))
        }
        Action::Service(ServiceAction::Launch(at)) => {
            format!("start the {} behind the fence, at the frozen tip", service(at))
        }
        Action::Service(ServiceAction::Join(at)) => {
            format!("the {} states that every other node is its attested peer", service(at))
        }
        Action::Service(ServiceAction::Exercise(at)) => {
            format!("try the {} through the side door", service(at))
        }
        Action::Commit => "commit: from here on nobody calls the flag day off".to_owned(),
        Action::Service(ServiceAction::Open(at)) => format!("the {} lets clients in", service(at)),
        Action::Service(ServiceAction::Watch(at)) => {
            format!("watch the {} while clients use it", service(at))
        }
        _ => action.name().to_owned(),
    }
}
