//! Child processes of which there is one at a time, over restarts of the agent.
//!
//! A child has a locked file as its standard input. The lock lives as long as the child, whatever
//! becomes of its agent, and tells the next one that it is still there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

/// A process number and a line end.
const NUMBER_BYTES_MAX: usize = 32;

/// The file that a child holds.
#[derive(Clone, Debug)]
pub(crate) struct Lock {
    path: PathBuf,
}

/// Who holds the file.
pub(crate) enum Holder {
    /// Nobody.
    Nobody,
    /// A child of an agent that is gone, as far as its number is known.
    Orphan(Option<i32>),
}

impl Lock {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Who holds it. Ask only when no child of this process does.
    pub(crate) fn holder(&self) -> io::Result<Holder> {
        Ok(match self.take()? {
            Some(_free) => Holder::Nobody,
            None => Holder::Orphan(self.orphan()),
        })
    }

    /// Starts a child that holds the file, in a process group of its own. None if somebody else
    /// holds it.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Option<Child>> {
        let Some(file) = self.take()? else { return Ok(None) };
        let child = command.stdin(Stdio::from(file)).process_group(0).spawn()?;
        // The command must not keep the file open: the lock ends with the child.
        command.stdin(Stdio::null());
        // Without the number an orphan can only be waited for.
        if let Err(error) = std::fs::write(&self.path, format!("{}\n", child.id())) {
            tracing::warn!(%error, path = %self.path.display(), "a process number was not written");
        }
        Ok(Some(child))
    }

    fn take(&self) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&self.path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The process that holds it: its number was written down, and it still has the file open.
    fn orphan(&self) -> Option<i32> {
        let bytes = heirloom_store::atomic::read(&self.path, NUMBER_BYTES_MAX).ok()?;
        let number: i32 = str::from_utf8(&bytes).ok()?.trim_end().parse().ok()?;
        let open = std::fs::read_link(format!("/proc/{number}/fd/0")).ok()?;
        (number > 1 && is_same(&open, &self.path)).then_some(number)
    }
}

fn is_same(open: &Path, path: &Path) -> bool {
    std::fs::canonicalize(path).is_ok_and(|path| path == open)
}

/// Sends a signal to a child and everything that it started.
pub(crate) fn signal(child: &Child, signal: Signal) {
    if let Ok(number) = i32::try_from(child.id()) {
        // A group that is empty already is as good.
        killpg(Pid::from_raw(number), signal).ok();
    }
}

/// Sends a signal to a child of an agent that is gone, and to everything that it started if it leads
/// its group, as each does that [`Lock::spawn`] started.
pub(crate) fn signal_orphan(number: i32, signal: Signal) {
    let process = Pid::from_raw(number);
    // One that is gone meanwhile is as good.
    if getpgid(Some(process)) == Ok(process) {
        killpg(process, signal).ok();
    } else {
        kill(process, signal).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_again_by_whoever_did_not_start_it() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::new(directory.path().join("lock"));
        assert!(matches!(lock.holder().unwrap(), Holder::Nobody));
        let mut child = lock.spawn(Command::new("sleep").arg("600")).unwrap().unwrap();
        let number = i32::try_from(child.id()).unwrap();
        let other = Lock::new(directory.path().join("lock"));
        assert!(matches!(other.holder().unwrap(), Holder::Orphan(Some(found)) if found == number));
        assert!(other.spawn(Command::new("sleep").arg("600")).unwrap().is_none(), "one at a time");
        signal_orphan(number, Signal::SIGKILL);
        child.wait().unwrap();
        assert!(matches!(other.holder().unwrap(), Holder::Nobody));
        let mut next = other.spawn(&mut Command::new("true")).unwrap().unwrap();
        next.wait().unwrap();
    }

    #[test]
    fn what_a_wrapper_of_an_agent_that_is_gone_started_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::new(directory.path().join("lock"));
        // What it runs has the file open as well, and so holds the lock for as long as it lives.
        let mut wrapper = Command::new("sh");
        wrapper.args(["-c", "sleep 600; exit"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = lock.spawn(&mut wrapper).unwrap().unwrap();
        let number = i32::try_from(child.id()).unwrap();
        let children = format!("/proc/{number}/task/{number}/children");
        let begin = std::time::Instant::now();
        let minute = std::time::Duration::from_mins(1);
        while std::fs::read_to_string(&children).unwrap().is_empty() {
            assert!(begin.elapsed() < minute, "the wrapper runs nothing");
            std::thread::yield_now();
        }
        signal_orphan(number, Signal::SIGTERM);
        child.wait().unwrap();
        while !matches!(lock.holder().unwrap(), Holder::Nobody) {
            assert!(begin.elapsed() < minute, "what the wrapper ran is still there");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_number_that_belongs_to_somebody_else_is_never_signalled() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::new(directory.path().join("lock"));
        let mut child = lock.spawn(Command::new("sleep").arg("600")).unwrap().unwrap();
        for text in ["", "x", "1", &std::process::id().to_string()] {
            std::fs::write(directory.path().join("lock"), text).unwrap();
            assert!(matches!(lock.holder().unwrap(), Holder::Orphan(None)), "{text}");
        }
        signal(&child, Signal::SIGKILL);
        child.wait().unwrap();
    }
}
