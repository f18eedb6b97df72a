//! Who may be a peer: one pure decision.
//!
//! A session has shown which code is at its other end. That alone makes nobody a peer: the code
//! must be exactly our own, the policy must let it have the application's keys, and it must be
//! configured as we are. No signer, no version and no list can take the place of equality.

use std::collections::BTreeSet;

use heirloom_model::digest::{ConfigurationDigest, NetworkId};
use heirloom_model::identifier::{ApplicationId, NodeId};
use heirloom_model::measurement::Measurement;
use heirloom_model::service::PeerSeen;

/// What a node knows about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnSide {
    /// Its name.
    pub node: NodeId,
    /// Its network.
    pub network: NetworkId,
    /// Whose keys it uses.
    pub application: ApplicationId,
    /// Its code, as its platform says.
    pub measurement: Measurement,
    /// What it has configured.
    pub configuration: ConfigurationDigest,
    /// The other nodes of the ledger.
    pub peers: BTreeSet<NodeId>,
}

/// What the other side of an attested session showed and said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerSide {
    /// What its evidence says.
    pub measurement: Measurement,
    /// Whether the policy in force names that code for our application.
    pub rule: Rule,
    /// The name that it says.
    pub node: NodeId,
    /// The network that it says.
    pub network: NetworkId,
    /// The application that it says.
    pub application: ApplicationId,
    /// The configuration that it says.
    pub configuration: ConfigurationDigest,
}

/// What the policy in force says about code of an application.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// It names the code, and the code's security version is enough.
    Named,
    /// It names the code with a higher security version.
    TooOld,
    /// It does not name the code.
    Unnamed,
    /// No policy is known, or it has expired.
    NoPolicy,
}

/// A peer. Only [`accept_peer`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AcceptedPeer(PeerSeen);

/// Why somebody is no peer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PeerRefusal {
    /// Its code is not ours.
    #[error("its code is {found}, not {own}")]
    OtherMeasurement {
        /// Its code.
        found: Measurement,
        /// Our code.
        own: Measurement,
    },
    /// The policy does not let its code have the application's keys.
    #[error("the policy in force does not name its code for the application ({0:?})")]
    NotInPolicy(Rule),
    /// It belongs to another network.
    #[error("it belongs to network {found}")]
    OtherNetwork {
        /// Which.
        found: NetworkId,
    },
    /// It belongs to another application.
    #[error("it belongs to application {found}")]
    OtherApplication {
        /// Which.
        found: ApplicationId,
    },
    /// It is configured in another way.
    #[error("its configuration is {found}, not {own}")]
    OtherConfiguration {
        /// Its configuration.
        found: ConfigurationDigest,
        /// Our configuration.
        own: ConfigurationDigest,
    },
    /// Its name is our own.
    #[error("it says that it is this very node")]
    OurName,
    /// Another instance is a peer under its name.
    #[error("another living instance has its name")]
    SecondInstance,
    /// Nobody told us about a node of this name.
    #[error("node {found} is not in the list of peers")]
    Unlisted {
        /// The name.
        found: NodeId,
    },
}

/// The word for a name that is taken: an instance that has just ended gives it free by itself.
pub(crate) const SECOND_INSTANCE: &str = "second-instance";

impl PeerRefusal {
    /// The word for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OtherMeasurement { .. } => "other-measurement",
            Self::NotInPolicy(_) => "not-in-policy",
            Self::OtherNetwork { .. } => "other-network",
            Self::OtherApplication { .. } => "other-application",
            Self::OtherConfiguration { .. } => "other-configuration",
            Self::OurName => "our-name",
            Self::SecondInstance => SECOND_INSTANCE,
            Self::Unlisted { .. } => "unlisted",
        }
    }
}

impl AcceptedPeer {
    /// What standings say about it.
    pub fn seen(&self) -> &PeerSeen {
        &self.0
    }
}

/// Decides whether the other side of an attested session is a peer.
pub fn accept_peer(own: &OwnSide, seen: &PeerSide) -> Result<AcceptedPeer, PeerRefusal> {
    if seen.measurement != own.measurement {
        let (found, own) = (seen.measurement, own.measurement);
        return Err(PeerRefusal::OtherMeasurement { found, own });
    }
    match seen.rule {
        Rule::Named => {}
        Rule::NoPolicy | Rule::TooOld | Rule::Unnamed => {
            return Err(PeerRefusal::NotInPolicy(seen.rule));
        }
    }
    if seen.network != own.network {
        return Err(PeerRefusal::OtherNetwork { found: seen.network });
    }
    if seen.application != own.application {
        return Err(PeerRefusal::OtherApplication { found: seen.application.clone() });
    }
    if seen.configuration != own.configuration {
        let (found, own) = (seen.configuration, own.configuration);
        return Err(PeerRefusal::OtherConfiguration { found, own });
    }
    if seen.node == own.node {
        return Err(PeerRefusal::OurName);
    }
    if !own.peers.contains(&seen.node) {
        return Err(PeerRefusal::Unlisted { found: seen.node.clone() });
    }
    Ok(AcceptedPeer(PeerSeen {
        node: seen.node.clone(),
        measurement: seen.measurement,
        configuration: seen.configuration,
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use heirloom_model::measurement::MrEnclave;

    use super::*;

    fn code(byte: u8) -> Measurement {
        Measurement::Sgx(MrEnclave::new([byte; 32]))
    }

    fn own() -> OwnSide {
        OwnSide {
            node: "n1".parse().unwrap(),
            network: NetworkId::new([1; 32]),
            application: "ledger".parse().unwrap(),
            measurement: code(2),
            configuration: ConfigurationDigest::new([3; 32]),
            peers: BTreeSet::from(["n2".parse().unwrap(), "n3".parse().unwrap()]),
        }
    }

    fn peer() -> PeerSide {
        PeerSide {
            measurement: code(2),
            rule: Rule::Named,
            node: "n2".parse().unwrap(),
            network: NetworkId::new([1; 32]),
            application: "ledger".parse().unwrap(),
            configuration: ConfigurationDigest::new([3; 32]),
        }
    }

    /// A peer as it should be.
    pub(crate) fn accepted() -> AcceptedPeer {
        accept_peer(&own(), &peer()).unwrap()
    }

    #[test]
    fn an_equal_node_from_the_list_is_a_peer() {
        let accepted = accept_peer(&own(), &peer()).unwrap();
        assert_eq!(accepted.seen().node.as_str(), "n2");
        assert_eq!(accepted.seen().measurement, own().measurement);
    }

    /// Each row changes exactly one field.
    #[test]
    fn one_difference_is_enough_to_be_refused() {
        type Change = fn(&mut PeerSide);
        let rows: [(&str, Change); 9] = [
            ("other-measurement", |peer| peer.measurement = code(9)),
            ("not-in-policy", |peer| peer.rule = Rule::Unnamed),
            ("not-in-policy", |peer| peer.rule = Rule::TooOld),
            ("not-in-policy", |peer| peer.rule = Rule::NoPolicy),
            ("other-network", |peer| peer.network = NetworkId::new([9; 32])),
            ("other-application", |peer| peer.application = "wallet".parse().unwrap()),
            ("other-configuration", |peer| peer.configuration = ConfigurationDigest::new([9; 32])),
            ("our-name", |peer| peer.node = "n1".parse().unwrap()),
            ("unlisted", |peer| peer.node = "n4".parse().unwrap()),
        ];
        for (expected, change) in rows {
            let mut changed = peer();
            change(&mut changed);
            let refused = accept_peer(&own(), &changed).unwrap_err();
            assert_eq!(refused.code(), expected, "{refused}");
        }
    }
}
