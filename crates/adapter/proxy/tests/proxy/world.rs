//! One real proxy in a directory of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use heirloom_proxy::edge::{Edge, EdgeAdmission, EdgeError, EdgeOptions, EdgeState, edge};
use heirloom_proxy::template::{self, Service};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::client::{Client, PATIENCE};
use crate::upstream::Upstream;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    HaProxy,
    Nginx,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::HaProxy => "/usr/sbin/haproxy",
            Self::Nginx => "/usr/sbin/nginx",
        }
    }
}

pub(crate) struct World {
    pub(crate) kind: Kind,
    pub(crate) service: Service,
    pub(crate) upstream: Upstream,
    proxy: Option<Child>,
    _directory: TempDir,
}

impl World {
    /// A running, open proxy; none if it is not installed here.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let mut world = Self::prepare(kind)?;
        world.start_proxy();
        Some(world)
    }

    /// Everything is written, and the proxy does not run yet.
    pub(crate) fn prepare(kind: Kind) -> Option<Self> {
        if !Path::new(kind.program()).exists() {
            eprintln!("skipped: {} is not on this machine", kind.program());
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let upstream = Upstream::start();
        let service = Service {
            directory: directory.path().to_owned(),
            client_port: free_port(),
            side_door_port: free_port(),
            upstream_port: upstream.port,
        };
        let world = Self { kind, service, upstream, proxy: None, _directory: directory };
        world.install();
        Some(world)
    }

    pub(crate) fn install(&self) {
        match self.kind {
            Kind::HaProxy => template::install_haproxy(&self.service).unwrap(),
            Kind::Nginx => template::install_nginx(&self.service).unwrap(),
        }
    }

    pub(crate) fn start_proxy(&mut self) {
        let mut command = match self.kind {
            Kind::HaProxy => template::haproxy_command(&self.service),
            Kind::Nginx => template::nginx_command(&self.service),
        };
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.proxy = Some(command.spawn().unwrap());
        until("the side door answers", || {
            Client::try_connect(self.service.side_door_port)
                .is_ok_and(|mut client| client.fetch("/").is_some())
        });
    }

    pub(crate) fn stop_proxy(&mut self) {
        if let Some(mut child) = self.proxy.take() {
            self.signal_process(&child, Signal::SIGTERM);
            child.wait().unwrap();
        }
    }

    /// Somebody lets the proxy read its files again. Returns when a new worker is there and no
    /// old one is, other than those that still have something to end.
    pub(crate) fn reload_by_somebody_else(&self) {
        let child = self.proxy.as_ref().unwrap();
        let before = children(child.id());
        match self.kind {
            Kind::HaProxy => self.signal_process(child, Signal::SIGUSR2),
            Kind::Nginx => self.signal_process(child, Signal::SIGHUP),
        }
        until("new workers", || {
            let now = children(child.id());
            let ended = |(pid, title): &(u32, String)| {
                title.contains("shutting down")
                    || self.kind == Kind::HaProxy
                    || before.iter().all(|(old, _)| old != pid)
            };
            let is_new = |(pid, _): &(u32, String)| before.iter().all(|(old, _)| old != pid);
            now.iter().any(is_new) && now.iter().all(ended)
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.signal_process(self.proxy.as_ref().unwrap(), signal);
    }

    fn signal_process(&self, child: &Child, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, signal).unwrap_or_else(|errno| panic!("{:?} has ended: {errno}", self.kind));
    }

    pub(crate) fn edge(&self) -> Box<dyn Edge> {
        self.edge_that_waits(PATIENCE)
    }

    pub(crate) fn edge_that_waits(&self, timeout: Duration) -> Box<dyn Edge> {
        let mut options = match self.kind {
            Kind::HaProxy => EdgeOptions::HaProxy(template::haproxy_options(&self.service)),
            Kind::Nginx => EdgeOptions::Nginx(template::nginx_options(&self.service)),
        };
        match &mut options {
            EdgeOptions::HaProxy(options) => options.timeout = timeout,
            EdgeOptions::Nginx(options) => options.timeout = timeout,
        }
        edge(options)
    }

    /// The file that the fence owns.
    pub(crate) fn fence(&self) -> PathBuf {
        match self.kind {
            Kind::HaProxy => template::haproxy_options(&self.service).state_file,
            Kind::Nginx => template::nginx_options(&self.service).include,
        }
    }

    pub(crate) fn proxy_pid(&self) -> u32 {
        self.proxy.as_ref().unwrap().id()
    }

    fn log(&self) -> PathBuf {
        self.service.directory.join("stderr.log")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in [self.log(), self.service.directory.join("nginx.log")] {
                eprintln!("{}", fs::read_to_string(log).unwrap_or_default());
            }
        }
        self.upstream.release();
        self.stop_proxy();
    }
}

/// Looks until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Looks until the edge says this.
pub(crate) fn until_state(edge: &mut dyn Edge, admission: EdgeAdmission, connections: u64) {
    let wanted = Ok(EdgeState { admission, connections });
    let mut last: Option<Result<EdgeState, EdgeError>> = None;
    until(&format!("{wanted:?}"), || {
        last = Some(edge.observe());
        last.as_ref() == Some(&wanted)
    });
}

pub(crate) fn admission(edge: &mut dyn Edge) -> EdgeAdmission {
    edge.observe().unwrap().admission
}

/// Numbers and titles of the children of a process.
pub(crate) fn children(parent: u32) -> Vec<(u32, String)> {
    let mut command = Command::new("ps");
    command.args(["-o", "pid=,args=", "--ppid"]).arg(parent.to_string());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().filter_map(|line| line.trim().split_once(' '));
    rows.map(|(pid, title)| (pid.parse().unwrap(), title.to_owned())).collect()
}

/// A port below those that the system gives to others meanwhile.
fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 64 + TAKEN.fetch_add(1, Ordering::SeqCst);
        let port = u16::try_from(10_000 + number % 20_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
