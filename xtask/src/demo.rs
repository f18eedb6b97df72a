//! `cargo xtask demo`: upgrade a real fleet under load, and prove what was claimed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::lab::host::Platform;
use crate::lab::{self, Lab, SharedLab};

pub(crate) mod clients;
mod flag_day;
mod handover;
mod migration;
mod relocation;
pub(crate) mod rolling;

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which procedure to play.
    #[arg(value_enum, default_value_t = Procedure::Rolling)]
    procedure: Procedure,
    /// Kill random processes all along: agents, keepers, the registry, whole hosts.
    #[arg(long)]
    kill: bool,
    /// Print one line of JSON at the end, and nothing else, to standard output.
    #[arg(long)]
    json: bool,
    /// Rolling and handover: what the hosts are made of, in turn. A handover between several
    /// platforms moves the keyring from host to host: to the other kind, and back.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "emulated")]
    platforms: Vec<Platform>,
    /// Flag day: how many operators, each with one node.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=16))]
    nodes: u8,
    /// Flag day: what fails before the point of no return.
    #[arg(long, value_enum, value_name = "STEP")]
    fail: Option<flag_day::Failing>,
    /// Flag day: where the registry keeps its log. A cluster loses members and is cut apart all
    /// along.
    #[arg(long, value_enum, default_value_t = Registry::File)]
    registry: Registry,
    /// Migration: which key store.
    #[arg(long, value_enum, default_value_t = migration::Kms::Both)]
    kms: migration::Kms,
    /// Migration: how many operators move a participant each by one plan, because they share
    /// contracts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    operators: u8,
    /// Keep the fleet's files, to look at them afterwards.
    #[arg(long)]
    keep: bool,
}

/// A procedure.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Procedure {
    /// A fleet of four hosts, half of it after the other half.
    Rolling,
    /// One host and an exclusive domain: old keeper, upgrader, new keeper.
    Handover,
    /// Independent operators whose service moves to new code all at once.
    FlagDay,
    /// A ledger participant moves to keys in a KMS, under new names, and back.
    Migration,
}

/// Where the registry keeps its log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Registry {
    /// In one file.
    File,
    /// On a real etcd cluster of three members.
    Etcd,
}

/// How long the upgrade may take, with kills all along on a busy machine.
const UPGRADE_TIMEOUT: Duration = Duration::from_mins(10);
/// How often an epoch begins.
const EPOCH_EVERY: Duration = Duration::from_secs(3);

/// Runs the demo.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    arguments.check()?;
    say("Building the fleet's programs (minutes on the first run, then seconds).");
    let mut more = Vec::new();
    if arguments.registry == Registry::Etcd {
        more.push(lab::etcd::PACKAGE);
    }
    if arguments.procedure == Procedure::Migration {
        more.push(lab::participant::PACKAGE);
    }
    lab::build_with(&more)?;
    let nodes = match arguments.procedure {
        Procedure::Rolling => rolling::NODES,
        Procedure::Handover if arguments.is_mixed() => relocation::NODES,
        Procedure::Handover => handover::NODES,
        Procedure::FlagDay => arguments.nodes.into(),
        Procedure::Migration => arguments.migration().nodes(),
    };
    let lab = Lab::new("demo", nodes, say)?.with_platforms(&arguments.platforms);
    let lab = Arc::new(lab);
    end_when_interrupted(&lab, arguments.keep)?;
    if arguments.registry == Registry::Etcd {
        lab.use_etcd()?;
    }
    let played = match arguments.procedure {
        Procedure::Rolling => rolling::play(&lab, arguments.kill),
        Procedure::Handover if arguments.is_mixed() => relocation::play(&lab, arguments.kill),
        Procedure::Handover => handover::play(&lab, arguments.kill),
        Procedure::FlagDay => flag_day::play(&lab, arguments.play()),
        Procedure::Migration => migration::play(&lab, arguments.migration()),
    };
    if lab.is_ending() {
        // What failed did so because somebody interrupted. The process ends when the fleet has.
        loop {
            std::thread::park();
        }
    }
    if played.is_err() {
        // Threads of this demonstration may still hold it.
        lab.end();
    }
    let summary = played.with_context(|| format!("look into {}", lab.directory.display()))?;
    if arguments.json {
        println!("{summary}");
    }
    let directory = lab.directory.clone();
    drop(lab);
    if arguments.keep {
        say(&format!("\nEverything is in {}.", directory.display()));
    } else {
        std::fs::remove_dir_all(&directory)?;
    }
    Ok(())
}

impl Arguments {
    fn of(procedure: Procedure, kill: bool) -> Self {
        let (registry, kms) = (Registry::File, migration::Kms::Both);
        let platforms = vec![Platform::Emulated];
        let (nodes, operators, fail, keep) = (5, 1, None, false);
        Self { procedure, kill, json: true, platforms, nodes, fail, registry, kms, operators, keep }
    }

