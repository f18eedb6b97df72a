//! A directory with evidence, and appraisals in it.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A directory to work in.
pub(crate) struct Place(TempDir);

/// An appraisal whose rules tests change.
pub(crate) struct Case {
    pub(crate) place: Place,
    /// Evidence, anchors and whatever belongs to them.
    pub(crate) words: String,
    /// The file of rules.
    pub(crate) rules: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), bytes).unwrap();
    }

    /// Runs a command; words are separated by blanks.
    pub(crate) fn run(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heirloom"));
        let command = command.args(words.split_whitespace()).current_dir(self.0.path()).env_clear();
        command.output().unwrap()
    }

    /// Runs a command with `--json`, and returns its exit code and data.
    pub(crate) fn json(&self, words: &str) -> (i32, Value) {
        let ended = self.run(&format!("--json {words}"));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let data = serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| said.into());
        (ended.status.code().unwrap(), data)
    }

    /// The report data that evidence says it carries.
    pub(crate) fn report_data(&self, evidence: &str) -> String {
        let (exit, json) = self.json(&format!("evidence decode {evidence}"));
        assert_eq!(exit, 0, "{json}");
        json["report_data"].as_str().unwrap().to_owned()
    }
}

impl Case {
    fn appraise(&self, rules: &str) -> (i32, Value) {
        self.place.write("rules.toml", rules);
        self.place.json(&format!("evidence appraise {} --rules rules.toml", self.words))
    }

    /// Must be accepted. Every check has an outcome, and none of them failed.
    pub(crate) fn accepted(&self) -> Value {
        let (exit, json) = self.appraise(&self.rules);
        assert_eq!(exit, 0, "{json}");
        assert_eq!(json["schema"], "heirloom.attestation-result.v1");
        assert_eq!(json["outcome"], "accepted");
        for check in json["checks"].as_array().unwrap() {
            let outcome = check["outcome"].as_str().unwrap();
            assert!(["passed", "skipped"].contains(&outcome), "{check}");
            assert!(!check["source"].as_str().unwrap().is_empty(), "{check}");
        }
        json
    }

    /// Must be refused for a reason after one change of the rules, by exactly one check.
    pub(crate) fn refused(&self, from: &str, to: &str, reason: &str) {
        let changed = self.rules.replacen(from, to, 1);
        assert_ne!(changed, self.rules, "{from} is not in the rules");
        let (exit, json) = self.appraise(&changed);
        assert_eq!(exit, 3, "{from} to {to}: {json}");
        assert_eq!(json["outcome"], "refused", "{from} to {to}");
        assert_eq!(json["reason"], reason, "{from} to {to}: {json}");
        let failed = |check: &&Value| check["outcome"] == "failed";
        assert_eq!(json["checks"].as_array().unwrap().iter().filter(failed).count(), 1, "{json}");
    }

    /// The same appraisal as people see it.
    pub(crate) fn text(&self, rules: &str) -> (i32, String, String) {
        self.place.write("rules.toml", rules);
        let words = format!("evidence appraise {} --rules rules.toml", self.words);
        let ended = self.place.run(&words);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (ended.status.code().unwrap(), text(ended.stdout), text(ended.stderr))
    }
}
