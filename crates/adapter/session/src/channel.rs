//! A channel that is encrypted and bound to two keys, but not attested: frames over TLS.
//!
//! Only the crate itself sends over it. From outside a channel can be opened and attested, and an
//! attested channel is a [`Session`](crate::session::Session).

use std::io::{BufReader, Read, Write};
use std::time::{Duration, Instant};

use heirloom_model::context;
use heirloom_model::evidence::SessionRole;
use heirloom_model::limit::MESSAGE_BYTES_MAX;
use heirloom_model::signature::PublicKey;
use heirloom_model::wire::{self, Wire, WireError};
use rustls::{ClientConnection, Connection, ServerConnection};

use crate::buffer::Buffer;
use crate::certificate;
use crate::error::SessionError;
use crate::limit::{PATIENCE_DEFAULT, QUEUE_BYTES_MAX, READ_BYTES};
use crate::stream::Stream;
use crate::tls::{Identity, no_name};

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// TLS between two keys. Whose keys they are is not known yet.
pub struct Channel<S: Stream> {
    tls: Connection,
    stream: BufReader<S>,
    incoming: Buffer,
    outgoing: Buffer,
    patience: Patience,
    role: SessionRole,
    peer_key: PublicKey,
    exporter: [u8; 32],
}

/// How long reads and writes wait.
#[derive(Clone, Copy)]
enum Patience {
    /// Each this long; the stream knows.
    Each,
    /// All of them until then.
    Until(Instant),
}

impl<S: Stream> Channel<S> {
    /// Opens a channel as the side that connected.
    pub fn initiate(stream: S, own: &Identity, deadline: Instant) -> Result<Self, SessionError> {
        let tls = ClientConnection::new(own.connector(), no_name()).map_err(SessionError::Tls)?;
        Self::open(tls.into(), stream, SessionRole::Initiator, deadline)
    }

    /// Opens a channel as the side that accepted.
    pub fn respond(stream: S, own: &Identity, deadline: Instant) -> Result<Self, SessionError> {
        let tls = ServerConnection::new(own.acceptor()).map_err(SessionError::Tls)?;
        Self::open(tls.into(), stream, SessionRole::Responder, deadline)
    }

    fn open(
        tls: Connection,
        stream: S,
        role: SessionRole,
        deadline: Instant,
    ) -> Result<Self, SessionError> {
        let mut channel = Self {
            tls,
            stream: BufReader::with_capacity(READ_BYTES, stream),
            incoming: Buffer::with_capacity(READ_BYTES),
            outgoing: Buffer::with_capacity(READ_BYTES),
            patience: Patience::Until(deadline),
            role,
            peer_key: PublicKey::new([0; 32]),
            exporter: [0; 32],
        };
        while channel.tls.is_handshaking() {
            channel.write_records()?;
            if channel.tls.is_handshaking() {
                channel.read_records()?;
            }
        }
        channel.write_records()?;
        channel.peer_key = channel
            .tls
            .peer_certificates()
            .and_then(|chain| certificate::key(chain.first()?))
            .expect("a handshake without the peer's certificate does not end");
        channel.exporter = channel
            .tls
            .export_keying_material([0; 32], context::SESSION_EXPORTER, None)
            .map_err(SessionError::Tls)?;
        Ok(channel)
    }

    /// Which side we are.
    pub fn role(&self) -> SessionRole {
        self.role
    }

    /// The key that authenticated the other side.
    pub fn peer_key(&self) -> &PublicKey {
        &self.peer_key
    }

