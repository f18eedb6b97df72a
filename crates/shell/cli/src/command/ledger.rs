//! `heirloom ledger`: the reference ledger's own program, which lies beside this one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::output::Report;

/// Its file name.
const PROGRAM: &str = "heirloom-ledger";

/// What to tell it.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Words of `heirloom-ledger`; `heirloom ledger --help` shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Becomes the ledger's program.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let missing = |error: &std::io::Error| {
        Diagnostic::new(Code::FileMissing, format!("{PROGRAM} cannot be started"))
            .because(error)
            .hint("it belongs into the directory of `heirloom`")
    };
    let own = std::env::current_exe().map_err(|error| missing(&error))?;
    let error = Command::new(own.with_file_name(PROGRAM)).args(&args.words).exec();
    Err(missing(&error))
}
