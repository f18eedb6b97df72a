//! A fence at HAProxy: the servers of one backend are drained through the master's socket.
//!
//! Draining alone lets clients with a sticky cookie, or on a connection that is kept, go on. The
//! frontend therefore refuses every request while the backend has no usable server; see
//! [`crate::template::haproxy`] for the line. A running request is never touched.
//!
//! A reload or restart forgets what was said through the socket, unless the configuration loads
//! the server state file, which is written here.

use std::path::PathBuf;
use std::time::Duration;

use crate::edge::{Edge, EdgeAdmission, EdgeError, EdgeState};
use crate::haproxy::master::Master;
use crate::haproxy::servers::{Server, Servers};
use crate::{file, poll};

mod master;
mod servers;

/// The state of a large HAProxy has some 100 bytes for each server.
const STATE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a worker answers to a command about a server once it only ends what it has.
const ENDING: &str = "Proxy is disabled.";

/// Where one HAProxy is. It runs in master-worker mode (`-W` or `-Ws`) with a master socket (`-S`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HaProxyOptions {
    /// The master's command socket: it reaches the worker that serves, and the workers that still
    /// end requests after a reload.
    pub master_socket: PathBuf,
    /// The backend whose servers are the service. All of them are fenced.
    pub backend: String,
    /// The `server-state-file` of the configuration, from which HAProxy reads after a reload or
    /// restart that the servers are drained.
    pub state_file: PathBuf,
    /// How long to wait for an answer or a change.
    pub timeout: Duration,
}

/// The fence at one HAProxy.
#[derive(Debug)]
pub struct HaProxyEdge {
    options: HaProxyOptions,
    master: Master,
}

/// What the worker that serves says, with the requests of those that end.
struct Sight {
    state: EdgeState,
    serving: u32,
    servers: Servers,
}

impl HaProxyEdge {
    /// Nothing is asked of the proxy yet.
    pub fn new(options: HaProxyOptions) -> Self {
        let master = Master::new(&options.master_socket, options.timeout);
        Self { options, master }
    }

    fn look(&self) -> Result<Sight, EdgeError> {
        let seen = poll::until(self.options.timeout, || self.look_once())?;
        seen.ok_or_else(|| EdgeError::Unreachable {
            what: self.name(),
            reason: format!("no worker has answered within {:?}", self.options.timeout),
        })
    }

    /// None while workers come and go.
    fn look_once(&self) -> Result<Option<Sight>, EdgeError> {
        let Some(workers) = self.master.workers()? else { return Ok(None) };
        let serving = workers.serving;
        let Some(servers) = self.servers(serving)? else { return Ok(None) };
        let Some(mut connections) = self.requests_under_way(serving)? else { return Ok(None) };
        for worker in workers.ending {
            // One that has ended meanwhile has nothing under way.
            let ending = self.requests_under_way(worker)?.unwrap_or(0);
            connections = connections.saturating_add(ending);
        }
        let admits = servers.rows.iter().any(Server::admits);
        let admission = if admits { EdgeAdmission::Open } else { EdgeAdmission::Closed };
        Ok(Some(Sight { state: EdgeState { admission, connections }, serving, servers }))
    }

    fn servers(&self, worker: u32) -> Result<Option<Servers>, EdgeError> {
        let backend = &self.options.backend;
        let command = format!("show servers state {backend}");
        let Some(answer) = self.master.ask_worker(worker, &command)? else { return Ok(None) };
        if answer.starts_with("Can't find backend") {
            return Err(EdgeError::Missing { what: format!("backend {backend} of HAProxy") });
        }
        let servers = Servers::parse(&answer);
        let servers = servers.ok_or_else(|| self.master.unexpected(&command, &answer))?;
        if servers.of(backend).next().is_none() {
            return Err(EdgeError::Missing { what: format!("a server in backend {backend}") });
        }
        Ok(Some(servers))
    }

    /// `scur` of the backend: requests that were let in and have not ended, also those that still
    /// wait for a server.
    fn requests_under_way(&self, worker: u32) -> Result<Option<u64>, EdgeError> {
        let backend = &self.options.backend;
        let command = format!("show stat {backend} 2 -1");
        let Some(answer) = self.master.ask_worker(worker, &command)? else { return Ok(None) };
        let count = current_sessions(&answer, backend);
        count.map(Some).ok_or_else(|| self.master.unexpected(&command, &answer))
    }

    /// Says it to every server that `concerned` picks.
    fn tell(
        &self,
        sight: &Sight,
        state: &str,
        concerned: impl Fn(&Server) -> bool,
    ) -> Result<(), EdgeError> {
        for server in sight.servers.rows.iter().filter(|server| concerned(server)) {
            let command = format!("set server {}/{} state {state}", server.backend, server.name);
            // A worker that has ended meanwhile has a successor, at which we look next.
            let answer = self.master.ask_worker(sight.serving, &command)?.unwrap_or_default();
            let answer = answer.trim();
            if answer == ENDING {
                return Ok(());
            }
            if !answer.is_empty() {
                let (what, reason) = (format!("HAProxy {command:?}"), answer.to_owned());
                return Err(EdgeError::Refused { what, reason });
            }
        }
        Ok(())
    }

