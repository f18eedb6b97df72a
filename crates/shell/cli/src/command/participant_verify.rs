//! `heirloom participant verify`: every contract is what its id says, every topology transaction
//! what its signatures say.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use heirloom_canton::topology::SignedTransaction;
use heirloom_canton::topology::snapshot::Item;
use heirloom_canton::topology::verify::{Authority, VerifyError};
use heirloom_snapshot::progress::Cancel;
use heirloom_snapshot::run::Run;
use heirloom_snapshot::scratch::Scratch;
use heirloom_snapshot::verify::{VerifiedSnapshot, verify};
use serde_json::{Value, json};

use crate::code::Code;
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::meter::Meter;
use crate::output::{Report, table};
use crate::participant_file::{self, Found};
use crate::{interrupt, participant_error};

/// What to verify.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A snapshot, or a topology export
    file: PathBuf,
    /// DARs of the participant whose snapshot it is
    #[arg(long = "dar", value_name = "FILE", num_args = 1..)]
    dars: Vec<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

/// How much of the machine is used.
#[derive(Debug, clap::Args)]
pub(crate) struct Machine {
    /// How many threads decode and hash; by default one for each core
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// A directory for temporary files, which are as confidential as the snapshot
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) scratch: Option<PathBuf>,
}

/// Verifies.
pub(crate) fn run(args: &Args, context: Context) -> Result<Report, Diagnostic> {
    match participant_file::open(&args.file)? {
        Found::Snapshot => contracts(args, context),
        Found::Topology(items) => topology(&args.file, &items),
        Found::Transaction(signed) => {
            let (transaction, nothing) = (*signed, None);
            let item = Item {
                transaction,
                valid_from: nothing.clone(),
                valid_until: nothing.clone(),
                sequenced: nothing,
                rejection: None,
            };
            topology(&args.file, &[item])
        }
        Found::Contract(_)
        | Found::ContractMap
        | Found::Dar(_)
        | Found::OldContract(_)
        | Found::Package(_)
        | Found::PartyMap(_)
        | Found::Report(_) => {
            let shown = args.file.display();
            let message = format!("{shown} is neither a snapshot nor a topology export");
            let wrong = Diagnostic::new(Code::ParticipantFile, message);
            Err(participant_file::not_a_snapshot(&args.file, wrong))
        }
    }
}

fn contracts(args: &Args, context: Context) -> Result<Report, Diagnostic> {
    let stopping = interrupt::flag()?;
    let types = participant_file::read_types(&args.dars)?;
    let scratch = Scratch::new(&scratch_directory(&args.machine, &args.file));
    let cancel = Cancel::default();
    let mut run = Run::new(&types, &scratch);
    run.workers = args.machine.threads.unwrap_or(run.workers);
    run.cancel = cancel.clone();
    run.progress = Box::new(Meter::new(context.output, None, &stopping, &cancel));
    let verified = verify(&args.file, &mut run);
    drop(run);
    let verified = verified.map_err(|error| participant_error::snapshot(&error))?;
    let json = snapshot(&verified);
    let contents = verified.contents();
    let mut rows = vec![
        ("file", args.file.display().to_string()),
        ("contracts", format!("{}, each is what its id says", contents.contracts)),
        ("bytes", verified.bytes().to_string()),
        ("digest", verified.digest().to_string()),
        ("ids", verified.ids().to_string()),
    ];
    for (version, count) in &contents.versions {
        rows.push(("version", format!("{version}: {count}")));
    }
    for (synchronizer, count) in &contents.synchronizers {
        rows.push(("synchronizer", format!("{synchronizer}: {count}")));
    }
    if contents.unauthenticated > 0 {
        let count = contents.unauthenticated;
        rows.push(("not verified", format!("{count}, whose ids of 2.x say nothing about them")));
    }
    rows.push(("references inside", contents.referenced.to_string()));
    rows.push(("references outside", contents.missing.to_string()));
    Ok(Report::new("participant.verify", json, table(&rows)))
}

/// A snapshot that was verified, as JSON.
pub(crate) fn snapshot(verified: &VerifiedSnapshot) -> Value {
    let contents = verified.contents();
    let count = |name: String, count: u64| json!({ "name": name, "count": count });
    let versions = contents.versions.iter().map(|(name, n)| count(name.to_string(), *n));
    let packages = contents.packages.iter().map(|(name, n)| count(name.to_string(), *n));
    let synchronizers = contents.synchronizers.iter();
    let synchronizers = synchronizers.map(|(name, n)| count(name.to_string(), *n));
    json!({
        "file": verified.path().display().to_string(),
        "kind": "snapshot",
        "digest": verified.digest().to_string(),
        "bytes": verified.bytes(),
        "contracts": contents.contracts,
        "ids": verified.ids().to_string(),
        "versions": versions.collect::<Vec<_>>(),
        "packages": packages.collect::<Vec<_>>(),
        "synchronizers": synchronizers.collect::<Vec<_>>(),
        "unauthenticated": contents.unauthenticated,
        "reassigned": contents.reassigned,
        "references": { "inside": contents.referenced, "outside": contents.missing },
    })
}

/// Where temporary files go: where somebody said, or beside the file.
pub(crate) fn scratch_directory(machine: &Machine, beside: &Path) -> PathBuf {
    if let Some(directory) = &machine.scratch {
        return directory.clone();
    }
    let parent = beside.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

fn topology(path: &Path, items: &[Item]) -> Result<Report, Diagnostic> {
    let verified = signatures(items).map_err(|(number, error)| {
        let message = format!("transaction {number} of {} does not verify", path.display());
        Diagnostic::new(Code::ParticipantTopology, message).because(&error)
    })?;
    let shown = path.display().to_string();
    let json = json!({
        "file": shown,
        "kind": "topology",
        "transactions": items.len(),
        "signatures": verified,
    });
    let text = table(&[
        ("file", shown),
        ("transactions", format!("{}, each is signed as it says", items.len())),
        ("signatures", verified.to_string()),
    ]);
    Ok(Report::new("participant.verify", json, text))
}

/// How many signatures there are, if every one is right. A key may be introduced behind the first
/// transaction that it signed, so transactions of unknown keys are looked at again as long as
/// others make keys known.
fn signatures(items: &[Item]) -> Result<usize, (usize, VerifyError)> {
    let mut authority = Authority::default();
    let mut left: Vec<(usize, &SignedTransaction)> =
        (1..).zip(items.iter().map(|item| &item.transaction)).collect();
    let mut count = 0_usize;
    loop {
        let (mut later, mut first) = (Vec::new(), None);
        let before = left.len();
        for (number, signed) in left {
            match authority.verify(signed) {
                Ok(verified) => {
                    count = count.saturating_add(verified.signers().len());
                    authority.accept(&verified);
                }
                Err(error @ VerifyError::UnknownKey { .. }) => {
                    first.get_or_insert((number, error));
                    later.push((number, signed));
                }
                Err(error) => return Err((number, error)),
            }
        }
        match first {
            None => return Ok(count),
            Some(unknown) if later.len() == before => return Err(unknown),
            Some(_) => left = later,
        }
    }
}
