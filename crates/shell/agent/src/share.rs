//! What launched code and the agent share, where each code has a user of its own.
//!
//! They meet in the agent's group. Directories stay the agent's, so that it can move and remove
//! what is in them; code writes only in those that are given to the group.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use heirloom_store::atomic;
use heirloom_upgrade::port::DriverError;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;

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
    // A link is followed here: no bundle writes where this is, and an operator may have put one.
    let passed = File::open(directory).and_then(|opened| {
        let mode = opened.metadata()?.mode() & MODE;
        set(&opened, group, mode | PASS)
    });
    passed.map_err(|error| failed(directory, &error))
}

/// Gives a directory to the group, and makes it if it is not there. Files of ours in it, which we
/// copied or brought back, are the group's as well.
pub(crate) fn give(directory: &Path, group: u32) -> Result<(), DriverError> {
    give_at_most(STATE_FILES_MAX, directory, group)
}

fn give_at_most(limit: usize, directory: &Path, group: u32) -> Result<(), DriverError> {
    atomic::create_directory(directory).map_err(|error| DriverError::Unknown(error.to_string()))?;
    let owner = geteuid().as_raw();
    give_directory(directory, owner, group)?;
    let listed = fs::read_dir(directory).map_err(|error| failed(directory, &error))?;
    for (before, entry) in listed.enumerate() {
        if before == limit {
            let reason = format!("it holds more than {limit} entries");
            return Err(DriverError::Corrupt { what: directory.display().to_string(), reason });
        }
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

/// Gives a directory of ours itself: what a link in its place leads to was never to be shared.
fn give_directory(directory: &Path, owner: u32, group: u32) -> Result<(), DriverError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(directory);
    let opened = opened.map_err(|error| failed(directory, &error))?;
    let found = opened.metadata().map_err(|error| failed(directory, &error))?;
    if !found.is_dir() || found.uid() != owner {
        return Err(DriverError::Unexpected {
            expected: format!("a directory of the agent's own at {}", directory.display()),
            found: format!("something of user {}", found.uid()),
        });
    }
    set(&opened, group, GIVEN).map_err(|error| failed(directory, &error))
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
        set(&file, group, GIVEN_FILE)
    });
    match given {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        given => given.map_err(|error| failed(path, &error)),
    }
}

/// Changes what is open, whatever has its name meanwhile.
fn set(opened: &File, group: u32, mode: u32) -> io::Result<()> {
    let found = opened.metadata()?;
    if found.gid() != group {
        fchown(opened, None, Some(group))?;
    }
    if found.mode() & MODE != mode {
        opened.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Why something was not given. Only what the system does not permit has to do with groups.
fn failed(path: &Path, error: &io::Error) -> DriverError {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => DriverError::Refused(format!(
            "{path} cannot be given to the group that bundles have here: {error}; the agent needs \
             the group that the platform was served with (`--agent-group`)"
        )),
        io::ErrorKind::NotFound => DriverError::Missing { what: path.to_string() },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            DriverError::Full(path.to_string())
        }
        _ => DriverError::Unknown(format!(
            "{path} is not given to the group that bundles have here: {error}"
        )),
    }
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
    fn only_what_is_not_permitted_is_refused_with_the_way_out() {
        let path = Path::new("/data/run");
        let said = |kind: io::ErrorKind| failed(path, &kind.into());
        let refused = said(io::ErrorKind::PermissionDenied);
        assert!(matches!(refused, DriverError::Refused(_)), "{refused:?}");
        assert!(refused.to_string().contains("--agent-group"), "{refused}");
        let gone = let_pass(Path::new("/nowhere/at/all"), 1).unwrap_err();
        assert!(matches!(gone, DriverError::Missing { .. }), "{gone:?}");
        assert!(matches!(said(io::ErrorKind::StorageFull), DriverError::Full(_)));
        let other = said(io::ErrorKind::Other);
        assert!(matches!(other, DriverError::Unknown(_)), "{other:?}");
        assert!(!other.to_string().contains("--agent-group"), "{other}");
    }

    #[test]
    fn a_directory_is_given_itself_and_never_what_a_link_in_its_place_leads_to() {
        let directory = tempfile::tempdir().unwrap();
        let group = fs::metadata(directory.path()).unwrap().gid();
        let (private, seat) = (directory.path().join("private"), directory.path().join("seat"));
        fs::create_dir(&private).unwrap();
        fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&private, &seat).unwrap();
        assert!(give(&seat, group).is_err());
        assert_eq!(mode(&private), 0o700);
        fs::remove_file(&seat).unwrap();
        give(&seat, group).unwrap();
        assert_eq!(mode(&seat), GIVEN);
        let of_another = give_directory(&seat, geteuid().as_raw() + 1, group);
        assert!(matches!(of_another, Err(DriverError::Unexpected { .. })), "{of_another:?}");
    }

    #[test]
    fn more_than_is_given_at_once_is_an_error_and_no_silent_rest() {
        let directory = tempfile::tempdir().unwrap();
        let group = fs::metadata(directory.path()).unwrap().gid();
        let seat = directory.path().join("seat");
        give(&seat, group).unwrap();
        for name in ["a.sealed", "b.sealed"] {
            fs::write(seat.join(name), "").unwrap();
        }
        give_at_most(2, &seat, group).unwrap();
        let many = give_at_most(1, &seat, group);
        assert!(matches!(many, Err(DriverError::Corrupt { .. })), "{many:?}");
    }
}
