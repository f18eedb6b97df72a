//! Migration: ledger participants move to keys in a KMS, under new names, and back again. One
//! moves alone, or those of two operators move together, because they share contracts.

mod stage;
mod summary;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use self::stage::Stage;
use super::{EPOCH_EVERY, say};
use crate::lab::participant::{Keys, Participants};
use crate::lab::{Lab, SharedLab};

/// Kinds of KMS: each has nodes in a domain of its own.
const KMS_COUNT: usize = 2;

/// What to play.
#[derive(Clone, Copy, Debug)]
pub(super) struct Play {
    /// Whether processes are killed all along.
    pub(super) kill: bool,
    /// Which KMS.
    pub(super) kms: Kms,
    /// How many operators move together.
    pub(super) operators: usize,
}

impl Play {
    /// Nodes of the laboratory.
    pub(super) fn nodes(self) -> usize {
        KMS_COUNT * self.operators
    }
}

/// The key stores that participants move to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Kms {
    /// One after the other.
    Both,
    /// A token of `SoftHSM2`, over PKCS #11.
    Pkcs11,
    /// AWS KMS, as `LocalStack` imitates it.
    Aws,
}

impl Kms {
    fn all(self) -> &'static [Keys] {
        match self {
            Self::Both => &[Keys::Token, Keys::Aws],
            Self::Pkcs11 => &[Keys::Token],
            Self::Aws => &[Keys::Aws],
        }
    }
}

/// Plays the demo, and returns its summary.
pub(super) fn play(lab: &SharedLab, play: Play) -> Result<Value> {
    say("\n1. Found a network without keepers: operators, a log, a fleet of participants.");
    lab.found_without_keepers(play.operators)?;
    let begun = Instant::now();
    let with_kms = play.kms.all().contains(&Keys::Aws);
    let participants = Participants::start(lab, with_kms)?;
    let mut runs = Vec::new();
    for (keys, nodes) in play.kms.all().iter().zip(lab.nodes.chunks(play.operators)) {
        let nodes = nodes.iter().map(|node| node.name.clone()).collect();
        runs.push(Stage::new(lab, &participants, *keys, play.kill, nodes).there_and_back()?);
    }
    let summary = summary::summarize(&runs, play.operators, begun.elapsed());
    summary::explain(&summary);
    summary::judge(&summary)?;
    Ok(summary)
}

/// Begins an epoch now and then, until it is told to stop. With the registry killed one comes a
/// little later.
fn epochs(lab: &SharedLab, stop: &Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    let (lab, stop): (Arc<Lab>, _) = (Arc::clone(lab), Arc::clone(stop));
    let tick = move || {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) && !lab.is_ending() {
            if last.elapsed() > EPOCH_EVERY {
                let _advanced = lab.advance_epoch();
                last = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    Ok(std::thread::Builder::new().name("epochs".to_owned()).spawn(tick)?)
}
