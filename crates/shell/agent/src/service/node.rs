//! The service of one node as its driver sees it: what it was told to be, what it is, and how the
//! one becomes the other.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heirloom_launcher::bundle::MANIFEST;
use heirloom_launcher::manifest::{MANIFEST_BYTES_MAX, Manifest};
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::DomainId;
use heirloom_model::measurement::Measurement;
use heirloom_model::service::{Admission, ServiceRequest, ServiceStatus, Writing};
use heirloom_model::wire;
use heirloom_proxy::edge::{Edge, EdgeAdmission as Seen, EdgeError};
use heirloom_store::atomic;
use heirloom_upgrade::port::{DriverError, EdgeAdmission, ServiceObservation};
use serde_json::Value;

use super::config::{ServiceConfig, in_one_word};
use super::control;
use super::distribution::Distributor;
use super::events::Events;
use super::observe::{self, Inspector};
use super::process::{Place, Processes, Started};
use super::state::{Desired, Distribution, Promise, Start, StateFile, Wanted};
use super::tool::Tool;
use crate::bundles::Bundles;
use crate::downloads::Downloads;
use crate::driver::store;

/// How long a call waits for something that is about to happen, before it lets its agent do
/// something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait between two looks.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The first pause before a service that ended by itself is started again; it doubles up to
/// [`RESTART_MAX`].
const RESTART_MIN: Duration = Duration::from_millis(250);
/// The longest pause before a service that ended by itself is started again.
const RESTART_MAX: Duration = Duration::from_secs(15);
/// A proxy that did not answer is not asked again for so long: each time takes its whole timeout.
const EDGE_PAUSE: Duration = Duration::from_secs(1);

/// What does not change while the agent runs. All paths are absolute: the platform daemon works in
/// a directory of its own.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The network.
    pub network: NetworkId,
    /// The registry, for the service itself.
    pub registry: String,
    /// Everything that the service keeps.
    pub directory: PathBuf,
    /// Free bytes that must remain before a release is fetched.
    pub free_bytes_min: u64,
    /// What the configuration says.
    pub config: ServiceConfig,
}

/// The service of one node.
pub(crate) struct Node {
    pub(crate) setup: Setup,
    pub(crate) bundles: Bundles,
    pub(crate) downloads: Downloads,
    pub(crate) state: StateFile,
    pub(crate) processes: Processes,
    pub(crate) tool: Tool,
    pub(crate) inspector: Inspector,
    pub(crate) distributor: Distributor,
    pub(crate) edge: Box<dyn Edge>,
    pub(crate) edge_seen: EdgeSeen,
    pub(crate) events: Events,
    /// The instance that this agent started last, until it is seen to be gone.
    pub(crate) started: Option<Started>,
    pub(crate) restart: Restart,
    /// Where the trial of new code is, if one is under way.
    pub(crate) trial: Option<Started>,
    /// What `[service] bundle` measures, once it is staged.
    pub(crate) first: Option<Measurement>,
    /// Since when a call for the same thing has been answered with unknown, by its word.
    pub(crate) begun: Option<(String, Instant)>,
    /// What went wrong last, for people.
    pub(crate) trouble: Option<String>,
    /// What was waited for last, and when.
    pub(crate) waits: Option<(Instant, String)>,
}

/// What the proxy did when it was asked last.
#[derive(Default)]
pub(crate) struct EdgeSeen {
    pub(crate) connections: Option<u64>,
    failed: Option<(Instant, EdgeError)>,
}

/// When a service that ended by itself is started again.
#[derive(Default)]
pub(crate) struct Restart {
    pause: Duration,
    last: Option<(Instant, DriverError)>,
}

impl Node {
    // What is there.

    /// What the service looks like now.
    pub(crate) fn observe(&mut self) -> Result<ServiceObservation, DriverError> {
        let desired = self.state.now().clone();
        let mut seen = ServiceObservation {
            installed: desired.installed,
            exercised: desired.exercised.iter().copied().collect(),
            migrated: self.inspector.migrated(),
            edge: self.edge().ok(),
            under_way: self.tool.changes(observe::INSPECT),
            ..ServiceObservation::default()
        };
        let processes = self.processes.running(Place::Seat)?;
        let exists = !processes.is_empty();
        let answer = exists.then(|| control::status(&self.processes.socket(Place::Seat)).ok());
        let answer = answer.flatten();
        for process in &processes {
            match &answer {
                Some(status) if status.measurement == process.measurement => {
                    seen.running = Some(status.clone());
                }
                Some(_) | None => {
                    seen.silent.insert(process.measurement);
                }
            }
        }
        match self.inspector.look(&mut self.tool, !processes.is_empty()) {
            Ok(found) => {
                seen.snapshots = found.snapshots;
                seen.database_held = found.held;
            }
            // Nobody may conclude that it is free.
            Err(error) => seen.database_held = Some(format!("nobody knows: {error}")),
        }
        if let Some(process) = processes.first() {
            seen.database_held = Some(format!("process {} ({})", process.process, process.label));
        }
        seen.drift = observe::drift(&desired, &seen, self.distributor.is_running());
        Ok(seen)
    }

