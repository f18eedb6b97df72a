//! Quoting identities whose verification is remembered.
//!
//! Verifying one quote fully costs about ten P-256 signatures, of which nine are the same for
//! every quote of one quoting enclave. They are remembered here under a digest of everything that
//! they cover. What is remembered are facts, not permissions: the policy is judged again each
//! time, and nothing of the enclave that is quoted is in here.

use std::collections::{BTreeMap, VecDeque};

use heirloom_model::counter::Time;
use heirloom_model::digest::{AnchorId, sha256};
use heirloom_model::limit::QUOTING_IDENTITIES_MAX;

use crate::dcap::PlatformClaims;
use crate::endorse::Family;
use crate::pki::Window;
use crate::quote::Quote;

/// Digest of everything in a quote that its quoting identity consists of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct QuotingKey([u8; 32]);

/// A verified quoting identity.
#[derive(Clone, Debug)]
pub(crate) struct QuotingIdentity {
    pub(crate) claims: PlatformClaims,
    pub(crate) anchor: AnchorId,
    pub(crate) family: Family,
    /// Digest of the endorsements that it was verified with.
    pub(crate) endorsements: [u8; 32],
    /// The time for which it was verified.
    pub(crate) verified: Time,
    /// When the platform's certificates and the anchor are valid.
    pub(crate) certificates: Window,
}

/// A bounded number of quoting identities; the oldest goes first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    known: BTreeMap<QuotingKey, QuotingIdentity>,
    order: VecDeque<QuotingKey>,
}

impl QuotingKey {
    pub(crate) fn of(quote: &Quote<'_>) -> Self {
        let authentication = length(quote.authentication);
        let certification = length(quote.certification);
        Self(sha256(&[
            quote.header,
            quote.attestation_key,
            quote.qe_report.bytes(),
            quote.qe_signature,
            &authentication,
            quote.authentication,
            &certification,
            quote.certification,
        ]))
    }
}

impl Cache {
    pub(crate) fn get(&self, key: &QuotingKey) -> Option<&QuotingIdentity> {
        self.known.get(key)
    }

    pub(crate) fn put(&mut self, key: QuotingKey, identity: QuotingIdentity) {
        if self.known.insert(key, identity).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > QUOTING_IDENTITIES_MAX {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.known.remove(&oldest));
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

/// Variable parts are hashed with their length, so that no two quotes read alike.
fn length(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use heirloom_model::identifier::PlatformId;
    use heirloom_model::policy::TcbLevel;

    use super::*;

    fn key(number: usize) -> QuotingKey {
        QuotingKey(sha256(&[&number.to_be_bytes()]))
    }

    fn identity() -> QuotingIdentity {
        let claims = PlatformClaims {
            platform: PlatformId::new([0; 32]),
            fmspc: [0; 6],
            tcb: TcbLevel::UpToDate,
            advisories: Vec::new(),
            tcb_evaluation: 1,
        };
        let anchor = AnchorId::new([0; 32]);
        QuotingIdentity {
            claims,
            anchor,
            family: Family { anchor, fmspc: [0; 6], issuer: [0; 32] },
            endorsements: [0; 32],
            verified: Time(0),
            certificates: Window { since: Time(0), until: Time(1) },
        }
    }

    #[test]
    fn the_oldest_identity_makes_room() {
        let mut cache = Cache::default();
        for number in 0..=QUOTING_IDENTITIES_MAX {
            cache.put(key(number), identity());
            // An identity that is verified again takes no second place.
            cache.put(key(number), identity());
        }
        assert_eq!(cache.len(), QUOTING_IDENTITIES_MAX);
        assert!(cache.get(&key(0)).is_none());
        assert!(cache.get(&key(1)).is_some());
        assert!(cache.get(&key(QUOTING_IDENTITIES_MAX)).is_some());
    }
}
