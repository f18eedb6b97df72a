//! How fast snapshots are read, verified and rewritten, and in how much memory.
//!
//! `cargo bench -p heirloom-snapshot --bench snapshot -- --contracts 20000` prints one JSON object:
//! each step alone, on one core and on all, with that many contracts and with ten times as many.
//! Each measurement is a process of its own, since the system only tells how much memory a process
//! ever had. Nothing that stays is written.

#[path = "../tests/files/world.rs"]
#[allow(
    clippy::unwrap_used,
    dead_code,
    reason = "it belongs to the tests, which use other parts of it"
)]
mod world;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;
use heirloom_canton::acs::{ActiveContract, FrameReader, write_frame};
use heirloom_canton::blob::FatContract;
use heirloom_model::participant::SnapshotHasher;
use heirloom_participant::map::PartyMap;
use heirloom_snapshot::check::{check_inverse, verify_after};
use heirloom_snapshot::rewrite::rewrite;
use heirloom_snapshot::run::{Change, Outputs, Run};
use heirloom_snapshot::scratch::Scratch;
use heirloom_snapshot::verify::verify;
use serde_json::{Value, json};
use world::World;

const CONTRACTS_DEFAULT: u64 = 20_000;
/// How much more the second input has.
const TIMES: u64 = 10;
/// What is read at once where bytes are only counted or hashed.
const CHUNK_BYTES: usize = 64 * 1024;

/// Steps that use one core by their nature, and steps that use as many as they are given.
const ALONE: [&str; 3] = ["gunzip", "sha256", "decode and encode"];
const ON_CORES: [&str; 4] = ["verify", "rewrite", "verify after", "invert"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => all(CONTRACTS_DEFAULT),
        ["--contracts", count] => all(count.parse()?),
        ["make", path, count] => write_large(&World::new(), Path::new(path), count.parse()?),
        ["measure", step, directory, workers] => {
            measure(step, Path::new(directory), workers.parse()?)
        }
        _ => bail!("usage: --contracts N"),
    }
}

fn all(contracts: u64) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let mut results = Vec::new();
    for count in [contracts, contracts.saturating_mul(TIMES)] {
        let directory = tempfile::tempdir()?;
        let source = directory.path().join("source.gz");
        let source = source.to_str().context("temporary directories have plain names")?;
        child(&["make", source, &count.to_string()])?;
        let at = directory.path().to_str().context("temporary directories have plain names")?;
        let mut steps: Vec<(&str, usize)> = ALONE.iter().map(|step| (*step, 1)).collect();
        for workers in [1, cores] {
            steps.extend(ON_CORES.iter().map(|step| (*step, workers)));
        }
        for (step, workers) in steps {
            let text = child(&["measure", step, at, &workers.to_string()])?;
            let mut result: Value = serde_json::from_str(&text)?;
            let rate = result["seconds"].as_f64().map(|seconds| as_f64(count) / seconds);
            result["contracts"] = json!(count);
            result["contracts_per_second"] = json!(rate.map(f64::round));
            results.push(result);
        }
    }
    let report = json!({
        "schema": "heirloom.bench.snapshot.v1", "cores": cores, "measurements": results,
    });
    writeln!(std::io::stdout(), "{report:#}")?;
    Ok(())
}

