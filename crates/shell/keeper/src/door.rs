//! Where the agent comes in: a socket in the file system, or an address of the host itself.
//!
//! A socket in the file system is for one user or group only, and is what our launcher's keepers
//! have. Gramine keeps such sockets within the enclave, and an enclave of Nitro shares no files
//! with its host: there it is an address. Whoever reaches it may say what an agent may say, which
//! no secret depends on and whether the keeper runs does; so it must be one of the host's own.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use heirloom_session::connections::Socket;

use crate::directory::is_shared;

/// Where the agent comes in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Door {
    /// A socket in the file system.
    File(PathBuf),
    /// An address of the host itself.
    Loopback(SocketAddr),
}

/// A door that is open.
pub(crate) enum Listener {
    File(UnixListener),
    Loopback(TcpListener),
}

/// An agent that came in.
pub enum Agent {
    /// By a socket in the file system.
    File(UnixStream),
    /// By an address.
    Loopback(TcpStream),
}

impl Door {
    /// Opens it. A socket that an earlier process left is replaced: the lock of the directory with
    /// sealed state shows that the process is gone.
    pub(crate) fn open(&self) -> io::Result<Listener> {
        Ok(match self {
            Self::File(path) => Listener::File(bind(path)?),
            Self::Loopback(address) => Listener::Loopback(TcpListener::bind(address)?),
        })
    }

    /// Comes in, so that whoever waits looks whether it is over.
    pub(crate) fn knock(&self) {
        match self {
            Self::File(path) => drop(UnixStream::connect(path)),
            Self::Loopback(address) => drop(TcpStream::connect(address)),
        }
    }

    /// Leaves nothing behind.
    pub(crate) fn remove(&self) {
        if let Self::File(path) = self {
            fs::remove_file(path).ok();
        }
    }
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Loopback(address) => write!(f, "{address}"),
        }
    }
}

impl Listener {
    pub(crate) fn accept(&self) -> io::Result<Agent> {
        Ok(match self {
            Self::File(listener) => Agent::File(listener.accept()?.0),
            Self::Loopback(listener) => Agent::Loopback(listener.accept()?.0),
        })
    }
}

impl Agent {
    /// How long it may be silent, and how long it may take to hear an answer.
    pub(crate) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        let patience = Some(patience);
        match self {
            Self::File(stream) => {
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)
            }
            Self::Loopback(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)
            }
        }
    }
}

impl Socket for Agent {
    fn duplicate(&self) -> io::Result<Self> {
        Ok(match self {
            Self::File(stream) => Self::File(stream.try_clone()?),
            Self::Loopback(stream) => Self::Loopback(stream.try_clone()?),
        })
    }

    fn end(&self) -> io::Result<()> {
        match self {
            Self::File(stream) => stream.shutdown(Shutdown::Both),
            Self::Loopback(stream) => stream.shutdown(Shutdown::Both),
        }
    }
}

impl Read for Agent {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(stream) => stream.read(bytes),
            Self::Loopback(stream) => stream.read(bytes),
        }
    }
}

impl Write for Agent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(stream) => stream.write(bytes),
            Self::Loopback(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(stream) => stream.flush(),
            Self::Loopback(stream) => stream.flush(),
        }
    }
}

/// Binds the agent's socket, for this user only, or for the group as well if it is in a directory
/// that is the group's: the agent is another user there.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mode = if is_shared(directory.unwrap_or(Path::new(".")))? { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}
