//! The agent's process: ports, the loop, and its end.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use heirloom_model::causes::with_causes;
use heirloom_model::counter::Time;
use heirloom_model::digest::Nonce;
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::policy::Sharing;
use heirloom_registry::network::NetworkState;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_registry_shell::announcer::Announcer;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_store::error::StoreError;
use heirloom_store::journal_file::JournalFile;
use heirloom_upgrade::agent::{Agent, AgentError, Tick};
use heirloom_upgrade::journal::{CorruptJournal, Durable, Progress};
use heirloom_upgrade::port::{
    DriverError, JournalError, JournalStore, NodeDriver as _, Observation,
};

use crate::api::{self, Report};
use crate::attendance::{self, Heartbeat, TICK_MAX};
use crate::bundles::{BundleError, Bundles};
use crate::commands::Commands;
use crate::config::{Config, ConfigError, Ground};
use crate::downloads::Downloads;
use crate::driver::KeeperDriver;
use crate::freshness::Freshness;
use crate::instance::{Instances, kind_of};
use crate::launcher::Launcher;
use crate::presence::{Presence, address_of};
use crate::service::{Service, Setup};
use crate::staging::Staging;
use crate::stalls::Stalls;
use crate::state_dir::{StateDirectory, StateError};
use crate::warnings::{self, Refusals};

