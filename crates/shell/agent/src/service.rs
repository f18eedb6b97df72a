//! The service of one node: the driver of its process, its database, and the proxy in front of it.
//!
//! ```text
//! service/service.state                 what the node was last told to be
//! service/bundles/<measurement>/        staged code, apart from that of keepers
//! service/ledger/                       the database and its snapshots, which only the tool touches
//! service/votes/<measurement>/          what the code itself must never forget, one for each code
//! service/distribution.json             how far blocks are distributed
//! service/{service,trial}.sock          where the instance and the code on trial answer
//! service/events.jsonl                  what was done when
//! ```
//!
//! Every call tells the node first, durably, what it is to be, and makes it so then. What takes
//! long goes on in the background, and the call is made again. Whatever dies in between,
//! [`keep`](ServiceDriver::keep) makes the world as the node was last told to be.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use heirloom_fetch::mirror::Mirror;
use heirloom_model::digest::PlanDigest;
use heirloom_model::domain::PlanStep;
use heirloom_model::identifier::{NodeId, TestName};
use heirloom_model::measurement::Measurement;
use heirloom_model::release::Release;
use heirloom_model::service::{Admission, ServiceRequest, ServiceStatus, Terms, Tip, Writing};
use heirloom_proxy::edge::Edge;
use heirloom_registry::network::NetworkState;
use heirloom_store::atomic;
use heirloom_upgrade::port::{DriverError, EdgeAdmission, ServiceDriver, ServiceObservation};
use serde_json::Value;

use self::distribution::Distributor;
use self::events::Events;
use self::node::{KEEP, LOOK_AGAIN, Node, PATIENCE, Restart, text, words};
use self::observe::Inspector;
use self::process::{Place, Processes};
use self::state::{Desired, Distribution, Promise, Start, StateFile, Wanted};
use self::tool::{Run, Tool};
use crate::bundles::{BundleError, Bundles};
use crate::downloads::Downloads;

pub use self::node::Setup;

pub mod config;
pub mod state;

pub(crate) mod child;
mod control;
mod distribution;
mod equip;
mod events;
mod node;
mod observe;
mod process;
mod show;
mod tool;

/// How long a copy of a database may take. It shows how far it is all along.
const COPY_TIMEOUT: Duration = Duration::from_hours(12);
/// How long tests through the side door may take.
const TESTS_TIMEOUT: Duration = Duration::from_mins(15);
/// For so long after something was waited for, it is looked at again soon.
const WAITING: Duration = Duration::from_secs(5);

/// The service of one node. Clones drive the same one.
#[derive(Clone)]
pub struct Service(Arc<Mutex<Node>>);

impl Service {
    /// Reads what the node was last told. Nothing is started.
    pub fn open(
        setup: Setup,
        node: NodeId,
        platform: PathBuf,
        mirrors: Vec<Mirror>,
        edge: Box<dyn Edge>,
    ) -> Result<Self, BundleError> {
        let directory = setup.directory.clone();
        atomic::create_directory(&directory)?;
        let bundles = Bundles::open(directory.clone())?;
        let (data, distributed) = (directory.join("ledger"), directory.join("distribution.json"));
        let distribute = {
            let mut all = vec!["distribute".to_owned()];
            all.extend(words(&[
                ("--data", &data.display()),
                ("--state", &distributed.display()),
                ("--archive", &setup.config.archive.display()),
            ]));
            all
        };
        let program = setup.config.tool.clone();
        Ok(Self(Arc::new(Mutex::new(Node {
            downloads: Downloads::new(bundles.clone(), mirrors),
            bundles,
            state: StateFile::open(directory.join("service.state"))?,
            processes: Processes::new(node, platform, directory.clone()),
            tool: Tool::new(program.clone(), directory.join("tool.lock")),
            inspector: Inspector::new(data, &distributed),
            distributor: Distributor::new(
                program,
                distribute,
                directory.join("distribution.log"),
                directory.join("distribution.lock"),
            ),
            edge,
            edge_seen: node::EdgeSeen::default(),
            events: Events::new(directory.join("events.jsonl")),
            started: None,
            restart: Restart::default(),
            trial: None,
            first: None,
            begun: None,
            trouble: None,
            waits: None,
            setup,
        }))))
    }

