//! LocalStack's imitation of AWS KMS, for the conformance suite of custodians.
//!
//! It is a Python program, so it gets an environment of its own in the cache folder. It runs on
//! the loopback interface only, and needs no account and no network once it is there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Every package in its version: an imitation that changes is no judge.
const REQUIREMENTS: &str = include_str!("../../localstack-requirements.txt");
/// Written last: what was installed.
const RECEIPT: &str = "installed.txt";
const REASON: &str = "AWS KMS without AWS; the suite of custodians says aloud if it skips it";

/// Whether it is there in the right versions.
pub(super) fn is_present() -> bool {
    let found = fs::read_to_string(folder().join(RECEIPT)).is_ok_and(|text| text == REQUIREMENTS);
    if found {
        println!("present  localstack ({})", folder().display());
    } else {
        println!("missing  localstack: {REASON}");
    }
    found
}

/// Installs it, over what an earlier attempt left.
pub(super) fn install() -> Result<()> {
    let folder = folder();
    println!("installing LocalStack into {}, which takes a minute", folder.display());
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let requirements = process::workspace_root().join("xtask/localstack-requirements.txt");
    process::run(
        Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .arg("--requirement")
            .arg(requirements),
    )?;
    fs::write(folder.join(RECEIPT), REQUIREMENTS).context("the receipt of LocalStack")
}

/// Where the suite looks for it.
fn folder() -> PathBuf {
    process::cache_dir().join("localstack")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_one_version() {
        let lines = REQUIREMENTS.lines().filter(|line| !line.starts_with('#'));
        assert!(lines.clone().all(|line| line.split("==").count() == 2));
        assert!(lines.into_iter().any(|line| line.starts_with("localstack-core==")));
    }
}
