//! `cargo xtask crash-matrix`: kill real processes at every durable operation.

use anyhow::{Result, bail};

/// Options of `cargo xtask crash-matrix`.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Runs the crash matrix.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments {} = arguments;
    bail!("the crash matrix is not built yet")
}