/// How long an idle agent waits for the log to grow before it looks again.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// The first pause after a refusal or a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause after refusals or failures.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long a new node's platform may take until it says of which kind it is.
const PLATFORM_TIMEOUT: Duration = Duration::from_mins(1);
/// The longest pause while a service is waited for: nobody may use it meanwhile.
const SERVICE_PAUSE: Duration = Duration::from_millis(100);

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentRunError {
    /// The configuration cannot be used.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The signing key cannot be used.
    #[error("the agent's signing key cannot be used")]
    Key(#[source] heirloom_store::key_file::KeyFileError),
    /// A file of the agent cannot be used.
    #[error("the agent's own files cannot be used")]
    Store(#[from] StoreError),
    /// The journal contradicts itself.
    #[error("the journal contradicts itself")]
    Journal(#[from] CorruptJournal),
    /// The platform does not say of which kind it is.
    #[error("the platform of a new node does not answer, and it must say which code it can run")]
    Platform(#[source] DriverError),
    /// Bundles cannot be used.
    #[error("the installed bundle cannot be used")]
    Bundle(#[from] BundleError),
    /// Sealed state cannot be used.
    #[error("the sealed state cannot be used")]
    State(#[from] StateError),
    /// There is sealed state or a journal, but no record of what is installed.
    #[error(
        "{} has sealed state or a journal, but no record of what is installed: \
         this is not a new node", path.display()
    )]
    NotNew {
        /// The data directory.
        path: PathBuf,
    },
    /// The agent's own interface cannot be served.
    #[error("the agent's interface cannot be served at {address}")]
    Api {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system refused something that the process needs.
    #[error("the system refused {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The agent cannot go on.
    #[error("the agent cannot go on")]
    Agent(#[source] AgentError),
}

/// Runs until SIGTERM or SIGINT. The keeper goes on without its agent.
pub fn run(config: &Path) -> Result<(), AgentRunError> {
    let config = Config::read(config)?;
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stopping))
            .map_err(|source| AgentRunError::System { what: "a signal handler", source })?;
    }
    let agent = recover(&config, &stopping)?;
    let report = Arc::new(Mutex::new(Report::default()));
    api::serve(&config.api, config.data.join("journal"), Arc::clone(&report))
        .map_err(|source| AgentRunError::Api { address: config.api.clone(), source })?;
    let no_thread = |source| AgentRunError::System { what: "a thread", source };
    let presence = Presence::new(announcer(&config)?);
    presence.repeat(&stopping).map_err(no_thread)?;
    let mut turning = Turning {
        agent,
        observed: None,
        node: config.node,
        report,
        presence,
        heartbeat: Arc::new(Heartbeat::new()),
        staging: Staging::default(),
        switch: Switch::default(),
        old_log: None,
        refusals: Refusals::default(),
        stalls: Stalls::default(),
        pause: PAUSE_MIN,
    };
    let driver = turning.agent.driver().clone();
    attendance::watch_over(driver, Arc::clone(&turning.heartbeat), Arc::clone(&stopping))
        .map_err(no_thread)?;
    let ended = turning.turn_until(&stopping);
    if let Some(service) = &turning.agent.driver().service {
        service.end_children();
    }
    ended
}

/// Speaks for this node, with a key of its own: the agent's is not shared between threads.
fn announcer(config: &Config) -> Result<Announcer, AgentRunError> {
    let key = heirloom_store::key_file::read(&config.key_file).map_err(AgentRunError::Key)?;
    let client = RegistryClient::new(&config.registry);
    Ok(Announcer::new(client, config.network, config.node.clone(), Arc::new(key)))
}

/// The agent of a keeper's node.
pub(crate) type KeeperAgent = Agent<Journal, Arc<RegistryClient>, KeeperDriver>;

/// The journal file as the agent's port.
pub(crate) struct Journal(pub(crate) JournalFile);

impl JournalStore for Journal {
    fn append(&mut self, record: &[u8]) -> Result<Durable, JournalError> {
        match self.0.append(record) {
            Ok(()) => Ok(Durable::assertion()),
            Err(StoreError::Full { .. }) => Err(JournalError::Full),
            Err(error) => Err(JournalError::Unwritable(error.to_string())),
        }
    }
}

/// Makes the agent out of what is on disk.
fn recover(config: &Config, stopping: &AtomicBool) -> Result<KeeperAgent, AgentRunError> {
    let key = heirloom_store::key_file::read(&config.key_file).map_err(AgentRunError::Key)?;
    // The platform daemon works in a directory of its own.
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|source| AgentRunError::System { what: "an absolute path", source })
    };
    let data = &absolute(&config.data)?;
    let journal_path = data.join("journal");
    let (bundles, launcher) = launcher(config, data)?;
    let state = StateDirectory::open(data.join("state"))?;
    if bundles.installed()?.is_none() {
        expect_new(data, &journal_path, &state)?;
        let measurement = first(config, &bundles, stopping)?;
        // The journal exists before anything is recorded as installed: from then on it must.
        if !journal_path.exists() {
            JournalFile::create(&journal_path)?;
        }
        bundles.install(&measurement)?;
    }
    let opened = JournalFile::open(&journal_path)?;
    if let Some(torn) = opened.torn {
        tracing::warn!(?torn, "a record that was never finished was cut off the journal");
    }
    let progress = Progress::recover(opened.records.iter().map(Vec::as_slice))?;
    let registry = Arc::new(RegistryClient::new(&config.registry));
    let driver = KeeperDriver {
        instances: Instances { node: config.node.clone(), launcher, data: data.clone() },
        listen: config.listen.clone(),
        free_bytes_min: config.free_bytes_min,
        downloads: Downloads::new(bundles.clone(), config.mirrors()?),
        bundles,
        state,
        registry: Arc::clone(&registry),
        given: Arc::default(),
        trying: Arc::default(),
        seen: Arc::default(),
        service: service(config, data)?,
    };
    let ports = (Journal(opened.journal), registry, driver);
    Ok(Agent::recover(config.node.clone(), key, NetworkState::new(config.network), progress, ports))
}

/// Who starts keepers here, and what there is to start.
fn launcher(config: &Config, data: &Path) -> Result<(Bundles, Launcher), AgentRunError> {
    Ok(match config.ground()? {
        Ground::Daemon(socket) => {
            (Bundles::open(data.to_owned())?, Launcher::Daemon(socket.to_owned()))
        }
        Ground::Tee(tee) => {
            let commands = Commands::new(tee.name, data.to_owned(), tee.commands());
            let bundles = Bundles::placed(data.to_owned(), commands.codes().copied().collect())?;
            (bundles, Launcher::Commands(Arc::new(commands)))
        }
    })
}

/// What a new node begins with. A bundle is staged here.
fn first(
    config: &Config,
    bundles: &Bundles,
    stopping: &AtomicBool,
) -> Result<Measurement, AgentRunError> {
    match config.ground()? {
        Ground::Daemon(socket) => {
            let [first] = config.keeper.as_slice() else {
                return Err(ConfigError::Bundles { found: config.keeper.len() }.into());
            };
            let kind = await_kind(socket, stopping)?;
            Ok(bundles.stage_first(&first.bundle, kind)?)
        }
        Ground::Tee(tee) => {
            let first = tee.code.first().ok_or(ConfigError::Codes { found: 0 })?;
            Ok(first.measurement)
        }
    }
}

/// Of which kind the platform of a new node is. It may start at the same time as its agent.
fn await_kind(platform: &Path, stopping: &AtomicBool) -> Result<TeeKind, AgentRunError> {
    let deadline = Instant::now() + PLATFORM_TIMEOUT;
    loop {
        match kind_of(platform) {
            Ok(kind) => return Ok(kind),
            Err(error) if Instant::now() > deadline || stopping.load(Ordering::Relaxed) => {
                return Err(AgentRunError::Platform(error));
            }
            Err(_) => std::thread::sleep(PAUSE_MIN),
        }
    }
}

/// The service of this node, if the configuration names one.
fn service(config: &Config, data: &Path) -> Result<Option<Service>, AgentRunError> {
    let Some(mut service) = config.service.clone() else { return Ok(None) };
    let absolute = |path: &mut PathBuf| -> Result<(), AgentRunError> {
        *path = std::path::absolute(&*path)
            .map_err(|source| AgentRunError::System { what: "an absolute path", source })?;
        Ok(())
    };
    let next = service.configuration_next.as_mut().map(|next| &mut next.path);
    let paths = [&mut service.configuration, &mut service.archive];
    for path in paths.into_iter().chain(next).chain(service.bundle.as_mut()) {
        absolute(path)?;
    }
    let edge = heirloom_proxy::edge::edge(service.edge.options());
    let setup = Setup {
        network: config.network,
        registry: config.registry.clone(),
        directory: data.join(&service.data),
        free_bytes_min: config.free_bytes_min,
        config: service,
    };
    let Ground::Daemon(platform) = config.ground()? else {
        return Err(ConfigError::NoDaemon.into());
    };
    let (node, platform) = (config.node.clone(), platform.to_owned());
    match Service::open(setup, node, platform, config.mirrors()?, edge) {
        Ok(service) => Ok(Some(service)),
        Err(BundleError::Store(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}

/// Refuses if this node was ever used. A beginning that was interrupted may have left a journal,
/// without any record in it, and no keeper that could have left a file.
fn expect_new(data: &Path, journal: &Path, state: &StateDirectory) -> Result<(), AgentRunError> {
    let has_records = journal.exists() && !JournalFile::inspect(journal)?.is_empty();
    if has_records || !state.is_untouched()? {
        return Err(AgentRunError::NotNew { path: data.to_owned() });
    }
    Ok(())
}

/// The loop's state.
struct Turning {
    agent: KeeperAgent,
    /// What the node looked like last, whether the agent could follow the log or not.
    observed: Option<Observation>,
    node: NodeId,
    report: Arc<Mutex<Report>>,
    presence: Presence,
    heartbeat: Arc<Heartbeat>,
    staging: Staging,
    switch: Switch,
    old_log: Option<LogPosition>,
    refusals: Refusals,
    stalls: Stalls,
    pause: Duration,
}

impl Turning {
    fn turn_until(&mut self, stopping: &AtomicBool) -> Result<(), AgentRunError> {
        while !stopping.load(Ordering::Relaxed) {
            self.turn()?;
        }
        Ok(())
    }

    /// One tick, and a pause if there is nothing to do.
    fn turn(&mut self) -> Result<(), AgentRunError> {
        let ticked = self.agent.tick(now(), &mut random_nonce);
        let is_exclusive = is_exclusive(self.agent.state(), &self.node);
        self.heartbeat.beat(Instant::now(), is_exclusive);
        self.install_service(&ticked);
        self.follow(&ticked);
        note(&self.report, &ticked);
        match &ticked {
            Ok(Tick::Refused(trouble)) => self.refusals.note(Some(with_causes(trouble))),
            Ok(Tick::Progressed | Tick::Idle(_)) => self.refusals.note(None),
            // Whether anything counts is not known.
            Err(_) => {}
        }
        self.show();
        // While this thread pauses, the heartbeat looks after an active keeper.
        let idle = if is_exclusive { TICK_MAX / 2 } else { IDLE_WAIT };
        match ticked {
            Ok(Tick::Progressed) => {
                self.pause = PAUSE_MIN;
                self.old_log = None;
            }
            Ok(Tick::Idle(waiting)) => {
                if let Some((step, reason)) = self.stalls.news(&waiting) {
                    tracing::warn!(%step, reason, "a step of the service is not done yet");
                }
                self.pause = PAUSE_MIN;
                self.stage()?;
                self.old_log = wait_for_log(&mut self.agent, idle);
            }
            Ok(Tick::Refused(trouble)) => {
                tracing::warn!(error = %with_causes(&trouble), "refused");
                self.rest();
            }
            Err(error) if passes(&error) => {
                tracing::warn!(error = %with_causes(&error), "not now");
                self.rest();
            }
            Err(error) => return Err(AgentRunError::Agent(error)),
        }
        Ok(())
    }

    /// Installs the first service once the log says whether it may be installed.
    fn install_service(&mut self, ticked: &Result<Tick, AgentError>) {
        let Some(service) = self.agent.driver().service.clone() else { return };
        if ticked.is_ok() {
            service.install_first(self.agent.state());
        }
    }

    /// The longest pause now: a service that is waited for is looked at again soon.
    fn longest_pause(&mut self) -> Duration {
        let service = self.agent.driver().service.as_ref();
        if service.is_some_and(Service::is_waiting) { SERVICE_PAUSE } else { PAUSE_MAX }
    }

    /// Pauses, and looks at the node meanwhile: what operators see must not grow old.
    fn rest(&mut self) {
        let longest = self.longest_pause();
        self.pause = self.pause.min(longest);
        let until = Instant::now() + self.pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(TICK_MAX));
            if left <= TICK_MAX {
                break;
            }
            self.look();
            self.show();
        }
        self.pause = longest.min(self.pause * 2);
        self.old_log = None;
    }

    /// Takes what the tick has seen, or looks again: a tick that fails may not have come to it,
    /// and after a long one it is old.
    fn follow(&mut self, ticked: &Result<Tick, AgentError>) {
        let now = Instant::now();
        self.freshness(|fresh| match ticked {
            Err(error @ (AgentError::Read(_) | AgentError::History(_))) => {
                fresh.lost_log(with_causes(error));
            }
            // Every tick follows the log first.
            Ok(_) | Err(_) => fresh.followed(now),
        });
        match (ticked, self.agent.driver().seen()) {
            (Ok(_), Some(at)) if now.saturating_duration_since(at) < TICK_MAX => {
                self.observed = self.agent.observed().cloned();
                self.freshness(|fresh| fresh.saw(at));
            }
            (Ok(_) | Err(_), _) => self.look(),
        }
    }

    /// Looks at the node, which needs no log.
    fn look(&mut self) {
        match self.agent.driver().observe() {
            Ok(observed) => {
                self.observed = Some(observed);
                self.freshness(|fresh| fresh.saw(Instant::now()));
            }
            Err(error) => self.freshness(|fresh| fresh.is_blind(with_causes(&error))),
        }
    }

    fn freshness(&self, change: impl FnOnce(&mut Freshness)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner).freshness);
    }

    /// Tells everybody what was seen: operators first, since the registry may take its time.
    fn show(&mut self) {
        let state = self.agent.state();
        if let Some(observed) = &self.observed {
            let known = state.node(&self.node).and_then(|known| state.domain(&known.domain));
            let is_suspended = known.is_some_and(|domain| domain.activity().suspended().is_some());
            self.switch.saw(is_suspended, observed.serving().is_some(), Instant::now());
        }
        self.warn();
        // Where this node serves is announced at once if that changed.
        if let Some(observed) = &self.observed {
            self.presence.say(address_of(self.agent.state(), &self.node, observed));
        }
    }

    /// Gets the next release at hand while there is nothing else to do.
    fn stage(&mut self) -> Result<(), AgentRunError> {
        let now = Instant::now();
        match self.staging.advance(&mut self.agent, &self.node, now, &mut random_nonce) {
            Ok(()) => Ok(()),
            Err(error) if passes(&error) => {
                tracing::warn!(error = %with_causes(&error), "nothing was staged");
                Ok(())
            }
            Err(error) => Err(AgentRunError::Agent(error)),
        }
    }

    /// Keeps how the node is, what is wrong and what is on its way, and tells the log when
    /// something new is wrong.
    fn warn(&mut self) {
        let is_silent = self.observed.as_ref().is_some_and(|seen| !seen.silent.is_empty());
        let processes = match is_silent.then(|| self.agent.driver().instances.processes()) {
            Some(Ok(processes)) => processes,
            // A platform that does not answer is told as such: nothing can be observed then.
            Some(Err(_)) | None => BTreeMap::new(),
        };
        let service = self.agent.driver().service.clone();
        let (state, observed) = (self.agent.state(), self.observed.as_ref());
        let mut found = warnings::of(state, observed, now(), self.old_log, &processes);
        found.extend(self.refusals.warning());
        let seen = observed.and_then(|observed| observed.service.as_ref());
        let service = service.map(|service| service.json(seen, state));
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in found.iter().filter(|warning| !report.warnings.contains(warning)) {
            tracing::warn!(%warning, "something is wrong");
        }
        if let Some(observed) = observed {
            report.status = crate::status::status_json(state, observed);
        }
        if let Some(own) = report.status.get_mut("heirloom") {
            own["warnings"] = found.clone().into();
            own["staged"] = self.staging.json();
            own["hint"] = self.staging.hint(state, &self.node).into();
            own["switch_over_ms"] = self.switch.last_ms.into();
            if let Some(service) = service {
                own["service"] = service;
            }
        }
        report.warnings = found;
    }
}

