//! `heirloom epoch`: the network's clock.

use std::path::PathBuf;

use heirloom_model::counter::Time;
use heirloom_model::domain::EpochStart;
use heirloom_model::envelope::Envelope;
use serde_json::json;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, LogArgs};
use crate::output::Report;
use crate::{key, time};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Start the next epoch
    Advance(Advance),
}

/// Who says what time it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Advance {
    /// Timekeeper's key file; repeat it if several must sign
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// What the time is; by default the clock of this machine
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    time: Option<Time>,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    let Command::Advance(args) = command;
    let keys = key::read_all(&args.keys)?;
    let mut ledger = args.log.open(Access::Append)?;
    let epoch = ledger.state.epoch().next();
    let epoch = epoch.ok_or_else(|| Diagnostic::new(Code::InputValue, "no epoch is left"))?;
    let start = EpochStart {
        network: ledger.state.network(),
        epoch,
        time: args.time.unwrap_or_else(time::now),
    };
    let at = ledger.append(&Envelope::signed(&start, &keys))?;
    let shown = time::show(start.time);
    let text = format!("epoch {epoch} started at {shown}, log entry {at}\n");
    let json = json!({ "epoch": epoch.0, "time": shown, "index": at.0 });
    Ok(Report::new("epoch", json, text))
}
