//! A file system whose files are questions and answers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyData,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyWrite, Request, TimeOrNow, consts,
    spawn_mount2,
};
use tempfile::TempDir;

/// What a path is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Node {
    /// A folder.
    Directory,
    /// Something to read or write.
    File,
}

/// What the files answer. Paths have no leading slash; errors are numbers of the system.
pub trait Files: Send + 'static {
    /// What is there.
    fn node(&mut self, path: &str) -> Result<Node, i32>;

    /// Whether it may be opened at all.
    fn open(&mut self, _path: &str) -> Result<(), i32> {
        Ok(())
    }

    /// The whole content.
    fn read(&mut self, path: &str) -> Result<Vec<u8>, i32>;

    /// Takes what is written, and says how much of it.
    fn write(&mut self, path: &str, data: &[u8]) -> Result<usize, i32>;

    /// Answers a request to a device. The argument is a structure of the process with this
    /// number, and the answer goes where it came from.
    fn control(
        &mut self,
        _path: &str,
        _process: u32,
        _request: u32,
        _argument: &[u8],
    ) -> Result<Vec<u8>, i32> {
        Err(libc::ENOTTY)
    }

    /// Makes a directory.
    fn make(&mut self, _path: &str) -> Result<(), i32> {
        Err(libc::EPERM)
    }

    /// Removes one.
    fn remove(&mut self, _path: &str) -> Result<(), i32> {
        Err(libc::EPERM)
    }
}

/// A mounted file system, and the world behind it.
pub struct Mounted<F> {
    // Dropped first: the folder cannot go before.
    session: Option<BackgroundSession>,
    folder: TempDir,
    files: Arc<Mutex<F>>,
}

impl<F: Files> Mounted<F> {
    /// Mounts, if this machine lets us.
    ///
    /// # Panics
    ///
    /// If it does not, and `CI` is set.
    pub fn new(files: F) -> Option<Self> {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let files = Arc::new(Mutex::new(files));
        let bridge = Bridge {
            files: files.clone(),
            numbers: BTreeMap::new(),
            paths: BTreeMap::new(),
            contents: BTreeMap::new(),
            next: ROOT,
        };
        let options = [MountOption::FSName("heirloom-test".to_owned())];
        match spawn_mount2(bridge, folder.path(), &options) {
            Ok(session) => Some(Self { session: Some(session), folder, files }),
            Err(error) => {
                unable(&format!("no file system can be mounted: {error}"));
                None
            }
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        assert!(self.session.is_some());
        self.folder.path()
    }

    /// Looks at the world, or changes it.
    pub fn world<R>(&self, look: impl FnOnce(&mut F) -> R) -> R {
        look(&mut self.files.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Says that a test was skipped because this machine does not let us do what it needs.
///
/// # Panics
///
/// If `CI` is set: where tests run for everybody, nobody reads what was skipped.
pub fn unable(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    skipped(why);
}

/// Says that a test was skipped.
#[expect(clippy::print_stderr, reason = "who runs the tests must see it")]
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

const ROOT: u64 = 1;

struct Bridge<F> {
    files: Arc<Mutex<F>>,
    numbers: BTreeMap<String, u64>,
    paths: BTreeMap<u64, String>,
    /// What an open file had when it was first read.
    contents: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl<F: Files> Bridge<F> {
    fn path(&self, number: u64) -> String {
        self.paths.get(&number).cloned().unwrap_or_default()
    }

    fn below(&self, parent: u64, name: &OsStr) -> String {
        let name = name.to_str().expect("tests give names in UTF-8");
        match self.path(parent).as_str() {
            "" => name.to_owned(),
            parent => format!("{parent}/{name}"),
        }
    }

    fn number(&mut self, path: &str) -> u64 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        self.next += 1;
        self.numbers.insert(path.to_owned(), self.next);
        self.paths.insert(self.next, path.to_owned());
        self.next
    }

    fn attributes(&mut self, number: u64, path: &str) -> Result<FileAttr, i32> {
        let node = match number {
            ROOT => Node::Directory,
            _ => self.files.lock().unwrap_or_else(PoisonError::into_inner).node(path)?,
        };
        let (kind, perm) = match node {
            Node::Directory => (FileType::Directory, 0o700),
            Node::File => (FileType::RegularFile, 0o600),
        };
        let time = SystemTime::UNIX_EPOCH;
        let (uid, gid) = (0, 0);
        let (atime, mtime, ctime, crtime) = (time, time, time, time);
        let (size, blocks, nlink, rdev, blksize, flags) = (0, 0, 1, 0, 4096, 0);
        let ino = number;
        Ok(FileAttr {
            ino,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            crtime,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev,
            blksize,
            flags,
        })
    }
}

impl<F: Files> Filesystem for Bridge<F> {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let path = self.below(parent, name);
        let number = self.number(&path);
        match self.attributes(number, &path) {
            Ok(found) => reply.entry(&Duration::ZERO, &found, 0),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&mut self, _: &Request<'_>, number: u64, _: Option<u64>, reply: ReplyAttr) {
        let path = self.path(number);
        match self.attributes(number, &path) {
            Ok(found) => reply.attr(&Duration::ZERO, &found),
            Err(error) => reply.error(error),
        }
    }

    /// Nobody may truncate these files.
    fn setattr(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<u64>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<u32>,
        reply: ReplyAttr,
    ) {
        reply.error(libc::EPERM);
    }

    fn open(&mut self, _: &Request<'_>, number: u64, _: i32, reply: ReplyOpen) {
        let path = self.path(number);
        if let Err(error) = self.files.lock().unwrap_or_else(PoisonError::into_inner).open(&path) {
            return reply.error(error);
        }
        self.next += 1;
        reply.opened(self.next, consts::FOPEN_DIRECT_IO);
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        number: u64,
        handle: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        if !self.contents.contains_key(&handle) {
            let path = self.path(number);
            match self.files.lock().unwrap_or_else(PoisonError::into_inner).read(&path) {
                Ok(content) => drop(self.contents.insert(handle, content)),
                Err(error) => return reply.error(error),
            }
        }
        let content = &self.contents[&handle];
        let from = usize::try_from(offset).expect("offsets are positive").min(content.len());
        let to = content.len().min(from + usize::try_from(size).expect("a size fits"));
        reply.data(&content[from..to]);
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _: u64,
        _: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        let path = self.path(number);
        match self.files.lock().unwrap_or_else(PoisonError::into_inner).write(&path, data) {
            Ok(written) => reply.written(u32::try_from(written).expect("a size fits")),
            Err(error) => reply.error(error),
        }
    }

    fn ioctl(
        &mut self,
        request: &Request<'_>,
        number: u64,
        _: u64,
        _: u32,
        command: u32,
        argument: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        let path = self.path(number);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match files.control(&path, request.pid(), command, argument) {
            Ok(answer) => reply.ioctl(0, &answer),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let path = self.below(parent, name);
        let made = self.files.lock().unwrap_or_else(PoisonError::into_inner).make(&path);
        let number = self.number(&path);
        match made.and_then(|()| self.attributes(number, &path)) {
            Ok(found) => reply.entry(&Duration::ZERO, &found, 0),
            Err(error) => reply.error(error),
        }
    }

    fn rmdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        let path = self.below(parent, name);
        let removed = self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
        match removed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}
