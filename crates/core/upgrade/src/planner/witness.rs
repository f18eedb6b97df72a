//! Nodes that prove while others change.

use std::collections::BTreeMap;

use heirloom_custody::holding::{Condition, KeyCopy, Proof};
use heirloom_custody::invariant::{LossRisk, NextEffect, Requirement, Survivors, no_loss};
use heirloom_model::counter::LogIndex;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::fleet::Node;
use heirloom_model::identifier::{FailureDomain, NodeId};

use super::WITNESS_SPARE;
use super::eligible::Ground;
use crate::inventory::Inventory;

/// Asks custody: if exactly these nodes prove, is nothing lost when everything else is gone?
pub(super) fn enough<'n>(
    inventory: &Inventory,
    ground: &Ground,
    witnesses: impl Iterator<Item = &'n Node> + Clone,
) -> Result<Survivors, LossRisk> {
    let (need, keyring) = (ground.need, ground.keyring);
    let copies: Vec<KeyCopy> = witnesses
        .clone()
        .map(|node| KeyCopy {
            node: node.node.clone(),
            failure_domain: node.failure_domain.clone(),
            condition: Condition::Steady,
            changing: std::collections::BTreeSet::new(),
        })
        .collect();
    let proofs: Vec<Proof> = witnesses
        .map(|node| Proof {
            node: node.node.clone(),
            platform: inventory.platform(&node.node),
            measurement: ground.pair(&node.node, inventory).0.measurement,
            generation: keyring.generation,
            checksum: keyring.checksum,
            origin: HoldingOrigin::Recovered,
            asked_at: LogIndex(0),
        })
        .collect();
    let policy = &inventory.policy;
    let requirement = Requirement { policy, keyring, need, fresh_from: LogIndex(0) };
    no_loss(&requirement, &copies, &proofs, &NextEffect::None)
}

/// Nodes beside some that change: as many as needed and a few more, in as many failure domains
/// as there are.
pub(super) fn beside<'i>(
    inventory: &'i Inventory,
    changing: &[&NodeId],
    need: u32,
) -> Vec<&'i Node> {
    let mut domains: BTreeMap<&FailureDomain, Vec<&Node>> = BTreeMap::new();
    for node in inventory.nodes.iter().filter(|node| !changing.contains(&&node.node)) {
        domains.entry(&node.failure_domain).or_default().push(node);
    }
    let count = usize::try_from(need).unwrap_or(usize::MAX).saturating_add(WITNESS_SPARE);
    let rounds = domains.values().map(Vec::len).max().unwrap_or_default();
    let mut picked: Vec<&Node> = (0..rounds)
        .flat_map(|round| domains.values().filter_map(move |members| members.get(round).copied()))
        .take(count)
        .collect();
    picked.sort_by(|left, right| left.node.cmp(&right.node));
    picked
}
