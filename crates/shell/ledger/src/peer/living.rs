//! Who is a peer at this moment, whichever side opened the session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use heirloom_model::identifier::NodeId;
use heirloom_model::service::PeerSeen;
use heirloom_model::signature::PublicKey;

use crate::limit::POSITION_TIME;
use crate::peer::admission::{AcceptedPeer, PeerRefusal};
use crate::service::PeerPosition;

/// All peers with a session. Clones share one list.
#[derive(Clone, Default)]
pub(crate) struct Living(Arc<Mutex<BTreeMap<NodeId, Instance>>>);

/// The one instance that is a peer under a name.
struct Instance {
    key: PublicKey,
    seen: PeerSeen,
    sessions: usize,
    /// What it said about its ledger, and when. Gone with its last session: whoever comes next
    /// under its name has to say it again.
    said: Option<(PeerPosition, Instant)>,
}

/// A session with a peer. The peer is seen for as long as this is kept.
pub(crate) struct Present {
    living: Living,
    seen: PeerSeen,
}

impl Living {
    /// Notes a session. A name has one instance: while it has a session, no other key is a peer
    /// under that name.
    pub(crate) fn enter(
        &self,
        peer: &AcceptedPeer,
        key: PublicKey,
    ) -> Result<Present, PeerRefusal> {
        let seen = peer.seen().clone();
        let mut living = self.lock();
        let fresh = || Instance { key, seen: seen.clone(), sessions: 0, said: None };
        let instance = living.entry(seen.node.clone()).or_insert_with(fresh);
        if instance.key != key {
            return Err(PeerRefusal::SecondInstance);
        }
        instance.sessions = instance.sessions.saturating_add(1);
        drop(living);
        Ok(Present { living: self.clone(), seen })
    }

    /// Everybody who is a peer, sorted by node.
    pub(crate) fn seen(&self) -> Vec<PeerSeen> {
        self.lock().values().map(|instance| instance.seen.clone()).collect()
    }

    /// What the peers that are there said about their ledgers a moment ago.
    pub(crate) fn positions(&self, now: Instant) -> BTreeMap<NodeId, PeerPosition> {
        let living = self.lock();
        let recent = living.iter().filter_map(|(node, instance)| {
            let (position, at) = instance.said?;
            let is_recent = now.saturating_duration_since(at) < POSITION_TIME;
            is_recent.then(|| (node.clone(), position))
        });
        recent.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Instance>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    /// What standings say about the peer.
    pub(crate) fn seen(&self) -> &PeerSeen {
        &self.seen
    }

    /// Keeps what the peer says about its ledger.
    pub(crate) fn says(&self, position: PeerPosition, at: Instant) {
        if let Some(instance) = self.living.lock().get_mut(&self.seen.node) {
            instance.said = Some((position, at));
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut living = self.living.lock();
        let Some(instance) = living.get_mut(&self.seen.node) else { return };
        instance.sessions = instance.sessions.saturating_sub(1);
        if instance.sessions == 0 {
            living.remove(&self.seen.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use heirloom_model::digest::BlockId;
    use heirloom_model::service::{Height, Tip};

    use super::*;
    use crate::peer::admission::tests::accepted;

    #[test]
    fn a_name_has_one_instance_for_as_long_as_it_has_a_session() {
        let living = Living::default();
        let [one, other] = [1, 2].map(|byte| PublicKey::new([byte; 32]));
        let peer = accepted();
        // One session in each direction.
        let opened = living.enter(&peer, one).unwrap();
        let came = living.enter(&peer, one).unwrap();
        let refused = living.enter(&peer, other).err().unwrap();
        assert_eq!(refused.code(), "second-instance");
        assert_eq!(living.seen(), [peer.seen().clone()]);
        drop(opened);
        assert_eq!(living.seen(), [peer.seen().clone()], "a session that it opened counts as well");
        assert!(living.enter(&peer, other).is_err());
        drop(came);
        assert!(living.seen().is_empty());
        living.enter(&peer, other).unwrap();
    }

    #[test]
    fn what_a_peer_said_counts_while_it_is_there_and_for_a_moment() {
        let living = Living::default();
        let peer = accepted();
        let key = PublicKey::new([1; 32]);
        let tip = Tip { height: Height(3), id: BlockId::new([7; 32]) };
        let (position, at) = (PeerPosition { tip, pending: 0 }, Instant::now());
        let said = BTreeMap::from([(peer.seen().node.clone(), position)]);
        let [opened, came] = [0, 1].map(|_| living.enter(&peer, key).unwrap());
        assert!(living.positions(at).is_empty(), "it has said nothing yet");
        opened.says(position, at);
        assert_eq!(living.positions(at), said);
        assert!(living.positions(at + POSITION_TIME).is_empty(), "that was long ago");
        drop(opened);
        assert_eq!(living.positions(at), said, "the same instance is still there");
        drop(came);
        assert!(living.positions(at).is_empty(), "it is gone");
        let _back = living.enter(&peer, key).unwrap();
        assert!(living.positions(at).is_empty(), "it is back, and may have something else");
    }
}
