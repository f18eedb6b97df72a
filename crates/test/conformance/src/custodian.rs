//! What every custodian must do, whatever holds its keys.
//!
//! Keys, ciphertexts and verdicts about signatures come from the `openssl` program: what a
//! custodian and this workspace agree on between themselves proves nothing.

mod openssl;

use std::sync::atomic::{AtomicU32, Ordering};

use heirloom_participant::custodian::key::{
    Algorithm, KeyHandle, KeyId, KeyRequest, KeyScheme, KeyState, KeyUsage, Label, Operation,
    PrivateKey,
};
use heirloom_participant::custodian::{
    CIPHERTEXT_BYTES_MAX, Custodian, CustodianError, FailureKind, MESSAGE_BYTES_MAX,
};

/// A custodian under test, and what its product can be brought to from outside.
pub trait Bench {
    /// Opens it, as after a restart.
    fn open(&self) -> Box<dyn Custodian>;

    /// The schemes of the keys that it makes.
    fn schemes(&self) -> Vec<KeyScheme>;

    /// The schemes of the keys that it takes from outside.
    fn imports(&self) -> Vec<KeyScheme>;

    /// Switches a key off by the product's own means.
    fn disable(&self, key: &KeyHandle) -> Means;

    /// What the product makes of a ciphertext that was made for no key of it.
    fn bad_ciphertext(&self) -> FailureKind {
        FailureKind::Refused
    }

    /// Schedules a key for deletion by the product's own means: no custodian can.
    fn doom(&self, key: &KeyHandle) -> Means;
}

/// Whether the product has a means to something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Means {
    /// It has none.
    None,
    /// It was used.
    Used,
}

/// Runs the whole suite.
pub fn check(bench: &dyn Bench) {
    for scheme in bench.schemes() {
        a_key_is_made_once_and_stays(bench, scheme);
        match scheme.operation() {
            Operation::Decrypt => ciphertexts_from_outside_are_decrypted(bench, scheme),
            _ => signatures_verify_outside(bench, scheme),
        }
        a_key_does_only_what_it_is_for(bench, scheme);
        a_key_that_is_switched_off_is_refused(bench, scheme);
    }
    for scheme in bench.imports() {
        a_key_from_outside_comes_in_once(bench, scheme);
    }
    what_is_not_there_is_missing(bench);
    what_cannot_be_made_is_refused(bench);
    all_keys_are_listed_in_order(bench);
}

fn a_key_is_made_once_and_stays(bench: &dyn Bench, scheme: KeyScheme) {
    let custodian = bench.open();
    let request = request(scheme);
    assert_eq!(custodian.find(&request.label), Ok(None), "{scheme}");
    let key = custodian.create(&request).expect("a key is made");
    assert!(key.answers(&request), "{key:?} was made for {request:?}");
    assert_eq!(custodian.create(&request).as_ref(), Ok(&key), "made a second time");
    let public = custodian.public(&key).expect("it has a public half");
    openssl::read_public(public.as_bytes());

    let restarted = bench.open();
    assert_eq!(restarted.find(&request.label), Ok(Some(key.clone())));
    assert_eq!(restarted.open(&key.id).as_ref(), Ok(&key));
    assert_eq!(restarted.create(&request).as_ref(), Ok(&key));
    assert_eq!(restarted.public(&key), Ok(public));
    assert_eq!(restarted.state(&key), Ok(KeyState::Enabled));

    // The same label for something else, one field at a time.
    for other in others(&request, &bench.schemes()) {
        let refused = restarted.create(&other);
        assert!(matches!(refused, Err(CustodianError::Different { .. })), "{other:?}: {refused:?}");
    }
}

