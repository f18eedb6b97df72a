//! Reads and writes topology transactions.

use std::collections::BTreeSet;

use heirloom_model::limit::{
    TOPOLOGY_ELEMENTS_MAX, TOPOLOGY_SIGNATURES_MAX, TOPOLOGY_TRANSACTION_BYTES_MAX,
};

use crate::hash::Multihash;
use crate::key::codec::{read_numbers, write_numbers};
use crate::key::{PublicKey, Signature, SigningPublicKey};
use crate::name::Namespace;
use crate::proto::{ProtoError, Reader, Writer, push, read_versioned, versioned};
use crate::topology::mapping::{
    DecentralizedNamespace, HostingParticipant, Mapping, NamespaceDelegation, OwnerToKey,
    PartySigningKeys, PartyToParticipant, Permission, Restriction, SynchronizerTrustCertificate,
    VettedPackage, VettedPackages,
};
use crate::topology::{
    MultiSignatures, Operation, SignedTransaction, TOPOLOGY_VERSION, TopologyError, Transaction,
};

pub(super) fn read_transaction(bytes: &[u8]) -> Result<Transaction, TopologyError> {
    check_size("a topology transaction", bytes, TOPOLOGY_TRANSACTION_BYTES_MAX)?;
    let data = unwrap("a topology transaction", bytes)?;
    let (mut operation, mut serial, mut mapping) = (0, 0, None);
    for field in Reader::new(data) {
        let field = field?;
        match field.number() {
            1 => operation = field.uint32()?,
            2 => serial = field.uint32()?,
            3 => mapping = Some(read_mapping(field.bytes()?)?),
            _ => return Err(field.unknown("TopologyTransaction").into()),
        }
    }
    let operation = match operation {
        1 => Operation::AddReplace,
        2 => Operation::Remove,
        found => {
            let what = "operation of a topology transaction";
            return Err(ProtoError::Number { what, found: u64::from(found) }.into());
        }
    };
    let mapping = mapping.ok_or(TopologyError::Mappings { found: 0 })?;
    Ok(Transaction { bytes: bytes.to_vec(), operation, serial, mapping })
}

pub(super) fn write_transaction(operation: Operation, serial: u32, mapping: &Mapping) -> Vec<u8> {
    let mut writer = Writer::default();
    let operation = match operation {
        Operation::AddReplace => 1,
        Operation::Remove => 2,
    };
    writer.varint(1, operation).varint_if_set(2, u64::from(serial));
    writer.message(3, |w| write_mapping(mapping, w));
    versioned(TOPOLOGY_VERSION, &writer.finish())
}

pub(super) fn read_signed(bytes: &[u8]) -> Result<SignedTransaction, TopologyError> {
    let limit = 2 * TOPOLOGY_TRANSACTION_BYTES_MAX;
    check_size("a signed topology transaction", bytes, limit)?;
    let data = unwrap("a signed topology transaction", bytes)?;
    let (mut transaction, mut signatures, mut multi, mut proposal) =
        (None, Vec::new(), Vec::new(), false);
    let (what, limit) = ("signatures of a topology transaction", TOPOLOGY_SIGNATURES_MAX);
    for field in Reader::new(data) {
        let field = field?;
        match field.number() {
            1 => transaction = Some(read_transaction(field.bytes()?)?),
            2 => push(&mut signatures, Signature::decode(field.bytes()?)?, what, limit)?,
            3 => proposal = field.boolean()?,
            4 => push(&mut multi, read_multi(field.bytes()?)?, what, limit)?,
            _ => return Err(field.unknown("SignedTopologyTransaction").into()),
        }
    }
    let missing = ProtoError::Missing { message: "a signed transaction", field: "transaction" };
    let transaction = transaction.ok_or(missing)?;
    Ok(SignedTransaction { transaction, signatures, multi_signatures: multi, proposal })
}

