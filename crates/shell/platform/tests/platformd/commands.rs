//! The binary, from founding a manufacturer to a measured process.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use heirloom_emulated::state::HostDirectory;
use heirloom_launcher::client::{ClientError, LaunchClient};
use heirloom_launcher::protocol::{InstanceState, LaunchRequest, WireMode};
use heirloom_model::evidence::{Endorsements, TrustAnchor};
use heirloom_model::wire;

const PLATFORMD: &str = env!("CARGO_BIN_EXE_heirloom-platformd");
const PATIENCE: Duration = Duration::from_mins(1);

fn platformd(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(PLATFORMD).current_dir(directory).args(arguments).output().unwrap()
}

fn done(directory: &Path, arguments: &[&str]) -> String {
    let output = platformd(directory, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn failed(directory: &Path, arguments: &[&str]) -> String {
    let output = platformd(directory, arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

/// Ends the daemon even if the test fails.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn wait<T>(mut observe: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = observe() {
            return seen;
        }
        assert!(begin.elapsed() < PATIENCE, "nothing happened");
        std::thread::yield_now();
    }
}

fn machine(directory: &Path) {
    done(directory, &["provision-root", "--dir", "root"]);
    done(directory, &["init", "--root-dir", "root", "--state", "state", "--host", "host-1"]);
}

#[test]
fn a_machine_is_made_served_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    machine(path);
    let mut daemon = Daemon(
        Command::new(PLATFORMD)
            .current_dir(path)
            .args(["serve", "--state", "state", "--socket", "socket"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let client = wait(|| LaunchClient::connect(&path.join("socket")).ok());
    assert_eq!(client.host_info().unwrap().host.as_str(), "host-1");

    done(path, &["signing-key", "--out", "key"]);
    let mut sign = vec!["sign-bundle", "--key", "key", "--binary", PLATFORMD];
    sign.extend(["--name", "platformd-1.0.0", "--security-version", "3", "--product-id", "7"]);
    sign.extend(["--application", "app", "--out", "bundle"]);
    let signed = done(path, &sign);
    assert_eq!(done(path, &["measure", "bundle"]), signed);
    assert!(signed.contains(r#""security_version":3"#), "{signed}");

    let text = |name: &str| path.join(name).to_str().unwrap().to_owned();
    let request = LaunchRequest {
        bundle: text("bundle"),
        arguments: Vec::new(),
        log: text("log"),
        mode: WireMode::Production,
        label: "test".to_owned(),
    };
    let launched = client.launch(request.clone()).unwrap();
    assert!(signed.contains(&launched.measurement.to_string()));
    // It does not know the platform's arguments, which is a usage error.
    let ended = wait(|| {
        let state = client.list().unwrap().pop().unwrap().state;
        Some(state).filter(|state| *state != InstanceState::Running)
    });
    assert_eq!(ended, InstanceState::Exited(2));
    assert!(std::fs::read_to_string(path.join("log")).unwrap().contains("--platform"));

    let id = i32::try_from(daemon.0.id()).unwrap();
    let terminated = Command::new("kill").arg(id.to_string()).status().unwrap();
    assert!(terminated.success());
    assert!(daemon.0.wait().unwrap().success());
    assert!(!path.join("socket").exists());
    assert!(matches!(client.launch(request), Err(ClientError::Unreachable(_))));
}

#[test]
fn anchor_and_collateral_are_what_the_model_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    machine(path);
    done(path, &["anchor", "--root-dir", "root", "--out", "anchor"]);
    done(path, &["collateral", "--root-dir", "root", "--out", "before"]);
    done(path, &["revoke", "--root-dir", "root", "--state", "state"]);
    done(path, &["require", "--root-dir", "root", "--cpu-svn", &"03".repeat(16)]);
    done(path, &["collateral", "--root-dir", "root", "--out", "after"]);
    done(path, &["certify", "--root-dir", "root", "--state", "state"]);
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert!(wire::decode::<TrustAnchor>(&read("anchor")).is_ok());
    let Endorsements::SgxDcap(before) = wire::decode(&read("before")).unwrap() else {
        panic!("it is of the kind SGX")
    };
    let Endorsements::SgxDcap(after) = wire::decode(&read("after")).unwrap() else {
        panic!("it is of the kind SGX")
    };
    assert!(after.pck_crl.len() > before.pck_crl.len(), "one certificate is revoked");
    assert!(!before.tcb_info.contains(r#"{"svn":3}"#) && after.tcb_info.contains(r#"{"svn":3}"#));
}

#[test]
fn what_is_there_is_never_overwritten_and_what_is_missing_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    machine(path);
    let root = failed(path, &["provision-root", "--dir", "root"]);
    assert!(root.contains("is not overwritten"), "{root}");
    let init = ["init", "--root-dir", "root", "--state", "state", "--host", "host-2"];
    assert!(failed(path, &init).contains("is not overwritten"));
    let missing = failed(path, &["serve", "--state", "nowhere", "--socket", "socket"]);
    assert!(missing.contains("nowhere/host is not there"), "{missing}");
    std::fs::write(path.join("state/fuses"), b"damaged").unwrap();
    let corrupt = failed(path, &["serve", "--state", "state", "--socket", "socket"]);
    assert!(corrupt.contains("corrupt"), "{corrupt}");
}

#[test]
fn a_microcode_update_is_durable_and_goes_one_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    machine(path);
    let record = || HostDirectory::open(&path.join("state")).unwrap().record().clone();
    let before = record();
    let said = done(path, &["update-microcode", "--state", "state"]);
    let after = record();
    assert!(after.cpu_svn > before.cpu_svn);
    assert_eq!(after.certificate, before.certificate, "certifying is the manufacturer's");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["cpu_svn"], after.cpu_svn.to_string());
    assert_eq!(said["certified_cpu_svn"], before.cpu_svn.to_string());
    done(path, &["update-microcode", "--state", "state"]);
    assert!(record().cpu_svn > after.cpu_svn);
    done(path, &["certify", "--root-dir", "root", "--state", "state"]);
    assert_eq!(record().certificate.cpu_svn, record().cpu_svn);
    let missing = failed(path, &["update-microcode", "--state", "nowhere"]);
    assert!(missing.contains("nowhere/host is not there"), "{missing}");
}

#[test]
fn a_bundle_says_of_which_kind_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    done(path, &["signing-key", "--out", "key"]);
    let domain = "0d".repeat(32);
    let (domain, application) = (["--domain", &domain], ["--application", "app"]);
    let sign = |out: &str, more: &[&[&str]]| {
        let mut sign = vec!["sign-bundle", "--key", "key", "--binary", PLATFORMD];
        sign.extend(["--name", "code-1.0.0", "--security-version", "3", "--product-id", "7"]);
        sign.extend(["--out", out]);
        sign.extend(more.iter().copied().flatten());
        platformd(path, &sign)
    };
    let kind = |number: usize, more: &[&[&str]]| {
        let out = format!("bundle-{number}");
        let signed = sign(&out, more);
        assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        let measured = done(path, &["measure", &out]);
        assert_eq!(measured.as_bytes(), signed.stdout);
        let json: serde_json::Value = serde_json::from_str(&measured).unwrap();
        (json["kind"].as_str().unwrap().to_owned(), json["measurement"].clone())
    };
    let (keeper, one) = kind(0, &[&domain]);
    let (upgrader, other) = kind(1, &[&domain, &["--kind", "upgrader"]]);
    assert_eq!((keeper.as_str(), upgrader.as_str()), ("keeper", "upgrader"));
    assert_ne!(one, other, "the same binary, but another kind");
    assert_eq!(kind(2, &[&domain, &["--kind", "keeper"]]), (keeper, one));
    assert_eq!(kind(3, &[&application]).0, "application");
    assert_eq!(kind(4, &[&domain, &application, &["--kind", "application"]]).0, "application");

    for (wrong, why) in [
        (vec![], "names no domain"),
        (vec![&["--kind", "upgrader"]], "names no domain"),
        (vec![&["--kind", "application"]], "does not name it"),
        (vec![&["--kind", "upgrader"], &domain, &application], "names an application"),
    ] {
        let more: Vec<&[&str]> = wrong.iter().map(|pair| &pair[..]).collect();
        let refused = sign("refused", &more);
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(why), "{said}");
        assert!(!path.join("refused").exists(), "nothing is left behind");
    }
}
