//! The node driver: platform daemon, admin channels, bundles, sealed state.
//!
//! A node has one seat for each code: a keeper, and during a handover also the next keeper and
//! the upgrader that carries the keyring between them. Every call names the code it means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use heirloom_fetch::error::FetchError;
use heirloom_model::admin::{AdminRequest, KeeperStatus, Source, Ticket};
use heirloom_model::causes::with_causes;
use heirloom_model::digest::{NetworkId, Nonce};
use heirloom_model::domain::{ActivationCause, LogPosition, PlanStep};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_registry::port::LogStore;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_store::error::StoreError;
use heirloom_upgrade::port::{DriverError, NodeDriver, Observation, ServiceDriver};

use crate::admin::{self, LONG_TIMEOUT, SHORT_TIMEOUT};
use crate::bundles::{BundleError, Bundles};
use crate::downloads::{Downloads, Fetching};
use crate::instance::{Instances, Place};
use crate::service::Service;
use crate::state_dir::{StateDirectory, StateError};

/// How long an instance may take to say how it is: longer, and it counts as silent. Whoever
/// waits for one that hangs does not attend to the others.
pub const OBSERVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a step waits for a download before it lets its agent do something else.
pub const DOWNLOAD_WAIT: Duration = Duration::from_millis(250);
/// Where an upgrader listens: only keepers on its own host talk to it.
const LOOPBACK: &str = "127.0.0.1:0";

/// One node and everything that belongs to it. Clones drive the same node.
#[derive(Clone)]
pub struct KeeperDriver {
    /// What runs.
    pub instances: Instances,
    /// Where keepers may serve sessions.
    pub listen: Vec<SocketAddr>,
    /// Free bytes that must remain before a release is fetched.
    pub free_bytes_min: u64,
    /// Bundles.
    pub bundles: Bundles,
    /// Releases on their way here.
    pub downloads: Downloads,
    /// Sealed state.
    pub state: StateDirectory,
    /// The registry: a trial instance must follow the log, and sources have addresses there.
    pub registry: Arc<RegistryClient>,
    /// Which addresses were given to which code, for those that cannot be asked.
    pub given: Arc<Mutex<BTreeMap<Measurement, SocketAddr>>>,
    /// Held while something is tried: one place serves all trials.
    pub trying: Arc<Mutex<()>>,
    /// When this node was last observed for its agent.
    pub seen: Arc<Mutex<Option<Instant>>>,
    /// The service beside the keeper, if this node runs one.
    pub service: Option<Service>,
}

impl KeeperDriver {
    /// What is there now, waiting for each instance at most this long.
    pub fn observe_within(&self, timeout: Duration) -> Result<Observation, DriverError> {
        let mut observed = Observation {
            installed: self.bundles.installed().map_err(bundle)?,
            live: self.state.live().map_err(state)?,
            quarantined: self.state.quarantined().map_err(state)?,
            ..Observation::default()
        };
        for code in self.instances.running()? {
            match admin::status(&self.instances.door(&code), timeout) {
                Ok(status) if status.measurement == code => {
                    observed.running.insert(code, status);
                }
                Ok(_) | Err(_) => {
                    observed.silent.insert(code);
                }
            }
        }
        Ok(observed)
    }

