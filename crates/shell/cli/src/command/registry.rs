//! `heirloom registry`: the log of signed statements.

use std::future::pending;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use heirloom_etcd::etcd::{Etcd, EtcdError};
use heirloom_etcd::log::EtcdLog;
use heirloom_etcd::presence::EtcdPresence;
use heirloom_model::digest::NetworkId;
use heirloom_model::envelope::Envelope;
use heirloom_model::log::LogEntry;
use heirloom_model::wire;
use heirloom_registry::network::Applied;
use heirloom_registry::port::ReadError;
use heirloom_registry_shell::server::{self, ServeError, Shared};
use heirloom_store::log_file::LogFile;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::code::Code;
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::ledger::{self, Access, LogArgs};
use crate::output::{self, Report, columns};
use crate::view;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Serve a log to agents, keepers and tools, until SIGTERM or Ctrl-C
    Serve(Serve),
    /// Show the log: every statement, and whether it counts
    Show(Show),
}

/// Which log, at which address. It is in a file, which one server has for itself, or on a cluster,
/// which any number of servers share.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Log file; it must exist, `heirloom init` begins one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["store", "endpoint"])]
    log: Option<PathBuf>,
    /// Keep the log on a cluster, which several servers share; an empty one begins with
    /// `heirloom root publish`
    #[arg(long, value_name = "STORE", value_enum, requires = "endpoint")]
    store: Option<Store>,
    /// Client address of a member of the cluster, `http://host:port`; once for each member
    #[arg(long, value_name = "URL", requires = "store")]
    endpoint: Vec<String>,
    /// Address to listen at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7400")]
    listen: SocketAddr,
    /// The network: its id, or the `network.toml` that `heirloom init` wrote
    #[arg(long, value_name = "ID|FILE", default_value = "network.toml")]
    network: String,
}

/// A log store that servers share.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Store {
    /// A cluster of etcd, 3.4 or later
    Etcd,
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
pub(crate) fn run(command: &Command, context: Context) -> Result<Report, Diagnostic> {
    match command {
        Command::Serve(args) => serve(args, context),
        Command::Show(args) => show(args),
    }
}

fn serve(args: &Serve, context: Context) -> Result<Report, Diagnostic> {
    output::log_as_json();
    let (network, _) = ledger::network(&args.network)?;
    let address = args.listen.to_string();
    let ready = |at: SocketAddr| {
        let text = format!("serving network {network} at http://{at}\n");
        let json = json!({ "network": network.to_string(), "address": format!("http://{at}") });
        context.output.report(&Report::new("registry.serving", json, text));
    };
    let served = match (&args.log, args.store) {
        (Some(path), _) => server::run(open(path)?, network, &address, ready, ended()),
        (None, Some(Store::Etcd)) => {
            let shared = on_etcd(&args.endpoint, network)?;
            server::run_shared(shared, network, &address, ready, ended())
        }
        (None, None) => {
            let message = "neither a log file nor a cluster was given";
            return Err(Diagnostic::new(Code::InputMissing, message)
                .hint("give --log FILE, or --store etcd with --endpoint URL"));
        }
    };
    served.map_err(|error| match (&error, args.store) {
        (ServeError::Log(ReadError::Unreachable { .. }), Some(Store::Etcd)) => {
            stopped(&error).instead("check that etcd runs at every --endpoint, then start again")
        }
        _ => stopped(&error),
    })?;
    Ok(Report::new("registry.stopped", json!({}), ""))
}

fn open(path: &Path) -> Result<LogFile, Diagnostic> {
    let (log, torn) = LogFile::open(path).map_err(|error| ledger::log_error(&error))?;
    if let Some(torn) = torn {
        output::note(&format!(
            "the last entry was not whole: {} bytes cut off. After a failure of power that is as it \
             should be; after anything else, look whether agents followed a longer log",
            torn.bytes
        ));
    }
    Ok(log)
}

fn on_etcd(endpoints: &[String], network: NetworkId) -> Result<Shared, Diagnostic> {
    let etcd = Etcd::new(endpoints).map_err(|error| {
        let code = match error {
            EtcdError::NoEndpoint | EtcdError::TooMany { .. } | EtcdError::Endpoint { .. } => {
                Code::InputValue
            }
            EtcdError::Runtime { .. } => Code::RegistryFailed,
        };
        Diagnostic::new(code, "the log cannot be kept on this cluster").because(&error)
    })?;
    let log = Box::new(EtcdLog::new(etcd.clone(), network));
    Ok(Shared { log, presence: Box::new(EtcdPresence::new(etcd, network)) })
}

/// Ready when somebody asks the process to end.
async fn ended() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return pending().await };
    let interrupt = tokio::signal::ctrl_c();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt => {}
    }
}

fn stopped(error: &ServeError) -> Diagnostic {
    let code = match error {
        ServeError::AddressInUse { .. } => Code::AddressInUse,
        ServeError::NoAddress { .. }
        | ServeError::Refused { .. }
        | ServeError::AddressNotHere { .. }
        | ServeError::Failed(_) => Code::RegistryFailed,
        ServeError::Log(error) => return ledger::read_error(error),
        ServeError::Chain(_) => Code::LogCorrupt,
        ServeError::OtherNetwork { .. } => Code::LogHistory,
    };
    Diagnostic::new(code, "the registry does not serve").because(error)
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
