//! What a session needs to know besides the key: which network, which platform, whom to believe.

use std::sync::{Mutex, RwLock};

use heirloom_keeper::port::Platform;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::DomainId;
use heirloom_registry::network::NetworkState;

/// What both sides of a session agree on, and how this side judges the other.
#[derive(Clone, Copy)]
pub struct SessionContext<'a> {
    /// The network that the session is about.
    pub network: NetworkId,
    /// The domain that the session is about.
    pub domain: DomainId,
    /// Gives evidence about us.
    pub platform: &'a dyn Platform,
    /// What is known about the network, for the moment in which the peer is judged.
    pub trust: &'a dyn Trust,
}

/// Lends the state of the network.
///
/// A session looks twice, for a moment each, and never while it waits for the peer or the
/// platform.
pub trait Trust {
    /// Calls `look` exactly once.
    fn look(&self, look: &mut dyn FnMut(&mut NetworkState));
}

impl Trust for Mutex<NetworkState> {
    fn look(&self, look: &mut dyn FnMut(&mut NetworkState)) {
        look(&mut self.lock().expect("whoever follows the log does not panic"));
    }
}

impl Trust for RwLock<NetworkState> {
    fn look(&self, look: &mut dyn FnMut(&mut NetworkState)) {
        look(&mut self.write().expect("whoever follows the log does not panic"));
    }
}

impl SessionContext<'_> {
    pub(crate) fn look<R>(&self, mut look: impl FnMut(&mut NetworkState) -> R) -> R {
        let mut seen = None;
        self.trust.look(&mut |state| seen = Some(look(state)));
        seen.expect("the state is lent once")
    }
}
