//! Says where a node can be reached, again and again, in the name of its agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::NodeId;
use heirloom_model::signature::SigningKey;
use heirloom_registry::port::ReadError;

use crate::client::RegistryClient;
use crate::message::Announcement;

/// Announces the addresses of one node. Each announcement is newer than the one before, also if
/// the host's clock was set back meanwhile.
pub struct Announcer {
    registry: RegistryClient,
    network: NetworkId,
    node: NodeId,
    key: Arc<SigningKey>,
    said_at_ms: AtomicU64,
}

impl Announcer {
    /// Speaks for the agent that has this key. Nothing is said yet.
    pub fn new(
        registry: RegistryClient,
        network: NetworkId,
        node: NodeId,
        key: Arc<SigningKey>,
    ) -> Self {
        Self { registry, network, node, key, said_at_ms: AtomicU64::new(0) }
    }

    /// Says that the node can be reached there, for `ttl` unless something is said again.
    pub fn announce(&self, address: &str, ttl: Duration) -> Result<(), ReadError> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let said_at_ms = self.next();
        let said =
            Announcement::signed(&self.network, &self.node, address, ttl_ms, said_at_ms, &self.key);
        self.registry.announce(&self.node, &said)
    }

    /// The time, or a moment after the last announcement.
    fn next(&self) -> u64 {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        let later = |last: u64| now.max(last.saturating_add(1));
        let before = self
            .said_at_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(later(last)));
        // It always updates.
        later(before.unwrap_or_else(|last| last))
    }
}
