//! What a client needs from the outside besides its platform and the log.

use heirloom_model::admin::Source;
use heirloom_model::identifier::DomainId;
use heirloom_registry::port::ReadError;

/// Says where keepers can be reached right now.
///
/// Nothing that it says is believed: whoever answers at an address must attest.
pub trait Presence: Send + Sync {
    /// The nodes of a domain that are alive, and their addresses.
    fn sources(&self, domain: &DomainId) -> Result<Vec<Source>, ReadError>;
}
