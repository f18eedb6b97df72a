//! Byte streams that sessions run over.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::error::SessionError;
use crate::limit::{ADDRESSES_MAX, WAIT_MIN};

/// A byte stream whose reads and writes can be given up.
pub trait Stream: Read + Write {
    /// From now on a read that waits longer fails with `WouldBlock` or `TimedOut`.
    fn set_read_patience(&mut self, patience: Duration) -> io::Result<()>;

    /// From now on a write that waits longer fails with `WouldBlock` or `TimedOut`.
    fn set_write_patience(&mut self, patience: Duration) -> io::Result<()>;
}

macro_rules! sockets {
    ($($socket:ty),+) => {$(
        impl Stream for $socket {
            fn set_read_patience(&mut self, patience: Duration) -> io::Result<()> {
                self.set_read_timeout(Some(patience.max(WAIT_MIN)))
            }

            fn set_write_patience(&mut self, patience: Duration) -> io::Result<()> {
                self.set_write_timeout(Some(patience.max(WAIT_MIN)))
            }
        }
    )+};
}

sockets!(TcpStream, UnixStream);

/// Opens a TCP connection to `address` (`host:port`) before `deadline`.
pub fn dial(address: &str, deadline: Instant) -> Result<TcpStream, SessionError> {
    let unreachable = |source| SessionError::Unreachable { address: address.to_owned(), source };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in address.to_socket_addrs().map_err(unreachable)?.take(ADDRESSES_MAX) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SessionError::Timeout);
        }
        match TcpStream::connect_timeout(&candidate, left) {
            Ok(stream) => {
                // Answers are written whole: waiting for more to send would only delay them.
                stream.set_nodelay(true).map_err(unreachable)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}
