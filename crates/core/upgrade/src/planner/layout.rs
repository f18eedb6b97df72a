//! Who changes together, who proves meanwhile, and who gives the keyring.
//!
//! All nodes stand in one line: the first node of every failure domain, then the second of every
//! failure domain, and so on. Waves are consecutive pieces of that line. So each wave takes from
//! every failure domain alike, and within one failure domain the nodes before, in and after a
//! wave are consecutive too, which makes every choice below cheap.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use heirloom_custody::invariant::LossRisk;
use heirloom_model::fleet::Node;
use heirloom_model::identifier::{FailureDomain, NodeId};

use super::eligible::Ground;
use super::{PlanError, SOURCES_MAX, WITNESS_SPARE, WaveSize, witness};
use crate::inventory::Inventory;

/// Where every node stands.
pub(super) struct Layout<'a> {
    inventory: &'a Inventory,
    need: usize,
    /// Nodes in line order.
    line: Vec<&'a Node>,
    /// Positions in the line by failure domain; ascending.
    domains: Vec<Vec<usize>>,
    /// Pieces of the line, in the order in which they change.
    pub(super) waves: Vec<Range<usize>>,
    /// How many nodes were asked to change together.
    pub(super) asked: usize,
}

/// Which nodes outside a wave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    /// Those that changed before.
    Earlier,
    /// Those that change later.
    Later,
    /// Both.
    Any,
}

impl<'a> Layout<'a> {
    pub(super) fn new(
        inventory: &'a Inventory,
        size: WaveSize,
        ground: &Ground,
    ) -> Result<Self, PlanError> {
        let (line, domains) = line_up(&inventory.nodes);
        let asked = match size {
            WaveSize::Half => line.len().div_ceil(2),
            WaveSize::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).max(1),
            WaveSize::OneByOne => 1,
        };
        let need_domains = usize::try_from(ground.need).unwrap_or(usize::MAX);
        let waves = Vec::new();
        let mut layout = Self { inventory, need: need_domains, line, domains, waves, asked };
        layout.waves = layout.cut()?;
        layout.confirm(ground)?;
        Ok(layout)
    }

    /// The node at a position of the line.
    pub(super) fn node(&self, position: usize) -> &'a Node {
        self.line.get(position).expect("positions come from this line")
    }

    /// Every position.
    pub(super) fn positions(&self) -> Range<usize> {
        0..self.line.len()
    }

    /// The names of the nodes at some positions, sorted.
    pub(super) fn names(&self, positions: impl IntoIterator<Item = usize>) -> Vec<NodeId> {
        let mut names: Vec<NodeId> =
            positions.into_iter().map(|position| self.node(position).node.clone()).collect();
        names.sort();
        names
    }

    /// Cuts the line into waves that custody can bear.
    fn cut(&self) -> Result<Vec<Range<usize>>, PlanError> {
        let mut waves = Vec::new();
        let mut domain_of = vec![0; self.line.len()];
        for (domain, positions) in self.domains.iter().enumerate() {
            for position in positions {
                if let Some(slot) = domain_of.get_mut(*position) {
                    *slot = domain;
                }
            }
        }
        let mut start = 0;
        while start < self.line.len() {
            let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
            let mut emptied = 0;
            let mut end = start;
            while end < self.line.len() && end - start < self.asked {
                let domain = domain_of.get(end).copied().unwrap_or_default();
                let count = taken.entry(domain).or_default();
                let members = self.domains.get(domain).map_or(0, Vec::len);
                let after = emptied + usize::from(*count + 1 == members);
                if !self.can_empty(after) {
                    break;
                }
                *count += 1;
                emptied = after;
                end += 1;
            }
            if end == start {
                return Err(self.too_few(start));
            }
            waves.push(start..end);
            start = end;
        }
        Ok(waves)
    }

    /// Whether this many failure domains may be without a holder for a while: enough others
    /// remain, and the last two never go together.
    fn can_empty(&self, emptied: usize) -> bool {
        let remaining = self.domains.len().saturating_sub(emptied);
        remaining >= self.need && (emptied < 2 || remaining >= 2)
    }

    fn too_few(&self, position: usize) -> PlanError {
        let node = self.node(position).node.clone();
        let needed = u32::try_from(self.need).unwrap_or(u32::MAX);
        let shortfall = heirloom_custody::invariant::Shortfall {
            needed,
            found: u32::try_from(self.domains.len().saturating_sub(1)).unwrap_or(u32::MAX),
            holders: Vec::new(),
            missing: Vec::new(),
        };
        PlanError::TooFewOutside { node, needed, risk: LossRisk::TooFew(shortfall) }
    }

    /// Asks custody about every wave: if its witnesses prove, is nothing lost when all of it is
    /// gone at once?
    fn confirm(&self, ground: &Ground) -> Result<(), PlanError> {
        for (wave, range) in self.waves.iter().enumerate() {
            let witnesses = self.witnesses(wave, range.start);
            let witnesses = witnesses.iter().map(|position| self.node(*position));
            if let Err(risk) = witness::enough(self.inventory, ground, witnesses) {
                let node = self.node(range.start).node.clone();
                return Err(PlanError::TooFewOutside { node, needed: ground.need, risk });
            }
        }
        Ok(())
    }

    /// Who proves before the node at `position` of a wave stops.
    pub(super) fn witnesses(&self, wave: usize, position: usize) -> Vec<usize> {
        self.pick(wave, position, self.need.saturating_add(WITNESS_SPARE), Side::Any)
    }

    /// Who gives the keyring to the new instance at `position`.
    pub(super) fn sources(&self, wave: usize, position: usize) -> Vec<usize> {
        self.pick(wave, position.wrapping_add(1), SOURCES_MAX, Side::Any)
    }

    /// Who proves before the new instance at `position` stops on the way back, and which of them
    /// must be back before.
    ///
    /// Nodes of earlier waves run the new version until this one is back, and prove. Where they
    /// are too few, nodes of later waves stand in, and those have to be back themselves. So
    /// nobody waits in a circle, and of two nodes that stop at the same time the one of the
    /// earlier wave has witnesses that stay.
    pub(super) fn witnesses_back(&self, wave: usize, position: usize) -> (Vec<usize>, Vec<usize>) {
        let enough = self.need.saturating_add(WITNESS_SPARE);
        let mut witnesses = self.pick(wave, position, enough, Side::Earlier);
        let mut covered: BTreeSet<&FailureDomain> =
            witnesses.iter().map(|found| &self.node(*found).failure_domain).collect();
        let mut later = Vec::new();
        if covered.len() < self.need {
            for found in self.pick(wave, position, enough, Side::Later) {
                let is_new = covered.insert(&self.node(found).failure_domain);
                if is_new {
                    later.push(found);
                }
                if covered.len() >= self.need {
                    break;
                }
            }
        }
        witnesses.extend(&later);
        (witnesses, later)
    }

    /// Up to `count` positions outside a wave, in as many failure domains as there are, starting
    /// somewhere that depends on `seed` so that the load is spread.
    pub(super) fn pick(&self, wave: usize, seed: usize, count: usize, side: Side) -> Vec<usize> {
        let range = self.waves.get(wave).cloned().unwrap_or(0..0);
        let outside: Vec<Outside<'_>> = self.candidates(&range, seed, count, side);
        let mut picked = Vec::new();
        let mut round = 0;
        while picked.len() < count {
            let before = picked.len();
            for members in &outside {
                if picked.len() < count
                    && let Some(position) = members.at(seed / self.domains.len().max(1), round)
                {
                    picked.push(position);
                }
            }
            if picked.len() == before {
                break;
            }
            round += 1;
        }
        picked
    }

    /// The failure domains that have members outside, at most `count` of them.
    fn candidates(
        &self,
        range: &Range<usize>,
        seed: usize,
        count: usize,
        side: Side,
    ) -> Vec<Outside<'_>> {
        let total = self.domains.len();
        // The line interleaves failure domains, so right behind a wave are those that it does
        // not empty; starting there keeps the search short.
        let first = range.end.wrapping_add(seed.wrapping_sub(range.start)) % total.max(1);
        let mut found = Vec::new();
        for offset in 0..total {
            let Some(members) = self.domains.get((first + offset) % total) else { continue };
            let before = members.partition_point(|position| *position < range.start);
            let after = members.partition_point(|position| *position < range.end);
            let (earlier, _) = members.split_at(before);
            let (_, later) = members.split_at(after);
            let outside = match side {
                Side::Earlier => Outside { earlier, later: &[] },
                Side::Later => Outside { earlier: &[], later },
                Side::Any => Outside { earlier, later },
            };
            if outside.len() > 0 {
                found.push(outside);
            }
            if found.len() == count {
                break;
            }
        }
        found
    }
}