    fn migration(&self) -> migration::Play {
        migration::Play { kill: self.kill, kms: self.kms, operators: self.operators.into() }
    }

    /// Whether hosts are of several platforms.
    fn is_mixed(&self) -> bool {
        self.platforms.iter().any(|platform| Some(platform) != self.platforms.first())
    }

    /// Refuses what only some procedures can.
    fn check(&self) -> Result<()> {
        let of_all = matches!(self.procedure, Procedure::Rolling | Procedure::Handover);
        let is_usual = self.platforms == [Platform::Emulated];
        ensure!(of_all || is_usual, "only rolling and handover know other platforms");
        Ok(())
    }

    fn play(&self) -> flag_day::Play {
        let (kill, failing) = (self.kill, self.fail);
        flag_day::Play { kill, failing, blocks: flag_day::BLOCKS, rehearse: false }
    }
}

/// Plays each procedure for the test: once in peace, and once with kills all along. Rolling is
/// played once more over hosts of several platforms, and a flag day is called off once.
pub(crate) fn check() -> Result<()> {
    for procedure in [Procedure::Rolling, Procedure::Handover, Procedure::FlagDay] {
        for kill in [false, true] {
            run(&Arguments::of(procedure, kill))?;
        }
    }
    let platforms = vec![Platform::Emulated, Platform::Tpm];
    run(&Arguments { platforms, ..Arguments::of(Procedure::Rolling, false) })?;
    let flag_day = || Arguments::of(Procedure::FlagDay, false);
    run(&Arguments { fail: Some(flag_day::Failing::Migrate), ..flag_day() })?;
    run(&Arguments { registry: Registry::Etcd, ..flag_day() })?;
    // In peace with both stores; with kills one operator with one of them, two with the other.
    run(&Arguments::of(Procedure::Migration, false))?;
    let killed = || Arguments::of(Procedure::Migration, true);
    run(&Arguments { kms: migration::Kms::Aws, ..killed() })?;
    run(&Arguments { kms: migration::Kms::Pkcs11, operators: 2, ..killed() })
}

/// Ctrl-C ends the whole fleet, and leaves nothing behind but files that somebody wants to keep.
fn end_when_interrupted(lab: &SharedLab, keep: bool) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // The lab ends by itself when nobody holds it any more, so this must not.
    let lab = Arc::downgrade(lab);
    std::thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            say("\ninterrupted: ending the fleet");
            if let Some(lab) = lab.upgrade() {
                lab.end();
                if keep {
                    say(&format!("Everything so far is in {}.", lab.directory.display()));
                } else {
                    let _removed = std::fs::remove_dir_all(&lab.directory);
                }
            }
            #[expect(clippy::exit, reason = "the main thread may be anywhere")]
            std::process::exit(130);
        }
    })?;
    Ok(())
}

/// Waits until the plan has finished, and lets epochs pass meanwhile.
pub(crate) fn await_upgrade(lab: &Lab, plan: &str) -> Result<()> {
    let deadline = Instant::now() + UPGRADE_TIMEOUT;
    let (mut epoch, mut shown) = (Instant::now(), String::new());
    loop {
        ensure!(Instant::now() < deadline, "the upgrade did not finish in {UPGRADE_TIMEOUT:?}");
        if epoch.elapsed() > EPOCH_EVERY {
            epoch = Instant::now();
            // With the registry killed, the epoch comes a little later.
            let _advanced = lab.advance_epoch();
        }
        if let Ok(status) = lab.operate(&["upgrade", "status", "--plan", plan]) {
            let line = progress(&status);
            if line != shown {
                say(&format!("   {line}"));
                shown = line;
            }
            if status.get("status").and_then(Value::as_str) == Some("finished") {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn progress(status: &Value) -> String {
    let number = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or(0);
    let state = status.get("status").and_then(Value::as_str).unwrap_or("unknown");
    format!("{state}: {} of {} steps done", number("steps_done"), number("steps"))
}

/// Says of which platform each host is, unless all of them are as they always were.
fn name_platforms(lab: &Lab, summary: &mut Value) {
    if lab.platforms() != [Platform::Emulated] {
        summary["platforms"] = lab.platform_words().into();
    }
}

/// Shows fields of a summary, for people.
fn explain_fields(summary: &Value, fields: &[(&str, &str)], (keys, kills): (usize, Option<u32>)) {
    say("\nWhat happened");
    let show = |label: &str, value: &str| say(&format!("   {label:<34}{value}"));
    for (label, field) in fields {
        if let Some(value) = summary.get(field) {
            show(label, &in_words(value));
        }
    }
    show("keys compared", &keys.to_string());
    if let Some(kills) = kills {
        show("processes killed meanwhile", &kills.to_string());
    }
}

/// A value of the summary, for people.
fn in_words(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(in_words).collect::<Vec<_>>().join(", "),
        Value::Null | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

fn say(line: &str) {
    eprintln!("{line}");
}
