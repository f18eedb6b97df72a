//! Follows the log and the presence of holders in threads of their own, so that no request for a
//! key ever waits for the registry, and neither waits for the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use heirloom_model::admin::Source;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::DomainId;
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_registry::port::{LogStore, ReadError};
use heirloom_session::context::Trust;

use crate::error::FollowError;
use crate::limit::{PRESENCE_REST, PRESENCE_TIME, REST_TIME, SOURCES_MAX, WATCH_TIME};
use crate::port::Presence;

/// Threads that follow. They end soon after this is dropped.
pub(crate) struct Follower(Arc<Shared>);

/// What client and threads share.
pub(crate) struct Shared {
    followed: Mutex<Followed>,
    /// Something new is known.
    changed: Condvar,
    /// Somebody wants to know who is present now, or wants all to end.
    wanted: Condvar,
    stop: AtomicBool,
}

/// What is known.
pub(crate) struct Followed {
    pub(crate) network: NetworkState,
    pub(crate) sources: Vec<Source>,
    /// Why the log is not followed now.
    log_problem: Option<FollowError>,
    /// Why it is not known who is present now.
    presence_problem: Option<FollowError>,
    /// What is known about who is present was of no use.
    presence: Urgency,
    /// Grows with each change of what is known.
    changes: u64,
}

/// How soon to ask who is present.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Urgency {
    Usual,
    Now,
}

impl Follower {
    pub(crate) fn start(
        network: NetworkId,
        domain: DomainId,
        log: Arc<dyn LogStore>,
        presence: Arc<dyn Presence>,
    ) -> Self {
        let shared = Arc::new(Shared {
            followed: Mutex::new(Followed {
                network: NetworkState::new(network),
                sources: Vec::new(),
                log_problem: None,
                presence_problem: None,
                presence: Urgency::Now,
                changes: 0,
            }),
            changed: Condvar::new(),
            wanted: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let task = LogTask { shared: Arc::clone(&shared), log };
        thread::spawn(move || task.run());
        let task = PresenceTask { shared: Arc::clone(&shared), domain, presence };
        thread::spawn(move || task.run());
        Self(shared)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
        self.0.changed.notify_all();
        self.0.wanted.notify_all();
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().expect("whoever follows the log does not panic")
    }

    /// Waits until something new is known, at most `patience`.
    pub(crate) fn wait(&self, seen: u64, patience: Duration) {
        let unchanged = |followed: &mut Followed| followed.changes == seen;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, unchanged);
        drop(waited.expect("whoever follows the log does not panic"));
    }

    /// Has it found out at once who is present: what is known was of no use.
    pub(crate) fn want_presence(&self) {
        self.lock().presence = Urgency::Now;
        self.wanted.notify_all();
    }

    fn change(&self, change: impl FnOnce(&mut Followed)) {
        let mut followed = self.lock();
        change(&mut followed);
        followed.changes = followed.changes.wrapping_add(1);
        self.changed.notify_all();
    }
}

impl Followed {
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// What is wrong with the registry now.
    pub(crate) fn problem(&self) -> Option<&FollowError> {
        self.log_problem.as_ref().or(self.presence_problem.as_ref())
    }
}

impl Trust for Shared {
    fn look(&self, look: &mut dyn FnMut(&mut NetworkState)) {
        look(&mut self.lock().network);
    }
}

/// Follows the log.
struct LogTask {
    shared: Arc<Shared>,
    log: Arc<dyn LogStore>,
}

impl LogTask {
    fn run(&self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let problem = self.follow().err();
            let rest = problem.is_some();
            if self.shared.lock().log_problem != problem {
                self.shared.change(|followed| followed.log_problem = problem);
            }
            if rest {
                thread::park_timeout(REST_TIME);
            }
        }
    }

    /// Follows the log as far as it goes; waits a moment if there is nothing new.
    fn follow(&self) -> Result<(), FollowError> {
        let from = self.shared.lock().network.position().length;
        if self.log.watch(from, WATCH_TIME)?.length <= from {
            return Ok(());
        }
        let entries = self.log.read(from, LOG_ENTRIES_MAX)?;
        if entries.is_empty() {
            let reason = format!("entry {from} is announced and not there");
            return Err(ReadError::Corrupt { reason }.into());
        }
        for entry in entries.into_iter().take(LOG_ENTRIES_MAX) {
            let mut applied = Ok(());
            self.shared.change(|followed| {
                // A statement that breaks a rule stays in the log without any effect.
                applied = match followed.network.apply(&entry) {
                    Ok(Applied::Accepted(_) | Applied::Refused(_)) => Ok(()),
                    Err(broken) => Err(broken),
                };
            });
            applied?;
        }
        Ok(())
    }
}

/// Asks who is present, now and then, and whenever somebody wants to know.
struct PresenceTask {
    shared: Arc<Shared>,
    domain: DomainId,
    presence: Arc<dyn Presence>,
}

impl PresenceTask {
    fn run(&self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.shared.lock().presence = Urgency::Usual;
            let problem = self.ask().err();
            let rest = if problem.is_some() { REST_TIME } else { PRESENCE_REST };
            if self.shared.lock().presence_problem != problem {
                self.shared.change(|followed| followed.presence_problem = problem);
            }
            thread::park_timeout(rest);
            self.wait();
        }
    }

    fn wait(&self) {
        let usual = |followed: &mut Followed| {
            followed.presence == Urgency::Usual && !self.shared.stop.load(Ordering::Relaxed)
        };
        let waited =
            self.shared.wanted.wait_timeout_while(self.shared.lock(), PRESENCE_TIME, usual);
        drop(waited.expect("whoever follows the log does not panic"));
    }

    fn ask(&self) -> Result<(), FollowError> {
        let mut sources = self.presence.sources(&self.domain)?;
        sources.truncate(SOURCES_MAX);
        if self.shared.lock().sources != sources {
            self.shared.change(|followed| followed.sources = sources);
        }
        Ok(())
    }
}
