//! What leaves the process: data on standard output, everything else on standard error.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::exit::Exit;

/// The colours, in one table.
pub(crate) mod theme {
    use anstyle::{AnsiColor, Style};

    pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
    pub(crate) const HINT: Style = AnsiColor::Cyan.on_default().bold();
    pub(crate) const NOTE: Style = AnsiColor::Yellow.on_default().bold();
    pub(crate) const LABEL: Style = Style::new().bold();
}

/// The outcome of a command. Commands make reports and never print.
#[derive(Debug)]
pub(crate) struct Report {
    /// For programs: an object with its schema.
    json: Value,
    /// For people.
    text: String,
    /// The bytes themselves, for commands that make a file for standard output.
    raw: bool,
    exit: Exit,
    /// What the command refuses, after it said what it found.
    refusal: Option<Diagnostic>,
}

impl Report {
    /// A report of schema `heirloom.<name>.v1`.
    pub(crate) fn new(name: &str, mut json: Value, text: impl Into<String>) -> Self {
        if let Value::Object(fields) = &mut json {
            fields.insert("schema".to_owned(), format!("heirloom.{name}.v1").into());
        }
        Self { json, text: text.into(), raw: false, exit: Exit::Done, refusal: None }
    }

    /// A report whose text shows the fields of its JSON.
    pub(crate) fn fields(name: &str, json: Value) -> Self {
        let text = fields(&json);
        Self::new(name, json, text)
    }

    /// Text that is the same with `--json`: completions, man pages, a document of somebody else.
    pub(crate) fn raw(text: impl Into<String>) -> Self {
        Self { json: Value::Null, text: text.into(), raw: true, exit: Exit::Done, refusal: None }
    }

    /// The same report, and an error that follows it and decides the exit code.
    #[must_use]
    pub(crate) fn refused(mut self, refusal: Diagnostic) -> Self {
        self.refusal = Some(refusal);
        self
    }

    /// The same report with another exit code.
    #[must_use]
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

/// When to colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal that shows colours.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The two streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// Streams for a mode and a choice of colour.
    pub(crate) fn new(json: bool, color: Color) -> Self {
        match color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        Self { json }
    }

    /// Whether programs read the output.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person looks at standard error.
    pub(crate) fn is_interactive(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Writes data. A reader that went away has seen enough.
    pub(crate) fn report(self, report: &Report) -> Exit {
        let mut stream = anstream::stdout().lock();
        let written = if self.json && !report.raw {
            writeln!(stream, "{}", report.json)
        } else {
            write!(stream, "{}", report.text)
        };
        let exit = match written.and_then(|()| stream.flush()) {
            Ok(()) => report.exit,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Err(_) => return Exit::Failed,
        };
        // Whoever stopped reading is refused all the same.
        report.refusal.as_ref().map_or(exit, |error| self.diagnostic(error))
    }

    /// Writes an error.
    pub(crate) fn diagnostic(self, diagnostic: &Diagnostic) -> Exit {
        let mut stream = anstream::stderr().lock();
        // Nothing can be told to anybody when standard error is gone; the exit code remains.
        let _told = if self.json {
            writeln!(stream, "{}", diagnostic.json())
        } else {
            write!(stream, "{}", diagnostic.text())
        };
        diagnostic.exit()
    }
}

/// Lets a daemon log what it does, as lines of JSON on standard error.
pub(crate) fn log_as_json() {
    let started = tracing_subscriber::fmt().json().with_writer(io::stderr).try_init();
    // Only a second call fails, and then there is a log already.
    drop(started);
}

/// Writes a line about what happens.
pub(crate) fn event(line: &str) {
    let _told = writeln!(anstream::stderr().lock(), "{line}");
}

/// Writes a sentence for people.
pub(crate) fn note(note: &str) {
    let style = theme::NOTE;
    let _told = writeln!(anstream::stderr().lock(), "{style}note{style:#}: {note}");
}

/// Adds a line to a text.
pub(crate) fn line(text: &mut String, line: fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing into memory cannot fail");
}

/// Lines of `label: value`, aligned.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let style = theme::LABEL;
    let mut text = String::new();
    for (label, value) in rows {
        line(&mut text, format_args!("{style}{label:<width$}{style:#}  {value}"));
    }
    text
}

/// Columns, aligned, under a header.
pub(crate) fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        let names = header.get(column).copied();
        cells.chain(names).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let style = theme::LABEL;
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = format!("{style}{}{style:#}\n", line(&mut header.iter().copied()));
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
        text.push('\n');
    }
    text
}

/// JSON as indented lines of `name: value`, for people.
pub(crate) fn fields(json: &Value) -> String {
    let mut text = String::new();
    tree(&mut text, json, 0);
    text
}

fn tree(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let style = theme::LABEL;
    let below = depth.saturating_add(1);
    let mut entry = |label: &str, separator: &str, value: &Value| {
        if let Some(value) = scalar(value) {
            line(text, format_args!("{indent}{label}{separator} {value}"));
        } else {
            line(text, format_args!("{indent}{label}{separator}"));
            tree(text, value, below);
        }
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                entry(&format!("{style}{}{style:#}", name.replace('_', " ")), ":", value);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| entry("", "-", value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            entry("", "", value);
        }
    }
}

/// A value that fits on the line of its name.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("none".to_owned()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(values) if values.is_empty() => Some("none".to_owned()),
        Value::Object(fields) if fields.is_empty() => Some("none".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
    }
}