    /// A value that only the two ends of this very channel know (RFC 8446 §7.5).
    pub fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }

    /// The stream below.
    pub fn stream(&self) -> &S {
        self.stream.get_ref()
    }

    /// From now on every single read and write may wait this long.
    pub(crate) fn set_patience(&mut self, patience: Duration) -> Result<(), SessionError> {
        self.patience = Patience::Each;
        let stream = self.stream.get_mut();
        stream.set_read_patience(patience).map_err(SessionError::Connection)?;
        stream.set_write_patience(patience).map_err(SessionError::Connection)
    }

    /// From now on nothing waits longer than until then.
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.patience = Patience::Until(deadline);
    }

    /// Ends the deadline of the handshake.
    pub(crate) fn set_default_patience(&mut self) -> Result<(), SessionError> {
        self.set_patience(PATIENCE_DEFAULT)
    }

    /// Queues one frame. Sends when much is queued.
    pub(crate) fn queue<T: Wire>(&mut self, message: &T) -> Result<(), SessionError> {
        let start = self.outgoing.len();
        self.outgoing.extend(LENGTH_BYTES);
        minicbor::encode(message, &mut self.outgoing).expect("encoding into memory cannot fail");
        let size = self.outgoing.len().saturating_sub(start).saturating_sub(LENGTH_BYTES);
        let limit = limit::<T>();
        let length = match u32::try_from(size) {
            Ok(length) if size <= limit => length,
            _ => {
                self.outgoing.truncate(start);
                return Err(WireError::TooLarge { what: T::WHAT, found: size, limit }.into());
            }
        };
        self.outgoing.patch(start, &length.to_be_bytes());
        if self.outgoing.len() >= QUEUE_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Sends what is queued.
    pub(crate) fn flush(&mut self) -> Result<(), SessionError> {
        self.write_records()?;
        while self.outgoing.len() > 0 {
            let taken =
                self.tls.writer().write(self.outgoing.filled()).map_err(SessionError::from_io)?;
            self.outgoing.consume(taken);
            self.write_records()?;
        }
        Ok(())
    }

    /// Takes one frame. If none has arrived yet, sends what is queued and waits.
    pub(crate) fn receive<T: Wire>(&mut self) -> Result<T, SessionError> {
        loop {
            if let Some(message) = self.receive_ready()? {
                return Ok(message);
            }
            self.flush()?;
            self.read_records()?;
        }
    }

    /// A frame that is here already, without asking the operating system.
    pub(crate) fn receive_ready<T: Wire>(&mut self) -> Result<Option<T>, SessionError> {
        loop {
            if let Some(message) = self.parse()? {
                return Ok(Some(message));
            }
            if self.stream.buffer().is_empty() {
                return Ok(None);
            }
            self.read_records()?;
        }
    }

    /// Tells the peer that nothing follows. Whether it hears that does not matter.
    pub(crate) fn close(mut self) {
        if self.flush().is_ok() {
            self.tls.send_close_notify();
            self.write_records().ok();
        }
    }

    /// The first frame, if it is complete. Its announced length is refused before there is room
    /// for it.
    fn parse<T: Wire>(&mut self) -> Result<Option<T>, SessionError> {
        let Some((length, rest)) = self.incoming.filled().split_first_chunk::<LENGTH_BYTES>()
        else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let limit = limit::<T>();
        if length > limit {
            return Err(SessionError::TooLarge { what: T::WHAT, found: length, limit });
        }
        let Some(frame) = rest.get(..length) else {
            return Ok(None);
        };
        let message = wire::decode(frame)?;
        self.incoming.consume(length.saturating_add(LENGTH_BYTES));
        Ok(Some(message))
    }

    fn write_records(&mut self) -> Result<(), SessionError> {
        while self.tls.wants_write() {
            if let Patience::Until(deadline) = self.patience {
                let left = time_left(deadline)?;
                self.stream.get_mut().set_write_patience(left).map_err(SessionError::Connection)?;
            }
            let written =
                self.tls.write_tls(self.stream.get_mut()).map_err(SessionError::from_io)?;
            if written == 0 {
                return Err(SessionError::Closed);
            }
        }
        Ok(())
    }

    /// Reads at least one byte and decrypts what is complete.
    fn read_records(&mut self) -> Result<(), SessionError> {
        if let (Patience::Until(deadline), true) = (self.patience, self.stream.buffer().is_empty())
        {
            let left = time_left(deadline)?;
            self.stream.get_mut().set_read_patience(left).map_err(SessionError::Connection)?;
        }
        if self.tls.read_tls(&mut self.stream).map_err(SessionError::from_io)? == 0 {
            return Err(SessionError::Closed);
        }
        let state = match self.tls.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                // The peer hears why, if it still listens.
                self.write_records().ok();
                return Err(SessionError::Tls(error));
            }
        };
        let count = state.plaintext_bytes_to_read();
        if count == 0 && state.peer_has_closed() {
            return Err(SessionError::Closed);
        }
        self.tls.reader().read_exact(self.incoming.extend(count)).map_err(SessionError::from_io)
    }
}

#[cfg(test)]
impl<S: Stream> Channel<S> {
    /// Queues bytes that are no frame.
    pub(crate) fn queue_raw(&mut self, bytes: &[u8]) {
        self.outgoing.extend(bytes.len()).copy_from_slice(bytes);
    }

    pub(crate) fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        self.tls.handshake_kind()
    }
}

/// The largest frame of one kind of message.
fn limit<T: Wire>() -> usize {
    T::BYTES_MAX.min(MESSAGE_BYTES_MAX)
}

fn time_left(deadline: Instant) -> Result<Duration, SessionError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(SessionError::Timeout) } else { Ok(left) }
}

#[cfg(test)]
mod tests;