    /// What the service looks like now.
    pub fn observe(&self) -> Result<ServiceObservation, DriverError> {
        self.lock().observe()
    }

    /// Installs the first service, if none was ever installed and the policy in force names it.
    pub fn install_first(&self, state: &NetworkState) {
        let mut node = self.lock();
        if node.state.now().installed.is_some() || node.setup.config.bundle.is_none() {
            return;
        }
        let began = Instant::now();
        match node.install_first(state) {
            Ok(true) => {
                node.trouble = None;
                node.events.write("install", began.elapsed(), None);
            }
            Ok(false) => {}
            Err(error) => {
                let trouble = format!("install: {error}");
                if node.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(%error, "the first service is not installed");
                }
                node.trouble = Some(trouble);
            }
        }
    }

    /// Whether something is on its way, so that its agent should look again soon.
    pub fn is_waiting(&self) -> bool {
        self.lock().waits.as_ref().is_some_and(|(at, _)| at.elapsed() < WAITING)
    }

    /// How the service is, for operators.
    pub fn json(&self, seen: Option<&ServiceObservation>, state: &NetworkState) -> Value {
        show::json(&mut self.lock(), seen, state)
    }

    /// Ends what runs only as long as its agent: tools and distribution. The service goes on.
    pub fn end_children(&self) {
        let mut node = self.lock();
        node.tool.end();
        node.distributor.end();
    }

    /// A panic leaves nothing half done that a crash would not: what counts is on the disk.
    fn lock(&self) -> MutexGuard<'_, Node> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServiceDriver for Service {
    fn equip(
        &mut self,
        release: &Release,
        code: &Measurement,
        step: PlanStep,
    ) -> Result<Vec<u8>, DriverError> {
        let key = format!("{code} {step:?}");
        self.lock().step("equip", &key, |node| Ok((node.equip(release, code, step)?, None)))
    }

    fn state(&mut self, code: &Measurement, step: PlanStep) -> Result<Vec<u8>, DriverError> {
        let key = format!("{step:?}");
        self.lock().step("state", &key, |node| Ok((node.statement(code, step)?, None)))
    }

    fn fence(&mut self) -> Result<(), DriverError> {
        self.lock().plain_step("fence", &"", Node::fence)
    }

    fn freeze(&mut self, code: &Measurement, quiet: Duration) -> Result<(), DriverError> {
        self.lock().plain_step("freeze", code, |node| node.freeze(code, quiet))
    }

    fn halt(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.lock().plain_step("halt", code, |node| node.halt(code))
    }

    fn snapshot(&mut self, plan: &PlanDigest, tip: &Tip) -> Result<(), DriverError> {
        self.lock().tool_step("snapshot", plan, tip, Vec::new())
    }

    fn migrate(&mut self, plan: &PlanDigest, tip: &Tip, terms: &Terms) -> Result<(), DriverError> {
        let mut more = words(&[("--schema-to", &terms.schema_to)]);
        for migration in &terms.migrations {
            more.extend(words(&[("--migration", migration)]));
        }
        self.lock().tool_step("migrate", plan, tip, more)
    }

    fn revert(&mut self, plan: &PlanDigest, tip: &Tip) -> Result<(), DriverError> {
        self.lock().tool_step("revert", plan, tip, Vec::new())
    }

    fn deploy(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError> {
        self.lock().plain_step("deploy", install, |node| node.deploy(expect, install))
    }

    fn launch(&mut self, code: &Measurement, expected: Option<&Tip>) -> Result<(), DriverError> {
        self.lock().plain_step("launch", code, |node| node.launch(code, expected))
    }

    fn exercise(&mut self, step: PlanStep, tests: &[TestName]) -> Result<(), DriverError> {
        let key = format!("{step:?}");
        self.lock().step("exercise", &key, |node| Ok(((), node.exercise(step, tests)?)))
    }

    fn open(&mut self) -> Result<(), DriverError> {
        self.lock().plain_step("open", &"", Node::open)
    }

    fn keep(&mut self) -> Result<(), DriverError> {
        let mut node = self.lock();
        let Some(drift) = node.observe()?.drift else {
            node.settled();
            return Ok(());
        };
        tracing::info!(%drift, "the service is put right");
        node.plain_step(KEEP, &"", |node| node.patiently(Node::converge))
    }
}

