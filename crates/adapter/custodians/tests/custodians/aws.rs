//! AWS KMS as it never should answer: a server that lies, throttles, hangs up, and forgets.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heirloom_conformance::custodian::Bench as _;
use heirloom_custodians::aws::{AwsConfig, open};
use heirloom_participant::custodian::key::{
    Algorithm, KeyHandle, KeyRequest, KeyScheme, KeyState, KeyUsage,
};
use heirloom_participant::custodian::{Custodian, CustodianError, FailureKind};
use serde_json::{Value, json};

use crate::fake::{Answer, Fake, Request};
use crate::software::SoftwareBench;

const ARN: &str = "arn:aws:kms:eu-west-1:000000000000:key/11111111-2222-3333-4444-555555555555";

/// A custodian that asks this server.
fn custodian(fake: &Fake) -> (Box<dyn Custodian>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = AwsConfig {
        region: "eu-west-1".to_owned(),
        endpoint: Some(fake.url()),
        credentials_file: Some(credentials(&folder)),
        profile: None,
    };
    (open(&config).unwrap(), folder)
}

#[test]
fn credentials_that_others_may_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = credentials(&folder);
    let config = AwsConfig {
        region: "eu-west-1".to_owned(),
        endpoint: None,
        credentials_file: Some(file.clone()),
        profile: None,
    };
    assert!(open(&config).is_ok());
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let error = open(&config).err().unwrap();
    assert!(matches!(error, CustodianError::Refused { .. }), "{error}");
}

pub(crate) fn credentials(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("credentials");
    fs::write(&path, "[default]\naws_access_key_id = test\naws_secret_access_key = test\n")
        .unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

fn request() -> KeyRequest {
    KeyRequest { label: "one".parse().unwrap(), usage: KeyUsage::Protocol, scheme: KeyScheme::P256 }
}

fn key() -> KeyHandle {
    let KeyRequest { label, usage, scheme } = request();
    KeyHandle { id: ARN.parse().unwrap(), label, usage, scheme }
}

fn operation(request: &Request) -> &str {
    request.header("x-amz-target").unwrap().strip_prefix("TrentService.").unwrap()
}

fn ok(value: &Value) -> Answer {
    Answer::Json(200, value.to_string())
}

fn error(status: u16, code: &str) -> Answer {
    Answer::Json(status, json!({"__type": code, "message": "a test"}).to_string())
}

fn metadata(state: &str) -> Value {
    json!({
        "Arn": ARN, "KeyId": "11111111-2222-3333-4444-555555555555", "KeyState": state,
        "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY", "Enabled": state == "Enabled",
    })
}

fn tags() -> Value {
    json!({"Truncated": false, "Tags": [
        {"TagKey": "HeirloomLabel", "TagValue": "one"},
        {"TagKey": "HeirloomUsage", "TagValue": "protocol"},
    ]})
}

/// A real key elsewhere: its public half and its signature of a message.
fn real(message: &[u8]) -> (String, String) {
    let bench = SoftwareBench::new();
    let custodian = bench.open();
    let key = custodian.create(&request()).unwrap();
    let public = custodian.public(&key).unwrap();
    let signature = custodian.sign(&key, Algorithm::EcdsaSha256, message).unwrap();
    (STANDARD.encode(public.as_bytes()), STANDARD.encode(signature.as_bytes()))
}

/// A KMS with one key, in this state, that signs whatever its state is.
fn careless(state: &'static str, public: String, signature: String) -> Fake {
    Fake::start(move |request| match operation(request) {
        "DescribeKey" => ok(&json!({"KeyMetadata": metadata(state)})),
        "ListResourceTags" => ok(&tags()),
        "GetPublicKey" => ok(&json!({"KeyId": ARN, "PublicKey": public})),
        "Sign" => ok(&json!({"KeyId": ARN, "Signature": signature})),
        _ => error(400, "ValidationException"),
    })
}

fn times(fake: &Fake, name: &str) -> usize {
    fake.seen().iter().filter(|request| operation(request) == name).count()
}

#[test]
fn a_key_that_is_not_enabled_is_refused_though_the_service_would_sign() {
    let (public, signature) = real(b"a message");
    for state in ["Disabled", "PendingDeletion", "PendingImport", "Unavailable", "Creating"] {
        let fake = careless(state, public.clone(), signature.clone());
        let (custodian, _folder) = custodian(&fake);
        let refused = custodian.sign(&key(), Algorithm::EcdsaSha256, b"a message");
        assert!(matches!(refused, Err(CustodianError::NotEnabled { .. })), "{state}: {refused:?}");
        assert_eq!(times(&fake, "Sign"), 0, "{state}");
    }
    let fake = careless("Enabled", public, signature);
    let (custodian, _folder) = custodian(&fake);
    custodian.sign(&key(), Algorithm::EcdsaSha256, b"a message").unwrap();
}

#[test]
fn a_signature_that_does_not_verify_is_not_returned() {
    // What moto does with digests: a signature of something else.
    let (public, signature) = real(b"another message");
    let fake = careless("Enabled", public, signature);
    let (custodian, _folder) = custodian(&fake);
    let corrupt = custodian.sign(&key(), Algorithm::EcdsaSha256, b"a message").unwrap_err();
    assert_eq!(corrupt.kind(), FailureKind::Corrupt);
}

#[test]
fn a_service_that_limits_its_rate_is_asked_a_few_times() {
    let always = Fake::start(|_| error(400, "ThrottlingException"));
    let (custodian, _folder) = custodian(&always);
    let throttled = custodian.state(&key());
    assert!(matches!(throttled, Err(CustodianError::Throttled { attempts: 4, .. })));
    assert_eq!(always.seen().len(), 4);
}

#[test]
fn a_service_that_limits_its_rate_for_a_moment_is_asked_again() {
    let asked = AtomicU32::new(0);
    let fake = Fake::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => error(400, "ThrottlingException"),
        _ => ok(&json!({"KeyMetadata": metadata("Enabled")})),
    });
    let (custodian, _folder) = custodian(&fake);
    assert_eq!(custodian.state(&key()), Ok(KeyState::Enabled));
}

