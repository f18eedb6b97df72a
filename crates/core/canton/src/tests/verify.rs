//! Signatures of every scheme that can be checked, made here.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};

use crate::key::verify::{SignatureError, default_algorithm};
use crate::key::{
    KeyError, KeyFormat, PublicKey, Signature, SignatureFormat, SigningAlgorithm, SigningKeyUsage,
    SigningPublicKey, SigningScheme,
};
use crate::topology::mapping::{
    HostingParticipant, Mapping, NamespaceDelegation, OwnerToKey, PartyToParticipant, Permission,
    Restriction,
};
use crate::topology::verify::{Authority, Requirement, VerifyError, combined_hash};
use crate::topology::{MultiSignatures, Operation, SignedTransaction, Transaction};

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key that signs, of a test.
struct TestKey {
    pair: Pair,
    public: SigningPublicKey,
}

impl TestKey {
    fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let raw = pair.public_key().as_ref().to_vec();
        let raw = SigningPublicKey::new(SigningScheme::Ed25519, KeyFormat::Raw, &raw, &[]).unwrap();
        let usages = [SigningKeyUsage::Namespace];
        let public =
            SigningPublicKey::from_spki(SigningScheme::Ed25519, &raw.spki(), &usages).unwrap();
        assert_eq!(public.fingerprint(), raw.fingerprint());
        Self { pair: Pair::Ed25519(pair), public }
    }

    fn ecdsa(scheme: SigningScheme, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let spki = pair.public_key().as_der().unwrap();
        let public = SigningPublicKey::from_spki(scheme, spki.as_ref(), &[]).unwrap();
        Self { pair: Pair::Ecdsa(pair), public }
    }

    fn sign(&self, message: &[u8]) -> Signature {
        let (format, bytes) = match &self.pair {
            Pair::Ed25519(pair) => (SignatureFormat::Concat, pair.sign(message).as_ref().to_vec()),
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).unwrap();
                (SignatureFormat::Der, signature.as_ref().to_vec())
            }
        };
        let signed_by = self.public.fingerprint().clone();
        let algorithm = Some(default_algorithm(self.public.scheme()));
        Signature { format, bytes, signed_by, algorithm }
    }

    fn namespace(&self) -> crate::name::Namespace {
        self.public.fingerprint().to_namespace()
    }
}

fn all() -> Vec<TestKey> {
    vec![
        TestKey::ed25519(),
        TestKey::ecdsa(SigningScheme::P256, &ECDSA_P256_SHA256_ASN1_SIGNING),
        TestKey::ecdsa(SigningScheme::P384, &ECDSA_P384_SHA384_ASN1_SIGNING),
        TestKey::ecdsa(SigningScheme::Secp256k1, &ECDSA_P256K1_SHA256_ASN1_SIGNING),
    ]
}

#[test]
fn every_scheme_verifies_and_each_change_is_refused() {
    for key in all() {
        let scheme = key.public.scheme();
        let signature = key.sign(b"message");
        assert_eq!(key.public.verify_bytes(b"message", &signature), Ok(()), "{scheme:?}");
        let refused = |change: &dyn Fn(&mut Signature)| {
            let mut changed = signature.clone();
            change(&mut changed);
            key.public.verify_bytes(b"message", &changed).unwrap_err()
        };
        let bad = key.public.verify_bytes(b"messagf", &signature).unwrap_err();
        assert!(matches!(bad, SignatureError::Bad { .. }));
        let bad = refused(&|s| *s.bytes.last_mut().unwrap() ^= 1);
        assert!(matches!(bad, SignatureError::Bad { .. }));
        let other = refused(&|s| s.signed_by = "1220ff".parse().unwrap());
        assert!(matches!(other, SignatureError::OtherKey { .. }));
        let algorithm = refused(&|s| {
            let is_ed25519 = s.algorithm == Some(SigningAlgorithm::Ed25519);
            let other =
                if is_ed25519 { SigningAlgorithm::EcdsaSha256 } else { SigningAlgorithm::Ed25519 };
            s.algorithm = Some(other);
        });
        assert!(matches!(algorithm, SignatureError::Algorithm { .. }));
        let format = refused(&|s| {
            s.format = match s.format {
                SignatureFormat::Der => SignatureFormat::Concat,
                _ => SignatureFormat::Der,
            };
        });
        assert!(matches!(format, SignatureError::Format { .. }));
        assert_eq!(Signature::decode(&signature.encode()).unwrap(), signature);
        let public = PublicKey::Signing(key.public.clone());
        assert_eq!(PublicKey::decode(&public.encode()).unwrap(), public);
    }
}

