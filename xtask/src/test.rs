//! `cargo xtask test`: everything that must hold before a change is accepted.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::{self, cargo};
use crate::{demo, fuzz, setup, sim, tidy};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many simulated runs follow the tests; 0 for none.
    #[arg(long, default_value_t = 360)]
    seeds: u64,
    /// Run only the sections with these names.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// One thing that must hold.
struct Section {
    name: &'static str,
    run: fn(&Arguments) -> Result<()>,
}

/// In the order in which mistakes are cheap to find.
const SECTIONS: &[Section] = &[
    Section { name: "setup", run: |_| setup::required() },
    Section { name: "format", run: |_| process::run(cargo().args(["fmt", "--all", "--check"])) },
    Section { name: "tidy", run: |_| tidy::check() },
    Section { name: "lints", run: |_| lints() },
    Section { name: "tests", run: |_| tests() },
    Section { name: "documentation", run: |_| documentation() },
    Section { name: "supply chain", run: |_| supply_chain() },
    Section { name: "oracles", run: |_| oracles() },
    Section { name: "fuzz", run: |_| fuzz::run(&fuzz::Arguments::smoke()) },
    Section { name: "fleet", run: |_| demo::check() },
    Section { name: "simulation", run: |arguments| simulation(arguments.seeds) },
];

/// Runs every section, even after one failed, and fails if one did.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let sections = chosen(&arguments.only)?;
    let mut summary = Vec::new();
    for section in sections {
        println!("\n== {} ==", section.name);
        let start = Instant::now();
        let result = (section.run)(arguments);
        if let Err(error) = &result {
            println!("{} failed: {error:#}", section.name);
        }
        summary.push((section.name, result.is_ok(), start.elapsed()));
    }
    print_summary(&summary)
}

fn chosen(only: &[String]) -> Result<Vec<&'static Section>> {
    if let Some(unknown) = only.iter().find(|name| !SECTIONS.iter().any(|s| s.name == **name)) {
        let names: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
        bail!("there is no section {unknown:?}; there are {names:?}");
    }
    let is_chosen =
        |section: &&Section| only.is_empty() || only.iter().any(|name| name == section.name);
    Ok(SECTIONS.iter().filter(is_chosen).collect())
}

fn print_summary(summary: &[(&str, bool, Duration)]) -> Result<()> {
    println!("\n== summary ==");
    for (name, passed, elapsed) in summary {
        let outcome = if *passed { "passed" } else { "FAILED" };
        println!("{outcome}  {name} ({:.1} s)", elapsed.as_secs_f64());
    }
    let failed = summary.iter().filter(|(_, passed, _)| !passed).count();
    if failed > 0 {
        bail!("{failed} of {} sections failed", summary.len());
    }
    Ok(())
}

fn lints() -> Result<()> {
    process::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn tests() -> Result<()> {
    // Setup has just installed what they need: a test that skips for want of it is an error.
    process::run(cargo().args(["test", "--workspace", "--no-fail-fast"]).env("CI", "true"))
}

/// Verdicts of our verifiers beside other people's. They stand in a workspace of their own, because
/// of what they bring with them.
fn oracles() -> Result<()> {
    let folder = process::workspace_root().join("crates/test/oracle");
    process::run(cargo().args(["test", "--locked"]).current_dir(folder))
}

fn documentation() -> Result<()> {
    process::run(
        cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Asks cargo-deny, if it is here. Tidy has asked the same about licences, bans and sources.
fn supply_chain() -> Result<()> {
    let Some(deny) = process::find("cargo-deny") else {
        println!("cargo-deny is not installed (`cargo xtask setup --tools` does it);");
        println!("tidy has checked licences, bans and sources; nobody has checked advisories");
        return Ok(());
    };
    let mut command = std::process::Command::new(deny);
    command.current_dir(process::workspace_root()).args(["check", "bans", "licenses", "sources"]);
    if has_advisory_database() {
        command.arg("advisories");
    } else {
        println!("advisories are not checked: there is no database (`cargo deny fetch db`)");
    }
    process::run(&mut command)
}

fn has_advisory_database() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let home =
        home.or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    home.and_then(|home| std::fs::read_dir(home.join("advisory-dbs")).ok())
        .is_some_and(|mut entries| entries.next().is_some())
}

fn simulation(seeds: u64) -> Result<()> {
    if seeds == 0 {
        println!("no simulation was asked for");
        return Ok(());
    }
    sim::run(&sim::Arguments::seeds(seeds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_section_fails_the_test() {
        let second = Duration::from_secs(1);
        assert!(print_summary(&[("a", true, second), ("b", true, second)]).is_ok());
        let error = print_summary(&[("a", true, second), ("b", false, second)]).unwrap_err();
        assert_eq!(error.to_string(), "1 of 2 sections failed");
    }

    #[test]
    fn sections_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), SECTIONS.len());
        let tidy = chosen(&["tidy".to_owned()]).unwrap();
        assert_eq!(tidy.iter().map(|section| section.name).collect::<Vec<_>>(), ["tidy"]);
        assert!(chosen(&["tidiness".to_owned()]).is_err());
    }
}
