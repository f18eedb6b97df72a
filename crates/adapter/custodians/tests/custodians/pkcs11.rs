//! SoftHSM2, a real token in software.
//!
//! Its configuration comes from the environment of the process, so each test runs itself again
//! as a child with a token of its own.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use heirloom_conformance::custodian::{self, Bench, Means, request, try_use};
use heirloom_custodians::pkcs11::{TokenConfig, open};
use heirloom_participant::custodian::check::check;
use heirloom_participant::custodian::key::{KeyHandle, KeyRequest, KeyScheme, KeyState, Operation};
use heirloom_participant::custodian::probe::Trial;
use heirloom_participant::custodian::table::Product;
use heirloom_participant::custodian::{Custodian, CustodianError, FailureKind};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const TOKEN: &str = "heirloom";
const PIN: &str = "1234-user";
const CONFIGURATION: &str = "SOFTHSM2_CONF";
/// Marks a child, so that a configuration of the machine is never used.
const CHILD: &str = "HEIRLOOM_TEST_TOKEN_FOLDER";

struct TokenBench {
    folder: PathBuf,
}

impl TokenBench {
    /// In the child, its token. In the parent nothing: it made a token and ran the child.
    fn of(test: &str) -> Option<Self> {
        if let Some(folder) = env::var_os(CHILD) {
            return Some(Self { folder: folder.into() });
        }
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        let configuration = folder.path().join("softhsm2.conf");
        let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
        fs::write(&configuration, text).unwrap();
        secret(folder.path(), "pin", PIN);
        secret(folder.path(), "wrong-pin", "0000-user");
        let mut initialize = Command::new("softhsm2-util");
        initialize.args(["--init-token", "--free", "--label", TOKEN, "--so-pin", "1234-so"]);
        initialize.args(["--pin", PIN]).env(CONFIGURATION, &configuration);
        let output = initialize.output().expect("SoftHSM2: `cargo xtask setup` installs it");
        assert!(output.status.success(), "{output:?}");
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", &format!("pkcs11::{test}"), "--nocapture"]);
        child.env(CONFIGURATION, &configuration).env(CHILD, folder.path());
        let output = child.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{words}\n{said}");
        assert!(said.contains("1 passed"), "the child ran no test: {said}");
        None
    }

    fn config(&self) -> TokenConfig {
        TokenConfig {
            module: MODULE.into(),
            token: TOKEN.to_owned(),
            pin_file: self.folder.join("pin"),
        }
    }
}

impl Bench for TokenBench {
    fn open(&self) -> Box<dyn Custodian> {
        open(&self.config()).unwrap()
    }

    fn schemes(&self) -> Vec<KeyScheme> {
        vec![
            KeyScheme::Ed25519,
            KeyScheme::P256,
            KeyScheme::P384,
            KeyScheme::Secp256k1,
            KeyScheme::Rsa2048,
        ]
    }

    fn imports(&self) -> Vec<KeyScheme> {
        self.schemes()
    }

    fn disable(&self, key: &KeyHandle) -> Means {
        let off = match key.scheme.operation() {
            Operation::Decrypt => Attribute::Decrypt(false),
            _ => Attribute::Sign(false),
        };
        set(key, ObjectClass::PRIVATE_KEY, &[off]);
        Means::Used
    }

    fn doom(&self, _: &KeyHandle) -> Means {
        Means::None
    }
}

/// A session of another program on the same token.
fn session() -> Session {
    let module = Pkcs11::new(MODULE).unwrap();
    // The custodian may have done it already.
    drop(module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)));
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    let session = module.open_rw_session(slot).unwrap();
    drop(session.login(UserType::User, Some(&AuthPin::new(PIN.into()))));
    session
}

fn set(key: &KeyHandle, class: ObjectClass, attributes: &[Attribute]) {
    let session = self::session();
    let label = Attribute::Label(key.label.as_str().as_bytes().to_vec());
    let found = session.find_objects(&[Attribute::Class(class), label]).unwrap();
    session.update_attributes(found[0], attributes).unwrap();
}

