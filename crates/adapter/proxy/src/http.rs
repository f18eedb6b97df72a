//! One small question to a proxy that we know.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::edge::EdgeError;

/// Answers to our questions have some 300 bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// What was answered.
pub(crate) struct Answer {
    /// The three digits.
    pub(crate) status: u16,
    head: String,
    /// What follows the head.
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header, if there is one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Asks on a connection of its own, which is closed when this returns.
pub(crate) fn ask(
    address: SocketAddr,
    host: &str,
    path: &str,
    timeout: Duration,
) -> Result<Answer, EdgeError> {
    let what = || format!("http://{address}{path}");
    let unreachable =
        |error: std::io::Error| EdgeError::Unreachable { what: what(), reason: error.to_string() };
    let mut stream = TcpStream::connect_timeout(&address, timeout).map_err(unreachable)?;
    stream.set_read_timeout(Some(timeout)).map_err(unreachable)?;
    stream.set_write_timeout(Some(timeout)).map_err(unreachable)?;
    let question = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).map_err(unreachable)?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).map_err(unreachable)?;
    if bytes.is_empty() {
        // So does a worker that ends while we ask.
        let reason = "it closed the connection without an answer".to_owned();
        return Err(EdgeError::Unreachable { what: what(), reason });
    }
    let text = String::from_utf8_lossy(&bytes);
    parse(&text).ok_or_else(|| EdgeError::Unexpected {
        what: what(),
        reason: "the answer is not HTTP".to_owned(),
    })
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next()?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_is_taken_apart_and_noise_is_none() {
        let answer = parse("HTTP/1.1 503 Away\r\nHeirloom-Fence: closed 7\r\n\r\nbody").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "body"));
        assert_eq!(answer.header("heirloom-fence"), Some("closed 7"));
        assert_eq!(answer.header("retry-after"), None);
        for noise in ["", "HTTP/1.1 503 Away", "SSH-2.0 503 x\r\n\r\n", "HTTP/1.1 x y\r\n\r\n"] {
            assert!(parse(noise).is_none(), "{noise:?}");
        }
    }

    #[test]
    fn a_connection_that_ends_without_an_answer_is_no_wrong_answer() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["", "noise"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut question = [0; 256];
                // Bytes that were not read would turn the end of it into a reset.
                assert_ne!(stream.read(&mut question).unwrap(), 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let asked = || ask(address, "localhost", "/", Duration::from_mins(1)).map(|_answer| ());
        let (silent, wrong) = (asked(), asked());
        assert!(matches!(silent, Err(EdgeError::Unreachable { .. })), "{silent:?}");
        assert!(matches!(wrong, Err(EdgeError::Unexpected { .. })), "{wrong:?}");
        server.join().unwrap();
    }
}
