//! `cargo xtask demo`: upgrade a real fleet under load, and prove what was claimed.

use anyhow::{Result, bail};

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kill random processes all along: agents, keepers, the registry.
    #[arg(long)]
    kill: bool,
    /// Print one line of JSON at the end, and nothing else, to standard output.
    #[arg(long)]
    json: bool,
}

/// Runs the demo.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { kill: _, json: _ } = arguments;
    bail!("the demo is not built yet")
}
