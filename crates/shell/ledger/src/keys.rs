//! The long-lived key of the ledger, which keepers give to its code.

use std::sync::Arc;
use std::time::Instant;

use heirloom_client::client::{Builder, Client};
use heirloom_client::error::ClientError;
use heirloom_client::port::Presence;
use heirloom_keeper::port::Platform;
use heirloom_ledger::hint::ViewSecret;
use heirloom_model::admin::Source;
use heirloom_model::causes::with_causes;
use heirloom_model::counter::Generation;
use heirloom_model::identifier::DomainId;
use heirloom_model::protocol::{KeyKind, KeyPart, KeyPeriod};
use heirloom_model::secret::Secret;
use heirloom_registry::port::{LogStore, ReadError};
use heirloom_registry_shell::client::RegistryClient;

use crate::instance::VIEW_KEY;
use crate::limit::KEY_TIME;
use crate::log::event;

/// Where the view key comes from.
pub trait ViewKeys: Send {
    /// The key, or why it is not there now.
    fn view(&mut self) -> Result<ViewSecret, String>;
}

/// The keepers of a domain.
pub struct Keepers {
    client: Client,
}

impl Keepers {
    /// Asks the keepers that a registry names.
    pub fn new(
        builder: Builder,
        platform: Box<dyn Platform + Send>,
        registry: &Arc<RegistryClient>,
    ) -> Result<Self, ClientError> {
        let log: Arc<dyn LogStore> = Arc::clone(registry) as Arc<dyn LogStore>;
        let presence = Arc::new(Announced(Arc::clone(registry)));
        Ok(Self { client: builder.start(platform, log, presence)? })
    }
}

impl ViewKeys for Keepers {
    fn view(&mut self) -> Result<ViewSecret, String> {
        let key = VIEW_KEY.parse().expect("it is a name");
        // What is on the ledger was sealed to the first key: a rotation must not hide it.
        let first = KeyPeriod::Generation(Generation(0));
        let request = self.client.request(key, KeyKind::X25519, first, KeyPart::Private);
        let key = self.client.get(&request, Instant::now() + KEY_TIME);
        let key = key.map_err(|error| with_causes(&error))?;
        let secret = key.secret().ok_or("the keeper sent no secret")?;
        Ok(ViewSecret::new(secret.expose(|bytes| Secret::new(*bytes))))
    }
}

/// Gets the key, however long it takes, unless `is_over`.
pub(crate) fn wait_for_view(
    keys: &mut dyn ViewKeys,
    is_over: &dyn Fn() -> bool,
) -> Option<ViewSecret> {
    let mut said = String::new();
    while !is_over() {
        match keys.view() {
            Ok(view) => return Some(view),
            Err(reason) if reason == said => {}
            Err(reason) => {
                event("no-view-key", &reason);
                said = reason;
            }
        }
        std::thread::park_timeout(crate::limit::FOLLOW_REST);
    }
    None
}

/// Addresses of holders, as agents announce them. Those of other domains refuse, which costs one
/// connection.
struct Announced(Arc<RegistryClient>);

impl Presence for Announced {
    fn sources(&self, _: &DomainId) -> Result<Vec<Source>, ReadError> {
        let present = self.0.presence()?;
        Ok(present.into_iter().map(|(node, address)| Source { node, address }).collect())
    }
}
