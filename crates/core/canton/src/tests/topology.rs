//! Real topology transactions: read, hashed, verified, and refused after any change.

use std::collections::BTreeSet;

use crate::fingerprint::{
    decentralized_namespace, fingerprint_of_encryption_spki, fingerprint_of_spki,
};
use crate::key::{KeyFormat, SignatureFormat, SigningPublicKey, SigningScheme};
use crate::proto::{Writer, versioned};
use crate::tests::{hex_bytes, json, text};
use crate::topology::mapping::Mapping;
use crate::topology::snapshot::{read_list, read_stream};
use crate::topology::verify::{Authority, Requirement, VerifyError};
use crate::topology::{SignedTransaction, TOPOLOGY_VERSION, Transaction};

#[test]
fn real_keys_have_the_names_that_the_network_gave_them() {
    let Some(about) = json("fingerprints.json") else { return };
    for key in about["keys"].as_array().unwrap() {
        let bytes = hex_bytes(&key["public_key_hex"]);
        let expected = text(&key["fingerprint"]);
        let (scheme, format) = match bytes.len() {
            32 => (SigningScheme::Ed25519, KeyFormat::Raw),
            _ => (SigningScheme::P256, KeyFormat::DerX509Spki),
        };
        let raw = SigningPublicKey::new(scheme, format, &bytes, &[]).unwrap();
        assert_eq!(raw.fingerprint().as_str(), expected);
        // Stored as X.509, it keeps its name.
        assert_eq!(fingerprint_of_spki(scheme, &raw.spki()).unwrap().as_str(), expected);
        if scheme == SigningScheme::Ed25519 {
            let other = fingerprint_of_encryption_spki(&raw.spki());
            assert_ne!(other.as_str(), expected, "only Ed25519 is hashed raw");
        }
    }
    for group in about["decentralized_namespaces"].as_array().unwrap() {
        let owners = group["owners"].as_array().unwrap();
        let owners: BTreeSet<_> = owners.iter().map(|o| text(o).parse().unwrap()).collect();
        let expected = text(&group["namespace"]);
        assert_eq!(decentralized_namespace(&owners).as_str(), expected);
    }
}

struct Vector {
    about: serde_json::Value,
    bytes: Vec<u8>,
    authority: Authority,
}

fn vectors() -> Vec<Vector> {
    let Some(about) = json("topology_transactions.json") else { return Vec::new() };
    let all = about["transactions"].as_array().unwrap();
    all.iter()
        .map(|about| Vector {
            about: about.clone(),
            bytes: hex_bytes(&about["signed_topology_transaction_versioned_hex"]),
            authority: authority(about),
        })
        .collect()
}

fn authority(about: &serde_json::Value) -> Authority {
    let mut authority = Authority::default();
    for signature in about["signatures"].as_array().unwrap() {
        let bytes = hex_bytes(&signature["public_key_hex"]);
        let (scheme, format) = match bytes.len() {
            32 => (SigningScheme::Ed25519, KeyFormat::Raw),
            _ => (SigningScheme::P256, KeyFormat::DerX509Spki),
        };
        authority.know(SigningPublicKey::new(scheme, format, &bytes, &[]).unwrap());
    }
    authority
}

#[test]
fn real_transactions_are_read_and_written_and_all_their_signatures_verify() {
    for Vector { about, bytes, authority } in vectors() {
        let signed = SignedTransaction::decode(&bytes).unwrap();
        assert_eq!(signed.encode(), bytes);
        let transaction = &signed.transaction;
        let expected = hex_bytes(&about["topology_transaction_versioned_hex"]);
        assert_eq!(transaction.as_bytes(), expected);
        assert_eq!(transaction.hash().to_string(), text(&about["transaction_hash_multihash_hex"]));
        assert_eq!(Some(u64::from(transaction.serial())), about["serial"].as_u64());
        let verified = authority.verify(&signed).unwrap();
        let signers = about["signatures"].as_array().unwrap().iter();
        let signers: BTreeSet<_> =
            signers.map(|s| text(&s["signed_by"]).parse().unwrap()).collect();
        assert_eq!(*verified.signers(), signers);
    }
}

#[test]
fn what_is_understood_of_real_mappings_is_what_they_say() {
    for Vector { about, bytes, .. } in vectors() {
        let signed = SignedTransaction::decode(&bytes).unwrap();
        let said = &about["decoded"]["mapping"];
        match signed.transaction.mapping() {
            Mapping::NamespaceDelegation(m) => {
                assert!(m.is_root());
                assert_eq!(m.namespace.as_str(), text(&said["namespace_delegation"]["namespace"]));
            }
            Mapping::DecentralizedNamespace(m) => {
                let said = &said["decentralized_namespace_definition"];
                assert_eq!(m.namespace.as_str(), text(&said["decentralized_namespace"]));
                assert_eq!(m.owners.len(), said["owners"].as_array().unwrap().len());
            }
            Mapping::OwnerToKey(m) => {
                assert_eq!(m.member, text(&said["owner_to_key_mapping"]["member"]));
            }
            Mapping::PartyToParticipant(m) => {
                let said = &said["party_to_participant"];
                assert_eq!(m.party.as_str(), text(&said["party"]));
                let host = &said["participants"][0];
                assert_eq!(m.participants[0].participant.as_str(), text(&host["participant_uid"]));
            }
            Mapping::SynchronizerTrustCertificate(m) => {
                let said = &said["synchronizer_trust_certificate"];
                assert_eq!(m.synchronizer, text(&said["synchronizer_id"]));
            }
            Mapping::VettedPackages(m) => {
                let said = said["vetted_packages"]["package_ids"].as_array().unwrap();
                assert!(m.packages.iter().map(|p| p.package.as_str()).eq(said.iter().map(text)));
            }
            Mapping::Other { field, .. } => assert!([11, 12, 13, 16].contains(field), "{field}"),
        }
    }
}

