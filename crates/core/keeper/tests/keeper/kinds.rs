//! Keepers on machines of several kinds: who is believed, as what, and who gives to whom.

use heirloom_attest::error::AppraiseError;
use heirloom_keeper::handshake::{Handshake, HandshakeError, NotAHolder, Peer, expect_holder};
use heirloom_keeper::keeper::Keeper;
use heirloom_keeper::port::Platform;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::appraisal::Reference;
use heirloom_model::digest::{HostAuthority, Nonce};
use heirloom_model::evidence::SessionRole;
use heirloom_model::measurement::{Measurement, MrEnclave, TeeKind};
use heirloom_model::protocol::{PeerResponse, ServingState};
use heirloom_registry::refusal::Refusal;
use heirloom_testkit::ceremony::{CODE_SIGNER, Code};
use heirloom_testkit::machine::{SoftTpm, TpmProcess};

use crate::world::{BOOT, Disk, Node, World};

/// A machine with a TPM that booted this.
pub(crate) fn machine(world: &World, number: u8, boot: &[u8]) -> SoftTpm {
    SoftTpm::from_seed(&world.ceremony.attestation_ca, &[number; 32], boot)
}

/// A process on it.
pub(crate) fn launch(machine: &SoftTpm, digest: MrEnclave, security_version: u16) -> TpmProcess {
    let secs = Secs {
        measurement: digest,
        signer: CODE_SIGNER,
        product_id: 0,
        isv_svn: security_version,
        attributes: LaunchMode::Production.attributes(),
        misc_select: 0,
    };
    let mut count = 0_u8;
    let random = move |bytes: &mut [u8]| {
        count = count.wrapping_add(1);
        bytes.fill(count);
    };
    machine.launch(secs, Box::new(random))
}

/// The digest that a launcher makes of some code.
pub(crate) fn digest(code: &Code) -> MrEnclave {
    match code.measurement {
        Measurement::Sgx(digest) => digest,
        Measurement::Tpm(digest) => MrEnclave::new(*digest.as_bytes()),
        other => panic!("{other} is of another kind"),
    }
}

/// The old code as it is on machines with a TPM.
pub(crate) fn old_there(world: &World, machine: &SoftTpm) -> TpmProcess {
    let version = u16::try_from(world.old.security_version.0).unwrap();
    launch(machine, digest(&world.old.on_tpm()), version)
}

/// How a node sees a keeper elsewhere.
fn seen(
    world: &World,
    node: &mut Node,
    keeper: &Keeper,
    platform: &dyn Platform,
) -> Result<(Peer, Handshake, Handshake), HandshakeError> {
    let (network, domain) = (world.ceremony.network, world.ceremony.domain);
    let (ours, theirs) = (node.keeper.instance().public_key(), keeper.instance().public_key());
    let side = |role, nonce: u8, key| {
        Handshake::new(role, network, domain, Nonce::new([nonce; 32]), key, [9; 32])
    };
    let responder = side(SessionRole::Responder, 1, ours);
    let initiator = side(SessionRole::Initiator, 2, theirs);
    let introduction = initiator.introduction(&responder.hello(), platform, keeper.position())?;
    let state = node.keeper.network_for_appraisal();
    let peer = responder.authenticate(&initiator.hello(), &theirs, &introduction, state)?;
    Ok((peer, initiator, responder))
}

/// A node with SGX that follows everything, and the old code on a machine with a TPM that does.
fn pair(world: &World, boot: &[u8], code: &Code) -> (Node, Keeper, TpmProcess) {
    let mut node = world.node(1, &world.old.clone());
    world.feed(&mut node);
    let version = u16::try_from(code.security_version.0).unwrap();
    let process = launch(&machine(world, 2, boot), digest(code), version);
    let name = "node-2".parse().unwrap();
    let mut keeper = Keeper::start(world.config(&name, code), &process, &[]).unwrap();
    let intent = keeper.follow(&process, &world.log, None, world.now).unwrap();
    let receipt = intent.persist(&mut Disk::default()).unwrap();
    keeper.complete(intent, receipt);
    (node, keeper, process)
}

