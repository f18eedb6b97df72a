//! Who is at the other end of a socket, by the kernel's word.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};

use crate::bundle::VerifiedBundle;
use crate::launch::{Account, FileIdentity};

/// Who asks.
pub(super) enum Caller {
    /// A process that this daemon launched and measured.
    Measured(Box<VerifiedBundle>),
    /// Who may launch, and as whom it opens files.
    Agent(Account),
    /// Anybody else: also what a measured process started or became.
    Nobody,
}

/// The process that connected a socket: a descriptor that names it, whatever its number is used
/// for later.
pub(super) struct Peer {
    process: OwnedFd,
    pub(super) number: u32,
}

impl Peer {
    /// The process that connected, if the kernel still knows it.
    pub(super) fn of(stream: &UnixStream) -> Option<Self> {
        let process = getsockopt(stream, PeerPidfd).ok()?;
        let path = format!("/proc/self/fdinfo/{}", process.as_raw_fd());
        let info = fs::read_to_string(path).ok()?;
        let number =
            info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
        Some(Self { process, number })
    }

    /// The file that it executes now. None if it ended meanwhile, so that the answer is never
    /// about another process that got its number.
    pub(super) fn executable(&self) -> Option<FileIdentity> {
        let metadata = fs::metadata(format!("/proc/{}/exe", self.number)).ok()?;
        self.lives().then(|| FileIdentity::of(&metadata))
    }

    /// A process descriptor becomes readable when its process ends.
    fn lives(&self) -> bool {
        let mut ended = [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
        poll(&mut ended, PollTimeout::ZERO) == Ok(0)
    }
}
