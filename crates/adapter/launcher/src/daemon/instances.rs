//! The processes that a daemon launched, and how they ended.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use heirloom_model::measurement::Measurement;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::peer::{Caller, Peer};
use crate::bundle::VerifiedBundle;
use crate::launch::{LaunchError, Launched, SealedFile};
use crate::machine::Machine;
use crate::protocol::{INSTANCES_MAX, InstanceInfo, InstanceState, LaunchId, Refusal, StopSignal};

/// All instances of one daemon.
#[derive(Default)]
pub(super) struct Instances(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    /// Set when the daemon ends: nothing may start any more.
    closed: bool,
    entries: BTreeMap<LaunchId, Entry>,
    reapers: Vec<JoinHandle<()>>,
}

struct Entry {
    label: String,
    process: u32,
    measurement: Measurement,
    bundle: VerifiedBundle,
    status: Status,
}

enum Status {
    /// Not reaped: its process number cannot belong to another.
    Running { child: Child, binary: SealedFile },
    /// How, if the system said it.
    Ended(Option<ExitStatus>),
}

impl Instances {
    /// Launches under the lock, so that no other process inherits what is meant for this one.
    pub(super) fn launch(
        self: &Arc<Self>,
        machine: &dyn Machine,
        label: &str,
        start: impl FnOnce() -> Result<Launched, LaunchError>,
    ) -> Result<InstanceInfo, Refusal> {
        let mut table = self.lock();
        table.make_room()?;
        let Launched { child, bundle, binary } = start()?;
        let instance = LaunchId(table.next);
        table.next = table.next.saturating_add(1);
        let process = child.id();
        let status = Status::Running { child, binary };
        let measurement = machine.measurement(bundle.secs().measurement);
        let entry = Entry { label: label.to_owned(), process, measurement, bundle, status };
        let info = entry.info(instance);
        table.entries.insert(instance, entry);

        let instances = Arc::clone(self);
        let reaper = thread::Builder::new()
            .name(format!("reaper of {instance}"))
            .spawn(move || instances.reap(instance, process));
        match reaper {
            Ok(reaper) => table.reapers.push(reaper),
            Err(error) => {
                // Nobody would notice its end: it must not run.
                table.kill(instance, Signal::SIGKILL);
                return Err(Refusal::NotStarted { reason: error.to_string() });
            }
        }
        Ok(info)
    }

    /// Who the process at the other end is, if it is an instance that still runs what was measured.
    pub(super) fn identify(&self, stream: &UnixStream) -> Option<Caller> {
        let peer = Peer::of(stream)?;
        let table = self.lock();
        // Instances that ended may have had the same number.
        let (binary, bundle) = table.entries.values().find_map(|entry| match &entry.status {
            Status::Running { binary, .. } if entry.process == peer.number => {
                Some((binary, &entry.bundle))
            }
            Status::Running { .. } | Status::Ended(_) => None,
        })?;
        let still = peer.executable() == Some(binary.identity());
        still.then(|| Caller::Measured(Box::new(bundle.clone())))
    }

    /// All instances, oldest first.
    pub(super) fn list(&self) -> Vec<InstanceInfo> {
        self.lock().entries.iter().map(|(instance, entry)| entry.info(*instance)).collect()
    }

    /// Sends a signal to the process group of an instance, unless it has ended.
    pub(super) fn signal(&self, instance: LaunchId, signal: StopSignal) -> Result<(), Refusal> {
        let mut table = self.lock();
        if !table.entries.contains_key(&instance) {
            return Err(Refusal::UnknownInstance { instance });
        }
        table.kill(
            instance,
            match signal {
                StopSignal::Kill => Signal::SIGKILL,
                StopSignal::Terminate => Signal::SIGTERM,
            },
        );
        Ok(())
    }

    /// Kills every instance, waits for their ends, and lets nothing start any more.
    pub(super) fn end_all(&self) {
        let reapers = {
            let mut table = self.lock();
            table.closed = true;
            let all: Vec<LaunchId> = table.entries.keys().copied().collect();
            for instance in all {
                table.kill(instance, Signal::SIGKILL);
            }
            std::mem::take(&mut table.reapers)
        };
        for reaper in reapers {
            // A reaper that panicked has said so; its process was killed all the same.
            reaper.join().ok();
        }
    }

    /// Waits for the end of a process, then reaps it under the lock, so that nobody sends a
    /// signal to a number that is free again.
    fn reap(&self, instance: LaunchId, process: u32) {
        let Ok(number) = i32::try_from(process) else { return };
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let ended = loop {
            match waitid(Id::Pid(Pid::from_raw(number)), flags) {
                Err(Errno::EINTR) => {}
                ended => break ended,
            }
        };
        let mut table = self.lock();
        let Some(entry) = table.entries.get_mut(&instance) else { return };
        if let Status::Running { child, .. } = &mut entry.status {
            // What it left behind in its group goes with it, as long as the group's number is
            // surely its own: until it is reaped.
            if ended.is_ok() {
                kill_group(process, Signal::SIGKILL);
            }
            entry.status = Status::Ended(child.wait().ok());
        }
    }

    /// A panic cannot leave the table half changed: every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Forgets the oldest instance that ended, if the table is full.
    fn make_room(&mut self) -> Result<(), Refusal> {
        if self.closed {
            return Err(Refusal::NotStarted { reason: "the platform is stopping".to_owned() });
        }
        self.reapers.retain(|reaper| !reaper.is_finished());
        if self.entries.len() < INSTANCES_MAX {
            return Ok(());
        }
        let ended = |entry: &Entry| matches!(entry.status, Status::Ended(_));
        let oldest = self.entries.iter().find(|(_, entry)| ended(entry)).map(|(id, _)| *id);
        match oldest.and_then(|id| self.entries.remove(&id)) {
            Some(_) => Ok(()),
            None => super::within("instances", INSTANCES_MAX + 1, INSTANCES_MAX),
        }
    }

    fn kill(&mut self, instance: LaunchId, signal: Signal) {
        if let Some(Entry { process, status: Status::Running { .. }, .. }) =
            self.entries.get(&instance)
        {
            kill_group(*process, signal);
        }
    }
}

/// Each instance leads a process group of its own. A group that is empty already is as good.
fn kill_group(leader: u32, signal: Signal) {
    if let Ok(leader) = i32::try_from(leader) {
        killpg(Pid::from_raw(leader), signal).ok();
    }
}

impl Entry {
    fn info(&self, instance: LaunchId) -> InstanceInfo {
        let secs = self.bundle.secs();
        let state = match &self.status {
            Status::Running { .. } => InstanceState::Running,
            Status::Ended(None) => InstanceState::Unknown,
            Status::Ended(Some(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => InstanceState::Exited(code),
                (None, Some(signal)) => InstanceState::Killed(signal),
                (None, None) => InstanceState::Unknown,
            },
        };
        InstanceInfo {
            instance,
            process: self.process,
            release: self.bundle.manifest().release.clone(),
            measurement: self.measurement,
            signer: secs.signer,
            state,
            label: self.label.clone(),
        }
    }
}
