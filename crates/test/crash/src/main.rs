//! Runs a real program under ptrace, and kills it, or what it launches, at every durable
//! operation: once before the system begins it, once after the system has done it.
//!
//! What is killed is the program that ships: there is no hook in it, and no fault in the file
//! system. A process that is killed leaves exactly the files that it had changed so far.
//!
//! Not here: what a power failure does to data that was written and not flushed. The simulator
//! and the store's tests do that.
//!
//! Read in this order: [`operation`] says what counts, [`selection`] where to kill, [`tracer`]
//! does it, [`record`] writes down what happened.
#![expect(clippy::print_stderr, reason = "a program that talks to the person who runs it")]

mod operation;
mod record;
mod selection;
mod tracer;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};

use crate::record::Log;
use crate::selection::{Role, Selection};
use crate::tracer::Tracer;

/// Kill a program, or what it launches, at every durable operation.
#[derive(Debug, clap::Parser)]
#[command(name = "heirloom-crash")]
enum Arguments {
    /// Run a program and kill again and again; start it again when it was killed.
    Run(Run),
    /// How `run` starts the program: waits to be traced, then becomes it.
    #[command(hide = true)]
    Begin {
        /// Program and arguments, behind `--`.
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
}

/// What to run and what to kill.
#[derive(Debug, clap::Args)]
struct Run {
    /// The program itself is the agent, or what it launches are keepers.
    #[arg(long)]
    role: Role,
    /// Only operations below this directory count.
    #[arg(long)]
    within: PathBuf,
    /// The journal of the node's agent: its last record is the stage of an operation. Without it
    /// the stage is how many operations came before in the same life.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Where events go, one JSON object per line, appended.
    #[arg(long)]
    log: PathBuf,
    /// The most kills; more operations than that are a mistake of whoever asks.
    #[arg(long, default_value_t = 1_000)]
    kills_max: usize,
    /// Program and arguments, behind `--`.
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse() {
        Arguments::Run(run) => trace(&run),
        Arguments::Begin { program } => begin(&program),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn trace(run: &Run) -> Result<()> {
    let within = std::path::absolute(&run.within)?;
    let log = Log::open(&run.log, run.journal.as_deref())?;
    let selection = Selection::new(run.kills_max);
    Tracer::new(run.role, within, selection, log).run(&run.program)
}

/// Becomes the program, once somebody traces this process.
fn begin(program: &[String]) -> Result<()> {
    ptrace::traceme().context("nobody may trace here")?;
    raise(Signal::SIGSTOP)?;
    let (name, arguments) = program.split_first().context("there is no program")?;
    Err(Command::new(name).args(arguments).exec()).with_context(|| format!("cannot start {name}"))
}
