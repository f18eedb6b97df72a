//! Completions, manual pages and the reference: all from the one definition of the command line.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::output::Report;
use crate::reference;

/// For which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Which page.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Words of the command, for example `plan approve`; none for `heirloom` itself
    command: Vec<String>,
}

/// Which page of the reference.
#[derive(Debug, clap::Args)]
pub(crate) struct ReferenceArgs {
    /// The page
    page: Page,
}

/// A page of the reference.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Page {
    Cli,
    Errors,
    ExitCodes,
}

/// A completion script.
pub(crate) fn completions(args: &CompletionsArgs) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "heirloom", &mut script);
    Report::raw(String::from_utf8_lossy(&script))
}

/// A manual page.
pub(crate) fn man(args: &ManArgs) -> Result<Report, Diagnostic> {
    let mut root = Cli::command();
    root.build();
    let mut found = &root;
    for word in &args.command {
        found = found.find_subcommand(word).ok_or_else(|| {
            let message = format!("there is no command `{}`", args.command.join(" "));
            Diagnostic::new(Code::InputValue, message)
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(found.clone()).render(&mut page).map_err(|error| {
        Diagnostic::new(Code::FileFailed, "the page cannot be written").because(&error)
    })?;
    Ok(Report::raw(String::from_utf8_lossy(&page)))
}

/// A page of the reference.
pub(crate) fn reference(args: &ReferenceArgs) -> Report {
    Report::raw(match args.page {
        Page::Cli => reference::commands(&Cli::command()),
        Page::Errors => reference::errors(),
        Page::ExitCodes => reference::exit_codes(),
    })
}
