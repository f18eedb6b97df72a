//! Who is alive, at which address. Never in the log: it expires.
//!
//! An address is a hint: whoever connects demands evidence. That agents sign theirs keeps others
//! from leading everybody astray, and from taking a node's place in the list.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use heirloom_model::identifier::NodeId;
use heirloom_model::limit::NODES_MAX;
use heirloom_registry::port::{AnnounceError, Presence, PresenceTable, ReadError};

use crate::message::{ADDRESS_BYTES_MAX, Failure, PRESENCE_MS_MAX, PRESENCE_SKEW_MS_MAX, Vouched};

/// What an agent said, if it can be kept: a short address, said about now, for a bounded time.
pub(crate) fn acceptable(vouched: Vouched, unix_ms: u64) -> Result<(NodeId, Presence), Failure> {
    let (node, said) = vouched.into_parts();
    let address = said.address;
    if address.len() > ADDRESS_BYTES_MAX {
        return Err(Failure::TooLarge { limit: ADDRESS_BYTES_MAX });
    }
    if address.is_empty() || address.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Failure::Malformed { reason: "the address is not host:port".to_owned() });
    }
    if said.said_at_ms.abs_diff(unix_ms) > PRESENCE_SKEW_MS_MAX {
        return Err(stale("it was made too long ago, or is yet to be made"));
    }
    let ttl = Duration::from_millis(said.ttl_ms.min(PRESENCE_MS_MAX));
    Ok((node, Presence { address, ttl, said_at_ms: said.said_at_ms }))
}

/// The refusal of an announcement that is not the newest.
pub(crate) fn stale(reason: &str) -> Failure {
    let (code, reason) =
        ("presence-stale".to_owned(), format!("the announcement is stale: {reason}"));
    Failure::Refused { code, reason }
}

/// The table of a server that is alone. Gone with the process.
#[derive(Debug, Default)]
pub(crate) struct MemoryTable(Mutex<BTreeMap<NodeId, Known>>);

/// What is known of one node. Kept when the address has expired, so that an old announcement does
/// not bring it back: only nodes of the fleet have one.
#[derive(Debug)]
struct Known {
    address: String,
    until: Instant,
    said_at_ms: u64,
}

impl MemoryTable {
    fn announce_at(
        &self,
        node: &NodeId,
        said: &Presence,
        now: Instant,
    ) -> Result<(), AnnounceError> {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match nodes.get(node) {
            Some(known) if known.said_at_ms >= said.said_at_ms => {
                return Err(AnnounceError::Stale);
            }
            None if nodes.len() >= NODES_MAX => {
                return Err(AnnounceError::TooMany { limit: NODES_MAX });
            }
            Some(_) | None => {}
        }
        let Presence { address, ttl, said_at_ms } = said.clone();
        nodes.insert(node.clone(), Known { address, until: now + ttl, said_at_ms });
        Ok(())
    }

    fn present_at(&self, now: Instant) -> BTreeMap<NodeId, Presence> {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let present = |known: &Known| Presence {
            address: known.address.clone(),
            ttl: known.until - now,
            said_at_ms: known.said_at_ms,
        };
        let live = nodes.iter().filter(|(_, known)| known.until > now);
        live.map(|(node, known)| (node.clone(), present(known))).collect()
    }
}

impl PresenceTable for MemoryTable {
    fn announce(&self, node: &NodeId, said: &Presence) -> Result<(), AnnounceError> {
        self.announce_at(node, said, Instant::now())
    }