fn signatures_verify_outside(bench: &dyn Bench, scheme: KeyScheme) {
    let custodian = bench.open();
    let key = custodian.create(&request(scheme)).expect("a key is made");
    let algorithm = algorithm_of(scheme);
    let public = custodian.public(&key).expect("it has a public half");
    let other = custodian.create(&request(scheme)).expect("another key is made");
    let other_public = custodian.public(&other).expect("it has a public half");
    assert_ne!(public, other_public);
    // 34 bytes are what a ledger signs; 4096 are what clouds take, and one more is not.
    for length in [1, 34, 4_096, 4_097] {
        let message = vec![0x5a; length];
        let signature = match custodian.sign(&key, algorithm, &message) {
            Ok(signature) => signature,
            // Ed25519 cannot be handed a digest: a product with a limit says so.
            Err(CustodianError::TooLong { limit, .. })
                if scheme == KeyScheme::Ed25519 && length > limit =>
            {
                continue;
            }
            Err(error) => panic!("{length} bytes with {scheme}: {error}"),
        };
        let verify = |key: &[u8], message: &[u8]| {
            openssl::verifies(algorithm, key, message, signature.as_bytes())
        };
        assert!(verify(public.as_bytes(), &message), "{length} bytes with {scheme}");
        assert!(!verify(other_public.as_bytes(), &message), "with another key");
        assert!(!verify(public.as_bytes(), &vec![0x5b; length]), "of another message");
    }
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    let refused = custodian.sign(&key, algorithm, &long);
    assert!(matches!(refused, Err(CustodianError::TooLong { .. })), "{refused:?}");
}

fn ciphertexts_from_outside_are_decrypted(bench: &dyn Bench, scheme: KeyScheme) {
    let custodian = bench.open();
    let key = custodian.create(&request(scheme)).expect("a key is made");
    let algorithm = algorithm_of(scheme);
    let public = custodian.public(&key).expect("it has a public half");
    // 190 bytes are the longest message of OAEP with SHA-256 and 2048 bits.
    for length in [1, 16, 190] {
        let message = vec![0x5a; length];
        let ciphertext = openssl::encrypt(public.as_bytes(), &message);
        let plaintext = custodian.decrypt(&key, algorithm, &ciphertext);
        let plaintext = plaintext.unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        assert!(plaintext.expose(|bytes| bytes == message), "{length} bytes");

        let mut altered = ciphertext;
        altered[100] ^= 1;
        let refused = custodian.decrypt(&key, algorithm, &altered).err();
        let kind = refused.as_ref().map(CustodianError::kind);
        assert_eq!(kind, Some(bench.bad_ciphertext()), "{refused:?}");
    }
    let long = vec![0; CIPHERTEXT_BYTES_MAX + 1];
    let refused = custodian.decrypt(&key, algorithm, &long).err();
    assert!(matches!(refused, Some(CustodianError::TooLong { .. })), "{refused:?}");
}

fn a_key_does_only_what_it_is_for(bench: &dyn Bench, scheme: KeyScheme) {
    let custodian = bench.open();
    let key = custodian.create(&request(scheme)).expect("a key is made");
    let message = [0; 34];
    for algorithm in Algorithm::ALL.iter().copied() {
        let signed = custodian.sign(&key, algorithm, &message).map(drop);
        let decrypted = custodian.decrypt(&key, algorithm, &message).map(drop);
        let is_own = algorithm == algorithm_of(scheme);
        let (other, own) = if scheme.operation() == Operation::Decrypt {
            (signed, decrypted)
        } else {
            (decrypted, signed)
        };
        assert!(is_wrong_usage(&other), "{other:?}");
        assert_eq!(is_wrong_algorithm(&own), !is_own, "{own:?}");
    }
    // A handle that says something else than the custodian is no way around.
    for usage in KeyUsage::ALL.iter().copied().filter(|usage| *usage != key.usage) {
        let forged = KeyHandle { usage, ..key.clone() };
        let refused = custodian.sign(&forged, algorithm_of(scheme), &message);
        assert!(refused.is_err(), "signed as a key for {usage}");
        assert!(custodian.public(&forged).is_err(), "shown as a key for {usage}");
    }
}

