//! A fence at nginx: one include file with two exact contents, and a reload.
//!
//! nginx cannot be told anything while it runs, except to read its files again. It then starts
//! new workers, and the old ones end what they have. This has consequences:
//!
//! * For a moment old and new workers both accept. A closed edge is one whose last old worker has
//!   stopped accepting, not one whose first new worker answers "closed".
//! * A client that connected before the reload and asks only later is still served by the old
//!   worker (nginx 1.22 closes idle connections then, but not those that never asked). It is
//!   counted among the connections until it is gone; `client_header_timeout` bounds that.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::edge::{Edge, EdgeAdmission, EdgeError, EdgeState};
use crate::process::Process;
use crate::{file, http, poll, process};

/// The include file that lets clients in, byte for byte.
pub const OPEN: &str = include_str!("nginx/open.conf");
/// The include file that answers every client with 503, byte for byte.
pub const CLOSED: &str = include_str!("nginx/closed.conf");

const FENCE_PATH: &str = "/.heirloom/fence";
const CONNECTIONS_PATH: &str = "/.heirloom/connections";
const FENCE_HEADER: &str = "heirloom-fence";

const MASTER_TITLE: &str = "nginx: master process";
const WORKER_TITLE: &str = "nginx: worker process";
const ENDING_TITLE: &str = "nginx: worker process is shutting down";

/// Our own texts are shorter, and nobody else has to write here.
const INCLUDE_BYTES_MAX: u64 = 16 * 1024;
/// A process number and a line end.
const PID_BYTES_MAX: u64 = 32;
/// What the check of a configuration says is read to here.
const COMPLAINT_BYTES_MAX: u64 = 16 * 1024;
/// How often we ask, to hear from every worker whose age leaves it open what it has read.
const QUESTIONS_MAX: usize = 64;
/// Workers of one generation start within this many ticks of each other. nginx lets 100
/// milliseconds pass between the start of new workers and the end of old ones.
const GENERATION_TICKS: u64 = 8;

/// Where one nginx is. It runs in the same process namespace as the caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NginxOptions {
    /// The program, for checking the configuration: `/usr/sbin/nginx`.
    pub program: PathBuf,
    /// The main configuration file.
    pub configuration: PathBuf,
    /// The file that this fence owns, included first in every `server` block of the service.
    pub include: PathBuf,
    /// The `pid` file of the configuration.
    pub pid_file: PathBuf,
    /// A plain HTTP listener on loopback of a `server` block that includes the file.
    pub probe: SocketAddr,
    /// The name by which the probe asks, if several `server` blocks listen there.
    pub host: String,
    /// How long to wait for an answer or a reload.
    pub timeout: Duration,
}

/// The fence at one nginx.
#[derive(Debug)]
pub struct NginxEdge {
    options: NginxOptions,
}

impl NginxEdge {
    /// Nothing is asked of the proxy yet.
    pub fn new(options: NginxOptions) -> Self {
        Self { options }
    }

    fn set(&self, wanted: EdgeAdmission) -> Result<(), EdgeError> {
        let (before, now) = (self.written()?, self.look());
        if before == wanted && now.as_ref().is_ok_and(|state| state.admission == wanted) {
            return Ok(());
        }
        match &now {
            // An nginx that starts later starts closed, and we still say that it did not answer.
            Err(EdgeError::Unreachable { .. }) if wanted == EdgeAdmission::Closed => {}
            Err(error) => return Err(error.clone()),
            Ok(_) => {}
        }
        if before != wanted {
            file::write(&self.options.include, text_of(wanted))?;
        }
        if let Err(error) = self.check_configuration() {
            if before != wanted {
                // Whoever reloads next gets what runs now, not half of what we wanted.
                file::write(&self.options.include, text_of(before))?;
            }
            return Err(error);
        }
        now?;
        self.reload(wanted)
    }

    /// What the include file says. Only our own two texts are understood.
    fn written(&self) -> Result<EdgeAdmission, EdgeError> {
        let path = &self.options.include;
        match file::read(path, INCLUDE_BYTES_MAX)?.as_str() {
            CLOSED => Ok(EdgeAdmission::Closed),
            OPEN => Ok(EdgeAdmission::Open),
            _ => Err(EdgeError::Corrupt {
                path: path.clone(),
                reason: "it is neither the open nor the closed fence".to_owned(),
            }),
        }
    }

    fn look(&self) -> Result<EdgeState, EdgeError> {
        let master = self.master()?;
        let admission = self.admission(&master)?;
        let connections = match admission {
            EdgeAdmission::Closed => held_by_old_workers(&master)?,
            EdgeAdmission::Open => self.requests_under_way()?,
        };
        Ok(EdgeState { admission, connections })
    }

