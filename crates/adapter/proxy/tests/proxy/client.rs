//! A client that sees what happens on its connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than anything here takes, so that a test that hangs ends.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: usize,
    pub(crate) retry_after: Option<String>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        Self::try_connect(port).unwrap()
    }

    pub(crate) fn try_connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// None if the proxy has closed the connection.
    pub(crate) fn ask(&mut self, path: &str) -> Option<Head> {
        let question = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(question.as_bytes()).ok()?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_ascii_lowercase());
        }
        let header = |name: &str| {
            let value = lines.iter().find_map(|line| line.strip_prefix(name));
            value.map(|value| value.trim().to_owned())
        };
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let length = header("content-length:").unwrap().parse().unwrap();
        Some(Head { status, length, retry_after: header("retry-after:") })
    }

    pub(crate) fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut body = vec![0; bytes];
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    /// Asks and reads the whole answer.
    pub(crate) fn fetch(&mut self, path: &str) -> Option<Head> {
        let head = self.ask(path)?;
        self.read(head.length);
        Some(head)
    }
}

/// The status of one request on a connection of its own. A connection may be accepted by a worker
/// that stops just then, which closes it: whoever comes then comes again.
pub(crate) fn status(port: u16) -> u16 {
    head(port).status
}

pub(crate) fn head(port: u16) -> Head {
    for _ in 0..3 {
        if let Some(head) = Client::connect(port).fetch("/") {
            return head;
        }
    }
    panic!("three connections in a row were closed without an answer");
}
