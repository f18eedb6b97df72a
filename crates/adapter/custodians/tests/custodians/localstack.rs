//! AWS KMS as LocalStack imitates it: a real process, started by the test.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use heirloom_conformance::custodian::{self, Bench, Means};
use heirloom_custodians::aws::{AwsConfig, open};
use heirloom_participant::custodian::check::check;
use heirloom_participant::custodian::key::{KeyHandle, KeyRequest, KeyScheme, KeyUsage, Operation};
use heirloom_participant::custodian::probe::{Difference, Trial};
use heirloom_participant::custodian::table::Product;
use heirloom_participant::custodian::{Custodian, FailureKind};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::aws::credentials;

/// Where `cargo xtask setup` puts it.
fn python() -> Option<PathBuf> {
    let home = env::var_os("HOME").map_or_else(env::temp_dir, PathBuf::from);
    let user = || env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let chosen = env::var_os("HEIRLOOM_CACHE").map(PathBuf::from);
    let cache = chosen.unwrap_or_else(|| user().join("heirloom"));
    Some(cache.join("localstack/bin/python")).filter(|python| python.exists())
}

struct KmsBench {
    folder: TempDir,
    process: Child,
    address: String,
}

impl KmsBench {
    /// Nothing if it is not installed, which is said aloud.
    #[expect(clippy::print_stdout, reason = "a skipped test says so")]
    fn start() -> Option<Self> {
        let Some(python) = python() else {
            println!("SKIPPED: no LocalStack here; `cargo xtask setup` installs it");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(&python);
        command.args(["-m", "localstack.runtime.main"]).env_clear();
        command.env("PATH", python.parent().unwrap()).env("HOME", folder.path());
        command.env("FILESYSTEM_ROOT", folder.path()).current_dir(folder.path());
        for name in ["GATEWAY_LISTEN", "LOCALSTACK_HOST"] {
            command.env(name, &address);
        }
        for (name, value) in [
            ("SERVICES", "kms"),
            ("STRICT_SERVICE_LOADING", "1"),
            ("SKIP_SSL_CERT_DOWNLOAD", "1"),
            ("DISABLE_EVENTS", "1"),
            ("USE_SSL", "0"),
        ] {
            command.env(name, value);
        }
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let output = BufReader::new(process.stdout.take().unwrap());
        // It says so when it answers, and its output ends if it dies.
        let mut lines = output.lines().map_while(Result::ok);
        let bench = Self { folder, process, address };
        assert!(lines.any(|line| line.trim() == "Ready."), "LocalStack ended");
        // Read on, so that it never waits for a full pipe.
        drop(std::thread::spawn(move || lines.for_each(drop)));
        Some(bench)
    }

    /// A request of somebody else.
    fn ask(&self, operation: &str, body: &Value) -> Value {
        let answer = ureq::post(format!("http://{}/", self.address))
            .header("Content-Type", "application/x-amz-json-1.1")
            .header("X-Amz-Target", format!("TrentService.{operation}"))
            .header(
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/kms/aws4_request, \
                 SignedHeaders=host, Signature=0",
            )
            .send(body.to_string());
        let text = answer.unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

impl Drop for KmsBench {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Bench for KmsBench {
    fn open(&self) -> Box<dyn Custodian> {
        let config = AwsConfig {
            region: "eu-west-1".to_owned(),
            endpoint: Some(format!("http://{}", self.address)),
            credentials_file: Some(credentials(&self.folder)),
            profile: None,
        };
        open(&config).unwrap()
    }

    fn schemes(&self) -> Vec<KeyScheme> {
        vec![KeyScheme::P256, KeyScheme::P384, KeyScheme::Secp256k1, KeyScheme::Rsa2048]
    }

    fn imports(&self) -> Vec<KeyScheme> {
        self.schemes()
    }

    fn bad_ciphertext(&self) -> FailureKind {
        // It fails inside, where AWS answers InvalidCiphertextException.
        FailureKind::Unreachable
    }

    fn disable(&self, key: &KeyHandle) -> Means {
        self.ask("DisableKey", &json!({"KeyId": key.id.as_str()}));
        Means::Used
    }

    fn doom(&self, key: &KeyHandle) -> Means {
        self.ask("ScheduleKeyDeletion", &json!({"KeyId": key.id.as_str()}));
        Means::Used
    }
}

#[test]
fn the_kms_passes_the_suite() {
    let Some(bench) = KmsBench::start() else { return };
    custodian::check(&bench);
    a_key_without_alias_is_found(&bench);
    an_import_that_was_interrupted_goes_on(&bench);
    what_localstack_lacks_is_unsupported(&bench);
    the_table_says_what_it_does(&bench);
}

fn tags(label: &str) -> Value {
    json!([
        {"TagKey": "HeirloomLabel", "TagValue": label},
        {"TagKey": "HeirloomUsage", "TagValue": "protocol"},
    ])
}

fn a_key_without_alias_is_found(bench: &KmsBench) {
    let spec = json!({
        "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY", "Tags": tags("crashed"),
    });
    let made = bench.ask("CreateKey", &spec);
    let request = KeyRequest {
        label: "crashed".parse().unwrap(),
        usage: KeyUsage::Protocol,
        scheme: KeyScheme::P256,
    };
    let key = bench.open().create(&request).unwrap();
    assert_eq!(made["KeyMetadata"]["Arn"].as_str(), Some(key.id.as_str()));
    let alias = bench.ask("DescribeKey", &json!({"KeyId": "alias/heirloom/crashed"}));
    assert_eq!(alias["KeyMetadata"]["Arn"].as_str(), Some(key.id.as_str()));
}

fn an_import_that_was_interrupted_goes_on(bench: &KmsBench) {
    let spec = json!({
        "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY", "Origin": "EXTERNAL",
        "Tags": tags("half"),
    });
    let made = bench.ask("CreateKey", &spec);
    let request = KeyRequest {
        label: "half".parse().unwrap(),
        usage: KeyUsage::Protocol,
        scheme: KeyScheme::P256,
    };
    let custodian = bench.open();
    let key = custodian.find(&request.label).unwrap().unwrap();
    assert!(custodian::try_use(custodian.as_ref(), &key).is_err());
    let (private, public) = custodian::outside_key(KeyScheme::P256);
    assert_eq!(custodian.import(&request, &private).as_ref(), Ok(&key));
    assert_eq!(made["KeyMetadata"]["Arn"].as_str(), Some(key.id.as_str()));
    assert_eq!(custodian.public(&key).unwrap().as_bytes(), public);
}

fn what_localstack_lacks_is_unsupported(bench: &KmsBench) {
    let request = KeyRequest {
        label: "edwards".parse().unwrap(),
        usage: KeyUsage::Namespace,
        scheme: KeyScheme::Ed25519,
    };
    let error = bench.open().create(&request).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unsupported, "{error}");
}

fn the_table_says_what_it_does(bench: &KmsBench) {
    let custodian = bench.open();
    let asked = check(custodian.as_ref(), &Trial::AskOnly, Some(Product::LocalStack)).unwrap();
    assert_eq!((asked.probe.made, asked.differences), (vec![], vec![]));
    let trial = Trial::MakeKeys { prefix: "trial".parse().unwrap() };
    let tried = check(custodian.as_ref(), &trial, Some(Product::LocalStack)).unwrap();
    assert_eq!(tried.probe.made.len(), bench.schemes().len());
    assert_eq!(tried.differences, []);
    assert!(tried.probe.failed.is_empty(), "{:?}", tried.probe.failed);
    // Against the rows of AWS itself the imitation shows.
    let aws = check(custodian.as_ref(), &trial, Some(Product::Aws)).unwrap();
    let (scheme, operation) = (KeyScheme::Ed25519, Operation::Create);
    assert!(aws.differences.contains(&Difference::CannotAfterAll { scheme, operation }));
}
