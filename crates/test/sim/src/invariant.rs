//! What must hold after every event, judged on what is really on the disks.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::counter::{Generation, Serial};
use heirloom_model::digest::sha256;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::{Policy, Sharing};
use heirloom_model::protocol::ServingState;
use heirloom_model::sealed::{SealedEnvelope, SealedPurpose};
use heirloom_model::wire;

use crate::world::{Disk, Files, Process, World};

/// What was seen so far, to compare with.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Digests of every keyring file that was ever on a node.
    sealed: BTreeMap<NodeId, BTreeSet<[u8; 32]>>,
    /// The fewest holders at any moment since genesis.
    pub holders_min: Option<u32>,
    /// The most instances that answered at any moment.
    pub active_max: u32,
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
    /// Several instances of an exclusive domain would answer at the same time.
    #[error("{} instances answer for an exclusive domain: {}", who.len(), who.join(", "))]
    TwoActive {
        /// Which.
        who: Vec<String>,
    },
    /// A keeper serves another keyring than the log committed.
    #[error("the keeper of {node} serves another keyring than the log committed")]
    Diverged {
        /// Which.
        node: NodeId,
    },
}

impl Ledger {
    /// Forgets which files a node had: somebody puts its disk back to what it was.
    pub fn forget(&mut self, node: &NodeId) {
        self.sealed.remove(node);
    }
}

/// Checks everything.
pub fn check(world: &World, ledger: &mut Ledger) -> Result<(), Violation> {
    no_loss(world, ledger)?;
    for (node, sim) in &world.nodes {
        no_leak(world, node, &sim.disk)?;
        nothing_deleted(world, node, ledger)?;
        for process in sim.processes.values() {
            agrees(world, node, &process.keeper.status(world.now))?;
        }
    }
    one_active(world, ledger)
}

/// An exclusive domain never has two instances that would answer, whoever started them.
fn one_active(world: &World, ledger: &mut Ledger) -> Result<(), Violation> {
    let answers = |process: &&Process| process.keeper.state_at(world.now) == ServingState::Ready;
    let known = world.nodes.values().flat_map(|node| node.processes.values());
    let who: Vec<String> = known
        .chain(&world.clones)
        .filter(answers)
        .map(|it| format!("{} of {}", it.keeper.instance().public_key(), it.keeper.config().node))
        .collect();
    let count = u32::try_from(who.len()).unwrap_or(u32::MAX);
    ledger.active_max = ledger.active_max.max(count);
    let exclusive = policy(world).is_some_and(|policy| policy.sharing == Sharing::Exclusive);
    if exclusive && count > 1 { Err(Violation::TwoActive { who }) } else { Ok(()) }
}

fn policy(world: &World) -> Option<&Policy> {
    Some(world.judge.domain(&world.ceremony.domain)?.policy()?.get())
}

/// Enough nodes have the whole committed keyring live, sealed by code that may hold it.
fn no_loss(world: &World, ledger: &mut Ledger) -> Result<(), Violation> {
    let Some(domain) = world.judge.domain(&world.ceremony.domain) else { return Ok(()) };
    let (Some(committed), Some(policy)) = (domain.committed(), domain.policy()) else {
        return Ok(());
    };
    let generation = committed.generation;
    let able = world.nodes.values().filter(|node| recovers(policy, &node.disk, generation)).count();
    let found = u32::try_from(able).unwrap_or(u32::MAX);
    ledger.holders_min = Some(ledger.holders_min.map_or(found, |fewest| fewest.min(found)));
    let needed = policy.holders_min;
    if found < needed {
        return Err(Violation::Loss { found, needed, generation });
    }
    Ok(())
}

/// Whether code on this node that may hold could unseal every generation up to this one.
pub fn recovers(policy: &Policy, disk: &Disk, newest: Generation) -> bool {
    let mut permitted = disk.live.iter().filter(|(code, _)| policy.holder(code).is_some());
    permitted.any(|(code, files)| covers(code, files, newest))
}

fn covers(code: &Measurement, files: &Files, newest: Generation) -> bool {
    let mut covered = BTreeSet::new();
    for header in headers(files) {
        let holds =
            matches!(header.purpose, SealedPurpose::Keyring | SealedPurpose::ProposedGeneration);
        if holds && header.measurement == *code {
            covered.extend(header.first.0..=header.last.0);
        }
    }
    (0..=newest.0).all(|generation| covered.contains(&generation))
}

fn no_leak(world: &World, node: &NodeId, disk: &Disk) -> Result<(), Violation> {
    for (_, header) in
        directories(disk).flat_map(|(code, files)| headers(files).map(move |header| (code, header)))
    {
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

/// Every directory with sealed files, and whose it is.
fn directories(disk: &Disk) -> impl Iterator<Item = (&Measurement, &Files)> {
    disk.quarantine.iter().map(|(code, files)| (code, files)).chain(&disk.live)
}

/// No keyring file vanishes, but those that an upgrader gives up.
fn nothing_deleted(world: &World, node: &NodeId, ledger: &mut Ledger) -> Result<(), Violation> {
    let Some(sim) = world.nodes.get(node) else { return Ok(()) };
    let keepers = directories(&sim.disk).filter(|(code, _)| !world.is_upgrader(code));
    let now: BTreeSet<[u8; 32]> = keepers
        .flat_map(|(_, files)| files)
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

fn headers(files: &Files) -> impl Iterator<Item = heirloom_model::sealed::SealedHeader> {
    files
        .values()
        .filter_map(|bytes| wire::decode::<SealedEnvelope>(bytes).ok())
        .map(|envelope| envelope.header)
}
