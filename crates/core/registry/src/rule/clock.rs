//! Epochs, and the endorsements that expire with them.

use heirloom_model::domain::EpochStart;
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::Endorsements;
use heirloom_model::root::Role;
use heirloom_model::signature::PublicKey;

use super::{Change, is_next, same_network};
use crate::network::NetworkState;
use crate::refusal::Refusal;
use crate::verified::{Verified, verify, verify_one};

pub(crate) fn examine_epoch(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let start: Verified<EpochStart> = verify(envelope, &[state.quorum(Role::Timekeeper)?])?;
    same_network(state, start.network)?;
    is_next("epoch", Some(state.epoch.0), 1, start.epoch.0)?;
    if let Some(now) = state.now
        && start.time < now
    {
        return Err(Refusal::TimeWentBack { now, found: start.time });
    }
    Ok(Change::Epoch(start))
}

/// Endorsements are signed by their manufacturer. The signature of an operator or an agent only
/// keeps strangers from filling the log.
pub(crate) fn examine_endorsements(
    state: &NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let mut keys: Vec<PublicKey> = state.quorum(Role::Operator)?.keys.to_vec();
    let nodes = state.fleet.iter().flat_map(|fleet| &fleet.nodes);
    keys.extend(nodes.map(|node| node.agent));
    let (endorsements, _) = verify_one::<Endorsements>(envelope, "operator and agent", &keys)?;
    let mut appraiser = state.appraiser.clone();
    appraiser.endorse(endorsements.get().clone()).map_err(Refusal::evidence)?;
    Ok(Change::Endorsements(Box::new(appraiser)))
}
