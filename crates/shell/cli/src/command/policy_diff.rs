//! `heirloom policy diff`: what one policy changes compared with another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::command::policy;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::ledger::LogArgs;
use crate::output::{self, Report};
use crate::view;

/// Two policies, as statements or TOML.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The policy before
    old: PathBuf,
    /// The policy after
    new: PathBuf,
    /// Exit with 4 if they differ
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// Compares.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let flat = |path| -> Result<BTreeMap<String, String>, Diagnostic> {
        let mut lines = BTreeMap::new();
        flatten(&mut lines, String::new(), &view::policy(&policy::read(path, &args.log)?));
        Ok(lines)
    };
    let (old, new) = (flat(&args.old)?, flat(&args.new)?);
    let mut changes = Vec::new();
    let mut text = String::new();
    for field in old.keys().chain(new.keys().filter(|field| !old.contains_key(*field))) {
        let (before, after) = (old.get(field), new.get(field));
        if before == after {
            continue;
        }
        changes.push(json!({ "field": field, "old": before, "new": after }));
        if let Some(before) = before {
            output::line(&mut text, format_args!("- {field}: {before}"));
        }
        if let Some(after) = after {
            output::line(&mut text, format_args!("+ {field}: {after}"));
        }
    }
    if changes.is_empty() {
        text.push_str("no difference\n");
    }
    let exit = if args.exit_code && !changes.is_empty() { Exit::Incomplete } else { Exit::Done };
    Ok(Report::new("policy.diff", json!({ "changes": changes }), text).exit(exit))
}

/// One line per value. Rules are named by their measurement, not by their position.
fn flatten(lines: &mut BTreeMap<String, String>, path: String, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(lines, format!("{path}{dot}{name}"), value);
            }
        }
        Value::Array(values) => {
            for value in values {
                let name = |field| value.get(field).and_then(Value::as_str);
                match (name("application"), name("measurement"), value) {
                    (application, Some(measurement), _) => {
                        let owner = application.map(|name| format!("{name} ")).unwrap_or_default();
                        flatten(lines, format!("{path}[{owner}{measurement}]"), value);
                    }
                    (_, None, Value::String(text)) => {
                        lines.insert(format!("{path}[{text}]"), "listed".to_owned());
                    }
                    (_, None, other) => {
                        lines.insert(format!("{path}[{other}]"), "listed".to_owned());
                    }
                }
            }
        }
        Value::String(text) => {
            lines.insert(path, text.clone());
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            lines.insert(path, value.to_string());
        }
    }
}
