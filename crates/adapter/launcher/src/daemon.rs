//! The platform daemon: the machine of one host, for processes that it launches.
//!
//! It tells measured processes from all others itself: by the kernel's word on who is at the
//! other end of a socket, at every request, and never by what that process says. A measured
//! process is one that the daemon launched, that has not been replaced by another program, and
//! that still lives. A copy of the same file that somebody else starts is nobody.
//!
//! Everybody else who may open the socket may launch, list and stop: it is for the host's agent.
//! That is no way to keys, since what is launched is measured. Where the kernel alone isolates what
//! is launched, its users may open the socket too, and do not pass for the agent.

mod instances;
mod peer;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use heirloom_model::causes::with_causes;
use heirloom_model::evidence::LocalReport;
use heirloom_model::frame::{FrameError, receive, send};
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::bundle::VerifiedBundle;
use crate::launch::{Account, LaunchError, Launched, Prepared, confine_thread, open_log};
use crate::machine::Machine;
use crate::protocol::{
    ARGUMENTS_MAX, Answer, HostInfo, KeyBytes, LABEL_BYTES_MAX, LaunchRequest, RANDOM_BYTES_MAX,
    RandomBytes, Refusal, Request,
};
use crate::report::ReservedTarget;
use crate::users::{UserTable, UsersError};
use instances::Instances;
use peer::Caller;

/// A daemon that listens and does not answer yet.
pub struct Daemon {
    listener: UnixListener,
    wake: UnixStream,
    shared: Arc<Shared>,
    _lock: MachineLock,
}

/// Shows that no other daemon is this machine: two would be two machines with the same secrets.
#[must_use = "the machine is free again when this is dropped"]
pub struct MachineLock {
    _lock: Flock<File>,
}

/// What keeps launched processes apart, from each other and from the daemon.
pub enum Isolation {
    /// The machine itself, or nothing: they have the daemon's own user.
    Machine,
    /// The kernel: each code has a user of its own.
    Users(UserTable),
}

/// Ends a daemon in order: instances are killed, the socket is removed.
pub struct Stopper(UnixStream);

