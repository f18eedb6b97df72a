//! `cargo xtask sim`: the simulated fleet, one run for each seed.

use std::num::NonZero;

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
    /// Only this scenario; otherwise seeds take turns.
    #[arg(long)]
    scenario: Option<String>,
}

impl Arguments {
    /// This many runs, from the first seed.
    pub(crate) fn seeds(seeds: u64) -> Self {
        Self { seeds, first: 0, scenario: None }
    }
}

/// Runs the simulator as its own process, in the profile that the tests have built already, on
/// all processors.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut command = process::cargo();
    command
        .args(["run", "--quiet", "--package", "heirloom-sim", "--"])
        .args(["--seeds", &arguments.seeds.to_string()])
        .args(["--first", &arguments.first.to_string()])
        .args(["--threads", &threads.to_string()]);
    if let Some(scenario) = &arguments.scenario {
        command.args(["--scenario", scenario]);
    }
    process::run(&mut command)
}