#[test]
fn a_key_in_another_form_than_it_says_is_refused() {
    let refuse = |scheme, format, bytes: &[u8]| {
        SigningPublicKey::new(scheme, format, bytes, &[]).unwrap_err()
    };
    let error = refuse(SigningScheme::Ed25519, KeyFormat::Raw, &[0; 31]);
    assert!(matches!(error, KeyError::Form { .. }));
    let error = refuse(SigningScheme::P256, KeyFormat::Raw, &[0; 32]);
    assert!(matches!(error, KeyError::Form { .. }));
    let error = refuse(SigningScheme::Ed25519, KeyFormat::DerX509Spki, &[0; 44]);
    assert!(matches!(error, KeyError::Fingerprint(_)));
    let error = refuse(SigningScheme::P256, KeyFormat::DerX509Spki, &[0; 9_000]);
    assert!(matches!(error, KeyError::TooLarge { .. }));
}

fn signed(mapping: Mapping, keys: &[&TestKey]) -> SignedTransaction {
    let transaction = Transaction::new(Operation::AddReplace, 1, mapping);
    let hash = transaction.hash();
    let signatures = keys.iter().map(|key| key.sign(hash.as_bytes())).collect();
    SignedTransaction { transaction, signatures, multi_signatures: Vec::new(), proposal: false }
}

fn delegation(of: &TestKey, to: &TestKey, restriction: Restriction) -> Mapping {
    let (namespace, target) = (of.namespace(), to.public.clone());
    Mapping::NamespaceDelegation(NamespaceDelegation { namespace, target, restriction })
}

/// The transactions of a fresh participant, and a party on it.
#[test]
fn what_is_made_here_is_read_verified_and_complete() {
    for root in all() {
        let protocol = TestKey::ecdsa(SigningScheme::P256, &ECDSA_P256_SHA256_ASN1_SIGNING);
        let mut authority = Authority::default();
        let first = signed(delegation(&root, &root, Restriction::AllMappings), &[&root]);
        let member = format!("PAR::node::{}", root.namespace());
        let keys = vec![PublicKey::Signing(protocol.public.clone())];
        let owner = Mapping::OwnerToKey(OwnerToKey { member: member.clone(), keys });
        let second = signed(owner.clone(), &[&root, &protocol]);
        for one in [&first, &second] {
            assert_eq!(SignedTransaction::decode(&one.encode()).unwrap(), *one);
            let verified = authority.verify(one).unwrap();
            assert!(authority.missing(&verified, None).unwrap().is_empty());
            authority.accept(&verified);
        }
        // Without the proof of ownership it is not complete.
        let fewer = signed(owner, &[&root]);
        let verified = authority.verify(&fewer).unwrap();
        let proof = Requirement::Key(protocol.public.fingerprint().clone());
        assert_eq!(authority.missing(&verified, None).unwrap(), [proof].into());
    }
}

#[test]
fn a_delegated_key_signs_what_its_restriction_allows() {
    let (root, other) = (TestKey::ed25519(), TestKey::ed25519());
    let participant = format!("node::{}", root.namespace()).parse().unwrap();
    let hosting = Mapping::PartyToParticipant(PartyToParticipant {
        party: format!("alice::{}", root.namespace()).parse().unwrap(),
        threshold: 1,
        participants: vec![HostingParticipant {
            participant,
            permission: Permission::Submission,
            onboarding: false,
        }],
        signing_keys: None,
    });
    let cases = [
        (Restriction::AllMappings, true, true),
        (Restriction::AllButNamespaceDelegations, true, false),
        (Restriction::Specific([9].into()), true, false),
        (Restriction::Specific([8].into()), false, false),
    ];
    for (restriction, may_host, may_delegate) in cases {
        let mut authority = Authority::default();
        let delegating = signed(delegation(&root, &other, restriction), &[&root]);
        authority.know(root.public.clone());
        authority.accept(&authority.clone().verify(&delegating).unwrap());
        let third = TestKey::ed25519();
        let more = delegation(&root, &third, Restriction::AllMappings);
        for (mapping, allowed) in [(hosting.clone(), may_host), (more, may_delegate)] {
            let one = signed(mapping, &[&other]);
            let verified = authority.verify(&one).unwrap();
            let missing = authority.missing(&verified, None).unwrap();
            assert_eq!(missing.is_empty(), allowed, "{missing:?}");
        }
    }
}

