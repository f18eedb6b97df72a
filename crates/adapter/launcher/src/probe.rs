//! A measured process for tests: listens on the socket that its first free argument names, and
//! forwards every frame to its platform. What it gets answered, its platform says about *it*.
//! If there is a second free argument, it becomes that program first.
//!
//! Each kind of machine has a binary that is nothing but this.

use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread;

use heirloom_model::frame::{FrameError, receive_bytes, send_bytes};

use crate::client::wait_until_daemon_ends;
use crate::protocol::FRAME_BYTES_MAX;

/// Where the platform's own arguments have the socket, and where the test's begin.
const PLATFORM: usize = 2;
const LISTEN: usize = 5;
const BECOME: usize = 6;

/// The whole program.
pub fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let (Some(platform), Some(listen)) = (arguments.get(PLATFORM), arguments.get(LISTEN)) else {
        return ExitCode::from(2);
    };
    if let Some(program) = arguments.get(BECOME) {
        let kept = arguments.get(1..BECOME).unwrap_or_default();
        // Returns only if it failed.
        drop(Command::new(program).args(kept).exec());
        return ExitCode::FAILURE;
    }
    let Ok(listener) = UnixListener::bind(listen) else { return ExitCode::FAILURE };
    let daemon = platform.clone();
    let ended = thread::spawn(move || wait_until_daemon_ends(daemon.as_ref()));
    let platform = platform.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that fails is the test's to notice.
            forward(stream, &platform).ok();
        }
    });
    match ended.join() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn forward(mut test: UnixStream, platform: &str) -> Result<(), FrameError> {
    let mut platform = UnixStream::connect(platform).map_err(FrameError::Io)?;
    let (what, limit) = ("frame", FRAME_BYTES_MAX);
    loop {
        send_bytes(&mut platform, &receive_bytes(&mut test, what, limit)?, what, limit)?;
        send_bytes(&mut test, &receive_bytes(&mut platform, what, limit)?, what, limit)?;
    }
}
