//! A measured process for tests that tries what it may not: each argument behind the platform's own
//! and the name of its report is one attempt, and each line of the report says how it went.

use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};

use heirloom_keeper::port::Platform as _;
use heirloom_launcher::client::{LaunchClient, PlatformClient, wait_until_daemon_ends};
use heirloom_launcher::protocol::{LaunchRequest, WireMode};

/// Where the platform's own arguments have the socket, and where the test's begin.
const PLATFORM: usize = 2;
const REPORT: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let (Some(platform), Some(report)) = (arguments.get(PLATFORM), arguments.get(REPORT)) else {
        return ExitCode::from(2);
    };
    let attempts = arguments.get(REPORT + 1..).unwrap_or_default();
    let mut lines = String::new();
    for attempt in attempts.iter().filter(|attempt| *attempt != STAY) {
        let went = attempt_one(&arguments, platform, attempt);
        lines.push_str(&went.err().unwrap_or_else(|| "done".to_owned()));
        lines.push('\n');
    }
    // The whole report is there, or none.
    let part = format!("{report}.part");
    if fs::write(&part, lines).and_then(|()| fs::rename(&part, report)).is_err() {
        return ExitCode::FAILURE;
    }
    if attempts.iter().any(|attempt| attempt == STAY) {
        wait_until_daemon_ends(Path::new(platform));
    }
    ExitCode::SUCCESS
}

/// To go on until the daemon ends.
const STAY: &str = "stay";

fn attempt_one(arguments: &[String], platform: &str, attempt: &str) -> Result<(), String> {
    let (word, target) = attempt.split_once('=').unwrap_or((attempt, ""));
    let said = |error: io::Error| format!("{:?}", error.kind());
    match word {
        "connect" => UnixStream::connect(target).map(drop).map_err(said),
        "read" => File::open(target).map(drop).map_err(said),
        "list" => fs::read_dir(target).map(drop).map_err(said),
        "write" => File::options().append(true).open(target).map(drop).map_err(said),
        // Whoever may trace a process may write its memory, and nobody else.
        "memory" => {
            let memory = format!("/proc/{target}/mem");
            File::options().write(true).open(memory).map(drop).map_err(said)
        }
        "identity" => PlatformClient::connect(platform.as_ref())
            .and_then(|client| client.identity())
            .map(drop)
            .map_err(|error| error.to_string()),
        "launch" => launch(platform, target),
        // The same program in a process that nobody measured.
        "child" => child(arguments, target),
        _ => Err(format!("what is {word}?")),
    }
}

/// `BUNDLE,LOG`.
fn launch(platform: &str, target: &str) -> Result<(), String> {
    let (bundle, log) = target.split_once(',').unwrap_or((target, ""));
    let request = LaunchRequest {
        bundle: bundle.to_owned(),
        arguments: Vec::new(),
        log: log.to_owned(),
        mode: WireMode::Production,
        label: "trespasser".to_owned(),
    };
    let launched = LaunchClient::connect(platform.as_ref()).and_then(|it| it.launch(request));
    launched.map(drop).map_err(|error| error.to_string())
}

fn child(arguments: &[String], attempt: &str) -> Result<(), String> {
    let report = format!("{}.child", arguments.get(REPORT).map_or("", String::as_str));
    let own = arguments.get(1..REPORT).unwrap_or_default();
    let status = Command::new("/proc/self/exe").args(own).args([&report, attempt]).status();
    status.map_err(|error| error.to_string())?;
    let said = fs::read_to_string(&report).map_err(|error| error.to_string())?;
    match said.trim() {
        "done" => Ok(()),
        other => Err(other.to_owned()),
    }
}
