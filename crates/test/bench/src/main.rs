//! End-to-end figures, each beside the floor that was measured in the same run.
//!
//! One line of JSON for each figure goes to standard output; `cargo xtask bench` shows them as a
//! table. Nothing here passes or fails: a slow machine is not a wrong one.
//!
//! Read in this order:
//!
//! * [`figure`]: what a figure is.
//! * [`network`], [`node`]: a network in this process, with real sockets, files and flushes.
//! * [`replication`], [`requests`], [`keyring`], [`planning`]: the figures.
//! * [`disk`], [`sample`]: bare writes, percentiles, time of a processor.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

mod disk;
mod figure;
mod keyring;
mod network;
mod node;
mod planning;
mod replication;
mod requests;
mod sample;

use crate::figure::Figure;

/// Measures a part of Heirloom from end to end.
#[derive(Parser)]
struct Arguments {
    /// Directory for sealed files, on the disk that is to be measured. It must exist.
    #[arg(long)]
    directory: PathBuf,
    /// Only these, of: replication, requests, keyring, planning.
    #[arg(long)]
    only: Vec<String>,
    /// Run the keeper whose processor time is counted, with this socket for its agent.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
}

/// Measures something in a directory of its own, and reports each figure as it comes.
type Measure = fn(&std::path::Path, &mut dyn FnMut(&Figure));

const MEASURES: [(&str, Measure); 4] = [
    ("planning", planning::measure),
    ("replication", replication::measure),
    ("requests", requests::measure),
    ("keyring", keyring::measure),
];

fn main() -> ExitCode {
    let Arguments { directory, only, serve } = Arguments::parse();
    if let Some(admin) = serve {
        requests::serve(&directory, &admin);
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = only.iter().find(|name| MEASURES.iter().all(|(known, _)| known != name))
    {
        complain(&format!("error: there is no measurement {unknown}"));
        return ExitCode::from(2);
    }
    let chosen =
        MEASURES.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|it| it == name));
    for (_, measure) in chosen {
        let own = tempfile::tempdir_in(&directory).expect("the directory can be written");
        measure(own.path(), &mut figure::print);
    }
    ExitCode::SUCCESS
}

fn complain(line: &str) {
    use std::io::Write as _;
    // Whoever closed standard error does not want to hear it.
    writeln!(std::io::stderr(), "{line}").ok();
}