pub(super) fn write_signed(signed: &SignedTransaction) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.bytes(1, signed.transaction.as_bytes());
    for signature in &signed.signatures {
        writer.bytes(2, &signature.encode());
    }
    writer.varint_if_set(3, u64::from(signed.proposal));
    for multi in &signed.multi_signatures {
        writer.message(4, |w| {
            for hash in &multi.hashes {
                w.bytes(1, hash.as_bytes());
            }
            for signature in &multi.signatures {
                w.bytes(2, &signature.encode());
            }
        });
    }
    versioned(TOPOLOGY_VERSION, &writer.finish())
}

fn read_multi(bytes: &[u8]) -> Result<MultiSignatures, TopologyError> {
    let (mut hashes, mut signatures) = (Vec::new(), Vec::new());
    let (what, limit) = ("signatures of topology transactions", TOPOLOGY_SIGNATURES_MAX);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => {
                let hash = Multihash::from_bytes(field.bytes()?).ok_or(TopologyError::Hash)?;
                push(&mut hashes, hash, "hashes of topology transactions", limit)?;
            }
            2 => push(&mut signatures, Signature::decode(field.bytes()?)?, what, limit)?,
            _ => return Err(field.unknown("MultiTransactionSignatures").into()),
        }
    }
    Ok(MultiSignatures { hashes, signatures })
}

fn read_mapping(bytes: &[u8]) -> Result<Mapping, TopologyError> {
    let mut fields = Reader::new(bytes);
    let Some(field) = fields.next() else {
        return Err(TopologyError::Mappings { found: 0 });
    };
    let field = field?;
    let bytes = field.bytes()?;
    let mapping = match field.number() {
        1 => Mapping::NamespaceDelegation(read_delegation(bytes)?),
        3 => Mapping::DecentralizedNamespace(read_decentralized(bytes)?),
        4 => Mapping::OwnerToKey(read_owner(bytes)?),
        5 => Mapping::SynchronizerTrustCertificate(read_trust(bytes)?),
        8 => Mapping::VettedPackages(read_vetted(bytes)?),
        9 => Mapping::PartyToParticipant(read_party(bytes)?),
        field => Mapping::Other { field, bytes: bytes.to_vec() },
    };
    match fields.count() {
        0 => Ok(mapping),
        more => Err(TopologyError::Mappings { found: 1 + more }),
    }
}

fn write_mapping(mapping: &Mapping, w: &mut Writer) {
    let number = mapping.field();
    match mapping {
        Mapping::NamespaceDelegation(m) => _ = w.message(number, |w| write_delegation(m, w)),
        Mapping::DecentralizedNamespace(m) => {
            w.message(number, |w| {
                w.text(1, m.namespace.as_str()).int32(2, m.threshold);
                m.owners.iter().for_each(|owner| _ = w.text(3, owner.as_str()));
            });
        }
        Mapping::OwnerToKey(m) => {
            w.message(number, |w| {
                w.text(1, &m.member);
                m.keys.iter().for_each(|key| _ = w.bytes(2, &key.encode()));
            });
        }
        Mapping::SynchronizerTrustCertificate(m) => {
            w.message(number, |w| {
                w.text(1, m.participant.as_str()).text(2, &m.synchronizer);
                write_numbers(5, m.features.iter().copied(), w);
            });
        }
        Mapping::VettedPackages(m) => _ = w.message(number, |w| write_vetted(m, w)),
        Mapping::PartyToParticipant(m) => _ = w.message(number, |w| write_party(m, w)),
        Mapping::Other { bytes, .. } => _ = w.bytes(number, bytes),
    }
}

