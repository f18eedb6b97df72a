//! `cargo xtask crash-matrix`: kill real processes at every durable operation.
//!
//! A real fleet lives through its first keys, an upgrade for each wave, and a plan that is called
//! off. A host with an exclusive domain hands over, and begins to and is called off. A service
//! moves to other code on all nodes at once, and comes back from the way there. A ledger
//! participant moves to other keys, and back. In each of these phases some processes run under
//! the supervisor `heirloom-crash`, which kills them with SIGKILL at each of their durable operations: once before the system begins it,
//! once after the system has done it. Whoever was killed is started again, and the phase must come
//! to the same end as if nothing had happened.
//!
//! Read in this order:
//!
//! * [`phase`]: what happens to the fleet meanwhile.
//! * [`flag_day`]: the same with a service.
//! * [`ledger_tool`]: the tool of that service alone.
//! * [`migration`]: a participant that moves.
//! * [`events`]: what supervisors write down.
//! * [`table`]: what came of each kill.
//! * [`vault`]: no sealed generation ever vanishes.

mod events;
mod flag_day;
mod ledger_tool;
mod migration;
mod phase;
mod table;
mod vault;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::crash_matrix::flag_day::Event;
use crate::crash_matrix::migration::Journey;
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
        phase.makes_keys() || self.wants(phase.title())
    }

    fn wants(&self, title: &str) -> bool {
        self.only.as_ref().is_none_or(|only| title.contains(only))
    }
}

/// Runs the crash matrix.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    say("Building the fleet's programs (minutes on the first run, then seconds).");
    lab::build_with(&["heirloom-crash", lab::participant::PACKAGE])?;
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
    if played.is_ok() {
        played = play_services(arguments, &mut table, &mut directories);
    }
    if played.is_ok() {
        played = play_journeys(arguments, &mut table, &mut directories);
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

/// The ledger's tool, and flag days.
fn play_services(
    arguments: &Arguments,
    table: &mut Table,
    directories: &mut Vec<std::path::PathBuf>,
) -> Result<()> {
    if arguments.wants(ledger_tool::TITLE) {
        let lab = Lab::new("crash-tool", 0, say)?;
        directories.push(lab.directory.clone());
        say(&format!("\n{}", ledger_tool::TITLE));
        ledger_tool::run(&lab, table)
            .with_context(|| format!("look into {}", lab.directory.display()))?;
    }
    let events = Event::ALL.into_iter().filter(|event| arguments.wants(event.title()));
    let events: Vec<Event> = events.collect();
    if events.is_empty() {
        return Ok(());
    }
    let lab = Arc::new(Lab::new("crash-flag-day", flag_day::NODES, say)?);
    directories.push(lab.directory.clone());
    let mut stage = flag_day::Stage::found(&lab)?;
    for event in events {
        let begun = Instant::now();
        say(&format!("\n{}", event.title()));
        event.run(&mut stage, table).with_context(|| {
            format!("\"{}\" did not end well; look into {}", event.title(), lab.directory.display())
        })?;
        say(&format!("   {:.0} s", begun.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// Participants that move.
fn play_journeys(
    arguments: &Arguments,
    table: &mut Table,
    directories: &mut Vec<std::path::PathBuf>,
) -> Result<()> {
    let journeys = Journey::ALL.into_iter().filter(|journey| arguments.wants(journey.title()));
    let journeys: Vec<Journey> = journeys.collect();
    if journeys.is_empty() {
        return Ok(());
    }
    let lab = Arc::new(Lab::new("crash-migration", migration::NODES, say)?);
    directories.push(lab.directory.clone());
    let mut stage = migration::Stage::found(&lab)?;
    for journey in journeys {
        let begun = Instant::now();
        say(&format!("\n{}", journey.title()));
        journey.run(&mut stage, table).with_context(|| {
            let title = journey.title();
            format!("\"{title}\" did not end well; look into {}", lab.directory.display())
        })?;
        say(&format!("   {:.0} s", begun.elapsed().as_secs_f64()));
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
