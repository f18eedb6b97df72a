//! Follows the log and the presence of holders in a thread of its own, so that no request for a
//! key ever waits for the registry.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use heirloom_model::admin::Source;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::DomainId;
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_registry::port::{LogStore, ReadError};
use heirloom_session::context::Trust;

use crate::error::FollowError;
use crate::limit::{REST_TIME, SOURCES_MAX, WATCH_TIME};
use crate::port::Presence;

/// A thread that follows. It ends soon after this is dropped.
pub(crate) struct Follower(Arc<Shared>);

/// What client and thread share.
pub(crate) struct Shared {
    followed: Mutex<Followed>,
    changed: Condvar,
    stop: AtomicBool,
}

/// What is known.
pub(crate) struct Followed {
    pub(crate) network: NetworkState,
    pub(crate) sources: Vec<Source>,
    /// What is wrong with the registry now.
    pub(crate) problem: Option<FollowError>,
    /// Grows with each change of the two above.
    changes: u64,
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
                problem: None,
                changes: 0,
            }),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let task = Task { shared: Arc::clone(&shared), domain, log, presence };
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
}

impl Trust for Shared {
    fn look(&self, look: &mut dyn FnMut(&mut NetworkState)) {
        look(&mut self.lock().network);
    }
}

struct Task {
    shared: Arc<Shared>,
    domain: DomainId,
    log: Arc<dyn LogStore>,
    presence: Arc<dyn Presence>,
}

impl Task {
    fn run(&self) {
        let mut asked: Option<Instant> = None;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let mut outcome = self.follow();
            if outcome.is_ok() && asked.is_none_or(|asked| asked.elapsed() >= WATCH_TIME) {
                asked = Some(Instant::now());
                outcome = self.ask_who_is_present();
            }
            let problem = outcome.err();
            let rest = problem.is_some();
            if self.shared.lock().problem != problem {
                self.shared.change(|followed| followed.problem = problem);
            }
            if rest {
                thread::park_timeout(REST_TIME);
            }
        }
    }

    /// Follows the log as far as it goes; waits a moment if there is nothing new.
    fn follow(&self) -> Result<(), FollowError> {
        let from = self.shared.lock().network.position().length;
        let patience = if self.shared.lock().changes == 0 { Duration::ZERO } else { WATCH_TIME };
        if self.log.watch(from, patience)?.length <= from {
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

    fn ask_who_is_present(&self) -> Result<(), FollowError> {
        let mut sources = self.presence.sources(&self.domain)?;
        sources.truncate(SOURCES_MAX);
        if self.shared.lock().sources != sources {
            self.shared.change(|followed| followed.sources = sources);
        }
        Ok(())
    }
}
