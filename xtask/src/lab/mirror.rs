//! A web server with releases, as an operator would have one: files and ranges of files, nothing
//! else. It ends with this process.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Lines of a request that are read.
const REQUEST_LINES_MAX: usize = 64;
const REQUEST_BYTES_MAX: u64 = 16 * 1024;

/// Serves a directory, and returns the port.
pub(crate) fn serve(directory: PathBuf) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::Builder::new().name("mirror".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever broke off asks again.
            let _answered = answer(&directory, stream);
        }
    })?;
    Ok(port)
}

fn answer(directory: &Path, stream: TcpStream) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?.take(REQUEST_BYTES_MAX)).lines();
    let first = lines.next().context("no request")??;
    let name = first.strip_prefix("GET /").and_then(|rest| rest.split(' ').next());
    let name = name.context("not a request for a file")?;
    let mut from = 0;
    for line in lines.take(REQUEST_LINES_MAX) {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse()?;
        }
    }
    ensure!(!name.contains(".."), "outside");
    send(&directory.join(name), from, stream)
}

fn send(path: &Path, from: u64, mut stream: TcpStream) -> Result<()> {
    let Ok(mut file) = File::open(path) else {
        return Ok(stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?);
    };
    let size = file.metadata()?.len();
    let rest = size.saturating_sub(from);
    let head = if from == 0 {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n")
    } else {
        let last = size.saturating_sub(1);
        format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {rest}\r\n\
             Content-Range: bytes {from}-{last}/{size}\r\n"
        )
    };
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    file.seek(SeekFrom::Start(from))?;
    std::io::copy(&mut file, &mut stream)?;
    Ok(())
}
