//! How fast snapshots of contracts are verified and rewritten, beside what reading them takes.
//!
//! The bench of `heirloom-snapshot` measures each step in a process of its own, with one number of
//! contracts and with ten times as many: what a step takes must grow so, and its memory only until what it sorts goes to files.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::bench::{Figure, say};
use crate::process;

/// The name of these figures.
pub(crate) const NAME: &str = "contracts";

/// Parts that nobody who verifies can do without: to unpack, to hash, to read and write again.
const PARTS: [&str; 3] = ["gunzip", "sha256", "decode and encode"];
/// What is done with a whole snapshot, as the bench calls it, and in words.
const STEPS: [(&str, &str); 4] = [
    ("verify", "a contract verified"),
    ("rewrite", "a contract rewritten"),
    ("verify after", "a contract verified from the written bytes"),
    ("invert", "a contract rewritten back and compared"),
];

/// What the bench prints.
#[derive(Deserialize)]
struct Report {
    cores: usize,
    measurements: Vec<Measured>,
}

/// One step over one snapshot.
#[derive(Clone, Deserialize)]
struct Measured {
    step: String,
    workers: usize,
    contracts: f64,
    contracts_per_second: f64,
    megabytes_per_second: f64,
    seconds: f64,
    peak_memory_kilobytes: f64,
}

/// Runs the bench, whose files lie below `scratch`, and reads what it found.
pub(crate) fn measure(scratch: &Path) -> Result<Vec<Figure>> {
    say("Running the bench snapshot of heirloom-snapshot.");
    fs::create_dir_all(scratch)?;
    let mut bench = process::cargo();
    bench.args(["bench", "--quiet", "--package", "heirloom-snapshot", "--bench", "snapshot"]);
    let text = process::read(bench.env("TMPDIR", scratch))?;
    figures(&serde_json::from_str(&text).context("the figures of snapshots are not understood")?)
}

fn figures(report: &Report) -> Result<Vec<Figure>> {
    let sizes = || report.measurements.iter().map(|it| it.contracts);
    let (small, large) = (sizes().fold(f64::MAX, f64::min), sizes().fold(0.0, f64::max));
    ensure!(small < large, "the bench measures two sizes");
    let mut figures = Vec::new();
    let mut floor = 0.0;
    for part in PARTS {
        let found = report.find(part, 1, large)?;
        floor += found.each();
        figures.push(figure(&format!("a contract, {part} alone"), found, None));
    }
    let unpacked = report.find(PARTS[0], 1, large)?.each();
    for (step, words) in STEPS {
        let found = report.find(step, 1, large)?;
        figures.push(figure(&format!("{words}, one core"), found, Some(floor)));
        if report.cores > 1 {
            let found = report.find(step, report.cores, large)?;
            // One stream is unpacked by one core, whatever the others do.
            let floor = f64::max(unpacked, floor / f64::from(u32::try_from(report.cores)?));
            let what = format!("{words}, {} cores", report.cores);
            figures.push(figure(&what, found, Some(floor)));
        }
    }
    for (step, words) in STEPS {
        let workers = report.cores;
        figures.push(memory(
            words,
            report.find(step, workers, small)?,
            report.find(step, workers, large)?,
        ));
    }
    Ok(figures)
}

impl Report {
    fn find(&self, step: &str, workers: usize, contracts: f64) -> Result<&Measured> {
        let is_it = |it: &&Measured| {
            it.step == step && it.workers == workers && (it.contracts - contracts).abs() < 0.5
        };
        let found = self.measurements.iter().find(is_it);
        found.with_context(|| format!("the bench did not measure {step} with {workers} workers"))
    }
}

impl Measured {
    /// Microseconds for each contract.
    fn each(&self) -> f64 {
        self.seconds * 1e6 / self.contracts
    }
}

fn figure(what: &str, found: &Measured, floor: Option<f64>) -> Figure {
    let Measured { contracts, contracts_per_second, megabytes_per_second, .. } = found;
    let note = format!(
        "{contracts:.0} contracts; {contracts_per_second:.0} a second, {megabytes_per_second:.0} \
         MB/s of the unpacked snapshot{}",
        floor.map_or("", |_| "; the floor: unpacked, hashed, read and written again"),
    );
    Figure {
        name: NAME.to_owned(),
        what: what.to_owned(),
        unit: "us".to_owned(),
        found: found.each(),
        floor,
        ratio: floor.map(|floor| found.each() / floor),
        target: None,
        note,
    }
}

/// The most memory with many contracts, beside that with a tenth of them.
fn memory(words: &str, small: &Measured, large: &Measured) -> Figure {
    let (tenth, all) = (small.peak_memory_kilobytes, large.peak_memory_kilobytes);
    Figure {
        name: NAME.to_owned(),
        what: format!("memory at most: {words}"),
        unit: "MB".to_owned(),
        found: all / 1e3,
        floor: Some(tenth / 1e3),
        ratio: Some(all / tenth),
        target: None,
        note: format!(
            "{:.0} contracts; the floor: the same with {:.0}; it grows until three sorters of 32 MB \
             each are full",
            large.contracts, small.contracts
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(step: &str, workers: usize, contracts: f64, seconds: f64) -> Measured {
        Measured {
            step: step.to_owned(),
            workers,
            contracts,
            contracts_per_second: contracts / seconds,
            megabytes_per_second: 100.0,
            seconds,
            peak_memory_kilobytes: 20_000.0 + contracts,
        }
    }

    fn report() -> Report {
        let mut measurements = Vec::new();
        for contracts in [100.0, 1_000.0] {
            for part in PARTS {
                measurements.push(measured(part, 1, contracts, contracts / 1e6));
            }
            for (step, _) in STEPS {
                measurements.push(measured(step, 1, contracts, contracts * 6.0 / 1e6));
                measurements.push(measured(step, 4, contracts, contracts * 2.0 / 1e6));
            }
        }
        Report { cores: 4, measurements }
    }

    #[test]
    fn each_step_stands_beside_what_its_parts_take() {
        let figures = figures(&report()).unwrap();
        let find = |what: &str| {
            let found = figures.iter().find(|it| it.what == what).expect(what);
            (found.found, found.floor, found.ratio)
        };
        assert_eq!(find("a contract, gunzip alone"), (1.0, None, None));
        assert_eq!(find("a contract verified, one core"), (6.0, Some(3.0), Some(2.0)));
        // Three microseconds on four cores, but unpacking takes one of them for itself.
        assert_eq!(find("a contract verified, 4 cores"), (2.0, Some(1.0), Some(2.0)));
        let (large, small, _) = find("memory at most: a contract verified");
        assert_eq!((large, small), (21.0, Some(20.1)));
    }

    #[test]
    fn a_step_that_was_not_measured_is_missed() {
        let mut report = report();
        report.measurements.retain(|it| it.step != "invert");
        assert!(figures(&report).is_err());
        assert!(figures(&Report { cores: 4, measurements: Vec::new() }).is_err());
    }
}
