//! The fleet: which nodes exist, where, and who answers for them.

use minicbor::{Decode, Encode};

use crate::counter::{Serial, Time};
use crate::digest::NetworkId;
use crate::identifier::{DomainId, FailureDomain, HostId, NodeId, OperatorId};
use crate::limit::PAYLOAD_BYTES_MAX;
use crate::signature::PublicKey;
use crate::wire;

/// The nodes of a network.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Fleet {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// Adds one with each change.
    #[n(1)]
    pub serial: Serial,
    /// Distinct nodes, sorted by name.
    #[n(2)]
    pub nodes: Vec<Node>,
    /// After this time the fleet is not accepted.
    #[n(3)]
    pub not_after: Time,
    /// Whose key is whose, sorted by operator, each key once. Empty where nobody agrees to
    /// anything in his own name; then it is not encoded, so that such a fleet has the same bytes
    /// for everybody who does not know this field.
    #[n(4)]
    #[cbor(skip_if = "Vec::is_empty")]
    pub operators: Vec<OperatorKey>,
}

/// The key with which one operator speaks for itself, and for nobody else.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct OperatorKey {
    /// Who.
    #[n(0)]
    pub operator: OperatorId,
    /// A key of the operator role.
    #[n(1)]
    pub key: PublicKey,
}

/// One keeper's place.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Node {
    /// Its name.
    #[n(0)]
    pub node: NodeId,
    /// Whose keys it is meant to hold.
    #[n(1)]
    pub domain: DomainId,
    /// The machine.
    #[n(2)]
    pub host: HostId,
    /// What can take it away together with others.
    #[n(3)]
    pub failure_domain: FailureDomain,
    /// Who runs it.
    #[n(4)]
    pub operator: OperatorId,
    /// Signs for its agent: step results, challenges.
    #[n(5)]
    pub agent: PublicKey,
}

impl Fleet {
    /// The key of an operator, if the fleet names one.
    pub fn key_of(&self, operator: &OperatorId) -> Option<&PublicKey> {
        let at = self.operators.binary_search_by(|known| known.operator.cmp(operator)).ok()?;
        self.operators.get(at).map(|known| &known.key)
    }
}

wire! { Fleet: "fleet", PAYLOAD_BYTES_MAX; }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SigningKey;

    #[test]
    fn a_fleet_without_keys_has_the_bytes_that_it_had_before_there_were_keys() {
        let key = SigningKey::from_seed(crate::secret::Secret::new([1; 32])).public_key();
        let mut fleet = Fleet {
            network: NetworkId::new([7; 32]),
            serial: Serial(1),
            nodes: Vec::new(),
            not_after: Time(9),
            operators: Vec::new(),
        };
        let old = minicbor::to_vec((fleet.network, fleet.serial, &fleet.nodes, fleet.not_after));
        assert_eq!(wire::encode(&fleet), old.unwrap());
        assert_eq!(wire::decode::<Fleet>(&wire::encode(&fleet)).unwrap(), fleet);
        let operator: OperatorId = "alice".parse().unwrap();
        fleet.operators.push(OperatorKey { operator: operator.clone(), key });
        assert_eq!(wire::decode::<Fleet>(&wire::encode(&fleet)).unwrap(), fleet);
        assert_eq!(fleet.key_of(&operator), Some(&key));
        assert_eq!(fleet.key_of(&"bob".parse().unwrap()), None);
    }
}
