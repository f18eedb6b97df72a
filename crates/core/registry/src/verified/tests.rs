//! Thresholds, exhaustively for small sets of keys.

use heirloom_model::counter::{Epoch, Time};
use heirloom_model::digest::NetworkId;
use heirloom_model::domain::EpochStart;
use heirloom_model::plan::Abort;
use heirloom_model::secret::Secret;
use heirloom_model::signature::{Signature, SigningKey};
use heirloom_model::statement::StatementKind;

use super::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Secret::new([seed; 32]))
}

fn statement() -> EpochStart {
    EpochStart { network: NetworkId::new([1; 32]), epoch: Epoch(1), time: Time(1) }
}

/// What a threshold of `threshold` out of the keys `1..=count` says about an envelope.
fn check(envelope: &Envelope, count: u8, threshold: u32) -> Result<usize, &'static str> {
    let mut keys: Vec<_> = (1..=count).map(|seed| key(seed).public_key()).collect();
    keys.sort();
    let quorum = Quorum { of: "test", keys: &keys, threshold };
    let verified = verify::<EpochStart>(envelope, &[quorum]).map_err(|refusal| refusal.code())?;
    assert_eq!(verified.get(), &statement());
    Ok(verified.signers().len())
}

fn signed_by(seeds: &[u8]) -> Envelope {
    let keys: Vec<SigningKey> = seeds.iter().map(|seed| key(*seed)).collect();
    Envelope::signed(&statement(), &keys)
}

#[test]
fn a_threshold_counts_distinct_keys_of_its_role() {
    const COUNT: u8 = 4;
    for subset in 0..1_u32 << COUNT {
        let seeds: Vec<u8> = (1..=COUNT).filter(|seed| subset & (1 << (seed - 1)) != 0).collect();
        let envelope = signed_by(&seeds);
        for threshold in 1..=u32::from(COUNT) {
            let enough = seeds.len() >= usize::try_from(threshold).unwrap();
            let expected = if enough { Ok(seeds.len()) } else { Err("threshold-not-met") };
            let found = check(&envelope, COUNT, threshold);
            assert_eq!(found, expected, "{seeds:?} of {COUNT}, {threshold} needed");
        }
    }
}

/// Also if a root with a threshold of zero had found its way in.
#[test]
fn nothing_is_verified_by_nobody() {
    assert_eq!(check(&signed_by(&[]), 4, 0), Err("threshold-not-met"));
}

/// CVE-2026-6966: the same signature twice met a threshold of two.
#[test]
fn a_repeated_signature_is_refused() {
    let mut envelope = signed_by(&[1]);
    envelope.signatures.push(envelope.signatures[0]);
    assert_eq!(check(&envelope, 4, 2), Err("signatures-not-sorted"));
    // Not even where it would not be needed.
    assert_eq!(check(&envelope, 4, 1), Err("signatures-not-sorted"));
}

#[test]
fn a_second_signature_of_one_key_is_refused_whatever_its_bytes() {
    let mut envelope = signed_by(&[1]);
    let mut other = envelope.signatures[0];
    let mut bytes = *other.signature.as_bytes();
    bytes[0] ^= 1;
    other.signature = Signature::new(bytes);
    envelope.signatures.push(other);
    envelope.signatures.sort();
    assert_eq!(check(&envelope, 4, 2), Err("signatures-not-sorted"));
}

#[test]
fn a_repeated_key_of_a_role_counts_once() {
    let keys = [key(1).public_key(), key(1).public_key()];
    let quorum = Quorum { of: "test", keys: &keys, threshold: 2 };
    let found = verify::<EpochStart>(&signed_by(&[1]), &[quorum]).unwrap_err();
    assert_eq!(found.code(), "threshold-not-met");
}

#[test]
fn signatures_are_in_the_order_of_their_keys() {
    let mut envelope = signed_by(&[1, 2]);
    envelope.signatures.reverse();
    assert_eq!(check(&envelope, 4, 2), Err("signatures-not-sorted"));
}

#[test]
fn a_signer_outside_the_role_is_refused_even_if_enough_others_signed() {
    assert_eq!(check(&signed_by(&[1, 2, 9]), 4, 2), Err("unknown-signer"));
}

