//! A real fleet on this machine: registry, hosts with their own emulated CPU or TPM, agents,
//! keepers, applications. Everything that a person would do is done with the `heirloom` command.
//!
//! Read in this order:
//!
//! * [`Lab`]: the directory, the programs, the processes.
//! * [`host`]: what hosts are made of, and [`tpm`] those with a TPM.
//! * [`network`]: founding a network, releases, policies, genesis.
//! * [`etcd`]: the registry's log on a real cluster.
//! * [`participant`]: ledger participants, and what keeps their keys.
//! * [`moving`]: what operators do to move them.
//! * [`service`]: the service of every node, proxies, ledgers.
//! * [`watch`]: what agents say, and the fewest holders at any moment.
//! * [`mirror`]: a web server with releases.
//! * [`start`]: how long one process start takes.
//! * [`chaos`]: random kills.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::{cargo, run, workspace_root};

pub(crate) mod chaos;
pub(crate) mod etcd;
pub(crate) mod host;
pub(crate) mod mirror;
pub(crate) mod moving;
pub(crate) mod network;
pub(crate) mod participant;
pub(crate) mod service;
pub(crate) mod start;
pub(crate) mod tpm;
pub(crate) mod watch;

/// Programs that a fleet consists of, with their packages.
const PROGRAMS: [(&str, &str); 5] = [
    ("heirloom", "heirloom-cli"),
    ("heirloom-platformd", "heirloom-platform"),
    ("heirloom-keeper", "heirloom-keeper-shell"),
    ("heirloom-example-app", "heirloom-client"),
    ("heirloom-ledger", "heirloom-ledger-shell"),
];
/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// The name of a socket has at most 107 bytes, and that of a keeper's has 37 below the directory.
const DIRECTORY_BYTES_MAX: usize = 70;
/// Where servers listen.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// How long to wait between two looks.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One laboratory: a directory and the processes that were started from it.
pub(crate) struct Lab {
    /// Everything that the fleet leaves.
    pub(crate) directory: PathBuf,
    programs: PathBuf,
    /// Port of the registry.
    pub(crate) registry_port: u16,
    /// A port on which nobody ever listens: a mirror that is down.
    pub(crate) dead_port: u16,
    /// Nodes in order: `node-1` and so on.
    pub(crate) nodes: Vec<Node>,
    processes: Mutex<BTreeMap<String, Child>>,
    /// Set when the fleet ends: nobody starts again what is stopped.
    ending: AtomicBool,
    /// How many applications were started.
    pub(crate) clients: AtomicUsize,
    /// Servers that run under the crash supervisor, with the words for it.
    supervised: Mutex<BTreeMap<String, Vec<String>>>,
    /// Where lines for people go.
    out: fn(&str),
    /// Where the registry keeps its log, if not in a file.
    etcd: Mutex<Option<Arc<etcd::Cluster>>>,
}

/// A lab that threads share.
pub(crate) type SharedLab = Arc<Lab>;

/// One node, and the host that it has for itself.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// What its host is made of.
    pub(crate) platform: host::Platform,
    /// Ports of its keepers: the one that serves and the next one take turns.
    pub(crate) keeper_ports: [u16; 2],
    /// Port of its agent's interface.
    pub(crate) agent_port: u16,
    /// Ports of its service.
    pub(crate) service: service::Ports,
}

impl Node {
    /// Socket of its host's platform, relative to the lab.
    pub(crate) fn socket(&self) -> String {
        format!("{}/platform.sock", self.name)
    }
}

/// Builds what a fleet consists of, and nothing else. Cargo shows the progress.
pub(crate) fn build() -> Result<()> {
    build_with(&[])
}

/// As [`build`], and these packages too.
pub(crate) fn build_with(more: &[&str]) -> Result<()> {
    let mut build = cargo();
    build.arg("build");
    for package in PROGRAMS.iter().map(|(_, package)| package).chain(more) {
        build.args(["--package", package]);
    }
    // Standard output is for results.
    run(build.stdout(Stdio::null())).context("the fleet's programs do not build")
}

