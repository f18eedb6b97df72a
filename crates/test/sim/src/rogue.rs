//! Code that no policy names, on a real platform, that asks every holder for the keyring; a
//! machine that passes its code off as that of another kind; and old code of a service that wants
//! to be counted as new.

use std::collections::BTreeMap;

use heirloom_model::counter::Generation;
use heirloom_model::digest::HostAuthority;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::plan::{Action, ServiceAction};
use heirloom_model::protocol::{PeerRequest, PeerResponse};
use heirloom_testkit::ceremony::Code;
use heirloom_testkit::machine::SoftTpm;
use heirloom_testkit::service;

use crate::machine::{SimEnclave, SimHost};
use crate::scenario::{BOOT, Failure};
use crate::world::{Process, SimNode, World};

/// A rogue keeper on each kind of machine follows the whole log, attests honestly, and asks each
/// running keeper. So does a machine with a TPM that claims to have launched what a policy names
/// for another kind.
pub fn tries(world: &mut World) -> Result<(), Failure> {
    let mut homes = BTreeMap::new();
    for (name, node) in &world.nodes {
        homes.entry(node.host.kind()).or_insert_with(|| (name.clone(), node.host.clone()));
    }
    for (home, host) in homes.into_values() {
        let code = host.code(Code::named("rogue", 9));
        let randomness = world.randomness();
        let launched = host.launch(code, randomness);
        asks(world, &home, code, launched)?;
    }
    claims(world)
}

/// Another machine with a TPM, which booted what the fleet boots and has its certificate from the
/// network's attestation CA, says that it launched the measurement of an enclave that the policy
/// names.
fn claims(world: &mut World) -> Result<(), Failure> {
    let Some(home) = world.nodes.keys().next().cloned() else { return Ok(()) };
    let named = |code: &&Code| matches!(code.measurement, Measurement::Sgx(_));
    let policy = world.judge.policy(&world.ceremony.domain);
    let holds = |code: &&Code| policy.is_some_and(|it| it.holder(&code.measurement).is_some());
    let Some(code) = world.code.values().filter(named).find(holds).copied() else {
        return Ok(());
    };
    let Measurement::Sgx(digest) = code.measurement else { return Ok(()) };
    let host = SoftTpm::from_seed(&world.ceremony.attestation_ca, &[0x5a; 32], BOOT);
    let randomness = world.randomness();
    let launched = SimHost::Tpm(host).launch_digest(digest, code, randomness);
    asks(world, &home, code, launched)?;
    strange(world, &home)
}

/// A machine with a TPM about which everything is as it must be, but for who approves what it
/// boots: its operator made it with an authority of their own, and can let any system have its
/// secret. Nobody even talks to it.
fn strange(world: &mut World, home: &NodeId) -> Result<(), Failure> {
    let named = |code: &&Code| matches!(code.measurement, Measurement::Tpm(_));
    let policy = world.judge.policy(&world.ceremony.domain);
    let holds = |code: &&Code| policy.is_some_and(|it| it.holder(&code.measurement).is_some());
    let Some(code) = world.code.values().filter(named).find(holds).copied() else {
        return Ok(());
    };
    let host = SoftTpm::from_seed(&world.ceremony.attestation_ca, &[0x5b; 32], BOOT)
        .approved_by(HostAuthority::new([0xee; HostAuthority::BYTES]));
    let randomness = world.randomness();
    let launched = SimHost::Tpm(host).launch(code, randomness);
    asks(world, home, code, launched)
}

/// A process that must not get anything asks each running keeper for everything.
fn asks(
    world: &mut World,
    home: &NodeId,
    code: Code,
    launched: Result<SimEnclave, String>,
) -> Result<(), Failure> {
    let started = launched.and_then(|enclave| world.start(home, code, enclave, &BTreeMap::new()));
    let Ok(mut rogue) = started else { return Ok(()) };
    let entries = world.entries.clone();
    // It has no disk: what it would write is thrown away.
    let now = world.now;
    if rogue.keeper.follow(&rogue.enclave, &entries, None, now).is_err() {
        return Ok(());
    }
    let running = |(holder, node): (&NodeId, &SimNode)| {
        let seat = |code: &Measurement| (holder.clone(), *code);
        node.processes.keys().map(seat).collect::<Vec<_>>()
    };
    for (holder, code) in world.nodes.iter().flat_map(running).collect::<Vec<_>>() {
        let Some(mut peer) = world.node(&holder).processes.remove(&code) else { continue };
        let asked = ask(world, &mut rogue, &mut peer, &holder);
        world.node(&holder).processes.insert(code, peer);
        asked?;
    }
    Ok(())
}

fn ask(
    world: &mut World,
    rogue: &mut Process,
    peer: &mut Process,
    holder: &NodeId,
) -> Result<(), Failure> {
    let seen = match world.session(rogue, peer) {
        Ok((_, seen)) => seen,
        Err(error) => {
            world.note(|| format!("{holder}: a rogue: {error}"));
            return Ok(());
        }
    };
    let domain = world.ceremony.domain;
    let policy = peer.keeper.network_for_appraisal().policy(&domain);
    let ruled = policy.is_some_and(|policy| policy.appraisal.tpm.is_some());
    // Of the rogues with a TPM, only the one that claims another measurement has good evidence.
    let is_named = policy.is_some_and(|policy| policy.holder(&seen.measurement()).is_some());
    if seen.measurement().kind() == TeeKind::Tpm && (!ruled || is_named) {
        return Err(Failure::Believed { holder: holder.clone() });
    }
    let request = PeerRequest::Replicate { newest: Generation(0), count: 1 };
    match peer.keeper.serve(&seen, &request, world.now) {
        PeerResponse::Key(_) | PeerResponse::Generations(_) => {
            Err(Failure::Leak { holder: holder.clone() })
        }
        PeerResponse::Refused(_) | PeerResponse::HandoverChallenge(_) => Ok(()),
    }
}

/// The old code of a service starts once more, and says at each step of the new code that it is
/// the new one: with everything as it must be, the agent's signature too, but its evidence.
pub fn joins(world: &mut World) -> Result<(), Failure> {
    let (Some(from), Some(plan)) = (world.market.from, world.service_plan()) else {
        return Ok(());
    };
    let Some(to) = world.market.to.filter(|to| *to != from) else { return Ok(()) };
    let states = |action: &Action| match action {
        Action::Service(
            ServiceAction::Equip(code) | ServiceAction::Launch(code) | ServiceAction::Join(code),
        ) => code.measurement == to,
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
