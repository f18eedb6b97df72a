//! One file of one mirror, as a stream that continues what is there.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use heirloom_model::release::Artifact;

use crate::error::{Ended, FetchError, MirrorError};
use crate::limit::{CHUNK_BYTES, Patience};
use crate::part::Part;
use crate::progress::{Advance, Progress};

/// An open stream.
pub(crate) struct Source {
    /// The bytes.
    pub(crate) reader: Box<dyn Read>,
    /// Whether they follow what is there.
    pub(crate) begins: Begins,
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Begins {
    /// At the first byte of the file: what is there is of no use.
    Anew,
    /// Where the part ends.
    WhereAsked,
}

/// Appends a stream to a part until the file is complete, and reads one byte more than that at
/// most.
pub(crate) fn pump(
    mut source: Source,
    part: &mut Part,
    artifact: &Artifact,
    patience: &Patience,
    observer: &mut dyn Progress,
) -> Result<(), Ended> {
    if source.begins == Begins::Anew {
        part.restart()?;
    }
    let expected = artifact.size;
    let mut meter = Meter::new(patience, Instant::now());
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = match source.reader.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(&error, part.length(), expected).into()),
        };
        let chunk = buffer.get(..read).unwrap_or_default();
        let left = expected.saturating_sub(part.length());
        match (chunk.len() as u64, left) {
            (0, 0) => return Ok(()),
            (0, _) => return Err(MirrorError::Cut { received: part.length(), expected }.into()),
            (more, left) if more > left => {
                part.restart()?;
                return Err(MirrorError::Endless { expected }.into());
            }
            (more, _) => {
                part.append(chunk)?;
                let advance =
                    Advance { artifact: &artifact.name, received: part.length(), size: expected };
                if observer.advanced(advance) == ControlFlow::Break(()) {
                    return Err(FetchError::Stopped.into());
                }
                if meter.is_too_slow(more, Instant::now()) {
                    return Err(MirrorError::Slow { received: part.length(), expected }.into());
                }
            }
        }
    }
}

/// What an error in the middle of a file means.
fn broken(error: &io::Error, received: u64, expected: u64) -> MirrorError {
    let timeout = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    if let Some(ureq::Error::Timeout(_)) = timeout {
        return MirrorError::Slow { received, expected };
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            MirrorError::Slow { received, expected }
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => MirrorError::Cut { received, expected },
        _ => MirrorError::Unreachable { reason: error.to_string() },
    }
}

/// Whether a stream makes progress worth the wait.
struct Meter {
    window: Duration,
    window_bytes: u64,
    window_began: Instant,
    in_window: u64,
    began: Instant,
    file: Duration,
}

impl Meter {
    fn new(patience: &Patience, now: Instant) -> Self {
        Self {
            window: patience.window,
            window_bytes: patience.window_bytes,
            window_began: now,
            in_window: 0,
            began: now,
            file: patience.file,
        }
    }

    /// Counts what arrived.
    fn is_too_slow(&mut self, bytes: u64, now: Instant) -> bool {
        self.in_window = self.in_window.saturating_add(bytes);
        if now.duration_since(self.began) >= self.file {
            return true;
        }
        if now.duration_since(self.window_began) < self.window {
            return false;
        }
        let is_short = self.in_window < self.window_bytes;
        (self.window_began, self.in_window) = (now, 0);
        is_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_must_bring_enough_in_each_window_and_end_in_time() {
        let second = Duration::from_secs(1);
        let patience = Patience {
            window: second * 10,
            window_bytes: 100,
            file: second * 60,
            ..Patience::default()
        };
        let start = Instant::now();
        let at = |seconds| start + second * seconds;
        let mut meter = Meter::new(&patience, start);
        assert!(!meter.is_too_slow(1, at(9)), "the window is not over");
        assert!(!meter.is_too_slow(99, at(10)), "exactly enough");
        assert!(!meter.is_too_slow(0, at(19)));
        assert!(meter.is_too_slow(99, at(20)), "a byte too little");
        let mut meter = Meter::new(&patience, start);
        assert!(!meter.is_too_slow(1_000_000, at(59)));
        assert!(meter.is_too_slow(1_000_000, at(60)), "however fast");
    }
}
