//! Code that no policy names, on a real platform, that asks every holder for the keyring; and old
//! code of a service that wants to be counted as new.

use std::collections::BTreeMap;

use heirloom_model::counter::Generation;
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::Action;
use heirloom_model::protocol::{PeerRequest, PeerResponse};
use heirloom_testkit::ceremony::Code;
use heirloom_testkit::service;

use crate::scenario::Failure;
use crate::world::World;

/// A rogue keeper follows the whole log, attests honestly, and asks each running keeper.
pub fn tries(world: &mut World) -> Result<(), Failure> {
    let code = Code::named("rogue", 9);
    let Some(home) = world.nodes.keys().next().cloned() else { return Ok(()) };
    world.code.insert(code.measurement, code);
    let launched = world.launch(&home, &code.measurement, &BTreeMap::new());
    world.code.remove(&code.measurement);
    let Ok(mut rogue) = launched else { return Ok(()) };
    let entries = world.entries.clone();
    // It has no disk: what it would write is thrown away.
    let now = world.now;
    if rogue.keeper.follow(&rogue.enclave, &entries, None, now).is_err() {
        return Ok(());
    }
    let names: Vec<NodeId> = world.nodes.keys().cloned().collect();
    let seats = names.into_iter().flat_map(|holder| {
        let codes: Vec<_> = world
            .nodes
            .get(&holder)
            .into_iter()
            .flat_map(|node| node.processes.keys())
            .copied()
            .collect();
        codes.into_iter().map(move |code| (holder.clone(), code))
    });
    for (holder, code) in seats.collect::<Vec<_>>() {
        let Some(mut peer) = world.node(&holder).processes.remove(&code) else { continue };
        let opened = world.session(&mut rogue, &mut peer);
        let answer = opened.map(|(_, seen)| {
            let request = PeerRequest::Replicate { newest: Generation(0), count: 1 };
            peer.keeper.serve(&seen, &request, now)
        });
        world.node(&holder).processes.insert(code, peer);
        match answer {
            Ok(PeerResponse::Key(_) | PeerResponse::Generations(_)) => {
                return Err(Failure::Leak { holder });
            }
            Ok(PeerResponse::Refused(_) | PeerResponse::HandoverChallenge(_)) | Err(_) => {}
        }
    }
    Ok(())
}

/// The old code of a service starts once more, and says at each step of the new code that it is
/// the new one: with everything as it must be, the agent's signature too, but its evidence.
pub fn joins(world: &mut World) -> Result<(), Failure> {
    let (Some(from), Some(plan)) = (world.market.from, world.service_plan()) else {
        return Ok(());
    };
    let Some(to) = world.market.to.filter(|to| *to != from) else { return Ok(()) };
    let states = |action: &Action| match action {
        Action::Equip(code) | Action::Launch(code) | Action::Join(code) => code.measurement == to,
        _ => false,
    };
    let open = plan.plan().steps.iter().filter(|step| {
        states(&step.action) && plan.allows(step.id) && plan.done_at(step.id).is_none()
    });
    let tip = |node: &NodeId| plan.frozen_tip(node).unwrap_or_else(|| service::tip(1));
    let network = world.ceremony.network;
    let lies: Vec<_> = open
        .map(|step| service::standing(network, plan.plan(), step.id, tip(&step.node)))
        .collect();
    for lie in lies {
        let Ok(old) = world.new_instance(&lie.node, &from) else { continue };
        let signed = world.ceremony.countersigned(&old.attested(&lie));
        match world.judge.judge(&signed) {
            Ok(_) => return Err(Failure::Joined { node: lie.node }),
            Err(refusal) => world.note(|| format!("{}: old code: {refusal}", lie.node)),
        }
    }
    Ok(())
}
