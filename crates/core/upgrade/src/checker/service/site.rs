//! The service of one node, as far as steps change it: forward, and back from every moment.

use std::collections::BTreeSet;

use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Placement, RollbackStep, ServiceAction, Step};
use heirloom_model::service::{Admission, ServiceChange, Writing};

use super::super::{Fault, Report};
use super::{Own, View};

/// A step does not fit the site: what it would need.
type Misfit = &'static str;

/// One node.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Site<'a> {
    change: &'a ServiceChange,
    installed: Placement,
    process: Option<Process>,
    /// Who gets through the proxy and to the process.
    admission: Admission,
    database: Database,
    past: BTreeSet<Past>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Process {
    code: Placement,
    writing: Writing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Database {
    Original,
    Migrated,
}

/// What was done and leaves no other trace.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Past {
    Equipped,
    Snapshot,
    Joined,
    Exercised,
    Watched,
}

/// Walks one node forward, and back from an abort at each of its steps.
pub(super) fn check(view: &View<'_>, node: &NodeId, own: &Own<'_>, report: &mut Report) {
    let mut site = Site::before(view.change);
    let mut begun = BTreeSet::new();
    let mut sound = true;
    for step in &own.forward {
        let before = site.clone();
        if let Err(needed) = site.run(&step.action) {
            report.step(step.id, Fault::Unexpected { node: node.clone(), needed });
            return;
        }
        begun.insert(step.id);
        if step.id > view.plan.point_of_no_return {
            continue;
        }
        // An abort finds a step that was begun either way.
        for cut_off in [before, site.clone()] {
            let needed = own.back.iter().filter(|back| begun.contains(&back.undoes));
            sound = sound && walk_back(step, cut_off, needed.copied(), report);
        }
    }
    if !site.is_finished() {
        report.plan(Fault::NotServing { node: node.clone() });
    }
}

/// Returns whether the way back from an abort at a step was sound: one that fails says enough.
fn walk_back<'a>(
    aborted_at: &Step,
    mut site: Site<'_>,
    needed: impl Iterator<Item = &'a RollbackStep>,
    report: &mut Report,
) -> bool {
    let node = || aborted_at.node.clone();
    for RollbackStep { step, .. } in needed {
        if let Err(needed) = site.run(&step.action) {
            let (node, aborted_at) = (node(), aborted_at.id);
            report.step(step.id, Fault::BackUnexpected { node, aborted_at, needed });
            return false;
        }
    }
    if !site.is_as_before() {
        report.step(aborted_at.id, Fault::NoWayBack { node: node() });
    }
    site.is_as_before()
}

impl<'a> Site<'a> {
    fn before(change: &'a ServiceChange) -> Self {
        Self {
            change,
            installed: change.from,
            process: Some(Process { code: change.from, writing: Writing::Active }),
            admission: Admission::Open,
            database: Database::Original,
            past: BTreeSet::new(),
        }
    }

    /// The old service serves, from the database that it knows.
    fn is_as_before(&self) -> bool {
        let before = Self::before(self.change);
        // A process of the same code that was never ended is as good as a new one.
        let same = |process: Process| process.code.measurement == self.change.from.measurement;
        let process = self.process.filter(|found| found.writing == Writing::Active && same(*found));
        let rest = (self.installed, self.admission, self.database);
        process.is_some() && rest == (before.installed, before.admission, before.database)
    }

    /// The new service serves, and everything was seen that has to be seen.
    fn is_finished(&self) -> bool {
        let all = [Past::Equipped, Past::Snapshot, Past::Joined, Past::Exercised, Past::Watched];
        let seen: &[Past] = if self.change.changes_code() { &all } else { &[Past::Joined] };
        let active = Process { code: self.change.to, writing: Writing::Active };
        self.installed == self.change.to
            && self.process == Some(active)
            && self.admission == Admission::Open
            && seen.iter().all(|past| self.past.contains(past))
    }

