//! What a keeper says about itself.

use std::sync::atomic::Ordering;

use heirloom_attest::oasis::{InitResponse, encode_signed};
use heirloom_model::admin::{
    ExtraInfo, FollowedPolicy, Holding, KeeperStatus, SealingAge, Volatile,
};
use heirloom_model::counter::Moment;
use heirloom_model::digest::Checksum;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;

use super::Keeper;
use crate::keyring::Coverage;
use crate::port::Sealing;

pub(super) fn status(keeper: &Keeper, now: Moment) -> KeeperStatus {
    let state = keeper.state_at(now);
    let policy = keeper
        .network
        .policy(&keeper.config.domain)
        .map(|policy| FollowedPolicy { serial: policy.serial, digest: policy.digest() });
    let holding = keeper.committed().filter(|_| keeper.coverage == Some(Coverage::Complete)).map(
        |committed| Holding {
            generation: committed.generation,
            checksum: committed.checksum,
            origin: keeper.origin,
        },
    );
    let progress = keeper.progress().filter(|_| holding.is_none());
    let is_first = keeper.committed().is_none();
    let may_generate = keeper.config.role == HolderRole::Keeper
        && keeper.sealing != Sealing::None
        && (state == ServingState::Ready || (state == ServingState::Empty && is_first));
    let sealing = if keeper.older.is_empty() { SealingAge::Current } else { SealingAge::Older };
    KeeperStatus {
        state,
        node: keeper.config.node.clone(),
        network: keeper.config.network,
        domain: keeper.config.domain,
        instance: keeper.instance.public_key(),
        measurement: keeper.identity.measurement,
        holding,
        progress,
        policy,
        position: keeper.position(),
        unreadable: keeper.unreadable.clone(),
        may_generate,
        extra_info: extra_info(keeper, holding.as_ref(), policy.as_ref()),
        requests_served: keeper.served.load(Ordering::Relaxed),
        requests_refused: keeper.refused.load(Ordering::Relaxed),
        role: keeper.config.role,
        // The core has no socket: whoever has one fills this in.
        address: String::new(),
        sealing,
        volatile: volatile(keeper.sealing),
        behind: keeper.witness_gap(),
        uncounted: keeper.counting.failure().map(ToString::to_string),
    }
}

/// Why what a keeper seals does not last, if it does not.
pub(super) fn volatile(sealing: Sealing) -> Option<Volatile> {
    match sealing {
        Sealing::Recorded => None,
        Sealing::CurrentOnly => Some(Volatile::UntilUpdate),
        Sealing::None => Some(Volatile::Memory),
    }
}

/// The init response that an Oasis node would publish: the checksum of everything that is held,
/// signed by the key that the node's evidence vouches for. None before a policy.
fn extra_info(
    keeper: &Keeper,
    holding: Option<&Holding>,
    policy: Option<&FollowedPolicy>,
) -> Option<ExtraInfo> {
    let policy = policy?;
    let response = InitResponse {
        is_secure: true,
        checksum: holding.map(|holding| holding.checksum),
        policy_checksum: Some(Checksum::new(*policy.digest.as_bytes())),
        ..InitResponse::default()
    };
    Some(ExtraInfo(encode_signed(&response, &keeper.instance)))
}
