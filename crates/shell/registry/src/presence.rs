//! Who is alive, at which address. Never in the log, and gone with the process: it expires.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use heirloom_model::identifier::NodeId;
use heirloom_model::limit::NODES_MAX;

use crate::message::{ADDRESS_BYTES_MAX, Addresses, Announcement, Failure, PRESENCE_MS_MAX};

/// The addresses that nodes announced.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<BTreeMap<NodeId, Present>>);

#[derive(Debug)]
struct Present {
    address: String,
    until: Instant,
}

impl Presence {
    /// Keeps an address for a while, as of `now`.
    pub(crate) fn announce(
        &self,
        node: NodeId,
        announcement: Announcement,
        now: Instant,
    ) -> Result<(), Failure> {
        let Announcement { address, ttl_ms } = announcement;
        if address.len() > ADDRESS_BYTES_MAX {
            return Err(Failure::TooLarge { limit: ADDRESS_BYTES_MAX });
        }
        if address.is_empty() || address.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Failure::Malformed { reason: "the address is not host:port".to_owned() });
        }
        let until = now + Duration::from_millis(ttl_ms.min(PRESENCE_MS_MAX));
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|_, present| present.until > now);
        if nodes.len() >= NODES_MAX && !nodes.contains_key(&node) {
            return Err(Failure::TooLarge { limit: NODES_MAX });
        }
        nodes.insert(node, Present { address, until });
        Ok(())
    }

    /// Every address that has not expired at `now`.
    pub(crate) fn addresses(&self, now: Instant) -> Addresses {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|_, present| present.until > now);
        let announcement = |present: &Present| Announcement {
            address: present.address.clone(),
            ttl_ms: u64::try_from((present.until - now).as_millis()).unwrap_or(u64::MAX),
        };
        let named = nodes.iter().map(|(node, present)| (node.to_string(), announcement(present)));
        Addresses { nodes: named.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announce(
        presence: &Presence,
        address: &str,
        ttl_ms: u64,
        now: Instant,
    ) -> Result<(), Failure> {
        let announcement = Announcement { address: address.to_owned(), ttl_ms };
        presence.announce("n1".parse().unwrap(), announcement, now)
    }

    #[test]
    fn an_address_is_kept_until_it_expires() {
        let (presence, now) = (Presence::default(), Instant::now());
        announce(&presence, "host:1", 1_000, now).unwrap();
        announce(&presence, "host:2", 2_000, now).unwrap();
        let later = |ms| presence.addresses(now + Duration::from_millis(ms)).nodes;
        assert_eq!(later(1_999)["n1"], Announcement { address: "host:2".into(), ttl_ms: 1 });
        assert_eq!(later(2_000).len(), 0);
    }

    #[test]
    fn no_address_is_kept_for_ever() {
        let (presence, now) = (Presence::default(), Instant::now());
        announce(&presence, "host:1", u64::MAX, now).unwrap();
        let end = now + Duration::from_millis(PRESENCE_MS_MAX);
        assert_eq!(presence.addresses(end).nodes.len(), 0);
    }

    #[test]
    fn an_address_is_short_and_plain() {
        let (presence, now) = (Presence::default(), Instant::now());
        let long = "x".repeat(ADDRESS_BYTES_MAX + 1);
        assert!(matches!(announce(&presence, &long, 1, now), Err(Failure::TooLarge { .. })));
        for bad in ["", "a b", "a\nb", "a\u{7}b"] {
            assert!(matches!(announce(&presence, bad, 1, now), Err(Failure::Malformed { .. })));
        }
    }
}
