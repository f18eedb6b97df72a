//! `heirloom policy lint`: finds mistakes that would block an upgrade or its way back.

use std::path::PathBuf;

use heirloom_upgrade::checker::Severity;
use heirloom_upgrade::lint::{LintContext, LintFinding, lint, lint_policy};
use serde_json::{Value, json};

use crate::command::policy;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::ledger::{Access, LogArgs};
use crate::output::{self, Report};

/// Which policy.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The policy: a statement, or TOML
    policy: PathBuf,
    /// The policy that it replaces, instead of the one in the log: no log is needed then
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// Looks for mistakes.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let found = policy::read(&args.policy, &args.log)?;
    let findings = if let Some(previous) = &args.previous {
        let previous = policy::read(previous, &args.log)?;
        lint_policy(&found, &LintContext { previous: Some(&previous), ..LintContext::default() })
    } else {
        lint(&found, &args.log.open(Access::Read)?.state)
    };
    let mut text = String::new();
    for finding in &findings {
        let severity = finding.severity().name();
        output::line(&mut text, format_args!("{severity} {}: {finding}", finding.code()));
    }
    if findings.is_empty() {
        output::line(&mut text, format_args!("nothing was found"));
    }
    let shown: Vec<Value> = findings.iter().map(json).collect();
    let is_sound = findings.iter().all(|finding| finding.severity() == Severity::Warning);
    let json = json!({ "sound": is_sound, "findings": shown });
    let exit = if is_sound { Exit::Done } else { Exit::Refused };
    Ok(Report::new("policy.lint", json, text).exit(exit))
}

fn json(finding: &LintFinding) -> Value {
    json!({
        "code": finding.code(),
        "severity": finding.severity().name(),
        "message": finding.to_string(),
    })
}
