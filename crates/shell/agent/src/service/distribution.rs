//! The process that distributes blocks: a child of the agent, while clients are let in.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heirloom_upgrade::port::DriverError;
use nix::sys::signal::Signal;

use super::child::{self, Holder, Lock};

/// How long it may take to end after the block at hand.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The first pause before it is started again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause before it is started again.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// Once it ran for so long, its end is a new one.
const SOUND: Duration = Duration::from_mins(2);

/// The distributor.
pub(crate) struct Distributor {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    lock: Lock,
    child: Option<Child>,
    /// When it was started last, and how long to wait before it is started again.
    started: Option<(Instant, Duration)>,
    stopping: Option<Instant>,
}

impl Distributor {
    pub(crate) fn new(
        program: PathBuf,
        arguments: Vec<String>,
        log: PathBuf,
        lock: PathBuf,
    ) -> Self {
        let lock = Lock::new(lock);
        Self { program, arguments, log, lock, child: None, started: None, stopping: None }
    }

    /// Whether it runs, started by this agent or by one that is gone.
    pub(crate) fn is_running(&mut self) -> bool {
        if let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(None) => return true,
                Ok(Some(_)) | Err(_) => self.child = None,
            }
        }
        matches!(self.lock.holder(), Ok(Holder::Orphan(_)))
    }

    /// Starts it, if it does not run.
    pub(crate) fn start(&mut self) -> Result<(), DriverError> {
        self.stopping = None;
        if self.is_running() {
            return Ok(());
        }
        let pause = match self.started {
            Some((at, pause)) if at.elapsed() < pause => {
                return Err(DriverError::Unknown("distribution starts again soon".to_owned()));
            }
            Some((at, pause)) if at.elapsed() < SOUND => PAUSE_MAX.min(pause * 2),
            Some(_) | None => PAUSE_MIN,
        };
        self.started = Some((Instant::now(), pause));
        match self.spawn() {
            Ok(child) => self.child = child,
            Err(error) => {
                let what = self.program.display();
                return Err(DriverError::Unknown(format!("{what} was not started: {error}")));
            }
        }
        Ok(())
    }

    /// Stops it after the block at hand. Unknown until it is gone.
    pub(crate) fn stop(&mut self) -> Result<(), DriverError> {
        if !self.is_running() {
            self.stopping = None;
            self.started = None;
            return Ok(());
        }
        match self.stopping {
            None => {
                self.stopping = Some(Instant::now());
                self.signal(Signal::SIGTERM);
            }
            Some(since) if since.elapsed() > STOP_TIMEOUT => self.signal(Signal::SIGKILL),
            Some(_) => {}
        }
        Err(DriverError::Unknown("distribution ends after the block at hand".to_owned()))
    }

    /// Ends it with its agent.
    pub(crate) fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            child::signal(&child, Signal::SIGTERM);
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            child::signal(&child, Signal::SIGKILL);
            child.wait().ok();
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            child::signal(child, signal);
        } else if let Ok(Holder::Orphan(Some(number))) = self.lock.holder() {
            child::signal_orphan(number, signal);
        }
    }

    fn spawn(&self) -> io::Result<Option<Child>> {
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdout(Stdio::null()).stderr(log);
        self.lock.spawn(&mut command)
    }
}

impl Drop for Distributor {
    fn drop(&mut self) {
        self.end();
    }
}
