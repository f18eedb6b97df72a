//! Files that are replaced as a whole, and moves that never overwrite.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};

use crate::error::{Context, StoreError};

/// Only the owner reads what a keeper or an agent leaves on disk,
const FILE_MODE: u32 = 0o600;
/// unless it is said that the group does, too.
const SHARED_FILE_MODE: u32 = 0o660;
const DIRECTORY_MODE: u32 = 0o700;

/// How the name of something begins and ends that has not taken its place yet.
const UNFINISHED_PREFIX: &str = ".";
const UNFINISHED_SUFFIX: &str = ".new";

/// Replaces a file, or creates it. After a crash there is the old content or the new, whole.
///
/// One writer at a time for one path: the temporary file beside it has a fixed name, so that
/// interrupted writes leave at most one behind, which the next write replaces, and
/// [`remove_unfinished`] removes.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_for(Readers::Owner, path, bytes)
}

/// Whose a file is, besides root's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readers {
    /// Its owner's alone.
    Owner,
    /// Its owner's, and its group's as far as the process lets it (`umask`).
    Group,
}

/// As [`write()`], for these readers.
pub fn write_for(readers: Readers, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = write_temporary(readers, path, bytes)?;
    fs::rename(&temporary, path).context("replace", path)?;
    sync_parent(path)
}

/// Creates a file. Something that is there already is never overwritten.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = write_temporary(Readers::Owner, path, bytes)?;
    if let Err(error) = rename_new(&temporary, path) {
        // It may be a secret that nobody would ever find. That it cannot be removed changes
        // nothing about why.
        let _removed = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// Removes what interrupted writes of files left, whose names end with `suffix`: all of what was
/// to be written may be in it, under a name that nobody looks for.
///
/// Only while nobody writes in the directory. The removal is durable after [`sync_directory`].
pub fn remove_unfinished(directory: &Path, suffix: &str) -> Result<(), StoreError> {
    let ending = format!("{suffix}{UNFINISHED_SUFFIX}");
    for entry in fs::read_dir(directory).context("list", directory)? {
        let entry = entry.context("list", directory)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(UNFINISHED_PREFIX) && name.ends_with(&ending) {
            fs::remove_file(entry.path()).context("remove", &entry.path())?;
        }
    }
    Ok(())
}

/// Reads a file of at most `limit` bytes.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, StoreError> {
    read_opened(File::open(path).context("open", path)?, path, limit)
}

/// As [`read`], in a directory where others write: what they may have put there leads to no other
/// file, and nobody waits for it. Only a regular file is read, never through a link.
pub fn read_regular(path: &Path, limit: usize) -> Result<Vec<u8>, StoreError> {
    read_opened(open_regular(path)?, path, limit)
}

/// Opens what has this name itself, without waiting for the other end of a pipe.
fn open_regular(path: &Path) -> Result<File, StoreError> {
    let other = || StoreError::Corrupt {
        path: path.to_owned(),
        offset: 0,
        reason: "it is no regular file, and is neither followed nor read",
    };
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        // A link, and a socket.
        Some(Errno::ELOOP | Errno::ENXIO) => other(),
        _ => StoreError::from_io("open", path, &error),
    })?;
    if file.metadata().context("inspect", path)?.is_file() { Ok(file) } else { Err(other()) }
}

fn read_opened(file: File, path: &Path, limit: usize) -> Result<Vec<u8>, StoreError> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let found = file.metadata().context("inspect", path)?.len();
    if found > limit {
        return Err(StoreError::TooLarge { path: path.to_owned(), found, limit });
    }
    let mut bytes = Vec::new();
    // The file may grow between the two looks at it.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).context("read", path)?;
    let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if found > limit {
        return Err(StoreError::TooLarge { path: path.to_owned(), found, limit });
    }
    Ok(bytes)
}

/// Creates a directory and those above it, for the owner only, durably.
pub fn create_directory(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = parent(path) {
        create_directory(parent)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => sync_parent(path),
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(StoreError::from_io("create", path, &error)),
    }
}

