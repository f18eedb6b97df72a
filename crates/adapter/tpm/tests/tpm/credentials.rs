//! Credential activation: what a certification authority makes, made here in software.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents,
};
use aws_lc_rs::{digest, hmac};
use heirloom_tpm::code::ResponseCode;
use heirloom_tpm::credential::Credential;
use heirloom_tpm::error::TpmError;
use heirloom_tpm::key::{
    AttestationKey, EndorsementKey, EndorsementKind, StorageRoot, endorsement_certificate,
};
use heirloom_tpm::public::{Point, PublicKey};
use heirloom_tpm::structure::Name;

use crate::world::{SECRET, World, attestation_key, value};

const KINDS: [EndorsementKind; 2] = [EndorsementKind::Rsa2048, EndorsementKind::P256];

#[test]
fn a_credential_opens_in_the_tpm_that_has_both_keys() {
    let Some(world) = World::new() else { return };
    let (tpm, bus) = world.overheard();
    let root = StorageRoot::open(&tpm).unwrap();
    let key = attestation_key(&root);
    for kind in KINDS {
        let endorsement = EndorsementKey::open(&tpm, kind).unwrap();
        let credential = make(endorsement.public().key(), key.public().name());
        let opened = key.activate(&endorsement, &credential).unwrap();
        assert!(opened.expose(|bytes| bytes == SECRET), "{kind:?}");
        assert!(!bus.carried(&SECRET), "{kind:?}: the secret crossed the bus in the clear");
    }
}

#[test]
fn a_credential_that_was_changed_is_refused() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let key = attestation_key(&root);
    for kind in KINDS {
        let endorsement = EndorsementKey::open(&tpm, kind).unwrap();
        let good = make(endorsement.public().key(), key.public().name());
        for at in [2, 33, 34, good.identity.len() - 1] {
            let mut credential = good.clone();
            credential.identity[at] ^= 1;
            let refused = key.activate(&endorsement, &credential).err().unwrap();
            assert_eq!(refused.refusal(), Some(ResponseCode::INTEGRITY), "{kind:?}, byte {at}");
        }
        let mut credential = good.clone();
        let last = credential.seed.len() - 1;
        credential.seed[last] ^= 1;
        assert!(key.activate(&endorsement, &credential).is_err(), "{kind:?}");
        assert!(key.activate(&endorsement, &good).is_ok(), "{kind:?}");
    }
}

#[test]
fn a_credential_for_another_key_or_another_tpm_is_refused() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let key = AttestationKey::create(&root, value()).unwrap();
    let other_key = attestation_key(&root);
    let endorsement = EndorsementKey::open(&tpm, EndorsementKind::P256).unwrap();
    let for_other_key = make(endorsement.public().key(), other_key.public().name());
    let refused = key.activate(&endorsement, &for_other_key).err().unwrap();
    assert_eq!(refused.refusal(), Some(ResponseCode::INTEGRITY));
    let stranger = World::stranger();
    let tpm = stranger.tpm();
    let strange = EndorsementKey::open(&tpm, EndorsementKind::P256).unwrap();
    let for_other_tpm = make(strange.public().key(), key.public().name());
    let refused = key.activate(&endorsement, &for_other_tpm).err().unwrap();
    assert_eq!(refused.refusal(), Some(ResponseCode::INTEGRITY));
}

#[test]
fn the_certificate_is_that_of_the_endorsement_key() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let certificate = endorsement_certificate(&tpm, EndorsementKind::Rsa2048).unwrap();
    let key = EndorsementKey::open(&tpm, EndorsementKind::Rsa2048).unwrap();
    let PublicKey::Rsa2048(modulus) = key.public().key() else { panic!("it is of RSA") };
    assert!(certificate.windows(256).any(|window| window == modulus.as_slice()));
    // This TPM has a certificate for P-384 instead.
    let missing = endorsement_certificate(&tpm, EndorsementKind::P256);
    assert!(matches!(missing, Err(TpmError::Missing(_))), "{missing:?}");
}

