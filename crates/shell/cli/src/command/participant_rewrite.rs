//! `heirloom participant rewrite`: a snapshot under other parties.
//!
//! Nothing has its name before all of it was verified: the files are written under hidden names
//! beside their places, read again from the disk, and moved where nothing may be yet. The snapshot
//! is moved last, so that where it is, the others are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heirloom_model::party::SynchronizerId;
use heirloom_participant::report::Report as Findings;
use heirloom_snapshot::check::{check_inverse, verify_after};
use heirloom_snapshot::error::SnapshotError;
use heirloom_snapshot::progress::Cancel;
use heirloom_snapshot::rewrite::{RewriteOutcome, rewrite};
use heirloom_snapshot::run::{Change, Outputs, Run};
use heirloom_snapshot::scratch::Scratch;
use heirloom_snapshot::verify::{VerifiedSnapshot, verify};
use heirloom_store::atomic;
use serde_json::json;

use crate::code::Code;
use crate::command::participant_verify::{self, Machine};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::meter::Meter;
use crate::output::{self, Report, table};
use crate::{file, interrupt, participant_error, participant_file};

/// What becomes what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot
    snapshot: PathBuf,
    /// The party map
    #[arg(long, value_name = "FILE")]
    map: PathBuf,
    /// DARs of the participant whose snapshot it is
    #[arg(long = "dar", value_name = "FILE", num_args = 1..)]
    dars: Vec<PathBuf>,
    /// The new snapshot
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Old and new contract ids; by default the new snapshot's name with `.contracts`
    #[arg(long, value_name = "FILE")]
    contracts_out: Option<PathBuf>,
    /// What was left as it is; by default the new snapshot's name with `.report`
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Contracts of a synchronizer go to another one; once for each
    #[arg(long = "synchronizer", value_name = "OLD=NEW", value_parser = route)]
    synchronizers: Vec<(SynchronizerId, SynchronizerId)>,
    #[command(flatten)]
    machine: Machine,
}

/// What comes behind the name of the new snapshot.
const CONTRACTS_SUFFIX: &str = ".contracts";
const REPORT_SUFFIX: &str = ".report";

fn route(text: &str) -> Result<(SynchronizerId, SynchronizerId), String> {
    let (old, new) = text.split_once('=').ok_or("write OLD=NEW")?;
    let parse = |text: &str| text.parse::<SynchronizerId>().map_err(|error| error.to_string());
    Ok((parse(old)?, parse(new)?))
}

/// Rewrites.
pub(crate) fn run(args: &Args, context: Context) -> Result<Report, Diagnostic> {
    let stopping = interrupt::flag()?;
    let map = participant_file::read_map(&args.map)?;
    let mut synchronizers = BTreeMap::new();
    for (old, new) in &args.synchronizers {
        if synchronizers.insert(old.clone(), new.clone()).is_some() {
            let message = format!("--synchronizer names {old} twice");
            return Err(Diagnostic::new(Code::InputDuplicate, message));
        }
    }
    let change = Change::new(map, synchronizers);
    let change = change.map_err(|error| participant_error::snapshot(&error))?;
    let places = Outputs {
        snapshot: args.out.clone(),
        contract_map: args.place(args.contracts_out.as_ref(), CONTRACTS_SUFFIX),
        report: args.place(args.report.as_ref(), REPORT_SUFFIX),
    };
    let hidden = Hidden::beside(places)?;
    let types = participant_file::read_types(&args.dars)?;
    let scratch = participant_verify::scratch_directory(&args.machine, &args.out);
    let work = Work {
        args,
        context,
        types: &types,
        scratch: Scratch::new(&scratch),
        change: &change,
        stopping: &stopping,
    };
    let done = work.carry_out(&hidden.outputs);
    let (source, outcome) = done.map_err(|error| participant_error::snapshot(&error))?;
    let places = hidden.take_places()?;
    Ok(report(&source, &outcome, &change, &places))
}

impl Args {
    fn place(&self, given: Option<&PathBuf>, suffix: &str) -> PathBuf {
        given.cloned().unwrap_or_else(|| {
            let mut name = self.out.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        })
    }
}

/// What one rewrite works with.
struct Work<'w> {
    args: &'w Args,
    context: Context,
    types: &'w heirloom_canton::dar::types::Packages,
    scratch: Scratch,
    change: &'w Change,
    stopping: &'w Arc<AtomicBool>,
}

