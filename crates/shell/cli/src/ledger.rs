//! The registry log: opened, followed, appended to. What counts is for the registry core to say.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heirloom_model::counter::LogIndex;
use heirloom_model::digest::NetworkId;
use heirloom_model::domain::LogPosition;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::DomainId;
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_model::log::LogEntry;
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_registry::refusal::Refusal;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_store::error::StoreError;
use heirloom_store::log_file::LogFile;
use serde::Deserialize;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::file;

/// Which network, and where its log is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// The network: its id, or the `network.toml` that `heirloom init` wrote
    #[arg(long, value_name = "ID|FILE", default_value = "network.toml")]
    network: String,
    /// Address of the registry, `http://host:port`; by default what `network.toml` says
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// The log in a file, instead of a registry: works offline
    #[arg(long, value_name = "FILE", conflicts_with = "registry")]
    log: Option<PathBuf>,
}

/// What `heirloom init` writes for everybody: which network this is and where its log is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkFile {
    /// The network's id.
    network: String,
    /// Where its registry is served.
    registry: Option<String>,
}

/// A network file has two lines.
const NETWORK_FILE_BYTES_MAX: usize = 4096;
/// Times that an append is tried when others append at the same moment.
const APPEND_ATTEMPTS_MAX: u32 = 16;

/// What is done with the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    Read,
    Append,
}

/// A log with its fold.
pub(crate) struct Ledger {
    store: Box<dyn LogStore>,
    pub(crate) state: NetworkState,
}

impl LogArgs {
    /// Another network than the command's own.
    pub(crate) fn of(network: String, registry: Option<String>, log: Option<PathBuf>) -> Self {
        Self { network, registry, log }
    }

    /// The network's id.
    pub(crate) fn network(&self) -> Result<NetworkId, Diagnostic> {
        Ok(self.resolve()?.0)
    }

    /// Opens the log and follows it to its end.
    pub(crate) fn open(&self, access: Access) -> Result<Ledger, Diagnostic> {
        let mut ledger = self.unfollowed(access)?;
        ledger.follow(|_, _| ())?;
        Ok(ledger)
    }

    /// Opens the log.
    pub(crate) fn unfollowed(&self, access: Access) -> Result<Ledger, Diagnostic> {
        let (network, registry) = self.resolve()?;
        let store: Box<dyn LogStore> = match (&self.log, registry) {
            (Some(path), _) if access == Access::Append => {
                let (log, _torn) = LogFile::open(path).map_err(|error| log_error(&error))?;
                Box::new(log)
            }
            (Some(path), _) => {
                whole(path)?;
                Box::new(ReadOnly::open(path).map_err(|error| log_error(&error))?)
            }
            (None, Some(url)) => Box::new(RegistryClient::new(&url)),
            (None, None) => {
                let message = "neither a registry nor a log file was given";
                return Err(Diagnostic::new(Code::InputMissing, message)
                    .hint("give --registry URL, or --log FILE"));
            }
        };
        Ok(Ledger { store, state: NetworkState::new(network) })
    }

    /// The network, and the address of its registry.
    fn resolve(&self) -> Result<(NetworkId, Option<String>), Diagnostic> {
        let (network, registry) = network(&self.network)?;
        Ok((network, self.registry.clone().or(registry)))
    }

    /// The address of the registry.
    pub(crate) fn registry(&self) -> Result<String, Diagnostic> {
        self.resolve()?.1.ok_or_else(|| {
            let message = "no registry was given";
            Diagnostic::new(Code::InputMissing, message).hint("give --registry URL")
        })
    }
}

/// A network by its id, or by its `network.toml`, which may say where its registry is.
pub(crate) fn network(given: &str) -> Result<(NetworkId, Option<String>), Diagnostic> {
    if let Ok(network) = given.parse() {
        return Ok((network, None));
    }
    let path = PathBuf::from(given);
    let text = file::read_text(&path, NETWORK_FILE_BYTES_MAX).map_err(|error| {
        error.hint("give --network with the network's id, or the network.toml of the network")
    })?;
    let malformed = |error: &dyn std::error::Error| {
        let message = format!("{} is not a network file", path.display());
        Diagnostic::new(Code::InputMalformed, message).because(error)
    };
    let found: NetworkFile = toml::from_str(&text).map_err(|error| malformed(&error))?;
    let network = found.network.parse().map_err(|error| malformed(&error))?;
    Ok((network, found.registry))
}

impl Ledger {
    /// Follows the log to its end and says what each entry did.
    pub(crate) fn follow(
        &mut self,
        mut each: impl FnMut(&LogEntry, &Applied),
    ) -> Result<(), Diagnostic> {
        loop {
            let entries = self.store.read(self.state.position().length, LOG_ENTRIES_MAX);
            let entries = entries.map_err(|error| read_error(&error))?;
            if entries.is_empty() {
                break;
            }
            for entry in &entries {
                let applied = self.state.apply(entry).map_err(|error| {
                    Diagnostic::new(Code::LogCorrupt, "the log contradicts itself").because(&error)
                })?;
                each(entry, &applied);
                if let Applied::Refused(Refusal::WrongFirstRoot { found }) = &applied {
                    return Err(self.other_network(*found));
                }
            }
        }
        Ok(())
    }