#[test]
fn one_signature_over_several_transactions_holds_for_each_of_them() {
    let root = TestKey::ecdsa(SigningScheme::P256, &ECDSA_P256_SHA256_ASN1_SIGNING);
    let other = TestKey::ed25519();
    let mut first = signed(delegation(&root, &root, Restriction::AllMappings), &[]);
    let mut second = signed(delegation(&root, &other, Restriction::AllMappings), &[]);
    let hashes = vec![second.transaction.hash(), first.transaction.hash()];
    let signature = root.sign(combined_hash(&hashes).as_bytes());
    let multi = MultiSignatures { hashes, signatures: vec![signature] };
    let mut authority = Authority::default();
    authority.know(root.public.clone());
    for one in [&mut first, &mut second] {
        one.multi_signatures.push(multi.clone());
        assert_eq!(SignedTransaction::decode(&one.encode()).unwrap(), *one);
        authority.verify(one).unwrap();
    }
    // A list that the signature does not cover.
    let mut shorter = second.clone();
    shorter.multi_signatures[0].hashes.remove(1);
    assert!(matches!(authority.verify(&shorter), Err(VerifyError::Signature { .. })));
    // A signature that is right, of transactions that are others.
    let third = signed(delegation(&root, &other, Restriction::AllButNamespaceDelegations), &[]);
    let hashes = vec![second.transaction.hash(), third.transaction.hash()];
    let signature = root.sign(combined_hash(&hashes).as_bytes());
    first.multi_signatures = vec![MultiSignatures { hashes, signatures: vec![signature] }];
    assert!(matches!(authority.verify(&first), Err(VerifyError::NotCovered { .. })));
}

type Case<'a> = (&'a PartyToParticipant, &'a PartyToParticipant, Vec<&'a TestKey>, bool);

/// A change of a hosting needs exactly those whom it concerns.
#[test]
fn each_change_of_a_hosting_needs_those_whom_it_concerns() {
    let [party, host, other] = [(); 3].map(|()| TestKey::ed25519());
    let hosting = |of: &TestKey| HostingParticipant {
        participant: format!("node::{}", of.namespace()).parse().unwrap(),
        permission: Permission::Confirmation,
        onboarding: false,
    };
    let mapping = PartyToParticipant {
        party: format!("alice::{}", party.namespace()).parse().unwrap(),
        threshold: 1,
        participants: vec![hosting(&host)],
        signing_keys: None,
    };
    let changed = |change: &dyn Fn(&mut PartyToParticipant)| {
        let mut changed = mapping.clone();
        change(&mut changed);
        changed
    };
    let more = changed(&|m| m.participants.push(hosting(&other)));
    let upgraded = changed(&|m| m.participants[0].permission = Permission::Submission);
    let downgraded = changed(&|m| m.participants[0].permission = Permission::Observation);
    let onboarding = changed(&|m| m.participants[0].onboarding = true);
    let threshold = changed(&|m| m.threshold = 2);
    let cases: Vec<Case<'_>> = vec![
        (&mapping, &more, vec![&party, &other], true),
        (&mapping, &more, vec![&party], false),
        (&mapping, &more, vec![&other], false),
        (&more, &mapping, vec![&other], true),
        (&more, &mapping, vec![&party], true),
        (&more, &mapping, vec![&host], false),
        (&mapping, &upgraded, vec![&party, &host], true),
        (&mapping, &upgraded, vec![&party], false),
        (&mapping, &downgraded, vec![&host], true),
        (&mapping, &threshold, vec![&party], true),
        (&mapping, &threshold, vec![&host], false),
        (&onboarding, &mapping, vec![&host], true),
        (&onboarding, &mapping, vec![&party], false),
    ];
    let mut authority = Authority::default();
    for key in [&party, &host, &other] {
        authority.know(key.public.clone());
    }
    for (index, (old, new, signers, complete)) in cases.into_iter().enumerate() {
        let one = signed(Mapping::PartyToParticipant(new.clone()), &signers);
        let verified = authority.verify(&one).unwrap();
        let previous = Mapping::PartyToParticipant(old.clone());
        let missing = authority.missing(&verified, Some(&previous)).unwrap();
        assert_eq!(missing.is_empty(), complete, "case {index}: {missing:?}");
    }
}
