//! Follows a program with all its threads and children, and kills where the selection says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::operation::{self, Call, Operation};
use crate::record::Log;
use crate::selection::{Moment, Role, Selection, Site};

/// Times in a row that the program may end by itself before it is left alone.
const ENDS_MAX: u32 = 5;
/// How long to wait before a program that ended by itself is started again.
const PAUSE: Duration = Duration::from_millis(200);

/// One supervisor.
pub(crate) struct Tracer {
    role: Role,
    within: PathBuf,
    selection: Selection,
    log: Log,
    /// The program's process.
    root: Pid,
    /// Threads by their numbers.
    threads: BTreeMap<Pid, Thread>,
    /// Processes that may be killed, by their numbers.
    lives: BTreeMap<Pid, Life>,
    lives_begun: u64,
    /// Ends in a row that were not our doing.
    ends: u32,
}

/// One thread, and the operation that it is inside of.
struct Thread {
    process: Pid,
    inside: Option<(Site, Operation)>,
}

/// One process that may be killed.
#[derive(Clone, Copy)]
struct Life {
    number: u64,
    killed: bool,
    /// Durable operations that it has begun.
    operations: u64,
}

impl Tracer {
    /// A supervisor that has not begun.
    pub(crate) fn new(role: Role, within: PathBuf, selection: Selection, log: Log) -> Self {
        Self {
            role,
            within,
            selection,
            log,
            root: Pid::from_raw(0),
            threads: BTreeMap::new(),
            lives: BTreeMap::new(),
            lives_begun: 0,
            ends: 0,
        }
    }

