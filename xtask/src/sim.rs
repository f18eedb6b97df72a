//! `cargo xtask sim`: the simulated fleet, one run for each seed.

use anyhow::Result;

use crate::process;

/// Options of `cargo xtask sim`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many runs.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The seed of the first run. A failed run prints the seed that repeats it.
    #[arg(long, default_value_t = 0)]
    first: u64,
}

impl Arguments {
    /// This many runs, from the first seed.
    pub(crate) fn seeds(seeds: u64) -> Self {
        Self { seeds, first: 0 }
    }
}

/// Runs the simulator as its own process, in the profile that the tests have built already.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    process::run(
        process::cargo()
            .args(["run", "--quiet", "--package", "heirloom-sim", "--"])
            .args(["--seeds", &arguments.seeds.to_string()])
            .args(["--first", &arguments.first.to_string()]),
    )
}
