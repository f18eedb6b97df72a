//! Measured launch: what is measured is exactly what runs.
//!
//! The binary is copied into an anonymous file that nobody can change any more, measured from
//! there and executed from there. The manifest goes the same way.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::bundle::{Bundle, BundleError, VerifiedBundle};
use crate::report::LaunchMode;

/// A file that nobody can change any more, whoever has it open. While this value lives, no other
/// file gets its identity.
pub(crate) struct SealedFile {
    file: File,
    identity: FileIdentity,
}

/// Which file it is, as long as it is open somewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What a sealed file is for.
#[derive(Clone, Copy)]
enum Use {
    /// To be executed; not passed on.
    Execute,
    /// To be passed on to the process that is started from the other.
    PassOn,
}

/// Flags of `memfd_create` since Linux 6.3, which has to be told.
const MFD_NOEXEC_SEAL: u32 = 0x8;
const MFD_EXEC: u32 = 0x10;

impl SealedFile {
    fn new(name: &str, content: &[u8], purpose: Use) -> io::Result<Self> {
        let flags = match purpose {
            Use::Execute => MFdFlags::from_bits_retain(MFD_EXEC),
            Use::PassOn => MFdFlags::from_bits_retain(MFD_NOEXEC_SEAL),
        };
        let flags = flags | MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create(name, flags)?);
        file.write_all(content)?;
        let seals = SealFlag::F_SEAL_WRITE
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let identity = FileIdentity::of(&file.metadata()?);
        Ok(Self { file, identity })
    }

    fn content(&self) -> io::Result<Vec<u8>> {
        let mut file = &self.file;
        file.rewind()?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        file.rewind()?;
        Ok(content)
    }

    pub(crate) fn identity(&self) -> FileIdentity {
        self.identity
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
}

/// A bundle that was measured and can be started.
pub(crate) struct Prepared {
    bundle: VerifiedBundle,
    binary: SealedFile,
    manifest: SealedFile,
}

/// A process that was measured before it started.
pub(crate) struct Launched {
    pub(crate) child: Child,
    pub(crate) bundle: VerifiedBundle,
    /// The sealed file that it executes.
    pub(crate) binary: SealedFile,
}

/// Why nothing was launched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("the system refused")]
    System(#[from] io::Error),
}

impl Prepared {
    /// Seals the files of a bundle, and measures what was sealed.
    pub(crate) fn new(directory: &Path, mode: LaunchMode) -> Result<Self, LaunchError> {
        let untrusted = Bundle::read(directory)?;
        let binary = SealedFile::new("heirloom-enclave", &untrusted.binary, Use::Execute)?;
        let manifest = SealedFile::new("heirloom-manifest", &untrusted.manifest, Use::PassOn)?;
        let sealed = Bundle {
            binary: binary.content()?,
            manifest: manifest.content()?,
            sigstruct: untrusted.sigstruct,
        };
        Ok(Self { bundle: sealed.verify(mode)?, binary, manifest })
    }

    /// What was measured.
    pub(crate) fn bundle(&self) -> &VerifiedBundle {
        &self.bundle
    }

    /// Starts the process. Two must not start at once: each would inherit both manifests.
    ///
    /// It has an empty environment: only what is measured and what the agent says in arguments
    /// decides what it does.
    pub(crate) fn start(
        self,
        arguments: &[impl AsRef<OsStr>],
        output: File,
        socket: &Path,
        account: Option<Account>,
    ) -> Result<Launched, LaunchError> {
        fcntl(&self.manifest.file, FcntlArg::F_SETFD(FdFlag::empty())).map_err(io::Error::from)?;
        let mut command = Command::new(self.binary.path());
        command
            .arg0("heirloom-enclave")
            .args([OsStr::new("--platform"), socket.as_os_str()])
            .args(["--manifest-fd", &self.manifest.file.as_raw_fd().to_string()])
            .args(arguments)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        if let Some(Account { user, group }) = account {
            // Other groups of ours go with our user, and so do all capabilities.
            command.gid(group).uid(user);
        }
        let child = command.spawn()?;
        Ok(Launched { child, bundle: self.bundle, binary: self.binary })
    }
}

/// Opens what a launched process says something into.
pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// A user and a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Account {
    /// Of the process that connected, when it did.
    pub(crate) fn of_peer(stream: &UnixStream) -> Option<Self> {
        let found = getsockopt(stream, PeerCredentials).ok()?;
        Some(Self { user: found.uid(), group: found.gid() })
    }

    /// Does something with files as this account would, so that a launcher that may open everything
    /// opens nothing that who asked may not.
    pub(crate) fn with_its_files<T>(self, does: impl FnOnce() -> T) -> io::Result<T> {
        let own = Self { user: file_user(), group: file_group() };
        let back = Back(own);
        self.take_files()?;
        let done = does();
        drop(back);
        if (file_user(), file_group()) != (own.user, own.group) {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        Ok(done)
    }

    /// For this thread alone. The group first: afterwards it may not be ours to change.
    fn take_files(self) -> io::Result<()> {
        setfsgid(Gid::from_raw(self.group));
        setfsuid(Uid::from_raw(self.user));
        if (file_user(), file_group()) == (self.user, self.group) {
            return Ok(());
        }
        Err(io::Error::from(io::ErrorKind::PermissionDenied))
    }
}

/// Takes the thread's own account for files again, also after a panic.
struct Back(Account);

impl Drop for Back {
    fn drop(&mut self) {
        // Whether it worked is looked at where that matters.
        self.0.take_files().ok();
    }
}

/// Asking for nobody changes nothing, and tells who it is.
fn file_user() -> u32 {
    setfsuid(Uid::from_raw(u32::MAX)).as_raw()
}

fn file_group() -> u32 {
    setfsgid(Gid::from_raw(u32::MAX)).as_raw()
}

/// What this thread starts from now on gains nothing by what it executes, and leaves its files to
/// its user and group. The thread starts one process, and then ends.
pub(crate) fn confine_thread() -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    umask(Mode::S_IRWXO);
    Ok(set_no_new_privs()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_cannot_be_changed() {
        for purpose in [Use::Execute, Use::PassOn] {
            let sealed = SealedFile::new("test", b"content", purpose).unwrap();
            let not_permitted = |error: io::Error| {
                assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
            };
            not_permitted((&sealed.file).write_all(b"x").unwrap_err());
            not_permitted(sealed.file.set_len(1).unwrap_err());
            not_permitted(sealed.file.set_len(100).unwrap_err());
            let writable = OpenOptions::new().write(true).open(sealed.path()).unwrap();
            not_permitted((&writable).write_all(b"x").unwrap_err());
            let unseal = fcntl(&sealed.file, FcntlArg::F_ADD_SEALS(SealFlag::empty()));
            not_permitted(unseal.unwrap_err().into());
            assert_eq!(sealed.content().unwrap(), b"content");
        }
    }
}