impl Node {
    fn plain_step(
        &mut self,
        word: &'static str,
        subject: &dyn Display,
        work: impl FnOnce(&mut Self) -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        self.step(word, subject, |node| Ok((work(node)?, None)))
    }

    /// Forgets why something could not be put right, once it is.
    fn settled(&mut self) {
        let is_keep = |text: &String| text.starts_with(KEEP);
        self.trouble = self.trouble.take().filter(|text| !is_keep(text));
        self.waits = self.waits.take().filter(|(_, text)| !is_keep(text));
    }

    /// Tries again for a while what is about to happen.
    fn patiently<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match attempt(self) {
                Err(DriverError::Unknown(_)) if Instant::now() < until => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                found => return found,
            }
        }
    }

    fn statement(&mut self, code: &Measurement, step: PlanStep) -> Result<Vec<u8>, DriverError> {
        self.patiently(|node| {
            node.status(code)?;
            let socket = node.processes.socket(Place::Seat);
            control::statement(&socket, &ServiceRequest::State { step })
        })
    }

    fn fence(&mut self) -> Result<(), DriverError> {
        self.tell(Desired {
            admission: Admission::Closed,
            distribution: Distribution::Stopped,
            ..self.state.now().clone()
        })?;
        self.patiently(|node| {
            node.shut()?;
            node.expect_idle()
        })
    }

    /// Unknown while requests of clients are under way.
    fn expect_idle(&mut self) -> Result<(), DriverError> {
        if self.edge()? == EdgeAdmission::Open {
            return Err(DriverError::Unknown("the proxy still lets clients in".to_owned()));
        }
        let at_edge = self.edge_seen.connections.unwrap_or(0);
        let pending = if self.processes.running(Place::Seat)?.is_empty() {
            0
        } else {
            control::status(&self.processes.socket(Place::Seat))?.pending
        };
        if at_edge == 0 && pending == 0 {
            return Ok(());
        }
        Err(DriverError::Unknown(format!(
            "{at_edge} requests are under way at the proxy, {pending} at the service"
        )))
    }

    fn freeze(&mut self, code: &Measurement, quiet: Duration) -> Result<(), DriverError> {
        let desired = self.state.now().clone();
        expect_code(desired.code(), code)?;
        expect_closed(&desired)?;
        if desired.promise == Promise::Absent {
            self.tell(Desired { promise: Promise::Asked, ..desired })?;
        }
        self.patiently(|node| node.promised(code, quiet))
    }

    /// Lets the service promise to append nothing, and keeps where it did.
    fn promised(&mut self, code: &Measurement, quiet: Duration) -> Result<(), DriverError> {
        let desired = self.state.now().clone();
        let mut status = self.ensure_running(code, desired.start())?;
        let quiet_milliseconds = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
        if status.writing == Writing::Active {
            let socket = self.processes.socket(Place::Seat);
            control::command(&socket, &ServiceRequest::Freeze { quiet_milliseconds })?;
            status = self.status(code)?;
        }
        let tip = status.tip.filter(|_| status.writing == Writing::Frozen);
        let tip =
            tip.ok_or_else(|| DriverError::Unknown("the service is not frozen".to_owned()))?;
        if let Promise::Given { tip: before } = desired.promise
            && before != tip
        {
            let expected = format!("a service that froze at {before}");
            return Err(DriverError::Unexpected { expected, found: tip.to_string() });
        }
        // One that was started frozen has not been quiet for as long as its statement must say.
        let found = status.quiet_milliseconds;
        if found < quiet_milliseconds {
            let text = format!("quiet for {found} of {quiet_milliseconds} ms since it started");
            return Err(DriverError::Unknown(text));
        }
        self.tell(Desired { promise: Promise::Given { tip }, ..desired })
    }

    fn halt(&mut self, code: &Measurement) -> Result<(), DriverError> {
        let desired = self.state.now().clone();
        match desired.code() {
            // What runs is something else, and stays.
            Some(other) if other != code => {
                let other = *other;
                return self.end_all(Some(&other));
            }
            Some(_) => expect_closed(&desired)?,
            None => {}
        }
        self.tell(Desired {
            wanted: Wanted::Halted,
            admission: Admission::Closed,
            promise: Promise::Absent,
            distribution: Distribution::Stopped,
            ..desired
        })?;
        self.patiently(|node| {
            node.distributor.stop()?;
            node.end_all(None)?;
            // What the tool does now, it does to a service that is gone: nobody waits for it.
            if node.tool.has_other(observe::INSPECT) {
                node.tool.end();
            }
            match node.inspector.look(&mut node.tool, false)?.held {
                None => Ok(()),
                Some(holder) => {
                    Err(DriverError::Unknown(format!("the database is held by {holder}")))
                }
            }
        })
    }

    /// Runs the tool on the database, which nobody may have open.
    fn tool_step(
        &mut self,
        word: &'static str,
        plan: &PlanDigest,
        tip: &Tip,
        more: Vec<String>,
    ) -> Result<(), DriverError> {
        let directory = self.setup.directory.clone();
        let mut arguments = words(&[("--data", &directory.join("ledger").display())]);
        if word == "snapshot" {
            arguments.extend(words(&[("--state", &directory.join("distribution.json").display())]));
        }
        let tip_words: [(&str, &dyn Display); 3] =
            [("--plan", plan), ("--height", &tip.height), ("--tip", &tip.id)];
        arguments.extend(words(&tip_words));
        arguments.extend(more);
        self.step(word, plan, |node| {
            node.expect_halted()?;
            let done = node.tool.run(&Run { word, arguments, deadline: COPY_TIMEOUT }, PATIENCE)?;
            // The directory may look the same to whoever only looks at times.
            node.inspector.forget();
            Ok(((), Some(done)))
        })
    }

    fn expect_halted(&self) -> Result<(), DriverError> {
        let expected = "a halted service".to_owned();
        if let Some(code) = self.state.now().code() {
            return Err(DriverError::Unexpected { expected, found: format!("{code}") });
        }
        match self.processes.running(Place::Seat)?.first() {
            None => Ok(()),
            Some(found) => Err(DriverError::Unexpected { expected, found: found.label.clone() }),
        }
    }

    fn deploy(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError> {
        let desired = self.state.now().clone();
        if desired.installed == Some(*install) {
            return Ok(());
        }
        expect_code(desired.installed.as_ref(), expect)?;
        self.expect_halted()?;
        // Code that is not at hand or not ours would be found out when it is too late.
        self.expect_ours(&self.manifest(install)?)?;
        self.tell(Desired { installed: Some(*install), ..desired })
    }

    fn launch(&mut self, code: &Measurement, expected: Option<&Tip>) -> Result<(), DriverError> {
        let desired = self.state.now().clone();
        expect_code(desired.installed.as_ref(), code)?;
        if desired.code().is_some() {
            expect_code(desired.code(), code)?;
            expect_closed(&desired)?;
        }
        self.tell(Desired {
            wanted: Wanted::Running { code: *code, expected: expected.copied() },
            admission: Admission::SideDoor,
            promise: Promise::Absent,
            distribution: Distribution::Stopped,
            ..desired
        })?;
        self.patiently(|node| {
            node.end_all(Some(code))?;
            let how = expected.map_or(Start::Anywhere, |tip| Start::At(*tip));
            let mut status = node.ensure_running(code, how)?;
            if let Some(expected) = expected
                && is_behind(&status, expected)?
            {
                // It was never halted, and has to show what it loads.
                node.end_all(None)?;
                status = node.ensure_running(code, how)?;
                is_behind(&status, expected)?;
            }
            // From now on its ledger may grow.
            let wanted = Wanted::Running { code: *code, expected: None };
            node.tell(Desired { wanted, ..node.state.now().clone() })?;
            let desired = node.state.now().clone();
            node.admit(&desired, &status)
        })
    }

    fn exercise(
        &mut self,
        step: PlanStep,
        tests: &[TestName],
    ) -> Result<Option<Value>, DriverError> {
        let desired = self.state.now().clone();
        if desired.exercised.contains(&step) {
            return Ok(None);
        }
        let Some(code) = desired.code() else {
            let (expected, found) = ("a running service".to_owned(), "none".to_owned());
            return Err(DriverError::Unexpected { expected, found });
        };
        let manifest = self.manifest(code)?;
        let domain = self.expect_ours(&manifest)?;
        let config = &self.setup.config;
        let mut arguments = words(&[
            ("--door", &config.door_listen),
            ("--registry", &self.setup.registry),
            ("--network", &self.setup.network),
            ("--domain", &domain),
        ]);
        for test in tests {
            arguments.extend(words(&[("--test", test)]));
        }
        let configuration = text(config.configuration_of(&manifest.release));
        arguments.extend(words(&[("--configuration", &configuration)]));
        let run = Run { word: "exercise", arguments, deadline: TESTS_TIMEOUT };
        let done = self.tool.run(&run, PATIENCE)?;
        self.tell(self.state.now().clone().with_exercised(step))?;
        Ok(Some(done))
    }

    fn open(&mut self) -> Result<(), DriverError> {
        let desired = self.state.now().clone();
        expect_code(desired.code(), desired.installed.as_ref().unwrap_or(&NO_CODE))?;
        self.tell(Desired {
            admission: Admission::Open,
            promise: Promise::Absent,
            distribution: Distribution::Running,
            ..desired
        })?;
        self.patiently(|node| {
            node.converge()?;
            match node.edge()? {
                EdgeAdmission::Open => Ok(()),
                EdgeAdmission::Closed => {
                    Err(DriverError::Unknown("the proxy still turns clients away".to_owned()))
                }
            }
        })
    }
}

