//! The agent of a node that moves a participant: the same loop as everywhere, over a driver of two
//! participants, until one plan is over.
//!
//! It runs in the foreground, because a migration is an event that people attend. What it did is
//! in its journal and in the log, so that it continues after a crash or Ctrl-C where it was.

pub mod config;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heirloom_canton_node::driver::Driver;
use heirloom_model::causes::with_causes;
use heirloom_model::digest::PlanDigest;
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanStatus;
use heirloom_registry::port::LogStore as _;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_store::atomic;
use heirloom_store::error::StoreError;
use heirloom_store::journal_file::JournalFile;
use heirloom_upgrade::agent::{Agent, AgentError, Tick};
use heirloom_upgrade::journal::{CorruptJournal, Progress};
use heirloom_upgrade::port::keeperless::Keeperless;

use crate::participant::config::{Config, SetupError};
use crate::run::{Journal, now, passes, random_nonce};

/// How long the loop waits for the log to grow before it looks again.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// The first pause after a refusal or a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause after refusals or failures.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A pause is slept in pieces, so that Ctrl-C is heard.
const NAP: Duration = Duration::from_millis(100);

/// Why the loop ended before the plan did.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The signing key cannot be used.
    #[error("the agent's signing key cannot be used")]
    Key(#[source] heirloom_store::key_file::KeyFileError),
    /// A file of the agent cannot be used.
    #[error("the agent's own files cannot be used")]
    Store(#[from] StoreError),
    /// The journal contradicts itself.
    #[error("the journal contradicts itself")]
    Journal(#[from] CorruptJournal),
    /// Work of plans is there, and no journal.
    #[error(
        "{} has work of plans, but no journal: this is not a new node", path.display()
    )]
    NotNew {
        /// The data directory.
        path: std::path::PathBuf,
    },
    /// The agent cannot go on.
    #[error("the agent cannot go on")]
    Agent(#[source] AgentError),
}

/// What one turn of the loop came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Turn {
    /// Something was done; there may be more.
    Progressed,
    /// Nothing could be done before this.
    Waiting(Vec<String>),
    /// A step was not carried out. It is tried again.
    Refused(String),
    /// Registry or participants did not answer. They are asked again.
    Unreachable(String),
}

/// Hears how a migration goes. Nothing depends on it.
pub trait Listener {
    /// What a turn came to, and what the log says now.
    fn turned(&mut self, turn: &Turn, state: &NetworkState);
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The plan is over.
    Over(PlanStatus),
    /// Somebody stopped the loop. The plan waits for the next one.
    Stopped,
}

type ParticipantAgent = Agent<Journal, Arc<RegistryClient>, Keeperless<Driver>>;

/// Carries out this node's part of a plan until it is over, or until `stopping` is set.
pub fn run(
    config: &Config,
    plan: &PlanDigest,
    stopping: &AtomicBool,
    listener: &mut dyn Listener,
) -> Result<Ended, MigrateError> {
    let registry = Arc::new(RegistryClient::new(&config.registry));
    let mut agent = recover(config, Arc::clone(&registry))?;
    let mut pause = PAUSE_MIN;
    loop {
        if stopping.load(Ordering::Relaxed) {
            return Ok(Ended::Stopped);
        }
        let turn = turn(&mut agent)?;
        listener.turned(&turn, agent.state());
        if let Some(status) = over(agent.state(), plan) {
            return Ok(Ended::Over(status));
        }
        match turn {
            Turn::Progressed => pause = PAUSE_MIN,
            Turn::Waiting(_) => {
                pause = PAUSE_MIN;
                // A registry that does not answer is noticed by the next turn.
                if registry.watch(agent.state().position().length, IDLE_WAIT).is_err() {
                    nap(IDLE_WAIT, stopping);
                }
            }
            Turn::Refused(_) | Turn::Unreachable(_) => {
                nap(pause, stopping);
                pause = PAUSE_MAX.min(pause.saturating_mul(2));
            }
        }
    }
}

