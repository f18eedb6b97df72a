use heirloom_model::identifier::DomainId;
use heirloom_model::measurement::MrEnclave;
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;

use super::*;

const OLD: Measurement = Measurement::Sgx(MrEnclave::new([1; 32]));
const NEW: Measurement = Measurement::Sgx(MrEnclave::new([2; 32]));

fn node(text: &str) -> Node {
    Node {
        node: text.parse().unwrap(),
        domain: DomainId::new([8; 32]),
        host: "host".parse().unwrap(),
        failure_domain: format!("rack-{text}").parse().unwrap(),
        operator: "alice".parse().unwrap(),
        agent: SigningKey::from_seed(Secret::new([1; 32])).public_key(),
    }
}

#[test]
fn a_copy_knows_which_of_its_own_seats_are_changing() {
    let nodes = [node("n1"), node("n2"), node("n3")];
    let changing = BTreeSet::from([
        Seat::new(&nodes[0].node, &OLD),
        Seat::new(&nodes[0].node, &NEW),
        Seat::new(&nodes[1].node, &NEW),
        Seat::new(&"n9".parse().unwrap(), &OLD),
    ]);
    let copies = copies(&nodes, &changing);
    let found: Vec<_> = copies
        .iter()
        .map(|copy| (copy.node.as_str(), copy.failure_domain.as_str(), copy.changing.clone()))
        .collect();
    assert_eq!(
        found,
        [
            ("n1", "rack-n1", BTreeSet::from([OLD, NEW])),
            ("n2", "rack-n2", BTreeSet::from([NEW])),
            ("n3", "rack-n3", BTreeSet::new()),
        ]
    );
    assert!(copies.iter().all(|copy| copy.condition == Condition::Steady));
}
