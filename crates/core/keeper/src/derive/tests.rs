use super::*;
use std::collections::BTreeSet;

use aws_lc_rs::agreement::ECDH_P256;
use proptest::prelude::*;

fn name(kind: KeyKind) -> KeyName {
    KeyName {
        domain: DomainId::new([0xd0; 32]),
        application: "wallet".parse().unwrap(),
        key: "signing".parse().unwrap(),
        kind,
        period: Period::Generation(Generation(7)),
    }
}

fn secret_hex(key: &DerivedKey) -> String {
    key.secret.expose(|bytes| hex::encode(bytes))
}

#[test]
fn derived_keys_are_those_of_the_golden_vectors() {
    let text = include_str!("../../vectors/derive.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut seen = 0;
    for vector in vectors["keys"].as_array().unwrap() {
        let text = |field: &str| vector[field].as_str().unwrap();
        let number = vector["number"].as_u64().unwrap();
        let kind = KeyKind::ALL.into_iter().find(|kind| kind.name() == text("kind")).unwrap();
        let period = match text("period") {
            "generation" => Period::Generation(Generation(number)),
            "epoch" => Period::Epoch(Epoch(number)),
            other => panic!("{other}"),
        };
        let name = KeyName {
            domain: text("domain").parse().unwrap(),
            application: text("application").parse().unwrap(),
            key: text("key").parse().unwrap(),
            kind,
            period,
        };
        let master = heirloom_model::digest::parse_hex("master", text("master")).unwrap();
        let key = derive(&master, &name);
        assert_eq!(secret_hex(&key), text("secret"), "{name:?}");
        let public = key.public.map(|public| hex::encode(public.0)).unwrap_or_default();
        assert_eq!(public, text("public"), "{name:?}");
        let check = key.secret.expose(key_check).to_string();
        assert_eq!(check, text("check"), "{name:?}");
        seen += 1;
    }
    assert_eq!(seen, 2 * KeyKind::ALL.len());
}

/// Each name differs from the first in exactly one thing.
#[test]
fn every_part_of_a_name_makes_another_key() {
    let first = name(KeyKind::Symmetric);
    let mut names = vec![
        KeyName { domain: DomainId::new([0xd1; 32]), ..first.clone() },
        KeyName { application: "wallet2".parse().unwrap(), ..first.clone() },
        KeyName { key: "signing2".parse().unwrap(), ..first.clone() },
        KeyName { period: Period::Generation(Generation(8)), ..first.clone() },
        KeyName { period: Period::Epoch(Epoch(7)), ..first.clone() },
        KeyName { period: Period::Epoch(Epoch(8)), ..first },
    ];
    names.extend(KeyKind::ALL.into_iter().map(name));
    let keys: BTreeSet<String> =
        names.iter().map(|name| secret_hex(&derive(&[1; 32], name))).collect();
    assert_eq!(keys.len(), names.len());
    assert!(!keys.contains(&secret_hex(&derive(&[2; 32], &name(KeyKind::Symmetric)))));
}

/// The boundary between two names does not move: labels are prefix-free.
#[test]
fn names_do_not_run_into_each_other() {
    let split = |application: &str, key: &str| {
        let (application, key) = (application.parse().unwrap(), key.parse().unwrap());
        secret_hex(&derive(&[1; 32], &KeyName { application, key, ..name(KeyKind::Symmetric) }))
    };
    assert_ne!(split("ab", "c"), split("a", "bc"));
}

#[test]
fn wide_numbers_are_reduced_into_the_range_of_scalars() {
    let wide = |number: U384| -> [u8; 48] { number.to_be_bytes().as_ref().try_into().unwrap() };
    for order_minus_one in [P256_ORDER_MINUS_ONE, SECP256K1_ORDER_MINUS_ONE] {
        let top = U384::from_be_hex(order_minus_one);
        let mut one = [0; 32];
        one[31] = 1;
        let reduced = |number| *reduce(&wide(number), order_minus_one);
        assert_eq!(reduced(U384::ZERO), one, "0 becomes 1");
        assert_eq!(reduced(top), one, "n - 1 becomes 1");
        let largest = reduced(top.wrapping_sub(&U384::ONE));
        assert_eq!(hex::encode(largest), order_minus_one[32..], "n - 2 becomes n - 1");
        assert_ne!(reduced(U384::MAX), [0; 32]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Public halves are computed by one library and compared with another one, or with the use
    /// of the secret.
    #[test]
    fn public_halves_belong_to_their_secrets(master in any::<[u8; 32]>(), number in any::<u64>()) {
        let period = Period::Generation(Generation(number));
        let key = |kind| derive(&master, &KeyName { period, ..name(kind) });
        let public = |key: &DerivedKey| key.public.clone().map(|public| public.0).unwrap();

        prop_assert!(key(KeyKind::Symmetric).public.is_none());

        let p256 = key(KeyKind::P256);
        let uncompressed = p256.secret.expose(|secret| {
            agreement::PrivateKey::from_private_key(&ECDH_P256, secret)
                .unwrap()
                .compute_public_key()
                .unwrap()
        });
        let compressed = public(&p256);
        prop_assert_eq!(compressed.len(), 33);
        prop_assert_eq!(&compressed[1..], &uncompressed.as_ref()[1..33]);
        prop_assert_eq!(compressed[0], 2 + (uncompressed.as_ref()[64] & 1));

        let secp256k1 = public(&key(KeyKind::Secp256k1));
        prop_assert!(k256::PublicKey::from_sec1_bytes(&secp256k1).is_ok());
        prop_assert_eq!(secp256k1.len(), 33);

        let ed25519 = key(KeyKind::Ed25519);
        let seed = ed25519.secret.expose(|seed| Secret::new(*seed));
        let signer = heirloom_model::signature::SigningKey::from_seed(seed);
        prop_assert_eq!(signer.public_key().as_bytes().to_vec(), public(&ed25519));

        prop_assert_eq!(public(&key(KeyKind::X25519)).len(), 32);
    }
}

/// A pair of the Oasis key manager's test vectors, which are public.
#[test]
fn x25519_public_keys_are_those_of_the_oasis_key_manager() {
    let secret = "fe92c1dfb9e051b09ae90ccc5dbf315e850b23aa20c05adea489846a8032f905";
    let public = "67664212715ef59357e7ffdfc801c812b8c82309146904239973514fa88db12c";
    let secret = heirloom_model::digest::parse_hex("secret", secret).unwrap();
    assert_eq!(hex::encode(x25519_public(&secret)), public);
}
