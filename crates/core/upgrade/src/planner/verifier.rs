//! Who verifies a wave, and who verifies it again.
//!
//! Two different nodes, outside the wave if possible, run by different operators on different
//! machines if the fleet has them: an operator who only ever asks himself learns nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use heirloom_model::fleet::Node;

use super::layout::{Layout, Side};

/// Nodes that are compared for a pair. Enough to find a second operator where there is one,
/// because every operator is represented first.
const CANDIDATES_MAX: usize = 16;

/// Finds pairs of verifiers.
pub(super) struct Verifiers {
    /// Two nodes of each of some operators.
    representatives: Vec<usize>,
}

impl Verifiers {
    pub(super) fn new(layout: &Layout<'_>) -> Self {
        let mut by_operator: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for position in layout.positions() {
            let of_operator = by_operator.entry(&layout.node(position).operator).or_default();
            // The first and the last node of an operator are in different waves, if any are.
            match of_operator.len() {
                0 | 1 => of_operator.push(position),
                _ => of_operator[1] = position,
            }
        }
        let representatives = by_operator.into_values().flatten().take(CANDIDATES_MAX).collect();
        Self { representatives }
    }

    /// Verifies one wave, and verifies it again.
    pub(super) fn of_wave(&self, layout: &Layout<'_>, wave: usize) -> (usize, usize) {
        let range = layout.waves.get(wave).cloned().unwrap_or(0..0);
        let mut candidates = layout.pick(wave, wave, CANDIDATES_MAX, Side::Any);
        candidates.extend(self.representatives.iter().filter(|found| !range.contains(found)));
        // With two nodes in all, one of them is in the wave.
        candidates.extend(range.clone().take(2));
        best(layout, &candidates, &range)
    }

    /// Verifies everything, and verifies it again.
    pub(super) fn of_all(&self, layout: &Layout<'_>) -> (usize, usize) {
        let candidates: Vec<usize> = self
            .representatives
            .iter()
            .copied()
            .chain(layout.positions().take(CANDIDATES_MAX))
            .collect();
        best(layout, &candidates, &(0..0))
    }
}

/// Verifies, and verifies again, where no node is about to change its keeper: the two nodes with
/// the fewest things in common, or the only node twice.
pub(super) fn pair(nodes: &[Node]) -> Option<(&Node, &Node)> {
    let mut chosen: Option<(u32, (&Node, &Node))> = None;
    let candidates = || nodes.iter().take(CANDIDATES_MAX);
    for (index, first) in candidates().enumerate() {
        for second in candidates().skip(index + 1) {
            let shared = shared(first, second);
            if chosen.is_none_or(|(least, _)| shared < least) {
                chosen = Some((shared, (first, second)));
            }
        }
    }
    chosen.map(|(_, pair)| pair).or_else(|| nodes.first().map(|only| (only, only)))
}

/// The pair with the fewest things in common; of equal ones the first.
fn best(layout: &Layout<'_>, candidates: &[usize], inside: &Range<usize>) -> (usize, usize) {
    let mut chosen: Option<(u32, (usize, usize))> = None;
    for (index, first) in candidates.iter().enumerate() {
        for second in candidates.iter().skip(index + 1) {
            if first == second {
                continue;
            }
            let members = u32::from(inside.contains(first)) + u32::from(inside.contains(second));
            let shared = shared(layout.node(*first), layout.node(*second)) + 8 * members;
            if chosen.is_none_or(|(least, _)| shared < least) {
                chosen = Some((shared, (*first, *second)));
            }
            if shared == 0 {
                return (*first, *second);
            }
        }
    }
    chosen.map(|(_, pair)| pair).expect("a plan has at least two nodes")
}

/// How much two nodes have in common.
fn shared(left: &Node, right: &Node) -> u32 {
    4 * u32::from(left.operator == right.operator)
        + 2 * u32::from(left.host == right.host)
        + u32::from(left.failure_domain == right.failure_domain)
}