    /// Tells the worker that serves until it does what is wanted: a reload may bring another one
    /// meanwhile.
    fn bring_to(&self, wanted: EdgeAdmission) -> Result<Sight, EdgeError> {
        let outstanding = |sight: &Sight| match wanted {
            EdgeAdmission::Closed => sight.state.admission != EdgeAdmission::Closed,
            // Also those that were drained beside others.
            EdgeAdmission::Open => sight.servers.rows.iter().any(Server::is_drained),
        };
        let seen = poll::until(self.options.timeout, || {
            let sight = self.look()?;
            if !outstanding(&sight) {
                return Ok(Some(sight));
            }
            match wanted {
                EdgeAdmission::Closed => self.tell(&sight, "drain", Server::admits)?,
                EdgeAdmission::Open => self.tell(&sight, "ready", Server::is_drained)?,
            }
            Ok(self.look_once()?.filter(|sight| !outstanding(sight)))
        })?;
        // A busy proxy may be late, and nothing that it said is wrong.
        seen.ok_or_else(|| EdgeError::Unreachable {
            what: self.name(),
            reason: format!(
                "after {:?}, its servers are not in the state that they were given",
                self.options.timeout
            ),
        })
    }

    /// None if there is no file yet, or an empty one, as operators leave it to quiet a warning.
    fn remembered(&self) -> Result<Option<Servers>, EdgeError> {
        let path = &self.options.state_file;
        let text = match file::read(path, STATE_BYTES_MAX) {
            Ok(text) => text,
            Err(EdgeError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if text.trim().is_empty() {
            return Ok(None);
        }
        Servers::parse(&text).map(Some).ok_or_else(|| EdgeError::Corrupt {
            path: path.clone(),
            reason: "it is no server state of HAProxy, version 1".to_owned(),
        })
    }

    /// Lets a reload or restart find what the worker that serves now does.
    fn remember(&self, sight: &Sight) -> Result<(), EdgeError> {
        let (now, backend) = (&sight.servers, &self.options.backend);
        let written = self.remembered()?;
        if written.as_ref().is_some_and(|written| written.agrees_with(now, backend)) {
            return Ok(());
        }
        let text = written.unwrap_or_default().with_backend_of(now, backend).render();
        file::write(&self.options.state_file, &text)
    }

    fn name(&self) -> String {
        format!("HAProxy at {}", self.options.master_socket.display())
    }
}

impl Edge for HaProxyEdge {
    fn observe(&mut self) -> Result<EdgeState, EdgeError> {
        self.look().map(|sight| sight.state)
    }

    fn close(&mut self) -> Result<(), EdgeError> {
        // The running proxy first: a file that cannot be written keeps no client out.
        let sight = self.bring_to(EdgeAdmission::Closed)?;
        self.remember(&sight)?;
        // A reload that read the file before it was written brings a worker that does not know.
        self.bring_to(EdgeAdmission::Closed).map(|_sight| ())
    }

    fn open(&mut self) -> Result<(), EdgeError> {
        // A file that we may not write would close the proxy again at its next reload.
        self.remembered()?;
        let sight = self.bring_to(EdgeAdmission::Open)?;
        if sight.state.admission == EdgeAdmission::Closed {
            return Err(EdgeError::Refused {
                what: format!("to open backend {}", self.options.backend),
                reason: "all of its servers are in maintenance, which was not our doing".to_owned(),
            });
        }
        self.remember(&sight)
    }
}

/// Column `scur` of the row of the backend itself in `show stat`.
fn current_sessions(answer: &str, backend: &str) -> Option<u64> {
    let mut lines = answer.lines();
    let header = lines.next()?.strip_prefix("# ")?;
    let column = header.split(',').position(|name| name == "scur")?;
    let row = lines.map(|line| line.split(',').collect::<Vec<_>>());
    let mut row = row.filter(|row| row.starts_with(&[backend, "BACKEND"]));
    row.next()?.get(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_of_the_backend_are_read_by_name() {
        let answer = "# pxname,svname,qcur,scur\nservice,FRONTEND,,9\nservice,BACKEND,0,4\n\n";
        assert_eq!(current_sessions(answer, "service"), Some(4));
        assert_eq!(current_sessions(answer, "other"), None);
        assert_eq!(current_sessions("# pxname,svname\nservice,BACKEND\n", "service"), None);
        assert_eq!(current_sessions("", "service"), None);
    }
}