/// How long nobody served the last time that the active holder was suspended.
#[derive(Default)]
struct Switch {
    suspended: Option<Instant>,
    last_ms: Option<u64>,
}

impl Switch {
    /// What the log and the node show now.
    fn saw(&mut self, is_suspended: bool, serves: bool, now: Instant) {
        if is_suspended {
            self.suspended.get_or_insert(now);
        } else if serves && let Some(since) = self.suspended.take() {
            let lasted = now.duration_since(since).as_millis();
            self.last_ms = Some(u64::try_from(lasted).unwrap_or(u64::MAX));
        }
    }
}

fn is_exclusive(state: &NetworkState, node: &NodeId) -> bool {
    let policy = state.node(node).and_then(|known| state.policy(&known.domain));
    policy.is_some_and(|policy| policy.sharing == Sharing::Exclusive)
}

/// Whether trying again can help. A history that changed or a broken journal never heals.
pub(crate) fn passes(error: &AgentError) -> bool {
    match error {
        AgentError::Read(ReadError::Corrupt { .. })
        | AgentError::Append(AppendError::Corrupt { .. } | AppendError::TooLarge { .. })
        | AgentError::History(_)
        | AgentError::CorruptJournal(_)
        | AgentError::Observe(DriverError::Corrupt { .. }) => false,
        AgentError::Read(_)
        | AgentError::Append(_)
        | AgentError::Journal(_)
        | AgentError::Observe(_) => true,
    }
}

