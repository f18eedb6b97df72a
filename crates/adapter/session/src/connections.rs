//! The connections that are open, so that they can be counted and ended.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A connection that another thread can end.
pub trait Socket: Sized {
    /// A second handle of the same connection.
    fn duplicate(&self) -> io::Result<Self>;

    /// Ends the connection for all handles.
    fn end(&self) -> io::Result<()>;
}

macro_rules! sockets {
    ($($socket:ty),+) => {$(
        impl Socket for $socket {
            fn duplicate(&self) -> io::Result<Self> {
                self.try_clone()
            }

            fn end(&self) -> io::Result<()> {
                self.shutdown(Shutdown::Both)
            }
        }
    )+};
}

sockets!(TcpStream, UnixStream);

/// The open connections of one listener.
pub struct Connections<S> {
    open: Mutex<BTreeMap<u64, S>>,
    next: AtomicU64,
    limit: usize,
}

impl<S: Socket> Connections<S> {
    /// None yet, and never more than `limit`.
    pub fn new(limit: usize) -> Self {
        Self { open: Mutex::default(), next: AtomicU64::new(0), limit }
    }

    /// Ends all of them.
    pub fn shut_down(&self) {
        for stream in self.lock().values() {
            // One that is gone already has ended.
            stream.end().ok();
        }
    }

    /// Remembers a connection; none if there are too many.
    pub fn admit(&self, stream: &S) -> Option<u64> {
        let mut open = self.lock();
        if open.len() >= self.limit {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(number, stream.duplicate().ok()?);
        Some(number)
    }

    /// Forgets a connection that has ended.
    pub fn forget(&self, number: u64) {
        self.lock().remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, S>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn one_too_many_is_turned_away_and_all_can_be_ended() {
        let connections = Connections::new(1);
        let (mut here, there) = UnixStream::pair().unwrap();
        let number = connections.admit(&there).unwrap();
        assert!(connections.admit(&there).is_none());
        connections.forget(number);
        assert!(connections.admit(&there).is_some());
        connections.shut_down();
        assert_eq!(here.read(&mut [0]).unwrap(), 0);
    }
}
