//! Who is alive, at which address. Never in the log, and gone with the process: it expires.
//!
//! An address is a hint: whoever connects demands evidence. That agents sign theirs keeps others
//! from leading everybody astray, and from taking a node's place in the list.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use heirloom_model::identifier::NodeId;
use heirloom_model::limit::NODES_MAX;

use crate::message::{
    ADDRESS_BYTES_MAX, Addresses, Failure, PRESENCE_MS_MAX, PRESENCE_SKEW_MS_MAX, Present, Vouched,
};

/// The addresses that nodes announced.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<BTreeMap<NodeId, Known>>);

/// What is known of one node. Kept when the address has expired, so that an old announcement does
/// not bring it back: only nodes of the fleet have one.
#[derive(Debug)]
struct Known {
    address: String,
    until: Instant,
    said_at_ms: u64,
}

/// Now, by the clock that only grows and by the one that agents have too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) unix_ms: u64,
}

impl Presence {
    /// Keeps an address for a while, as of `now`.
    pub(crate) fn announce(&self, vouched: Vouched, now: Now) -> Result<(), Failure> {
        let (node, said) = vouched.into_parts();
        let address = said.address;
        if address.len() > ADDRESS_BYTES_MAX {
            return Err(Failure::TooLarge { limit: ADDRESS_BYTES_MAX });
        }
        if address.is_empty() || address.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Failure::Malformed { reason: "the address is not host:port".to_owned() });
        }
        if said.said_at_ms.abs_diff(now.unix_ms) > PRESENCE_SKEW_MS_MAX {
            return Err(stale("it was made too long ago, or is yet to be made"));
        }
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match nodes.get(&node) {
            Some(known) if known.said_at_ms >= said.said_at_ms => {
                return Err(stale("a newer one is known"));
            }
            None if nodes.len() >= NODES_MAX => {
                return Err(Failure::TooLarge { limit: NODES_MAX });
            }
            Some(_) | None => {}
        }
        let until = now.instant + Duration::from_millis(said.ttl_ms.min(PRESENCE_MS_MAX));
        nodes.insert(node, Known { address, until, said_at_ms: said.said_at_ms });
        Ok(())
    }

    /// Every address that has not expired at `now`.
    pub(crate) fn addresses(&self, now: Instant) -> Addresses {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let present = |known: &Known| Present {
            address: known.address.clone(),
            ttl_ms: u64::try_from((known.until - now).as_millis()).unwrap_or(u64::MAX),
        };
        let live = nodes.iter().filter(|(_, known)| known.until > now);
        Addresses { nodes: live.map(|(node, known)| (node.to_string(), present(known))).collect() }
    }
}

fn stale(reason: &str) -> Failure {
    let (code, reason) =
        ("presence-stale".to_owned(), format!("the announcement is stale: {reason}"));
    Failure::Refused { code, reason }
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

    fn noon() -> Now {
        Now { instant: Instant::now(), unix_ms: NOON }
    }

    fn is_stale(result: &Result<(), Failure>) -> bool {
        matches!(result, Err(Failure::Refused { code, .. }) if code == "presence-stale")
    }

    #[test]
    fn an_address_is_kept_until_it_expires() {
        let (presence, now) = (Presence::default(), noon());
        presence.announce(vouched("host:1", 1_000, NOON), now).unwrap();
        presence.announce(vouched("host:2", 2_000, NOON + 1), now).unwrap();
        let later = |ms| presence.addresses(now.instant + Duration::from_millis(ms)).nodes;
        assert_eq!(later(1_999)["n1"], Present { address: "host:2".into(), ttl_ms: 1 });
        assert_eq!(later(2_000).len(), 0);
    }

    #[test]
    fn no_address_is_kept_for_ever() {
        let (presence, now) = (Presence::default(), noon());
        presence.announce(vouched("host:1", u64::MAX, NOON), now).unwrap();
        let end = now.instant + Duration::from_millis(PRESENCE_MS_MAX);
        assert_eq!(presence.addresses(end).nodes.len(), 0);
    }

    #[test]
    fn an_address_is_short_and_plain() {
        let (presence, now) = (Presence::default(), noon());
        let long = vouched(&"x".repeat(ADDRESS_BYTES_MAX + 1), 1, NOON);
        assert!(matches!(presence.announce(long, now), Err(Failure::TooLarge { .. })));
        for bad in ["", "a b", "a\nb", "a\u{7}b"] {
            let refused = presence.announce(vouched(bad, 1, NOON), now);
            assert!(matches!(refused, Err(Failure::Malformed { .. })), "{bad:?}: {refused:?}");
        }
    }

    #[test]
    fn an_older_announcement_never_takes_the_place_of_a_newer_one() {
        let (presence, now) = (Presence::default(), noon());
        presence.announce(vouched("new:1", 5, NOON), now).unwrap();
        for said_at_ms in [NOON, NOON - 1] {
            assert!(is_stale(&presence.announce(vouched("old:1", 5, said_at_ms), now)));
        }
        // Also when the newer one has expired.
        let later = Now { instant: now.instant + Duration::from_secs(1), ..now };
        assert!(is_stale(&presence.announce(vouched("old:1", 5, NOON), later)));
        assert_eq!(presence.addresses(now.instant).nodes["n1"].address, "new:1");
    }

    #[test]
    fn an_announcement_is_made_about_now() {
        let (presence, now) = (Presence::default(), noon());
        let far = PRESENCE_SKEW_MS_MAX + 1;
        for said_at_ms in [NOON - far, NOON + far] {
            assert!(is_stale(&presence.announce(vouched("host:1", 5, said_at_ms), now)));
        }
        let near = NOON - PRESENCE_SKEW_MS_MAX;
        presence.announce(vouched("host:1", 5, near), now).unwrap();
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