    /// Asks until it is certain that no worker lets clients in, or one does.
    fn admission(&self, master: &Process) -> Result<EdgeAdmission, EdgeError> {
        let mut closed = BTreeMap::new();
        let mut stranger = None;
        for _ in 0..QUESTIONS_MAX {
            let (answered, pid) = self.ask_fence()?;
            let workers = workers_of(master)?;
            let Some(worker) = workers.iter().find(|worker| worker.pid == pid) else {
                // An old worker that ended meanwhile, or not our nginx at all.
                stranger = Some(pid);
                continue;
            };
            if is_ending(worker) {
                continue;
            }
            if answered == EdgeAdmission::Open {
                return Ok(EdgeAdmission::Open);
            }
            // Only who is still there says something about the others.
            closed.retain(|pid, _| workers.iter().any(|worker| worker.pid == *pid));
            closed.insert(pid, worker.started);
            if all_closed(&closed, &workers) {
                return Ok(EdgeAdmission::Closed);
            }
        }
        match stranger {
            Some(pid) if closed.is_empty() => Err(EdgeError::Refused {
                what: format!("to trust {}", self.options.pid_file.display()),
                reason: format!(
                    "process {pid} answers at {}, and is no worker of process {}",
                    self.options.probe, master.pid
                ),
            }),
            // A worker that has not answered may have read an older file.
            _ => Ok(EdgeAdmission::Open),
        }
    }

    /// What one worker has read, and which.
    fn ask_fence(&self) -> Result<(EdgeAdmission, u32), EdgeError> {
        let NginxOptions { probe, host, timeout, .. } = &self.options;
        let answer = http::ask(*probe, host, FENCE_PATH, *timeout)?;
        let fence = answer.header(FENCE_HEADER).and_then(|value| value.split_once(' '));
        let pid = fence.and_then(|(_, pid)| pid.parse().ok());
        match (fence.map(|(word, _)| word), answer.status, pid) {
            (Some("closed"), 503, Some(pid)) => Ok((EdgeAdmission::Closed, pid)),
            (Some("open"), 200, Some(pid)) => Ok((EdgeAdmission::Open, pid)),
            _ => Err(EdgeError::Unexpected {
                what: format!("http://{probe}{FENCE_PATH}"),
                reason: format!(
                    "status {} without the fence's header: the server block has to include {} \
                     before anything else",
                    answer.status,
                    self.options.include.display()
                ),
            }),
        }
    }

    /// What nginx counts itself, for all of its servers, without our own question.
    fn requests_under_way(&self) -> Result<u64, EdgeError> {
        let NginxOptions { probe, host, timeout, .. } = &self.options;
        let answer = http::ask(*probe, host, CONNECTIONS_PATH, *timeout)?;
        let (reading, writing) =
            (counter(&answer.body, "Reading:"), counter(&answer.body, "Writing:"));
        let counted = reading.zip(writing).filter(|_| answer.status == 200);
        let (reading, writing) = counted.ok_or_else(|| EdgeError::Unexpected {
            what: format!("http://{probe}{CONNECTIONS_PATH}"),
            reason: format!("status {} without nginx's counters", answer.status),
        })?;
        Ok(reading.saturating_add(writing).saturating_sub(1))
    }

    /// The master that the pid file names, if it is one.
    fn master(&self) -> Result<Process, EdgeError> {
        let path = &self.options.pid_file;
        let what = || format!("nginx of {}", path.display());
        let absent = |reason: String| EdgeError::Unreachable { what: what(), reason };
        let text = match file::read(path, PID_BYTES_MAX) {
            Ok(text) => text,
            Err(EdgeError::Missing { .. }) => {
                return Err(absent("there is no pid file".to_owned()));
            }
            Err(error) => return Err(error),
        };
        if text.trim().is_empty() {
            return Err(absent("the pid file is empty".to_owned()));
        }
        let pid = text.trim().parse().map_err(|_error| EdgeError::Unexpected {
            what: path.display().to_string(),
            reason: "it does not contain the number of a process".to_owned(),
        })?;
        let found = process::find(pid);
        let found = found.ok_or_else(|| absent(format!("process {pid} does not run")))?;
        if found.title.starts_with(MASTER_TITLE) {
            return Ok(found);
        }
        Err(EdgeError::Refused {
            what: format!("to trust {}", path.display()),
            reason: format!("process {pid} is no nginx master: {:?}", found.title),
        })
    }

