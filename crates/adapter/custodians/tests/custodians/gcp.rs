//! Google Cloud KMS, by exchanges that were written down from its documentation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heirloom_custodians::gcp::{Access, GcpConfig, Protection, open};
use heirloom_participant::custodian::key::{KeyRequest, KeyScheme, KeyUsage};
use heirloom_participant::custodian::{Custodian, CustodianError, FailureKind};
use serde_json::{Value, json};

use crate::exchange::{Elsewhere, Script, hash};
use crate::fake::{Answer, Fake};

const HEADER: (&str, &str) = ("Authorization", "Bearer a-token");
const RING: &str = "projects/p/locations/europe-west1/keyRings/r";
const MESSAGE: &[u8] = b"a message";

fn request(usage: KeyUsage, scheme: KeyScheme) -> KeyRequest {
    KeyRequest { label: "one".parse().unwrap(), usage, scheme }
}

fn custodian(fake: &Fake, elsewhere: &Elsewhere) -> Box<dyn Custodian> {
    let config = GcpConfig {
        project: "p".to_owned(),
        location: "europe-west1".to_owned(),
        key_ring: "r".to_owned(),
        protection: Protection::Hsm,
        access: Access::File(elsewhere.token_file()),
        endpoint: Some(fake.url()),
        ca_file: None,
    };
    open(&config).unwrap()
}

fn not_found() -> (u16, Value) {
    (404, json!({"error": {"code": 404, "status": "NOT_FOUND", "message": "not found"}}))
}

fn ring() -> (u16, Value) {
    (200, json!({"name": RING}))
}

/// A service that gets this key when it is asked to make it.
fn script(request: &KeyRequest, algorithm: &str, state: &str, pem: &str) -> Script {
    let usage = request.usage.as_str();
    let purpose = match request.usage {
        KeyUsage::Encryption => "ASYMMETRIC_DECRYPT",
        _ => "ASYMMETRIC_SIGN",
    };
    let labels = json!({"heirloom": "true", "heirloom-usage": usage});
    let made = json!({
        "purpose": purpose, "labels": labels,
        "versionTemplate": {"algorithm": algorithm, "protectionLevel": "HSM"},
    });
    let key =
        json!({"name": format!("{RING}/cryptoKeys/one"), "purpose": purpose, "labels": labels});
    let version = json!({"state": state, "algorithm": algorithm, "protectionLevel": "HSM"});
    let version_line = format!("GET /v1/{RING}/cryptoKeys/one/cryptoKeyVersions/1");
    Script::new(HEADER)
        .on(format!("GET /v1/{RING}"), None, &[ring()])
        .on(format!("GET /v1/{RING}/cryptoKeys/one"), None, &[not_found(), (200, key.clone())])
        .on(format!("POST /v1/{RING}/cryptoKeys?cryptoKeyId=one"), Some(made), &[(200, key)])
        .on(format!("{version_line}/publicKey"), None, &[(200, json!({"pem": pem}))])
        .on(version_line, None, &[(200, version)])
}

#[test]
fn every_scheme_is_made_and_signs_as_documented() {
    let cases = [
        (KeyScheme::P256, "EC_SIGN_P256_SHA256", Some(("sha256", "256"))),
        (KeyScheme::Secp256k1, "EC_SIGN_SECP256K1_SHA256", Some(("sha256", "256"))),
        (KeyScheme::P384, "EC_SIGN_P384_SHA384", Some(("sha384", "384"))),
        (KeyScheme::Ed25519, "EC_SIGN_ED25519", None),
    ];
    for (scheme, algorithm, digest) in cases {
        let request = request(KeyUsage::Namespace, scheme);
        let elsewhere = Elsewhere::new(&request);
        let body = match digest {
            Some((name, bits)) => json!({"digest": {name: hash(bits, MESSAGE)}}),
            None => json!({"data": STANDARD.encode(MESSAGE)}),
        };
        let answer = json!({"signature": elsewhere.signature(MESSAGE)});
        let fake = script(&request, algorithm, "ENABLED", &elsewhere.pem())
            .on(
                format!("POST /v1/{RING}/cryptoKeys/one/cryptoKeyVersions/1:asymmetricSign"),
                Some(body),
                &[(200, answer)],
            )
            .play();
        let custodian = custodian(&fake, &elsewhere);
        let key = custodian.create(&request).unwrap();
        assert_eq!(custodian.create(&request).as_ref(), Ok(&key));
        assert_eq!(custodian.open(&key.id).as_ref(), Ok(&key));
        custodian.sign(&key, scheme.algorithm().unwrap(), MESSAGE).unwrap();
    }
}

