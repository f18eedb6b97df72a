//! Users for launched code, in tests.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use heirloom_launcher::users::{AgentGroup, BundleUsers, UserRange, UsersError};

/// Numbers that no system gives to anybody: above those of containers.
const FIRST: u32 = 1_900_000_000;
const LAST: u32 = FIRST + 255;
/// The group of agents in tests.
pub const GROUP: u32 = 1_900_001_000;

/// Users for launched code. None if this is not root, and says so aloud: nobody else gives processes
/// other users. That is an error where tests run for everybody (`CI` is set).
///
/// # Panics
///
/// If the numbers belong to somebody here; without root, if `CI` is set.
pub fn bundle_users() -> Option<BundleUsers> {
    let range = UserRange::new(FIRST, LAST).expect("these are enough and not too many");
    match BundleUsers::new(range, AgentGroup(GROUP)) {
        Ok(users) => Some(users),
        Err(error @ UsersError::NotRoot) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            say(&format!("SKIPPED: {error}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The range of [`bundle_users`] and the group, as arguments.
pub fn arguments() -> String {
    format!("--bundle-users {FIRST}-{LAST} --agent-group {GROUP}")
}

/// Lets other users into a folder, but not look around in it.
///
/// # Panics
///
/// If it is not ours.
pub fn let_pass(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o711)).expect("the folder is the test's");
}

/// Makes a folder in which launched code may write.
///
/// # Panics
///
/// If it is not ours.
pub fn share(folder: &Path) {
    fs::create_dir_all(folder).expect("the folder is the test's");
    std::os::unix::fs::chown(folder, None, Some(GROUP)).expect("root gives folders groups");
    fs::set_permissions(folder, Permissions::from_mode(0o2770)).expect("the folder is the test's");
}

#[expect(clippy::print_stderr, reason = "a test that is skipped is skipped aloud")]
fn say(text: &str) {
    eprintln!("{text}");
}