    fn present(&self) -> Result<BTreeMap<NodeId, Presence>, ReadError> {
        Ok(self.present_at(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use heirloom_model::digest::NetworkId;
    use heirloom_model::secret::Secret;
    use heirloom_model::signature::SigningKey;

    use super::*;
    use crate::message::{Announcement, NotVouched};

    const NETWORK: NetworkId = NetworkId::new([1; 32]);
    /// Some time of day.
    const NOON: u64 = 1_800_000_000_000;

    fn key() -> SigningKey {
        SigningKey::from_seed(Secret::new([2; 32]))
    }

    fn node() -> NodeId {
        "n1".parse().unwrap()
    }

    fn vouched(address: &str, ttl_ms: u64, said_at_ms: u64) -> Vouched {
        let said = Announcement::signed(&NETWORK, &node(), address, ttl_ms, said_at_ms, &key());
        said.verify(&NETWORK, node(), &key().public_key()).unwrap()
    }

    fn said(address: &str, ttl_ms: u64, said_at_ms: u64) -> Presence {
        acceptable(vouched(address, ttl_ms, said_at_ms), said_at_ms).unwrap().1
    }

    fn is_stale<T>(result: &Result<T, Failure>) -> bool {
        matches!(result, Err(Failure::Refused { code, .. }) if code == "presence-stale")
    }

    #[test]
    fn an_address_is_kept_until_it_expires() {
        let (table, now) = (MemoryTable::default(), Instant::now());
        table.announce_at(&node(), &said("host:1", 1_000, NOON), now).unwrap();
        table.announce_at(&node(), &said("host:2", 2_000, NOON + 1), now).unwrap();
        let later = |ms| table.present_at(now + Duration::from_millis(ms));
        let left = said("host:2", 1, NOON + 1);
        assert_eq!(later(1_999)[&node()], left);
        assert_eq!(later(2_000).len(), 0);
    }

    #[test]
    fn no_address_is_kept_for_ever() {
        let ttl = said("host:1", u64::MAX, NOON).ttl;
        assert_eq!(ttl, Duration::from_millis(PRESENCE_MS_MAX));
    }

    #[test]
    fn an_address_is_short_and_plain() {
        let long = acceptable(vouched(&"x".repeat(ADDRESS_BYTES_MAX + 1), 1, NOON), NOON);
        assert!(matches!(long, Err(Failure::TooLarge { .. })));
        for bad in ["", "a b", "a\nb", "a\u{7}b"] {
            let refused = acceptable(vouched(bad, 1, NOON), NOON);
            assert!(matches!(refused, Err(Failure::Malformed { .. })), "{bad:?}: {refused:?}");
        }
    }

    #[test]
    fn an_older_announcement_never_takes_the_place_of_a_newer_one() {
        let (table, now) = (MemoryTable::default(), Instant::now());
        table.announce_at(&node(), &said("new:1", 5, NOON), now).unwrap();
        for said_at_ms in [NOON, NOON - 1] {
            let older = said("old:1", 5, said_at_ms);
            assert_eq!(table.announce_at(&node(), &older, now), Err(AnnounceError::Stale));
        }
        // Also when the newer one has expired.
        let later = now + Duration::from_secs(1);
        let older = said("old:1", 5, NOON);
        assert_eq!(table.announce_at(&node(), &older, later), Err(AnnounceError::Stale));
        assert_eq!(table.present_at(now)[&node()].address, "new:1");
    }

    #[test]
    fn an_announcement_is_made_about_now() {
        let far = PRESENCE_SKEW_MS_MAX + 1;
        for said_at_ms in [NOON - far, NOON + far] {
            assert!(is_stale(&acceptable(vouched("host:1", 5, said_at_ms), NOON)));
        }
        let near = NOON - PRESENCE_SKEW_MS_MAX;
        acceptable(vouched("host:1", 5, near), NOON).unwrap();
    }

    #[test]
    fn every_part_of_an_announcement_is_signed_by_the_agent_of_its_node() {
        let said = Announcement::signed(&NETWORK, &node(), "host:1", 5, NOON, &key());
        let refused = |said: &Announcement, network: NetworkId, node: NodeId| {
            matches!(
                said.clone().verify(&network, node, &key().public_key()),
                Err(NotVouched::Signature(_))
            )
        };
        assert!(!refused(&said, NETWORK, node()));
        assert!(refused(&said, NetworkId::new([9; 32]), node()));
        assert!(refused(&said, NETWORK, "n2".parse().unwrap()));
        let change = |change: fn(&mut Announcement)| {
            let mut said = said.clone();
            change(&mut said);
            refused(&said, NETWORK, node())
        };
        assert!(change(|said| said.address = "host:2".to_owned()));
        assert!(change(|said| said.ttl_ms += 1));
        assert!(change(|said| said.said_at_ms += 1));
        let other = SigningKey::from_seed(Secret::new([3; 32]));
        let by_other = Announcement::signed(&NETWORK, &node(), "host:1", 5, NOON, &other);
        assert!(refused(&by_other, NETWORK, node()));
        let unsigned = Announcement { signature: String::new(), ..said };
        let unreadable = unsigned.verify(&NETWORK, node(), &key().public_key());
        assert!(matches!(unreadable, Err(NotVouched::Unreadable(_))));
    }
}
