//! Single parts that have a bench of their own, run as `cargo bench` runs them: copies of a ledger,
//! gates over the largest fleet, and the log on etcd.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::bench::{Figure, say};
use crate::process;

/// A bench, and what is shown of it.
struct Single {
    /// Its name here.
    name: &'static str,
    package: &'static str,
    bench: &'static str,
    rows: &'static [Row],
}

/// One figure of a bench.
struct Row {
    what: &'static str,
    /// Names that the bench gives: of the figure and of its floor.
    found: &'static str,
    floor: Option<&'static str>,
    /// Milliseconds or microseconds.
    unit: Unit,
    target: Option<&'static str>,
    note: &'static str,
}

#[derive(Clone, Copy)]
enum Unit {
    Milliseconds,
    Microseconds,
}

/// What one bench found: nanoseconds, and bytes if it moves any.
type Found = BTreeMap<String, (f64, Option<f64>)>;

const COPY: &str = "copy/snapshot: copied, flushed, read back";
const PLAIN: &str = "copy/std::fs::copy, flushed";
const REFLINK: &str = "copy/reflink";

const SINGLES: [Single; 4] = [
    Single {
        name: "snapshot",
        package: "heirloom-ledger-store",
        bench: "snapshot",
        rows: &[
            Row {
                what: "snapshot of a ledger of 100,000 blocks",
                found: COPY,
                floor: Some(PLAIN),
                unit: Unit::Milliseconds,
                target: None,
                note: "copied, flushed, and read back; the floor is a plain copy, flushed",
            },
            Row {
                what: "the same by sharing blocks, where the file system can",
                found: REFLINK,
                floor: Some(PLAIN),
                unit: Unit::Milliseconds,
                target: None,
                note: "a reflink, which is not read back",
            },
        ],
    },
    Single {
        name: "gates",
        package: "heirloom-upgrade",
        bench: "gates",
        rows: &[
            Row {
                what: "is every one of 10,000 nodes done",
                found: "gates/all of 10000 done",
                floor: None,
                unit: Unit::Microseconds,
                target: None,
                note: "one evaluation of the gate over the folded log",
            },
            Row {
                what: "do the 129 services of the largest network agree",
                found: "gates/all of 129 agreed",
                floor: None,
                unit: Unit::Microseconds,
                target: None,
                note: "one evaluation of the gate: tips, configurations, public halves of keys",
            },
        ],
    },
    Single {
        name: "etcd",
        package: "heirloom-etcd",
        bench: "log",
        rows: &[
            Row {
                what: "append to a log on etcd",
                found: "append/log",
                floor: Some("append/floor: put"),
                unit: Unit::Milliseconds,
                target: None,
                note: "600 bytes, one member; the floor is etcd's own put of as many bytes",
            },
            Row {
                what: "from an append until a watcher knows",
                found: "watch/log",
                floor: Some("watch/floor: plain watch"),
                unit: Unit::Milliseconds,
                target: None,
                note: "the floor is a put and a plain watch of its key",
            },
        ],
    },
    Single {
        name: "evidence",
        package: "heirloom-attest",
        bench: "appraise",
        rows: &[
            full("SGX quote, in full", "appraise-sgx/full", "appraise-sgx/full-floor"),
            known("SGX quote, from memory", "appraise-sgx/cached", "appraise-sgx/cached-floor"),
            full("TDX quote, in full", "appraise-tdx/full", "appraise-tdx/full-floor"),
            known("TDX quote, from memory", "appraise-tdx/cached", "appraise-tdx/cached-floor"),
            full("SEV-SNP report, in full", "appraise-snp/full", "appraise-snp/full-floor"),
            known(
                "SEV-SNP report, from memory",
                "appraise-snp/cached",
                "appraise-snp/cached-floor",
            ),
            full("Nitro document, in full", "appraise-nitro/full", "appraise-nitro/full-floor"),
            known(
                "Nitro document, from memory",
                "appraise-nitro/cached",
                "appraise-nitro/cached-floor",
            ),
            full("TPM quote, in full", "appraise-tpm/full", "appraise-tpm/full-floor"),
            known("TPM quote, from memory", "appraise-tpm/cached", "appraise-tpm/cached-floor"),
            full("virtual TPM, in full", "appraise-vtpm/full", "appraise-vtpm/full-floor"),
            known("virtual TPM, from memory", "appraise-vtpm/cached", "appraise-vtpm/cached-floor"),
        ],
    },
];

/// Evidence of a machine that was never seen.
const fn full(what: &'static str, found: &'static str, floor: &'static str) -> Row {
    let note = "the floor is the bare signatures of its whole path";
    Row { what, found, floor: Some(floor), unit: Unit::Microseconds, target: None, note }
}

