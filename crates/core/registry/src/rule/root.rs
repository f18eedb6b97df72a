//! Roots (TUF §5.3).

use heirloom_model::digest::{DigestOf, NetworkId};
use heirloom_model::envelope::Envelope;
use heirloom_model::limit::{ANCHORS_MAX, ROLE_KEYS_MAX};
use heirloom_model::root::{Role, RoleKeys, Root};

use super::{Change, is_next};
use crate::network::NetworkState;
use crate::refusal::{Fault, Refusal};
use crate::shape::{ascending, not_empty, require};
use crate::verified::{Quorum, verify};

pub(crate) fn examine(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let new: Root = envelope.unverified().map_err(Refusal::Malformed)?;
    check_shape(&new)?;
    let own = quorum(&new, Role::Root)?;
    let Some(old) = &state.root else {
        let found = NetworkId::of(envelope.payload.as_slice());
        if found != state.network {
            return Err(Refusal::WrongFirstRoot { found });
        }
        require(new.network.is_none(), "root.network", Fault::Unexpected)?;
        is_next("root", None, 1, new.serial.0)?;
        return Ok(Change::Root(verify(envelope, &[own])?));
    };
    if new.network != Some(state.network) {
        return Err(Refusal::OtherNetwork { found: new.network });
    }
    is_next("root", Some(old.serial.0), 1, new.serial.0)?;
    // A network that appraises evidence does not cease to by an omission.
    let goes_on = !new.anchors.is_empty() || old.anchors.is_empty();
    require(goes_on, "root.anchors", Fault::Empty)?;
    // §5.3.4: signed by the threshold of the old root, so that it is entitled, and of the new
    // root, so that the new keys exist and their owners consent.
    let verified = verify(envelope, &[quorum(old, Role::Root)?, own])?;
    if let Some(now) = state.now
        && now > new.not_after
    {
        return Err(Refusal::Expired { what: "root", not_after: new.not_after, now });
    }
    Ok(Change::Root(verified))
}

/// The keys of a role.
pub(crate) fn quorum(root: &Root, role: Role) -> Result<Quorum<'_>, Refusal> {
    let found = root.roles.iter().find(|keys| keys.role == role);
    let RoleKeys { keys, threshold, .. } =
        found.ok_or(Refusal::Shape { field: "root.roles", fault: Fault::Unexpected })?;
    Ok(Quorum { of: role.name(), keys, threshold: *threshold })
}

fn check_shape(root: &Root) -> Result<(), Refusal> {
    let roles: Vec<Role> = root.roles.iter().map(|keys| keys.role).collect();
    require(roles == Role::ALL, "root.roles", Fault::Unexpected)?;
    for role in &root.roles {
        not_empty("root.roles.keys", &role.keys)?;
        ascending("root.roles.keys", &role.keys, ROLE_KEYS_MAX, |key| *key)?;
        let threshold = usize::try_from(role.threshold).unwrap_or(usize::MAX);
        let possible = (1..=role.keys.len()).contains(&threshold);
        require(possible, "root.roles.threshold", Fault::OutOfRange)?;
    }
    // Without any, no evidence is ever believed: a network that moves participants needs none.
    ascending("root.anchors", &root.anchors, ANCHORS_MAX, Clone::clone)
}
