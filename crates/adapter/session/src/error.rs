//! Why there is no session, or no next message.

use std::io;

use heirloom_keeper::handshake::HandshakeError;
use heirloom_keeper::port::PlatformError;
use heirloom_model::wire::WireError;

/// Why there is no session, or no next message.
///
/// After [`Self::Timeout`] a session may be used again, no byte is lost. After any other error it
/// is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nobody answers at the address.
    #[error("{address} cannot be reached")]
    Unreachable {
        /// Where.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The peer did not send or take bytes in time. What it did meanwhile is unknown.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The peer, or somebody between, closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The connection failed in another way.
    #[error("the connection failed")]
    Connection(#[source] io::Error),
    /// The peer does not speak our TLS, or does not have the key that it presents.
    #[error("the TLS handshake or record is not accepted")]
    Tls(#[source] rustls::Error),
    /// Our own platform gave no evidence for the session.
    #[error("the own platform gave no evidence for the session")]
    Platform(#[from] PlatformError),
    /// What the peer shows about itself is not accepted.
    #[error("the peer is not accepted")]
    Refused(#[from] HandshakeError),
    /// The peer announces a message that is larger than this kind of message may be.
    #[error("the peer announces {found} bytes of {what}, more than the {limit} allowed")]
    TooLarge {
        /// What was expected.
        what: &'static str,
        /// What the peer announces.
        found: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The message is not what was expected.
    #[error("the peer's message is not accepted")]
    Malformed(#[from] WireError),
}

impl SessionError {
    /// Sorts what the operating system says about an established connection.
    pub(crate) fn from_io(error: io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, UnexpectedEof,
            WouldBlock,
        };
        match error.kind() {
            TimedOut | WouldBlock => Self::Timeout,
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof => {
                Self::Closed
            }
            _ => Self::Connection(error),
        }
    }
}