fn child(arguments: &[&str]) -> Result<String> {
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    if !output.status.success() {
        bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn measure(step: &str, directory: &Path, workers: usize) -> Result<()> {
    let source = directory.join("source.gz");
    let (time, bytes) = match step {
        "gunzip" => gunzip(&source)?,
        "sha256" => hash(&source)?,
        "decode and encode" => decode(&source)?,
        _ => operation(step, directory, workers)?,
    };
    let seconds = time.as_secs_f64();
    let result = json!({
        "step": step,
        "workers": workers,
        "bytes": bytes,
        "seconds": seconds,
        "megabytes_per_second": (as_f64(bytes) / 1e6 / seconds).round(),
        "peak_memory_kilobytes": peak_memory()?,
    });
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}

/// Writes a large snapshot without having it in memory. Each contract but the first refers to an
/// earlier one of its hundred.
fn write_large(world: &World, path: &Path, count: i64) -> Result<()> {
    let file = std::io::BufWriter::new(File::create(path)?);
    let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let mut first = None;
    for number in 0..count {
        let mut spec = world::Spec::new(number);
        if number % 100 == 0 {
            first = None;
        }
        spec.parents.extend(first.clone());
        let contract = world.contract(&spec);
        first.get_or_insert_with(|| contract.contract_id.clone());
        let mut framed = Vec::new();
        write_frame(&mut framed, &world::entry(&contract));
        gz.write_all(&framed)?;
    }
    gz.finish()?.into_inner()?.sync_all()?;
    Ok(())
}

fn open(source: &Path) -> Result<MultiGzDecoder<BufReader<File>>> {
    Ok(MultiGzDecoder::new(BufReader::with_capacity(CHUNK_BYTES, File::open(source)?)))
}

fn gunzip(source: &Path) -> Result<(Duration, u64)> {
    let start = Instant::now();
    let bytes = std::io::copy(&mut open(source)?, &mut std::io::sink())?;
    Ok((start.elapsed(), bytes))
}

/// The time of hashing alone, without that of decompression.
fn hash(source: &Path) -> Result<(Duration, u64)> {
    let (mut time, mut bytes) = (Duration::ZERO, 0);
    let mut hasher = SnapshotHasher::default();
    let (mut from, mut chunk) = (open(source)?, vec![0; CHUNK_BYTES]);
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok((time, bytes));
        }
        let start = Instant::now();
        hasher.update(&chunk[..count]);
        time += start.elapsed();
        bytes += u64::try_from(count)?;
    }
}

/// The time of reading contracts out of entries and writing them again, without decompression.
fn decode(source: &Path) -> Result<(Duration, u64)> {
    let mut time = Duration::ZERO;
    let mut frames = FrameReader::new(BufReader::with_capacity(CHUNK_BYTES, open(source)?));
    for frame in frames.by_ref() {
        let frame = frame?;
        let start = Instant::now();
        let entry = ActiveContract::decode(&frame)?;
        let contract = FatContract::decode(entry.blob())?;
        let same = contract.encode() == entry.blob();
        time += start.elapsed();
        if !same {
            bail!("a contract changed when it was read and written");
        }
    }
    Ok((time, frames.offset()))
}

fn operation(step: &str, directory: &Path, workers: usize) -> Result<(Duration, u64)> {
    let (world, scratch) = (World::new(), Scratch::new(directory));
    let mut run = Run::new(&world, &scratch);
    run.workers = NonZeroUsize::new(workers).context("one core at least")?;
    let outputs = Outputs {
        snapshot: directory.join("new.gz"),
        contract_map: directory.join("contracts"),
        report: directory.join("report"),
    };
    let mut pairs = Vec::new();
    for (old, new) in world::moves() {
        pairs.push((old.parse()?, new.parse()?));
    }
    let change = Change::new(PartyMap::from_moves(pairs)?, BTreeMap::new())?;
    let start = Instant::now();
    let verified = verify(&directory.join("source.gz"), &mut run)?;
    let bytes = verified.bytes();
    if step == "verify" {
        return Ok((start.elapsed(), bytes));
    }
    let start = Instant::now();
    let outcome = rewrite(&verified, &change, &outputs, &mut run)?;
    if step == "rewrite" {
        return Ok((start.elapsed(), bytes));
    }
    let start = Instant::now();
    let written = verify_after(&verified, &outcome, &change, &outputs, &mut run)?;
    if step == "verify after" {
        return Ok((start.elapsed(), bytes));
    }
    let start = Instant::now();
    check_inverse(&verified, &written, &change, &mut run)?;
    Ok((start.elapsed(), bytes))
}

/// The most memory that this process ever had, without what the system caches of files.
fn peak_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.context("the system tells how much memory a process had")?.parse()?)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
