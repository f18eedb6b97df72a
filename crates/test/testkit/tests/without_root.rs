//! What tests that need root do without it: a test that skips is an error where tests run for
//! everybody.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use heirloom_testkit::tee::cage::Cage;
use heirloom_testkit::users::bundle_users;

/// Says to [`what_nobody_finds`] that it is asked.
const ASKED: &str = "HEIRLOOM_TESTKIT_ASKED";
/// The user that owns nothing.
const NOBODY: u32 = 65_534;

#[test]
fn without_root_tests_are_skipped_but_for_where_they_run_for_everybody() {
    for what in ["users", "cage"] {
        let skipped = asked(what, None);
        assert!(skipped.status.success(), "{what}: {skipped:?}");
        let told = String::from_utf8_lossy(&skipped.stderr).to_lowercase();
        assert!(told.contains("skipped: "), "{what}: {told}");
        let refused = asked(what, Some("true"));
        assert!(!refused.status.success(), "{what}: {refused:?}");
    }
}

/// Nothing, unless it is the child of the other test: nobody's process.
#[test]
fn what_nobody_finds() {
    match std::env::var_os(ASKED).as_deref().and_then(OsStr::to_str) {
        Some("users") => assert!(bundle_users().is_none()),
        Some("cage") => assert!(Cage::new().is_none()),
        _ => {}
    }
}

fn asked(what: &str, ci: Option<&str>) -> Output {
    // Where this program lies may be closed to nobody.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["--exact", "what_nobody_finds", "--nocapture"]).env(ASKED, what);
    command.env_remove("CI").envs(ci.map(|value| ("CI", value))).current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}

/// Whether this is root, who alone becomes somebody else.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
