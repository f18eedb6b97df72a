//! The daemon of the emulated CPU of one host, and what prepares it.

mod command;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser as _;
use heirloom_model::counter::Time;

fn main() -> ExitCode {
    // Before 1970 there is no certificate that could be valid.
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    match command::run(command::Command::parse(), Time(now)) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(report)) => match writeln!(io::stdout(), "{report}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            // Without standard error there is only the exit code to say it.
            writeln!(io::stderr(), "error: {}", error.with_causes()).ok();
            if let Some(runbook) = error.runbook() {
                writeln!(io::stderr(), "see {runbook}").ok();
            }
            ExitCode::FAILURE
        }
    }
}