    /// When this node was last observed for its agent.
    pub fn seen(&self) -> Option<Instant> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self, code: &Measurement) -> Place {
        self.instances.seat(code, self.state.seat_path(code))
    }

    fn exists(&self, code: &Measurement) -> Result<bool, DriverError> {
        Ok(self.instances.running()?.contains(code))
    }

    /// What the instance of this code says about itself.
    fn status(&self, code: &Measurement) -> Result<Box<KeeperStatus>, DriverError> {
        let status = admin::status(&self.instances.door(code), SHORT_TIMEOUT)?;
        if status.measurement == *code {
            return Ok(status);
        }
        Err(DriverError::Unexpected {
            expected: code.to_string(),
            found: status.measurement.to_string(),
        })
    }

    fn command(
        &self,
        code: &Measurement,
        request: &AdminRequest,
        timeout: Duration,
    ) -> Result<(), DriverError> {
        admin::command(&self.instances.door(code), request, timeout)
    }

    fn statement(
        &self,
        code: &Measurement,
        request: &AdminRequest,
        timeout: Duration,
    ) -> Result<Vec<u8>, DriverError> {
        admin::statement(&self.instances.door(code), request, timeout)
    }

    /// Sealed state is moved only while nobody uses it.
    fn must_be_down(&self, code: &Measurement) -> Result<(), DriverError> {
        if !self.exists(code)? {
            return Ok(());
        }
        Err(DriverError::Unexpected {
            expected: "no running instance".to_owned(),
            found: code.to_string(),
        })
    }

    /// Where an instance of this code is to listen: what it had before, or the first address that
    /// no other instance has.
    fn address_for(&self, code: &Measurement) -> Result<String, DriverError> {
        if self.bundles.kind(code).map_err(bundle)? == ReleaseKind::Upgrader {
            return Ok(LOOPBACK.to_owned());
        }
        let observed = self.observe_within(OBSERVE_TIMEOUT)?;
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|other, _| other == code || observed.exists(other));
        let mut taken: BTreeSet<SocketAddr> = BTreeSet::new();
        for status in observed.running.values() {
            given.remove(&status.measurement);
            taken.extend(status.address.parse::<SocketAddr>());
        }
        let before = given.get(code).copied();
        taken.extend(given.iter().filter(|(other, _)| *other != code).map(|(_, address)| *address));
        let free = free_address(before, &self.listen, &taken);
        let free = free.ok_or_else(|| {
            DriverError::Refused(format!(
                "all {} addresses of `listen` are in use; a handover needs two",
                self.listen.len()
            ))
        })?;
        given.insert(*code, free);
        Ok(free.to_string())
    }

    /// Feeds an instance the whole log, batch by batch.
    fn feed(&self, place: &Place) -> Result<(), DriverError> {
        let mut position = admin::status(place.door(), SHORT_TIMEOUT)?.position;
        loop {
            let entries = self.registry.read(position.length, LOG_ENTRIES_MAX);
            let entries = entries.map_err(|error| unknown("the registry", &error))?;
            if entries.is_empty() {
                return Ok(());
            }
            position = admin::follow(place.door(), &entries, None)?;
        }
    }

    /// Refuses code whose manifest names another network or domain than that of what runs here: it
    /// would wait for ever for a log that nobody feeds it.
    /// Nor is code for us that is another measurement here: that of another kind of platform.
    fn expect_for_us(&self, place: &Place, code: &Measurement) -> Result<(), DriverError> {
        let tried = admin::status(place.door(), SHORT_TIMEOUT)?;
        if tried.measurement != *code {
            let (expected, found) = (code.to_string(), tried.measurement.to_string());
            return Err(DriverError::Unexpected { expected, found });
        }
        let here = self.observe_within(OBSERVE_TIMEOUT)?.running;
        let made_for = |status: &KeeperStatus| (status.network, status.domain);
        let ours = here.values().next().map_or(made_for(&tried), |status| made_for(status));
        expect_same(ours, made_for(&tried))
    }

    /// Starts staged code once, without keys, beside what runs.
    fn trial(&self, code: &Measurement) -> Result<Vec<u8>, DriverError> {
        let _alone = self.trying.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.instances.trial(code);
        self.instances.end(&place)?;
        let directory = self.instances.data.join("trial").join(code.to_string());
        heirloom_store::atomic::create_directory(&directory).map_err(store)?;
        let launched = self.instances.launch(&place, &self.bundles.path(code), LOOPBACK);
        let ours = launched.and_then(|()| self.expect_for_us(&place, code));
        let registration = ours
            .and_then(|()| self.feed(&place))
            .and_then(|()| admin::statement(place.door(), &AdminRequest::Register, SHORT_TIMEOUT));
        self.instances.end(&place)?;
        registration
    }

    /// Whether a release is staged. Fetches it beside everything else if it is not.
    fn fetched(&self, release: &Release, code: &Measurement) -> Result<(), DriverError> {
        if !self.bundles.is_staged(code) {
            self.check_space(release, code)?;
        }
        fetched(&self.downloads, release, code)
    }

    /// Whether the disk has room for what is missing of a release.
    pub fn check_space(&self, release: &Release, code: &Measurement) -> Result<(), DriverError> {
        check_space(&self.bundles, &self.instances.data, self.free_bytes_min, release, code)
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

    /// Where a donor can be reached: on this node as it says itself, elsewhere as it announced.
    fn donor(&self, node: &NodeId, code: &Measurement) -> Result<Source, DriverError> {
        if *node == self.instances.node {
            let address = self.status(code)?.address;
            return Ok(Source { node: node.clone(), address });
        }
        let found = self.sources(std::slice::from_ref(node))?.pop();
        found.ok_or_else(|| DriverError::Missing { what: format!("the address of {node}") })
    }
}

impl NodeDriver for KeeperDriver {
    fn observe(&mut self) -> Result<Observation, DriverError> {
        let mut observed = self.observe_within(OBSERVE_TIMEOUT)?;
        observed.service = self.service.as_ref().map(Service::observe).transpose()?;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(observed)
    }

