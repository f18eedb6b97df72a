//! `heirloom-ledger`: a node of the reference ledger, and the tools of its operator.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use heirloom_ledger_shell::command::{Command, in_order};

fn main() -> ExitCode {
    let _command = Command::parse_from(in_order(std::env::args_os()));
    writeln!(std::io::stderr(), "heirloom-ledger: not served yet").ok();
    ExitCode::from(75)
}
