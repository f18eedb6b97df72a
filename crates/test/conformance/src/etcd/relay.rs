//! Relays in front of the members, through which they reach each other.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// What is passed on at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Which members cannot reach the others. All relays look here before they pass anything on.
#[derive(Clone, Debug)]
pub(super) struct Links(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug)]
struct State {
    /// The process of each member: whoever opens a connection is told by it.
    processes: Vec<Option<u32>>,
    cut: BTreeSet<usize>,
    closed: bool,
}

impl Links {
    pub(super) fn new(nodes: usize) -> Self {
        let state = State { processes: vec![None; nodes], cut: BTreeSet::new(), closed: false };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    pub(super) fn set_process(&self, member: usize, process: Option<u32>) {
        self.change(|state| state.processes[member] = process);
    }

    pub(super) fn cut(&self, member: usize) {
        self.change(|state| {
            state.cut.insert(member);
        });
    }

    pub(super) fn heal(&self) {
        self.change(|state| state.cut.clear());
    }

    /// Lets every relay end.
    pub(super) fn close(&self) {
        self.change(|state| state.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.0.1.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing is between two members. False if all is over.
    fn pass(&self, one: usize, other: usize) -> bool {
        let cut = |state: &mut State| {
            !state.closed && (state.cut.contains(&one) || state.cut.contains(&other))
        };
        let state = self.0.1.wait_while(self.state(), cut);
        !state.unwrap_or_else(PoisonError::into_inner).closed
    }

    /// The member whose process has this end of a connection.
    fn member_with(&self, address: SocketAddr) -> Option<usize> {
        let processes = self.state().processes.clone();
        let table = fs::read_to_string("/proc/net/tcp").ok()?;
        let port = format!(":{:04X}", address.port());
        // Columns of proc(5): number, local address, remote address, and the inode as the tenth.
        let socket = table.lines().find_map(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            let inode = columns.get(9).filter(|inode| **inode != "0")?;
            columns.get(1)?.ends_with(&port).then(|| format!("socket:[{inode}]"))
        })?;
        let has = |process: u32| {
            let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
            files
                .filter_map(|file| fs::read_link(file.path()).ok())
                .any(|it| it.as_os_str() == &*socket)
        };
        processes.iter().position(|process| process.is_some_and(has))
    }
}

/// Passes on what others send to one member.
#[derive(Debug)]
pub(super) struct Relay {
    port: u16,
    links: Links,
    accepting: Option<JoinHandle<()>>,
}

impl Relay {
    /// Relays to the peer port of a member.
    pub(super) fn start(member: usize, peer: u16, links: &Links) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (port, links) = (listener.local_addr()?.port(), links.clone());
        let shared = links.clone();
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.state().closed {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = shared.clone();
                // It ends with its connection.
                drop(thread::spawn(move || relay(&stream, member, peer, &shared)));
            }
        });
        Ok(Self { port, links, accepting: Some(accepting) })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.links.close();
        // Wakes the thread, which then sees that all is over.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

/// Passes on one connection until it ends.
fn relay(from: &TcpStream, member: usize, peer: u16, links: &Links) {
    let Some(source) = from.peer_addr().ok().and_then(|address| links.member_with(address)) else {
        return;
    };
    if !links.pass(source, member) {
        return;
    }
    let Ok(to) = TcpStream::connect((Ipv4Addr::LOCALHOST, peer)) else { return };
    thread::scope(|scope| {
        scope.spawn(|| pump(from, &to, links, source, member));
        pump(&to, from, links, source, member);
    });
}

/// Passes on one direction. What is under way while the link is cut waits, as it would be sent
/// again by a system that gets no answer.
fn pump(mut from: &TcpStream, mut to: &TcpStream, links: &Links, source: usize, member: usize) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        if !links.pass(source, member) || to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    // The other direction ends too. Errors mean that it has.
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}
