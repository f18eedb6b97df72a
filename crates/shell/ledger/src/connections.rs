//! The connections of one listener: they are counted, and can be ended from outside.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A connection that another thread can end.
pub trait Ends: Sized {
    /// A handle that only ends it.
    fn handle(&self) -> std::io::Result<Self>;
    /// Ends it for all handles.
    fn end(&self);
}

impl Ends for TcpStream {
    fn handle(&self) -> std::io::Result<Self> {
        self.try_clone()
    }

    fn end(&self) {
        // One that is gone already has ended.
        self.shutdown(Shutdown::Both).ok();
    }
}

impl Ends for UnixStream {
    fn handle(&self) -> std::io::Result<Self> {
        self.try_clone()
    }

    fn end(&self) {
        // One that is gone already has ended.
        self.shutdown(Shutdown::Both).ok();
    }
}

/// The open connections of one listener.
pub struct Connections<S> {
    open: Mutex<Open<S>>,
    limit: usize,
}

struct Open<S> {
    next: u64,
    handles: BTreeMap<u64, S>,
}

impl<S: Ends> Connections<S> {
    /// None yet, and never more than `limit`.
    pub fn new(limit: usize) -> Self {
        Self { open: Mutex::new(Open { next: 0, handles: BTreeMap::new() }), limit }
    }

    /// Remembers a connection; none if there are too many.
    pub fn admit(&self, stream: &S) -> Option<u64> {
        let mut open = self.lock();
        if open.handles.len() >= self.limit {
            return None;
        }
        let (number, handle) = (open.next, stream.handle().ok()?);
        open.next = number.wrapping_add(1);
        open.handles.insert(number, handle);
        Some(number)
    }

    /// Forgets a connection that has ended.
    pub fn forget(&self, number: u64) {
        self.lock().handles.remove(&number);
    }

    /// Ends all of them.
    pub fn shut_down(&self) {
        for handle in self.lock().handles.values() {
            handle.end();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open<S>> {
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
