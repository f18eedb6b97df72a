//! The other end of the daemon's socket: for measured processes, and for agents.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_model::causes::with_causes;
use heirloom_model::digest::{CounterName, Nonce};
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::frame::{FrameError, receive, send};
use heirloom_model::sealed::{CpuSvn, SealRecipe};
use heirloom_model::secret::Secret;

use crate::manifest::Manifest;
use crate::protocol::{
    Answer, HostInfo, InstanceInfo, LaunchId, LaunchRequest, RANDOM_BYTES_MAX, Refusal, Request,
    StopSignal,
};
use crate::report::RESERVED_TARGET;

/// The platform of a measured process.
pub struct PlatformClient(Connection);

/// The platform of a host, as its agent uses it.
pub struct LaunchClient(Connection);

/// Why an agent's request was not carried out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// The daemon refuses.
    #[error(transparent)]
    Refused(Refusal),
    /// The daemon did not answer. Whether it acted is unknown.
    #[error("the platform cannot be reached: {0}")]
    Unreachable(String),
    /// The daemon answered something that is no answer.
    #[error("the platform's answer cannot be understood: {0}")]
    Corrupt(String),
}

impl PlatformClient {
    /// Connects to the daemon that launched this process.
    pub fn connect(socket: &Path) -> Result<Self, PlatformError> {
        let connection = Connection::new(socket);
        connection.open().map_err(PlatformError::from)?;
        Ok(Self(connection))
    }

    /// The manifest that this process was measured with. What arguments say may be the agent's
    /// invention; this is not.
    pub fn manifest(&self) -> Result<Manifest, PlatformError> {
        match self.0.ask(&Request::Manifest)? {
            Answer::Manifest(manifest) => Ok(manifest),
            other => Err(unexpected(&other).into()),
        }
    }
}

impl Platform for PlatformClient {
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        match self.0.ask(&Request::Identity)? {
            Answer::Identity(identity) => Ok(identity.into()),
            other => Err(unexpected(&other).into()),
        }
    }

    fn sealing(&self) -> Result<Sealing, PlatformError> {
        match self.0.ask(&Request::Sealing)? {
            Answer::Sealing(sealing) => Ok(sealing.into()),
            other => Err(unexpected(&other).into()),
        }
    }

    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
        match self.0.ask(&Request::SealRecipe(key_id))? {
            Answer::SealRecipe(recipe) => Ok(recipe),
            other => Err(unexpected(&other).into()),
        }
    }

    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        match self.0.ask(&Request::SealKey(*recipe))? {
            Answer::SealKey(key) => Ok(Secret::new(key.0)),
            other => Err(unexpected(&other).into()),
        }
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        match self.0.ask(&Request::Evidence(*report_data))? {
            Answer::Evidence(evidence) => Ok(evidence),
            other => Err(unexpected(&other).into()),
        }
    }

    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        match self.0.ask(&Request::ReportTarget)? {
            Answer::ReportTarget(target) => Ok(target),
            other => Err(unexpected(&other).into()),
        }
    }

    fn report(
        &self,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, PlatformError> {
        match self
            .0
            .ask(&Request::Report { target: Box::new(*target), report_data: *report_data })?
        {
            Answer::Report(report) => Ok(report),
            other => Err(unexpected(&other).into()),
        }
    }

    fn verify_report(&self, report: &LocalReport) -> Result<(), PlatformError> {
        match self.0.ask(&Request::VerifyReport(report.as_bytes().to_vec()))? {
            Answer::ReportVerified => Ok(()),
            other => Err(unexpected(&other).into()),
        }
    }

    fn counter(&self, name: &CounterName) -> Result<u64, PlatformError> {
        match self.0.ask(&Request::Counter(*name))? {
            Answer::Counter(stands) => Ok(stands),
            other => Err(unexpected(&other).into()),
        }
    }

    fn raise(&self, name: &CounterName, to: u64) -> Result<(), PlatformError> {
        match self.0.ask(&Request::Raise { name: *name, to })? {
            Answer::Raised => Ok(()),
            other => Err(unexpected(&other).into()),
        }
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        let step = usize::try_from(RANDOM_BYTES_MAX).unwrap_or(usize::MAX);
        for part in bytes.chunks_mut(step) {
            let count = u32::try_from(part.len()).unwrap_or(RANDOM_BYTES_MAX);
            match self.0.ask(&Request::Random(count))? {
                Answer::Random(random) if random.0.len() == part.len() => {
                    part.copy_from_slice(&random.0);
                }
                other => return Err(unexpected(&other).into()),
            }
        }
        Ok(())
    }
}

