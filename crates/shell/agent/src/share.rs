//! What launched code and the agent share, where each code has a user of its own.
//!
//! They meet in the agent's group. Directories stay the agent's, so that it can move and remove
//! what is in them; code writes only in those that are given to the group.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use heirloom_store::atomic;
use heirloom_upgrade::port::DriverError;

use crate::state_dir::STATE_FILES_MAX;

/// The group may go through it, and not look around.
const PASS: u32 = 0o010;
/// The group may do everything, and what is made in it is the group's.
const GIVEN: u32 = 0o2770;
/// The group may read and write it.
const GIVEN_FILE: u32 = 0o660;
/// Bits that `chmod` changes.
const MODE: u32 = 0o7777;

/// Lets the group go through a directory of ours.
pub(crate) fn let_pass(directory: &Path, group: u32) -> Result<(), DriverError> {
    let found = fs::metadata(directory).map_err(|error| failed(directory, &error))?;
    set(directory, group, (found.mode() & MODE) | PASS)
}

/// Gives a directory to the group, and makes it if it is not there. Files of ours in it, which we
/// copied or brought back, are the group's as well.
pub(crate) fn give(directory: &Path, group: u32) -> Result<(), DriverError> {
    atomic::create_directory(directory).map_err(|error| DriverError::Unknown(error.to_string()))?;
    set(directory, group, GIVEN)?;
    let owner = fs::metadata(directory).map_err(|error| failed(directory, &error))?.uid();
    let listed = fs::read_dir(directory).map_err(|error| failed(directory, &error))?;
    for entry in listed.take(STATE_FILES_MAX) {
        let path = entry.map_err(|error| failed(directory, &error))?.path();
        // Never through a link that launched code may have left.
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path, &error)),
        };
        if found.is_file() && found.uid() == owner {
            set(&path, group, GIVEN_FILE)?;
        }
    }
    Ok(())
}

fn set(path: &Path, group: u32, mode: u32) -> Result<(), DriverError> {
    let found = fs::metadata(path).map_err(|error| failed(path, &error))?;
    if found.gid() != group {
        chown(path, None, Some(group)).map_err(|error| failed(path, &error))?;
    }
    if found.mode() & MODE != mode {
        let mode = Permissions::from_mode(mode);
        fs::set_permissions(path, mode).map_err(|error| failed(path, &error))?;
    }
    Ok(())
}

fn failed(path: &Path, error: &io::Error) -> DriverError {
    DriverError::Refused(format!(
        "{} cannot be given to the group that bundles have here: {error}; the agent needs the \
         group that the platform was served with (`--agent-group`)",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & MODE
    }

    #[test]
    fn the_group_passes_and_writes_where_it_is_to() {
        let directory = tempfile::tempdir().unwrap();
        let group = fs::metadata(directory.path()).unwrap().gid();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let seat = directory.path().join("seat");
        give(&seat, group).unwrap();
        fs::write(seat.join("a.sealed"), "").unwrap();
        fs::set_permissions(seat.join("a.sealed"), Permissions::from_mode(0o600)).unwrap();
        let outside = directory.path().join("outside");
        fs::write(&outside, "").unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&outside, seat.join("link")).unwrap();
        fs::set_permissions(&seat, Permissions::from_mode(0o700)).unwrap();
        for _ in 0..2 {
            let_pass(directory.path(), group).unwrap();
            give(&seat, group).unwrap();
            assert_eq!((mode(directory.path()), mode(&seat)), (0o710, 0o2770));
            assert_eq!(mode(&seat.join("a.sealed")), 0o660, "what was brought back");
            assert_eq!(mode(&outside), 0o600, "a link leads nowhere");
        }
    }

    #[test]
    fn what_cannot_be_given_is_refused_with_the_way_out() {
        let gone = let_pass(Path::new("/nowhere/at/all"), 1).unwrap_err();
        assert!(gone.to_string().contains("--agent-group"), "{gone}");
    }
}