/// What a signature says about itself is not signed: two numbers mean the same for Ed25519, and an
/// algorithm that is not said is the only one that the key has.
fn only_formats_differ(left: &SignedTransaction, right: &SignedTransaction) -> bool {
    let mut left = left.clone();
    for (l, r) in left.signatures.iter_mut().zip(&right.signatures) {
        let formats = [l.format, r.format];
        if formats.contains(&SignatureFormat::Raw) {
            l.format = r.format;
        }
        if l.algorithm.is_none() || r.algorithm.is_none() {
            l.algorithm = r.algorithm;
        }
    }
    left == *right
}

#[test]
fn no_byte_of_a_signed_transaction_can_change() {
    for Vector { bytes, authority, .. } in vectors() {
        let original = SignedTransaction::decode(&bytes).unwrap();
        for index in 0..bytes.len() {
            for mask in [0x01, 0x02, 0x04, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[index] ^= mask;
                let Ok(signed) = SignedTransaction::decode(&changed) else { continue };
                if authority.verify(&signed).is_ok() {
                    assert!(only_formats_differ(&original, &signed), "byte {index} ^ {mask:#x}");
                }
            }
        }
    }
}

#[test]
fn each_check_of_a_signature_refuses_by_itself() {
    let Some(Vector { bytes, authority, .. }) = vectors().into_iter().next() else { return };
    let signed = SignedTransaction::decode(&bytes).unwrap();
    let verify = |signed: &SignedTransaction| authority.verify(signed).unwrap_err();
    let mut unsigned = signed.clone();
    unsigned.signatures.clear();
    assert!(matches!(verify(&unsigned), VerifyError::Unsigned { .. }));
    assert!(matches!(
        Authority::default().verify(&signed).unwrap_err(),
        VerifyError::UnknownKey { .. }
    ));
    let mut other = signed.clone();
    let transaction = &signed.transaction;
    let (operation, serial) = (transaction.operation(), transaction.serial() + 1);
    other.transaction = Transaction::new(operation, serial, transaction.mapping().clone());
    assert!(matches!(verify(&other), VerifyError::Signature { .. }));
    let mut format = signed;
    format.signatures[0].format = SignatureFormat::Der;
    assert!(matches!(verify(&format), VerifyError::Signature { .. }));
}

#[test]
fn a_mapping_says_who_must_sign_it() {
    for Vector { about, bytes, authority } in vectors() {
        let signed = SignedTransaction::decode(&bytes).unwrap();
        let verified = authority.verify(&signed).unwrap();
        let previous = match signed.transaction.mapping() {
            Mapping::Other { .. } => continue,
            // The group grew by one owner.
            Mapping::DecentralizedNamespace(m) if signed.transaction.serial() == 2 => {
                let mut old = m.clone();
                old.owners.pop_last();
                Some(Mapping::DecentralizedNamespace(old))
            }
            _ => None,
        };
        let mut missing = authority.missing(&verified, previous.as_ref()).unwrap();
        if about["decoded"]["mapping"]["owner_to_key_mapping"]["member"]
            .as_str()
            .is_some_and(|member| member.starts_with("SEQ::Orb"))
        {
            // This one is older than proofs of ownership.
            missing.retain(|one| matches!(one, Requirement::Namespace(_)));
        }
        assert!(missing.is_empty(), "{}: {missing:?}", about["mapping"]);
        // Without its first signature, somebody is missing.
        let mut fewer = signed.clone();
        let removed = fewer.signatures.remove(0);
        if fewer.signatures.is_empty() {
            continue;
        }
        let verified = authority.verify(&fewer).unwrap();
        let missing = authority.missing(&verified, previous.as_ref()).unwrap();
        let expected = [
            Requirement::Namespace(removed.signed_by.to_namespace()),
            Requirement::Key(removed.signed_by),
        ];
        let of_group = matches!(signed.transaction.mapping(), Mapping::DecentralizedNamespace(_));
        assert!(of_group || expected.iter().any(|one| missing.contains(one)), "{missing:?}");
    }
}

#[test]
fn both_forms_of_a_snapshot_are_read() {
    let all = vectors();
    if all.is_empty() {
        return;
    }
    let (mut list, mut stream) = (Writer::default(), Vec::new());
    for vector in &all {
        let mut item = Writer::default();
        item.bytes(1, &[0x08, 0x01]).bytes(3, &vector.bytes).bytes(4, &[0x08, 0x02]);
        let item = item.finish();
        list.bytes(1, &item);
        crate::acs::write_frame(&mut stream, &versioned(TOPOLOGY_VERSION, &item));
    }
    let list = versioned(TOPOLOGY_VERSION, &list.finish());
    let items = read_list(&list).unwrap();
    assert_eq!(items.len(), all.len());
    assert_eq!(items, read_stream(&stream).unwrap());
    assert!(read_list(&list[..list.len() - 1]).is_err());
    assert!(read_stream(&stream[..stream.len() - 1]).is_err());
}