impl Work<'_> {
    fn carry_out(
        &self,
        outputs: &Outputs,
    ) -> Result<(VerifiedSnapshot, RewriteOutcome), SnapshotError> {
        let source = verify(&self.args.snapshot, &mut self.run(None)?)?;
        let total = Some(source.bytes());
        let outcome = rewrite(&source, self.change, outputs, &mut self.run(total)?)?;
        let mut run = self.run(total)?;
        let written = verify_after(&source, &outcome, self.change, outputs, &mut run)?;
        // The value says that the way back was walked.
        let _inverted = check_inverse(&source, &written, self.change, &mut run)?;
        drop(run);
        self.go_on()?;
        Ok((source, outcome))
    }

    fn run(&self, total: Option<u64>) -> Result<Run<'_>, SnapshotError> {
        self.go_on()?;
        let cancel = Cancel::default();
        let mut run = Run::new(self.types, &self.scratch);
        run.workers = self.args.machine.threads.unwrap_or(run.workers);
        run.cancel = cancel.clone();
        run.progress = Box::new(Meter::new(self.context.output, total, self.stopping, &cancel));
        Ok(run)
    }

    /// A small snapshot is read before anybody hears of progress.
    fn go_on(&self) -> Result<(), SnapshotError> {
        if self.stopping.load(Ordering::Relaxed) { Err(SnapshotError::Cancelled) } else { Ok(()) }
    }
}

/// Files that are not verified yet, beside their places. Dropped, they are removed.
struct Hidden {
    outputs: Outputs,
    places: Outputs,
}

impl Hidden {
    /// Where files go that nothing is at yet.
    fn beside(places: Outputs) -> Result<Self, Diagnostic> {
        let all = [&places.snapshot, &places.contract_map, &places.report];
        for (index, place) in all.iter().enumerate() {
            if place.symlink_metadata().is_ok() {
                let message = format!("{} exists already", place.display());
                return Err(Diagnostic::new(Code::FileExists, message));
            }
            if all.iter().skip(index).skip(1).any(|other| other == place) {
                let message = format!("two outputs would be {}", place.display());
                return Err(Diagnostic::new(Code::InputDuplicate, message));
            }
        }
        let outputs = Outputs {
            snapshot: hidden(&places.snapshot)?,
            contract_map: hidden(&places.contract_map)?,
            report: hidden(&places.report)?,
        };
        Ok(Self { outputs, places })
    }

    fn all(&self) -> [(&Path, &Path); 3] {
        let (from, to) = (&self.outputs, &self.places);
        [
            (&from.report, &to.report),
            (&from.contract_map, &to.contract_map),
            (&from.snapshot, &to.snapshot),
        ]
    }

    /// Gives everything its name. What somebody put there meanwhile stays.
    fn take_places(self) -> Result<Outputs, Diagnostic> {
        for (number, (from, to)) in self.all().into_iter().enumerate() {
            if let Err(error) = atomic::move_to(from, to) {
                for (from, to) in self.all().into_iter().take(number) {
                    // A file that stays under its name is whole; the error says what to look at.
                    let _back = atomic::move_to(to, from);
                }
                return Err(file::store_error(&error));
            }
        }
        Ok(self.places.clone())
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        for (from, _) in self.all() {
            // Its name says that nobody verified it.
            let _removed = fs::remove_file(from);
        }
    }
}

/// `.NAME.unverified`, in the same directory.
fn hidden(place: &Path) -> Result<PathBuf, Diagnostic> {
    let name = place.file_name().ok_or_else(|| {
        Diagnostic::new(Code::InputValue, format!("{} is no file name", place.display()))
    })?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".unverified");
    Ok(place.with_file_name(hidden))
}

fn report(
    source: &VerifiedSnapshot,
    outcome: &RewriteOutcome,
    change: &Change,
    places: &Outputs,
) -> Report {
    let shown = |path: &Path| path.display().to_string();
    let Findings { contracts, renamed, replaced, texts_moved, texts_other, .. } = outcome.report;
    let (inside, outside) = (outcome.report.inside, outcome.report.outside);
    let json = json!({
        "source": participant_verify::snapshot(source),
        "map": change.map().digest().to_string(),
        "target": {
            "file": shown(&places.snapshot),
            "digest": outcome.snapshot.to_string(),
            "bytes": outcome.bytes,
            "contracts": contracts,
            "ids": outcome.ids.to_string(),
        },
        "contract_map": {
            "file": shown(&places.contract_map),
            "digest": outcome.contract_map.to_string(),
        },
        "report": {
            "file": shown(&places.report),
            "renamed": renamed,
            "replaced": replaced,
            "references": { "inside": inside, "outside": outside },
            "texts_moved": texts_moved,
            "texts_other": texts_other,
            "parties_staying": outcome.report.staying.len(),
        },
        "verified": ["before", "after", "inverse"],
    });
    let mut text = table(&[
        ("snapshot", shown(&places.snapshot)),
        ("contracts", format!("{contracts}, {renamed} with a new id, {replaced} parties replaced")),
        ("digest", outcome.snapshot.to_string()),
        ("ids", outcome.ids.to_string()),
        ("party map", change.map().digest().to_string()),
        ("contract map", shown(&places.contract_map)),
        ("report", shown(&places.report)),
        ("verified", "before, after from the written bytes, and the way back".to_owned()),
    ]);
    if texts_moved > 0 {
        output::line(
            &mut text,
            format_args!(
                "\n{texts_moved} texts still mention a namespace that parties leave; the report \
                 lists them"
            ),
        );
    }
    Report::new("participant.rewrite", json, text)
}