    /// What the proxy does now.
    pub(crate) fn edge(&mut self) -> Result<EdgeAdmission, DriverError> {
        if let Some((at, error)) = &self.edge_seen.failed
            && at.elapsed() < EDGE_PAUSE
        {
            return Err(edge_error(error.clone()));
        }
        match self.edge.observe() {
            Ok(state) => {
                self.edge_seen = EdgeSeen { connections: Some(state.connections), failed: None };
                Ok(match state.admission {
                    Seen::Closed => EdgeAdmission::Closed,
                    Seen::Open => EdgeAdmission::Open,
                })
            }
            Err(error) => {
                let failed = Some((Instant::now(), error.clone()));
                self.edge_seen = EdgeSeen { connections: None, failed };
                Err(edge_error(error))
            }
        }
    }

    /// The running instance of this code, if it answers.
    pub(crate) fn status(&self, code: &Measurement) -> Result<Box<ServiceStatus>, DriverError> {
        let status = control::status(&self.processes.socket(Place::Seat))?;
        if status.measurement == *code {
            return Ok(status);
        }
        Err(DriverError::Unexpected {
            expected: code.to_string(),
            found: status.measurement.to_string(),
        })
    }

    // What it is told to be.

    /// Tells the node to be something else, durably, before anything is done about it.
    pub(crate) fn tell(&mut self, next: Desired) -> Result<(), DriverError> {
        self.state.set(next).map_err(store)
    }

    // How it becomes so.

    /// Makes the world as the node was last told to be. Unknown until it is.
    pub(crate) fn converge(&mut self) -> Result<(), DriverError> {
        let desired = self.state.now().clone();
        // Whoever must not be let in is kept out before anything else.
        if desired.admission != Admission::Open {
            self.shut()?;
        }
        let Wanted::Running { code, .. } = &desired.wanted else { return self.end_all(None) };
        self.end_all(Some(code))?;
        let exists = !self.processes.running(Place::Seat)?.is_empty();
        if !exists && desired.promise == Promise::Asked {
            // Nobody knows whether it had promised; the plan says how it goes on.
            return Ok(());
        }
        let status = self.ensure_running(code, desired.start())?;
        self.admit(&desired, &status)
    }

    /// Lets in whoever should be let in, by way of a running instance.
    pub(crate) fn admit(
        &mut self,
        desired: &Desired,
        status: &ServiceStatus,
    ) -> Result<(), DriverError> {
        let socket = self.processes.socket(Place::Seat);
        if status.writing == Writing::Frozen && desired.promise == Promise::Absent {
            control::command(&socket, &ServiceRequest::Thaw)?;
        }
        if status.admission != desired.admission {
            control::command(&socket, &ServiceRequest::Admit(desired.admission))?;
        }
        if desired.admission == Admission::Open && self.edge()? == EdgeAdmission::Closed {
            self.edge.open().map_err(edge_error)?;
            self.edge_seen = EdgeSeen::default();
        }
        match desired.distribution {
            Distribution::Running => self.distributor.start(),
            Distribution::Stopped => Ok(()),
        }
    }

    /// Keeps out whoever must not be let in: at the proxy, at the service, and with it whoever
    /// reads its blocks to pass them on. Each is tried, whatever becomes of the others.
    pub(crate) fn shut(&mut self) -> Result<(), DriverError> {
        let desired = self.state.now().clone();
        let at_edge = match self.edge() {
            Ok(EdgeAdmission::Closed) => Ok(()),
            // Also one that cannot be asked: closing says more.
            Ok(EdgeAdmission::Open) | Err(_) => {
                let closed = self.edge.close().map_err(edge_error);
                if closed.is_ok() {
                    self.edge_seen = EdgeSeen::default();
                }
                closed
            }
        };
        let at_service = self.lower(desired.admission);
        let distribution = match desired.distribution {
            Distribution::Stopped => self.distributor.stop(),
            Distribution::Running => Ok(()),
        };
        at_edge.and(at_service).and(distribution)
    }

