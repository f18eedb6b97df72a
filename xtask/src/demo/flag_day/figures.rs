//! What the closed window takes at least: process starts, disk, and tests, measured in the same
//! run on the same machine.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::lab::network::Code;
use crate::lab::{Lab, service};

/// The parts of the floor, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    /// Starting the service of every node, all at once.
    starts: f64,
    /// Copying every ledger twice with `cp`: the snapshot, and the copy that is migrated.
    copies: f64,
    /// The tests of the terms, as the slowest node carried them out.
    tests: f64,
    /// Bytes of one ledger.
    bytes: u64,
}

impl Floor {
    pub(super) fn total(&self) -> f64 {
        self.starts + self.copies + self.tests
    }

    pub(super) fn json(&self) -> Value {
        let rounded = |number: f64| (number * 10.0).round() / 10.0;
        json!({
            "process_starts_ms": rounded(self.starts),
            "two_copies_of_every_ledger_ms": rounded(self.copies),
            "tests_ms": rounded(self.tests),
            "ledger_bytes": self.bytes,
        })
    }
}

/// Measures it, after the event, with the same ledgers and under the same load.
pub(super) fn floor(lab: &Lab, code: &Code) -> Result<Floor> {
    let (copies, bytes) = copies(lab)?;
    Ok(Floor { starts: starts(lab, code)?, copies, tests: tests(lab), bytes })
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1_000.0
}

/// Every node's ledger, twice, with `cp` and flushed: what the disk needs for it.
fn copies(lab: &Lab) -> Result<(f64, u64)> {
    let source = lab.path("ledger/data");
    let target = lab.path("floor");
    fs::create_dir(&target)?;
    let begun = Instant::now();
    for index in 0..lab.nodes.len() * 2 {
        service::copy(&source, &target.join(index.to_string()))?;
    }
    crate::process::run(std::process::Command::new("sync").arg("-f").arg(&target))?;
    let took = millis(begun);
    fs::remove_dir_all(&target)?;
    Ok((took, size(&source)?))
}

fn size(directory: &std::path::Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sum += size(&entry.path())?;
        } else if kind.is_file() {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}

/// One more service on every host, all launched at once, until each answers.
fn starts(lab: &Lab, code: &Code) -> Result<f64> {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = lab
            .nodes
            .iter()
            .map(|node| scope.spawn(|| crate::lab::start::service_seconds(lab, node, code)))
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a launch panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(millis(begun))
}

/// The longest that a node's tests took, by its own record of the event; 0 if none were made.
fn tests(lab: &Lab) -> f64 {
    let of_node = |node: &crate::lab::Node| {
        let path = lab.service_dir(node).join("events.jsonl");
        let text = fs::read_to_string(path).context("no events").unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let tests =
            events.filter(|event| event.get("step").and_then(Value::as_str) == Some("exercise"));
        tests.filter_map(|event| event.get("ms").and_then(Value::as_f64)).reduce(f64::max)
    };
    lab.nodes.iter().filter_map(of_node).reduce(f64::max).unwrap_or(0.0)
}