/// Evidence of a machine whose path of certificates is remembered.
const fn known(what: &'static str, found: &'static str, floor: &'static str) -> Row {
    let note = "the floor is the bare signatures that every evidence has anew";
    let target = Some("at most 1.11");
    Row { what, found, floor: Some(floor), unit: Unit::Microseconds, target, note }
}

impl Unit {
    fn of(self, nanoseconds: f64) -> f64 {
        match self {
            Self::Milliseconds => nanoseconds / 1e6,
            Self::Microseconds => nanoseconds / 1e3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
        }
    }
}

/// Runs one of the benches. None if there is none of this name.
pub(crate) fn measure(name: &str, scratch: &Path) -> Result<Option<Vec<Figure>>> {
    let Some(single) = SINGLES.iter().find(|single| single.name == name) else { return Ok(None) };
    say(&format!("Running the bench {} of {}.", single.bench, single.package));
    let home = scratch.join(single.name);
    let mut bench = process::cargo();
    bench.args(["bench", "--quiet", "--package", single.package, "--bench", single.bench]);
    // Its own table is shown to people; standard output is for results.
    let status = bench.env("CRITERION_HOME", &home).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "the bench {} failed ({status})", single.bench);
    let mut found = Found::new();
    if home.exists() {
        read(&home, &mut found)?;
    }
    Ok(Some(figures(single, &found)))
}

fn figures(single: &Single, found: &Found) -> Vec<Figure> {
    let mut figures = Vec::new();
    for Row { what, found: id, floor, unit, target, note } in single.rows {
        let Some((nanoseconds, bytes)) = found.get(*id) else {
            say(&format!("  left out, because this machine cannot: {what}"));
            continue;
        };
        let rate = bytes.map_or(String::new(), |bytes| {
            format!("; {:.0} MB at {:.0} MB/s", bytes / 1e6, bytes / nanoseconds * 1e3)
        });
        let floor = floor.and_then(|floor| found.get(floor)).map(|(floor, _)| unit.of(*floor));
        let value = unit.of(*nanoseconds);
        figures.push(Figure {
            name: single.name.to_owned(),
            what: (*what).to_owned(),
            unit: unit.name().to_owned(),
            found: value,
            floor,
            ratio: floor.map(|floor| value / floor),
            target: target.map(str::to_owned),
            note: format!("{note}{rate}"),
        });
    }
    figures
}

/// Reads what was found below a directory: the median of each, by its full name.
fn read(directory: &Path, found: &mut Found) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let (about, estimates) = (path.join("benchmark.json"), path.join("estimates.json"));
        if path.ends_with("new") && about.exists() && estimates.exists() {
            let about: Value = serde_json::from_slice(&fs::read(about)?)?;
            let estimates: Value = serde_json::from_slice(&fs::read(estimates)?)?;
            let id = about.get("full_id").and_then(Value::as_str).context("it has a name")?;
            let median = estimates.pointer("/median/point_estimate").and_then(Value::as_f64);
            let bytes = about.pointer("/throughput/Bytes").and_then(Value::as_f64);
            found.insert(id.to_owned(), (median.context("it has a median")?, bytes));
        } else {
            read(&path, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_stands_beside_its_floor_and_what_a_machine_cannot_is_left_out() {
        let snapshot = SINGLES.iter().find(|single| single.name == "snapshot").unwrap();
        let found = Found::from([
            (COPY.to_owned(), (30e6, Some(60e6))),
            (PLAIN.to_owned(), (20e6, Some(60e6))),
        ]);
        let figures = figures(snapshot, &found);
        let shown: Vec<_> = figures.iter().map(|it| (it.found, it.floor, it.ratio)).collect();
        assert_eq!(shown, [(30.0, Some(20.0), Some(1.5))]);
        assert!(figures.iter().all(|it| it.note.ends_with("60 MB at 2000 MB/s")));
    }

    #[test]
    fn medians_are_read_by_their_full_names() {
        let home = std::env::temp_dir().join(format!("heirloom-single-{}", std::process::id()));
        let new = home.join("append/log/new");
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("benchmark.json"), r#"{"full_id":"append/log","throughput":null}"#)
            .unwrap();
        fs::write(new.join("estimates.json"), r#"{"median":{"point_estimate":5.0}}"#).unwrap();
        let mut found = Found::new();
        read(&home, &mut found).unwrap();
        fs::remove_dir_all(&home).unwrap();
        assert_eq!(found, Found::from([("append/log".to_owned(), (5.0, None))]));
    }
}
