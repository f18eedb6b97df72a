use super::*;

/// What a synchronizer of this protocol version has by default, with a change.
fn with(protocol: u32, change: impl Fn(List, &mut Vec<u32>)) -> Required {
    Required::new(protocol, |list| {
        let mut numbers = match (list, protocol) {
            (List::SigningKeys, _) => vec![1, 2, 3, 4],
            (List::SigningAlgorithms, _) => vec![1, 2, 3],
            (List::EncryptionAlgorithms, ..=33) | (List::SignatureFormats, _) => vec![2, 3],
            (List::EncryptionKeys | List::EncryptionAlgorithms, _) => vec![1, 2],
            (List::KeyFormats, _) => vec![3, 4, 5],
        };
        change(list, &mut numbers);
        numbers
    })
    .unwrap()
}

fn without(protocol: u32, of: List, number: u32) -> Required {
    with(protocol, |list, numbers| {
        if list == of {
            numbers.retain(|one| *one != number);
        }
    })
}

fn words(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_admit_everything_but_what_is_newer() {
    for protocol in [33, 34, 35] {
        let required = with(protocol, |_, _| ());
        for scheme in KeyScheme::ALL {
            let is_admitted = *scheme != KeyScheme::MlDsa65;
            assert_eq!(required.lacks(*scheme).is_empty(), is_admitted, "{protocol} {scheme}");
        }
        assert_eq!(required.unknown(), []);
        assert_eq!(required.protocol(), protocol);
    }
}

#[test]
fn one_number_less_is_one_scheme_less_and_is_named() {
    use KeyScheme::{EciesP256, Ed25519, P256, P384, Rsa2048, Secp256k1};
    let cases: [(u32, List, u32, &[KeyScheme], &str); 14] = [
        (34, List::SigningKeys, 1, &[Ed25519], "signing key ed25519"),
        (34, List::SigningKeys, 2, &[P256], "signing key p256"),
        (34, List::SigningKeys, 3, &[P384], "signing key p384"),
        (34, List::SigningKeys, 4, &[Secp256k1], "signing key secp256k1"),
        (34, List::SigningAlgorithms, 1, &[Ed25519], "signing algorithm ed25519"),
        (34, List::SigningAlgorithms, 2, &[P256, Secp256k1], "signing algorithm ecdsa-sha256"),
        (34, List::SigningAlgorithms, 3, &[P384], "signing algorithm ecdsa-sha384"),
        (34, List::SignatureFormats, 2, &[P256, P384, Secp256k1], "signature format der"),
        (34, List::SignatureFormats, 3, &[Ed25519], "signature format concat"),
        (34, List::EncryptionKeys, 1, &[EciesP256], "encryption key p256"),
        (34, List::EncryptionAlgorithms, 1, &[EciesP256], "encryption algorithm ecies-aes128-cbc"),
        (34, List::EncryptionAlgorithms, 2, &[Rsa2048], "encryption algorithm rsa-oaep-sha256"),
        // The same list, with the numbers that it had before.
        (33, List::EncryptionAlgorithms, 2, &[EciesP256], "encryption algorithm ecies-aes128-cbc"),
        (33, List::EncryptionAlgorithms, 3, &[Rsa2048], "encryption algorithm rsa-oaep-sha256"),
    ];
    for (protocol, list, number, lost, word) in cases {
        let required = without(protocol, list, number);
        for scheme in KeyScheme::ALL.iter().filter(|scheme| **scheme != KeyScheme::MlDsa65) {
            let found = words(&required.lacks(*scheme));
            let expected: &[&str] = if lost.contains(scheme) { &[word] } else { &[] };
            assert_eq!(found, expected, "{protocol} {list} {number} {scheme}");
        }
    }
    let formless = without(35, List::KeyFormats, 4);
    for scheme in KeyScheme::ALL {
        assert!(words(&formless.lacks(*scheme)).contains(&"key format x509".to_owned()));
    }
}

#[test]
fn a_number_that_is_not_known_is_kept_named_and_compared() {
    let newer = with(35, |list, numbers| {
        if list == List::SigningKeys {
            numbers.push(9);
        }
    });
    assert_eq!(words(&newer.unknown()), ["signing key number 9"]);
    let usual = with(35, |_, _| ());
    assert_ne!(newer, usual);
    assert_eq!(newer.differences(&usual), ["signing key number 9"]);
    assert_eq!(usual.differences(&newer), ["no signing key number 9"]);
    assert_eq!(usual.differences(&usual), Vec::<String>::new());
    let other = with(34, |_, _| ());
    assert_eq!(usual.differences(&other), ["protocol version 35, not 34"]);
    // What means nothing yet in this protocol version is unknown in it.
    let third = with(34, |list, numbers| {
        if list == List::EncryptionAlgorithms {
            numbers.push(3);
        }
    });
    assert_eq!(words(&third.unknown()), ["encryption algorithm number 3"]);
}

#[test]
fn lists_are_neither_empty_nor_endless() {
    for bad in List::ALL {
        let of = |count: u32| {
            Required::new(34, |list| if list == bad { (0..count).collect() } else { vec![1] })
        };
        assert_eq!(of(0).unwrap_err(), RequiredError::Empty { list: bad });
        assert!(of(64).is_ok());
        assert_eq!(of(65).unwrap_err(), RequiredError::TooMany { list: bad, found: 65 });
    }
}