impl LaunchClient {
    /// Connects to a host's daemon.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let connection = Connection::new(socket);
        connection.open()?;
        Ok(Self(connection))
    }

    /// Launches a bundle. Relative paths of bundle and log are meant from this process's
    /// directory; arguments are passed on as they are.
    pub fn launch(&self, mut request: LaunchRequest) -> Result<InstanceInfo, ClientError> {
        for path in [&mut request.bundle, &mut request.log] {
            // What cannot be made absolute is the daemon's to refuse.
            if let Some(absolute) =
                std::path::absolute(&*path).ok().as_deref().and_then(Path::to_str)
            {
                absolute.clone_into(path);
            }
        }
        match self.0.ask(&Request::Launch(request))? {
            Answer::Launched(instance) => Ok(instance),
            other => Err(unexpected(&other)),
        }
    }

    /// All instances since the daemon started, oldest first.
    pub fn list(&self) -> Result<Vec<InstanceInfo>, ClientError> {
        match self.0.ask(&Request::List)? {
            Answer::Instances(instances) => Ok(instances),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends an instance a signal; [`Self::list`] shows when it has ended.
    pub fn stop(&self, instance: LaunchId, signal: StopSignal) -> Result<(), ClientError> {
        match self.0.ask(&Request::Stop { instance, signal })? {
            Answer::Stopping => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// About the machine.
    pub fn host_info(&self) -> Result<HostInfo, ClientError> {
        match self.0.ask(&Request::HostInfo)? {
            Answer::HostInfo(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Loads the next microcode.
    pub fn update_microcode(&self) -> Result<CpuSvn, ClientError> {
        match self.0.ask(&Request::UpdateMicrocode)? {
            Answer::CpuSvn(cpu_svn) => Ok(cpu_svn),
            other => Err(unexpected(&other)),
        }
    }
}

/// Returns when the daemon at this socket has ended, or when it cannot be reached. A measured
/// process without a platform must end too.
pub fn wait_until_daemon_ends(socket: &Path) {
    let Ok(mut stream) = UnixStream::connect(socket) else { return };
    // Nothing is asked, so nothing is answered: the read ends with the connection.
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

/// One connection, opened anew after it failed.
struct Connection {
    socket: PathBuf,
    stream: Mutex<Option<UnixStream>>,
}

impl Connection {
    fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), stream: Mutex::new(None) }
    }

    fn open(&self) -> Result<(), ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .map_err(|error| ClientError::Unreachable(error.to_string()))?;
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        Ok(())
    }

    /// Asks once. After an error the connection is dropped: half an answer may still be in it.
    fn ask(&self, request: &Request) -> Result<Answer, ClientError> {
        let mut slot = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stream = match slot.take() {
            Some(stream) => stream,
            None => UnixStream::connect(&self.socket)
                .map_err(|error| ClientError::Unreachable(error.to_string()))?,
        };
        let answered = send(&mut stream, request).and_then(|()| receive::<Answer>(&mut stream));
        match answered {
            Ok(Answer::Refused(refusal)) => {
                *slot = Some(stream);
                Err(ClientError::Refused(refusal))
            }
            Ok(answer) => {
                *slot = Some(stream);
                Ok(answer)
            }
            Err(error @ (FrameError::Closed | FrameError::Io(_))) => {
                Err(ClientError::Unreachable(with_causes(&error)))
            }
            Err(error @ (FrameError::TooLarge { .. } | FrameError::Wire(_))) => {
                Err(ClientError::Corrupt(with_causes(&error)))
            }
        }
    }
}

fn unexpected(answer: &Answer) -> ClientError {
    ClientError::Corrupt(format!("an answer to another question: {answer:?}"))
}

impl From<ClientError> for PlatformError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::Unreachable(reason) => Self::Unreachable(reason),
            ClientError::Corrupt(reason) => Self::Corrupt(reason),
        }
    }
}

impl From<Refusal> for PlatformError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotMeasured => Self::NotMeasured,
            Refusal::IsvSvnTooHigh { asked, own } => Self::IsvSvnTooHigh { asked, own },
            Refusal::CpuSvnTooHigh { asked, own } => Self::CpuSvnTooHigh { asked, own },
            Refusal::ForeignReport => Self::ReportRefused,
            Refusal::ReservedTarget => Self::Unsupported(RESERVED_TARGET),
            Refusal::Unsupported(lack) => Self::Unsupported(lack.words()),
            Refusal::MachineSecretTooHigh { asked, own } => {
                Self::MachineSecretTooHigh { asked, own }
            }
            Refusal::CounterJump { stands, to } => Self::CounterJump { stands, to },
            Refusal::Measured | Refusal::NotAgent => {
                Self::Unsupported("an agent's request from a process that is not the agent")
            }
            Refusal::TooMuch { .. } => Self::Unsupported("a request of this size"),
            Refusal::Bundle { .. }
            | Refusal::ReservedArgument { .. }
            | Refusal::NotStarted { .. }
            | Refusal::UsersExhausted { .. }
            | Refusal::RelativePath { .. }
            | Refusal::UnknownInstance { .. }
            | Refusal::Failed { .. } => Self::Corrupt(refusal.to_string()),
        }
    }
}
