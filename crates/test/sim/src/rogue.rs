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
    if rogue.keeper.follow(&rogue.enclave, &entries).is_err() {
        return Ok(());
    }
    let names: Vec<NodeId> = world.nodes.keys().cloned().collect();
    for holder in names {
        let Some(mut peer) = world.node(&holder).process.take() else { continue };
        let opened = world.session(&mut rogue, &mut peer);
        let answer = opened.map(|(_, seen)| {
            let request = PeerRequest::Replicate { newest: Generation(0), count: 1 };
            peer.keeper.serve(&seen, &request)
        });
        world.node(&holder).process = Some(peer);
        match answer {
            Ok(PeerResponse::Key(_) | PeerResponse::Generations(_)) => {
                return Err(Failure::Leak { holder });
            }
            Ok(PeerResponse::Refused(_)) | Err(_) => {}
        }
    }
    Ok(())
}
