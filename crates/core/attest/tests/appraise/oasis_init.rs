//! Oasis' `extra_info`: real and generated values, and what real key managers refuse.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use heirloom_attest::oasis::{InitResponse, OasisError, SignedInitResponse, encode_signed};
use heirloom_model::digest::{Checksum, parse_hex};
use heirloom_model::secret::Secret;
use heirloom_model::signature::{PublicKey, SigningKey};
use serde_json::Value;

use crate::vectors::json;

fn vectors() -> Option<Value> {
    json("oasis/init_response.json")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn response(json: &Value) -> InitResponse {
    let sum = |name| parse_hex::<32>("sum", text(json, name)).ok();
    InitResponse {
        is_secure: json["is_secure"].as_bool().unwrap(),
        checksum: sum("checksum").map(Checksum::new),
        next_checksum: sum("next_checksum").map(Checksum::new),
        policy_checksum: sum("policy_checksum").map(Checksum::new),
        rsk: sum("rsk").map(PublicKey::new),
        next_rsk: sum("next_rsk").map(PublicKey::new),
    }
}

#[test]
fn every_generated_value_decodes_verifies_and_encodes_to_itself() {
    let Some(vectors) = vectors() else { return };
    let rak: PublicKey = text(&vectors["generated"], "rak_public").parse().unwrap();
    let generated = vectors["generated"]["vectors"].as_array().unwrap();
    assert_eq!(generated.len(), 4);
    for vector in generated {
        let bytes = hex::decode(text(vector, "extra_info")).unwrap();
        let signed = SignedInitResponse::decode(&bytes).unwrap();
        assert_eq!(signed.response, response(&vector["init_response"]));
        assert_eq!(hex::encode(signed.response.encode()), text(vector, "init_response_cbor"));
        assert_eq!(signed.encode(), bytes);
        let verified = signed.verify(&rak).unwrap();
        assert_eq!(verified.response(), &signed.response);
        assert_eq!(verified.rak(), rak);
    }
}

#[test]
fn one_changed_field_breaks_the_signature() {
    let Some(vectors) = vectors() else { return };
    let rak: PublicKey = text(&vectors["generated"], "rak_public").parse().unwrap();
    let last = &vectors["generated"]["vectors"][3];
    let signed =
        SignedInitResponse::decode(&hex::decode(text(last, "extra_info")).unwrap()).unwrap();
    let refused = |change: fn(&mut SignedInitResponse)| {
        let mut changed = signed.clone();
        change(&mut changed);
        changed.verify(&rak) == Err(OasisError::Signature { rak })
    };
    assert!(refused(|s| s.response.is_secure ^= true));
    assert!(refused(|s| s.response.checksum = None));
    assert!(refused(|s| s.response.next_checksum = None));
    assert!(refused(|s| s.response.policy_checksum = s.response.checksum));
    assert!(refused(|s| s.response.rsk = None));
    assert!(refused(|s| s.response.next_rsk = s.response.rsk));
    assert!(signed.verify(&PublicKey::new([7; 32])).is_err(), "another key");
}

#[test]
fn the_value_of_a_real_node_encodes_to_itself() {
    let Some(vectors) = vectors() else { return };
    let decoded = &vectors["seed_extra_info"]["decoded"];
    let signed = SignedInitResponse {
        response: response(&decoded["init_response"]),
        signature: text(decoded, "signature").parse().unwrap(),
    };
    let bytes = STANDARD.decode(text(&vectors["seed_extra_info"], "base64")).unwrap();
    assert_eq!(signed.encode(), bytes);
    assert_eq!(SignedInitResponse::decode(&bytes), Ok(signed));
}

#[test]
fn what_real_key_managers_refuse_is_refused() {
    let Some(vectors) = vectors() else { return };
    let decode = |name: &str| {
        let mutations = vectors["mutations_of_seed_value"].as_array().unwrap();
        let found = mutations.iter().find(|mutation| text(mutation, "name") == name).unwrap();
        SignedInitResponse::decode(&hex::decode(text(found, "extra_info_hex")).unwrap())
    };
    let unknown = |name: &str| Err(OasisError::UnknownField { name: name.to_owned() });
    assert_eq!(decode("unknown_field_in_init_response"), unknown("zzz"));
    assert_eq!(decode("unknown_outer_field"), unknown("x"));
    assert_eq!(decode("trailing_byte"), Err(OasisError::NotCanonical));
    assert!(matches!(decode("truncated"), Err(OasisError::Malformed { .. })));
    // Oasis refuses this one when it checks the signature; here it is no signature at all.
    let short = OasisError::Length { name: "signature", found: 63 };
    assert_eq!(decode("signature_63_bytes"), Err(short));
    // These two decode. Whoever compares them with the network's status refuses them.
    assert_eq!(decode("empty_checksum").unwrap().response.checksum, None);
    assert!(!decode("insecure").unwrap().response.is_secure);
}

#[test]
fn what_our_keeper_signs_reads_like_what_oasis_signs() {
    let key = SigningKey::from_seed(Secret::new([5; 32]));
    let response = InitResponse {
        is_secure: true,
        checksum: Some(Checksum::new([1; 32])),
        policy_checksum: Some(Checksum::new([2; 32])),
        ..InitResponse::default()
    };
    let bytes = encode_signed(&response, &key);
    assert_eq!(bytes.len(), 196, "as long as the value of a real node");
    let signed = SignedInitResponse::decode(&bytes).unwrap();
    assert_eq!(signed.verify(&key.public_key()).unwrap().response(), &response);
}

#[test]
fn a_second_spelling_is_refused() {
    let key = SigningKey::from_seed(Secret::new([5; 32]));
    let bytes = encode_signed(&InitResponse::default(), &key);
    // The outer map says that it has one field more, and `signature` comes again at the end.
    let mut twice = bytes.clone();
    twice[0] += 1;
    twice.extend_from_slice(&bytes[1..1 + 10 + 2 + 64]);
    assert_eq!(SignedInitResponse::decode(&twice), Err(OasisError::NotCanonical));
    let long = vec![0; 1025];
    assert_eq!(SignedInitResponse::decode(&long), Err(OasisError::TooLarge { found: 1025 }));
}

/// Whatever decodes, encodes to the same bytes, and none of it verifies under the same key.
#[test]
fn every_flipped_bit_is_refused_or_another_statement() {
    let key = SigningKey::from_seed(Secret::new([5; 32]));
    let response = InitResponse {
        is_secure: true,
        checksum: Some(Checksum::new([1; 32])),
        rsk: Some(PublicKey::new([3; 32])),
        ..InitResponse::default()
    };
    let bytes = encode_signed(&response, &key);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(signed) = SignedInitResponse::decode(&flipped) {
            assert_eq!(signed.encode(), flipped, "bit {bit}");
            assert!(signed.verify(&key.public_key()).is_err(), "bit {bit}");
        }
    }
    for length in 0..bytes.len() {
        assert!(SignedInitResponse::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
}
