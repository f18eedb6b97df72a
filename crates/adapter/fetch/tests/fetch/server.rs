//! A web server that does exactly what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    /// The path.
    pub(crate) path: String,
    /// The first byte that was asked for, if not all were.
    pub(crate) from: Option<usize>,
    /// What the client takes besides plain bytes.
    pub(crate) accepts: Option<String>,
}

/// A connection, plain or encrypted.
pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// What a server does with one request. The connection ends afterwards.
pub(crate) type Behaviour = dyn Fn(&Asked, &mut dyn Stream) -> std::io::Result<()> + Send + Sync;
/// How a server turns a connection into a stream.
pub(crate) type Accept = dyn Fn(TcpStream) -> std::io::Result<Box<dyn Stream>> + Send + Sync;

/// One server. Its thread ends with the process.
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// A plain server.
    pub(crate) fn start(
        behaviour: impl Fn(&Asked, &mut dyn Stream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::accepting(Box::new(|stream| Ok(Box::new(stream))), Box::new(behaviour))
    }

    /// A server that makes its streams itself.
    pub(crate) fn accepting(accept: Box<Accept>, behaviour: Box<Behaviour>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&asked);
        let shared = Arc::new((accept, behaviour));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (shared, all) = (Arc::clone(&shared), Arc::clone(&all));
                thread::spawn(move || {
                    // A client that goes away is part of the tests.
                    let _ended = connection.and_then(|connection| {
                        let mut stream = shared.0(connection)?;
                        let asked = read(&mut stream)?;
                        all.lock().unwrap().push(asked.clone());
                        shared.1(&asked, &mut stream)?;
                        stream.flush()
                    });
                });
            }
        });
        Self { address, asked }
    }

    /// Its address, for a mirror over http.
    pub(crate) fn base(&self) -> String {
        format!("http://{}/files", self.address)
    }

    /// Its address, for a mirror over https.
    pub(crate) fn secure_base(&self) -> String {
        format!("https://{}/files", self.address)
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// From which bytes on it was asked so far.
    pub(crate) fn offsets(&self) -> Vec<Option<usize>> {
        self.asked().into_iter().map(|asked| asked.from).collect()
    }
}

fn read(stream: &mut dyn Read) -> std::io::Result<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut asked = Asked { path, from: None, accepts: None };
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            asked.from = range.strip_suffix('-').and_then(|from| from.parse().ok());
        }
        if let Some(encodings) = line.strip_prefix("accept-encoding: ") {
            asked.accepts = Some(encodings.to_owned());
        }
    }
    Ok(asked)
}

/// Answers like a good file server.
pub(crate) fn serve(file: &[u8], asked: &Asked, stream: &mut dyn Stream) -> std::io::Result<()> {
    serve_some(file, asked, stream, usize::MAX)
}

/// Answers like a good file server whose connection is cut after so many bytes.
pub(crate) fn serve_some(
    file: &[u8],
    asked: &Asked,
    stream: &mut dyn Stream,
    bytes: usize,
) -> std::io::Result<()> {
    let from = asked.from.unwrap_or(0);
    let body = &file[from..];
    let (last, size) = (file.len() - 1, file.len());
    let (status, range) = match asked.from {
        None => ("200 OK", String::new()),
        Some(_) => {
            ("206 Partial Content", format!("Content-Range: bytes {from}-{last}/{size}\r\n"))
        }
    };
    let header = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{range}Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(header.as_bytes())?;
    stream.write_all(&body[..body.len().min(bytes)])
}

/// Answers with exactly these header lines and this body.
pub(crate) fn answer(
    stream: &mut dyn Stream,
    status: &str,
    headers: &[&str],
    body: &[u8],
) -> std::io::Result<()> {
    let lines: Vec<String> = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let lines = lines.concat();
    stream
        .write_all(format!("HTTP/1.1 {status}\r\n{lines}Connection: close\r\n\r\n").as_bytes())?;
    stream.write_all(body)
}
