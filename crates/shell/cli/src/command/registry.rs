//! `heirloom registry`: the log of signed statements.

use std::net::SocketAddr;
use std::path::PathBuf;

use heirloom_model::envelope::Envelope;
use heirloom_model::log::LogEntry;
use heirloom_model::wire;
use heirloom_registry::network::Applied;
use heirloom_registry::port::LogStore;
use serde_json::{Value, json};

use crate::code::Code;
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, LogArgs};
use crate::output::{Report, columns};
use crate::view;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Serve a log to agents, keepers and tools, until SIGTERM or Ctrl-C
    Serve(Serve),
    /// Show the log: every statement, and whether it counts
    Show(Show),
}

/// Which log, at which address.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Log file; it must exist, `heirloom init` begins one
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// Address to listen at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7400")]
    listen: SocketAddr,
    /// The network, by its id
    #[arg(long, value_name = "ID")]
    network: heirloom_model::digest::NetworkId,
}

/// Which log, from where.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Show entries from this one on
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command, _context: Context) -> Result<Report, Diagnostic> {
    match command {
        Command::Serve(args) => serve(args),
        Command::Show(args) => show(args),
    }
}

/// A client of the registry at an address.
pub(crate) fn client(url: &str) -> Result<Box<dyn LogStore>, Diagnostic> {
    Err(Diagnostic::new(Code::LogUnreachable, format!("no client for {url} yet")))
}

fn serve(_args: &Serve) -> Result<Report, Diagnostic> {
    Err(Diagnostic::new(Code::RegistryFailed, "no registry yet"))
}

fn show(args: &Show) -> Result<Report, Diagnostic> {
    let mut ledger = args.log.unfollowed(Access::Read)?;
    let mut entries = Vec::new();
    let mut rows = Vec::new();
    ledger.follow(|entry, applied| {
        if entry.index.0 >= args.from {
            let (json, row) = describe(entry, applied);
            entries.push(json);
            rows.push(row);
        }
    })?;
    let position = view::position(&ledger.state.position());
    let text = columns(&["entry", "statement", "signed by", "counts"], &rows);
    Ok(Report::new("registry", json!({ "position": position, "entries": entries }), text))
}

fn describe(entry: &LogEntry, applied: &Applied) -> (Value, Vec<String>) {
    let envelope: Option<Envelope> = wire::decode(&entry.envelope).ok();
    let kind = envelope.as_ref().map_or("unreadable", |envelope| envelope.kind.name());
    let content = envelope.as_ref().and_then(|envelope| view::envelope(envelope).ok());
    let refusal = match applied {
        Applied::Accepted(_) => None,
        Applied::Refused(refusal) => Some(refusal),
    };
    let signers = envelope.as_ref().map_or(0, |envelope| envelope.signatures.len());
    let row = vec![
        entry.index.to_string(),
        kind.to_owned(),
        signers.to_string(),
        refusal.map_or_else(|| "yes".to_owned(), |refusal| format!("no: {refusal}")),
    ];
    let json = json!({
        "index": entry.index.0,
        "hash": entry.hash().to_string(),
        "kind": kind,
        "counts": refusal.is_none(),
        "reason": refusal.map(heirloom_registry::refusal::Refusal::code),
        "statement": content,
    });
    (json, row)
}