/// Why a daemon did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another daemon is this machine.
    #[error("another daemon serves the machine in {path}")]
    AlreadyServed {
        /// The machine's directory.
        path: PathBuf,
    },
    /// Whether another daemon is this machine cannot be found out.
    #[error("{path} cannot be locked")]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
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
    machine: Box<dyn Machine>,
    isolation: Isolation,
    socket: PathBuf,
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
    /// Listens, for the machine that has its state in this directory. The list of instances
    /// begins empty.
    pub fn bind(
        machine: Box<dyn Machine>,
        lock: MachineLock,
        socket: &Path,
        isolation: Isolation,
    ) -> Result<(Self, Stopper), DaemonError> {
        let socket_error = |source| DaemonError::Socket { path: socket.to_owned(), source };
        let socket = std::path::absolute(socket).map_err(socket_error)?;
        let listener = listen(&socket, isolation.group()).map_err(socket_error)?;
        let (wake, stopper) = UnixStream::pair().map_err(socket_error)?;
        let (instances, connections) = (Arc::default(), Mutex::default());
        let shared = Shared { machine, isolation, socket, instances, connections };
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

impl Isolation {
    /// The group in which launched code and the agent meet.
    fn group(&self) -> Option<u32> {
        match self {
            Self::Machine => None,
            Self::Users(table) => Some(table.users().group()),
        }
    }

    /// Who asks, if it was not measured.
    fn unmeasured(&self, stream: &UnixStream) -> Caller {
        let Some(account) = Account::of_peer(stream) else { return Caller::Nobody };
        let Self::Users(table) = self else { return Caller::Agent(account) };
        let users = table.users();
        // A program that measured code started, or became, has its user.
        if users.contains(account.user) {
            return Caller::Nobody;
        }
        match account {
            Account { user: 0, .. } => Caller::Agent(account),
            Account { group, .. } if group == users.group() => Caller::Agent(account),
            Account { .. } => Caller::Nobody,
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
            let measured = self.instances.identify(&stream);
            let caller = measured.unwrap_or_else(|| self.isolation.unmeasured(&stream));
            let answer = self.answer(&caller, &request).unwrap_or_else(Answer::Refused);
            if send(&mut stream, &answer).is_err() {
                return;
            }
        }
    }

    fn answer(&self, caller: &Caller, request: &Request) -> Result<Answer, Refusal> {
        match request {
            Request::Launch(_)
            | Request::List
            | Request::Stop { .. }
            | Request::HostInfo
            | Request::UpdateMicrocode => match caller {
                Caller::Measured(_) => Err(Refusal::Measured),
                Caller::Agent(agent) => self.answer_agent(*agent, request),
                Caller::Nobody => Err(Refusal::NotAgent),
            },
            _ => match caller {
                Caller::Measured(bundle) => self.answer_measured(bundle, request),
                Caller::Agent(_) | Caller::Nobody => Err(Refusal::NotMeasured),
            },
        }
    }

    /// Answers a measured process about itself.
    fn answer_measured(
        &self,
        bundle: &VerifiedBundle,
        request: &Request,
    ) -> Result<Answer, Refusal> {
        let (machine, secs) = (&*self.machine, bundle.secs());
        Ok(match request {
            Request::Identity => Answer::Identity(machine.identity(secs)?.into()),
            Request::Sealing => Answer::Sealing(machine.sealing().into()),
            Request::SealRecipe(key_id) => Answer::SealRecipe(machine.seal_recipe(secs, *key_id)?),
            Request::SealKey(recipe) => {
                let key = machine.seal_key(secs, recipe)?;
                Answer::SealKey(KeyBytes(key.expose(|bytes| *bytes)))
            }
            Request::Evidence(data) => Answer::Evidence(machine.evidence(secs, data)?),
            Request::ReportTarget => Answer::ReportTarget(machine.report_target(secs)?),
            Request::Report { target, report_data } => {
                Answer::Report(machine.report(secs, target, report_data)?)
            }
            Request::VerifyReport(bytes) => {
                let report = bytes.as_slice().try_into().map_err(|_| Refusal::ForeignReport)?;
                machine.verify_report(secs, &LocalReport::new(report))?;
                Answer::ReportVerified
            }
            Request::Counter(name) => Answer::Counter(machine.counter(secs, name)?),
            Request::Raise { name, to } => {
                machine.raise(secs, name, *to)?;
                Answer::Raised
            }
            Request::Random(count) => Answer::Random(RandomBytes(random(*count)?)),
            Request::Manifest => Answer::Manifest(bundle.manifest().clone()),
            Request::Launch(_)
            | Request::List
            | Request::Stop { .. }
            | Request::HostInfo
            | Request::UpdateMicrocode => return Err(Refusal::Measured),
        })
    }

    /// Answers whoever was not measured: the host's agent.
    fn answer_agent(&self, agent: Account, request: &Request) -> Result<Answer, Refusal> {
        Ok(match request {
            Request::Launch(launch) => self.launch(agent, launch)?,
            Request::List => Answer::Instances(self.instances.list()),
            Request::Stop { instance, signal } => {
                self.instances.signal(*instance, *signal)?;
                Answer::Stopping
            }
            Request::HostInfo => {
                let group = self.isolation.group();
                Answer::HostInfo(HostInfo { group, ..self.machine.host_info()? })
            }
            Request::UpdateMicrocode => Answer::CpuSvn(self.machine.update_microcode()?),
            _ => return Err(Refusal::NotMeasured),
        })
    }

    fn launch(&self, agent: Account, request: &LaunchRequest) -> Result<Answer, Refusal> {
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
        match &self.isolation {
            Isolation::Machine => {
                // Measuring takes a while, so it happens before anybody has to wait for it.
                let (bundle, log) = (Path::new(&request.bundle), Path::new(&request.log));
                let prepared = Prepared::new(bundle, request.mode.into());
                let start =
                    || prepared?.start(&request.arguments, open_log(log)?, &self.socket, None);
                self.launched(request, start)
            }
            Isolation::Users(table) => thread::scope(|scope| {
                let apart = thread::Builder::new().name("launch".to_owned());
                let run = || self.launch_apart(table, agent, request);
                let launching = apart.spawn_scoped(scope, run);
                let launching =
                    launching.map_err(|error| Refusal::NotStarted { reason: error.to_string() })?;
                let ended = |_| Refusal::NotStarted { reason: "the launch failed".to_owned() };
                launching.join().map_err(ended)?
            }),
        }
    }

    /// Launches under the user of the code, in a thread that nothing else uses. What the agent
    /// names is opened as the agent.
    fn launch_apart(
        &self,
        table: &UserTable,
        agent: Account,
        request: &LaunchRequest,
    ) -> Result<Answer, Refusal> {
        let system = |error| LaunchError::System(error);
        let open = || {
            let prepared = Prepared::new(Path::new(&request.bundle), request.mode.into())?;
            Ok::<_, LaunchError>((prepared, open_log(Path::new(&request.log))?))
        };
        let opened = confine_thread().and_then(|()| agent.with_its_files(open));
        let (prepared, log) = opened.map_err(system).flatten()?;
        let user = table.user_of(prepared.bundle().secs())?;
        let account = Account { user, group: table.users().group() };
        let start = || prepared.start(&request.arguments, log, &self.socket, Some(account));
        self.launched(request, start)
    }

    fn launched(
        &self,
        request: &LaunchRequest,
        start: impl FnOnce() -> Result<Launched, LaunchError>,
    ) -> Result<Answer, Refusal> {
        Ok(Answer::Launched(self.instances.launch(&*self.machine, &request.label, start)?))
    }
}

/// Arguments that only the platform gives.
const RESERVED_ARGUMENTS: [&str; 2] = ["--platform", "--manifest-fd"];

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

impl From<LaunchError> for Refusal {
    fn from(error: LaunchError) -> Self {
        match &error {
            LaunchError::Bundle(cause) => Self::Bundle { reason: with_causes(cause) },
            LaunchError::System(_) => Self::NotStarted { reason: with_causes(&error) },
        }
    }
}

impl From<UsersError> for Refusal {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::Exhausted { users } => Self::UsersExhausted { users },
            other => Self::Failed { reason: with_causes(&other) },
        }
    }
}

impl From<ReservedTarget> for Refusal {
    fn from(_: ReservedTarget) -> Self {
        Self::ReservedTarget
    }
}

impl MachineLock {
    /// Takes the machine that has its state in this directory.
    pub fn take(state: &Path) -> Result<Self, DaemonError> {
        let path = state.join("lock");
        let failed = |source| DaemonError::Lock { path: path.clone(), source };
        let file = File::create(&path).map_err(failed)?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map(|lock| Self { _lock: lock })
            .map_err(|_| DaemonError::AlreadyServed { path: state.to_owned() })
    }
}

/// Replaces the socket of a daemon that ended out of order: the lock says that none serves this
/// machine, and a live socket of another machine is not ours to remove.
///
/// Without a group, the socket is for the daemon's own user alone.
fn listen(socket: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    if UnixStream::connect(socket).is_ok() {
        return Err(io::Error::from(io::ErrorKind::AddrInUse));
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    if group.is_some() {
        chown(socket, None, group)?;
    }
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(socket, Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Every change under these locks is complete when it can panic.
fn lock_ignoring_poison<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