    fn stage(&mut self, release: &Release, code: &Measurement) -> Result<Vec<u8>, DriverError> {
        self.fetched(release, code)?;
        self.trial(code)
    }

    fn prepare(&mut self, release: &Release, code: &Measurement) -> Result<Vec<u8>, DriverError> {
        let registration = self.stage(release, code)?;
        for (running, status) in &self.observe_within(OBSERVE_TIMEOUT)?.running {
            if status.state.holds() {
                self.command(running, &AdminRequest::Probe, LONG_TIMEOUT)?;
            }
        }
        Ok(registration)
    }

    fn drain(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.command(code, &AdminRequest::Drain, SHORT_TIMEOUT)
    }

    fn resume(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.command(code, &AdminRequest::Resume, SHORT_TIMEOUT)
    }

    fn stop(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.instances.end(&self.seat(code))
    }

    fn quarantine(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.must_be_down(code)?;
        self.state.quarantine(code).map_err(state)
    }

    fn restore(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.must_be_down(code)?;
        self.state.restore(code).map_err(state)
    }

    fn install(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError> {
        match self.bundles.installed().map_err(bundle)? {
            Some(found) if found == *install => Ok(()),
            Some(found) if found == *expect => self.bundles.install(install).map_err(bundle),
            found => Err(DriverError::Unexpected {
                expected: expect.to_string(),
                found: found.map_or("nothing".to_owned(), |found| found.to_string()),
            }),
        }
    }

    fn start(&mut self, code: &Measurement) -> Result<(), DriverError> {
        let seat = self.seat(code);
        if self.exists(code)? {
            return self.instances.await_answer(&seat);
        }
        let listen = self.address_for(code)?;
        self.state.make_seat(code).map_err(state)?;
        self.instances.launch(&seat, &self.bundles.path(code), &listen)
    }

    fn replicate(&mut self, code: &Measurement, sources: &[NodeId]) -> Result<(), DriverError> {
        let request = AdminRequest::Replicate { sources: self.sources(sources)? };
        self.command(code, &request, LONG_TIMEOUT)
    }

    fn attend(&mut self, code: &Measurement) -> Result<Ticket, DriverError> {
        admin::attend(&self.instances.door(code), OBSERVE_TIMEOUT)
    }

    fn follow(
        &mut self,
        code: &Measurement,
        entries: &[LogEntry],
        attended: Option<Ticket>,
    ) -> Result<LogPosition, DriverError> {
        admin::follow(&self.instances.door(code), entries, attended)
    }

    fn register(&mut self, code: &Measurement) -> Result<Vec<u8>, DriverError> {
        self.statement(code, &AdminRequest::Register, SHORT_TIMEOUT)
    }

    fn prove(&mut self, code: &Measurement, challenge: &Nonce) -> Result<Vec<u8>, DriverError> {
        let request = AdminRequest::Prove { challenge: *challenge };
        self.statement(code, &request, LONG_TIMEOUT)
    }

    fn create_generation(
        &mut self,
        code: &Measurement,
        order: &Nonce,
    ) -> Result<Vec<u8>, DriverError> {
        let request = AdminRequest::CreateGeneration { order: *order };
        self.statement(code, &request, SHORT_TIMEOUT)
    }

    fn receive_generation(
        &mut self,
        code: &Measurement,
        order: &Nonce,
        sources: &[NodeId],
    ) -> Result<Vec<u8>, DriverError> {
        let sources = self.sources(sources)?;
        let request = AdminRequest::ReceiveGeneration { order: *order, sources };
        self.statement(code, &request, SHORT_TIMEOUT)
    }

    fn hand_over(
        &mut self,
        to: &Measurement,
        step: PlanStep,
        from_node: &NodeId,
        from: &Measurement,
    ) -> Result<(), DriverError> {
        let request = AdminRequest::HandOver { step, source: self.donor(from_node, from)? };
        self.command(to, &request, LONG_TIMEOUT)
    }

    fn suspend(&mut self, code: &Measurement, step: PlanStep) -> Result<Vec<u8>, DriverError> {
        self.statement(code, &AdminRequest::Suspend(step), SHORT_TIMEOUT)
    }

    fn activate(
        &mut self,
        code: &Measurement,
        cause: ActivationCause,
    ) -> Result<Vec<u8>, DriverError> {
        self.statement(code, &AdminRequest::Activate(cause), SHORT_TIMEOUT)
    }

    fn forget(&mut self, code: &Measurement, step: PlanStep) -> Result<(), DriverError> {
        self.command(code, &AdminRequest::Forget(step), SHORT_TIMEOUT)
    }

    fn preserve(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.state.preserve(code).map_err(state)
    }

    fn reseal(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.command(code, &AdminRequest::Reseal, LONG_TIMEOUT)
    }

    fn service(&mut self) -> Option<&mut dyn ServiceDriver> {
        self.service.as_mut().map(|service| service as &mut dyn ServiceDriver)
    }
}

/// Whether a release is staged. Fetches it beside everything else if it is not.
pub(crate) fn fetched(
    downloads: &Downloads,
    release: &Release,
    code: &Measurement,
) -> Result<(), DriverError> {
    match downloads.fetch(release, code, DOWNLOAD_WAIT) {
        Fetching::Staged => Ok(()),
        Fetching::Failed(error) => Err(bundle(error)),
        Fetching::UnderWay(progress) => Err(DriverError::Unknown(format!(
            "{} is being fetched: {} of {} bytes",
            release.name, progress.received, progress.wanted
        ))),
    }
}

/// Whether the disk of a directory has room for what is missing of a release.
pub(crate) fn check_space(
    bundles: &Bundles,
    directory: &Path,
    free_bytes_min: u64,
    release: &Release,
    code: &Measurement,
) -> Result<(), DriverError> {
    let missing = release.bytes().saturating_sub(bundles.begun(code));
    let needed = missing.saturating_add(free_bytes_min);
    let disk = nix::sys::statvfs::statvfs(directory)
        .map_err(|error| unknown("the data directory", &error))?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    if free < needed {
        return Err(DriverError::Full(format!(
            "the release: {needed} bytes are needed, {free} are free"
        )));
    }
    Ok(())
}

/// The address that was used before if nobody has it, or the first one that nobody has.
fn free_address(
    before: Option<SocketAddr>,
    listen: &[SocketAddr],
    taken: &BTreeSet<SocketAddr>,
) -> Option<SocketAddr> {
    let is_free = |address: &SocketAddr| !taken.iter().any(|other| collide(address, other));
    let before = before.filter(|address| listen.contains(address) && is_free(address));
    before.or_else(|| listen.iter().copied().find(is_free))
}

/// Whether two sockets cannot listen at both addresses at once.
fn expect_same(
    (network, domain): (NetworkId, DomainId),
    found: (NetworkId, DomainId),
) -> Result<(), DriverError> {
    if found == (network, domain) {
        return Ok(());
    }
    Err(DriverError::Refused(format!(
        "the bundle was made for domain {} of network {}; this node has domain {domain} of network \
         {network}: sign a bundle for it",
        found.1, found.0
    )))
}

fn collide(one: &SocketAddr, other: &SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (is_any || one.ip() == other.ip())
}

fn unknown(who: &str, error: &dyn std::fmt::Display) -> DriverError {
    DriverError::Unknown(format!("{who}: {error}"))
}

pub(crate) fn store(error: StoreError) -> DriverError {
    let text = error.to_string();
    match error {
        StoreError::Full { path, .. } => DriverError::Full(path.display().to_string()),
        StoreError::Missing { path } => DriverError::Missing { what: path.display().to_string() },
        StoreError::Corrupt { path, reason, .. } => {
            DriverError::Corrupt { what: path.display().to_string(), reason: reason.to_owned() }
        }
        StoreError::Exists { .. }
        | StoreError::Refused { .. }
        | StoreError::Locked { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Unknown { .. }
        | StoreError::Failed { .. } => DriverError::Unknown(text),
    }
}

pub(crate) fn bundle(error: BundleError) -> DriverError {
    let text = with_causes(&error);
    match error {
        BundleError::Store(error) => store(error),
        BundleError::NotStaged(_) | BundleError::NotPlaced(_) => {
            DriverError::Missing { what: text }
        }
        BundleError::Fetch(FetchError::Full { path }) => {
            DriverError::Full(path.display().to_string())
        }
        // Another try may find another mirror, or this one in another mood.
        BundleError::Fetch(
            FetchError::Unavailable { .. } | FetchError::Storage { .. } | FetchError::Stopped,
        ) => DriverError::Refused(text),
        BundleError::NoThread(_) => DriverError::Unknown(text),
        BundleError::Fetch(FetchError::TooLarge { .. } | FetchError::Order { .. })
        | BundleError::Files { .. }
        | BundleError::Kind { .. }
        | BundleError::Measurement { .. }
        | BundleError::NoLauncher(_)
        | BundleError::Unmeasurable { .. }
        | BundleError::Corrupt { .. } => {
            DriverError::Corrupt { what: "the bundle".to_owned(), reason: text }
        }
    }
}

fn state(error: StateError) -> DriverError {
    let text = error.to_string();
    match error {
        StateError::Store(error) => store(error),
        StateError::OtherCode { expected, found } => {
            DriverError::Unexpected { expected: expected.to_string(), found: found.to_string() }
        }
        StateError::TooMany { .. } | StateError::Unclaimed { .. } => {
            DriverError::Corrupt { what: "the sealed state".to_owned(), reason: text }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::Launcher;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_keeper_takes_the_first_address_that_no_other_has() {
        let listen = addresses(&["10.0.0.1:70", "10.0.0.1:71", "0.0.0.0:72"]);
        let free = |before: Option<usize>, taken: &[&str]| {
            let before = before.map(|at| listen[at]);
            free_address(before, &listen, &addresses(taken).into_iter().collect())
        };
        assert_eq!(free(None, &[]), Some(listen[0]));
        assert_eq!(free(None, &["10.0.0.1:70"]), Some(listen[1]));
        assert_eq!(free(None, &["0.0.0.0:70"]), Some(listen[1]), "every address of that port");
        assert_eq!(free(None, &["127.0.0.1:70"]), Some(listen[0]), "another interface");
        assert_eq!(free(Some(1), &[]), Some(listen[1]), "what it had before");
        assert_eq!(free(Some(1), &["10.0.0.1:71"]), Some(listen[0]));
        assert_eq!(free(None, &["10.0.0.1:70", "10.0.0.1:71", "10.0.0.9:72"]), None);
        let elsewhere = "10.0.0.2:80".parse().unwrap();
        let found = free_address(Some(elsewhere), &listen, &BTreeSet::new());
        assert_eq!(found, Some(listen[0]), "the configuration was changed");
    }

    #[test]
    fn a_bundle_for_another_network_or_domain_is_refused_by_name() {
        let (ours, other) = ((NetworkId::new([1; 32]), DomainId::new([2; 32])), [9; 32]);
        expect_same(ours, ours).unwrap();
        for found in [(NetworkId::new(other), ours.1), (ours.0, DomainId::new(other))] {
            let refused = expect_same(ours, found).unwrap_err().to_string();
            assert!(refused.contains(&DomainId::new(other).to_string()), "{refused}");
        }
    }

    #[test]
    fn a_release_of_absurd_size_has_no_room() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().to_path_buf();
        let ceremony = heirloom_testkit::ceremony::Ceremony::new(&[7; 32]);
        let code = heirloom_testkit::ceremony::Code::named("keeper", 1);
        let bundles = Bundles::open(data.clone()).unwrap();
        let driver = KeeperDriver {
            instances: Instances {
                node: "node-1".parse().unwrap(),
                launcher: Launcher::Daemon(data.join("platform.sock")),
                data: data.clone(),
            },
            listen: Vec::new(),
            free_bytes_min: 1,
            downloads: Downloads::new(bundles.clone(), Vec::new()),
            bundles,
            state: StateDirectory::open(data.join("state")).unwrap(),
            registry: Arc::new(RegistryClient::new("127.0.0.1:9")),
            given: Arc::default(),
            trying: Arc::default(),
            seen: Arc::default(),
            service: None,
        };
        let mut release = ceremony.release_of("keeper-1.0.0", &code);
        driver.check_space(&release, &code.measurement).unwrap();
        let mut twin = release.artifacts[0].clone();
        twin.size = u64::MAX;
        release.artifacts.push(twin);
        let refused = driver.check_space(&release, &code.measurement);
        assert!(matches!(refused, Err(DriverError::Full(_))), "{refused:?}");
    }

    #[test]
    fn a_full_disk_a_bad_bundle_and_a_silent_mirror_are_told_apart() {
        let path = std::path::PathBuf::from("/data/binary");
        let full = bundle(BundleError::Fetch(FetchError::Full { path: path.clone() }));
        assert!(matches!(full, DriverError::Full(_)), "{full}");
        let full = bundle(StoreError::Full { operation: "write", path: path.clone() }.into());
        assert!(matches!(full, DriverError::Full(_)), "{full}");
        let artifact = "binary".parse().unwrap();
        let silent = FetchError::Unavailable { artifact, failures: Vec::new() };
        let silent = bundle(BundleError::Fetch(silent));
        assert!(matches!(silent, DriverError::Refused(_)), "{silent}");
        let bad = bundle(BundleError::Unmeasurable { path, reason: String::new() });
        assert!(matches!(bad, DriverError::Corrupt { .. }), "{bad}");
    }
}
