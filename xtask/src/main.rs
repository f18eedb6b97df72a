//! Setup, test, demo, bench, tidy and CI of this workspace: `cargo xtask --help`.
//!
//! Everything that CI does is a command here, so that it can be done on a laptop. Read in this
//! order: [`mod@test`] names the sections of a full test, [`tidy`] enforces the architecture,
//! [`setup`] installs what both need, [`process`] is how any of them starts another program.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "these commands talk to the person who runs them"
)]

mod lab;
mod process;
mod setup;
mod test;
mod tidy;

mod bench;
mod crash_matrix;
mod demo;
mod fuzz;
mod sim;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Tasks of the Heirloom workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// One task. The order is that of a newcomer's first day.
#[derive(Subcommand)]
enum Task {
    /// Install what the tests need: says what and why, and does nothing twice.
    Setup(setup::Arguments),
    /// Upgrade a real fleet under load, on this machine, and prove what was claimed.
    Demo(demo::Arguments),
    /// Everything that must hold before a change is accepted: setup, format, lints, tests,
    /// documentation, tidy, supply chain, simulation.
    #[command(visible_alias = "ci")]
    Test(test::Arguments),
    /// Check that the tree is still the architecture.
    Tidy(tidy::Arguments),
    /// Run the simulated fleet under faults, one run for each seed.
    Sim(sim::Arguments),
    /// Kill real processes at every durable operation, and say how each of them comes back.
    CrashMatrix(crash_matrix::Arguments),
    /// Fuzz the parsers of outside bytes, guided by coverage where there is a nightly compiler.
    Fuzz(fuzz::Arguments),
    /// Measure end to end, each figure beside its floor.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(task: Task) -> Result<()> {
    match task {
        Task::Setup(arguments) => setup::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Tidy(arguments) => tidy::run(&arguments),
        Task::Sim(arguments) => sim::run(&arguments),
        Task::CrashMatrix(arguments) => crash_matrix::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
