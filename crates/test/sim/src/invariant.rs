//! What must hold after every event, judged on what is really on the disks.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::counter::{Generation, Serial};
use heirloom_model::digest::sha256;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::sealed::{SealedEnvelope, SealedPurpose};
use heirloom_model::wire;

use crate::world::{Disk, World};

/// What was seen so far, to compare with.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Digests of every keyring file that was ever on a node.
    sealed: BTreeMap<NodeId, BTreeSet<[u8; 32]>>,
    /// The fewest holders at any moment since genesis.
    pub holders_min: Option<u32>,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Violation {
    /// No loss: too few nodes could serve the committed keyring from their disks.
    #[error("{found} nodes can recover generation {generation}, {needed} must")]
    Loss {
        /// Nodes that can.
        found: u32,
        /// Nodes that must.
        needed: u32,
        /// The committed generation.
        generation: Generation,
    },
    /// No leak: code that no policy ever named sealed a keyring.
    #[error("{measurement} has a keyring on {node}, and no policy names it")]
    Leak {
        /// Where.
        node: NodeId,
        /// Who.
        measurement: Measurement,
    },
    /// A keyring file is gone: nothing here may delete one.
    #[error("a keyring file of {node} is gone")]
    Deleted {
        /// Whose.
        node: NodeId,
    },
    /// A keeper serves another keyring than the log committed.
    #[error("the keeper of {node} serves another keyring than the log committed")]
    Diverged {
        /// Which.
        node: NodeId,
    },
}

/// Checks everything.
pub fn check(world: &World, ledger: &mut Ledger) -> Result<(), Violation> {
    no_loss(world, ledger)?;
    for (node, sim) in &world.nodes {
        no_leak(world, node, &sim.disk)?;
        nothing_deleted(node, &sim.disk, ledger)?;
        if let Some(process) = &sim.process {
            agrees(world, node, &process.keeper.status())?;
        }
    }
    Ok(())
}

/// Enough nodes have the whole committed keyring live, sealed by the code that is installed.
fn no_loss(world: &World, ledger: &mut Ledger) -> Result<(), Violation> {
    let Some(domain) = world.judge.domain(&world.ceremony.domain) else { return Ok(()) };
    let (Some(committed), Some(policy)) = (domain.committed(), domain.policy()) else {
        return Ok(());
    };
    let generation = committed.generation;
    let able = world.nodes.values().filter(|node| recovers(&node.disk, generation)).count();
    let found = u32::try_from(able).unwrap_or(u32::MAX);
    ledger.holders_min = Some(ledger.holders_min.map_or(found, |fewest| fewest.min(found)));
    let needed = policy.holders_min;
    if found < needed {
        return Err(Violation::Loss { found, needed, generation });
    }
    Ok(())
}

/// Whether the installed code could unseal every generation up to this one.
pub fn recovers(disk: &Disk, newest: Generation) -> bool {
    let Some(installed) = disk.installed else { return false };
    let mut covered = BTreeSet::new();
    for header in headers(&disk.live) {
        let holds =
            matches!(header.purpose, SealedPurpose::Keyring | SealedPurpose::ProposedGeneration);
        if holds && header.measurement == installed {
            covered.extend(header.first.0..=header.last.0);
        }
    }
    (0..=newest.0).all(|generation| covered.contains(&generation))
}

fn no_leak(world: &World, node: &NodeId, disk: &Disk) -> Result<(), Violation> {
    let all = disk.quarantine.iter().map(|(_, files)| files).chain([&disk.live]);
    for header in all.flat_map(headers) {
        if !is_named(world, &header.measurement) {
            let measurement = header.measurement;
            return Err(Violation::Leak { node: node.clone(), measurement });
        }
    }
    Ok(())
}

/// Whether some policy that is published by now lets this code hold.
fn is_named(world: &World, measurement: &Measurement) -> bool {
    let domain = world.judge.domain(&world.ceremony.domain);
    domain.is_some_and(|domain| {
        let serials = (1..=domain.published().0).map(Serial);
        serials
            .filter_map(|serial| domain.policy_by_serial(serial))
            .any(|policy| policy.holder(measurement).is_some())
    })
}

fn nothing_deleted(node: &NodeId, disk: &Disk, ledger: &mut Ledger) -> Result<(), Violation> {
    let all = disk.quarantine.iter().map(|(_, files)| files).chain([&disk.live]);
    let now: BTreeSet<[u8; 32]> = all
        .flat_map(BTreeMap::iter)
        .filter(|(name, _)| name.starts_with("keyring-"))
        .map(|(_, bytes)| sha256(&[bytes]))
        .collect();
    let before = ledger.sealed.entry(node.clone()).or_default();
    if !before.is_subset(&now) {
        return Err(Violation::Deleted { node: node.clone() });
    }
    *before = now;
    Ok(())
}

fn agrees(
    world: &World,
    node: &NodeId,
    status: &heirloom_model::admin::KeeperStatus,
) -> Result<(), Violation> {
    let domain = world.judge.domain(&world.ceremony.domain);
    let committed = domain.and_then(|domain| domain.committed());
    match (status.holding, committed) {
        (Some(holding), Some(committed))
            if holding.generation == committed.generation
                && holding.checksum != committed.checksum =>
        {
            Err(Violation::Diverged { node: node.clone() })
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

fn headers(
    files: &BTreeMap<String, Vec<u8>>,
) -> impl Iterator<Item = heirloom_model::sealed::SealedHeader> {
    files
        .values()
        .filter_map(|bytes| wire::decode::<SealedEnvelope>(bytes).ok())
        .map(|envelope| envelope.header)
}
