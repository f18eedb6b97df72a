//! Attested sessions.

use std::time::{Duration, Instant};

use heirloom_keeper::handshake::{Handshake, Peer};
use heirloom_model::digest::Nonce;
use heirloom_model::protocol::{Hello, Introduction};
use heirloom_model::wire::Wire;

use crate::channel::Channel;
use crate::context::SessionContext;
use crate::error::SessionError;
use crate::limit::HANDSHAKE_TIME_MAX;
use crate::stream::Stream;
use crate::tls::Identity;

/// A channel whose other end has shown what code it is.
///
/// Only [`connect`], [`accept`] and [`attest`] make one: who has a session has an accepted peer.
pub struct Session<S: Stream> {
    channel: Channel<S>,
    peer: Peer,
}

/// Opens a session as the side that connected.
pub fn connect<S: Stream>(
    stream: S,
    own: &Identity,
    context: &SessionContext<'_>,
) -> Result<Session<S>, SessionError> {
    connect_before(Instant::now() + HANDSHAKE_TIME_MAX, stream, own, context)
}

/// Opens a session as the side that connected, before `deadline`.
pub fn connect_before<S: Stream>(
    deadline: Instant,
    stream: S,
    own: &Identity,
    context: &SessionContext<'_>,
) -> Result<Session<S>, SessionError> {
    attest(Channel::initiate(stream, own, deadline)?, own, context)
}

/// Opens a session as the side that accepted.
pub fn accept<S: Stream>(
    stream: S,
    own: &Identity,
    context: &SessionContext<'_>,
) -> Result<Session<S>, SessionError> {
    let deadline = Instant::now() + HANDSHAKE_TIME_MAX;
    attest(Channel::respond(stream, own, deadline)?, own, context)
}

/// Exchanges evidence that is bound to this very channel. `own` must be the identity that opened
/// it: the peer finds out if it is not.
pub fn attest<S: Stream>(
    mut channel: Channel<S>,
    own: &Identity,
    context: &SessionContext<'_>,
) -> Result<Session<S>, SessionError> {
    let mut nonce = [0; Nonce::BYTES];
    context.platform.random(&mut nonce)?;
    let handshake = Handshake::new(
        channel.role(),
        context.network,
        context.domain,
        Nonce::new(nonce),
        own.public_key(),
        *channel.exporter(),
    );
    channel.queue(&handshake.hello())?;
    channel.flush()?;
    let hello: Hello = channel.receive()?;
    let as_of = context.look(|state| state.position());
    channel.queue(&handshake.introduction(&hello, context.platform, as_of)?)?;
    channel.flush()?;
    let introduction: Introduction = channel.receive()?;
    let peer = context
        .look(|state| handshake.authenticate(&hello, channel.peer_key(), &introduction, state))?;
    channel.set_default_patience()?;
    Ok(Session { channel, peer })
}

impl<S: Stream> Session<S> {
    /// Who is at the other end, and [which channel](Peer::channel) leads there.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Sends one message.
    pub fn send<T: Wire>(&mut self, message: &T) -> Result<(), SessionError> {
        self.queue(message)?;
        self.flush()
    }

    /// Takes one message. If none has arrived yet, sends what is queued and waits.
    pub fn receive<T: Wire>(&mut self) -> Result<T, SessionError> {
        self.channel.receive()
    }

    /// Queues one message, to be sent together with others.
    pub fn queue<T: Wire>(&mut self, message: &T) -> Result<(), SessionError> {
        self.channel.queue(message)
    }

    /// Sends what is queued, in as few records and writes as possible.
    pub fn flush(&mut self) -> Result<(), SessionError> {
        self.channel.flush()
    }

    /// A message that has arrived already, or none; never waits.
    ///
    /// To answer at full speed: [`Self::receive`] one request, queue its answer, go on with
    /// requests that are ready, then flush.
    pub fn receive_ready<T: Wire>(&mut self) -> Result<Option<T>, SessionError> {
        self.channel.receive_ready()
    }

    /// From now on every single read and write may wait this long.
    pub fn set_patience(&mut self, patience: Duration) -> Result<(), SessionError> {
        self.channel.set_patience(patience)
    }

    /// From now on nothing waits longer than until then.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.channel.set_deadline(deadline);
    }

    /// The stream below, to look at addresses or to shut it down.
    pub fn stream(&self) -> &S {
        self.channel.stream()
    }

    /// Sends what is queued and tells the peer that nothing follows.
    pub fn close(self) {
        self.channel.close();
    }
}

#[cfg(test)]
mod tests;
