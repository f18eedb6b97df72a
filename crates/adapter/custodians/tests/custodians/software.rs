//! The folder of encrypted files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use heirloom_conformance::custodian::{self, Bench, Means, request, try_use};
use heirloom_custodians::config::{Config, ConfigError};
use heirloom_custodians::software::{Folder, Unlock};
use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::check::check;
use heirloom_participant::custodian::key::{KeyHandle, KeyScheme};
use heirloom_participant::custodian::probe::Trial;
use heirloom_participant::custodian::{Custodian, CustodianError, FailureKind};
use tempfile::TempDir;

pub(crate) struct SoftwareBench {
    folder: TempDir,
}

const SCHEMES: [KeyScheme; 5] = [
    KeyScheme::Ed25519,
    KeyScheme::P256,
    KeyScheme::P384,
    KeyScheme::Secp256k1,
    KeyScheme::Rsa2048,
];

impl SoftwareBench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Self { folder };
        fs::create_dir(bench.keys()).unwrap();
        fs::set_permissions(bench.keys(), Permissions::from_mode(0o700)).unwrap();
        bench.secret("key-file", &[b'k'; 32]);
        bench
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn secret(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn folder(&self, unlock: &Unlock) -> Result<Folder, CustodianError> {
        Folder::open(&self.keys(), unlock)
    }

    fn file_of(&self, key: &KeyHandle) -> PathBuf {
        self.keys().join(format!("{}.key", key.label))
    }
}

impl Bench for SoftwareBench {
    fn open(&self) -> Box<dyn Custodian> {
        let unlock = Unlock::KeyFile(self.folder.path().join("key-file"));
        self.folder(&unlock).ok().unwrap().into_custodian()
    }

    fn schemes(&self) -> Vec<KeyScheme> {
        SCHEMES.to_vec()
    }

    fn imports(&self) -> Vec<KeyScheme> {
        SCHEMES.to_vec()
    }

    fn disable(&self, _: &KeyHandle) -> Means {
        Means::None
    }

    fn doom(&self, _: &KeyHandle) -> Means {
        Means::None
    }
}

#[test]
fn the_folder_passes_the_suite() {
    custodian::check(&SoftwareBench::new());
}

#[test]
fn a_probe_leaves_nothing_unless_it_is_told_to() {
    let bench = SoftwareBench::new();
    let custodian = bench.open();
    let asked = check(custodian.as_ref(), &Trial::AskOnly, None).unwrap();
    assert_eq!((asked.keys, asked.differences), (vec![], vec![]));
    let trial = Trial::MakeKeys { prefix: "trial".parse().unwrap() };
    for _ in 0..2 {
        let tried = check(custodian.as_ref(), &trial, None).unwrap();
        assert_eq!((tried.keys.len(), tried.probe.made.len()), (5, 5));
        assert_eq!(tried.differences, []);
    }
}

#[test]
fn a_password_opens_what_it_closed_and_another_one_does_not() {
    let bench = SoftwareBench::new();
    let password = Unlock::Password(bench.secret("password", b"correct horse battery\n"));
    let custodian = bench.folder(&password).ok().unwrap().into_custodian();
    let key = custodian.create(&request(KeyScheme::Ed25519)).unwrap();
    let again = bench.folder(&password).ok().unwrap().into_custodian();
    try_use(again.as_ref(), &key).unwrap();
    let wrong = Unlock::Password(bench.secret("wrong", b"correct horse batterz\n"));
    let wrong = bench.folder(&wrong).ok().unwrap().into_custodian();
    let kind = |result: Result<Option<KeyHandle>, CustodianError>| result.unwrap_err().kind();
    assert_eq!(kind(wrong.find(&key.label)), FailureKind::Refused);
    assert_eq!(kind(bench.open().find(&key.label)), FailureKind::Refused, "the other kind");
}

