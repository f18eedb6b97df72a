//! A TPM in software for tests and demonstrations: `swtpm`, with a certification authority of its
//! own.
//!
//! It is a process with a folder. Whoever copies the folder has a second TPM with the same keys and
//! the same counters: it proves nothing about anybody, and protects nothing from this machine.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A running TPM. It ends when it is dropped, as if power was lost.
///
/// It serves one connection at a time.
pub struct Swtpm {
    folder: PathBuf,
    /// A short one: names of sockets have 108 bytes.
    sockets: PathBuf,
    process: Child,
}

impl Swtpm {
    /// Starts the TPM of a folder, which is manufactured if the folder has none.
    ///
    /// None if this machine has no `swtpm`, and says so aloud; that is an error where tests run
    /// for everybody (`CI` is set).
    ///
    /// # Panics
    ///
    /// If the TPM cannot be manufactured or started.
    pub fn start(folder: &Path) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        fs::create_dir_all(folder).expect("the folder of a TPM can be made");
        // A TPM with a relative folder starts in failure mode.
        let folder = folder.canonicalize().expect("it was just made");
        if !folder.join(STATE).join(PERMANENT).exists() {
            manufacture(&folder);
        }
        let sockets = new_socket_folder();
        let process = launch(&folder, &sockets);
        Some(Self { folder, sockets, process })
    }

    /// Where it takes commands.
    pub fn socket(&self) -> PathBuf {
        self.sockets.join(SOCKET)
    }

    /// How the tools of tpm2-tools find it (`--tcti`). They need the connection for themselves.
    pub fn tcti(&self) -> String {
        format!("swtpm:path={}", self.socket().display())
    }

    /// The PEM certificates of whoever certified its endorsement key: issuer, then root.
    pub fn issuers(&self) -> [PathBuf; 2] {
        ["issuercert.pem", "swtpm-localca-rootca-cert.pem"]
            .map(|name| self.folder.join(AUTHORITY).join(name))
    }

    /// The folder that holds everything that survives.
    pub fn state(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// Takes power away and gives it back: registers start anew, and a TPM that was not told before
    /// counts that.
    ///
    /// # Panics
    ///
    /// If it does not start again.
    pub fn lose_power(&mut self) {
        self.lose_power_for(|| ());
    }

    /// As [`Self::lose_power`], and something happens to its folder meanwhile.
    ///
    /// # Panics
    ///
    /// If it does not start again.
    pub fn lose_power_for(&mut self, meanwhile: impl FnOnce()) {
        self.end();
        meanwhile();
        for name in [SOCKET, CONTROL] {
            remove_socket(&self.sockets.join(name));
        }
        self.process = launch(&self.folder, &self.sockets);
    }

    fn end(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.end();
        drop(fs::remove_dir_all(&self.sockets));
    }
}

/// Whether this machine has `swtpm`; says so if it has not.
///
/// # Panics
///
/// If it has not, and `CI` is set.
pub fn is_installed() -> bool {
    let version = Command::new("swtpm").arg("--version").stdout(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return true;
    }
    let advice = "swtpm is missing: `cargo xtask setup` installs it";
    assert!(std::env::var_os("CI").is_none(), "{advice}");
    say(&format!("SKIPPED: {advice}"));
    false
}

#[expect(clippy::print_stderr, reason = "a test that is skipped is skipped aloud")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Makes keys and certificates, in about a second.
fn manufacture(folder: &Path) {
    let (authority, state) = (folder.join(AUTHORITY), folder.join(STATE));
    for part in [&authority, &state] {
        fs::create_dir_all(part).expect("the folder of a TPM is ours");
    }
    let path = |name: &str| authority.join(name).display().to_string();
    let write = |name: &str, text: String| {
        fs::write(authority.join(name), text).expect("the folder of a TPM is ours");
    };
    write(
        "localca.conf",
        format!(
            "statedir = {}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
            authority.display(),
            path("signkey.pem"),
            path("issuercert.pem"),
            path("certserial"),
        ),
    );
    let platform =
        "--platform-manufacturer Heirloom\n--platform-version 1\n--platform-model Test\n";
    write("options", platform.to_owned());
    write(
        "setup.conf",
        format!(
            "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\n\
             create_certs_tool_options = {}\nactive_pcr_banks = sha256\n",
            path("localca.conf"),
            path("options"),
        ),
    );
    let mut setup = Command::new("swtpm_setup");
    setup.args(["--tpm2", "--create-ek-cert", "--create-platform-cert", "--lock-nvram"]);
    setup.arg("--tpm-state").arg(&state).arg("--config").arg(path("setup.conf"));
    // Else root becomes another user, who may not enter our folder.
    setup.arg("--runas").arg(user());
    let output = setup.output().expect("swtpm_setup is in the package swtpm-tools");
    assert!(output.status.success(), "the TPM could not be manufactured: {output:?}");
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("every system has id");
    String::from_utf8(output.stdout).expect("users have names").trim().to_owned()
}

fn launch(folder: &Path, sockets: &Path) -> Child {
    let socket = sockets.join(SOCKET);
    let channel = |name: &str| format!("type=unixio,path={}", sockets.join(name).display());
    let mut command = Command::new("swtpm");
    command.args(["socket", "--tpm2", "--flags", "not-need-init"]);
    command.arg("--tpmstate").arg(format!("dir={}", folder.join(STATE).display()));
    command.arg("--server").arg(channel(SOCKET)).arg("--ctrl").arg(channel(CONTROL));
    command.arg("--log").arg(format!("file={}", folder.join("log").display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = command.spawn().expect("swtpm was just found");
    let deadline = Instant::now() + START_TIME_MAX;
    while UnixStream::connect(&socket).is_err() {
        let ended = process.try_wait().expect("it is our child");
        assert!(ended.is_none(), "swtpm ended: see {}", folder.join("log").display());
        assert!(Instant::now() < deadline, "swtpm does not listen");
        thread::sleep(Duration::from_millis(2));
    }
    process
}

fn new_socket_folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("hl-tpm-{}-{number}", std::process::id()));
    // One of a process with the same number, which ended suddenly.
    drop(fs::remove_dir_all(&folder));
    // Whoever reaches a TPM asks it: nobody but its machine's user does.
    DirBuilder::new().mode(0o700).create(&folder).expect("temporary folders can be made");
    folder
}

fn remove_socket(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            panic!("{} cannot be removed: {error}", path.display())
        }
        _ => {}
    }
}

const AUTHORITY: &str = "authority";
const STATE: &str = "state";
/// The file in which a TPM has everything that survives.
const PERMANENT: &str = "tpm2-00.permall";
const SOCKET: &str = "tpm";
/// Where tpm2-tools expect it.
const CONTROL: &str = "tpm.ctrl";
/// A TPM starts in milliseconds; a busy machine takes longer.
const START_TIME_MAX: Duration = Duration::from_secs(30);
