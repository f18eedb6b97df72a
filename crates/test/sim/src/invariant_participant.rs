//! What must hold of participants after every event, whatever becomes of the plan that moves them.

use std::collections::BTreeMap;

use heirloom_model::identifier::NodeId;
use heirloom_model::participant::{PartyMove, map_digest};
use heirloom_model::plan::ParticipantAction;
use heirloom_model::signature::SigningKey;
use heirloom_registry::migration::AgreementSeen;
use heirloom_registry::plan::PlanState;
use heirloom_upgrade::port::Restart;

use crate::participant::{Contracts, Defect, Pair, Server};
use crate::world::World;

/// What was seen so far, to compare with.
#[derive(Debug, Default)]
pub struct Moves {
    /// Where the ledger of each source was when its operator's word that it is quiet was taken.
    quiet: BTreeMap<NodeId, u64>,
}

/// An invariant of participants that does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MoveViolation {
    /// Both participants of a node could act with the same contracts.
    #[error("source and target of {node} both have contracts, and the source is not off")]
    Both {
        /// Which node.
        node: NodeId,
    },
    /// A contract is gone, or one is there that must not be.
    #[error("the {which} of {node} has {found} contracts, and not the {expected} it must have")]
    Contracts {
        /// Whose.
        node: NodeId,
        /// Source or target.
        which: &'static str,
        /// How many it has.
        found: usize,
        /// How many it must have.
        expected: usize,
    },
    /// The target has a contract that no source has under this id.
    #[error("the target of {node} has a contract that nobody agreed to")]
    Foreign {
        /// Whose.
        node: NodeId,
    },
    /// Contracts have new names, and somebody did not agree to them.
    #[error("{node} imported contracts, and {who} did not agree to the names in them")]
    NotAgreed {
        /// Who imported.
        node: NodeId,
        /// Whose operator did not agree.
        who: NodeId,
    },
    /// Contracts were imported although nodes rewrote them differently.
    #[error("{node} imported contracts that another node rewrote differently")]
    Discord {
        /// Who imported.
        node: NodeId,
    },
    /// Contracts were imported into a store of which there is no copy.
    #[error("{node} imported contracts without a copy of the target's store")]
    NoCopy {
        /// Who.
        node: NodeId,
    },
    /// A target answers while another one does not have its contracts.
    #[error("the target of {node} is connected before {other} has its contracts")]
    TooEarly {
        /// Who is connected.
        node: NodeId,
        /// Who has too little.
        other: NodeId,
    },
    /// A target connects by itself before the commit.
    #[error("the target of {node} has contracts and connects by itself, and nobody committed")]
    Settled {
        /// Whose.
        node: NodeId,
    },
    /// A source went on after it was quiet.
    #[error("the ledger of {node}'s source went on from {quiet} to {found}")]
    WentOn {
        /// Whose.
        node: NodeId,
        /// Where it was quiet.
        quiet: u64,
        /// Where it is.
        found: u64,
    },
    /// A source that was given up is not off.
    #[error("the source of {node} is not off after the commit")]
    Returned {
        /// Whose.
        node: NodeId,
    },
}

type Checked = Result<(), MoveViolation>;

/// Checks everything.
pub fn check(world: &mut World, moves: &mut Moves) -> Checked {
    if world.exchange.synchronizers.is_empty() {
        return Ok(());
    }
    world.note_move();
    for (node, pair) in world.pairs() {
        has(node, "source", &pair.source, &pair.source.part_of(&world.exchange.old))?;
        if world.exchange.new.is_some() {
            moved(world, node, pair)?;
        } else if !pair.target.contracts.is_empty() {
            imported(world, node, pair)?;
        }
        stays_quiet(world, node, pair, moves)?;
    }
    Ok(())
}

fn has(node: &NodeId, which: &'static str, server: &Server, wanted: &Contracts) -> Checked {
    if server.contracts == *wanted {
        return Ok(());
    }
    let (found, expected) = (server.contracts.len(), wanted.len());
    Err(MoveViolation::Contracts { node: node.clone(), which, found, expected })
}

