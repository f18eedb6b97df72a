//! One host, as far as steps change it.

use std::collections::BTreeMap;

use heirloom_model::measurement::Measurement;
use heirloom_model::plan::Action;

/// What runs, what is installed, what is on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Host {
    installed: Measurement,
    process: Option<Process>,
    /// Live sealed state: whose, and whether the keyring is in it.
    live: Option<(Measurement, Keys)>,
    quarantined: BTreeMap<Measurement, Keys>,
    prepared: Option<Measurement>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Process {
    measurement: Measurement,
    /// Whether everything that it holds came from disk when it started.
    recovered: bool,
    /// Whether it still takes new requests.
    service: Service,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Service {
    Open,
    Draining,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keys {
    Absent,
    Present,
}

/// A step does not fit the host: what it would need.
pub(super) type Misfit = &'static str;

impl Host {
    /// A holder before the plan begins.
    pub(super) fn holding(measurement: Measurement) -> Self {
        Self {
            installed: measurement,
            process: Some(Process { measurement, recovered: true, service: Service::Open }),
            live: Some((measurement, Keys::Present)),
            quarantined: BTreeMap::new(),
            prepared: None,
        }
    }

    /// Whether this code runs and serves, with the keyring that it unsealed when it started.
    pub(super) fn proves(&self, measurement: Measurement) -> bool {
        self.installed == measurement
            && self.process
                == Some(Process { measurement, recovered: true, service: Service::Open })
            && self.live == Some((measurement, Keys::Present))
    }

    /// Whether the release that will be installed was staged and tried.
    pub(super) fn is_prepared_for(&self, measurement: Measurement) -> bool {
        self.prepared == Some(measurement)
    }

    /// Carries out a step. A step that finds its work done changes nothing, as every executor
    /// must be able to say after an interruption; a step that finds something else is a misfit.
    pub(super) fn run(&mut self, action: &Action) -> Result<(), Misfit> {
        match action {
            Action::Prepare(placement) => self.prepared = Some(placement.measurement),
            Action::Verify { .. } | Action::Withdraw(_) => {}
            Action::Drain(_) => {
                if let Some(process) = self.process.as_mut() {
                    process.service = Service::Draining;
                }
            }
            Action::Stop(placement) => return self.stop(placement.measurement),
            Action::Quarantine(measurement) => return self.quarantine(*measurement),
            Action::Restore(measurement) => return self.restore(*measurement),
            Action::Install { expect, install } => {
                return self.install(expect.measurement, install.measurement);
            }
            Action::Start(placement) => return self.start(placement.measurement),
            Action::Replicate { .. } => return self.replicate(),
            Action::Restart(placement) => {
                self.process.ok_or("a running process")?;
                self.stop(placement.measurement)?;
                return self.start(placement.measurement);
            }
            Action::HandOver { .. }
            | Action::Suspend(_)
            | Action::Activate(_)
            | Action::Forget(_)
            | Action::Preserve(_)
            | Action::Reseal(_) => return Err("a plan without waves"),
            Action::Service(_) | Action::Commit => return Err("a plan that changes a service"),
            Action::Participant(_) => return Err("a plan that moves a participant"),
        }
        Ok(())
    }

    fn stop(&mut self, measurement: Measurement) -> Result<(), Misfit> {
        match self.process {
            Some(process) if process.measurement != measurement => {
                Err("the process that it stops, and another one runs")
            }
            Some(_) | None => {
                self.process = None;
                Ok(())
            }
        }
    }

    fn quarantine(&mut self, measurement: Measurement) -> Result<(), Misfit> {
        if self.process.is_some() {
            return Err("a stopped process before sealed state is moved");
        }
        if let Some((found, keys)) = self.live
            && found == measurement
        {
            self.quarantined.insert(measurement, keys);
            self.live = None;
        }
        Ok(())
    }

    fn restore(&mut self, measurement: Measurement) -> Result<(), Misfit> {
        if self.live.is_some_and(|(found, _)| found == measurement) {
            return Ok(());
        }
        if self.live.is_some() || self.process.is_some() {
            return Err("no other live state and no process before sealed state is moved back");
        }
        let keys = self.quarantined.remove(&measurement);
        let keys = keys.ok_or("quarantined state of this measurement")?;
        self.live = Some((measurement, keys));
        Ok(())
    }

    fn install(&mut self, expect: Measurement, install: Measurement) -> Result<(), Misfit> {
        if self.process.is_some() {
            return Err("a stopped process before the bundle is exchanged");
        }
        if self.installed != expect && self.installed != install {
            return Err("the bundle that it expects");
        }
        self.installed = install;
        Ok(())
    }

    fn start(&mut self, measurement: Measurement) -> Result<(), Misfit> {
        if self.installed != measurement {
            return Err("the bundle that it starts");
        }
        match self.process {
            Some(process) if process.measurement == measurement => return Ok(()),
            Some(_) => return Err("no other process"),
            None => {}
        }
        match self.live {
            Some((found, _)) if found != measurement => {
                return Err("the sealed state of other code out of the way");
            }
            Some(_) => {}
            None => self.live = Some((measurement, Keys::Absent)),
        }
        self.process = Some(Process { measurement, recovered: true, service: Service::Open });
        Ok(())
    }

    fn replicate(&mut self) -> Result<(), Misfit> {
        let process = self.process.as_mut().ok_or("a running process")?;
        let Some((_, keys)) = self.live.as_mut() else { return Err("sealed state to write to") };
        if *keys == Keys::Absent {
            *keys = Keys::Present;
            process.recovered = false;
        }
        Ok(())
    }
}