fn read_delegation(bytes: &[u8]) -> Result<NamespaceDelegation, TopologyError> {
    let (mut namespace, mut target, mut restriction) = ("", None, None);
    let mut is_root = false;
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => namespace = field.text()?,
            2 => target = Some(SigningPublicKey::decode(field.bytes()?)?),
            3 => is_root = field.boolean()?,
            4 => restriction = field.bytes().map(|_| Some(Restriction::AllMappings))?,
            5 => {
                restriction =
                    field.bytes().map(|_| Some(Restriction::AllButNamespaceDelegations))?;
            }
            6 => restriction = Some(read_specific(field.bytes()?)?),
            _ => return Err(field.unknown("NamespaceDelegation").into()),
        }
    }
    let restriction = match (is_root, restriction) {
        (true, Some(_)) => return Err(TopologyError::RestrictedRoot),
        (true, None) => Restriction::AllMappings,
        (false, None) => Restriction::AllButNamespaceDelegations,
        (false, Some(restriction)) => restriction,
    };
    let missing = ProtoError::Missing { message: "NamespaceDelegation", field: "target_key" };
    let target = target.ok_or(missing)?;
    Ok(NamespaceDelegation { namespace: namespace.parse()?, target, restriction })
}

fn read_specific(bytes: &[u8]) -> Result<Restriction, TopologyError> {
    let mut kinds = Vec::new();
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => read_numbers(&field, &mut kinds)?,
            _ => return Err(field.unknown("CanSignSpecificMappings").into()),
        }
    }
    Ok(Restriction::Specific(kinds.into_iter().collect()))
}

fn write_delegation(delegation: &NamespaceDelegation, w: &mut Writer) {
    w.text(1, delegation.namespace.as_str()).bytes(2, &delegation.target.encode());
    match &delegation.restriction {
        Restriction::AllMappings => _ = w.bytes(4, &[]),
        Restriction::AllButNamespaceDelegations => _ = w.bytes(5, &[]),
        Restriction::Specific(kinds) => {
            w.message(6, |w| write_numbers(1, kinds.iter().copied(), w));
        }
    }
}

fn read_decentralized(bytes: &[u8]) -> Result<DecentralizedNamespace, TopologyError> {
    let (mut namespace, mut threshold) = ("", 0);
    let mut owners: Vec<Namespace> = Vec::new();
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => namespace = field.text()?,
            2 => threshold = field.int32()?,
            3 => push(&mut owners, field.text()?.parse()?, "owners", TOPOLOGY_ELEMENTS_MAX)?,
            _ => return Err(field.unknown("DecentralizedNamespaceDefinition").into()),
        }
    }
    let (namespace, owners) = (namespace.parse()?, owners.into_iter().collect::<BTreeSet<_>>());
    Ok(DecentralizedNamespace { namespace, threshold, owners })
}

fn read_owner(bytes: &[u8]) -> Result<OwnerToKey, TopologyError> {
    let (mut member, mut keys) = (String::new(), Vec::new());
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => field.text()?.clone_into(&mut member),
            2 => {
                let key = PublicKey::decode(field.bytes()?)?;
                push(&mut keys, key, "keys of a member", TOPOLOGY_ELEMENTS_MAX)?;
            }
            _ => return Err(field.unknown("OwnerToKeyMapping").into()),
        }
    }
    Ok(OwnerToKey { member, keys })
}

fn read_trust(bytes: &[u8]) -> Result<SynchronizerTrustCertificate, TopologyError> {
    let (mut participant, mut synchronizer, mut features) = ("", String::new(), Vec::new());
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => participant = field.text()?,
            2 => field.text()?.clone_into(&mut synchronizer),
            5 => read_numbers(&field, &mut features)?,
            _ => return Err(field.unknown("SynchronizerTrustCertificate").into()),
        }
    }
    let participant = participant.parse()?;
    Ok(SynchronizerTrustCertificate { participant, synchronizer, features })
}

fn read_vetted(bytes: &[u8]) -> Result<VettedPackages, TopologyError> {
    let (mut participant, mut packages) = ("", Vec::new());
    for field in Reader::new(bytes) {
        let field = field?;
        let package = match field.number() {
            1 => {
                participant = field.text()?;
                continue;
            }
            2 => {
                let package = field.text()?.to_owned();
                VettedPackage { package, valid_from: None, valid_until: None }
            }
            4 => read_vetted_package(field.bytes()?)?,
            _ => return Err(field.unknown("VettedPackages").into()),
        };
        push(&mut packages, package, "vetted packages", TOPOLOGY_ELEMENTS_MAX)?;
    }
    Ok(VettedPackages { participant: participant.parse()?, packages })
}

