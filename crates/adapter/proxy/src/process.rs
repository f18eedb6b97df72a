//! What the system says about processes: who they are, whose children, what they hold open.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// More processes than the kernel gives out by default on 64 bits are not looked at.
const PROCESSES_MAX: usize = 4 * 1024 * 1024;
/// A proxy with more connections than this has another problem.
const DESCRIPTORS_MAX: usize = 4 * 1024 * 1024;
/// `st` of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// One running process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In ticks (a hundredth of a second) since the machine started. With the number, it names
    /// one process for ever.
    pub(crate) started: u64,
    /// What the process calls itself.
    pub(crate) title: String,
    parent: u32,
}

/// The process with this number, if it runs.
pub(crate) fn find(pid: u32) -> Option<Process> {
    let directory = Path::new("/proc").join(pid.to_string());
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    let title = fs::read(directory.join("cmdline")).ok()?;
    let title = String::from_utf8_lossy(&title).replace('\0', " ").trim_end().to_owned();
    // The name in brackets may contain anything, also brackets.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // Field 22 of the line is the start; the parent was field 4.
    let started = fields.nth(17)?.parse().ok()?;
    // A process that ended and was not fetched yet does nothing any more.
    (state != "Z").then_some(Process { pid, started, title, parent })
}

/// The running children of a process.
pub(crate) fn children(parent: u32) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.take(PROCESSES_MAX) {
        // Processes end while we look.
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        found.extend(find(pid).filter(|process| process.parent == parent));
    }
    Ok(found)
}

/// How many TCP connections of clients a process holds: those to a port where somebody listens.
pub(crate) fn client_connections(pid: u32) -> io::Result<u64> {
    let directory = Path::new("/proc").join(pid.to_string());
    let mut held = BTreeSet::new();
    for entry in fs::read_dir(directory.join("fd"))?.take(DESCRIPTORS_MAX) {
        // Descriptors are closed while we look.
        let Ok(target) = entry.and_then(|entry| fs::read_link(entry.path())) else { continue };
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        held.extend(inode.map(str::to_owned));
    }
    let mut table = fs::read_to_string(directory.join("net/tcp"))?;
    // A system without IPv6 has no such table.
    table.push_str(&fs::read_to_string(directory.join("net/tcp6")).unwrap_or_default());
    Ok(count(&table, &held))
}

fn count(table: &str, held: &BTreeSet<String>) -> u64 {
    let rows: Vec<(&str, &str, &str)> = table.lines().filter_map(row).collect();
    let ports: BTreeSet<&str> =
        rows.iter().filter(|row| row.1 == LISTENING).map(|row| row.0).collect();
    let clients = rows.iter().filter(|(port, state, inode)| {
        *state != LISTENING && ports.contains(port) && held.contains(*inode)
    });
    u64::try_from(clients.count()).unwrap_or(u64::MAX)
}

/// Local port, state and inode of a row of `/proc/net/tcp`.
fn row(line: &str) -> Option<(&str, &str, &str)> {
    let fields: Vec<&str> = line.split_whitespace().take(10).collect();
    let port = fields.get(1)?.rsplit_once(':')?.1;
    Some((port, fields.get(3)?, fields.get(9)?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn we_find_ourselves_and_nobody_else_under_our_number() {
        let own = std::process::id();
        let process = find(own).unwrap();
        assert_eq!(process.pid, own);
        assert!(process.started > 0);
        let siblings = children(process.parent).unwrap();
        assert!(siblings.contains(&process));
        assert_eq!(find(u32::MAX), None);
    }

    #[test]
    fn only_connections_that_came_in_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _address) = listener.accept().unwrap();
        // Both ends are ours, and only one of them came in.
        assert_eq!(client_connections(std::process::id()).unwrap(), 1);
        drop((elsewhere, accepted));
    }
}
