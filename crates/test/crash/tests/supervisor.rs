//! The supervisor kills real programs where it says, and nowhere else.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs a shell script under the supervisor, in this directory.
fn supervise(role: &str, directory: &Path, script: &str) -> Vec<Value> {
    let data = directory.join("data");
    std::fs::create_dir(&data).expect("a new directory has room");
    let log = directory.join("events");
    let status = Command::new(env!("CARGO_BIN_EXE_heirloom-crash"))
        .args(["run", "--role", role, "--within"])
        .arg(&data)
        .arg("--journal")
        .arg(directory.join("journal"))
        .arg("--log")
        .arg(&log)
        .args(["--", "sh", "-c", script])
        .current_dir(&data)
        .status()
        .expect("the supervisor can be started");
    assert!(status.success());
    let events = std::fs::read_to_string(log).expect("a supervisor writes events");
    events.lines().map(|line| serde_json::from_str(line).expect("events are JSON")).collect()
}

/// Where processes were killed: operation, path, moment.
fn kills(events: &[Value]) -> Vec<String> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    events
        .iter()
        .filter(|event| event["killed"].is_string())
        .map(|it| format!("{} {} {}", text(it, "killed"), text(it, "operation"), text(it, "path")))
        .collect()
}

#[test]
fn a_program_is_killed_before_and_after_each_operation_and_started_again() {
    let directory = tempfile::tempdir().unwrap();
    // `exec` makes the tool the program itself. Every life notes what it found.
    let script = "echo $(ls) >> ../seen; exec mkdir -p one";
    let events = supervise("agent", directory.path(), script);
    assert_eq!(kills(&events), ["before mkdir one", "after mkdir one"]);
    let seen = std::fs::read_to_string(directory.path().join("seen")).unwrap();
    assert_eq!(seen, "\n\none\n", "killed before: nothing there; killed after: it is there");
}

#[test]
fn what_a_program_launches_is_killed_and_the_program_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let script = "for turn in 1 2 3; do mkdir one; echo $? >> ../seen; done; mkdir -p two; true";
    let events = supervise("keeper", directory.path(), script);
    let expected = ["before mkdir one", "after mkdir one", "before mkdir two"];
    assert_eq!(kills(&events), expected);
    let seen = std::fs::read_to_string(directory.path().join("seen")).unwrap();
    assert_eq!(seen, "137\n137\n1\n");
    assert!(!directory.path().join("data/two").exists());
}
