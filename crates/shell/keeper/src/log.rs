//! What a keeper says on standard error: one line per event, codes and identifiers only.

use std::fmt::Display;
use std::io::Write;

/// Writes one line. Nothing secret may be in `detail`: types with secrets do not display.
pub fn event(code: &str, detail: impl Display) {
    // Whoever closed standard error does not want to hear it.
    writeln!(std::io::stderr(), "heirloom-keeper: {code}: {detail}").ok();
}

/// An error with its causes, on one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
