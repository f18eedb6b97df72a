//! The socket for the agent. Frames of four bytes of big-endian length and canonical CBOR.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use heirloom_model::limit::ADMIN_MESSAGE_BYTES_MAX;
use heirloom_model::protocol::{AdminRequest, AdminResponse};
use heirloom_model::wire::{self, Wire};

use crate::connections::Connections;
use crate::limit::{ADMIN_CONNECTIONS_MAX, ADMIN_IDLE_MAX};
use crate::log::event;
use crate::run::End;
use crate::service::Service;

/// Takes connections until `is_over`.
pub(crate) fn listen(
    listener: &UnixListener,
    service: &Arc<Service>,
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
            event("too-many-agents", ADMIN_CONNECTIONS_MAX);
            continue;
        };
        let (service, end, open) = (Arc::clone(service), end.clone(), Arc::clone(connections));
        let spawned = thread::Builder::new().name("agent".to_owned()).spawn(move || {
            if let Err(error) = serve(&service, stream, &end) {
                event("agent-ended", error);
            }
            open.forget(number);
        });
        if let Err(error) = spawned {
            connections.forget(number);
            event("no-thread", error);
        }
    }
}

fn serve(service: &Service, mut stream: UnixStream, end: &Sender<End>) -> io::Result<()> {
    stream.set_read_timeout(Some(ADMIN_IDLE_MAX))?;
    stream.set_write_timeout(Some(ADMIN_IDLE_MAX))?;
    while let Some(request) = receive::<AdminRequest>(&mut stream)? {
        let answer = service.admin(&request);
        send(&mut stream, &answer)?;
        if request == AdminRequest::Shutdown && answer == AdminResponse::Done {
            // Whoever waits may have gone already.
            end.send(End::Shutdown).ok();
            return Ok(());
        }
    }
    Ok(())
}

/// Asks a keeper one thing. For agents in this process, and for tests.
pub fn ask(stream: &mut UnixStream, request: &AdminRequest) -> io::Result<AdminResponse> {
    send(stream, request)?;
    receive(stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Sends one frame.
fn send<T: Wire>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    let bytes = wire::encode(message);
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[length.to_be_bytes().as_slice(), &bytes].concat())
}

/// Receives one frame; none if the other side is done.
fn receive<T: Wire>(stream: &mut impl Read) -> io::Result<Option<T>> {
    let mut header = [0; 4];
    match stream.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(header);
    let limit = u64::try_from(T::BYTES_MAX.min(ADMIN_MESSAGE_BYTES_MAX)).unwrap_or(u64::MAX);
    if u64::from(length) > limit {
        return Err(io::Error::other(format!("{} of {length} bytes is too large", T::WHAT)));
    }
    // Memory grows with what arrives, not with what is announced.
    let mut bytes = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut bytes)?;
    if u32::try_from(bytes.len()) != Ok(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    wire::decode(&bytes).map(Some).map_err(io::Error::other)
}