fn secret(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
    fs::set_permissions(folder.join(name), Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_token_passes_the_suite() {
    let Some(bench) = TokenBench::of("the_token_passes_the_suite") else { return };
    custodian::check(&bench);
    // Asked without leaving anything: the trial keys ended with their session.
    let before = session().find_objects(&[]).unwrap().len();
    let abilities = bench.open().abilities().unwrap();
    for scheme in bench.schemes() {
        assert!(abilities.can.contains(&(scheme, Operation::Create)), "{scheme}: {abilities:?}");
        assert!(abilities.can.contains(&(scheme, scheme.operation())), "{scheme}");
    }
    let checked = check(bench.open().as_ref(), &Trial::AskOnly, Some(Product::SoftHsm2)).unwrap();
    assert_eq!(checked.differences, [], "the table says what SoftHSM2 does");
    assert!(checked.keys.iter().all(|key| key.fingerprint.is_ok()));
    assert_eq!(session().find_objects(&[]).unwrap().len(), before);
}

#[test]
fn private_keys_stay_in_the_token() {
    let Some(bench) = TokenBench::of("private_keys_stay_in_the_token") else { return };
    let custodian = bench.open();
    let key = custodian.create(&request(KeyScheme::P256)).unwrap();
    let session = self::session();
    let label = Attribute::Label(key.label.as_str().as_bytes().to_vec());
    let class = Attribute::Class(ObjectClass::PRIVATE_KEY);
    let found = session.find_objects(&[class, label]).unwrap();
    let asked = [cryptoki::object::AttributeType::Value];
    assert_eq!(session.get_attributes(found[0], &asked).unwrap_or_default(), []);
}

#[test]
fn two_objects_of_one_label_are_corrupt() {
    let Some(bench) = TokenBench::of("two_objects_of_one_label_are_corrupt") else { return };
    let custodian = bench.open();
    let one = custodian.create(&request(KeyScheme::P256)).unwrap();
    let two = custodian.create(&request(KeyScheme::P256)).unwrap();
    let name = Attribute::Label(one.label.as_str().as_bytes().to_vec());
    set(&two, ObjectClass::PUBLIC_KEY, std::slice::from_ref(&name));
    let kind = |result: Result<Option<KeyHandle>, CustodianError>| result.unwrap_err().kind();
    assert_eq!(kind(custodian.find(&one.label)), FailureKind::Corrupt, "two public objects");
    assert_eq!(kind(custodian.find(&two.label)), FailureKind::Corrupt, "a lone private object");
    assert!(custodian.create(&request_of(&one)).is_err());
}

#[test]
fn a_lone_public_object_awaits_its_private_one() {
    let Some(bench) = TokenBench::of("a_lone_public_object_awaits_its_private_one") else {
        return;
    };
    let custodian = bench.open();
    let key = custodian.create(&request(KeyScheme::P256)).unwrap();
    let name = Attribute::Label(b"elsewhere".to_vec());
    set(&key, ObjectClass::PRIVATE_KEY, &[name]);
    assert_eq!(custodian.state(&key), Ok(KeyState::PendingImport));
    let refused = try_use(custodian.as_ref(), &key);
    assert!(matches!(refused, Err(CustodianError::NotEnabled { .. })), "{refused:?}");
}

#[test]
fn a_key_of_somebody_else_is_foreign() {
    let Some(bench) = TokenBench::of("a_key_of_somebody_else_is_foreign") else { return };
    let custodian = bench.open();
    let key = custodian.create(&request(KeyScheme::P256)).unwrap();
    let id = [Attribute::Id(b"theirs".to_vec())];
    set(&key, ObjectClass::PUBLIC_KEY, &id);
    set(&key, ObjectClass::PRIVATE_KEY, &id);
    let foreign = custodian.find(&key.label);
    assert!(matches!(foreign, Err(CustodianError::Foreign { .. })), "{foreign:?}");
    assert!(!custodian.keys().unwrap().contains(&key));
}

#[test]
fn a_wrong_pin_is_refused_and_another_token_is_unreachable() {
    let Some(bench) = TokenBench::of("a_wrong_pin_is_refused_and_another_token_is_unreachable")
    else {
        return;
    };
    let wrong = TokenConfig { pin_file: bench.folder.join("wrong-pin"), ..bench.config() };
    let kind = |config: &TokenConfig| open(config).err().map(|error| error.kind());
    assert_eq!(kind(&wrong), Some(FailureKind::Refused));
    let other = TokenConfig { token: "other".to_owned(), ..bench.config() };
    assert_eq!(kind(&other), Some(FailureKind::Unreachable));
    let module = TokenConfig { module: "/nonexistent/module.so".into(), ..bench.config() };
    assert_eq!(kind(&module), Some(FailureKind::Unreachable));
    assert_eq!(kind(&bench.config()), None);
}

fn request_of(key: &KeyHandle) -> KeyRequest {
    let KeyHandle { label, usage, scheme, .. } = key.clone();
    KeyRequest { label, usage, scheme }
}
