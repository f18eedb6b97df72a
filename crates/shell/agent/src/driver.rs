//! The node driver of a keeper: platform daemon, admin channel, bundles, sealed state.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heirloom_emulated::client::LaunchClient;
use heirloom_emulated::protocol::{InstanceState, LaunchId, LaunchRequest, StopSignal, WireMode};
use heirloom_model::admin::{AdminRequest, AdminResponse, KeeperStatus, Source};
use heirloom_model::digest::Nonce;
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::Release;
use heirloom_registry::port::LogStore;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_upgrade::port::{DriverError, NodeDriver, Observation};

use crate::admin::{self, LONG_TIMEOUT, SHORT_TIMEOUT};
use crate::bundles::{BundleError, Bundles};
use crate::state_dir::{StateDirectory, StateError};

/// How long a keeper may take to open its admin socket.
pub const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a keeper may take to end in order before it is killed.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait between two looks at a process.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// One node and everything that belongs to it.
pub struct KeeperDriver {
    /// The node.
    pub node: NodeId,
    /// Platform daemon of this host.
    pub platform: PathBuf,
    /// Everything that the node keeps.
    pub data: PathBuf,
    /// Where releases are fetched from.
    pub artifacts: PathBuf,
    /// Where the keeper serves sessions.
    pub listen: String,
    /// Free bytes that must remain before a release is prepared.
    pub free_bytes_min: u64,
    /// Bundles.
    pub bundles: Bundles,
    /// Sealed state.
    pub state: StateDirectory,
    /// The registry: a trial instance must follow the log, and sources have addresses there.
    pub registry: Arc<RegistryClient>,
}

/// Where one instance runs and how it is reached.
struct Place {
    label: String,
    state: PathBuf,
    socket: PathBuf,
    listen: String,
}

impl KeeperDriver {
    fn place(&self) -> Place {
        Place {
            label: self.node.to_string(),
            state: self.state.live_path(),
            socket: self.data.join("keeper.sock"),
            listen: self.listen.clone(),
        }
    }

    fn trial_place(&self) -> Place {
        Place {
            label: format!("{}.trial", self.node),
            state: self.data.join("trial"),
            socket: self.data.join("trial.sock"),
            listen: "127.0.0.1:0".to_owned(),
        }
    }

    fn launcher(&self) -> Result<LaunchClient, DriverError> {
        LaunchClient::connect(&self.platform).map_err(|error| unknown("the platform", &error))
    }

    /// The instance of a place, if its process exists.
    fn instance(&self, place: &Place) -> Result<Option<LaunchId>, DriverError> {
        let list = self.launcher()?.list().map_err(|error| unknown("the platform", &error))?;
        let mut running = list.into_iter().filter(|it| it.state == InstanceState::Running);
        Ok(running.find(|it| it.label == place.label).map(|it| it.instance))
    }

    fn launch(&self, place: &Place, measurement: &Measurement) -> Result<(), DriverError> {
        let text = |path: &PathBuf| path.display().to_string();
        let arguments = [
            ["--node", self.node.as_str()],
            ["--state", &text(&place.state)],
            ["--admin", &text(&place.socket)],
            ["--listen", &place.listen],
        ];
        let request = LaunchRequest {
            label: place.label.clone(),
            bundle: text(&self.bundles.path(measurement)),
            arguments: arguments.into_iter().flatten().map(str::to_owned).collect(),
            log: text(&self.data.join(format!("{}.log", place.label))),
            mode: WireMode::Production,
        };
        let launched = self.launcher()?.launch(request);
        launched.map_err(|error| DriverError::Refused(format!("the platform: {error}")))?;
        self.await_socket(place)
    }

