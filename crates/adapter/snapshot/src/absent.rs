//! Whether old names are gone from what was written.

use heirloom_canton::blob::FatContract;
use heirloom_canton::name::Party;
use heirloom_canton::value::walk::Leaf;
use heirloom_model::party::Namespace;
use heirloom_participant::map::PartyMap;
use heirloom_participant::report::{Mention, TextNote};

use crate::batch::{Frame, Third};
use crate::error::SnapshotError;

/// Refuses a contract that has a party under its old name, or mentions an old namespace anywhere
/// in its entry without a reason: a party that stays, or a text that was reported.
pub(crate) fn check_absent(
    frame: &Frame,
    third: &Third,
    map: &PartyMap,
    notes: &[TextNote],
) -> Result<(), SnapshotError> {
    let Third { active, contract } = third;
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
    if let Some(party) = parties.iter().find(|party| map.renamed(party).is_some()) {
        return Err(SnapshotError::OldParty { place, id: id.clone(), party: party.clone() });
    }
    for namespace in map.old_namespaces() {
        let needle = format!("::{namespace}");
        // A synchronizer may be named by somebody whose parties move. It keeps its name.
        let named = usize::from(active.synchronizer().as_str().ends_with(&needle));
        if occurrences(&frame.bytes, needle.as_bytes()) <= named {
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

/// How often bytes stand in others. Colons are rare, so most of the work is finding one.
fn occurrences(bytes: &[u8], needle: &[u8]) -> usize {
    let Some(first) = needle.first() else { return 0 };
    let (mut rest, mut count) = (bytes, 0);
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let (_, from) = rest.split_at(at);
        count += usize::from(from.starts_with(needle));
        rest = from.get(1..).unwrap_or_default();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::occurrences;

    #[test]
    fn bytes_are_found_in_others() {
        assert_eq!(occurrences(b"a:::b", b"::b"), 1);
        assert_eq!(occurrences(b"::b::b", b"::b"), 2);
        assert_eq!(occurrences(b"a:b::", b"::b"), 0);
        assert_eq!(occurrences(b"", b"::b"), 0);
    }
}
