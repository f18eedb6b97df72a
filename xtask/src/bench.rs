//! `cargo xtask bench`: end to end figures, each beside its floor.
//!
//! Figures of parts that run in one process come from `heirloom-bench`, built as it would be
//! shipped; [`upgrade`] and [`flag_day`] are real fleets, and [`single`] and [`contracts`] run
//! benches of packages. Nothing passes or fails here: what a figure means depends
//! on the machine, and the floor says what the machine can do.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::process;

mod contracts;
mod flag_day;
mod single;
mod table;
mod upgrade;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print one JSON object, and nothing else, to standard output.
    #[arg(long)]
    json: bool,
    /// Measure only this; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = NAMES)]
    only: Vec<String>,
}

/// What can be measured, in this order.
const NAMES: [&str; 11] = [
    "planning",
    "replication",
    "requests",
    "keyring",
    UPGRADE,
    FLAG_DAY,
    "snapshot",
    contracts::NAME,
    "gates",
    "etcd",
    "evidence",
];
/// Those that the harness measures in one process.
const IN_PROCESS: [&str; 4] = ["planning", "replication", "requests", "keyring"];
const UPGRADE: &str = "upgrade";
const FLAG_DAY: &str = "flag-day";

/// One measured figure, and what it is compared with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Figure {
    /// The measurement that it is a part of.
    pub(crate) name: String,
    /// What was measured.
    pub(crate) what: String,
    /// Its unit.
    pub(crate) unit: String,
    /// What was found.
    #[serde(rename = "figure")]
    pub(crate) found: f64,
    /// What the same machine needs at least, measured in the same run.
    pub(crate) floor: Option<f64>,
    /// How many times the floor it takes.
    pub(crate) ratio: Option<f64>,
    /// What was hoped for.
    pub(crate) target: Option<String>,
    /// What a reader must know about it.
    pub(crate) note: String,
}

/// Runs the benchmark.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let chosen: BTreeSet<&str> = NAMES
        .into_iter()
        .filter(|name| arguments.only.is_empty() || arguments.only.iter().any(|it| it == name))
        .collect();
    let in_process: Vec<&str> =
        IN_PROCESS.into_iter().filter(|name| chosen.contains(name)).collect();
    let mut figures = Vec::new();
    if !in_process.is_empty() {
        figures = measure_in_process(&in_process)?;
    }
    if chosen.contains(UPGRADE) {
        figures.extend(upgrade::measure()?);
    }
    if chosen.contains(FLAG_DAY) {
        figures.push(flag_day::measure()?);
    }
    figures.extend(measure_singles(&chosen)?);
    let machine = machine();
    if arguments.json {
        let report = json!({
            "schema": "heirloom.bench.v1",
            "machine": machine,
            "figures": figures,
        });
        println!("{report}");
    } else {
        println!("{machine}\n\n{}", table::show(&figures));
    }
    Ok(())
}

/// Runs the chosen benches of packages.
fn measure_singles(chosen: &BTreeSet<&str>) -> Result<Vec<Figure>> {
    let scratch = target_directory().join(format!("bench-singles-{}", std::process::id()));
    let mut figures = Vec::new();
    for name in NAMES.iter().filter(|name| chosen.contains(**name)) {
        figures.extend(single::measure(name, &scratch)?.into_iter().flatten());
        if *name == contracts::NAME {
            figures.extend(contracts::measure(&scratch)?);
        }
    }
    if scratch.exists() {
        fs::remove_dir_all(&scratch).context("what benches wrote cannot be removed")?;
    }
    Ok(figures)
}

/// Builds the harness, runs it on the disk of the build products, and reads its figures.
fn measure_in_process(names: &[&str]) -> Result<Vec<Figure>> {
    say("Building the measured parts as they would be shipped (minutes on the first run).");
    let mut build = process::cargo();
    build.args(["build", "--release", "--package", "heirloom-bench"]);
    // Standard output is for results.
    let built = build.stdout(Stdio::null()).status().context("cannot start cargo")?;
    ensure!(built.success(), "the measured parts do not build ({built})");
    let target = target_directory();
    let scratch = target.join(format!("bench-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let mut harness = Command::new(target.join("release/heirloom-bench"));
    harness.arg("--directory").arg(&scratch);
    for name in names {
        harness.args(["--only", name]);
    }
    let figures = read_figures(&mut harness, &scratch)?;
    fs::remove_dir_all(&scratch).context("the files of the measurement cannot be removed")?;
    Ok(figures)
}

/// Runs the harness, and shows each figure when it comes. What keepers say goes to a file.
fn read_figures(harness: &mut Command, scratch: &Path) -> Result<Vec<Figure>> {
    let log = scratch.join("keepers.log");
    harness.stdout(Stdio::piped()).stderr(fs::File::create(&log)?);
    let mut child = harness.spawn().context("cannot start the measured parts")?;
    let out = child.stdout.take().context("the harness has an output")?;
    let mut figures = Vec::new();
    for line in BufReader::new(out).lines() {
        let figure: Figure =
            serde_json::from_str(&line?).context("a figure of the harness is not understood")?;
        say(&format!("  measured: {}", figure.what));
        figures.push(figure);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("the measurement failed ({status}); look into {}", log.display());
    }
    Ok(figures)
}

fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| process::workspace_root().join("target"), PathBuf::from)
}

/// What the figures were measured on, in one line.
fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let described = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = described
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    format!("{processors} processors, {model}")
}

fn say(line: &str) {
    eprintln!("{line}");
}