    /// What nginx itself says about the configuration, with the include file as it is now.
    fn check_configuration(&self) -> Result<(), EdgeError> {
        let NginxOptions { program, configuration, timeout, .. } = &self.options;
        let mut command = Command::new(program);
        command.args(["-t", "-q", "-c"]).arg(configuration);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let system = |error: std::io::Error| EdgeError::at_file("run", program, &error);
        let mut child = command.spawn().map_err(system)?;
        let complaint = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                // What was read until then is all that there is to say.
                let _read = stderr.take(COMPLAINT_BYTES_MAX).read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).trim().to_owned()
            })
        });
        let Some(status) = poll::until(*timeout, || child.try_wait()).map_err(system)? else {
            // It is ours, and whether it is already gone changes nothing.
            let _killed = child.kill();
            let _status = child.wait();
            let reason = format!("it did not end in {timeout:?}");
            return Err(EdgeError::Unreachable { what: self.check_name(), reason });
        };
        if status.success() {
            return Ok(());
        }
        if status.code().is_none() {
            let reason = format!("it said nothing before its end: {status}");
            return Err(EdgeError::Unreachable { what: self.check_name(), reason });
        }
        let reason = complaint.and_then(|thread| thread.join().ok()).unwrap_or_default();
        let what = format!("configuration {}", self.options.configuration.display());
        Err(EdgeError::Refused { what, reason })
    }

    fn check_name(&self) -> String {
        format!("nginx's check of {}", self.options.configuration.display())
    }

    /// Lets nginx read its files, and waits until no worker serves that was there before.
    fn reload(&self, wanted: EdgeAdmission) -> Result<(), EdgeError> {
        let master = self.master()?;
        let before: Vec<(u32, u64)> =
            workers_of(&master)?.iter().map(|worker| (worker.pid, worker.started)).collect();
        signal(&master)?;
        let done = poll::until(self.options.timeout, || {
            let workers = workers_of(&master)?;
            let old = workers.iter().filter(|worker| !is_ending(worker));
            if old.into_iter().any(|worker| before.contains(&(worker.pid, worker.started))) {
                return Ok(None);
            }
            Ok((self.admission(&master)? == wanted).then_some(()))
        })?;
        // A busy machine may take longer, and nothing that was answered is wrong.
        done.ok_or_else(|| EdgeError::Unreachable {
            what: format!("nginx master {}", master.pid),
            reason: format!(
                "{:?} after the signal to reload, workers still serve with what they had read",
                self.options.timeout
            ),
        })
    }
}

impl Edge for NginxEdge {
    fn observe(&mut self) -> Result<EdgeState, EdgeError> {
        self.look()
    }

    fn close(&mut self) -> Result<(), EdgeError> {
        self.set(EdgeAdmission::Closed)
    }

    fn open(&mut self) -> Result<(), EdgeError> {
        self.set(EdgeAdmission::Open)
    }
}

fn text_of(admission: EdgeAdmission) -> &'static str {
    match admission {
        EdgeAdmission::Closed => CLOSED,
        EdgeAdmission::Open => OPEN,
    }
}

fn workers_of(master: &Process) -> Result<Vec<Process>, EdgeError> {
    let mut workers = process::children(master.pid).map_err(|error| EdgeError::Refused {
        what: "to list processes".to_owned(),
        reason: error.to_string(),
    })?;
    workers.retain(|child| child.title.starts_with(WORKER_TITLE));
    Ok(workers)
}

/// Once closed, only old workers have work of clients, and they stay until it has ended.
fn held_by_old_workers(master: &Process) -> Result<u64, EdgeError> {
    let mut held: u64 = 0;
    for worker in workers_of(master)?.iter().filter(|worker| is_ending(worker)) {
        let connections = match process::client_connections(worker.pid) {
            Ok(connections) => connections,
            Err(_) if process::find(worker.pid).is_none() => continue,
            Err(error) => {
                return Err(EdgeError::Refused {
                    what: format!("to see the connections of nginx worker {}", worker.pid),
                    reason: error.to_string(),
                });
            }
        };
        // A worker that is still there is not done, also if we see no connection of it.
        held = held.saturating_add(connections.max(1));
    }
    Ok(held)
}

/// Such a worker has closed its listening sockets.
fn is_ending(worker: &Process) -> bool {
    worker.title.starts_with(ENDING_TITLE)
}

/// Whether every worker that accepts has read the closed fence: it said so, or it is not older
/// than one that said so.
fn all_closed(closed: &BTreeMap<u32, u64>, workers: &[Process]) -> bool {
    let Some(oldest) = closed.values().min() else { return false };
    workers.iter().filter(|worker| !is_ending(worker)).all(|worker| {
        closed.contains_key(&worker.pid)
            || worker.started.saturating_add(GENERATION_TICKS) >= *oldest
    })
}

fn counter(text: &str, name: &str) -> Option<u64> {
    text.split_once(name)?.1.split_whitespace().next()?.parse().ok()
}

fn signal(master: &Process) -> Result<(), EdgeError> {
    let what = format!("to reload nginx master {}", master.pid);
    // The number may have gone to another process since we looked at the title.
    let same = process::find(master.pid).is_some_and(|now| now.started == master.started);
    let pid = i32::try_from(master.pid).ok().filter(|_| same);
    let Some(pid) = pid else {
        return Err(EdgeError::Unreachable { what, reason: "it has ended".to_owned() });
    };
    kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(|errno| match errno {
        Errno::ESRCH => {
            EdgeError::Unreachable { what: what.clone(), reason: "it has ended".to_owned() }
        }
        _ => EdgeError::Refused { what: what.clone(), reason: errno.desc().to_owned() },
    })
}

#[cfg(test)]
mod tests;