/// What becomes of evidence of a TPM in a network with this change of its policy.
fn appraised(
    boot: &[u8],
    change: impl FnOnce(&mut heirloom_model::policy::Policy),
) -> Result<Measurement, AppraiseError> {
    let world = World::mixed(change);
    let (mut node, keeper, process) = pair(&world, boot, &world.old.on_tpm());
    match seen(&world, &mut node, &keeper, &process) {
        Ok((peer, ..)) => Ok(peer.measurement()),
        Err(HandshakeError::Evidence(Refusal::Evidence(error))) => Err(*error),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_keeper_on_a_tpm_is_believed_by_rule_and_for_what_its_machine_booted() {
    let there = World::mixed(|_| {}).old.on_tpm().measurement;
    assert_eq!(appraised(BOOT, |_| {}), Ok(there));
    assert_eq!(
        appraised(BOOT, |policy| policy.appraisal.tpm = None),
        Err(AppraiseError::KindNotAccepted { kind: TeeKind::Tpm })
    );
    let stranger = appraised(BOOT, |policy| {
        let others = Reference::Match(vec![HostAuthority::new([0xee; 32])]);
        policy.appraisal.tpm.as_mut().unwrap().authorities = others;
    });
    assert!(
        matches!(
            stranger,
            Err(AppraiseError::ReferenceMismatch { claim: "authority of hosts", .. })
        ),
        "{stranger:?}"
    );
    let other = appraised(b"another kernel", |_| {});
    assert!(
        matches!(other, Err(AppraiseError::ReferenceMismatch { claim: "PCR 0", .. })),
        "{other:?}"
    );
}

#[test]
fn a_network_without_an_attestation_ca_believes_no_tpm() {
    let world = World::new();
    let (mut node, keeper, process) = pair(&world, BOOT, &world.old.on_tpm());
    let found = seen(&world, &mut node, &keeper, &process).map(|_| ());
    assert!(matches!(found, Err(HandshakeError::Evidence(Refusal::Evidence(_)))), "{found:?}");
}

/// The measurement that a launcher computes is the same for the same bundle: only the kind says
/// that another kind of machine answers for it.
#[test]
fn the_measurement_of_an_enclave_is_nothing_on_a_tpm_and_the_other_way_round() {
    let world = World::mixed(|_| {});
    let domain = world.ceremony.domain;
    let (mut node, keeper, process) = pair(&world, BOOT, &world.old.clone());
    let claimed = process.identity().unwrap().measurement;
    assert_eq!(claimed.kind(), TeeKind::Tpm);
    let (peer, ..) = seen(&world, &mut node, &keeper, &process).unwrap();
    let refused = expect_holder(&peer, node.keeper.network_for_appraisal(), &domain);
    assert!(
        matches!(refused, Err(NotAHolder::NotListed { measurement, .. }) if measurement == claimed),
        "{refused:?}"
    );
    let (mut node, keeper, process) = pair(&world, BOOT, &world.old.on_tpm());
    let (peer, ..) = seen(&world, &mut node, &keeper, &process).unwrap();
    let admitted = expect_holder(&peer, node.keeper.network_for_appraisal(), &domain).unwrap();
    assert_eq!(admitted.measurement(), world.old.on_tpm().measurement);

    let twin = Code { measurement: Measurement::Sgx(digest(&world.old.on_tpm())), ..world.old };
    let mut enclave = world.node(3, &twin);
    world.feed(&mut enclave);
    let (peer, _) = world.session(&mut enclave, &mut node);
    let refused = expect_holder(&peer, node.keeper.network_for_appraisal(), &domain);
    assert!(
        matches!(refused, Err(NotAHolder::NotListed { measurement, .. })
            if measurement == twin.measurement),
        "{refused:?}"
    );
}

/// A keyring that was made under SGX is served by a machine with a TPM, and opens there again.
#[test]
fn a_keyring_goes_along_a_named_edge_to_another_kind_and_is_sealed_there() {
    let mut world = World::mixed(|_| {});
    let (mut one, mut two) = (world.node(1, &world.old.clone()), world.node(2, &world.old.clone()));
    world.feed(&mut one);
    world.feed(&mut two);
    world.rotate(0, &mut one, &mut two);
    let machine = machine(&world, 3, BOOT);
    let process = old_there(&world, &machine);
    let name = "node-3".parse().unwrap();
    let config = || world.config(&name, &world.old);
    let mut keeper = Keeper::start(config(), &process, &[]).unwrap();
    let mut disk = Disk::default();
    let intent = keeper.follow(&process, &world.log, None, world.now).unwrap();
    let receipt = intent.persist(&mut disk).unwrap();
    keeper.complete(intent, receipt);
    keeper.count_witness(&process).unwrap();

    let (peer, initiator, responder) = seen(&world, &mut one, &keeper, &process).unwrap();
    let request = keeper.replication_next().unwrap();
    let PeerResponse::Generations(sent) = one.serve(&peer, &request.message()) else {
        panic!("the edge is named")
    };
    let introduction =
        responder.introduction(&initiator.hello(), &one.enclave, one.keeper.position()).unwrap();
    let giver = initiator
        .authenticate(
            &responder.hello(),
            &one.keeper.instance().public_key(),
            &introduction,
            keeper.network_for_appraisal(),
        )
        .unwrap();
    let intent = keeper.accept_generations(&process, &giver, &sent).unwrap();
    let receipt = intent.persist(&mut disk).unwrap();
    keeper.complete(intent, receipt);
    assert_eq!(keeper.state(), ServingState::Ready);

    // The same code on the same machine opens it, and the same code on another does not.
    let again = old_there(&world, &machine);
    let mut restarted = Keeper::start(config(), &again, &disk.stored()).unwrap();
    let _intent = restarted.follow(&again, &world.log, None, world.now).unwrap();
    assert_eq!(restarted.state(), ServingState::Ready);
    let elsewhere = old_there(&world, &crate::kinds::machine(&world, 4, BOOT));
    let mut moved = Keeper::start(config(), &elsewhere, &disk.stored()).unwrap();
    let _intent = moved.follow(&elsewhere, &world.log, None, world.now).unwrap();
    assert_eq!(moved.state(), ServingState::Unreadable);
}

#[test]
fn without_the_edge_nothing_goes_to_another_kind() {
    let mut world = World::mixed(|policy| {
        for rule in &mut policy.holders {
            rule.gives_to.retain(|to| to.kind() != TeeKind::Tpm);
        }
    });
    let (mut one, mut two) = (world.node(1, &world.old.clone()), world.node(2, &world.old.clone()));
    world.feed(&mut one);
    world.feed(&mut two);
    world.rotate(0, &mut one, &mut two);
    let (_, keeper, process) = pair(&world, BOOT, &world.old.on_tpm());
    let (peer, ..) = seen(&world, &mut one, &keeper, &process).unwrap();
    let request = keeper.replication_next().unwrap();
    let answer = one.serve(&peer, &request.message());
    assert!(matches!(answer, PeerResponse::Refused(_)), "the edge is not named");
}
