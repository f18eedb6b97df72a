//! Pages of the reference, in Markdown. Each is compared with its file by a test.

use heirloom_registry::refusal::Refusal;
use heirloom_upgrade::checker::Fault;

use crate::code::Code;
use crate::exit::Exit;
use crate::output;

/// `docs/reference/exit-codes.md`.
pub(crate) fn exit_codes() -> String {
    let mut page = String::from(
        "# Exit codes\n\nWritten by `heirloom reference exit-codes`; a test compares.\n\n\
         | Code | Meaning |\n|---|---|\n",
    );
    for exit in Exit::ALL {
        output::line(&mut page, format_args!("| {} | {} |", exit.code(), exit.meaning()));
    }
    page.push_str("| 101 | a bug: please report it |\n");
    page
}

/// `docs/reference/errors.md`.
pub(crate) fn errors() -> String {
    let mut page = String::from(
        "# Error codes\n\nWritten by `heirloom reference errors`; a test compares.\n\
         Codes are never reused.\n\n\
         | Code | Fault | Exit | What happened | What to do |\n|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let fault = code.fault();
        output::line(
            &mut page,
            format_args!(
                "| {} | {} | {} | {} | {} |",
                code.text(),
                fault.name(),
                fault.exit().code(),
                code.meaning(),
                code.remedy()
            ),
        );
    }
    page.push_str(
        "\n## Reasons of E-STATEMENT-004\n\n\
         The `reason` says which rule of the log refuses the statement.\n\n",
    );
    for reason in Refusal::CODES {
        output::line(&mut page, format_args!("- `{reason}`"));
    }
    page.push_str("\n## Findings of the plan checker\n\n");
    for code in Fault::CODES {
        output::line(&mut page, format_args!("- `{code}`"));
    }
    page
}

/// `docs/reference/cli.md`.
pub(crate) fn commands(root: &clap::Command) -> String {
    let mut page = String::from(
        "# The command line\n\nWritten by `heirloom reference cli`; a test compares.\n\n\
         Every command understands `--json`, `--color WHEN` and `--no-input`.\n",
    );
    describe(&mut page, root, "");
    page
}

fn describe(page: &mut String, command: &clap::Command, path: &str) {
    let path = format!("{path} {}", command.get_name()).trim_start().to_owned();
    let about = command.get_long_about().or(command.get_about());
    output::line(page, format_args!("\n## `{path}`\n"));
    if let Some(about) = about {
        output::line(page, format_args!("{}", about.to_string().trim().replace(". ", ".\n")));
    }
    let shown = |argument: &&clap::Arg| {
        !argument.is_hide_set()
            && !argument.is_global_set()
            && !["help", "version"].contains(&argument.get_id().as_str())
    };
    let arguments: Vec<&clap::Arg> = command.get_arguments().filter(shown).collect();
    if !arguments.is_empty() {
        page.push('\n');
    }
    for argument in arguments {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        output::line(page, format_args!("- `{}`: {help}", spelled(argument)));
    }
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        describe(page, inner, &path);
    }
}

/// `--flag VALUE`, or `VALUE` for positions.
fn spelled(argument: &clap::Arg) -> String {
    let takes_value = argument.get_action().takes_values();
    let names = argument.get_value_names().unwrap_or_default();
    let fallback = argument.get_id().as_str().to_uppercase();
    let value = names.first().map_or(fallback, |name| name.as_str().to_owned());
    match argument.get_long() {
        Some(long) if takes_value => format!("--{long} {value}"),
        Some(long) => format!("--{long}"),
        None => value,
    }
}