/// The measurement of nothing.
const NO_CODE: Measurement = Measurement::Sgx(heirloom_model::measurement::MrEnclave::new([0; 32]));

fn expect_code(found: Option<&Measurement>, code: &Measurement) -> Result<(), DriverError> {
    if found == Some(code) {
        return Ok(());
    }
    let found = found.map_or("nothing".to_owned(), ToString::to_string);
    Err(DriverError::Unexpected { expected: code.to_string(), found })
}

/// Clients' work must not be cut off.
fn expect_closed(desired: &Desired) -> Result<(), DriverError> {
    if desired.admission != Admission::Open {
        return Ok(());
    }
    let (expected, found) = ("a fenced service".to_owned(), "one that lets clients in".to_owned());
    Err(DriverError::Unexpected { expected, found })
}

/// Whether an instance loaded less than this. More is what peers gave since then; the log judges
/// whether that may be.
fn is_behind(status: &ServiceStatus, expected: &Tip) -> Result<bool, DriverError> {
    let Some(loaded) = &status.loaded else {
        return Err(DriverError::Unknown("the service loads its ledger".to_owned()));
    };
    if loaded.height == expected.height && loaded.id != expected.id {
        return Err(DriverError::Unexpected {
            expected: format!("a ledger that ends at {expected}"),
            found: loaded.to_string(),
        });
    }
    Ok(loaded.height < expected.height)
}
