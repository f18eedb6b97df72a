//! The agent's signature under what its keeper, or its service, says about their node.
//!
//! Neither is the agent's superior: whatever comes out of its socket is signed only if it is
//! the kind of statement that was asked for, about this very node. Otherwise a strange process at
//! the socket could have the agent's word for step results, challenges, or another node.

use heirloom_model::domain::PlanStep;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::service::Standing;
use heirloom_model::signature::SigningKey;
use heirloom_model::statement::{AttestedStatement, Statement, StatementKind};
use heirloom_model::{wire, wire::WireError};

/// Why an agent does not sign what its keeper or its service made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotCountersigned {
    /// It is not the statement that was asked for.
    #[error("the {speaker}'s statement is not what it was asked for")]
    Malformed {
        /// Who made it.
        speaker: &'static str,
        /// What is wrong with it.
        #[source]
        source: WireError,
    },
    /// It speaks for another node.
    #[error("the {speaker} speaks for node {found}, not for {expected}")]
    OtherNode {
        /// Who made the statement.
        speaker: &'static str,
        /// The agent's node.
        expected: NodeId,
        /// The one in the statement.
        found: NodeId,
    },
    /// It answers another step than the one that asked.
    #[error("the service speaks about step {} of another plan or moment", found.step)]
    OtherStep {
        /// The step in the statement.
        found: PlanStep,
    },
}

/// Who makes statements of a kind, for messages.
fn speaker(kind: StatementKind) -> &'static str {
    if kind == StatementKind::Standing { "service" } else { "keeper" }
}

/// Adds the agent's signature to an instance's statement about the agent's node. Nothing is verified
/// here: everybody who folds the log does that.
pub fn countersign<T: AttestedStatement>(
    statement: &[u8],
    node: &NodeId,
    agent: &SigningKey,
) -> Result<Vec<u8>, NotCountersigned> {
    let speaker = speaker(T::KIND);
    let malformed = |source| NotCountersigned::Malformed { speaker, source };
    let mut envelope: Envelope = wire::decode(statement).map_err(malformed)?;
    let content: T = envelope.unverified().map_err(malformed)?;
    if content.node() != node {
        let (expected, found) = (node.clone(), content.node().clone());
        return Err(NotCountersigned::OtherNode { speaker, expected, found });
    }
    envelope.sign(agent);
    Ok(wire::encode(&envelope))
}

/// As [`countersign`], for what a service states for exactly this step.
pub fn countersign_standing(
    statement: &[u8],
    node: &NodeId,
    step: PlanStep,
    agent: &SigningKey,
) -> Result<Vec<u8>, NotCountersigned> {
    let speaker = speaker(Standing::KIND);
    let malformed = |source| NotCountersigned::Malformed { speaker, source };
    let envelope: Envelope = wire::decode(statement).map_err(malformed)?;
    let found = envelope.unverified::<Standing>().map_err(malformed)?.step;
    if found != step {
        return Err(NotCountersigned::OtherStep { found });
    }
    countersign::<Standing>(statement, node, agent)
}

#[cfg(test)]
mod tests {
    use heirloom_model::counter::Serial;
    use heirloom_model::digest::{ConfigurationDigest, NetworkId, PlanDigest};
    use heirloom_model::domain::{LogPosition, PossessionProof, Registration};
    use heirloom_model::identifier::DomainId;
    use heirloom_model::measurement::{Measurement, MrEnclave};
    use heirloom_model::plan::StepId;
    use heirloom_model::secret::Secret;
    use heirloom_model::service::{Admission, Writing};

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(Secret::new([seed; 32]))
    }

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn made_by_keeper() -> Vec<u8> {
        let registration = Registration {
            network: NetworkId::new([1; 32]),
            domain: DomainId::new([2; 32]),
            node: node("n1"),
            as_of: LogPosition::START,
            policy: Serial(1),
            volatile: None,
        };
        wire::encode(&Envelope::signed(&registration, [&key(1)]))
    }

    #[test]
    fn the_statement_that_was_asked_for_gets_a_second_signature() {
        let signed = countersign::<Registration>(&made_by_keeper(), &node("n1"), &key(2)).unwrap();
        let envelope: Envelope = wire::decode(&signed).unwrap();
        let mut expected = [key(1).public_key(), key(2).public_key()];
        expected.sort();
        assert_eq!(envelope.signatures.iter().map(|it| it.key).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nothing_else_gets_the_agents_word() {
        let statement = made_by_keeper();
        let other = countersign::<Registration>(&statement, &node("n2"), &key(2));
        assert!(matches!(other, Err(NotCountersigned::OtherNode { .. })), "{other:?}");
        let kind = countersign::<PossessionProof>(&statement, &node("n1"), &key(2));
        assert!(matches!(kind, Err(NotCountersigned::Malformed { .. })), "{kind:?}");
        let junk = countersign::<Registration>(b"junk", &node("n1"), &key(2));
        assert!(matches!(junk, Err(NotCountersigned::Malformed { .. })), "{junk:?}");
        let told = other.unwrap_err().to_string();
        assert_eq!(told, "the keeper speaks for node n1, not for n2");
    }

    #[test]
    fn a_standing_for_another_step_gets_no_signature() {
        let step = |step| PlanStep { plan: PlanDigest::new([4; 32]), step: StepId(step) };
        let standing = Standing {
            network: NetworkId::new([1; 32]),
            domain: DomainId::new([2; 32]),
            node: node("n1"),
            step: step(7),
            application: "ledger".parse().unwrap(),
            measurement: Measurement::Sgx(MrEnclave::new([3; 32])),
            configuration: ConfigurationDigest::new([5; 32]),
            schema: None,
            loaded: None,
            tip: None,
            writing: Writing::Active,
            pending: 0,
            admission: Admission::Closed,
            quiet_milliseconds: 0,
            peers: Vec::new(),
            keys: Vec::new(),
            fork: None,
        };
        let made = wire::encode(&Envelope::signed(&standing, [&key(1)]));
        let sign = |name: &str, id| countersign_standing(&made, &node(name), step(id), &key(2));
        sign("n1", 7).unwrap();
        let other = sign("n1", 8);
        assert!(matches!(other, Err(NotCountersigned::OtherStep { .. })), "{other:?}");
        let other = sign("n2", 7);
        assert!(matches!(other, Err(NotCountersigned::OtherNode { .. })), "{other:?}");
        let told = other.unwrap_err().to_string();
        assert_eq!(told, "the service speaks for node n1, not for n2");
    }
}
