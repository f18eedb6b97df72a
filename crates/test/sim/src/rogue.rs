//! Code that no policy names, on a real platform, that asks every holder for the keyring.

use std::collections::BTreeMap;

use heirloom_model::counter::Generation;
use heirloom_model::identifier::NodeId;
use heirloom_model::protocol::{PeerRequest, PeerResponse};
use heirloom_testkit::ceremony::Code;

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
