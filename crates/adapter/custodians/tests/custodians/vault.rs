//! Vault Transit, by exchanges that were written down from its documentation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heirloom_custodians::vault::{VaultConfig, open};
use heirloom_participant::custodian::key::{KeyRequest, KeyScheme, KeyState, KeyUsage};
use heirloom_participant::custodian::{Custodian, CustodianError, FailureKind};
use serde_json::{Value, json};

use crate::exchange::{Elsewhere, Script, hash};
use crate::fake::{Answer, Fake};

const HEADER: (&str, &str) = ("X-Vault-Token", "a-token");
const MESSAGE: &[u8] = b"a message";
const USAGES: [&str; 4] = ["namespace", "sequencer-authentication", "protocol", "encryption"];

fn request(usage: KeyUsage, scheme: KeyScheme) -> KeyRequest {
    KeyRequest { label: "one".parse().unwrap(), usage, scheme }
}

fn custodian(fake: &Fake, elsewhere: &Elsewhere) -> Box<dyn Custodian> {
    let config = VaultConfig {
        address: fake.url(),
        mount: "transit".to_owned(),
        token_file: elsewhere.token_file(),
        ca_file: None,
    };
    open(&config).unwrap()
}

fn none() -> (u16, Value) {
    (404, json!({"errors": []}))
}

fn key(kind: &str, public: &str) -> (u16, Value) {
    let version =
        json!({"creation_time": "2026-01-01T00:00:00Z", "name": "", "public_key": public});
    let data = json!({
        "type": kind, "latest_version": 1, "keys": {"1": version}, "exportable": false,
        "allow_plaintext_backup": false, "deletion_allowed": false,
    });
    (200, json!({"data": data}))
}

/// A server that gets this key when it is asked to make it.
fn script(name: &str, kind: &str, public: &str) -> Script {
    let usages = USAGES.iter().map(|usage| format!("one.{usage}"));
    let script = usages.filter(|other| other != name).fold(Script::new(HEADER), |script, other| {
        script.on(format!("GET /v1/transit/keys/{other}"), None, &[none()])
    });
    let body = json!({"type": kind, "exportable": false, "allow_plaintext_backup": false});
    script.on(format!("GET /v1/transit/keys/{name}"), None, &[none(), key(kind, public)]).on(
        format!("POST /v1/transit/keys/{name}"),
        Some(body),
        &[(204, Value::Null)],
    )
}

#[test]
fn curves_are_made_and_sign_a_digest() {
    let cases = [(KeyScheme::P256, "ecdsa-p256", "256"), (KeyScheme::P384, "ecdsa-p384", "384")];
    for (scheme, kind, bits) in cases {
        let request = request(KeyUsage::Protocol, scheme);
        let elsewhere = Elsewhere::new(&request);
        let body = json!({
            "input": hash(bits, MESSAGE), "prehashed": true,
            "hash_algorithm": format!("sha2-{bits}"), "marshaling_algorithm": "asn1",
            "key_version": 1,
        });
        let signature = format!("vault:v1:{}", elsewhere.signature(MESSAGE));
        let fake = script("one.protocol", kind, &elsewhere.pem())
            .on(
                "POST /v1/transit/sign/one.protocol".to_owned(),
                Some(body),
                &[(200, json!({"data": {"signature": signature, "key_version": 1}}))],
            )
            .play();
        let custodian = custodian(&fake, &elsewhere);
        let key = custodian.create(&request).unwrap();
        assert_eq!(custodian.create(&request).as_ref(), Ok(&key));
        assert_eq!(custodian.open(&key.id).as_ref(), Ok(&key));
        assert_eq!(custodian.state(&key), Ok(KeyState::Enabled));
        custodian.sign(&key, scheme.algorithm().unwrap(), MESSAGE).unwrap();
    }
}

#[test]
fn edwards_keys_sign_the_message_itself() {
    let request = request(KeyUsage::Namespace, KeyScheme::Ed25519);
    let elsewhere = Elsewhere::new(&request);
    let body = json!({"input": STANDARD.encode(MESSAGE), "key_version": 1});
    let signature = format!("vault:v1:{}", elsewhere.signature(MESSAGE));
    let fake = script("one.namespace", "ed25519", &elsewhere.raw())
        .on(
            "POST /v1/transit/sign/one.namespace".to_owned(),
            Some(body),
            &[(200, json!({"data": {"signature": signature}}))],
        )
        .play();
    let custodian = custodian(&fake, &elsewhere);
    let key = custodian.create(&request).unwrap();
    custodian.sign(&key, KeyScheme::Ed25519.algorithm().unwrap(), MESSAGE).unwrap();
}

