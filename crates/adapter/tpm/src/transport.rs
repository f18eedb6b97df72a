//! How bytes reach a TPM: a socket of a TPM in software, or the kernel's device.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::limit::{ANSWER_TIME_MAX, CONNECT_TIME_MAX, MESSAGE_BYTES_MAX};

/// Something that carries one command to a TPM and its response back.
pub trait Transport {
    /// Carries one command. The response is whole: its length is what its header says.
    ///
    /// After an error the next call begins anew; a response that comes late is never taken for the
    /// answer to another command.
    fn transmit(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, TransportError>;
}

/// Why there is no response.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TransportError {
    /// There is no such device or socket.
    #[error("there is no TPM at {}", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The command was not delivered.
    #[error("the TPM cannot be reached: {reason}")]
    Unreachable {
        /// What the system said.
        reason: String,
    },
    /// The command may have been delivered, and no response came.
    #[error("the TPM did not answer: {reason}")]
    Unknown {
        /// What the system said.
        reason: String,
    },
    /// What came is no response.
    #[error("the TPM's answer cannot be understood: {what}")]
    Corrupt {
        /// What is wrong with it.
        what: &'static str,
    },
}

/// The socket of a TPM in software, as `swtpm` serves it: commands and responses, nothing else.
///
/// A connection is made with the first command, and anew after an error.
#[derive(Debug)]
pub struct Socket {
    endpoint: Endpoint,
    answer_time: Duration,
    stream: Option<Stream>,
}

impl Socket {
    /// A Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(Endpoint::Unix(path.into()))
    }

    /// A TCP port, which should be one of this machine: nothing authenticates it.
    pub fn tcp(address: SocketAddr) -> Self {
        Self::new(Endpoint::Tcp(address))
    }

    /// Waits this long for an answer instead of [`ANSWER_TIME_MAX`].
    #[must_use]
    pub fn with_answer_time(mut self, time: Duration) -> Self {
        self.answer_time = time;
        self
    }

    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, answer_time: ANSWER_TIME_MAX, stream: None }
    }

    fn connect(&self) -> Result<Stream, TransportError> {
        let stream = match &self.endpoint {
            Endpoint::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Endpoint::Tcp(address) => {
                TcpStream::connect_timeout(address, CONNECT_TIME_MAX).map(Stream::Tcp)
            }
        };
        let stream = stream.map_err(|error| match (&self.endpoint, error.kind()) {
            (Endpoint::Unix(path), io::ErrorKind::NotFound) => {
                TransportError::Missing { path: path.clone() }
            }
            _ => TransportError::Unreachable { reason: error.to_string() },
        })?;
        stream
            .limit_waiting(self.answer_time)
            .map_err(|error| TransportError::Unreachable { reason: error.to_string() })?;
        Ok(stream)
    }
}

impl Transport for Socket {
    fn transmit(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, TransportError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let sent = stream.write_all(command).and_then(|()| stream.flush());
        sent.map_err(|error| TransportError::Unknown { reason: error.to_string() })?;
        let response = read_response(&mut stream)?;
        // Only a connection without an open question is used again.
        self.stream = Some(stream);
        Ok(response)
    }
}

#[derive(Clone, Debug)]
enum Endpoint {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn limit_waiting(&self, time: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(time))?;
                stream.set_write_timeout(Some(time))
            }
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(time))?;
                stream.set_write_timeout(Some(time))
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(bytes),
            Self::Tcp(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.flush(),
            Self::Tcp(stream) => stream.flush(),
        }
    }
}

/// The kernel's TPM device.
///
/// Use `/dev/tpmrm0`, behind which the kernel keeps the objects of processes apart and removes
/// those of a process that ends. The kernel limits how long a command may take.
#[derive(Debug)]
pub struct Device {
    path: PathBuf,
    file: Option<File>,
}

impl Device {
    /// Where Linux has its first TPM.
    pub const DEFAULT: &str = "/dev/tpmrm0";

    /// Opens a device.
    pub fn open(path: &Path) -> Result<Self, TransportError> {
        open_device(path).map(|file| Self { path: path.to_owned(), file: Some(file) })
    }
}

impl Transport for Device {
    fn transmit(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, TransportError> {
        // The driver drops what was not read when the file is closed, so that after an error
        // nothing of it is left.
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open_device(&self.path)?,
        };
        let unknown = |reason: String| TransportError::Unknown { reason };
        // The driver takes a command as one write and gives its response as one read. It carries
        // the command out while it is written: a write that fails may have failed afterwards.
        match file.write(command) {
            Ok(written) if written == command.len() => {}
            Ok(_) => return Err(unknown("a short write".to_owned())),
            Err(error) => return Err(unknown(error.to_string())),
        }
        let mut response = Zeroizing::new(vec![0; MESSAGE_BYTES_MAX]);
        let read = file.read(&mut response).map_err(|error| unknown(error.to_string()))?;
        response.truncate(read);
        let header = response.first_chunk().ok_or(TransportError::Corrupt { what: SHORT })?;
        if response_length(header)? != read {
            return Err(TransportError::Corrupt { what: "its length is not what its header says" });
        }
        self.file = Some(file);
        Ok(response)
    }
}

fn open_device(path: &Path) -> Result<File, TransportError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => TransportError::Missing { path: path.to_owned() },
        _ => TransportError::Unreachable { reason: format!("{}: {error}", path.display()) },
    })
}

fn read_response(stream: &mut impl Read) -> Result<Zeroizing<Vec<u8>>, TransportError> {
    let unknown = |error: io::Error| TransportError::Unknown { reason: error.to_string() };
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).map_err(unknown)?;
    let mut response = Zeroizing::new(vec![0; response_length(&header)?]);
    let (start, rest) = response.split_at_mut(HEADER);
    start.copy_from_slice(&header);
    stream.read_exact(rest).map_err(unknown)?;
    Ok(response)
}

/// The length that a header announces, if it is one of a response.
fn response_length(header: &[u8; HEADER]) -> Result<usize, TransportError> {
    let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
    match usize::try_from(length) {
        Ok(length) if length < HEADER => Err(TransportError::Corrupt { what: SHORT }),
        Ok(length) if length <= MESSAGE_BYTES_MAX => Ok(length),
        _ => Err(TransportError::Corrupt { what: "it is longer than any response" }),
    }
}

/// Tag, length and code.
const HEADER: usize = 10;
const SHORT: &str = "it is shorter than a header";
