//! The platform daemon: the emulated CPU of one host, for processes that it launches.
//!
//! It tells measured processes from all others itself: by the kernel's word on who is at the
//! other end of a socket, at every request, and never by what that process says. A measured
//! process is one that the daemon launched, that has not been replaced by another program, and
//! that still lives. A copy of the same file that somebody else starts is nobody.
//!
//! Everybody who may open the socket may launch, list and stop: it is for the host's agent. That
//! is no way to keys, since what is launched is measured.

mod instances;
mod peer;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use heirloom_model::causes::with_causes;
use heirloom_model::evidence::{ReportData, ReportTarget};
use heirloom_model::frame::{FrameError, receive, send};
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::host::EmulatedHost;
use crate::launch::Prepared;
use crate::protocol::{
    ARGUMENTS_MAX, Answer, HostInfo, KeyBytes, LABEL_BYTES_MAX, LaunchRequest, RANDOM_BYTES_MAX,
    RandomBytes, Refusal, Request, WireProtection,
};
use crate::report::{REPORT_BYTES, Report, ReservedTarget, Secs, TargetInfo};
use crate::state::{HostDirectory, StateError};
use instances::Instances;
use peer::Caller;

/// A daemon that listens and does not answer yet.
pub struct Daemon {
    listener: UnixListener,
    wake: UnixStream,
    shared: Arc<Shared>,
    _lock: Flock<File>,
}

/// Ends a daemon in order: instances are killed, the socket is removed.
pub struct Stopper(UnixStream);

