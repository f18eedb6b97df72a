//! `cargo xtask bench`: end to end figures, each beside its floor.

use anyhow::{Result, bail};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Runs the benchmark.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments {} = arguments;
    bail!("the benchmark is not built yet")
}
