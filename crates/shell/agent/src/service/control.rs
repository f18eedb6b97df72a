//! The agent's end of the control socket of its service.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use heirloom_model::causes::with_causes;
use heirloom_model::frame::{FrameError, receive, send};
use heirloom_model::service::{ServiceRequest, ServiceResponse, ServiceStatus};
use heirloom_upgrade::port::DriverError;

/// How long a service may take to say how it is: longer, and it counts as silent.
pub(crate) const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it may take for anything else: a statement needs evidence of the platform.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How the service is.
pub(crate) fn status(socket: &Path) -> Result<Box<ServiceStatus>, DriverError> {
    match ask(socket, &ServiceRequest::Status, STATUS_TIMEOUT)? {
        ServiceResponse::Status(status) => Ok(status),
        other => Err(unexpected(other)),
    }
}

/// Asks for something that is answered with `Done`.
pub(crate) fn command(socket: &Path, request: &ServiceRequest) -> Result<(), DriverError> {
    match ask(socket, request, REQUEST_TIMEOUT)? {
        ServiceResponse::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// Asks for a statement.
pub(crate) fn statement(socket: &Path, request: &ServiceRequest) -> Result<Vec<u8>, DriverError> {
    match ask(socket, request, REQUEST_TIMEOUT)? {
        ServiceResponse::Statement(envelope) => Ok(envelope),
        other => Err(unexpected(other)),
    }
}

/// What an answer that was not asked for means.
fn unexpected(response: ServiceResponse) -> DriverError {
    match response {
        ServiceResponse::NotYet { reason } => {
            DriverError::Unknown(format!("the service is not there yet: {}", plain(&reason)))
        }
        ServiceResponse::Refused { reason } => {
            DriverError::Refused(format!("the service: {}", plain(&reason)))
        }
        ServiceResponse::Done | ServiceResponse::Status(_) | ServiceResponse::Statement(_) => {
            DriverError::Corrupt {
                what: "the service's answer".to_owned(),
                reason: "it answers another question".to_owned(),
            }
        }
    }
}

/// Each request has a connection of its own. What cannot be understood is as good as no answer:
/// the process is what is observed next.
fn ask(
    socket: &Path,
    request: &ServiceRequest,
    timeout: Duration,
) -> Result<ServiceResponse, DriverError> {
    let exchange = || -> Result<ServiceResponse, FrameError> {
        let mut stream = UnixStream::connect(socket).map_err(FrameError::Io)?;
        stream.set_read_timeout(Some(timeout)).map_err(FrameError::Io)?;
        stream.set_write_timeout(Some(timeout)).map_err(FrameError::Io)?;
        send(&mut stream, request)?;
        receive(&mut stream)
    };
    exchange()
        .map_err(|error| DriverError::Unknown(format!("the service: {}", with_causes(&error))))
}

/// Characters of a reason that are passed on.
const REASON_CHARACTERS_MAX: usize = 300;

/// What somebody else wrote, without what a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    let shown = text.chars().filter(|character| !character.is_control());
    shown.take(REASON_CHARACTERS_MAX).collect()
}