/// Waits for the log to grow, and returns what the registry shows if it is less than before.
fn wait_for_log(agent: &mut KeeperAgent, longest: Duration) -> Option<LogPosition> {
    let known = agent.state().position();
    let registry = Arc::clone(&agent.driver().registry);
    let Ok(shown) = registry.watch(known.length, longest) else {
        std::thread::sleep(PAUSE_MIN);
        return None;
    };
    let is_same = shown == known;
    (shown.length <= known.length && !is_same).then_some(shown)
}

/// Keeps what a tick came to, for the interface.
fn note(report: &Mutex<Report>, ticked: &Result<Tick, AgentError>) {
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
    match ticked {
        Ok(Tick::Progressed) => {
            "progressed".clone_into(&mut report.tick);
            report.waiting.clear();
        }
        Ok(Tick::Idle(waiting)) => {
            "idle".clone_into(&mut report.tick);
            report.waiting = waiting.iter().map(ToString::to_string).collect();
        }
        Ok(Tick::Refused(trouble)) => {
            "refused".clone_into(&mut report.tick);
            report.waiting = vec![with_causes(trouble)];
        }
        Err(error) => {
            "failed".clone_into(&mut report.tick);
            report.waiting = vec![with_causes(error)];
        }
    }
}

/// The host's clock: for journal records and logs, which nothing decides by.
pub(crate) fn now() -> Time {
    Time(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

pub(crate) fn random_nonce() -> Nonce {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
    Nonce::new(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use heirloom_launcher::protocol::{Answer, InstanceInfo, InstanceState, LaunchId, Request};
    use heirloom_model::digest::NetworkId;
    use heirloom_model::frame::{receive, send};
    use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner};
    use heirloom_model::secret::Secret;
    use heirloom_model::signature::SigningKey;
    use serde_json::Value;

    use super::*;

    /// The loop of an agent whose registry and platform are gone.
    fn turning(data: &Path) -> Turning {
        let (network, node): (_, NodeId) = (NetworkId::new([1; 32]), "node-1".parse().unwrap());
        let key = || SigningKey::from_seed(Secret::new([1; 32]));
        let registry = Arc::new(RegistryClient::new("127.0.0.1:9"));
        let announcer = Announcer::new(
            RegistryClient::clone(&registry),
            network,
            node.clone(),
            Arc::new(key()),
        );
        let bundles = Bundles::open(data.to_owned()).unwrap();
        let driver = KeeperDriver {
            instances: Instances {
                node: node.clone(),
                launcher: Launcher::Daemon(data.join("platform.sock")),
                data: data.to_owned(),
            },
            listen: Vec::new(),
            free_bytes_min: 1,
            downloads: Downloads::new(bundles.clone(), Vec::new()),
            bundles,
            state: StateDirectory::open(data.join("state")).unwrap(),
            registry: Arc::clone(&registry),
            given: Arc::default(),
            trying: Arc::default(),
            seen: Arc::default(),
            service: None,
        };
        let journal = Journal(JournalFile::create(&data.join("journal")).unwrap());
        let progress = Progress::recover(std::iter::empty()).unwrap();
        let state = NetworkState::new(network);
        let ports = (journal, registry, driver);
        Turning {
            agent: Agent::recover(node.clone(), key(), state, progress, ports),
            observed: None,
            node,
            report: Arc::default(),
            presence: Presence::new(announcer),
            heartbeat: Arc::new(Heartbeat::new()),
            staging: Staging::default(),
            switch: Switch::default(),
            old_log: None,
            refusals: Refusals::default(),
            stalls: Stalls::default(),
            pause: PAUSE_MIN,
        }
    }

    /// What the interface shows.
    fn shown(turning: &Turning) -> Value {
        let report = turning.report.lock().unwrap();
        report.freshness.show(report.status.clone(), Instant::now())
    }

    fn warnings(status: &Value) -> String {
        status["heirloom"]["warnings"].to_string()
    }

    #[test]
    fn a_node_is_observed_without_its_registry_and_unknown_without_its_platform() {
        let directory = tempfile::tempdir().unwrap();
        let mut turning = turning(directory.path());
        turning.turn().unwrap();
        let blind = shown(&turning);
        assert_eq!(blind["heirloom"]["state"], "unknown");
        assert!(warnings(&blind).contains("the platform cannot be reached"), "{blind}");
        assert!(warnings(&blind).contains("the log was not followed yet"), "{blind}");

        let socket = directory.path().join("platform.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let platform = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(matches!(receive(&mut stream).unwrap(), Request::List));
            send(&mut stream, &Answer::Instances(Vec::new())).unwrap();
        });
        turning.turn().unwrap();
        platform.join().unwrap();
        let seen = shown(&turning);
        assert_eq!(seen["heirloom"]["running"], false, "{seen}");
        assert_eq!(seen["keymanager"]["status"], "stopped");
        assert!(!warnings(&seen).contains("unknown how the node is"), "{seen}");
        assert!(warnings(&seen).contains("the log was not followed yet"), "{seen}");

        turning.turn().unwrap();
        let gone = shown(&turning);
        assert_eq!(gone["heirloom"]["running"], Value::Null, "the platform is gone again");
        assert!(warnings(&gone).contains("it was last seen"), "{gone}");
    }

    #[test]
    fn a_silent_process_is_named_as_the_platform_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut turning = turning(directory.path());
        let listener = UnixListener::bind(directory.path().join("platform.sock")).unwrap();
        let silent = InstanceInfo {
            instance: LaunchId(3),
            process: 41,
            release: "keeper-1.0.0".parse().unwrap(),
            measurement: Measurement::Sgx(MrEnclave::new([7; 32])),
            signer: MrSigner::new([2; 32]),
            state: InstanceState::Running,
            label: "node-1.07070707".to_owned(),
        };
        let foreign = InstanceInfo { label: "node-2.07070707".to_owned(), ..silent.clone() };
        let platform = std::thread::spawn(move || {
            // The observation asks once, and whoever wants the name once more.
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(matches!(receive(&mut stream).unwrap(), Request::List));
                let list = vec![silent.clone(), foreign.clone()];
                send(&mut stream, &Answer::Instances(list)).unwrap();
            }
        });
        turning.turn().unwrap();
        platform.join().unwrap();
        let told = warnings(&shown(&turning));
        assert!(told.contains("process 41 (node-1.07070707) of sgx:0707"), "{told}");
    }

    #[test]
    fn a_switch_over_lasts_from_the_suspension_to_the_first_keeper_that_serves() {
        let mut switch = Switch::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        switch.saw(false, true, at(0));
        assert_eq!(switch.last_ms, None);
        switch.saw(true, true, at(10));
        switch.saw(true, false, at(20));
        switch.saw(false, false, at(30));
        switch.saw(false, true, at(45));
        assert_eq!(switch.last_ms, Some(35));
        switch.saw(false, true, at(60));
        assert_eq!(switch.last_ms, Some(35), "until the next one");
    }

    #[test]
    fn a_beginning_that_was_interrupted_may_begin_again_and_a_used_node_may_not() {
        let directory = tempfile::tempdir().unwrap();
        let (data, journal) = (directory.path(), directory.path().join("journal"));
        let state = StateDirectory::open(data.join("state")).unwrap();
        let new = || expect_new(data, &journal, &state);
        new().unwrap();
        let mut file = JournalFile::create(&journal).unwrap();
        new().unwrap();
        // What cannot be read was left by somebody all the same.
        let code = Measurement::Sgx(MrEnclave::new([1; 32]));
        state.make_seat(&code).unwrap();
        new().unwrap();
        let sealed = state.seat_path(&code).join("keyring-0.sealed");
        std::fs::write(&sealed, "").unwrap();
        assert!(matches!(new(), Err(AgentRunError::NotNew { .. })));
        std::fs::remove_file(sealed).unwrap();
        new().unwrap();
        file.append(b"a record").unwrap();
        assert!(matches!(new(), Err(AgentRunError::NotNew { .. })));
    }
}
