//! The socket for peers and applications.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use heirloom_keeper::handover::DonorSession;
use heirloom_model::causes::with_causes;
use heirloom_model::protocol::{PeerRequest, PeerResponse};
use heirloom_session::error::SessionError;
use heirloom_session::session::accept;

use crate::limit::{REQUESTS_PER_FLUSH_MAX, SESSION_IDLE_MAX, SESSIONS_MAX};
use crate::log::event;
use crate::service::Service;
use heirloom_session::connections::Connections;

/// Takes connections until `is_over`.
pub(crate) fn listen(
    listener: &TcpListener,
    service: &Arc<Service>,
    connections: &Arc<Connections<TcpStream>>,
    is_over: impl Fn() -> bool,
) {
    for stream in listener.incoming() {
        if is_over() {
            return;
        }
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                event("accept-failed", error);
                continue;
            }
        };
        let Some(number) = connections.admit(&stream) else {
            event("too-many-sessions", SESSIONS_MAX);
            continue;
        };
        let (service, connections) = (Arc::clone(service), Arc::clone(connections));
        let spawned = thread::Builder::new().name("session".to_owned()).spawn({
            let connections = Arc::clone(&connections);
            move || {
                if let Err(error) = serve(&service, stream) {
                    event("session-ended", with_causes(&error));
                }
                connections.forget(number);
            }
        });
        if let Err(error) = spawned {
            connections.forget(number);
            event("no-thread", error);
        }
    }
}

/// Serves one connection: all requests that have arrived are answered before anything is sent.
fn serve(service: &Service, stream: TcpStream) -> Result<(), SessionError> {
    // Answers are written whole: waiting for more to send would only delay them.
    stream.set_nodelay(true).map_err(SessionError::Connection)?;
    let mut session = accept(stream, service.identity(), &service.session_context())?;
    session.set_patience(SESSION_IDLE_MAX)?;
    let mut donor = DonorSession::default();
    loop {
        let mut next: Option<PeerRequest> = match session.receive() {
            Ok(request) => Some(request),
            Err(SessionError::Closed | SessionError::Timeout) => return Ok(()),
            Err(error) => return Err(error),
        };
        let (mut answered, mut keys) = (0, 0);
        while let Some(request) = next.take() {
            let answer = service.converse(session.peer(), &mut donor, &request);
            keys += usize::from(matches!(answer, PeerResponse::Key(_)));
            session.queue(&answer)?;
            answered += 1;
            if answered < REQUESTS_PER_FLUSH_MAX {
                next = session.receive_ready()?;
            }
        }
        if keys > 0 && !service.may_send_keys() {
            // The session ends without them. Whoever asked finds out who serves now.
            event("withheld", keys);
            return Ok(());
        }
        session.flush()?;
    }
}
