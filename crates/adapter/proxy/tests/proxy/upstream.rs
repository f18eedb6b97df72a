//! The service behind the proxy: fast answers, and slow ones that end when the test says so.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::client::PATIENCE;

/// The whole slow answer, and what of it is sent at once.
pub(crate) const SLOW_BYTES: usize = 300_000;
pub(crate) const FIRST_BYTES: usize = 1_000;

pub(crate) struct Upstream {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    released: Mutex<bool>,
    changed: Condvar,
    requests: AtomicUsize,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let for_all = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&for_all);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { port, shared }
    }

    /// Lets slow answers end.
    pub(crate) fn release(&self) {
        *self.shared.released.lock().unwrap() = true;
        self.shared.changed.notify_all();
    }

    /// How many requests have arrived.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut question = String::new();
        reader.read_line(&mut question).ok().filter(|read| *read > 0)?;
        let mut line = question.clone();
        while !line.trim().is_empty() {
            line.clear();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        }
        shared.requests.fetch_add(1, Ordering::SeqCst);
        let slow = question.starts_with("GET /slow ");
        let body = vec![b'x'; if slow { SLOW_BYTES } else { 3 }];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        writer.write_all(head.as_bytes()).ok()?;
        let (first, rest) = body.split_at(body.len().min(FIRST_BYTES));
        writer.write_all(first).ok()?;
        if slow {
            let released = shared.released.lock().unwrap();
            let waited =
                shared.changed.wait_timeout_while(released, PATIENCE, |released| !*released);
            drop(waited.unwrap());
        }
        writer.write_all(rest).ok()?;
    }
}
