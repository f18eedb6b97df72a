//! The binary, from founding a manufacturer to a measured process.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use heirloom_emulated::client::{ClientError, LaunchClient};
use heirloom_emulated::protocol::{InstanceState, LaunchRequest, WireMode};
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
    let Endorsements::SgxDcap(before) = wire::decode(&read("before")).unwrap();
    let Endorsements::SgxDcap(after) = wire::decode(&read("after")).unwrap();
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