#[test]
fn what_cannot_be_asked_is_never_absent() {
    let label = request().label;
    let cases: [(fn() -> Answer, FailureKind); 5] = [
        (|| Answer::Nothing, FailureKind::Unreachable),
        (|| error(500, "KMSInternalException"), FailureKind::Unreachable),
        (|| error(400, "AccessDeniedException"), FailureKind::Refused),
        (|| error(418, "SomethingElse"), FailureKind::Unknown),
        (|| Answer::Json(200, "{".to_owned()), FailureKind::Unknown),
    ];
    for (answer, expected) in cases {
        let fake = Fake::start(move |_| answer());
        let (custodian, _folder) = custodian(&fake);
        assert_eq!(custodian.find(&label).unwrap_err().kind(), expected);
        assert_eq!(custodian.create(&request()).unwrap_err().kind(), expected);
        assert_eq!(times(&fake, "CreateKey"), 0, "nothing is made when nobody knows");
    }
}

#[test]
fn a_key_whose_making_got_no_answer_is_not_made_again_at_once() {
    for lost in [|| Answer::Nothing, || error(500, "KMSInternalException")] {
        let fake = Fake::start(move |request| match operation(request) {
            "DescribeKey" => error(400, "NotFoundException"),
            "ListKeys" => ok(&json!({"Keys": [], "Truncated": false})),
            _ => lost(),
        });
        let (custodian, _folder) = custodian(&fake);
        assert_eq!(custodian.create(&request()).unwrap_err().kind(), FailureKind::Unknown);
        assert_eq!(times(&fake, "CreateKey"), 1);
    }
}

/// A KMS that has keys with our tags, and no alias for them.
fn without_alias(keys: usize) -> Fake {
    Fake::start(move |request| {
        let asked: Value = serde_json::from_str(&request.body).unwrap();
        let is_alias = asked["KeyId"].as_str().is_some_and(|id| id.starts_with("alias/"));
        match operation(request) {
            "DescribeKey" if is_alias => error(400, "NotFoundException"),
            "DescribeKey" => ok(&json!({"KeyMetadata": metadata("Enabled")})),
            "ListKeys" => {
                let entry = json!({"KeyId": "1111", "KeyArn": ARN});
                ok(&json!({"Keys": vec![entry; keys], "Truncated": false}))
            }
            "ListResourceTags" => ok(&tags()),
            "CreateAlias" => ok(&json!({})),
            _ => error(400, "ValidationException"),
        }
    })
}

#[test]
fn a_key_that_was_made_before_a_crash_is_found_and_gets_its_alias() {
    let fake = without_alias(1);
    let (custodian, _folder) = custodian(&fake);
    assert_eq!(custodian.create(&request()), Ok(key()));
    assert_eq!((times(&fake, "CreateKey"), times(&fake, "CreateAlias")), (0, 1));
}

#[test]
fn two_keys_of_one_label_without_alias_are_corrupt() {
    let fake = without_alias(2);
    let (custodian, _folder) = custodian(&fake);
    assert_eq!(custodian.create(&request()).unwrap_err().kind(), FailureKind::Corrupt);
    assert_eq!((times(&fake, "CreateKey"), times(&fake, "CreateAlias")), (0, 0));
}

#[test]
fn an_account_with_too_many_keys_gives_no_answer_and_no_second_key() {
    let fake = Fake::start(|request| match operation(request) {
        "ListKeys" => {
            let entry = json!({"KeyId": "1111", "KeyArn": ARN});
            ok(&json!({"Keys": vec![entry; 1_000], "Truncated": true, "NextMarker": "more"}))
        }
        // No alias, and every key is gone before its tags are read.
        _ => error(400, "NotFoundException"),
    });
    let (custodian, _folder) = custodian(&fake);
    assert_eq!(custodian.create(&request()).unwrap_err().kind(), FailureKind::Refused);
    assert_eq!(times(&fake, "CreateKey"), 0);
}