fn a_key_that_is_switched_off_is_refused(bench: &dyn Bench, scheme: KeyScheme) {
    type Switch<'b> = &'b dyn Fn(&KeyHandle) -> Means;
    let switches: [(&str, Switch<'_>); 2] =
        [("disabled", &|key| bench.disable(key)), ("pending deletion", &|key| bench.doom(key))];
    for (word, switch) in switches {
        let custodian = bench.open();
        let request = request(scheme);
        let key = custodian.create(&request).expect("a key is made");
        assert!(try_use(custodian.as_ref(), &key).is_ok(), "{scheme} before");
        if switch(&key) == Means::None {
            continue;
        }
        let state = custodian.state(&key).expect("its state is told");
        assert!(state.to_string().starts_with(word), "{state} instead of {word}");
        for custodian in [custodian, bench.open()] {
            let refused = try_use(custodian.as_ref(), &key);
            assert!(matches!(refused, Err(CustodianError::NotEnabled { .. })), "{refused:?}");
            // It is not absent, and no second one is made.
            assert_eq!(custodian.create(&request).as_ref(), Ok(&key));
        }
    }
}

fn a_key_from_outside_comes_in_once(bench: &dyn Bench, scheme: KeyScheme) {
    let custodian = bench.open();
    let request = request(scheme);
    let (private, public) = openssl::generate(scheme);
    let key = custodian.import(&request, &private).expect("a key comes in");
    assert!(key.answers(&request));
    assert_eq!(custodian.import(&request, &private).as_ref(), Ok(&key), "a second time");
    let restarted = bench.open();
    assert_eq!(restarted.public(&key).expect("it has a public half").as_bytes(), public);
    assert!(try_use(restarted.as_ref(), &key).is_ok(), "{scheme}");
    if scheme.operation() == Operation::Sign {
        let signature = restarted.sign(&key, algorithm_of(scheme), b"imported").expect("it signs");
        let algorithm = algorithm_of(scheme);
        assert!(openssl::verifies(algorithm, &public, b"imported", signature.as_bytes()));
    }
    let (other, _) = openssl::generate(scheme);
    let refused = restarted.import(&request, &other);
    assert!(matches!(refused, Err(CustodianError::Different { .. })), "{refused:?}");
    assert_eq!(restarted.public(&key).expect("it has a public half").as_bytes(), public);
    // A key of another scheme is not taken for this one.
    let wrong = if scheme == KeyScheme::P256 { KeyScheme::Secp256k1 } else { KeyScheme::P256 };
    let (wrong, _) = openssl::generate(wrong);
    let fresh = self::request(scheme);
    assert!(restarted.import(&fresh, &wrong).is_err());
    assert_eq!(restarted.find(&fresh.label), Ok(None));
}

fn what_is_not_there_is_missing(bench: &dyn Bench) {
    let custodian = bench.open();
    let scheme = *bench.schemes().first().expect("it has a scheme");
    let key = custodian.create(&request(scheme)).expect("a key is made");
    assert_eq!(custodian.find(&fresh_label()), Ok(None));
    let id = free_id(custodian.as_ref(), &key.id);
    let missing = custodian.open(&id).map_err(|error| error.kind());
    assert_eq!(missing, Err(FailureKind::Missing));
    let elsewhere = KeyHandle { id, label: fresh_label(), ..key };
    let missing = try_use(custodian.as_ref(), &elsewhere).map_err(|error| error.kind());
    assert_eq!(missing, Err(FailureKind::Missing));
}

fn what_cannot_be_made_is_refused(bench: &dyn Bench) {
    let custodian = bench.open();
    let cases = [
        (KeyUsage::Namespace, KeyScheme::Rsa2048, FailureKind::Refused),
        (KeyUsage::Encryption, KeyScheme::P256, FailureKind::Refused),
        (KeyUsage::Encryption, KeyScheme::EciesP256, FailureKind::Unsupported),
        (KeyUsage::Protocol, KeyScheme::MlDsa65, FailureKind::Unsupported),
    ];
    for (usage, scheme, expected) in cases {
        let request = KeyRequest { label: fresh_label(), usage, scheme };
        let refused = custodian.create(&request).map_err(|error| error.kind());
        assert_eq!(refused, Err(expected), "{usage} of {scheme}");
        assert_eq!(custodian.find(&request.label), Ok(None));
    }
}

fn all_keys_are_listed_in_order(bench: &dyn Bench) {
    let custodian = bench.open();
    let scheme = *bench.schemes().first().expect("it has a scheme");
    let one = custodian.create(&request(scheme)).expect("a key is made");
    let two = custodian.create(&request(scheme)).expect("a key is made");
    let keys = custodian.keys().expect("they are listed");
    assert!(keys.contains(&one) && keys.contains(&two));
    assert!(keys.is_sorted_by(|one, other| one.label <= other.label));
    let abilities = custodian.abilities().expect("it says what it can do");
    for scheme in bench.schemes() {
        let asked = (scheme, scheme.operation());
        assert!(abilities.can.contains(&asked) || abilities.open.contains(&asked), "{asked:?}");
    }
}

/// Uses a key as its scheme does.
pub fn try_use(custodian: &dyn Custodian, key: &KeyHandle) -> Result<(), CustodianError> {
    let algorithm = algorithm_of(key.scheme);
    if key.scheme.operation() == Operation::Sign {
        return custodian.sign(key, algorithm, b"a message").map(drop);
    }
    let ciphertext = match custodian.public(key) {
        Ok(public) => openssl::encrypt(public.as_bytes(), b"a message"),
        // Whether it is missing or switched off is for the custodian to say.
        Err(_) => vec![0; 256],
    };
    custodian.decrypt(key, algorithm, &ciphertext).map(drop)
}

/// A request with a label that no other has.
pub fn request(scheme: KeyScheme) -> KeyRequest {
    let usage = match scheme.operation() {
        Operation::Decrypt => KeyUsage::Encryption,
        _ => KeyUsage::Protocol,
    };
    KeyRequest { label: fresh_label(), usage, scheme }
}

/// A key pair that no custodian made: the private half, and the public one as DER.
pub fn outside_key(scheme: KeyScheme) -> (PrivateKey, Vec<u8>) {
    openssl::generate(scheme)
}

/// The one algorithm of a scheme.
pub fn algorithm_of(scheme: KeyScheme) -> Algorithm {
    scheme.algorithm().expect("a scheme of a bench has an algorithm")
}

fn fresh_label() -> Label {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    format!("conformance-{process}-{number}").parse().expect("a label")
}

/// The same request with another usage, and with another scheme of the same operation.
fn others(request: &KeyRequest, schemes: &[KeyScheme]) -> Vec<KeyRequest> {
    let operation = request.scheme.operation();
    let usages = KeyUsage::ALL.iter().copied().filter(|usage| usage.operation() == operation);
    let schemes = schemes.iter().copied().filter(|scheme| scheme.operation() == operation);
    let usages = usages.map(|usage| KeyRequest { usage, ..request.clone() });
    let schemes = schemes.map(|scheme| KeyRequest { scheme, ..request.clone() });
    usages.chain(schemes).filter(|other| other != request).collect()
}

/// An identifier that no key has: another last digit, which identifiers of every product allow.
fn free_id(custodian: &dyn Custodian, id: &KeyId) -> KeyId {
    let keys = custodian.keys().expect("they are listed");
    let (rest, _) = id.as_str().split_at(id.as_str().len() - 1);
    let candidates = (0..10).map(|digit| format!("{rest}{digit}"));
    let mut free = candidates.filter_map(|candidate| candidate.parse().ok());
    free.find(|id| keys.iter().all(|key| key.id != *id)).expect("a digit is free")
}

fn is_wrong_usage(result: &Result<(), CustodianError>) -> bool {
    matches!(result, Err(CustodianError::WrongUsage { .. }))
}

fn is_wrong_algorithm(result: &Result<(), CustodianError>) -> bool {
    matches!(result, Err(CustodianError::WrongAlgorithm { .. }))
}
