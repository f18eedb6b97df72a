//! Real etcd clusters on this machine, and faults in them.
//!
//! Members are processes of the system's `etcd` with its default limits. They reach each other
//! through relays of this process, so that links can be cut without anybody noticing a closed
//! connection: that is how networks fail.

mod member;
mod relay;

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use self::member::Member;
use self::relay::{Links, Relay};

/// How long a cluster may take to elect a leader: far more than it needs, on a slow machine.
const READY_TIME_MAX: Duration = Duration::from_mins(1);
/// Between two questions whether it has.
const READY_PAUSE: Duration = Duration::from_millis(20);
/// Another process may take a port between the moment at which it was found free and the one at
/// which etcd takes it.
const STARTS_MAX: usize = 4;
/// Ports below those that the system gives to outgoing connections: a member that was killed
/// finds its port free when it comes back.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A cluster of etcd processes on free ports of the loopback interface. They end with this value,
/// and their logs are shown if it ends in a panic.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    endpoints: Vec<String>,
    links: Links,
    relays: Vec<Relay>,
}

impl Cluster {
    /// Whether this machine has etcd.
    pub fn available() -> bool {
        let mut etcd = Command::new("etcd");
        etcd.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        etcd.status().is_ok_and(|status| status.success())
    }

    /// Starts `nodes` members with their data below `directory`, and waits until they have a
    /// leader.
    pub fn start(nodes: usize, directory: &Path) -> io::Result<Self> {
        Self::start_with(nodes, directory, &[])
    }

    /// Starts members with more options of etcd.
    pub fn start_with(nodes: usize, directory: &Path, options: &[&str]) -> io::Result<Self> {
        let mut last = None;
        for attempt in 0..STARTS_MAX {
            // What a failed start leaves names ports that are gone.
            let directory = directory.join(format!("etcd-{attempt}"));
            match Self::try_start(nodes, &directory, options) {
                Ok(cluster) => return Ok(cluster),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::Other.into()))
    }

    fn try_start(nodes: usize, directory: &Path, options: &[&str]) -> io::Result<Self> {
        let links = Links::new(nodes);
        let mut relays = Vec::new();
        let mut members = Vec::new();
        for number in 0..nodes {
            let (client, peer) = (free_port()?, free_port()?);
            relays.push(Relay::start(number, peer, &links)?);
            members.push(Member::new(number, directory, client, peer)?);
        }
        let name = |(number, relay): (usize, &Relay)| format!("m{number}={}", relay.url());
        let all: Vec<_> = relays.iter().enumerate().map(name).collect();
        for (member, relay) in members.iter_mut().zip(&relays) {
            member.configure(&relay.url(), &all.join(","), options);
        }
        let endpoints = members.iter().map(Member::endpoint).collect();
        let mut cluster = Self { members, endpoints, links, relays };
        for number in 0..nodes {
            cluster.spawn(number)?;
        }
        cluster.wait_until_ready(0..nodes)?;
        Ok(cluster)
    }

    /// Where clients reach each member: `http://127.0.0.1:port`.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The member that leads, as those that answer see it.
    pub fn leader(&self) -> Option<usize> {
        self.members.iter().position(Member::leads)
    }

    /// Kills a member at once.
    pub fn kill(&mut self, member: usize) {
        self.links.set_process(member, None);
        self.members[member].kill();
    }

    /// Starts a member that was killed, with the data that it has, and waits until it takes part
    /// again.
    pub fn restart(&mut self, member: usize) -> io::Result<()> {
        self.spawn(member)?;
        self.wait_until_ready(member..member + 1)
    }

    /// Kills all members at once, and starts them again.
    pub fn restart_all(&mut self) -> io::Result<()> {
        let all = 0..self.members.len();
        all.clone().for_each(|member| self.kill(member));
        all.clone().try_for_each(|member| self.spawn(member))?;
        self.wait_until_ready(all)
    }

    /// Stops a member without ending it. Its connections stay open, and nobody answers.
    pub fn pause(&self, member: usize) {
        self.members[member].signal(Signal::SIGSTOP);
    }

    /// Lets a member that was stopped go on.
    pub fn resume(&self, member: usize) {
        self.members[member].signal(Signal::SIGCONT);
    }

    /// Cuts a member off from all others, both ways; clients still reach it.
    pub fn cut(&self, member: usize) {
        self.links.cut(member);
    }

    /// Heals all links. What was sent meanwhile arrives now, as after any failure of a network.
    pub fn heal(&self) {
        self.links.heal();
    }

    /// Waits until all members take part.
    pub fn wait_for_all(&mut self) -> io::Result<()> {
        self.wait_until_ready(0..self.members.len())
    }

    fn spawn(&mut self, member: usize) -> io::Result<()> {
        let process = self.members[member].spawn()?;
        self.links.set_process(member, Some(process));
        Ok(())
    }

    fn wait_until_ready(&mut self, which: std::ops::Range<usize>) -> io::Result<()> {
        let start = Instant::now();
        for member in &mut self.members[which] {
            while !member.is_healthy() {
                let late = start.elapsed() > READY_TIME_MAX;
                if let Some(ended) = member.ended()?.or_else(|| late.then(|| "late".to_owned())) {
                    return Err(io::Error::other(format!("etcd {ended}: {}", member.log_tail())));
                }
                // The process tells nobody when it is ready; it has to be asked.
                std::thread::sleep(READY_PAUSE);
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
        }
        self.links.close();
        self.relays.clear();
        if std::thread::panicking() {
            for member in &self.members {
                let shown = writeln!(io::stderr(), "{}", member.log_tail());
                drop(shown);
            }
        }
    }
}

/// A port on which nobody listens. No two calls of this process give the same.
fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Test processes that run at the same time begin at different places.
    let process = u16::try_from(std::process::id() % u32::from(count)).unwrap_or(0);
    let begin = u32::from(process) * 97;
    for _ in 0..count {
        let next = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((begin + next) % u32::from(count)).unwrap_or(0);
        let port = PORTS.start + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