fn read_vetted_package(bytes: &[u8]) -> Result<VettedPackage, TopologyError> {
    let mut vetted = VettedPackage { package: String::new(), valid_from: None, valid_until: None };
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => field.text()?.clone_into(&mut vetted.package),
            2 => vetted.valid_from = Some(field.bytes()?.to_vec()),
            3 => vetted.valid_until = Some(field.bytes()?.to_vec()),
            _ => return Err(field.unknown("VettedPackage").into()),
        }
    }
    Ok(vetted)
}

fn write_vetted(vetted: &VettedPackages, w: &mut Writer) {
    w.text(1, vetted.participant.as_str());
    for package in &vetted.packages {
        w.message(4, |w| {
            w.text(1, &package.package);
            for (number, time) in [(2, &package.valid_from), (3, &package.valid_until)] {
                if let Some(time) = time {
                    w.bytes(number, time);
                }
            }
        });
    }
}

fn read_party(bytes: &[u8]) -> Result<PartyToParticipant, TopologyError> {
    let (mut party, mut threshold, mut participants, mut signing_keys) = ("", 0, Vec::new(), None);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => party = field.text()?,
            2 => threshold = field.uint32()?,
            3 => {
                let host = read_host(field.bytes()?)?;
                push(&mut participants, host, "hosts of a party", TOPOLOGY_ELEMENTS_MAX)?;
            }
            6 => signing_keys = Some(read_signing_keys(field.bytes()?)?),
            _ => return Err(field.unknown("PartyToParticipant").into()),
        }
    }
    Ok(PartyToParticipant { party: party.parse()?, threshold, participants, signing_keys })
}

fn read_host(bytes: &[u8]) -> Result<HostingParticipant, TopologyError> {
    let (mut participant, mut permission, mut onboarding) = ("", 0, false);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => participant = field.text()?,
            2 => permission = field.uint32()?,
            3 => onboarding = field.bytes().map(|_| true)?,
            _ => return Err(field.unknown("HostingParticipant").into()),
        }
    }
    let permission = Permission::from_number(permission)?;
    Ok(HostingParticipant { participant: participant.parse()?, permission, onboarding })
}

fn read_signing_keys(bytes: &[u8]) -> Result<PartySigningKeys, TopologyError> {
    let (mut keys, mut threshold) = (Vec::new(), 0);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => {
                let key = SigningPublicKey::decode(field.bytes()?)?;
                push(&mut keys, key, "keys of a party", TOPOLOGY_ELEMENTS_MAX)?;
            }
            2 => threshold = field.uint32()?,
            _ => return Err(field.unknown("SigningKeysWithThreshold").into()),
        }
    }
    Ok(PartySigningKeys { keys, threshold })
}

fn write_party(mapping: &PartyToParticipant, w: &mut Writer) {
    w.text(1, mapping.party.as_str()).varint_if_set(2, u64::from(mapping.threshold));
    for host in &mapping.participants {
        w.message(3, |w| {
            w.text(1, host.participant.as_str()).varint(2, u64::from(host.permission.number()));
            if host.onboarding {
                w.bytes(3, &[]);
            }
        });
    }
    if let Some(signing) = &mapping.signing_keys {
        w.message(6, |w| {
            signing.keys.iter().for_each(|key| _ = w.bytes(1, &key.encode()));
            w.varint_if_set(2, u64::from(signing.threshold));
        });
    }
}

pub(super) fn unwrap<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], TopologyError> {
    match read_versioned(bytes)? {
        (TOPOLOGY_VERSION, data) => Ok(data),
        (found, _) => Err(TopologyError::Version { what, found }),
    }
}

pub(super) fn check_size(
    what: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<(), TopologyError> {
    let bytes = bytes.len();
    if bytes > limit { Err(TopologyError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}