/// Moves a file or directory, with its name, into a directory that exists, and returns where it
/// is. What is there under that name already is never overwritten.
///
/// After a crash it is in one place or the other, never in both or neither.
pub fn move_into(path: &Path, directory: &Path) -> Result<PathBuf, StoreError> {
    let name = path.file_name().ok_or_else(|| StoreError::Failed {
        operation: "move",
        path: path.to_owned(),
        message: "it has no name".to_owned(),
    })?;
    let target = directory.join(name);
    move_to(path, &target)?;
    Ok(target)
}

/// Gives a file or directory another place or name. What is there already is never overwritten.
///
/// After a crash it is in one place or the other, never in both or neither.
pub fn move_to(path: &Path, target: &Path) -> Result<(), StoreError> {
    rename_new(path, target)?;
    // The new place first: if power fails between the two, both names may be found, never none.
    sync_parent(target)?;
    if parent(path) == parent(target) {
        return Ok(());
    }
    sync_parent(path)
}

/// Copies a directory of files to a place that is not there yet, for the owner only, and leaves
/// the original as it is. Whatever else is inside of it is refused: nothing that is copied here has
/// any. So are files that have a second name, which somebody may have given them so that the copy
/// has what is not theirs to read.
///
/// After a crash the whole copy is there or none of it. At most `files_max` files of at most
/// `bytes_max` each are copied.
pub fn copy_directory(
    path: &Path,
    target: &Path,
    files_max: usize,
    bytes_max: usize,
) -> Result<(), StoreError> {
    let staging = temporary_of(target);
    if staging.exists() {
        // What an interrupted copy left: the original is still in its place.
        fs::remove_dir_all(&staging).context("remove", &staging)?;
    }
    create_directory(&staging)?;
    let mut files = 0;
    for entry in fs::read_dir(path).context("list", path)? {
        let entry = entry.context("list", path)?;
        files += 1;
        if files > files_max {
            let message = format!("it has more than {files_max} files");
            return Err(StoreError::Failed { operation: "copy", path: path.to_owned(), message });
        }
        let bytes = read_sole(&entry.path(), bytes_max)?;
        let copy = staging.join(entry.file_name());
        write_new(Readers::Owner, &copy, &bytes)?;
    }
    sync_directory(&staging)?;
    if let Err(error) = move_to(&staging, target) {
        // That the copy cannot be removed changes nothing about why.
        let _removed = fs::remove_dir_all(&staging);
        return Err(error);
    }
    Ok(())
}

/// As [`read_regular`], and only what has no other name.
fn read_sole(path: &Path, limit: usize) -> Result<Vec<u8>, StoreError> {
    let file = open_regular(path)?;
    if file.metadata().context("inspect", path)?.nlink() > 1 {
        let reason = "it has another name (a hard link), and may be somebody else's";
        return Err(StoreError::Corrupt { path: path.to_owned(), offset: 0, reason });
    }
    read_opened(file, path, limit)
}

/// Makes the names in a directory durable: what was created, moved and removed in it.
pub fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    let opened = File::open(directory).context("open", directory)?;
    opened.sync_all().context("flush", directory)
}

fn write_temporary(readers: Readers, path: &Path, bytes: &[u8]) -> Result<PathBuf, StoreError> {
    let temporary = temporary_of(path);
    write_new(readers, &temporary, bytes)?;
    Ok(temporary)
}

/// Where something is made before it takes its place.
fn temporary_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(UNFINISHED_PREFIX);
    name.push(path.file_name().unwrap_or_default());
    name.push(UNFINISHED_SUFFIX);
    path.with_file_name(name)
}

/// Writes a file whose name nobody relies on yet.
fn write_new(readers: Readers, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mode = match readers {
        Readers::Owner => FILE_MODE,
        Readers::Group => SHARED_FILE_MODE,
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(path).context("create", path)?;
    file.write_all(bytes).context("write", path)?;
    file.sync_all().context("flush", path)
}

/// Renames without ever replacing; `rename` alone would.
fn rename_new(from: &Path, to: &Path) -> Result<(), StoreError> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE).map_err(|errno| {
        let path = if errno == Errno::EEXIST { to } else { from };
        StoreError::from_io("move", path, &errno.into())
    })
}