impl Lab {
    /// An empty lab for this many nodes, in a new directory. `out` shows lines to people.
    pub(crate) fn new(name: &str, nodes: usize, out: fn(&str)) -> Result<Self> {
        let directory =
            std::env::temp_dir().join(format!("heirloom-{name}-{}", std::process::id()));
        let length = directory.as_os_str().len();
        ensure!(
            length <= DIRECTORY_BYTES_MAX,
            "{} has {length} bytes, and sockets in it could have at most {DIRECTORY_BYTES_MAX} \
             before their own names: set TMPDIR to a shorter directory",
            directory.display()
        );
        fs::create_dir(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| workspace_root().join("target"), PathBuf::from);
        let of_node = 3 + service::Ports::COUNT;
        let mut ports = free_ports(2 + of_node * nodes)?.into_iter();
        let registry_port = ports.next().context("a port is missing")?;
        let dead_port = ports.next().context("a port is missing")?;
        let nodes = (1..=nodes)
            .zip(ports.by_ref().collect::<Vec<_>>().chunks(of_node))
            .map(|(index, own)| match own {
                [first, second, agent_port, others @ ..] => Ok(Node {
                    name: format!("node-{index}"),
                    platform: host::Platform::Emulated,
                    keeper_ports: [*first, *second],
                    agent_port: *agent_port,
                    service: service::Ports::of(others).context("a port is missing")?,
                }),
                _ => bail!("a port is missing"),
            })
            .collect::<Result<_>>()?;
        let programs = target.join("debug");
        Ok(Self {
            directory,
            programs,
            registry_port,
            dead_port,
            nodes,
            processes: Mutex::default(),
            ending: AtomicBool::new(false),
            clients: AtomicUsize::new(0),
            supervised: Mutex::default(),
            out,
            etcd: Mutex::default(),
        })
    }

    /// Shows a line to people.
    pub(crate) fn say(&self, line: &str) {
        (self.out)(line);
    }