    /// Runs the program until it ends in order. If it is killed here, it is started again.
    pub(crate) fn run(mut self, program: &[String]) -> Result<()> {
        self.start(program)?;
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error).context("nothing is left to wait for"),
            };
            match status {
                WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, _, _) => {
                    self.threads.remove(&thread);
                    self.note_end(thread, status)?;
                    if thread == self.root && self.is_over(status)? {
                        return Ok(());
                    }
                    if thread == self.root {
                        self.start(program)?;
                    }
                }
                WaitStatus::PtraceSyscall(thread) => {
                    self.at_call(thread)?;
                    resume(thread, None)?;
                }
                WaitStatus::PtraceEvent(thread, _, event) => {
                    if event == Event::PTRACE_EVENT_EXEC as i32 {
                        self.at_start(thread)?;
                    }
                    resume(thread, None)?;
                }
                // New threads begin with it, and nobody else sends it.
                WaitStatus::Stopped(thread, Signal::SIGSTOP) => resume(thread, None)?,
                WaitStatus::Stopped(thread, signal) => resume(thread, Some(signal))?,
                WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
            }
        }
    }

    /// Starts the program, stopped before its first instruction.
    fn start(&mut self, program: &[String]) -> Result<()> {
        let own = std::env::current_exe().context("this program has no path")?;
        let child = Command::new(own).args(["begin", "--"]).args(program).spawn()?;
        let root = Pid::from_raw(i32::try_from(child.id())?);
        // Its end is waited for with those of all others.
        drop(child);
        match waitpid(root, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            other => bail!("the program did not begin: {other:?}"),
        }
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            // Whoever kills the supervisor switches the whole host off.
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(root, options)?;
        self.root = root;
        self.lives.clear();
        self.threads.clear();
        resume(root, None)
    }

    /// A process has become another program.
    fn at_start(&mut self, process: Pid) -> Result<()> {
        let is_program = process == self.root;
        if is_program == (self.role == Role::Agent) {
            self.lives_begun += 1;
            let life = Life { number: self.lives_begun, killed: false, operations: 0 };
            self.lives.insert(process, life);
            self.log.began(self.lives_begun)?;
        }
        self.threads.remove(&process);
        Ok(())
    }

    fn note_end(&mut self, thread: Pid, status: WaitStatus) -> Result<()> {
        let Some(life) = self.lives.remove(&thread) else { return Ok(()) };
        if life.killed {
            self.ends = 0;
            return Ok(());
        }
        self.ends += 1;
        let how = match status {
            WaitStatus::Exited(_, code) => format!("exit {code}"),
            WaitStatus::Signaled(_, signal, _) => signal.to_string(),
            other => format!("{other:?}"),
        };
        self.log.ended(life.number, &how)
    }

    /// Whether the program is not started again.
    fn is_over(&self, status: WaitStatus) -> Result<bool> {
        if self.role == Role::Keeper || matches!(status, WaitStatus::Exited(_, 0)) {
            return Ok(true);
        }
        if self.ends > ENDS_MAX {
            bail!("the program ended {} times in a row by itself", self.ends);
        }
        if self.ends > 0 {
            std::thread::sleep(PAUSE);
        }
        Ok(false)
    }

    /// A thread begins a system call, or has come to its end.
    fn at_call(&mut self, thread: Pid) -> Result<()> {
        let process = if let Some(known) = self.threads.get(&thread) {
            known.process
        } else {
            let Some(process) = process_of(thread) else { return Ok(()) };
            self.threads.insert(thread, Thread { process, inside: None });
            process
        };
        let Some(life) = self.lives.get(&process).copied().filter(|life| !life.killed) else {
            return Ok(());
        };
        // A thread of a process that is being killed may be gone already.
        let Ok(info) = ptrace::syscall_info(thread) else { return Ok(()) };
        let Ok((call, result)) = registers(thread) else { return Ok(()) };
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            return self.at_entry(thread, process, life, call);
        }
        let inside = self.threads.get_mut(&thread).and_then(|known| known.inside.take());
        match inside {
            Some((site, _)) if result >= 0 => {
                let killed = self.strike(process, &site, Moment::After)?;
                self.log.did(life.number, &site, killed)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn at_entry(&mut self, thread: Pid, process: Pid, life: Life, call: Call) -> Result<()> {
        let Some(operation) = operation::of(process, call).filter(|it| it.changes) else {
            return Ok(());
        };
        let Some(path) = operation::normalised(&operation.path, &self.within) else {
            return Ok(());
        };
        let site = Site { operation: operation.name, path, stage: self.log.stage(life.operations) };
        if let Some(life) = self.lives.get_mut(&process) {
            life.operations += 1;
        }
        if let Some(moment) = self.strike(process, &site, Moment::Before)? {
            return self.log.did(life.number, &site, Some(moment));
        }
        if let Some(known) = self.threads.get_mut(&thread) {
            known.inside = Some((site, operation));
        }
        Ok(())
    }

    /// Kills here, if this is where to kill. The system does not begin a call of a process that
    /// is killed at its entry.
    fn strike(&mut self, process: Pid, site: &Site, moment: Moment) -> Result<Option<Moment>> {
        if !self.selection.strikes(site, moment) {
            return Ok(None);
        }
        kill(process, Signal::SIGKILL).context("a process that stands still cannot be killed")?;
        if let Some(life) = self.lives.get_mut(&process) {
            life.killed = true;
        }
        if self.selection.is_exhausted() {
            self.log.exhausted()?;
        }
        Ok(Some(moment))
    }
}

/// Lets a thread go on until its next system call.
fn resume(thread: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(thread, signal) {
        // It was killed meanwhile; its end is reported like any other.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).context("a process does not go on"),
    }
}

/// The process of a thread.
fn process_of(thread: Pid) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let number = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    Some(Pid::from_raw(number.trim().parse().ok()?))
}

/// The call that a thread makes, and at its end the result.
#[cfg(target_arch = "x86_64")]
fn registers(thread: Pid) -> Result<(Call, i64)> {
    let registers = ptrace::getregs(thread)?;
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10];
    let call = Call { number: registers.orig_rax.cast_signed(), arguments };
    Ok((call, registers.rax.cast_signed()))
}

/// Other processors pass arguments elsewhere.
#[cfg(not(target_arch = "x86_64"))]
fn registers(_thread: Pid) -> Result<(Call, i64)> {
    bail!("the crash matrix knows the registers of x86-64 only")
}
