//! Follows the registry's log in a thread of its own: by it the node knows which policy is in
//! force when it judges a peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use heirloom_model::causes::with_causes;
use heirloom_model::digest::NetworkId;
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_model::log::BrokenChain;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_registry::port::{LogStore, ReadError};

use crate::limit::{FOLLOW_REST, WATCH_TIME};
use crate::log::event;

/// What the log says.
pub type Followed = Arc<RwLock<NetworkState>>;

/// Why the log is not followed.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the registry shows another history than before")]
    OtherHistory(#[from] BrokenChain),
}

/// Follows a log until `is_over`.
pub fn follow(
    network: NetworkId,
    log: Arc<dyn LogStore>,
    is_over: Arc<AtomicBool>,
) -> std::io::Result<(Followed, JoinHandle<()>)> {
    let followed: Followed = Arc::new(RwLock::new(NetworkState::new(network)));
    let state = Arc::clone(&followed);
    let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
        let mut said = String::new();
        while !is_over.load(Ordering::Acquire) {
            match step(&state, &*log) {
                Ok(()) => said.clear(),
                Err(error) => {
                    let reason = with_causes(&error);
                    if reason != said {
                        event("registry", &reason);
                        said = reason;
                    }
                    thread::park_timeout(FOLLOW_REST);
                }
            }
        }
    })?;
    Ok((followed, thread))
}

/// Follows the log as far as it goes; waits a moment if there is nothing new.
fn step(state: &Followed, log: &dyn LogStore) -> Result<(), FollowError> {
    let from = state.read().unwrap_or_else(PoisonError::into_inner).position().length;
    if log.watch(from, WATCH_TIME)?.length <= from {
        return Ok(());
    }
    for entry in log.read(from, LOG_ENTRIES_MAX)?.into_iter().take(LOG_ENTRIES_MAX) {
        let mut network = state.write().unwrap_or_else(PoisonError::into_inner);
        // A statement that breaks a rule stays in the log without any effect.
        match network.apply(&entry)? {
            Applied::Accepted(_) | Applied::Refused(_) => {}
        }
    }
    Ok(())
}