/// The members of one failure domain outside a wave.
struct Outside<'a> {
    earlier: &'a [usize],
    later: &'a [usize],
}

impl Outside<'_> {
    fn len(&self) -> usize {
        self.earlier.len() + self.later.len()
    }

    /// The member of a round, each round another one, until there are no more.
    fn at(&self, seed: usize, round: usize) -> Option<usize> {
        if round >= self.len() {
            return None;
        }
        let index = seed.wrapping_add(round) % self.len();
        let later = || self.later.get(index - self.earlier.len());
        self.earlier.get(index).or_else(later).copied()
    }
}

/// The nodes in line, and their positions by failure domain.
fn line_up(nodes: &[Node]) -> (Vec<&Node>, Vec<Vec<usize>>) {
    let mut by_domain: BTreeMap<&FailureDomain, Vec<&Node>> = BTreeMap::new();
    for node in nodes {
        by_domain.entry(&node.failure_domain).or_default().push(node);
    }
    let mut line: Vec<(usize, usize, &Node)> = Vec::new();
    for (domain, members) in by_domain.values().enumerate() {
        line.extend(members.iter().enumerate().map(|(rank, node)| (rank, domain, *node)));
    }
    line.sort_by_key(|(rank, domain, _)| (*rank, *domain));
    let mut domains = vec![Vec::new(); by_domain.len()];
    for (position, (_, domain, _)) in line.iter().enumerate() {
        if let Some(positions) = domains.get_mut(*domain) {
            positions.push(position);
        }
    }
    (line.into_iter().map(|(_, _, node)| node).collect(), domains)
}