    /// Appends a statement if the log's rules let it count.
    pub(crate) fn append(&mut self, envelope: &Envelope) -> Result<LogIndex, Diagnostic> {
        let encoded = wire::encode(envelope);
        for _ in 0..APPEND_ATTEMPTS_MAX {
            self.state.judge(&encoded).map_err(|refusal| refused(&refusal))?;
            let expected = self.state.position().length;
            let appended = self.store.append(expected, &encoded);
            let mut ours = false;
            match appended {
                // Reading shows who was first, and whether an answer that never came was a yes.
                Ok(_) | Err(AppendError::Conflict { .. } | AppendError::Unknown { .. }) => {}
                Err(error) => return Err(append_error(&error)),
            }
            self.follow(|entry, _| {
                ours = ours || (entry.index == expected && entry.envelope == encoded);
            })?;
            if ours {
                return Ok(expected);
            }
        }
        Err(Diagnostic::new(Code::LogBusy, "the statement was not appended: the log is busy"))
    }

    /// Waits until the log is longer than what was followed, at most `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> Result<LogPosition, Diagnostic> {
        self.store.watch(self.state.position().length, timeout).map_err(|error| read_error(&error))
    }

    /// The domain of this id, or the only one that there is.
    pub(crate) fn domain(&self, given: Option<DomainId>) -> Result<DomainId, Diagnostic> {
        let mut known = self.state.domains().map(|(domain, _)| *domain);
        match (given, known.next(), known.next()) {
            (Some(domain), _, _) | (None, Some(domain), None) => Ok(domain),
            (None, None, _) => {
                let message = "the network has no domain: no policy is published";
                Err(Diagnostic::new(Code::LogNothing, message))
            }
            (None, Some(_), Some(_)) => {
                let message = "the network has more than one domain";
                Err(Diagnostic::new(Code::InputMissing, message).hint("name one with --domain"))
            }
        }
    }

    fn other_network(&self, found: NetworkId) -> Diagnostic {
        let expected = self.state.network();
        let message = format!("this is the log of network {found}, not of {expected}");
        Diagnostic::new(Code::LogHistory, message)
    }
}

/// A statement that does not count, as our error.
pub(crate) fn refused(refusal: &Refusal) -> Diagnostic {
    let code = match refusal {
        Refusal::Malformed(_) => Code::StatementMalformed,
        Refusal::BadSignature(_) => Code::StatementSignature,
        _ => Code::StatementRefused,
    };
    let diagnostic = Diagnostic::new(code, "the statement does not count").because(refusal);
    diagnostic.reason(refusal.code())
}

/// A log file that is only read.
struct ReadOnly {
    path: PathBuf,
    entries: Mutex<Vec<LogEntry>>,
}

impl ReadOnly {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let entries = Mutex::new(LogFile::inspect(path)?);
        Ok(Self { path: path.to_owned(), entries })
    }

    fn entries(&self) -> MutexGuard<'_, Vec<LogEntry>> {
        // Whoever panicked left the entries as they were, or as they were read anew.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore for ReadOnly {
    fn append(&self, _: LogIndex, _: &[u8]) -> Result<LogPosition, AppendError> {
        Err(AppendError::Unreachable { reason: "the log was opened for reading".to_owned() })
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        let after = |entry: &LogEntry| LogPosition {
            length: entry.index.next().unwrap_or(entry.index),
            head: entry.hash(),
        };
        Ok(self.entries().last().map_or(LogPosition::START, after))
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        let from = usize::try_from(from.0).unwrap_or(usize::MAX);
        Ok(self.entries().iter().skip(from).take(max).cloned().collect())
    }

    fn watch(&self, _: LogIndex, timeout: Duration) -> Result<LogPosition, ReadError> {
        std::thread::park_timeout(timeout);
        let read = LogFile::inspect(&self.path);
        *self.entries() = read.map_err(|error| ReadError::Corrupt { reason: error.to_string() })?;
        self.head()
    }
}

/// Whether a log file ends with its last entry; what was never finished is told, not skipped.
fn whole(path: &Path) -> Result<(), Diagnostic> {
    match LogFile::torn_tail(path).map_err(|error| log_error(&error))? {
        None => Ok(()),
        Some(torn) => {
            let message = format!("{} ends within an entry", path.display());
            let (offset, bytes) = (torn.offset, torn.bytes);
            let cause = format!("from byte {offset} on, {bytes} bytes were never finished");
            Err(Diagnostic::new(Code::LogTorn, message).cause(cause))
        }
    }
}

/// The error of a log file as ours.
pub(crate) fn log_error(error: &StoreError) -> Diagnostic {
    match error {
        StoreError::Corrupt { .. } => Diagnostic::new(Code::LogCorrupt, error.to_string()),
        _ => file::store_error(error),
    }
}

pub(crate) fn read_error(error: &ReadError) -> Diagnostic {
    let code = match error {
        ReadError::Unreachable { .. } => Code::LogUnreachable,
        ReadError::Refused { .. } => Code::LogRefused,
        ReadError::Corrupt { .. } => Code::LogCorrupt,
    };
    Diagnostic::new(code, error.to_string())
}

fn append_error(error: &AppendError) -> Diagnostic {
    let code = match error {
        AppendError::Conflict { .. } => Code::LogBusy,
        AppendError::Refused { .. } => Code::StatementRefused,
        AppendError::TooLarge { .. } => Code::StatementMalformed,
        AppendError::Full { .. } => Code::LogFull,
        AppendError::Unreachable { .. } => Code::LogUnreachable,
        AppendError::Corrupt { .. } => Code::LogCorrupt,
        AppendError::Unknown { .. } => Code::LogUnknown,
    };
    let diagnostic = Diagnostic::new(code, error.to_string());
    match error {
        AppendError::Refused { code, .. } => diagnostic.reason(code.clone()),
        _ => diagnostic,
    }
}
