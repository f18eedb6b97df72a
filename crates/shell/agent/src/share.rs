//! What launched code and the agent share, where each code has a user of its own.
//!
//! They meet in the agent's group. Directories stay the agent's, so that it can move and remove
//! what is in them; code writes only in those that are given to the group.

use std::fs::{self, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, fchown,
};
use std::path::Path;

use heirloom_store::atomic;
use heirloom_upgrade::port::DriverError;
use nix::fcntl::OFlag;

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
        match fs::symlink_metadata(&path) {
            Ok(found) if is_to_be_given(&found, owner) => give_file(&path, owner, group)?,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, &error)),
        }
    }
    Ok(())
}

/// Ours, and nowhere else: launched code writes in the directory, and may have left another name of
/// a file that is not to be given.
fn is_to_be_given(found: &Metadata, owner: u32) -> bool {
    found.is_file() && found.uid() == owner && found.nlink() == 1
}

/// Gives a file to the group. Never through a link that launched code may have left, or puts there
/// after we have looked: what is changed is what is open.
fn give_file(path: &Path, owner: u32, group: u32) -> Result<(), DriverError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let given = opened.and_then(|file| {
        let found = file.metadata()?;
        if !is_to_be_given(&found, owner) {
            return Ok(());
        }
        if found.gid() != group {
            fchown(&file, None, Some(group))?;
        }
        if found.mode() & MODE != GIVEN_FILE {
            file.set_permissions(Permissions::from_mode(GIVEN_FILE))?;
        }
        Ok(())
    });
    match given {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        given => given.map_err(|error| failed(path, &error)),
    }
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

    /// Launched code that has another name of a file of ours where it writes does not get the file,
    /// also if it comes by that name after we have looked.
    #[test]
    fn a_file_that_is_not_there_alone_is_not_given() {
        let directory = tempfile::tempdir().unwrap();
        let found = fs::metadata(directory.path()).unwrap();
        let (owner, group) = (found.uid(), found.gid());
        let seat = directory.path().join("seat");
        let key = directory.path().join("key");
        give(&seat, group).unwrap();
        fs::write(&key, "").unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(&key, seat.join("hard")).unwrap();
        std::os::unix::fs::symlink(&key, seat.join("soft")).unwrap();
        give(&seat, group).unwrap();
        assert_eq!(mode(&key), 0o600);
        fs::remove_file(seat.join("hard")).unwrap();
        assert!(give_file(&seat.join("soft"), owner, group).is_err());
        assert_eq!(mode(&key), 0o600);
        assert!(give_file(&seat.join("gone"), owner, group).is_ok());
    }

    #[test]
    fn what_cannot_be_given_is_refused_with_the_way_out() {
        let gone = let_pass(Path::new("/nowhere/at/all"), 1).unwrap_err();
        assert!(gone.to_string().contains("--agent-group"), "{gone}");
    }
}
