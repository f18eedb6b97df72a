//! A wire between two keepers that somebody watches, and can cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use heirloom_model::admin::Source;

/// Carries connections to an address. What comes from there is counted, and after so many bytes
/// the connection is cut.
pub(crate) struct Wire {
    address: SocketAddr,
    carried: Arc<AtomicUsize>,
}

impl Wire {
    pub(crate) fn to(address: &str, limit: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self { address: listener.local_addr().unwrap(), carried: Arc::default() };
        let (carried, address) = (Arc::clone(&wire.carried), address.to_owned());
        thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let there = TcpStream::connect(&address).unwrap();
                let back = (there.try_clone().unwrap(), here.try_clone().unwrap());
                let carried = Arc::clone(&carried);
                thread::spawn(move || pump(here, there, |_| true));
                thread::spawn(move || {
                    let (from, to) = back;
                    pump(from, to, |count| {
                        carried.fetch_add(count, Ordering::SeqCst) + count <= limit
                    });
                });
            }
        });
        wire
    }

    pub(crate) fn source(&self) -> Source {
        Source { node: "node-1".parse().unwrap(), address: self.address.to_string() }
    }

    /// Bytes that came from there so far.
    pub(crate) fn carried(&self) -> usize {
        self.carried.load(Ordering::SeqCst)
    }
}

/// Carries bytes as long as they may pass.
fn pump(mut from: TcpStream, mut to: TcpStream, may_pass: impl Fn(usize) -> bool) {
    let mut buffer = [0; 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || !may_pass(count) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Whichever side is gone already has ended.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
