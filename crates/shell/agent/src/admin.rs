//! The agent's end of the admin channel to its keepers and upgraders.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use heirloom_model::admin::{AdminRefusal, AdminRequest, AdminResponse, KeeperStatus, Ticket};
use heirloom_model::causes::with_causes;
use heirloom_model::domain::LogPosition;
use heirloom_model::frame::{FrameError, receive, send};
use heirloom_model::log::LogEntry;
use heirloom_upgrade::port::DriverError;

/// How long a keeper may take for a short request: it unseals a large keyring at most.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a keeper may take to receive a keyring.
pub const LONG_TIMEOUT: Duration = Duration::from_mins(10);

/// Where a keeper lets its agent in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Door {
    /// A socket in the file system.
    File(PathBuf),
    /// An address of this host, where a TEE shares no sockets with it.
    Loopback(SocketAddr),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Loopback(address) => write!(f, "{address}"),
        }
    }
}

/// Asks a keeper one thing over a connection of its own.
pub fn ask(
    door: &Door,
    request: &AdminRequest,
    timeout: Duration,
) -> Result<AdminResponse, DriverError> {
    // Also what cannot be understood: the keeper's process is what is observed next.
    exchange(door, request, timeout)
        .map_err(|error| DriverError::Unknown(format!("the keeper: {}", with_causes(&error))))
}

/// Asks for the keeper's status.
pub fn status(door: &Door, timeout: Duration) -> Result<Box<KeeperStatus>, DriverError> {
    match ask(door, &AdminRequest::Status, timeout)? {
        AdminResponse::Status(status) => Ok(status),
        other => Err(unexpected(other)),
    }
}

/// Asks for something that is answered with `Done`.
pub fn command(door: &Door, request: &AdminRequest, timeout: Duration) -> Result<(), DriverError> {
    match ask(door, request, timeout)? {
        AdminResponse::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// Asks for a statement.
pub fn statement(
    door: &Door,
    request: &AdminRequest,
    timeout: Duration,
) -> Result<Vec<u8>, DriverError> {
    match ask(door, request, timeout)? {
        AdminResponse::Statement(envelope) => Ok(envelope),
        other => Err(unexpected(other)),
    }
}

/// Gives log entries, and says whether they are the end of the log.
pub fn follow(
    door: &Door,
    entries: &[LogEntry],
    attended: Option<Ticket>,
) -> Result<LogPosition, DriverError> {
    let request = AdminRequest::Follow { entries: entries.to_vec(), attended };
    match ask(door, &request, LONG_TIMEOUT)? {
        AdminResponse::Position(position) => Ok(position),
        other => Err(unexpected(other)),
    }
}

/// Says that the log is about to be read to its end.
pub fn attend(door: &Door, timeout: Duration) -> Result<Ticket, DriverError> {
    match ask(door, &AdminRequest::Attend, timeout)? {
        AdminResponse::Ticket(ticket) => Ok(ticket),
        other => Err(unexpected(other)),
    }
}

/// What an answer that was not asked for means.
pub fn unexpected(response: AdminResponse) -> DriverError {
    match response {
        AdminResponse::Refused(AdminRefusal::Unreadable(unreadable)) => {
            DriverError::Corrupt { what: "sealed state".to_owned(), reason: unreadable.to_string() }
        }
        AdminResponse::Refused(refusal) => DriverError::Refused(refusal.to_string()),
        AdminResponse::Done
        | AdminResponse::Position(_)
        | AdminResponse::Status(_)
        | AdminResponse::Ticket(_)
        | AdminResponse::Statement(_) => DriverError::Corrupt {
            what: "the keeper's answer".to_owned(),
            reason: "it answers another question".to_owned(),
        },
    }
}

fn exchange(
    door: &Door,
    request: &AdminRequest,
    timeout: Duration,
) -> Result<AdminResponse, FrameError> {
    match door {
        Door::File(path) => {
            let mut stream = UnixStream::connect(path).map_err(FrameError::Io)?;
            stream.set_read_timeout(Some(timeout)).map_err(FrameError::Io)?;
            stream.set_write_timeout(Some(SHORT_TIMEOUT)).map_err(FrameError::Io)?;
            converse(&mut stream, request)
        }
        Door::Loopback(address) => {
            let mut stream =
                TcpStream::connect_timeout(address, SHORT_TIMEOUT).map_err(FrameError::Io)?;
            stream.set_nodelay(true).map_err(FrameError::Io)?;
            stream.set_read_timeout(Some(timeout)).map_err(FrameError::Io)?;
            stream.set_write_timeout(Some(SHORT_TIMEOUT)).map_err(FrameError::Io)?;
            converse(&mut stream, request)
        }
    }
}

fn converse(
    stream: &mut (impl Read + Write),
    request: &AdminRequest,
) -> Result<AdminResponse, FrameError> {
    send(stream, request)?;
    receive(stream)
}
