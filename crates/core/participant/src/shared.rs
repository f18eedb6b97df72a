//! Contracts that two participants share: each rewrites its own copy of them, and the copies must
//! be the same.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_canton::name::Party;
use heirloom_model::identifier::NodeId;
use heirloom_model::party::PartyId;

/// Which nodes host which party.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hosting {
    nodes: BTreeMap<Party, BTreeSet<NodeId>>,
}

impl Hosting {
    /// Nobody hosts anybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// This node hosts this party, maybe among others.
    pub fn host(&mut self, party: &PartyId, node: NodeId) {
        self.nodes.entry(party.into()).or_default().insert(node);
    }

    /// The same nodes under the new names of their parties.
    #[must_use]
    pub fn moved(self, map: &crate::map::PartyMap) -> Self {
        let mut moved = Self::new();
        for (party, nodes) in self.nodes {
            let party = map.renamed(&party).cloned().unwrap_or(party);
            moved.nodes.entry(party).or_default().extend(nodes);
        }
        moved
    }

    /// Every node except one.
    pub fn nodes_except(&self, own: &NodeId) -> BTreeSet<NodeId> {
        let all = self.nodes.values().flatten();
        all.filter(|node| *node != own).cloned().collect()
    }

    /// The other nodes that have a copy of a contract with these stakeholders, if the own one has.
    pub fn sharers<'p>(
        &self,
        own: &NodeId,
        stakeholders: impl IntoIterator<Item = &'p Party>,
    ) -> BTreeSet<&NodeId> {
        let mut nodes: BTreeSet<&NodeId> =
            stakeholders.into_iter().filter_map(|party| self.nodes.get(party)).flatten().collect();
        if nodes.remove(own) { nodes } else { BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contract_is_shared_by_the_nodes_that_host_its_stakeholders() {
        let party = |text: &str| text.parse::<PartyId>().unwrap();
        let node = |text: &str| text.parse::<NodeId>().unwrap();
        let mut hosting = Hosting::new();
        hosting.host(&party("a::1"), node("one"));
        hosting.host(&party("b::2"), node("two"));
        hosting.host(&party("c::3"), node("three"));
        hosting.host(&party("c::3"), node("two"));
        let shared = |own: &str, stakeholders: &[&str]| -> Vec<String> {
            let stakeholders: Vec<Party> =
                stakeholders.iter().map(|p| p.parse().unwrap()).collect();
            let own = node(own);
            hosting.sharers(&own, &stakeholders).into_iter().map(ToString::to_string).collect()
        };
        assert_eq!(shared("one", &["a::1"]), Vec::<String>::new());
        assert_eq!(shared("one", &["a::1", "b::2"]), ["two"]);
        assert_eq!(shared("two", &["a::1", "b::2", "x::9"]), ["one"]);
        assert_eq!(shared("one", &["a::1", "c::3"]), ["three", "two"]);
        // Whoever hosts none of them has no copy, whatever the others share.
        assert_eq!(shared("one", &["b::2", "c::3"]), Vec::<String>::new());
    }
}
