//! The command socket of an HAProxy master, and what its answers mean.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::edge::EdgeError;

/// The servers of a large HAProxy have some 100 bytes each.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the master answers for a worker that has ended.
const NO_SUCH_WORKER: &str = "Can't find the target PID";

/// The workers of one master.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Workers {
    /// It accepts connections.
    pub(crate) serving: u32,
    /// They only end what they have. They take no command about servers any more, close idle
    /// connections, and announce the end of the others.
    pub(crate) ending: Vec<u32>,
}

/// One command socket.
#[derive(Clone, Debug)]
pub(crate) struct Master {
    socket: PathBuf,
    timeout: Duration,
}

impl Master {
    pub(crate) fn new(socket: &Path, timeout: Duration) -> Self {
        Self { socket: socket.to_owned(), timeout }
    }

    /// The workers that run. None while a reload goes on, and while nobody listens: the master
    /// does neither for a moment then, and its socket stays after it has gone.
    pub(crate) fn workers(&self) -> Result<Option<Workers>, EdgeError> {
        let answer = self.ask("show proc")?;
        if answer.is_empty() {
            return Ok(None);
        }
        if !answer.starts_with("#<PID>") {
            return Err(self.unexpected("show proc", &answer));
        }
        Ok(parse_workers(&answer))
    }

    /// What one worker answers; none if it has ended.
    pub(crate) fn ask_worker(
        &self,
        worker: u32,
        command: &str,
    ) -> Result<Option<String>, EdgeError> {
        let answer = self.ask(&format!("@!{worker} {command}"))?;
        // Every answer ends with a line end, also an empty one.
        let ended = answer.is_empty() || answer.starts_with(NO_SUCH_WORKER);
        Ok((!ended).then_some(answer))
    }

    pub(crate) fn unexpected(&self, command: &str, answer: &str) -> EdgeError {
        let line = answer.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
        EdgeError::Unexpected {
            what: format!("HAProxy at {}", self.socket.display()),
            reason: format!("it answered {command:?} with {line:?}"),
        }
    }

    /// One command on a connection of its own. Empty if nobody took it or the
    /// connection broke, as it does while the master starts itself again.
    fn ask(&self, command: &str) -> Result<String, EdgeError> {
        let mut stream = match UnixStream::connect(&self.socket) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(String::new()),
            Err(error) => return Err(self.lost(&error)),
        };
        let answered = (|| {
            stream.set_read_timeout(Some(self.timeout))?;
            stream.set_write_timeout(Some(self.timeout))?;
            stream.write_all(format!("{command}\n").as_bytes())?;
            // The master waits for more commands until it hears that there are none.
            stream.shutdown(Shutdown::Write)?;
            let mut bytes = Vec::new();
            (&mut stream).take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(bytes)
        })();
        match answered {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => match std::io::Error::kind(&error) {
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected => {
                    Ok(String::new())
                }
                _ => Err(self.lost(&error)),
            },
        }
    }

    fn lost(&self, error: &std::io::Error) -> EdgeError {
        let (what, reason) = (format!("HAProxy at {}", self.socket.display()), error.to_string());
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::InvalidInput => {
                EdgeError::Refused { what: format!("to ask {what}"), reason }
            }
            _ => EdgeError::Unreachable { what, reason },
        }
    }
}

/// Rows of `show proc` whose second column says that they are workers, under their headings.
fn parse_workers(answer: &str) -> Option<Workers> {
    let (current, old) = answer.split_once("# old workers").unwrap_or((answer, ""));
    Some(Workers { serving: *pids(current).first()?, ending: pids(old) })
}

fn pids(rows: &str) -> Vec<u32> {
    let pids = rows.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let pid = fields.next()?.parse().ok()?;
        (fields.next()? == "worker").then_some(pid)
    });
    pids.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_found_also_those_that_end() {
        let answer = "#<PID>          <type>          <reloads>       <uptime>\n\
                      1676            master          1 [failed: 0]   0d00h00m05s\n\
                      # workers\n2201            worker          0               0d00h00m01s\n\
                      # old workers\n1693            worker          1               0d00h00m05s\n\
                      # programs\n\n";
        let workers = Workers { serving: 2201, ending: vec![1693] };
        assert_eq!(parse_workers(answer), Some(workers));
        let no_worker = answer.replace("2201 ", "# ");
        assert_eq!(parse_workers(&no_worker), None);
    }
}
