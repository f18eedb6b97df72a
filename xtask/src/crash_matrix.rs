//! `cargo xtask crash-matrix`: kill real processes at every durable operation.
//!
//! A real fleet lives through its first keys, an upgrade for each wave, and a plan that is called
//! off. A host with an exclusive domain hands over, and begins to and is called off. In each of
//! these phases some processes run under the supervisor `heirloom-crash`, which
//! kills them with SIGKILL at each of their durable operations: once before the system begins it,
//! once after the system has done it. Whoever was killed is started again, and the phase must come
//! to the same end as if nothing had happened.
//!
//! Read in this order:
//!
//! * [`phase`]: what happens to the fleet meanwhile.
//! * [`events`]: what supervisors write down.
//! * [`table`]: what came of each kill.
//! * [`vault`]: no sealed generation ever vanishes.

mod events;
mod phase;
mod table;
mod vault;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::crash_matrix::phase::Phase;
use crate::crash_matrix::table::Table;
use crate::crash_matrix::vault::Vault;
use crate::lab::network::Shape;
use crate::lab::{self, Lab, SharedLab};

/// Options of `cargo xtask crash-matrix`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
    /// Only phases whose title contains this; the first keys are always made.
    #[arg(long)]
    only: Option<String>,
    /// Keep the fleet's files, to look at them afterwards.
    #[arg(long)]
    keep: bool,
}

impl Arguments {
    fn plays(&self, phase: Phase) -> bool {
        self.only.as_ref().is_none_or(|only| phase.makes_keys() || phase.title().contains(only))
    }
}

/// Runs the crash matrix.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    say("Building the fleet's programs (minutes on the first run, then seconds).");
    lab::build_with(&["heirloom-crash"])?;
    let begun = Instant::now();
    let mut table = Table::default();
    let mut directories = Vec::new();
    let mut played = Ok(());
    for (shape, nodes, phases) in [
        // Two waves of two nodes.
        (Shape::REPLICATED, 4, Phase::ROLLING),
        (Shape::EXCLUSIVE, 1, Phase::HANDOVER),
        (Shape::EXCLUSIVE, 2, Phase::MOVE),
    ] {
        let chosen = phases.iter().filter(|phase| arguments.plays(**phase)).copied();
        let phases: Vec<Phase> = chosen.collect();
        let keys_only = phases.iter().all(|phase| phase.makes_keys());
        if keys_only || played.is_err() {
            continue;
        }
        let lab = Arc::new(Lab::new(&format!("crash-{nodes}"), nodes, say)?);
        let directory = lab.directory.clone();
        played = play(&lab, shape, &phases, &mut table)
            .with_context(|| format!("look into {}", directory.display()));
        directories.push(directory);
    }
    if arguments.json {
        println!("{}", table.json(begun.elapsed()));
    } else {
        println!("{}", table.text(begun.elapsed()));
    }
    played?;
    if !table.is_clean() {
        bail!("not every process came back with everything; look into {directories:?}");
    }
    for directory in directories {
        if arguments.keep {
            say(&format!("Everything is in {}.", directory.display()));
        } else {
            std::fs::remove_dir_all(&directory)?;
        }
    }
    Ok(())
}

/// All phases, one after the other. The first that does not come to its end is the last.
fn play(lab: &SharedLab, shape: Shape, phases: &[Phase], table: &mut Table) -> Result<()> {
    let mut fleet = phase::Fleet::found(lab, shape)?;
    let vault = Vault::watch(Arc::clone(lab))?;
    let mut end = Ok(());
    for phase in phases {
        let begun = Instant::now();
        say(&format!("\n{}", phase.title()));
        let (rows, done) = phase.run(&mut fleet);
        say(&format!("   {} kills in {:.0} s", rows.len(), begun.elapsed().as_secs_f64()));
        table.add(rows);
        if let Err(error) = done {
            say(&format!("   {error:#}"));
            end = Err(error).with_context(|| format!("\"{}\" did not end well", phase.title()));
            break;
        }
    }
    table.vanished(vault.finish(fleet.upgraders()));
    end
}

fn say(line: &str) {
    eprintln!("{line}");
}