    /// Lets a running instance admit no more than this.
    fn lower(&mut self, admission: Admission) -> Result<(), DriverError> {
        if self.processes.running(Place::Seat)?.is_empty() {
            return Ok(());
        }
        let socket = self.processes.socket(Place::Seat);
        if control::status(&socket)?.admission <= admission {
            return Ok(());
        }
        control::command(&socket, &ServiceRequest::Admit(admission))
    }

    /// Ends every process of the service, or every one of other code. Unknown until all are gone.
    pub(crate) fn end_all(&mut self, except: Option<&Measurement>) -> Result<(), DriverError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let processes = self.processes.running(Place::Seat)?;
            let left = processes.iter().find(|found| Some(&found.measurement) != except);
            let Some(left) = left else { break };
            self.processes.end(Place::Seat, left.instance)?;
            // It ends because it was told to.
            if self.started.as_ref().is_some_and(|it| it.instance == left.instance) {
                self.started = None;
            }
            if Instant::now() > until {
                let text = format!("process {} ({}) ends", left.process, left.label);
                return Err(DriverError::Unknown(text));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// An instance of this code that answers; starts one if none exists. Unknown until it answers.
    pub(crate) fn ensure_running(
        &mut self,
        code: &Measurement,
        how: Start,
    ) -> Result<Box<ServiceStatus>, DriverError> {
        let is_code =
            |found: &heirloom_launcher::protocol::InstanceInfo| found.measurement == *code;
        if !self.processes.running(Place::Seat)?.iter().any(is_code) {
            self.note_end()?;
            self.restart.is_due()?;
            self.start(code, how)?;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            match self.status(code) {
                Ok(status) => {
                    self.restart = Restart::default();
                    return Ok(status);
                }
                Err(DriverError::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
            if !self.processes.running(Place::Seat)?.iter().any(is_code) {
                self.note_end()?;
                return Err(DriverError::Unknown("the service is gone again".to_owned()));
            }
            if Instant::now() > until {
                return Err(DriverError::Unknown("the service starts".to_owned()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Finds out why the instance that was started last is gone, once.
    fn note_end(&mut self) -> Result<(), DriverError> {
        let Some(started) = &self.started else { return Ok(()) };
        let why = self.processes.why_gone(started)?;
        self.started = None;
        match why {
            Some(error) => {
                self.restart.failed(error.clone());
                Err(error)
            }
            None => Ok(()),
        }
    }

    fn start(&mut self, code: &Measurement, how: Start) -> Result<(), DriverError> {
        let directory = &self.setup.directory;
        let votes = directory.join("votes").join(hex::encode(code.as_bytes()));
        let config = &self.setup.config;
        let mut arguments = self.arguments(Place::Seat, code)?;
        arguments.extend(words(&[
            ("--data", &directory.join("ledger").display()),
            ("--votes", &votes.display()),
            ("--client-listen", &config.client_listen),
            ("--peer-listen", &config.peer_listen),
            ("--door-listen", &config.door_listen),
        ]));
        if !config.peers.is_empty() {
            arguments.extend(words(&[("--peer", &in_one_word(&config.peers))]));
        }
        if let Start::At(tip) | Start::Frozen(tip) = how {
            arguments.extend(words(&[("--expect-height", &tip.height), ("--expect-tip", &tip.id)]));
        }
        if let Start::Frozen(_) = how {
            arguments.push("--frozen".to_owned());
        }
        let bundle = self.bundles.path(code);
        self.started = Some(self.processes.start(Place::Seat, code, &bundle, arguments)?);
        Ok(())
    }

    /// What the service is told wherever it runs.
    pub(crate) fn arguments(
        &self,
        place: Place,
        code: &Measurement,
    ) -> Result<Vec<String>, DriverError> {
        let manifest = self.manifest(code)?;
        let domain = self.expect_ours(&manifest)?;
        let configuration = self.setup.config.configuration_of(&manifest.release);
        Ok(words(&[
            ("--node", &self.processes.node),
            ("--network", &self.setup.network),
            ("--domain", &domain),
            ("--application", &self.setup.config.application),
            ("--registry", &self.setup.registry),
            ("--control", &self.processes.socket(place).display()),
            ("--configuration", &configuration.display()),
        ]))
    }

    /// What staged code is for.
    pub(crate) fn manifest(&self, code: &Measurement) -> Result<Manifest, DriverError> {
        if !self.bundles.is_staged(code) {
            return Err(DriverError::Missing { what: format!("the service's bundle {code}") });
        }
        let path = self.bundles.path(code).join(MANIFEST);
        let bytes = atomic::read(&path, MANIFEST_BYTES_MAX).map_err(store)?;
        wire::decode(&bytes).map_err(|error| DriverError::Corrupt {
            what: path.display().to_string(),
            reason: error.to_string(),
        })
    }

    /// Refuses code that was made for something else than this service, and returns its domain.
    pub(crate) fn expect_ours(&self, manifest: &Manifest) -> Result<DomainId, DriverError> {
        let (ours, network) = (&self.setup.config.application, self.setup.network);
        if manifest.network != network || manifest.application.as_ref() != Some(ours) {
            let found = manifest.application.as_ref().map_or("no application", |it| it.as_str());
            return Err(DriverError::Refused(format!(
                "the bundle was made for {found} in network {}; this node runs {ours} in network \
                 {network}: sign a bundle for it",
                manifest.network
            )));
        }
        manifest.domain.ok_or_else(|| {
            DriverError::Refused("the manifest of the service's bundle names no domain".to_owned())
        })
    }

    // What is told about it.

    /// Carries out one step, and tells how long it took from its first call on.
    pub(crate) fn step<T>(
        &mut self,
        word: &'static str,
        subject: &dyn std::fmt::Display,
        work: impl FnOnce(&mut Self) -> Result<(T, Option<Value>), DriverError>,
    ) -> Result<T, DriverError> {
        let key = format!("{word} {subject}");
        let since = match &self.begun {
            Some((begun, since)) if *begun == key => *since,
            Some(_) | None => Instant::now(),
        };
        // What is kept between the calls of a step is no step of its own.
        if word != KEEP {
            self.begun = Some((key, since));
        }
        match work(self) {
            Ok((value, done)) => {
                if word != KEEP {
                    self.begun = None;
                }
                self.waits = None;
                self.trouble = None;
                self.events.write(word, since.elapsed(), done.as_ref());
                Ok(value)
            }
            Err(error) => {
                let text = format!("{word}: {error}");
                match error {
                    DriverError::Unknown(_) => self.waits = Some((Instant::now(), text)),
                    _ => self.trouble = Some(text),
                }
                Err(error)
            }
        }
    }
}

/// The word for putting right what is not as it should be.
pub(crate) const KEEP: &str = "keep";

impl Restart {
    fn is_due(&self) -> Result<(), DriverError> {
        match &self.last {
            Some((at, error)) if at.elapsed() < self.pause => Err(DriverError::Unknown(format!(
                "the service is started again in a moment; last time: {error}"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn failed(&mut self, error: DriverError) {
        self.pause = (self.pause * 2).clamp(RESTART_MIN, RESTART_MAX);
        self.last = Some((Instant::now(), error));
    }
}

/// Arguments: names and values.
pub(crate) fn words(pairs: &[(&str, &dyn std::fmt::Display)]) -> Vec<String> {
    pairs.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]).collect()
}

/// An absolute path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What an error of the proxy means for a step.
pub(crate) fn edge_error(error: EdgeError) -> DriverError {
    let text = error.to_string();
    match error {
        EdgeError::Corrupt { path, reason } => {
            DriverError::Corrupt { what: path.display().to_string(), reason }
        }
        EdgeError::Full { path } => DriverError::Full(path.display().to_string()),
        EdgeError::Missing { what } => DriverError::Missing { what },
        EdgeError::Refused { .. } => DriverError::Refused(text),
        EdgeError::Unreachable { .. } => DriverError::Unknown(text),
        EdgeError::Unexpected { what, reason } => {
            DriverError::Unexpected { expected: format!("a fence at {what}"), found: reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_that_did_not_answer_is_asked_again() {
        let (what, reason) = ("it".to_owned(), "why".to_owned());
        let path = PathBuf::from("fence");
        let silent = EdgeError::Unreachable { what: what.clone(), reason: reason.clone() };
        assert!(matches!(edge_error(silent), DriverError::Unknown(_)));
        for error in [
            EdgeError::Corrupt { path: path.clone(), reason: reason.clone() },
            EdgeError::Full { path },
            EdgeError::Missing { what: what.clone() },
            EdgeError::Refused { what: what.clone(), reason: reason.clone() },
            EdgeError::Unexpected { what, reason },
        ] {
            assert!(!matches!(edge_error(error.clone()), DriverError::Unknown(_)), "{error:?}");
        }
    }
}
