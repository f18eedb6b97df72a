//! `cargo xtask fuzz`: parsers of outside bytes, guided by coverage.
//!
//! What targets do, and their tests over seeded mutations, need nothing but a stable compiler
//! (`crates/test/fuzz`). Guiding them by coverage needs a nightly one for its instrumentation; no
//! tool of cargo's is needed beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these targets; otherwise all, one after the other.
    targets: Vec<String>,
    /// How long for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl Arguments {
    /// All targets, for a moment each.
    pub(crate) fn smoke() -> Self {
        Self { targets: Vec::new(), seconds: 1 }
    }
}

/// Fuzzes, or says what is missing for it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !has_nightly() {
        println!("fuzzing guided by coverage needs a nightly compiler, which is not installed");
        println!("(`rustup toolchain install nightly`); here are seeded mutations instead");
        return process::run(process::cargo().args(["test", "--package", "heirloom-fuzz"]));
    }
    let harness = build()?;
    let all = process::read(&mut Command::new(&harness))?;
    let all: Vec<&str> = all.lines().collect();
    if let Some(unknown) = arguments.targets.iter().find(|name| !all.contains(&name.as_str())) {
        bail!("there is no target {unknown:?}; there are {all:?}");
    }
    let is_chosen = |name: &&&str| {
        arguments.targets.is_empty() || arguments.targets.iter().any(|chosen| chosen == **name)
    };
    let mut broken = Vec::new();
    for name in all.iter().filter(is_chosen) {
        println!("\n-- {name}, {} s --", arguments.seconds);
        if let Err(error) = fuzz(&harness, name, arguments.seconds) {
            println!("{name}: {error:#}");
            broken.push(*name);
        }
    }
    if broken.is_empty() { Ok(()) } else { bail!("found something: {broken:?}") }
}

fn has_nightly() -> bool {
    let toolchains = process::read(Command::new("rustup").args(["toolchain", "list"]));
    toolchains.is_ok_and(|list| list.lines().any(|line| line.starts_with("nightly")))
}

/// Builds all targets as one program, whose every branch counts how often it is taken.
fn build() -> Result<PathBuf> {
    let target = folder();
    let mut cargo = Command::new("rustup");
    cargo.args(["run", "nightly", "cargo", "build", "--target", TARGET]);
    cargo.arg("--manifest-path").arg(process::workspace_root().join(MANIFEST));
    cargo.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", FLAGS.join(" "));
    // Otherwise the nightly cargo would start the stable compiler that started us.
    cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC").env_remove("CARGO");
    process::run(&mut cargo)?;
    Ok(target.join(TARGET).join("debug/heirloom-fuzz-coverage"))
}

/// Fuzzes one target. What it learns is kept; what breaks it is named by libFuzzer.
fn fuzz(harness: &Path, name: &str, seconds: u64) -> Result<()> {
    let corpus = made(&folder().join("corpus").join(name))?;
    let artifacts = made(&folder().join("artifacts").join(name))?;
    let mut command = Command::new(harness);
    command.env("HEIRLOOM_FUZZ_TARGET", name).env("HEIRLOOM_FUZZ_STARTS", &corpus);
    command.arg(&corpus).arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args(LIMITS);
    process::run(&mut command)
}

fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| process::workspace_root().join("target"), PathBuf::from).join("fuzz")
}

fn made(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.to_owned())
}

const MANIFEST: &str = "crates/test/fuzz/coverage/Cargo.toml";
/// Named, so that programs which run while it is built are not instrumented.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// As libFuzzer wants its programs: counters of edges, comparisons and the depth of the stack.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];
/// No input is longer than evidence, takes longer than ten seconds or more than 2 GB.
const LIMITS: [&str; 4] =
    ["-max_len=131072", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_in_this_tree() {
        assert!(process::workspace_root().join(MANIFEST).exists());
    }
}