    /// A file or directory of the lab.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A program of ours.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.directory).stdin(Stdio::null());
        command
    }

    /// Where a program of ours is.
    pub(crate) fn program_path(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Runs `heirloom` with these words and `--json`, and returns what it answers.
    pub(crate) fn heirloom(&self, words: &[&str]) -> Result<Value> {
        answer(self.program("heirloom").args(words).arg("--json"))
    }

    /// As [`Self::heirloom`], against this lab's network and registry.
    pub(crate) fn operate(&self, words: &[&str]) -> Result<Value> {
        let mut all = words.to_vec();
        all.extend(["--network", "net/network.toml"]);
        self.heirloom(&all)
    }

    /// Runs `heirloom` for people, and returns its text.
    pub(crate) fn show(&self, words: &[&str]) -> Result<String> {
        let output = self.program("heirloom").args(words).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "heirloom {} failed: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    /// Runs `heirloom-platformd`.
    pub(crate) fn platformd(&self, words: &[&str]) -> Result<Value> {
        answer(self.program("heirloom-platformd").args(words))
    }

    /// Starts a server under a name; its output goes to `<name>.log`.
    pub(crate) fn start(&self, name: &str, command: &mut Command) -> Result<()> {
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(self.path(&format!("{name}.log")))?;
        let words = self.supervised().get(name).cloned();
        let mut supervised = words.map(|words| self.under_supervision(&words, command));
        let command = supervised.as_mut().unwrap_or(command);
        let mut processes = self.processes();
        ensure!(!self.is_ending(), "the fleet is ending");
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        processes.insert(name.to_owned(), child);
        Ok(())
    }

    /// The same command under the crash supervisor, which gets these words.
    pub(crate) fn under_supervision(&self, words: &[String], command: &Command) -> Command {
        let mut supervisor = self.program("heirloom-crash");
        supervisor.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        supervisor.args(words).arg("--").arg(command.get_program()).args(command.get_args());
        supervisor
    }

    /// Whether the fleet is ending, or has ended.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Ends every process, in order. Nothing is started any more.
    pub(crate) fn end(&self) {
        let mut processes = self.processes();
        self.ending.store(true, Ordering::Relaxed);
        // Agents first: they would start again what is stopped.
        for prefix in ["agent-", "platform-", ""] {
            for (_, child) in processes.iter_mut().filter(|(name, _)| name.starts_with(prefix)) {
                terminate(child);
            }
        }
        // What a killed agent had started goes on for the next one, and here there is none. The
        // name of the directory is in its arguments, and in nobody else's.
        let directory = format!("{}/", self.directory.display());
        let _orphans = Command::new("pkill").args(["-KILL", "-f", &directory]).status();
    }

    /// From its next start on, a server runs under the crash supervisor, which gets these words.
    pub(crate) fn supervise(&self, name: &str, words: Vec<String>) {
        self.supervised().insert(name.to_owned(), words);
    }

    /// From its next start on, a server runs by itself.
    pub(crate) fn leave_alone(&self, name: &str) {
        self.supervised().remove(name);
    }

    /// Kills a server at once, and waits until it is gone.
    pub(crate) fn kill(&self, name: &str) -> Result<()> {
        let child = self.processes().remove(name);
        if let Some(mut child) = child {
            if name.starts_with("proxy-") {
                // Workers outlive a killed master, and keep its ports. A master that is not
                // stopped first starts others in the place of those that are killed.
                let master = child.id().to_string();
                let _stopped = Command::new("kill").args(["-STOP", &master]).status();
                let _workers = Command::new("pkill").args(["-KILL", "-P", &master]).status();
            }
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts the registry.
    pub(crate) fn start_registry(&self) -> Result<()> {
        let listen = format!("127.0.0.1:{}", self.registry_port);
        let mut words =
            vec!["registry", "serve", "--network", "net/network.toml", "--listen", &listen];
        let cluster = self.etcd();
        match &cluster {
            None => words.extend(["--log", "net/registry.log"]),
            Some(cluster) => {
                words.extend(["--store", "etcd"]);
                for endpoint in cluster.endpoints() {
                    words.extend(["--endpoint", endpoint]);
                }
            }
        }
        self.start("registry", self.program("heirloom").args(words))?;
        until("the registry", START_TIMEOUT, || get(self.registry_port, "/v1/healthz").is_ok())
    }

    /// From now on the registry keeps its log on an etcd cluster of its own.
    pub(crate) fn use_etcd(&self) -> Result<()> {
        let cluster = etcd::Cluster::start(self)?;
        *self.etcd.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(cluster));
        Ok(())
    }

    /// The etcd cluster, if the registry keeps its log there.
    pub(crate) fn etcd(&self) -> Option<Arc<etcd::Cluster>> {
        self.etcd.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts the agent of a node.
    pub(crate) fn start_agent(&self, node: &Node) -> Result<()> {
        let config = format!("{}/agent.toml", node.name);
        self.start(
            &format!("agent-{}", node.name),
            self.program("heirloom").args(["agent", "run", "--config", &config]),
        )
    }

    fn supervised(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        self.supervised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn processes(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Child>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends a process in order, so that a platform daemon takes what it launched with it.
fn terminate(child: &mut Child) {
    let ended = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)) | Err(_));
    if ended(child) {
        return;
    }
    let process = child.id().to_string();
    let _asked = Command::new("kill").args(["-TERM", &process]).status();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ended(child) && Instant::now() < deadline {
        std::thread::sleep(LOOK_AGAIN);
    }
    let _killed = child.kill();
    let _waited = child.wait();
}

/// Runs a program that answers with JSON, or with nothing.
fn answer(command: &mut Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.stdout.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).context("the answer is not JSON")
}

/// Waits until something holds.
pub(crate) fn until(what: &str, timeout: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while !holds() {
        ensure!(Instant::now() < deadline, "{what} did not come within {timeout:?}");
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// Asks a local HTTP server for a page.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.contains(" 200 "), "the answer is {}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}

/// Ports that nobody uses now. They lie below those that the system gives to outgoing
/// connections, so that none is taken while its server is down, and laboratories at the same time
/// begin at different places.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let first = std::process::id().wrapping_mul(97) % u32::from(PORTS.end - PORTS.start);
    let first = PORTS.start + u16::try_from(first)?;
    let mut free = Vec::new();
    for port in (first..PORTS.end).chain(PORTS.start..first) {
        if free.len() == count {
            return Ok(free);
        }
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            free.push(port);
        }
    }
    bail!("there are no {count} free ports")
}

/// Text of a JSON answer.
pub(crate) fn text<'v>(value: &'v Value, pointer: &str) -> Result<&'v str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("the answer has no {pointer}: {value}"))
}

/// Writes a file of the lab.
pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
