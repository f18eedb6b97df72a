//! The socket for the agent.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use heirloom_model::causes::with_causes;
use heirloom_model::frame::{FrameError, receive, send};
use heirloom_model::service::{ServiceRequest, ServiceResponse};

use crate::instance::Instance;
use crate::limit::{CONTROL_CONNECTIONS_MAX, CONTROL_IDLE_MAX};
use crate::log::event;
use crate::run::End;
use crate::service::Service;
use heirloom_session::connections::Connections;

/// Who answers the agent.
#[derive(Clone)]
pub enum Subject {
    /// A node with its ledger.
    Live(Arc<Service>),
    /// Code that is tried: it has no ledger and no peers.
    Trial(Arc<Instance>),
}

impl Subject {
    /// Answers one request.
    pub fn answer(&self, request: &ServiceRequest) -> ServiceResponse {
        match (self, request) {
            (Self::Trial(instance), ServiceRequest::Status) => {
                ServiceResponse::Status(Box::new(instance.status()))
            }
            (Self::Trial(instance), ServiceRequest::State { step }) => {
                stated(instance.state(*step, &instance.status()))
            }
            (_, ServiceRequest::Shutdown) => ServiceResponse::Done,
            (Self::Trial(_), _) => ServiceResponse::Refused {
                reason: "this code is only tried: it has no ledger".to_owned(),
            },
            (Self::Live(service), request) => live(service, request),
        }
    }
}

fn live(service: &Service, request: &ServiceRequest) -> ServiceResponse {
    match request {
        ServiceRequest::Status => ServiceResponse::Status(Box::new(service.status())),
        ServiceRequest::State { step } => {
            stated(service.instance().state(*step, &service.status()))
        }
        ServiceRequest::Admit(admission) => {
            let opens = *admission != heirloom_model::service::Admission::Closed;
            if let (true, Some(reason)) = (opens, service.chain().status().broken) {
                return ServiceResponse::Refused { reason };
            }
            service.admit(*admission);
            ServiceResponse::Done
        }
        ServiceRequest::Freeze { quiet_milliseconds } => {
            match service.freeze(Duration::from_millis(*quiet_milliseconds)) {
                Ok(()) => ServiceResponse::Done,
                Err(reason) => ServiceResponse::NotYet { reason },
            }
        }
        ServiceRequest::Thaw => {
            service.chain().thaw();
            ServiceResponse::Done
        }
        ServiceRequest::Shutdown => ServiceResponse::Done,
    }
}

fn stated(made: Result<Vec<u8>, heirloom_keeper::port::PlatformError>) -> ServiceResponse {
    match made {
        Ok(statement) => ServiceResponse::Statement(statement),
        Err(error) => ServiceResponse::NotYet { reason: with_causes(&error) },
    }
}

/// Binds the socket, for this user only. One that an earlier process left is replaced.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes connections until `is_over`.
pub(crate) fn listen(
    listener: &UnixListener,
    subject: &Subject,
    connections: &Arc<Connections<UnixStream>>,
    end: &Sender<End>,
    is_over: impl Fn() -> bool,
) {
    for stream in listener.incoming() {
        if is_over() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Some(number) = connections.admit(&stream) else {
            event("too-many-agents", CONTROL_CONNECTIONS_MAX);
            continue;
        };
        let (subject, end, open) = (subject.clone(), end.clone(), Arc::clone(connections));
        let spawned = thread::Builder::new().name("agent".to_owned()).spawn(move || {
            if let Err(error) = serve(&subject, stream, &end) {
                event("agent-ended", with_causes(&error));
            }
            open.forget(number);
        });
        if let Err(error) = spawned {
            connections.forget(number);
            event("no-thread", error);
        }
    }
}

fn serve(subject: &Subject, mut stream: UnixStream, end: &Sender<End>) -> Result<(), FrameError> {
    stream.set_read_timeout(Some(CONTROL_IDLE_MAX)).map_err(FrameError::Io)?;
    stream.set_write_timeout(Some(CONTROL_IDLE_MAX)).map_err(FrameError::Io)?;
    loop {
        let request = match receive::<ServiceRequest>(&mut stream) {
            Ok(request) => request,
            Err(FrameError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        };
        send(&mut stream, &subject.answer(&request))?;
        if request == ServiceRequest::Shutdown {
            // Whoever waits may have gone already.
            end.send(End::Shutdown).ok();
            return Ok(());
        }
    }
}

/// Asks a service one thing. For agents in this process, and for tests.
pub fn ask(
    stream: &mut UnixStream,
    request: &ServiceRequest,
) -> Result<ServiceResponse, FrameError> {
    send(stream, request)?;
    receive(stream)
}
