//! Addresses of holders, as agents announce them to the registry.

use std::sync::Arc;

use heirloom_client::port::Presence;
use heirloom_model::admin::Source;
use heirloom_model::identifier::DomainId;
use heirloom_registry::port::ReadError;
use heirloom_registry_shell::client::RegistryClient;

/// Every node that is announced. Those of other domains refuse, which costs one connection.
pub(crate) struct Announced(Arc<RegistryClient>);

impl Announced {
    pub(crate) fn new(registry: Arc<RegistryClient>) -> Self {
        Self(registry)
    }
}

impl Presence for Announced {
    fn sources(&self, _: &DomainId) -> Result<Vec<Source>, ReadError> {
        let present = self.0.presence()?;
        Ok(present.into_iter().map(|(node, address)| Source { node, address }).collect())
    }
}
