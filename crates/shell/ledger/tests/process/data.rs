//! What the agent does with a ledger that is not being served: the program's lines and exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use heirloom_model::digest::PlanDigest;
use serde_json::Value;

use crate::world::{PROGRAM, wait};

const NETWORK: [u8; 32] = [1; 32];

/// Runs the program, and gives its exit code and its last line.
fn run(words: &[&str]) -> (Option<i32>, Value) {
    let Output { status, stdout, .. } = Command::new(PROGRAM).args(words).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    let last = text.lines().last().map(|line| serde_json::from_str(line).unwrap());
    (status.code(), last.unwrap_or_default())
}

struct Ledger {
    directory: tempfile::TempDir,
}

impl Ledger {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Self { directory };
        let network = hex(&NETWORK);
        let out = ledger.path("made");
        let words = ["prepare", "--out", &out, "--network", &network, "--blocks", "30"];
        assert_eq!(run(&words).0, Some(0));
        ledger
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn data(&self) -> String {
        self.path("made/data")
    }

    fn inspect(&self) -> Value {
        let (code, said) = run(&["inspect", "--data", &self.data(), "--state", &self.path("s")]);
        assert_eq!(code, Some(0));
        said["done"].clone()
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    PlanDigest::new(*bytes).to_string()
}

#[test]
fn a_ledger_goes_to_the_next_schema_and_back() {
    let ledger = Ledger::new();
    let before = ledger.inspect();
    assert_eq!((&before["schema"], &before["held"]), (&2.into(), &Value::Null));
    let (height, id) = (before["tip"]["height"].to_string(), before["tip"]["id"].as_str().unwrap());
    let (data, state, plan) = (ledger.data(), ledger.path("s"), hex(&[7; 32]));
    let at = ["--plan", &plan, "--height", &height, "--tip", id];
    let snapshot = [&["snapshot", "--data", &data, "--state", &state], &at[..]].concat();
    let to = ["--schema-to", "3", "--migration", "height-of-transaction"];
    let migrate = [&["migrate", "--data", &data], &at[..], &to].concat();
    let revert = [&["revert", "--data", &data], &at[..]].concat();

    let other = ["--plan", &plan, "--height", &height, "--tip", &hex(&[9; 32])];
    let refused = [&["snapshot", "--data", &data, "--state", &state], &other[..]].concat();
    assert_eq!(run(&refused).0, Some(3), "another tip");
    let nowhere = [&["snapshot", "--data", "/no/such", "--state", &state], &at[..]].concat();
    assert_eq!(run(&nowhere).0, Some(6), "no ledger");
    assert_eq!(run(&["snapshot", "--data", &data]).0, Some(2), "no plan");

    let archive = ledger.path("archive");
    distribute(&data, &state, &archive, Path::new(&state));
    for words in [&snapshot, &snapshot, &migrate, &migrate] {
        assert_eq!(run(words).0, Some(0), "{words:?}");
    }
    let after = ledger.inspect();
    assert_eq!((&after["schema"], &after["tip"]), (&3.into(), &before["tip"]));
    assert_eq!(after["migrated"], plan.as_str());
    assert_eq!(after["snapshots"][&plan], before["tip"]);
    for _ in 0..2 {
        assert_eq!(run(&revert).0, Some(0));
    }
    let back = ledger.inspect();
    assert_eq!((&back["schema"], &back["migrated"]), (&2.into(), &Value::Null));
    assert_eq!(back["tip"], before["tip"]);
}

/// Archives everything, then ends with the signal that an agent sends.
fn distribute(data: &str, state: &str, archive: &str, remembered: &Path) {
    let words = ["distribute", "--data", data, "--state", state, "--archive", archive];
    let mut child = Command::new(PROGRAM).args(words).stdout(Stdio::piped()).spawn().unwrap();
    wait("blocks are archived", || PathBuf::from(remembered).exists());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
