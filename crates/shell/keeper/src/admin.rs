//! What comes in by the door for the agent.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use heirloom_model::admin::{AdminRequest, AdminResponse};
use heirloom_model::causes::with_causes;
use heirloom_model::frame::{FrameError, receive, send};

use crate::door::{Agent, Listener};
use crate::limit::{ADMIN_CONNECTIONS_MAX, ADMIN_IDLE_MAX};
use crate::log::event;
use crate::run::End;
use crate::service::Service;
use heirloom_session::connections::Connections;

/// Takes connections until `is_over`.
pub(crate) fn listen(
    listener: &Listener,
    service: &Arc<Service>,
    connections: &Arc<Connections<Agent>>,
    end: &Sender<End>,
    is_over: impl Fn() -> bool,
) {
    loop {
        let stream = listener.accept();
        if is_over() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Some(number) = connections.admit(&stream) else {
            event("too-many-agents", ADMIN_CONNECTIONS_MAX);
            continue;
        };
        let (service, end, open) = (Arc::clone(service), end.clone(), Arc::clone(connections));
        let spawned = thread::Builder::new().name("agent".to_owned()).spawn(move || {
            if let Err(error) = serve(&service, stream, &end) {
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

fn serve(service: &Service, mut stream: Agent, end: &Sender<End>) -> Result<(), FrameError> {
    stream.set_patience(ADMIN_IDLE_MAX).map_err(FrameError::Io)?;
    loop {
        let request = match receive::<AdminRequest>(&mut stream) {
            Ok(request) => request,
            Err(FrameError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        };
        let answer = service.admin(&request);
        send(&mut stream, &answer)?;
        if request == AdminRequest::Shutdown && answer == AdminResponse::Done {
            // Whoever waits may have gone already.
            end.send(End::Shutdown).ok();
            return Ok(());
        }
    }
}

/// Asks a keeper one thing. For agents in this process, and for tests.
pub fn ask(
    stream: &mut (impl Read + Write),
    request: &AdminRequest,
) -> Result<AdminResponse, FrameError> {
    send(stream, request)?;
    receive(stream)
}
