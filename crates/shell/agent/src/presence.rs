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

    /// Announces an address if it is another one than before. None ends it: nothing is repeated
    /// any more, and what was announced is forgotten in time.
    pub fn say(&self, address: Option<&str>) {
        let mut said = self.lock();
        if said.as_deref() != address {
            *said = address.map(str::to_owned);
            self.announce(&said);
        }
    }

    /// Announces what was said last again and again, on a thread.
    pub fn repeat(&self, stopping: &Arc<AtomicBool>) -> std::io::Result<()> {
        let (presence, stopping) = (self.clone(), Arc::clone(stopping));
        let repeat = move || {
            while !stopping.load(Ordering::Relaxed) {
                std::thread::sleep(PRESENCE_TTL / 10);
                presence.say_again();
            }
        };
        std::thread::Builder::new().name("presence".to_owned()).spawn(repeat).map(drop)
    }

    fn say_again(&self) {
        self.announce(&self.lock());
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use heirloom_model::digest::NetworkId;
    use heirloom_model::secret::Secret;
    use heirloom_model::signature::SigningKey;
    use heirloom_registry_shell::client::RegistryClient;

    use super::*;

    /// A registry that hears everything and keeps nothing, and what it heard.
    fn registry() -> (String, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (hears, heard) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = String::new();
                // The announcement is one JSON object, the last thing of the request.
                while !request.ends_with('}') {
                    let mut bytes = [0; 4096];
                    let read = stream.read(&mut bytes).unwrap();
                    request.push_str(str::from_utf8(&bytes[..read]).unwrap());
                }
                hears.send(request).unwrap();
                let end = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                stream.write_all(end).unwrap();
            }
        });
        (base, heard)
    }

    #[test]
    fn an_address_is_repeated_until_there_is_none() {
        let (base, heard) = registry();
        let key = Arc::new(SigningKey::from_seed(Secret::new([1; 32])));
        let (client, node) = (RegistryClient::new(&base), "node-1".parse().unwrap());
        let announcer = Announcer::new(client, NetworkId::new([2; 32]), node, key);
        let presence = Presence::new(announcer);
        // Each announcement is heard before the call that makes it returns.
        let said = || heard.try_iter().map(|it| it.contains("10.0.0.1:70")).collect::<Vec<_>>();
        presence.say_again();
        assert!(said().is_empty(), "nothing was said yet");
        presence.say(Some("10.0.0.1:70"));
        presence.say(Some("10.0.0.1:70"));
        assert_eq!(said(), [true], "once");
        presence.say_again();
        assert_eq!(said(), [true], "and again");
        presence.say(None);
        presence.say_again();
        assert!(said().is_empty(), "no keeper is there any more");
        presence.say(Some("10.0.0.1:70"));
        assert_eq!(said(), [true], "the same address is new after that");
    }
}
