//! A copy of the target's store, before anything is imported.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use heirloom_store::atomic;
use heirloom_upgrade::port::DriverError;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::driver::Safeguard;
use crate::driver::fault::{io_error, store_error};
use crate::driver::work::{Work, is_there};

/// Files and folders of one store.
const ENTRIES_MAX: usize = 100_000;
/// Folders inside folders.
const DEPTH_MAX: usize = 32;
/// How long a program may take to copy a store. A large database takes hours; clients get no answer
/// meanwhile.
const COMMAND_TIME_MAX: Duration = Duration::from_hours(12);
/// Between two looks at whether it ended.
const COMMAND_PAUSE: Duration = Duration::from_millis(50);

/// Copies the store of a target that is disconnected, and says so durably once it is whole.
pub(crate) fn copy(how: &Safeguard, work: &Work) -> Result<(), DriverError> {
    let place = work.safeguard();
    match how {
        Safeguard::Directory(from) => directory(from, &place)?,
        Safeguard::Command(words) => command(words, &place, COMMAND_TIME_MAX)?,
    }
    work.mark_safeguarded()
}

fn directory(from: &Path, place: &Path) -> Result<(), DriverError> {
    let staging = place.with_extension("part");
    if is_there(&staging)? {
        // What an interrupted copy left is part of nothing.
        fs::remove_dir_all(&staging).map_err(|error| io_error(&staging, &error))?;
    }
    if is_there(place)? {
        // It was moved into its place when it was whole, and the mark was not written any more.
        return Ok(());
    }
    let mut entries = 0;
    tree(from, &staging, 0, &mut entries)?;
    atomic::move_to(&staging, place).map_err(store_error)
}

fn tree(from: &Path, to: &Path, depth: usize, entries: &mut usize) -> Result<(), DriverError> {
    if depth > DEPTH_MAX {
        let what = from.display();
        return Err(DriverError::Refused(format!("{what} is deeper than {DEPTH_MAX} folders")));
    }
    atomic::create_directory(to).map_err(store_error)?;
    for entry in fs::read_dir(from).map_err(|error| io_error(from, &error))? {
        let entry = entry.map_err(|error| io_error(from, &error))?;
        *entries += 1;
        if *entries > ENTRIES_MAX {
            let what = from.display();
            return Err(DriverError::Refused(format!("{what} has over {ENTRIES_MAX} entries")));
        }
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(|error| io_error(&source, &error))?;
        if kind.is_dir() {
            tree(&source, &copy, depth + 1, entries)?;
        } else if kind.is_file() {
            fs::copy(&source, &copy).map_err(|error| io_error(&source, &error))?;
            let file = File::open(&copy).map_err(|error| io_error(&copy, &error))?;
            file.sync_all().map_err(|error| io_error(&copy, &error))?;
        } else {
            let what = source.display();
            return Err(DriverError::Refused(format!("{what} is no file and no folder")));
        }
    }
    atomic::sync_directory(to).map_err(store_error)
}

/// Runs a program, with the folder that it may write to as its last argument. It ran before if it
/// was interrupted, so it must be one that can run again.
fn command(words: &[String], place: &Path, time: Duration) -> Result<(), DriverError> {
    atomic::create_directory(place).map_err(store_error)?;
    let (program, arguments) = words.split_first().expect("settings have a program");
    let failed = |error| io_error(Path::new(program), &error);
    let mut child = Command::new(program)
        .args(arguments)
        .arg(place)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // It and whatever it starts end together.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if begun.elapsed() >= time {
            end(&mut child).map_err(failed)?;
            let what = format!("{program} did not copy the target's store within {time:?}");
            return Err(DriverError::Refused(what));
        }
        thread::park_timeout(COMMAND_PAUSE);
    };
    if status.success() {
        return Ok(());
    }
    Err(DriverError::Refused(format!("{program} did not copy the target's store: {status}")))
}

/// Ends a program and those that it started.
fn end(child: &mut Child) -> std::io::Result<()> {
    let number = i32::try_from(child.id()).expect("the system numbers processes so");
    // A group that is gone already is what is wanted.
    killpg(Pid::from_raw(number), Signal::SIGKILL).ok();
    child.wait().map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;
    use heirloom_model::digest::PlanDigest;

    fn work(folder: &Path) -> Work {
        Work::open(folder, PlanDigest::new([1; 32])).unwrap()
    }

    #[test]
    fn a_copy_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir_all(store.join("inside")).unwrap();
        fs::write(store.join("data"), b"1").unwrap();
        fs::write(store.join("inside/more"), b"2").unwrap();
        let work = work(folder.path());
        assert!(!work.is_safeguarded().unwrap());
        // What an interrupted run left.
        fs::create_dir_all(work.safeguard().with_extension("part").join("junk")).unwrap();
        copy(&Safeguard::Directory(store.clone()), &work).unwrap();
        assert!(work.is_safeguarded().unwrap());
        assert_eq!(fs::read(work.safeguard().join("inside/more")).unwrap(), b"2");
        assert!(!work.safeguard().join("junk").exists());
        // What the store has later is not in the copy.
        fs::write(store.join("data"), b"3").unwrap();
        copy(&Safeguard::Directory(store), &work).unwrap();
        assert_eq!(fs::read(work.safeguard().join("data")).unwrap(), b"1");
    }

    #[test]
    fn a_command_that_fails_safeguards_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let work = work(folder.path());
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let error = copy(&Safeguard::Command(words("false")), &work).unwrap_err();
        assert!(matches!(error, DriverError::Refused(_)), "{error:?}");
        assert!(!work.is_safeguarded().unwrap());
        copy(&Safeguard::Command(words("test -d")), &work).unwrap();
        assert!(work.is_safeguarded().unwrap());
    }

    #[test]
    fn a_command_that_does_not_end_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("alive");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        // The shell and what it started hold the pipe open until they are gone.
        let script = format!("exec 3<>{0}; sleep 1000 3<>{0} & wait", pipe.display());
        let words = ["sh".to_owned(), "-c".to_owned(), script];
        let place = folder.path().join("copy");
        let error = command(&words, &place, Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, DriverError::Refused(_)), "{error:?}");
        // Soon nobody has the other end any more: a writer that does not wait for one is told so.
        // The system takes a moment for those that nobody waits for.
        let begun = Instant::now();
        let is_open = || {
            let mut options = fs::File::options();
            options.write(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).is_ok()
        };
        while is_open() {
            assert!(begun.elapsed() < Duration::from_secs(30), "somebody still reads");
            thread::park_timeout(COMMAND_PAUSE);
        }
    }
}