#[test]
fn the_certificate_leads_to_the_manufacturer() {
    let Some(world) = World::new() else { return };
    let certificate = {
        let tpm = world.tpm();
        endorsement_certificate(&tpm, EndorsementKind::Rsa2048).unwrap()
    };
    std::fs::write(world.path("ek.der"), certificate).unwrap();
    let openssl = |arguments: &[&str]| world.tool("openssl", arguments);
    openssl(&["x509", "-inform", "der", "-in", "ek.der", "-out", "ek.pem"]).unwrap();
    let [issuer, root] = world.swtpm.issuers().map(|path| path.display().to_string());
    let chain = ["verify", "-CAfile", &root, "-untrusted", &issuer, "ek.pem"];
    // Endorsement certificates have a critical extension that openssl does not know.
    openssl(&[&chain[..1], &["-ignore_critical"], &chain[1..]].concat()).unwrap();
    let stranger = World::stranger();
    let [_, other] = stranger.swtpm.issuers().map(|path| path.display().to_string());
    let chain = ["verify", "-ignore_critical", "-CAfile", &other, "-untrusted", &issuer, "ek.pem"];
    assert!(openssl(&chain).is_err());
}

/// `TPM2_MakeCredential` (TPM 2.0 part 1, 24.4), as an authority does it without a TPM.
pub(crate) fn make(endorsement: &PublicKey, name: Name) -> Credential {
    let (secret, seed) = match endorsement {
        PublicKey::Rsa2048(modulus) => seed_for_rsa(modulus),
        PublicKey::P256(point) => seed_for_p256(point),
        PublicKey::Mac => panic!("an endorsement key is a key"),
    };
    let encryption = kdfa(&secret, "STORAGE", name.as_bytes());
    let mut encrypted = [[0, 32].as_slice(), &SECRET].concat();
    let key = UnboundCipherKey::new(&AES_128, &encryption[..16]).unwrap();
    let start = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    EncryptingKey::cfb128(key).unwrap().less_safe_encrypt(&mut encrypted, start).unwrap();
    let integrity = hmac::Key::new(hmac::HMAC_SHA256, &kdfa(&secret, "INTEGRITY", &[]));
    let code = hmac::sign(&integrity, &[&encrypted, name.as_bytes().as_slice()].concat());
    Credential { identity: [&[0, 32], code.as_ref(), &encrypted].concat(), seed }
}

fn seed_for_rsa(modulus: &[u8; 256]) -> (Vec<u8>, Vec<u8>) {
    let components = PublicKeyComponents { n: modulus.as_slice(), e: &[1, 0, 1] };
    let key: PublicEncryptingKey = components.try_into().unwrap();
    let key = OaepPublicEncryptingKey::new(key).unwrap();
    let (secret, mut seed) = (vec![5; 32], vec![0; 256]);
    key.encrypt(&OAEP_SHA256_MGF1SHA256, &secret, &mut seed, Some(b"IDENTITY\0")).unwrap();
    (secret, seed)
}

fn seed_for_p256(point: &Point) -> (Vec<u8>, Vec<u8>) {
    let own = PrivateKey::generate(&ECDH_P256).unwrap();
    let own_point = Point::from_sec1(own.compute_public_key().unwrap().as_ref()).unwrap();
    let secret = agree(&own, UnparsedPublicKey::new(&ECDH_P256, point.to_sec1()), (), |shared| {
        let parts = [&[0, 0, 0, 1], shared, b"IDENTITY\0", &own_point.x, &point.x];
        Ok(digest::digest(&digest::SHA256, &parts.concat()).as_ref().to_vec())
    });
    let seed = [[0, 32].as_slice(), &own_point.x, &[0, 32], &own_point.y].concat();
    (secret.unwrap(), seed)
}

fn kdfa(key: &[u8], label: &str, context: &[u8]) -> Vec<u8> {
    let bits: u32 = if label == "STORAGE" { 128 } else { 256 };
    let parts = [&[0, 0, 0, 1], label.as_bytes(), &[0], context, &bits.to_be_bytes()];
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, &parts.concat()).as_ref().to_vec()
}