    /// Waits until the keeper answers, or its process is gone.
    fn await_socket(&self, place: &Place) -> Result<(), DriverError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match admin::status(&place.socket) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) if self.instance(place)?.is_none() => {
                    return Err(DriverError::Refused(format!(
                        "the keeper ended at once; see {}.log",
                        place.label
                    )));
                }
                Err(_) => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// Ends the instance of a place, in order if it can, and waits until its process is gone.
    fn end(&self, place: &Place) -> Result<(), DriverError> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut asked = false;
        while let Some(id) = self.instance(place)? {
            let late = Instant::now() > deadline;
            if !asked || late {
                let signal = if late { StopSignal::Kill } else { StopSignal::Terminate };
                let stopped = self.launcher()?.stop(id, signal);
                stopped.map_err(|error| unknown("the platform", &error))?;
                asked = true;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn running(&self) -> Result<Option<Box<KeeperStatus>>, DriverError> {
        let place = self.place();
        match self.instance(&place)? {
            Some(_) => {
                self.await_socket(&place)?;
                admin::status(&place.socket).map(Some)
            }
            None => Ok(None),
        }
    }

    /// The running keeper, which must be this code.
    fn expect_running(&self, expect: &Measurement) -> Result<bool, DriverError> {
        match self.running()? {
            None => Ok(false),
            Some(status) if status.measurement == *expect => Ok(true),
            Some(status) => Err(DriverError::Unexpected {
                expected: expect.to_string(),
                found: status.measurement.to_string(),
            }),
        }
    }

    /// Feeds a keeper the whole log, batch by batch.
    fn feed(&self, socket: &std::path::Path) -> Result<(), DriverError> {
        let mut position = admin::status(socket)?.position;
        loop {
            let entries = self
                .registry
                .read(position.length, LOG_ENTRIES_MAX)
                .map_err(|error| unknown("the registry", &error))?;
            if entries.is_empty() {
                return Ok(());
            }
            position = follow(socket, &entries)?;
        }
    }

    /// Starts a release once, without keys, beside the running keeper.
    fn trial(&self, measurement: &Measurement) -> Result<Vec<u8>, DriverError> {
        let place = self.trial_place();
        self.end(&place)?;
        std::fs::create_dir_all(&place.state).map_err(|error| io("the trial state", &error))?;
        self.launch(&place, measurement)?;
        let registration = self
            .feed(&place.socket)
            .and_then(|()| admin::statement(&place.socket, &AdminRequest::Register, SHORT_TIMEOUT));
        self.end(&place)?;
        registration
    }

    fn check_space(&self, release: &Release) -> Result<(), DriverError> {
        let needed: u64 = release.artifacts.iter().map(|artifact| artifact.size).sum();
        let needed = needed.saturating_add(self.free_bytes_min);
        let disk = nix::sys::statvfs::statvfs(&self.data)
            .map_err(|error| io("the data directory", &error.into()))?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        if free < needed {
            return Err(DriverError::Full(format!(
                "the release: {needed} bytes are needed, {free} are free"
            )));
        }
        Ok(())
    }

    fn sources(&self, nodes: &[NodeId]) -> Result<Vec<Source>, DriverError> {
        let present = self.registry.presence().map_err(|error| unknown("the registry", &error))?;
        Ok(nodes
            .iter()
            .filter_map(|node| {
                let address = present.get(node)?.clone();
                Some(Source { node: node.clone(), address })
            })
            .collect())
    }
}

impl NodeDriver for KeeperDriver {
    fn observe(&mut self) -> Result<Observation, DriverError> {
        Ok(Observation {
            installed: self.bundles.installed().map_err(bundle)?,
            running: self.running()?,
            live: self.state.live().map_err(state)?,
            quarantined: self.state.quarantined().map_err(state)?,
        })
    }

    fn prepare(
        &mut self,
        release: &Release,
        measurement: &Measurement,
    ) -> Result<Vec<u8>, DriverError> {
        self.check_space(release)?;
        self.bundles.stage(release, measurement, &self.artifacts).map_err(bundle)?;
        let registration = self.trial(measurement)?;
        admin::command(&self.place().socket, &AdminRequest::Probe, LONG_TIMEOUT)?;
        Ok(registration)
    }

    fn drain(&mut self) -> Result<(), DriverError> {
        admin::command(&self.place().socket, &AdminRequest::Drain, SHORT_TIMEOUT)
    }

    fn resume(&mut self) -> Result<(), DriverError> {
        admin::command(&self.place().socket, &AdminRequest::Resume, SHORT_TIMEOUT)
    }

    fn stop(&mut self, expect: &Measurement) -> Result<(), DriverError> {
        if self.expect_running(expect)? { self.end(&self.place()) } else { Ok(()) }
    }

    fn quarantine(&mut self, measurement: &Measurement) -> Result<(), DriverError> {
        self.must_be_down()?;
        self.state.quarantine(measurement).map_err(state)
    }

    fn restore(&mut self, measurement: &Measurement) -> Result<(), DriverError> {
        self.must_be_down()?;
        self.state.restore(measurement).map_err(state)
    }

    fn install(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError> {
        self.must_be_down()?;
        match self.bundles.installed().map_err(bundle)? {
            Some(found) if found == *install => Ok(()),
            Some(found) if found == *expect => self.bundles.install(install).map_err(bundle),
            found => Err(DriverError::Unexpected {
                expected: expect.to_string(),
                found: found.map_or("nothing".to_owned(), |found| found.to_string()),
            }),
        }
    }

    fn start(&mut self, expect: &Measurement) -> Result<(), DriverError> {
        let installed = self.bundles.installed().map_err(bundle)?;
        if installed != Some(*expect) {
            return Err(DriverError::Unexpected {
                expected: expect.to_string(),
                found: installed.map_or("nothing".to_owned(), |found| found.to_string()),
            });
        }
        if self.expect_running(expect)? { Ok(()) } else { self.launch(&self.place(), expect) }
    }

    fn replicate(&mut self, sources: &[NodeId]) -> Result<(), DriverError> {
        let request = AdminRequest::Replicate { sources: self.sources(sources)? };
        admin::command(&self.place().socket, &request, LONG_TIMEOUT)
    }

    fn follow(&mut self, entries: &[LogEntry]) -> Result<LogPosition, DriverError> {
        follow(&self.place().socket, entries)
    }

    fn register(&mut self) -> Result<Vec<u8>, DriverError> {
        admin::statement(&self.place().socket, &AdminRequest::Register, SHORT_TIMEOUT)
    }

    fn prove(&mut self, challenge: &Nonce) -> Result<Vec<u8>, DriverError> {
        let request = AdminRequest::Prove { challenge: *challenge };
        admin::statement(&self.place().socket, &request, LONG_TIMEOUT)
    }

    fn create_generation(&mut self, order: &Nonce) -> Result<Vec<u8>, DriverError> {
        let request = AdminRequest::CreateGeneration { order: *order };
        admin::statement(&self.place().socket, &request, SHORT_TIMEOUT)
    }

    fn receive_generation(
        &mut self,
        order: &Nonce,
        sources: &[NodeId],
    ) -> Result<Vec<u8>, DriverError> {
        let sources = self.sources(sources)?;
        let request = AdminRequest::ReceiveGeneration { order: *order, sources };
        admin::statement(&self.place().socket, &request, SHORT_TIMEOUT)
    }
}

impl KeeperDriver {
    /// Sealed state and bundles are moved only while nothing runs.
    fn must_be_down(&self) -> Result<(), DriverError> {
        match self.running()? {
            None => Ok(()),
            Some(status) => Err(DriverError::Unexpected {
                expected: "no running keeper".to_owned(),
                found: status.measurement.to_string(),
            }),
        }
    }
}

fn follow(socket: &std::path::Path, entries: &[LogEntry]) -> Result<LogPosition, DriverError> {
    match admin::ask(socket, &AdminRequest::Follow(entries.to_vec()), LONG_TIMEOUT)? {
        AdminResponse::Position(position) => Ok(position),
        other => Err(admin::unexpected(other)),
    }
}

fn unknown(who: &str, error: &dyn std::fmt::Display) -> DriverError {
    DriverError::Unknown(format!("{who}: {error}"))
}

fn io(what: &str, error: &std::io::Error) -> DriverError {
    match error.kind() {
        std::io::ErrorKind::StorageFull => DriverError::Full(what.to_owned()),
        std::io::ErrorKind::NotFound => DriverError::Missing { what: what.to_owned() },
        _ => DriverError::Unknown(format!("{what}: {error}")),
    }
}

fn bundle(error: BundleError) -> DriverError {
    let text = error.to_string();
    match error {
        BundleError::Io { source, path } => io(&path.display().to_string(), &source),
        BundleError::NotStaged(_) => DriverError::Missing { what: text },
        BundleError::Size { .. }
        | BundleError::Digest { .. }
        | BundleError::Files { .. }
        | BundleError::Measurement { .. }
        | BundleError::Unmeasurable { .. }
        | BundleError::Corrupt { .. } => {
            DriverError::Corrupt { what: "the bundle".to_owned(), reason: text }
        }
    }
}

fn state(error: StateError) -> DriverError {
    let text = error.to_string();
    match error {
        StateError::Io { source, path } => io(&path.display().to_string(), &source),
        StateError::OtherCode { expected, found } => {
            DriverError::Unexpected { expected: expected.to_string(), found: found.to_string() }
        }
        StateError::TooMany { .. } => {
            DriverError::Corrupt { what: "the sealed state".to_owned(), reason: text }
        }
    }
}