    /// Carries out a step. One that finds its work done changes nothing; one that finds something
    /// else is a misfit.
    fn run(&mut self, action: &Action) -> Result<(), Misfit> {
        match action {
            Action::Service(ServiceAction::Equip(_)) => self.mark(Past::Equipped),
            Action::Service(ServiceAction::Muster(at)) => {
                self.running(at)?;
                if self.admission != Admission::Open {
                    return Err("a service that clients still use when it musters");
                }
            }
            Action::Service(ServiceAction::Fence(_)) => self.admission = Admission::Closed,
            Action::Service(ServiceAction::Freeze(at)) => {
                self.fenced()?;
                self.running(at)?;
                self.write(Writing::Frozen);
            }
            Action::Service(ServiceAction::Halt(at)) => return self.halt(at),
            Action::Service(ServiceAction::Snapshot) => {
                self.ended()?;
                self.mark(Past::Snapshot);
            }
            Action::Service(ServiceAction::Migrate) => {
                self.ended()?;
                if !self.past.contains(&Past::Snapshot) {
                    return Err("a snapshot of what it migrates");
                }
                self.database = Database::Migrated;
            }
            Action::Service(ServiceAction::Revert) => {
                self.ended()?;
                self.database = Database::Original;
            }
            Action::Service(ServiceAction::Deploy { expect, install }) => {
                return self.deploy(expect, install);
            }
            Action::Service(ServiceAction::Launch(at)) => return self.launch(at),
            Action::Service(ServiceAction::Join(at)) => {
                self.running(at)?;
                self.mark(Past::Joined);
            }
            Action::Service(ServiceAction::Exercise(at)) => {
                self.fenced()?;
                self.running(at)?;
                if !self.past.contains(&Past::Joined) {
                    return Err("peers before it tries anything");
                }
                self.mark(Past::Exercised);
            }
            Action::Service(ServiceAction::Open(at)) => {
                self.running(at)?;
                self.write(Writing::Active);
                self.admission = Admission::Open;
            }
            Action::Service(ServiceAction::Watch(at)) => {
                self.running(at)?;
                if self.admission != Admission::Open {
                    return Err("clients before anybody watches them");
                }
                self.mark(Past::Watched);
            }
            // What is not about the service of one node was told apart before.
            _ => {}
        }
        Ok(())
    }

    fn halt(&mut self, at: &Placement) -> Result<(), Misfit> {
        self.fenced()?;
        let Some(process) = self.process else { return Ok(()) };
        if process.code.measurement != at.measurement {
            return Err("the process that it ends, and another one runs");
        }
        let old = at.measurement == self.change.from.measurement;
        if self.change.changes_code() && old && process.writing != Writing::Frozen {
            return Err("a frozen service before its process ends");
        }
        self.process = None;
        Ok(())
    }

    fn deploy(&mut self, expect: &Placement, install: &Placement) -> Result<(), Misfit> {
        self.ended()?;
        if self.installed != *expect && self.installed != *install {
            return Err("the release that it expects");
        }
        let staged = self.past.contains(&Past::Equipped) || !self.change.changes_code();
        if *install == self.change.to && !staged {
            return Err("a release that was staged and tried");
        }
        self.installed = *install;
        Ok(())
    }

    fn launch(&mut self, at: &Placement) -> Result<(), Misfit> {
        self.fenced()?;
        if self.installed != *at {
            return Err("the release that it starts to be installed");
        }
        let new = self.change.changes_code() && *at == self.change.to;
        let expected = if new { Database::Migrated } else { Database::Original };
        if self.database != expected {
            return Err("the database that this release serves");
        }
        match self.process {
            Some(process) if process.code.measurement != at.measurement => {
                Err("no other process on its node")
            }
            Some(_) => Ok(()),
            None => {
                self.process = Some(Process { code: *at, writing: Writing::Active });
                Ok(())
            }
        }
    }

    fn mark(&mut self, past: Past) {
        self.past.insert(past);
    }

    fn write(&mut self, writing: Writing) {
        if let Some(process) = self.process.as_mut() {
            process.writing = writing;
        }
    }

    fn running(&self, at: &Placement) -> Result<(), Misfit> {
        match self.process {
            Some(process) if process.code.measurement == at.measurement => Ok(()),
            Some(_) | None => Err("a running service of this release"),
        }
    }

    fn ended(&self) -> Result<(), Misfit> {
        match self.process {
            None => Ok(()),
            Some(_) => Err("an ended process, and a database that nobody holds"),
        }
    }

    fn fenced(&self) -> Result<(), Misfit> {
        match self.admission {
            Admission::Closed | Admission::SideDoor => Ok(()),
            Admission::Open => Err("a fence before it"),
        }
    }
}