/// Why a daemon did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The machine's directory cannot be used.
    #[error("the machine's state cannot be used")]
    State(#[from] StateError),
    /// Another daemon is this machine.
    #[error("another daemon serves the machine in {path}")]
    AlreadyServed {
        /// The machine's directory.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("the socket {path} cannot be made")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody can connect any more.
    #[error("connections cannot be accepted")]
    Accept(#[source] io::Error),
}

/// What all connections share.
struct Shared {
    host: EmulatedHost,
    protection: WireProtection,
    socket: PathBuf,
    directory: Mutex<HostDirectory>,
    instances: Arc<Instances>,
    connections: Mutex<Connections>,
}

/// Open connections: agents and instances hold one or two each.
const CONNECTIONS_MAX: usize = 1024;
/// How often accepting may fail in a row, before the daemon gives up instead of spinning.
const ACCEPT_FAILURES_MAX: u32 = 100;

#[derive(Default)]
struct Connections {
    next: u64,
    open: std::collections::BTreeMap<u64, UnixStream>,
}

impl Daemon {
    /// Opens a machine and listens. The list of instances begins empty.
    pub fn bind(state: &Path, socket: &Path) -> Result<(Self, Stopper), DaemonError> {
        let directory = HostDirectory::open(state)?;
        let lock = lock(state)?;
        let (fuses, protection) = directory.fuses()?;
        let record = directory.record();
        let host = EmulatedHost::new(fuses, record.cpu_svn, &record.certificate);
        let socket_error = |source| DaemonError::Socket { path: socket.to_owned(), source };
        let socket = std::path::absolute(socket).map_err(socket_error)?;
        let listener = listen(&socket).map_err(socket_error)?;
        let (wake, stopper) = UnixStream::pair().map_err(socket_error)?;
        let shared = Shared {
            host,
            protection: protection.into(),
            socket,
            directory: Mutex::new(directory),
            instances: Arc::default(),
            connections: Mutex::default(),
        };
        let daemon = Self { listener, wake, shared: Arc::new(shared), _lock: lock };
        Ok((daemon, Stopper(stopper)))
    }

    /// Serves until the stopper is used or dropped. Then every instance is killed and waited for.
    pub fn run(self) -> Result<(), DaemonError> {
        let served = self.serve();
        self.shared.instances.end_all();
        for stream in lock_ignoring_poison(&self.shared.connections).open.values() {
            // Already closed is as good.
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
        // A socket that stays is replaced by the next daemon.
        fs::remove_file(&self.shared.socket).ok();
        served
    }

    fn serve(&self) -> Result<(), DaemonError> {
        let mut failures = 0;
        loop {
            let mut ready = [
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(DaemonError::Accept(error.into())),
                Ok(_) => {}
            }
            let [listener, wake] = ready;
            if wake.any() == Some(true) {
                return Ok(());
            }
            if listener.any() != Some(true) {
                continue;
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    failures = 0;
                    self.answer_in_background(stream);
                }
                // The caller hung up, or descriptors are short for a moment.
                Err(error) if failures >= ACCEPT_FAILURES_MAX => {
                    return Err(DaemonError::Accept(error));
                }
                Err(_) => failures += 1,
            }
        }
    }

    /// Answers one connection in a thread. One too many is closed at once.
    fn answer_in_background(&self, stream: UnixStream) {
        let Some(number) = self.shared.register(&stream) else { return };
        let shared = Arc::clone(&self.shared);
        let spawned = thread::Builder::new().name("connection".to_owned()).spawn(move || {
            shared.answer_all(stream);
            shared.forget(number);
        });
        if spawned.is_err() {
            self.shared.forget(number);
        }
    }
}

impl Stopper {
    /// Ends the daemon.
    pub fn stop(self) {
        drop(self.0);
    }
}

impl Shared {
    fn register(&self, stream: &UnixStream) -> Option<u64> {
        let mut connections = lock_ignoring_poison(&self.connections);
        if connections.open.len() >= CONNECTIONS_MAX {
            return None;
        }
        let number = connections.next;
        connections.next = number.wrapping_add(1);
        connections.open.insert(number, stream.try_clone().ok()?);
        Some(number)
    }

    fn forget(&self, number: u64) {
        lock_ignoring_poison(&self.connections).open.remove(&number);
    }

    /// Answers until the other side leaves or says something that is no request.
    fn answer_all(&self, mut stream: UnixStream) {
        loop {
            let request = match receive::<Request>(&mut stream) {
                Ok(request) => request,
                Err(FrameError::Closed | FrameError::Io(_)) => return,
                Err(error @ (FrameError::TooLarge { .. } | FrameError::Wire(_))) => {
                    let refusal = Refusal::Failed { reason: with_causes(&error) };
                    // The stream cannot be understood from here on; the answer is a courtesy.
                    send(&mut stream, &Answer::Refused(refusal)).ok();
                    return;
                }
            };
            let caller = self.instances.identify(&stream);
            let answer = self.answer(&caller, request).unwrap_or_else(Answer::Refused);
            if send(&mut stream, &answer).is_err() {
                return;
            }
        }
    }

    fn answer(&self, caller: &Caller, request: Request) -> Result<Answer, Refusal> {
        let host = &self.host;
        Ok(match request {
            Request::Identity => Answer::Identity(host.identity(measured(caller)?).into()),
            Request::SealKey(recipe) => {
                let key = host.seal_key(measured(caller)?, &recipe)?;
                Answer::SealKey(KeyBytes(key.expose(|bytes| *bytes)))
            }
            Request::Evidence(data) => Answer::Evidence(host.evidence(measured(caller)?, &data)),
            Request::ReportTarget => {
                Answer::ReportTarget(measured(caller)?.target_info().to_bytes())
            }
            Request::Report { target, report_data } => {
                self.report(measured(caller)?, &target, &report_data)?
            }
            Request::VerifyReport(bytes) => self.verify_report(measured(caller)?, &bytes)?,
            Request::Random(count) => {
                measured(caller)?;
                Answer::Random(RandomBytes(random(count)?))
            }
            Request::Manifest => match caller {
                Caller::Measured(bundle) => Answer::Manifest(bundle.manifest().clone()),
                Caller::Unmeasured => return Err(Refusal::NotMeasured),
            },
            Request::Launch(launch) => {
                unmeasured(caller)?;
                self.launch(&launch)?
            }
            Request::List => {
                unmeasured(caller)?;
                Answer::Instances(self.instances.list())
            }
            Request::Stop { instance, signal } => {
                unmeasured(caller)?;
                self.instances.signal(instance, signal)?;
                Answer::Stopping
            }
            Request::HostInfo => {
                unmeasured(caller)?;
                Answer::HostInfo(self.host_info())
            }
            Request::UpdateMicrocode => {
                unmeasured(caller)?;
                self.update_microcode()?
            }
        })
    }

    fn report(
        &self,
        secs: &Secs,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<Answer, Refusal> {
        let target = TargetInfo::from_bytes(target)?;
        Ok(Answer::Report(self.host.report(secs, &target, report_data).to_local()))
    }

    fn verify_report(&self, secs: &Secs, bytes: &[u8]) -> Result<Answer, Refusal> {
        let bytes: &[u8; REPORT_BYTES] = bytes.try_into().map_err(|_| Refusal::ForeignReport)?;
        let verified = self.host.verify_report(secs, &Report::from_bytes(bytes));
        verified.map(|_| Answer::ReportVerified).map_err(|_| Refusal::ForeignReport)
    }

    fn launch(&self, request: &LaunchRequest) -> Result<Answer, Refusal> {
        within("arguments", request.arguments.len(), ARGUMENTS_MAX)?;
        within("bytes of label", request.label.len(), LABEL_BYTES_MAX)?;
        for path in [&request.bundle, &request.log] {
            if !Path::new(path).is_absolute() {
                return Err(Refusal::RelativePath { path: path.clone() });
            }
        }
        for argument in &request.arguments {
            // The keeper must be able to believe the platform's own arguments.
            if RESERVED_ARGUMENTS.iter().any(|reserved| argument.starts_with(reserved)) {
                return Err(Refusal::ReservedArgument { argument: argument.clone() });
            }
        }
        // Measuring takes a while, so it happens before anybody has to wait for it.
        let prepared = Prepared::new(Path::new(&request.bundle), request.mode.into());
        let start = || prepared?.start(&request.arguments, Path::new(&request.log), &self.socket);
        Ok(Answer::Launched(self.instances.launch(&request.label, start)?))
    }

    fn host_info(&self) -> HostInfo {
        let directory = lock_ignoring_poison(&self.directory);
        let record = directory.record();
        HostInfo {
            host: record.host.clone(),
            platform: self.host.platform(),
            cpu_svn: self.host.cpu_svn(),
            certified_cpu_svn: record.certificate.cpu_svn,
            fuses: self.protection,
        }
    }

    /// Durable first: a CPU that was seen at a version never comes back below it.
    fn update_microcode(&self) -> Result<Answer, Refusal> {
        let mut directory = lock_ignoring_poison(&self.directory);
        let failed = |error: &dyn std::error::Error| Refusal::Failed { reason: with_causes(error) };
        let durable = directory.update_microcode().map_err(|error| failed(&error))?;
        // More than one step, if another became durable while this daemon ran.
        while self.host.cpu_svn() != durable {
            self.host.update_microcode().map_err(|error| failed(&error))?;
        }
        Ok(Answer::CpuSvn(durable))
    }
}

/// Arguments that only the platform gives.
const RESERVED_ARGUMENTS: [&str; 2] = ["--platform", "--manifest-fd"];

fn measured(caller: &Caller) -> Result<&Secs, Refusal> {
    match caller {
        Caller::Measured(bundle) => Ok(bundle.secs()),
        Caller::Unmeasured => Err(Refusal::NotMeasured),
    }
}

fn unmeasured(caller: &Caller) -> Result<(), Refusal> {
    match caller {
        Caller::Measured(_) => Err(Refusal::Measured),
        Caller::Unmeasured => Ok(()),
    }
}

fn random(count: u32) -> Result<Vec<u8>, Refusal> {
    let limit = usize::try_from(RANDOM_BYTES_MAX).unwrap_or(usize::MAX);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    within("random bytes", count, limit)?;
    let mut bytes = vec![0; count];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|error| Refusal::Failed { reason: error.to_string() })?;
    Ok(bytes)
}

fn within(what: &str, found: usize, limit: usize) -> Result<(), Refusal> {
    if found <= limit {
        return Ok(());
    }
    let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    Err(Refusal::TooMuch { what: what.to_owned(), found: number(found), limit: number(limit) })
}

impl From<crate::cpu::KeyError> for Refusal {
    fn from(error: crate::cpu::KeyError) -> Self {
        match error {
            crate::cpu::KeyError::InvalidIsvSvn { asked, own } => {
                Self::IsvSvnTooHigh { asked, own }
            }
            crate::cpu::KeyError::InvalidCpuSvn { asked, own } => {
                Self::CpuSvnTooHigh { asked, own }
            }
            crate::cpu::KeyError::OtherRecipe => Self::Failed { reason: error.to_string() },
        }
    }
}

impl From<ReservedTarget> for Refusal {
    fn from(_: ReservedTarget) -> Self {
        Self::ReservedTarget
    }
}

/// One daemon per machine: two would be two CPUs with the same fuses.
fn lock(state: &Path) -> Result<Flock<File>, DaemonError> {
    let path = state.join("lock");
    let file =
        File::create(&path).map_err(|source| DaemonError::Socket { path: path.clone(), source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| DaemonError::AlreadyServed { path: state.to_owned() })
}

/// Replaces the socket of a daemon that ended out of order: the lock says that none serves this
/// machine, and a live socket of another machine is not ours to remove.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(socket).is_ok() {
        return Err(io::Error::from(io::ErrorKind::AddrInUse));
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Every change under these locks is complete when it can panic.
fn lock_ignoring_poison<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
