//! `heirloom node`: one node, as its agent sees it.

use std::time::Duration;

use serde_json::Value;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::output::Report;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show a node's status, with the fields that Oasis operators know
    ///
    /// Exits with 4 while the agent warns of something: an old log, a wrong clock, unreadable
    /// state. The warnings are in the status, under `heirloom`.
    Status(Status),
}

/// Whose status.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// Address of the agent's interface, `http://host:port`
    #[arg(long, value_name = "URL")]
    agent: String,
    /// Show what the agent waits for, instead of the status
    #[arg(long)]
    waiting: bool,
}

/// An agent on the same machine answers within milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);
/// A status has some kilobytes.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    let Command::Status(args) = command;
    let path = if args.waiting { "/v1/waiting" } else { "/v1/status" };
    let answer = fetch(&args.agent, path)?;
    if args.waiting {
        return Ok(Report::fields("node.waiting", answer));
    }
    // The document is Oasis's; it gets no schema of ours, and people read the same bytes.
    let text = serde_json::to_string_pretty(&answer).expect("JSON is printable");
    let report = Report::raw(format!("{text}\n"));
    Ok(if is_warned_of(&answer) { report.exit(Exit::Incomplete) } else { report })
}

/// The status of a node, as its agent tells it.
pub(crate) fn status(agent: &str) -> Result<Value, Diagnostic> {
    fetch(agent, "/v1/status")
}

fn is_warned_of(status: &Value) -> bool {
    let warnings = status.pointer("/heirloom/warnings").and_then(Value::as_array);
    warnings.is_some_and(|warnings| !warnings.is_empty())
}

fn fetch(agent: &str, path: &str) -> Result<Value, Diagnostic> {
    let scheme = if agent.contains("://") { "" } else { "http://" };
    let url = format!("{scheme}{}{path}", agent.trim_end_matches('/'));
    let config = ureq::Agent::config_builder().timeout_global(Some(DEADLINE)).build();
    let answer = ureq::Agent::new_with_config(config).get(&url).call();
    let unreachable = |error: &dyn std::error::Error| {
        Diagnostic::new(Code::NodeUnreachable, format!("no answer from {url}")).because(error)
    };
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(ureq::Error::BadUri(reason)) => {
            let message = format!("{agent} is not an address");
            return Err(Diagnostic::new(Code::InputValue, message).cause(reason));
        }
        Err(ureq::Error::StatusCode(503)) => {
            let message = format!("{agent} has not looked at its node yet");
            return Err(Diagnostic::new(Code::NodeUnreachable, message)
                .hint("an agent looks as soon as it has started: ask again"));
        }
        Err(ureq::Error::StatusCode(status)) => {
            let message = format!("{url} answers with HTTP status {status}");
            return Err(Diagnostic::new(Code::NodeAnswer, message));
        }
        Err(error) => return Err(unreachable(&error)),
    };
    let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let text = text.map_err(|error| unreachable(&error))?;
    serde_json::from_str(&text).map_err(|error| {
        Diagnostic::new(Code::NodeAnswer, format!("{url} answers something else than a status"))
            .because(&error)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_status_with_warnings_is_a_warning() {
        let warned =
            |warnings: Value| is_warned_of(&json!({ "heirloom": { "warnings": warnings } }));
        assert!(warned(json!(["the clock of this host is behind"])));
        assert!(!warned(json!([])));
        assert!(!is_warned_of(&json!({ "heirloom": {} })));
    }
}
