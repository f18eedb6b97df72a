//! Connections of clients: they are counted, and one that keeps the node waiting is ended.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Takes connections while there is room.
pub(super) struct Counted {
    listener: TcpListener,
    room: Arc<Semaphore>,
    patience: Duration,
}

/// A connection. From one answer to the end of the next request, and while an answer is taken, no
/// more time may pass than there is patience: single bytes now and then change nothing.
pub(super) struct Patient {
    stream: TcpStream,
    patience: Duration,
    end: Pin<Box<Sleep>>,
    _room: OwnedSemaphorePermit,
}

impl Counted {
    /// Takes at most so many connections at the same time.
    pub(super) fn new(listener: TcpListener, limit: usize, patience: Duration) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(limit)), patience }
    }
}

impl Listener for Counted {
    type Io = Patient;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Patient, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // One too many is turned away at once: it can try another node.
            let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { continue };
            let end = Box::pin(tokio::time::sleep(self.patience));
            return (Patient { stream, patience: self.patience, end, _room: room }, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Patient {
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.end.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => self.wait(context),
            ready @ Poll::Ready(_) => ready,
        }
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.wait(context),
            ready @ Poll::Ready(_) => {
                let end = Instant::now() + self.patience;
                self.end.as_mut().reset(end);
                ready
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(test)
    }

    async fn listen(limit: usize, patience: Duration) -> (Counted, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Counted::new(listener, limit, patience), address)
    }

    #[test]
    fn one_too_many_is_turned_away() {
        run(async {
            let (mut listener, address) = listen(1, LONG).await;
            let _client = Client::connect(address).unwrap();
            let (first, _) = Listener::accept(&mut listener).await;
            let mut second = Client::connect(address).unwrap();
            let ended = tokio::task::spawn_blocking(move || second.read(&mut [0]).unwrap_or(0));
            tokio::select! {
                _ = Listener::accept(&mut listener) => panic!("there is no room"),
                read = ended => assert_eq!(read.unwrap(), 0),
            }
            drop(first);
            let _third = Client::connect(address).unwrap();
            Listener::accept(&mut listener).await;
        });
    }

    #[test]
    fn a_request_that_never_ends_is_not_waited_for() {
        run(async {
            let (mut listener, address) = listen(1, Duration::from_millis(20)).await;
            let mut client = Client::connect(address).unwrap();
            client.write_all(b"G").unwrap();
            let (mut stream, _) = Listener::accept(&mut listener).await;
            let mut found = 0;
            let error = loop {
                let mut bytes = [0; 8];
                let mut buffer = ReadBuf::new(&mut bytes);
                let read = |context: &mut Context<'_>| {
                    Pin::new(&mut stream).poll_read(context, &mut buffer)
                };
                match std::future::poll_fn(read).await {
                    Ok(()) => found += buffer.filled().len(),
                    Err(error) => break error,
                }
            };
            assert_eq!((found, error.kind()), (1, io::ErrorKind::TimedOut));
        });
    }
}