/// Makes names in the directory of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    sync_directory(parent(path).unwrap_or(Path::new(".")))
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_belongs_to_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path, 3), Ok(b"two".to_vec()));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, FILE_MODE);
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 1, "no temporary file stays");
    }

    #[test]
    fn what_an_interrupted_write_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.sealed");
        write(&path, b"one").unwrap();
        write_temporary(Readers::Owner, &path, b"two").unwrap();
        let others = [".notes.new", ".other.sealed", "other.sealed.new"];
        for other in others {
            fs::write(directory.path().join(other), b"").unwrap();
        }
        remove_unfinished(directory.path(), ".sealed").unwrap();
        let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> =
            names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        assert_eq!(names, [".notes.new", ".other.sealed", "key.sealed", "other.sealed.new"]);
        assert_eq!(read(&path, 3), Ok(b"one".to_vec()));
        let absent = remove_unfinished(&directory.path().join("absent"), ".sealed");
        assert!(matches!(absent, Err(StoreError::Missing { .. })));
        // What cannot be removed is no success.
        fs::create_dir(temporary_of(&path)).unwrap();
        assert!(remove_unfinished(directory.path(), ".sealed").is_err());
    }

    #[test]
    fn missing_large_and_refused_files_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert_eq!(read(&path, 3), Err(StoreError::Missing { path: path.clone() }));
        write(&path, b"four").unwrap();
        let too_large = StoreError::TooLarge { path: path.clone(), found: 4, limit: 3 };
        assert_eq!(read(&path, 3), Err(too_large));
        let nowhere = directory.path().join("absent/state");
        assert!(matches!(write(&nowhere, b""), Err(StoreError::Missing { .. })));
    }

    #[test]
    fn what_is_there_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let quarantine = directory.path().join("quarantine/old");
        create_directory(&quarantine).unwrap();
        create_directory(&quarantine).unwrap();
        let path = directory.path().join("state");
        create(&path, b"one").unwrap();
        assert_eq!(create(&path, b"two"), Err(StoreError::Exists { path: path.clone() }));
        let moved = move_into(&path, &quarantine).unwrap();
        assert_eq!(read(&moved, 3), Ok(b"one".to_vec()));
        write(&path, b"two").unwrap();
        assert_eq!(move_into(&path, &quarantine), Err(StoreError::Exists { path: moved.clone() }));
        assert_eq!(read(&moved, 3), Ok(b"one".to_vec()));
        assert_eq!(read(&path, 3), Ok(b"two".to_vec()));
    }

    #[test]
    fn a_copy_of_a_directory_is_whole_and_the_original_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (live, copy) = (directory.path().join("live"), directory.path().join("copy"));
        create_directory(&live).unwrap();
        write(&live.join("one"), b"1").unwrap();
        write(&live.join("two"), b"22").unwrap();
        let few = copy_directory(&live, &copy, 1, 2);
        assert!(matches!(few, Err(StoreError::Failed { operation: "copy", .. })), "{few:?}");
        let large = copy_directory(&live, &copy, 2, 1);
        assert!(matches!(large, Err(StoreError::TooLarge { .. })), "{large:?}");
        assert!(!copy.exists(), "a copy that failed has no name");
        copy_directory(&live, &copy, 2, 2).unwrap();
        assert_eq!(read(&copy.join("two"), 2), Ok(b"22".to_vec()));
        assert_eq!(read(&live.join("two"), 2), Ok(b"22".to_vec()));
        let again = copy_directory(&live, &copy, 2, 2);
        assert_eq!(again, Err(StoreError::Exists { path: copy.clone() }));
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 2, "nothing else stays");
        create_directory(&live.join("three")).unwrap();
        assert!(copy_directory(&live, &directory.path().join("other"), 9, 9).is_err());
    }

    #[test]
    fn what_others_planted_is_neither_followed_nor_waited_for_nor_copied() {
        let directory = tempfile::tempdir().unwrap();
        let (live, key) = (directory.path().join("live"), directory.path().join("key"));
        create_directory(&live).unwrap();
        write(&key, b"key").unwrap();
        write(&live.join("one"), b"1").unwrap();
        let planted = live.join("planted");
        let copy = |name: &str| copy_directory(&live, &directory.path().join(name), 9, 9);

        std::os::unix::fs::symlink(&key, &planted).unwrap();
        assert_eq!(read(&planted, 9), Ok(b"key".to_vec()), "an operator's link leads somewhere");
        let is_other = |found: &StoreError| matches!(found, StoreError::Corrupt { path, .. } if *path == planted);
        assert!(is_other(&read_regular(&planted, 9).unwrap_err()), "a link");
        assert!(is_other(&copy("a").unwrap_err()), "a link");
        fs::remove_file(&planted).unwrap();

        nix::unistd::mkfifo(&planted, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(is_other(&read_regular(&planted, 9).unwrap_err()), "a pipe");
        assert!(is_other(&copy("b").unwrap_err()), "a pipe");
        fs::remove_file(&planted).unwrap();

        let socket = std::os::unix::net::UnixListener::bind(&planted).unwrap();
        assert!(is_other(&copy("c").unwrap_err()), "a socket");
        drop(socket);
        fs::remove_file(&planted).unwrap();

        fs::hard_link(&key, &planted).unwrap();
        assert!(is_other(&copy("d").unwrap_err()), "a second name");
        fs::remove_file(&planted).unwrap();

        fs::write(&planted, [0; 10]).unwrap();
        let large = StoreError::TooLarge { path: planted.clone(), found: 10, limit: 9 };
        assert_eq!(read_regular(&planted, 9), Err(large.clone()));
        assert_eq!(copy("e"), Err(large));
        fs::remove_file(&planted).unwrap();
        for name in ["a", "b", "c", "d", "e"] {
            assert!(!directory.path().join(name).exists(), "a copy that failed has no name");
        }
        copy("f").unwrap();
        assert_eq!(read_regular(&directory.path().join("f/one"), 9), Ok(b"1".to_vec()));
    }

    #[test]
    fn a_move_never_overwrites_and_says_why_it_did_not_happen() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        write(&one, b"1").unwrap();
        write(&two, b"2").unwrap();
        assert_eq!(move_to(&one, &two), Err(StoreError::Exists { path: two.clone() }));
        fs::remove_file(&two).unwrap();
        sync_directory(directory.path()).unwrap();
        move_to(&one, &two).unwrap();
        assert_eq!(move_to(&one, &two), Err(StoreError::Missing { path: one.clone() }));
        assert_eq!(read(&two, 1), Ok(b"1".to_vec()));
        assert!(sync_directory(&directory.path().join("absent")).is_err());
    }

    /// Whoever may write in the directory would have us copy what he may not read.
    #[test]
    fn a_copy_follows_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let (seat, copy) = (directory.path().join("seat"), directory.path().join("copy"));
        create_directory(&seat).unwrap();
        write(&seat.join("a.sealed"), b"1").unwrap();
        write(&directory.path().join("key"), b"secret").unwrap();
        std::os::unix::fs::symlink(directory.path().join("key"), seat.join("b.sealed")).unwrap();
        assert!(copy_directory(&seat, &copy, 10, 10).is_err());
        assert!(!copy.exists());
        fs::remove_file(seat.join("b.sealed")).unwrap();
        copy_directory(&seat, &copy, 10, 10).unwrap();
        assert_eq!(read(&copy.join("a.sealed"), 1), Ok(b"1".to_vec()));
    }

    #[test]
    fn errors_of_the_system_keep_their_meaning() {
        let path = Path::new("state");
        let sort = |kind: std::io::ErrorKind| StoreError::from_io("write", path, &kind.into());
        let (operation, path) = ("write", path.to_owned());
        let refused = StoreError::Refused { operation, path: path.clone() };
        assert_eq!(sort(std::io::ErrorKind::PermissionDenied), refused);
        let full = StoreError::Full { operation, path };
        assert_eq!(sort(std::io::ErrorKind::StorageFull), full);
        assert_eq!(sort(std::io::ErrorKind::QuotaExceeded), full);
    }
}
