//! Who must sign a change of topology (Canton, `TopologyMapping.scala`, `requiredAuth`).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::fingerprint::{Fingerprint, decentralized_namespace};
use crate::name::{Namespace, ParticipantId, PartyId};
use crate::topology::Operation;
use crate::topology::mapping::{
    DecentralizedNamespace, HostingParticipant, Mapping, OwnerToKey, PartyToParticipant, Permission,
};
use crate::topology::verify::{Requirement, RequirementError, introduced_keys};

type Requirements = BTreeSet<Requirement>;

/// `previous` is what the mapping replaces. A removal needs the owner of the name alone.
pub(super) fn required(
    mapping: &Mapping,
    operation: Operation,
    previous: Option<&Mapping>,
) -> Result<Requirements, RequirementError> {
    let namespace = |namespace: Namespace| Ok([Requirement::Namespace(namespace)].into());
    let adds = operation == Operation::AddReplace;
    match (mapping, previous) {
        (Mapping::NamespaceDelegation(m), _) => namespace(m.namespace.clone()),
        (Mapping::SynchronizerTrustCertificate(m), _) => namespace(m.participant.namespace()),
        (Mapping::VettedPackages(m), _) => namespace(m.participant.namespace()),
        (Mapping::DecentralizedNamespace(m), Some(Mapping::DecentralizedNamespace(old))) => {
            let added = m.owners.difference(&old.owners).cloned();
            Ok(added.chain([m.namespace.clone()]).map(Requirement::Namespace).collect())
        }
        (Mapping::DecentralizedNamespace(m), _) => new_group(m),
        (Mapping::PartyToParticipant(m), _) if !adds => namespace(m.party.namespace()),
        (Mapping::PartyToParticipant(m), Some(Mapping::PartyToParticipant(old))) => {
            Ok(changed_hosting(m, old))
        }
        (Mapping::PartyToParticipant(m), _) => {
            let mut required = hosts(m.participants.iter());
            required.insert(Requirement::Namespace(m.party.namespace()));
            required.extend(new_keys(mapping, None));
            Ok(required)
        }
        (Mapping::OwnerToKey(m), previous) => {
            let mut required: Requirements = namespace(member_namespace(m)?)?;
            if adds {
                required.extend(new_keys(mapping, previous));
            }
            Ok(required)
        }
        (Mapping::Other { field, .. }, _) => Err(RequirementError::Unread { field: *field }),
    }
}

/// A group's name is that of its first owners, and all of them sign.
fn new_group(group: &DecentralizedNamespace) -> Result<Requirements, RequirementError> {
    let (stated, computed) = (group.namespace.clone(), decentralized_namespace(&group.owners));
    if stated != computed {
        return Err(RequirementError::Decentralized { stated, computed });
    }
    Ok(group.owners.iter().cloned().map(Requirement::Namespace).collect())
}

fn changed_hosting(new: &PartyToParticipant, old: &PartyToParticipant) -> Requirements {
    let party = || Requirement::Namespace(new.party.namespace());
    let (before, after) = (by_name(old), by_name(new));
    let mut required = Requirements::new();
    if new.threshold != old.threshold {
        required.insert(party());
    }
    if new.signing_keys != old.signing_keys {
        required.insert(party());
        let old = Mapping::PartyToParticipant(old.clone());
        required.extend(new_keys(&Mapping::PartyToParticipant(new.clone()), Some(&old)));
    }
    let added = after.values().filter(|host| !before.contains_key(&host.participant));
    let added = hosts(added.copied());
    if !added.is_empty() {
        required.insert(party());
        required.extend(added);
    }
    for (name, old) in before {
        required.extend(changed_host(&new.party, old, after.get(name).copied()));
    }
    required
}

/// A host leaves, or has fewer rights, if it or the party wants it.
fn changed_host(
    party: &PartyId,
    old: &HostingParticipant,
    new: Option<&HostingParticipant>,
) -> Requirements {
    let (party, host) = (party.namespace(), old.participant.namespace());
    let either = Requirement::AnyOf([party.clone(), host.clone()].into());
    let (party, host) = (Requirement::Namespace(party), Requirement::Namespace(host));
    let Some(new) = new else { return [either].into() };
    let mut required = Requirements::new();
    match rank(new.permission).cmp(&rank(old.permission)) {
        Ordering::Less => _ = required.insert(either),
        Ordering::Equal => {}
        Ordering::Greater => required.extend([party.clone(), host.clone()]),
    }
    match (old.onboarding, new.onboarding) {
        // Only the host knows that it has all contracts.
        (true, false) => _ = required.insert(host),
        (false, true) => _ = required.insert(party),
        (false, false) | (true, true) => {}
    }
    required
}

fn by_name(mapping: &PartyToParticipant) -> BTreeMap<&ParticipantId, &HostingParticipant> {
    mapping.participants.iter().map(|host| (&host.participant, host)).collect()
}

/// More rights have a higher rank, and a lower number.
fn rank(permission: Permission) -> u8 {
    match permission {
        Permission::Observation => 0,
        Permission::Confirmation => 1,
        Permission::Submission => 2,
    }
}

fn hosts<'a>(hosts: impl Iterator<Item = &'a HostingParticipant>) -> Requirements {
    hosts.map(|host| Requirement::Namespace(host.participant.namespace())).collect()
}

/// New keys prove that somebody has them.
fn new_keys(mapping: &Mapping, previous: Option<&Mapping>) -> Requirements {
    let names = |mapping: &Mapping| -> BTreeSet<Fingerprint> {
        introduced_keys(mapping).into_iter().map(|key| key.fingerprint().clone()).collect()
    };
    let old = previous.map(names).unwrap_or_default();
    names(mapping).difference(&old).cloned().map(Requirement::Key).collect()
}

/// The kind of the member stands in front of its name: `PAR::name::namespace`.
fn member_namespace(owner: &OwnerToKey) -> Result<Namespace, RequirementError> {
    let name = owner.member.split_once("::").map_or(owner.member.as_str(), |(_, name)| name);
    Ok(name.parse::<PartyId>()?.namespace())
}
