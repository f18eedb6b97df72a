//! What a process says on standard error: one line per event, codes and identifiers only.

use std::fmt::Display;
use std::io::Write;

/// Writes one line. Nothing secret may be in `detail`: types with secrets do not display.
pub fn event(code: &str, detail: impl Display) {
    // Whoever closed standard error does not want to hear it.
    writeln!(std::io::stderr(), "heirloom-participant: {code}: {detail}").ok();
}