#[test]
fn ciphertexts_are_decrypted() {
    let request = request(KeyUsage::Encryption, KeyScheme::Rsa2048);
    let elsewhere = Elsewhere::new(&request);
    let answer = json!({"plaintext": STANDARD.encode(MESSAGE)});
    let fake = script(&request, "RSA_DECRYPT_OAEP_2048_SHA256", "ENABLED", &elsewhere.pem())
        .on(
            format!("POST /v1/{RING}/cryptoKeys/one/cryptoKeyVersions/1:asymmetricDecrypt"),
            Some(json!({"ciphertext": STANDARD.encode([7; 256])})),
            &[(200, answer)],
        )
        .play();
    let custodian = custodian(&fake, &elsewhere);
    let key = custodian.create(&request).unwrap();
    let algorithm = KeyScheme::Rsa2048.algorithm().unwrap();
    let plaintext = custodian.decrypt(&key, algorithm, &[7; 256]).ok().unwrap();
    assert!(plaintext.expose(|bytes| bytes == MESSAGE));
}

#[test]
fn a_version_that_is_not_enabled_is_refused() {
    let request = request(KeyUsage::Protocol, KeyScheme::P256);
    let elsewhere = Elsewhere::new(&request);
    for state in ["DISABLED", "DESTROY_SCHEDULED", "DESTROYED", "PENDING_GENERATION", "NEW_WORD"] {
        let fake = script(&request, "EC_SIGN_P256_SHA256", state, &elsewhere.pem()).play();
        let custodian = custodian(&fake, &elsewhere);
        let key = custodian.create(&request).unwrap();
        let refused = custodian.sign(&key, KeyScheme::P256.algorithm().unwrap(), MESSAGE);
        assert!(matches!(refused, Err(CustodianError::NotEnabled { .. })), "{state}: {refused:?}");
    }
}

#[test]
fn a_key_of_somebody_else_is_foreign() {
    let request = request(KeyUsage::Protocol, KeyScheme::P256);
    let elsewhere = Elsewhere::new(&request);
    let mut script = script(&request, "EC_SIGN_P256_SHA256", "ENABLED", &elsewhere.pem());
    let line = format!("GET /v1/{RING}/cryptoKeys/one");
    let found = script.exchanges.iter_mut().find(|exchange| exchange.line == line).unwrap();
    found.answers = vec![(200, json!({"purpose": "ASYMMETRIC_SIGN"}))];
    let fake = script.play();
    let error = custodian(&fake, &elsewhere).create(&request).unwrap_err();
    assert!(matches!(error, CustodianError::Foreign { .. }), "{error}");
}

#[test]
fn without_its_key_ring_no_key_is_absent() {
    let request = request(KeyUsage::Protocol, KeyScheme::P256);
    let elsewhere = Elsewhere::new(&request);
    let fake = Fake::start(|_| {
        let (status, body) = not_found();
        Answer::Json(status, body.to_string())
    });
    let error = custodian(&fake, &elsewhere).create(&request).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unreachable);
}

#[test]
fn what_cannot_be_asked_is_never_absent() {
    let request = request(KeyUsage::Protocol, KeyScheme::P256);
    let elsewhere = Elsewhere::new(&request);
    let cases = [
        (404, "<html>", FailureKind::Unreachable, 4),
        (503, "{}", FailureKind::Unreachable, 4),
        (429, "{}", FailureKind::Unreachable, 4),
        (403, "{}", FailureKind::Refused, 1),
        (401, "{}", FailureKind::Refused, 1),
        (200, "<html>", FailureKind::Unknown, 1),
    ];
    for (status, body, expected, asked) in cases {
        let fake = Fake::start(move |_| Answer::Json(status, body.to_owned()));
        let error = custodian(&fake, &elsewhere).create(&request).unwrap_err();
        assert_eq!(error.kind(), expected, "{status}: {error}");
        assert_eq!(fake.seen().len(), asked, "{status}");
    }
}

#[test]
fn a_list_without_an_end_is_refused_by_name_and_not_cut_off() {
    let request = request(KeyUsage::Protocol, KeyScheme::P256);
    let elsewhere = Elsewhere::new(&request);
    let list = format!("GET /v1/{RING}/cryptoKeys?filter=labels.heirloom=true");
    let page = json!({"cryptoKeys": [], "nextPageToken": "more"});
    let fake = script(&request, "EC_SIGN_P256_SHA256", "ENABLED", &elsewhere.pem())
        .on(list.clone(), None, &[(200, page.clone())])
        .on(format!("{list}&pageToken=more"), None, &[(200, page.clone())])
        .play();
    let error = custodian(&fake, &elsewhere).keys().unwrap_err();
    assert!(matches!(error, CustodianError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("100 pages"), "{error}");
    // A list that ends is taken, and one that stops in the middle is not.
    let next = format!("{list}&pageToken=more");
    for (end, is_whole) in [((200, json!({})), true), (not_found(), false)] {
        let fake = script(&request, "EC_SIGN_P256_SHA256", "ENABLED", &elsewhere.pem())
            .on(list.clone(), None, &[(200, page.clone())])
            .on(next.clone(), None, &[end])
            .play();
        assert_eq!(custodian(&fake, &elsewhere).keys().is_ok(), is_whole);
    }
}