#[test]
fn a_file_that_was_altered_anywhere_is_corrupt_and_stays() {
    let bench = SoftwareBench::new();
    let request = request(KeyScheme::P256);
    let key = bench.open().create(&request).unwrap();
    let path = bench.file_of(&key);
    let text = fs::read_to_string(&path).unwrap();
    let changes = [
        ("heirloom software key 1", "heirloom software key 2"),
        ("usage protocol", "usage namespace"),
        ("scheme p256", "scheme secp256k1"),
        ("cipher aes", "cipher des"),
        ("derivation hkdf-sha256", "derivation none"),
        ("label conf", "label confx"),
        ("public 30", "public 31"),
        ("nonce ", "nonce 00"),
        ("nonce ", "nonce  "),
        ("ciphertext ", "ciphertext 00"),
    ];
    for (from, to) in changes {
        let altered = text.replacen(from, to, 1);
        assert_ne!(altered, text, "{from}");
        fs::write(&path, &altered).unwrap();
        let custodian = bench.open();
        for kind in [
            custodian.find(&key.label).unwrap_err().kind(),
            custodian.create(&request).unwrap_err().kind(),
            custodian.public(&key).unwrap_err().kind(),
        ] {
            assert_eq!(kind, FailureKind::Corrupt, "{to}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), altered, "it was not replaced");
    }
    fs::write(&path, "").unwrap();
    assert_eq!(bench.open().find(&key.label).unwrap_err().kind(), FailureKind::Corrupt);
    fs::write(&path, &text).unwrap();
    try_use(bench.open().as_ref(), &key).unwrap();
}

#[test]
fn a_file_under_the_name_of_another_key_is_corrupt() {
    let bench = SoftwareBench::new();
    let custodian = bench.open();
    let one = custodian.create(&request(KeyScheme::P256)).unwrap();
    let two = request(KeyScheme::P256);
    fs::copy(bench.file_of(&one), bench.keys().join(format!("{}.key", two.label))).unwrap();
    assert_eq!(custodian.find(&two.label).unwrap_err().kind(), FailureKind::Corrupt);
}

#[test]
fn a_folder_that_is_gone_is_unreachable_and_its_keys_are_not_absent() {
    let bench = SoftwareBench::new();
    let custodian = bench.open();
    let key = custodian.create(&request(KeyScheme::P256)).unwrap();
    fs::rename(bench.keys(), bench.folder.path().join("elsewhere")).unwrap();
    for kind in [
        custodian.find(&key.label).unwrap_err().kind(),
        custodian.keys().unwrap_err().kind(),
        custodian.abilities().unwrap_err().kind(),
    ] {
        assert_eq!(kind, FailureKind::Unreachable);
    }
}

#[test]
fn files_are_for_their_owner_only() {
    let bench = SoftwareBench::new();
    let key = bench.open().create(&request(KeyScheme::P256)).unwrap();
    let mode = fs::metadata(bench.file_of(&key)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::set_permissions(bench.keys(), Permissions::from_mode(0o750)).unwrap();
    let unlock = Unlock::KeyFile(bench.folder.path().join("key-file"));
    assert!(bench.folder(&unlock).is_err());
}

#[test]
fn an_exported_key_is_opened_by_its_password_only() {
    let bench = SoftwareBench::new();
    for scheme in SCHEMES {
        let key = bench.open().create(&request(scheme)).unwrap();
        let unlock = Unlock::KeyFile(bench.folder.path().join("key-file"));
        let folder = bench.folder(&unlock).ok().unwrap();
        let password = SecretBytes::new(b"a long password".to_vec());
        let exported = folder.export(&key, &password).ok().unwrap();
        let path = bench.folder.path().join("exported");
        fs::write(&path, exported.as_der()).unwrap();
        let opened = |password: &str| {
            let mut command = Command::new("openssl");
            command.args(["pkcs8", "-inform", "DER", "-outform", "DER", "-in"]).arg(&path);
            command.args(["-passin", &format!("pass:{password}")]);
            command.output().unwrap()
        };
        assert!(opened("a long password").status.success(), "{scheme}");
        assert!(!opened("a long passwore").status.success(), "{scheme}");
        let short = SecretBytes::new(b"short".to_vec());
        assert!(folder.export(&key, &short).is_err());
        let forged = KeyHandle { scheme: KeyScheme::MlDsa65, ..key };
        assert!(folder.export(&forged, &password).is_err());
    }
}

#[test]
fn a_configuration_without_what_matters_is_refused() {
    let bench = SoftwareBench::new();
    let path = bench.folder.path().join("custodian.toml");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        Config::read(&path).and_then(|config| config.open().map(drop))
    };
    read("kind = 'software'\nfolder = 'keys'\nkey_file = 'key-file'").unwrap();
    let both = "kind = 'software'\nfolder = 'keys'\nkey_file = 'a'\npassword_file = 'b'";
    for text in ["kind = 'software'\nfolder = 'keys'", both] {
        assert!(matches!(read(text), Err(ConfigError::OneOf { .. })), "{text}");
    }
    for text in [
        "",
        "kind = 'other'",
        "kind = 'software'\nkey_file = 'key-file'",
        "kind = 'software'\nfolder = 'keys'\nkey_file = 'key-file'\npasword = 'x'",
        "kind = 'pkcs11'\nmodule = 'm'\ntoken = 't'",
        "kind = 'aws'",
    ] {
        assert!(matches!(read(text), Err(ConfigError::Malformed { .. })), "{text}");
    }
    let missing = Config::read(&bench.folder.path().join("none"));
    assert!(matches!(missing, Err(ConfigError::Unreadable { .. })));
}
