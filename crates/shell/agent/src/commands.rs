//! Keepers in TEEs that our launcher does not stand for: whoever runs the host says with which
//! command each code starts, and the agent starts, watches and ends it as it does with bundles.
//!
//! A command is not measured by anybody. What counts is what the keeper's evidence says, and that
//! is for the log and for peers to judge; here only a keeper that calls itself something else than
//! what was to be started is ended at once.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use heirloom_hardware::tee::Tee;
use heirloom_launcher::protocol::StopSignal;
use heirloom_model::measurement::Measurement;
use heirloom_upgrade::port::DriverError;
use nix::sys::signal::Signal;

use crate::config::TeeCode;
use crate::service::child::{self, Holder, Lock};

/// The commands of one node, and what they started.
#[derive(Debug)]
pub struct Commands {
    tee: Tee,
    /// Where each process holds a file for as long as it runs.
    data: PathBuf,
    codes: BTreeMap<Measurement, TeeCode>,
    /// What this agent started, by label. What an agent before it started is known by its file.
    children: Mutex<BTreeMap<String, Child>>,
}

/// A process that exists: its number, as far as it is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Number(pub Option<i32>);

impl Commands {
    /// The commands of a node that keeps everything there.
    pub fn new(tee: Tee, data: PathBuf, codes: BTreeMap<Measurement, TeeCode>) -> Self {
        Self { tee, data, codes, children: Mutex::default() }
    }

    /// The code that can be started.
    pub fn codes(&self) -> impl Iterator<Item = &Measurement> {
        self.codes.keys()
    }

    /// Where an instance of this code answers its agent, if it is not a socket in the file system.
    pub(crate) fn address(&self, code: &Measurement) -> Option<SocketAddr> {
        self.codes.get(code).and_then(|code| code.admin)
    }

    /// Runs the command of some code with these arguments behind its own. What it says goes to the
    /// end of a log.
    pub fn start(
        &self,
        label: &str,
        code: &Measurement,
        arguments: &[String],
        log: &Path,
    ) -> Result<(), DriverError> {
        let configured = self.codes.get(code).and_then(|code| code.command.split_first());
        let missing = || DriverError::Missing { what: format!("the command that starts {code}") };
        let (program, own) = configured.ok_or_else(missing)?;
        let refused = |error: io::Error| DriverError::Refused(format!("{program}: {error}"));
        let said = OpenOptions::new().create(true).append(true).open(log).map_err(refused)?;
        let mut command = Command::new(program);
        command.args(own).args(["--tee", self.tee.name()]).args(arguments);
        command.stdout(Stdio::from(said.try_clone().map_err(refused)?)).stderr(Stdio::from(said));
        match self.lock(label).spawn(&mut command).map_err(refused)? {
            Some(child) => {
                self.children().insert(label.to_owned(), child);
                Ok(())
            }
            None => Err(DriverError::Unexpected {
                expected: format!("nothing that runs as {label}"),
                found: "a process".to_owned(),
            }),
        }
    }

    /// The process of a label, if it exists.
    pub fn running(&self, label: &str) -> Result<Option<Number>, DriverError> {
        let unknown = |error: io::Error| DriverError::Unknown(format!("{label}: {error}"));
        let mut children = self.children();
        if let Some(child) = children.get_mut(label) {
            if child.try_wait().map_err(unknown)?.is_none() {
                return Ok(Some(Number(i32::try_from(child.id()).ok())));
            }
            children.remove(label);
        }
        // What it started may have outlived it.
        Ok(match self.lock(label).holder().map_err(unknown)? {
            Holder::Nobody => None,
            Holder::Orphan(number) => Some(Number(number)),
        })
    }

    /// Sends the process of a label a signal.
    pub fn stop(&self, label: &str, stop: StopSignal) -> Result<(), DriverError> {
        let signal = match stop {
            StopSignal::Terminate => Signal::SIGTERM,
            StopSignal::Kill => Signal::SIGKILL,
        };
        match self.running(label)? {
            None => Ok(()),
            Some(Number(Some(number))) => {
                match self.children().get(label) {
                    Some(child) => child::signal(child, signal),
                    None => child::signal_orphan(number, signal),
                }
                Ok(())
            }
            Some(Number(None)) => Err(DriverError::Unknown(format!(
                "{label} runs, and which process it is cannot be found out: end it by hand"
            ))),
        }
    }

    fn lock(&self, label: &str) -> Lock {
        Lock::new(self.data.join(format!("{label}.process")))
    }

    /// There is nothing behind the lock that a panic could leave half changed.
    fn children(&self) -> MutexGuard<'_, BTreeMap<String, Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use heirloom_model::measurement::MrEnclave;

    use super::*;

    const CODE: Measurement = Measurement::Sgx(MrEnclave::new([1; 32]));
    const LABEL: &str = "node-1.01010101";

    fn commands(data: &Path, script: &str) -> Commands {
        let command = ["sh", "-c", script, "keeper"].map(str::to_owned).to_vec();
        let code = TeeCode { measurement: CODE, command, admin: None };
        Commands::new(Tee::Gramine, data.to_owned(), BTreeMap::from([(CODE, code)]))
    }

    fn wait(mut is_so: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < Duration::from_mins(1), "nothing happened");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_command_is_told_where_it_runs_and_by_whom_it_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let (data, log) = (directory.path(), directory.path().join("log"));
        let commands = commands(data, r#"echo "$@""#);
        commands.start(LABEL, &CODE, &["--node".to_owned(), "node-1".to_owned()], &log).unwrap();
        wait(|| commands.running(LABEL).unwrap().is_none());
        let said = std::fs::read_to_string(&log).unwrap();
        assert_eq!(said, "--tee gramine --node node-1\n");
        let other = Measurement::Sgx(MrEnclave::new([2; 32]));
        let missing = commands.start(LABEL, &other, &[], &log);
        assert!(matches!(missing, Err(DriverError::Missing { .. })), "{missing:?}");
    }

    #[test]
    fn a_keeper_outlives_its_agent_and_the_next_one_can_end_it() {
        let directory = tempfile::tempdir().unwrap();
        let (data, log) = (directory.path(), directory.path().join("log"));
        let first = commands(data, "exec sleep 600");
        first.start(LABEL, &CODE, &[], &log).unwrap();
        let number = first.running(LABEL).unwrap();
        assert!(matches!(number, Some(Number(Some(_)))));
        let twice = first.start(LABEL, &CODE, &[], &log);
        assert!(matches!(twice, Err(DriverError::Unexpected { .. })), "{twice:?}");

        let next = commands(data, "exec sleep 600");
        assert_eq!(next.running(LABEL).unwrap(), number);
        assert_eq!(next.running("node-1.trial").unwrap(), None);
        next.stop(LABEL, StopSignal::Kill).unwrap();
        wait(|| first.running(LABEL).unwrap().is_none());
        assert_eq!(next.running(LABEL).unwrap(), None);
        next.stop(LABEL, StopSignal::Terminate).unwrap();
    }

    #[test]
    fn what_a_command_started_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let (data, log) = (directory.path(), directory.path().join("log"));
        // A wrapper that waits for what it runs.
        let commands = commands(data, "sleep 600 & echo ready; wait");
        commands.start(LABEL, &CODE, &[], &log).unwrap();
        wait(|| std::fs::read_to_string(&log).unwrap() == "ready\n");
        commands.stop(LABEL, StopSignal::Terminate).unwrap();
        wait(|| commands.running(LABEL).unwrap().is_none());
    }
}
