//! Where this node can be reached: the address of the seat that serves, announced at once when it
//! changes and again before it is forgotten.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heirloom_model::identifier::NodeId;
use heirloom_model::policy::HolderRole;
use heirloom_registry::network::NetworkState;
use heirloom_registry_shell::announcer::Announcer;
use heirloom_upgrade::port::Observation;

/// How long an announced address is believed without being announced again.
pub const PRESENCE_TTL: Duration = Duration::from_secs(10);

/// Announces one node. Clones announce the same.
#[derive(Clone)]
pub struct Presence {
    announcer: Arc<Announcer>,
    address: Arc<Mutex<Option<String>>>,
}

impl Presence {
    /// Nothing is announced yet.
    pub fn new(announcer: Announcer) -> Self {
        Self { announcer: Arc::new(announcer), address: Arc::default() }
    }

    /// Announces an address if it is another one than before. None changes nothing: what was
    /// announced is forgotten in time.
    pub fn say(&self, address: Option<&str>) {
        let Some(address) = address else { return };
        let mut said = self.lock();
        if said.as_deref() != Some(address) {
            *said = Some(address.to_owned());
            self.announce(&said);
        }
    }

    /// Announces what was said last again and again, on a thread.
    pub fn repeat(&self, stopping: &Arc<AtomicBool>) -> std::io::Result<()> {
        let (presence, stopping) = (self.clone(), Arc::clone(stopping));
        let repeat = move || {
            while !stopping.load(Ordering::Relaxed) {
                std::thread::sleep(PRESENCE_TTL / 10);
                presence.announce(&presence.lock());
            }
        };
        std::thread::Builder::new().name("presence".to_owned()).spawn(repeat).map(drop)
    }

    /// Takes what was said. Whoever announces holds it meanwhile: an old address must never be
    /// announced after a new one.
    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, said: &MutexGuard<'_, Option<String>>) {
        let Some(address) = said.as_deref() else { return };
        if let Err(error) = self.announcer.announce(address, PRESENCE_TTL) {
            tracing::debug!(%error, "the address was not announced");
        }
    }
}

/// Where applications and peers should go: to the active holder as soon as the log names it, else
/// to the keeper that serves, else to one that may serve later. Nobody has business with an
/// upgrader.
pub fn address_of<'a>(
    state: &NetworkState,
    node: &NodeId,
    observed: &'a Observation,
) -> Option<&'a str> {
    let domain = state.node(node).and_then(|known| state.domain(&known.domain));
    let active = domain.and_then(|domain| domain.activity().active());
    let named = active
        .filter(|active| active.node() == node)
        .and_then(|active| observed.status(&active.measurement()));
    let keepers = || observed.seats().map(|(_, status)| status);
    let any = || keepers().find(|status| status.role == HolderRole::Keeper);
    let found = named.or_else(|| observed.serving()).or_else(any)?;
    Some(found.address.as_str()).filter(|address| !address.is_empty())
}