#[test]
fn every_signature_must_verify_even_if_enough_others_do() {
    for index in 0..3 {
        for byte in [0, 31, 32, 63] {
            let mut envelope = signed_by(&[1, 2, 3]);
            let mut bytes = *envelope.signatures[index].signature.as_bytes();
            bytes[byte] ^= 1;
            envelope.signatures[index].signature = Signature::new(bytes);
            assert_eq!(check(&envelope, 4, 2), Err("bad-signature"), "{index}, {byte}");
        }
    }
}

#[test]
fn signatures_cover_the_payload_and_its_kind() {
    let mut envelope = signed_by(&[1, 2]);
    let last = envelope.payload.len() - 1;
    envelope.payload[last] ^= 1;
    assert_eq!(check(&envelope, 4, 2), Err("bad-signature"));
    let mut envelope = signed_by(&[1, 2]);
    envelope.kind = StatementKind::Abort;
    assert_eq!(check(&envelope, 4, 2), Err("bad-signature"));
}

#[test]
fn a_payload_of_another_kind_is_refused() {
    let keys = [key(1).public_key()];
    let quorum = Quorum { of: "test", keys: &keys, threshold: 1 };
    let found = verify::<Abort>(&signed_by(&[1]), &[quorum]).unwrap_err();
    assert_eq!(found.code(), "malformed");
}

#[test]
fn every_quorum_must_be_met() {
    let [one, two] = [[key(1).public_key()], [key(2).public_key()]];
    let quorums = [&one, &two].map(|keys| Quorum { of: "test", keys, threshold: 1 });
    assert!(verify::<EpochStart>(&signed_by(&[1, 2]), &quorums).is_ok());
    for seeds in [[1], [2]] {
        let found = verify::<EpochStart>(&signed_by(&seeds), &quorums).unwrap_err();
        assert_eq!(found.code(), "threshold-not-met", "{seeds:?}");
    }
}

#[test]
fn more_signatures_than_any_rule_asks_for_are_not_verified() {
    let mut envelope = signed_by(&[1]);
    envelope.signatures = vec![envelope.signatures[0]; SIGNATURES_MAX + 1];
    assert_eq!(check(&envelope, 4, 1), Err("too-many-signatures"));
}

#[test]
fn exactly_one_signature_is_neither_none_nor_two() {
    let keys = [key(1).public_key(), key(2).public_key()];
    let code = |seeds: &[u8]| {
        let found = verify_one::<EpochStart>(&signed_by(seeds), "test", &keys);
        found.map(|(_, signer)| signer).map_err(|refusal| refusal.code())
    };
    assert_eq!(code(&[]), Err("not-one-signature"));
    assert_eq!(code(&[1]), Ok(keys[0]));
    assert_eq!(code(&[1, 2]), Err("not-one-signature"));
    assert_eq!(code(&[3]), Err("unknown-signer"));
}

/// Agent key 1: it and exactly one other must have signed.
#[test]
fn an_agent_countersigns_for_exactly_one_instance() {
    let code = |seeds: &[u8]| {
        let found = verify_countersigned::<EpochStart>(&signed_by(seeds), key(1).public_key());
        found.map(|(_, instance)| instance).map_err(|refusal| refusal.code())
    };
    for instance in 2..8 {
        assert_eq!(code(&[1, instance]), Ok(key(instance).public_key()));
    }
    assert_eq!(code(&[]), Err("not-two-signatures"));
    assert_eq!(code(&[1]), Err("not-two-signatures"), "the agent alone");
    assert_eq!(code(&[2]), Err("not-two-signatures"), "the instance alone");
    assert_eq!(code(&[1, 2, 3]), Err("not-two-signatures"), "somebody else signs along");
    assert_eq!(code(&[2, 3]), Err("unknown-signer"), "another agent");
    let mut twice = signed_by(&[1]);
    twice.signatures.push(twice.signatures[0]);
    let found = verify_countersigned::<EpochStart>(&twice, key(1).public_key()).unwrap_err();
    assert_eq!(found.code(), "signatures-not-sorted", "the agent twice");
}