#[test]
fn ciphertexts_are_decrypted() {
    let request = request(KeyUsage::Encryption, KeyScheme::Rsa2048);
    let elsewhere = Elsewhere::new(&request);
    let body = json!({"ciphertext": format!("vault:v1:{}", STANDARD.encode([7; 256]))});
    let fake = script("one.encryption", "rsa-2048", &elsewhere.pem())
        .on(
            "POST /v1/transit/decrypt/one.encryption".to_owned(),
            Some(body),
            &[(200, json!({"data": {"plaintext": STANDARD.encode(MESSAGE)}}))],
        )
        .play();
    let custodian = custodian(&fake, &elsewhere);
    let key = custodian.create(&request).unwrap();
    let algorithm = KeyScheme::Rsa2048.algorithm().unwrap();
    let plaintext = custodian.decrypt(&key, algorithm, &[7; 256]).ok().unwrap();
    assert!(plaintext.expose(|bytes| bytes == MESSAGE));
}

#[test]
fn a_key_that_was_rotated_or_may_leave_is_corrupt_and_a_deleted_one_is_refused() {
    let request = request(KeyUsage::Protocol, KeyScheme::P256);
    let elsewhere = Elsewhere::new(&request);
    let altered = |field: &str, value: Value| {
        let (status, mut body) = key("ecdsa-p256", &elsewhere.pem());
        body["data"][field] = value;
        let script = script("one.protocol", "ecdsa-p256", &elsewhere.pem());
        let mut script = script;
        let line = "GET /v1/transit/keys/one.protocol";
        let found = script.exchanges.iter_mut().find(|exchange| exchange.line == line).unwrap();
        found.answers = vec![(status, body)];
        script.play()
    };
    for (field, value) in [
        ("latest_version", json!(2)),
        ("exportable", json!(true)),
        ("allow_plaintext_backup", json!(true)),
        ("type", json!("ecdsa-p521")),
    ] {
        let fake = altered(field, value);
        let error = custodian(&fake, &elsewhere).create(&request).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Corrupt, "{field}: {error}");
    }
    let fake = altered("soft_deleted", json!(true));
    let custodian = custodian(&fake, &elsewhere);
    let key = custodian.create(&request).unwrap();
    let refused = custodian.sign(&key, KeyScheme::P256.algorithm().unwrap(), MESSAGE);
    assert!(matches!(refused, Err(CustodianError::NotEnabled { .. })), "{refused:?}");
}

#[test]
fn what_cannot_be_asked_is_never_absent() {
    let request = request(KeyUsage::Protocol, KeyScheme::P256);
    let elsewhere = Elsewhere::new(&request);
    let words = |words: &str| json!({"errors": [words]}).to_string();
    let no_engine = words("no handler for route \"transit/keys/one\". route entry not found.");
    let cases = [
        (404, no_engine, FailureKind::Unreachable, 4),
        (503, words("Vault is sealed"), FailureKind::Unreachable, 4),
        (429, words("request rate limit exceeded"), FailureKind::Unreachable, 4),
        (403, words("permission denied"), FailureKind::Refused, 1),
        (200, "{".to_owned(), FailureKind::Unknown, 1),
        (302, String::new(), FailureKind::Unknown, 1),
    ];
    for (status, body, expected, asked) in cases {
        let fake = Fake::start(move |_| Answer::Json(status, body.clone()));
        let error = custodian(&fake, &elsewhere).create(&request).unwrap_err();
        assert_eq!(error.kind(), expected, "{status}: {error}");
        assert_eq!(fake.seen().len(), asked, "{status}");
        assert!(fake.seen().iter().all(|request| request.line.starts_with("GET ")));
    }
    let fake = Fake::start(|_| Answer::Nothing);
    let error = custodian(&fake, &elsewhere).create(&request).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unreachable);
}

#[test]
fn a_scheme_that_the_engine_lacks_is_unsupported_and_plain_http_elsewhere_is_refused() {
    let request = request(KeyUsage::Protocol, KeyScheme::Secp256k1);
    let elsewhere = Elsewhere::new(&request);
    let fake = script("one.protocol", "none", "").play();
    let error = custodian(&fake, &elsewhere).create(&request).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unsupported);
    for address in ["http://vault.example", "http://127.0.0.1.example", "vault.example"] {
        let config = VaultConfig {
            address: address.to_owned(),
            mount: "transit".to_owned(),
            token_file: elsewhere.token_file(),
            ca_file: None,
        };
        let kind = open(&config).err().map(|error| error.kind());
        assert_eq!(kind, Some(FailureKind::Refused), "{address}");
    }
}