/// One tick.
fn turn(agent: &mut ParticipantAgent) -> Result<Turn, MigrateError> {
    match agent.tick(now(), &mut random_nonce) {
        Ok(Tick::Progressed) => Ok(Turn::Progressed),
        Ok(Tick::Idle(waiting)) => {
            Ok(Turn::Waiting(waiting.iter().map(ToString::to_string).collect()))
        }
        Ok(Tick::Refused(trouble)) => Ok(Turn::Refused(with_causes(&trouble))),
        Err(error) if passes(&error) => Ok(Turn::Unreachable(with_causes(&error))),
        Err(error) => Err(MigrateError::Agent(error)),
    }
}

/// How a plan ended, if nothing of it is left to do.
fn over(state: &NetworkState, plan: &PlanDigest) -> Option<PlanStatus> {
    let status = state.plan(plan)?.status();
    match status {
        PlanStatus::Finished | PlanStatus::RolledBack | PlanStatus::Expired => Some(status),
        PlanStatus::Proposed
        | PlanStatus::Approved
        | PlanStatus::ApprovalLapsed
        | PlanStatus::RollingBack
        | PlanStatus::PastNoReturn => None,
    }
}

fn nap(pause: Duration, stopping: &AtomicBool) {
    let mut left = pause;
    while !left.is_zero() && !stopping.load(Ordering::Relaxed) {
        let piece = left.min(NAP);
        std::thread::sleep(piece);
        left = left.saturating_sub(piece);
    }
}

/// Makes the agent out of what is on disk.
fn recover(
    config: &Config,
    registry: Arc<RegistryClient>,
) -> Result<ParticipantAgent, MigrateError> {
    let key = heirloom_store::key_file::read(&config.key_file).map_err(MigrateError::Key)?;
    let driver = Keeperless { participant: config.driver()? };
    let path = config.journal();
    atomic::create_directory(&config.data)?;
    if !path.exists() {
        expect_new(config)?;
        JournalFile::create(&path)?;
    }
    let opened = JournalFile::open(&path)?;
    if let Some(torn) = opened.torn {
        tracing::warn!(?torn, "a record that was never finished was cut off the journal");
    }
    let progress = Progress::recover(opened.records.iter().map(Vec::as_slice))?;
    let ports = (Journal(opened.journal), registry, driver);
    Ok(Agent::recover(config.node.clone(), key, NetworkState::new(config.network), progress, ports))
}

/// Refuses if plans were carried out here: without their journal nobody knows how far.
fn expect_new(config: &Config) -> Result<(), MigrateError> {
    let path = config.data.clone();
    if is_used(&config.work()) { Err(MigrateError::NotNew { path }) } else { Ok(()) }
}

/// Whether a plan left something. A folder with nothing in it is what a mere look leaves: whoever
/// asks for the status before anybody migrates has carried out nothing.
fn is_used(work: &Path) -> bool {
    let mut plans = match std::fs::read_dir(work) {
        Ok(plans) => plans,
        Err(error) => return error.kind() != std::io::ErrorKind::NotFound,
    };
    plans.any(|plan| {
        // What cannot be looked into counts as used.
        let content = plan.and_then(|plan| std::fs::read_dir(plan.path()));
        content.map_or(true, |mut content| content.next().is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_a_plan_makes_a_node_used_and_an_empty_folder_does_not() {
        let place = tempfile::tempdir().unwrap();
        let work = place.path().join("plans");
        assert!(!is_used(&work));
        std::fs::create_dir_all(work.join("aa")).unwrap();
        assert!(!is_used(&work));
        std::fs::write(work.join("aa/source-end"), "7").unwrap();
        assert!(is_used(&work));
        std::fs::remove_dir_all(work.join("aa")).unwrap();
        std::fs::write(work.join("file"), "").unwrap();
        assert!(is_used(&work));
    }
}