/// After the commit: the source is given up as it is, and the target has everything.
fn moved(world: &World, node: &NodeId, pair: &Pair) -> Checked {
    if !pair.source.is_off() {
        return Err(MoveViolation::Returned { node: node.clone() });
    }
    let Some(new) = &world.exchange.new else { return Ok(()) };
    has(node, "target", &pair.target, &pair.target.part_of(new))
}

/// Before the commit: contracts that are on the target are on the source too, which is off.
fn imported(world: &World, node: &NodeId, pair: &Pair) -> Checked {
    let of = || node.clone();
    if !pair.source.is_off() {
        return Err(MoveViolation::Both { node: of() });
    }
    let automatic = pair.target.lines.values().any(|line| line.restart == Restart::Automatic);
    if automatic {
        return Err(MoveViolation::Settled { node: of() });
    }
    let Some(plan) = world.moving_plan() else { return Err(MoveViolation::Foreign { node: of() }) };
    if pair.folders.get(plan.digest()).is_none_or(|folder| folder.safeguard.is_none()) {
        return Err(MoveViolation::NoCopy { node: of() });
    }
    // Shared contracts of such a node never go away.
    if world.pairs().count() > 1 && world.pairs().any(|(_, it)| it.defect == Some(Defect::OtherIds))
    {
        return Err(MoveViolation::Discord { node: of() });
    }
    let all = world.all_renamed();
    if !pair.target.contracts.iter().all(|(id, contract)| all.get(id) == Some(contract)) {
        return Err(MoveViolation::Foreign { node: of() });
    }
    agreed(world, node, plan)?;
    if pair.target.is_on_any() && plan.aborted().is_none() {
        return everybody_has_theirs(world, node, &all);
    }
    Ok(())
}

/// Every operator agreed, by its own key, to the names that the targets really have.
fn agreed(world: &World, node: &NodeId, plan: &PlanState) -> Checked {
    if plan.plan().nodes.len() < 2 {
        return Ok(());
    }
    let names = world.names().into_iter();
    let map: Vec<PartyMove> = names.map(|(from, to)| PartyMove { from, to }).collect();
    let map = map_digest(&map);
    for who in &plan.plan().nodes {
        let operator = world.judge.node(who).map(|known| &known.operator);
        let seen = operator.and_then(|operator| plan.agreements().get(operator));
        let own = operator.and_then(|operator| world.ceremony.operator_key(operator));
        let own = own.map(SigningKey::public_key);
        let by_him = |seen: &&AgreementSeen| Some(*seen.key()) == own;
        if seen.filter(by_him).is_none_or(|seen| seen.agreement().map != map) {
            return Err(MoveViolation::NotAgreed { node: node.clone(), who: who.clone() });
        }
    }
    Ok(())
}

/// Who connects must not meet targets without their contracts.
fn everybody_has_theirs(world: &World, node: &NodeId, all: &Contracts) -> Checked {
    for (other, pair) in world.pairs() {
        // Somebody who puts a store back is the one who takes the contracts away.
        let whole = pair.target.contracts == pair.target.part_of(all);
        if !whole && pair.defect != Some(Defect::PutsBack) {
            let (node, other) = (node.clone(), other.clone());
            return Err(MoveViolation::TooEarly { node, other });
        }
    }
    Ok(())
}

/// Between its being quiet and the way back, nothing happens on a source; after the commit never.
fn stays_quiet(world: &World, node: &NodeId, pair: &Pair, moves: &mut Moves) -> Checked {
    let Some(plan) = world.moving_plan() else { return Ok(()) };
    if plan.aborted().is_some() {
        moves.quiet.remove(node);
        return Ok(());
    }
    let found = pair.source.ledger_end;
    if let Some(quiet) = moves.quiet.get(node).copied() {
        let folder = pair.folders.get(plan.digest());
        if quiet != found && folder.is_some_and(|folder| folder.exported.is_some()) {
            return Err(MoveViolation::WentOn { node: node.clone(), quiet, found });
        }
        return Ok(());
    }
    let step = plan.plan().participant_step(node, ParticipantAction::Quiesce);
    if step.is_some_and(|step| plan.done_at(step).is_some()) {
        moves.quiet.insert(node.clone(), found);
    }
    Ok(())
}
