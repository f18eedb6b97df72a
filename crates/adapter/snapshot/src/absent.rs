//! Whether old names are gone from what was written.

use heirloom_canton::blob::FatContract;
use heirloom_canton::name::Party;
use heirloom_canton::value::walk::Leaf;
use heirloom_model::party::Namespace;
use heirloom_participant::map::PartyMap;
use heirloom_participant::report::{Mention, TextNote};

use crate::batch::Frame;
use crate::error::SnapshotError;

/// Refuses a contract that has a party under its old name, or mentions an old namespace anywhere
/// in its entry without a reason: a party that stays, or a text that was reported.
pub(crate) fn check_absent(
    frame: &Frame,
    contract: &FatContract,
    map: &PartyMap,
    notes: &[TextNote],
) -> Result<(), SnapshotError> {
    let (place, id) = (frame.place, &contract.contract_id);
    let mut parties: Vec<Party> = Vec::new();
    let mut see = |_: &_, leaf: Leaf<'_>| {
        if let Leaf::Party(party) = leaf {
            parties.push(party.clone());
        }
    };
    contract.create_arg.visit(&mut see);
    if let Some(key) = &contract.key {
        key.key.visit(&mut see);
    }
    parties.extend(contract.stakeholders());
    if let Some(party) = parties.iter().find(|party| map.get_found(party).is_some()) {
        return Err(SnapshotError::OldParty { place, id: id.clone(), party: party.clone() });
    }
    for namespace in map.old_namespaces() {
        let needle = format!("::{namespace}");
        if !contains(&frame.bytes, needle.as_bytes()) {
            continue;
        }
        let stays = parties.iter().any(|party| party.as_str().ends_with(&needle));
        if !stays && !notes.iter().any(|note| note.mention == Mention::Moved) {
            return Err(remains(frame, contract, namespace));
        }
    }
    Ok(())
}

fn remains(frame: &Frame, contract: &FatContract, namespace: &Namespace) -> SnapshotError {
    let id = contract.contract_id.clone();
    SnapshotError::OldNamespace { place: frame.place, id, namespace: namespace.to_string() }
}

/// Whether bytes stand somewhere in others. Colons are rare, so most of the work is finding one.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return true };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let (_, from) = rest.split_at(at);
        if from.starts_with(needle) {
            return true;
        }
        rest = from.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn bytes_are_found_in_others() {
        assert!(contains(b"a:::b", b"::b"));
        assert!(contains(b"::b", b"::b"));
        assert!(!contains(b"a:b::", b"::b"));
        assert!(!contains(b"", b"::b"));
    }
}
