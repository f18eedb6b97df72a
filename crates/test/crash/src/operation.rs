//! Which system calls change what survives, and what they change.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

/// The longest path that the system takes.
const PATH_BYTES_MAX: usize = 4096;

/// A durable operation that a process is about to begin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Operation {
    /// Name of the system call, without its variants.
    pub(crate) name: &'static str,
    /// What it changes.
    pub(crate) path: PathBuf,
    /// Whether it can change something, as the files are now.
    pub(crate) changes: bool,
}

/// A system call as a process makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// Its number.
    pub(crate) number: i64,
    /// Its first four arguments.
    pub(crate) arguments: [u64; 4],
}

/// What a call refers to.
enum Subject {
    /// An open file.
    Open(u64),
    /// A name, relative to an open directory.
    Name(u64, u64),
}

/// Names are relative to the working directory, as `AT_FDCWD` says.
const HERE: u64 = (-100_i64).cast_unsigned();

/// The operation of a call, if it is one.
pub(crate) fn of(process: Pid, call: Call) -> Option<Operation> {
    let [first, second, third, fourth] = call.arguments;
    let (name, subject) = match call.number {
        libc::SYS_fsync | libc::SYS_fdatasync => ("fsync", Subject::Open(first)),
        libc::SYS_sync_file_range => ("sync-range", Subject::Open(first)),
        libc::SYS_ftruncate => ("truncate", Subject::Open(first)),
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev => ("write", Subject::Open(first)),
        // A copy inside the kernel; sendfile writes to its first argument, the other to its third.
        libc::SYS_sendfile => ("write", Subject::Open(first)),
        libc::SYS_copy_file_range => ("write", Subject::Open(third)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename => ("rename", Subject::Name(HERE, second)),
        libc::SYS_renameat | libc::SYS_renameat2 => ("rename", Subject::Name(third, fourth)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink | libc::SYS_rmdir => ("unlink", Subject::Name(HERE, first)),
        libc::SYS_unlinkat => ("unlink", Subject::Name(first, second)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir => ("mkdir", Subject::Name(HERE, first)),
        libc::SYS_mkdirat => ("mkdir", Subject::Name(first, second)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink => ("symlink", Subject::Name(HERE, second)),
        libc::SYS_symlinkat => ("symlink", Subject::Name(second, third)),
        _ => return None,
    };
    let path = match subject {
        Subject::Open(file) => open_file(process, file)?,
        Subject::Name(directory, name) => named(process, directory, name)?,
    };
    let there = fs::symlink_metadata(&path);
    let changes = match (name, there) {
        ("mkdir", there) => there.is_err(),
        ("unlink", there) => there.is_ok(),
        ("write", there) => there.is_ok_and(|there| there.is_file()),
        _ => true,
    };
    Some(Operation { name, path, changes })
}

/// Descriptors are 32 bits wide; the rest of the register is not part of them.
fn descriptor(argument: u64) -> i32 {
    let bytes = argument.to_ne_bytes();
    i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn open_file(process: Pid, argument: u64) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/fd/{}", descriptor(argument))).ok()
}

fn named(process: Pid, directory: u64, address: u64) -> Option<PathBuf> {
    let name = text(process, address)?;
    if name.is_absolute() {
        return Some(name);
    }
    let base = if descriptor(directory) == descriptor(HERE) {
        fs::read_link(format!("/proc/{process}/cwd")).ok()?
    } else {
        open_file(process, directory)?
    };
    Some(base.join(name))
}

/// Text in a process's memory, up to the byte that ends it.
fn text(process: Pid, address: u64) -> Option<PathBuf> {
    let memory = fs::File::open(format!("/proc/{process}/mem")).ok()?;
    let mut bytes = vec![0; PATH_BYTES_MAX];
    // Shorter if the page behind it is not mapped.
    let read = memory.read_at(&mut bytes, address).ok()?;
    bytes.truncate(read);
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    Some(PathBuf::from(String::from_utf8(bytes).ok()?))
}

/// A path for people, and for telling operations apart: relative to `within`, without numbers
/// that grow with every write and without digits that are random.
pub(crate) fn normalised(path: &Path, within: &Path) -> Option<String> {
    let relative = path.strip_prefix(within).ok()?;
    let text = relative.to_str()?;
    // Sockets and the keeper's output say nothing that survives.
    let silent = relative.extension().is_some_and(|end| end == "sock" || end == "log");
    if text.is_empty() || silent {
        return None;
    }
    let mut short = String::new();
    let mut word = String::new();
    for character in text.chars().chain(['\0']) {
        if character.is_ascii_alphanumeric() {
            word.push(character);
            continue;
        }
        short.push_str(&shortened(&word, &short));
        word.clear();
        short.extend(Some(character).filter(|character| *character != '\0'));
    }
    Some(short)
}

/// A word of a name: long hexadecimal text becomes `~`, the growing number of a witness and the
/// process in the name of a temporary file `n`, and other numbers lose their zeros in front.
fn shortened(word: &str, before: &str) -> String {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (before.ends_with("witness-") || before.ends_with(".heirloom-")) {
        return "n".to_owned();
    }
    if digits {
        let short = word.trim_start_matches('0');
        return if short.is_empty() { "0".to_owned() } else { short.to_owned() };
    }
    if word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return "~".to_owned();
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(path: &str) -> Option<String> {
        normalised(Path::new(path), Path::new("/lab/node-1/data"))
    }

    #[test]
    fn names_lose_what_differs_from_run_to_run() {
        let hex = "ab12".repeat(16);
        for (path, expected) in [
            ("journal".to_owned(), "journal"),
            (
                "state/live/.keyring-00000000000000000000-00000000000000000012.sealed.new"
                    .to_owned(),
                "state/live/.keyring-0-12.sealed.new",
            ),
            (
                "state/live/witness-00000000000000000042.sealed".to_owned(),
                "state/live/witness-n.sealed",
            ),
            ("plans/.heirloom-4711-0.spill".to_owned(), "plans/.heirloom-n-0.spill"),
            (format!("state/quarantine/sgx:{hex}.3"), "state/quarantine/sgx:~.3"),
        ] {
            assert_eq!(short(&format!("/lab/node-1/data/{path}")).as_deref(), Some(expected));
        }
    }

    #[test]
    fn sockets_output_and_what_lies_elsewhere_do_not_count() {
        for path in [
            "/lab/node-1/data/keeper.sock",
            "/lab/node-1/data/node-1.log",
            "/lab/node-1/data",
            "/lab/node-2/data/journal",
            "socket:[1]",
        ] {
            assert_eq!(short(path), None, "{path}");
        }
    }
}
