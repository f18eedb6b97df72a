//! Ledger participants of a laboratory: a synchronizer, participants, and what keeps their keys.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Lab, PORTS, free_ports, until, write};
use crate::process;

/// The package of the participant's program.
pub(crate) const PACKAGE: &str = "heirloom-participant-shell";
/// Its program.
const PROGRAM: &str = "heirloom-participant";
/// The synchronizer, as every participant calls it.
pub(crate) const SYNCHRONIZER: &str =
    "global::122000000000000000000000000000000000000000000000000000000000000000ab";
/// Where Debian puts `SoftHSM2`.
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Ports of one laboratory: two operators with three participants each, for each of two key
/// stores, and what everybody shares.
const PORTS_COUNT: usize = 2 + 2 * 2 * 3 * 2;
/// The variable in which `SoftHSM2` finds its settings.
const TOKEN_SETTINGS: &str = "SOFTHSM2_CONF";
/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// What keeps the keys of a participant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keys {
    /// Encrypted files.
    Software,
    /// A token of `SoftHSM2`.
    Token,
    /// KMS of `LocalStack`.
    Aws,
}

impl Keys {
    /// The word for it in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Token => "pkcs11",
            Self::Aws => "aws",
        }
    }
}

/// One participant of the laboratory.
#[derive(Clone, Debug)]
pub(crate) struct Participant {
    /// Its name, which is also its directory.
    pub(crate) name: String,
    /// Where its admin API is.
    pub(crate) admin: u16,
    /// Where its Ledger API is.
    pub(crate) ledger: u16,
    /// What keeps its keys.
    pub(crate) keys: Keys,
}

/// The ports and helpers of the participants of one laboratory.
pub(crate) struct Participants {
    synchronizer: u16,
    ports: Mutex<Vec<u16>>,
    localstack: Option<LocalStack>,
}

impl Participants {
    /// Starts what everybody shares: the synchronizer, and KMS if somebody needs it.
    pub(crate) fn start(lab: &Lab, with_kms: bool) -> Result<Self> {
        let mut ports = free_ports(PORTS_COUNT)?;
        let synchronizer = ports.pop().context("a port is missing")?;
        let kms = ports.pop().context("a port is missing")?;
        let localstack = with_kms.then(|| LocalStack::start(lab, kms)).transpose()?;
        let found = Self { synchronizer, ports: Mutex::new(ports), localstack };
        let config = format!(
            "id = \"{SYNCHRONIZER}\"\nprotocol_version = 34\ndata = \"synchronizer\"\n\
             listen = \"127.0.0.1:{synchronizer}\"\nsigning = [\"ed25519\", \"p256\", \"p384\"]\n\
             encryption = [\"rsa2048\"]\n"
        );
        write(&lab.path("synchronizer.toml"), &config)?;
        found.start_synchronizer(lab)?;
        Ok(found)
    }

    /// Starts the synchronizer, or starts it again.
    pub(crate) fn start_synchronizer(&self, lab: &Lab) -> Result<()> {
        let words = ["synchronizer", "--config", "synchronizer.toml"];
        lab.start("synchronizer", lab.program(PROGRAM).args(words))?;
        answers("the synchronizer", self.synchronizer)
    }

    /// Makes a participant with an empty store, and starts it. `is_manual` leaves its keys and
    /// its name to whoever moves to it.
    pub(crate) fn add(
        &self,
        lab: &Lab,
        name: &str,
        keys: Keys,
        is_manual: bool,
    ) -> Result<Participant> {
        let mut ports = self.ports.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (admin, ledger) = ports.pop().zip(ports.pop()).context("a port is missing")?;
        drop(ports);
        let participant = Participant { name: name.to_owned(), admin, ledger, keys };
        fs::create_dir(lab.path(name))?;
        self.make_custodian(lab, name, keys)?;
        let identity = if is_manual { "manual" } else { "automatic" };
        let config = format!(
            "name = \"{name}\"\nversion = \"3.5.1\"\ndata = \"store\"\n\
             admin_listen = \"127.0.0.1:{admin}\"\nledger_listen = \"127.0.0.1:{ledger}\"\n\
             identity = \"{identity}\"\ncustodian = \"custodian.toml\"\n\
             [keys]\nsigning = \"p256\"\nencryption = \"rsa2048\"\n"
        );
        write(&lab.path(&format!("{name}/participant.toml")), &config)?;
        Self::start_participant(lab, &participant)?;
        Ok(participant)
    }

    /// Starts a participant, or starts it again.
    pub(crate) fn start_participant(lab: &Lab, participant: &Participant) -> Result<()> {
        let config = format!("{}/participant.toml", participant.name);
        let mut command = lab.program(PROGRAM);
        participant.with_token(lab, command.args(["serve", "--config", &config]));
        lab.start(&participant.process(), &mut command)?;
        answers(&participant.name, participant.admin)?;
        answers(&participant.name, participant.ledger)
    }

    fn make_custodian(&self, lab: &Lab, name: &str, keys: Keys) -> Result<()> {
        let config = match keys {
            Keys::Software => {
                let folder = lab.path(&format!("{name}/keys"));
                private_directory(&folder)?;
                private_file(lab, &format!("{name}/unlock"), &random_text()?)?;
                "kind = \"software\"\nfolder = \"keys\"\nkey_file = \"unlock\"\n".to_owned()
            }
            Keys::Token => {
                make_token(lab, name)?;
                format!(
                    "kind = \"pkcs11\"\nmodule = \"{SOFTHSM}\"\ntoken = \"{name}\"\n\
                     pin_file = \"pin\"\n"
                )
            }
            Keys::Aws => {
                let localstack = self.localstack.as_ref().context("KMS does not run")?;
                let credentials =
                    "[default]\naws_access_key_id = demo\naws_secret_access_key = demo\n";
                private_file(lab, &format!("{name}/credentials"), credentials)?;
                format!(
                    "kind = \"aws\"\nregion = \"eu-central-1\"\n\
                     endpoint = \"http://127.0.0.1:{}\"\ncredentials_file = \"credentials\"\n\
                     profile = \"default\"\n",
                    localstack.port
                )
            }
        };
        write(&lab.path(&format!("{name}/custodian.toml")), &config)
    }

    /// Runs a verb of a participant's client side, and returns what it answers.
    pub(crate) fn client(lab: &Lab, words: &[&str]) -> Result<Value> {
        let mut command = lab.program(PROGRAM);
        let output = command.args(words).arg("--json").output()?;
        ensure!(
            output.status.success(),
            "{PROGRAM} {} failed: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("the answer is not JSON")
    }

    /// Connects a participant to the synchronizer for the first time.
    pub(crate) fn connect(&self, lab: &Lab, participant: &Participant) -> Result<()> {
        let words = [
            "connect",
            "--admin",
            &participant.admin_url(),
            "--synchronizer",
            &format!("http://127.0.0.1:{}", self.synchronizer),
        ];
        Self::client(lab, &words).map(drop)
    }
}

impl Participant {
    /// Where its admin API is.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }

    /// Where its Ledger API is.
    pub(crate) fn ledger_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ledger)
    }

    /// Lets a program find the token.
    fn with_token<'c>(&self, lab: &Lab, command: &'c mut Command) -> &'c mut Command {
        command.env(TOKEN_SETTINGS, token_settings(lab, &self.name))
    }

    /// Whether somebody listens where its operators are served.
    pub(crate) fn is_listening(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.admin)).is_ok()
    }

    /// The name of its process.
    pub(crate) fn process(&self) -> String {
        format!("participant-{}", self.name)
    }
}

impl Lab {
    /// Runs `heirloom` as an operator who can reach the token of a participant, and returns what
    /// it answers.
    pub(crate) fn operate_with_keys(&self, of: &Participant, words: &[&str]) -> Result<Value> {
        let mut command = self.program("heirloom");
        super::answer(of.with_token(self, command.args(words).arg("--json")))
    }

    /// The same command, to be started and perhaps killed.
    pub(crate) fn command_with_keys(&self, of: &Participant, words: &[&str]) -> Command {
        let mut command = self.program("heirloom");
        of.with_token(self, command.args(words));
        command
    }
}

/// Where the programs of a participant find its token, and no other one: operators have HSMs of
/// their own, and `SoftHSM2` does not like to be asked while somebody makes keys in its folder.
fn token_settings(lab: &Lab, name: &str) -> std::path::PathBuf {
    lab.path(&format!("{name}/softhsm2.conf"))
}

/// A token of the participant's own.
fn make_token(lab: &Lab, name: &str) -> Result<()> {
    let tokens = lab.path(&format!("{name}/tokens"));
    private_directory(&tokens)?;
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    write(&token_settings(lab, name), &text)?;
    private_file(lab, &format!("{name}/pin"), "4711")?;
    // A PIN of a laboratory is no secret.
    let words = ["--init-token", "--free", "--label", name, "--so-pin", "0815", "--pin", "4711"];
    let mut command = Command::new("softhsm2-util");
    command.args(words).env(TOKEN_SETTINGS, token_settings(lab, name));
    let output = command.output().context("softhsm2-util")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn private_directory(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(path)?;
    Ok(())
}

fn private_file(lab: &Lab, name: &str, content: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = lab.path(name);
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(content.as_bytes())?)
}

fn random_text() -> Result<String> {
    let mut bytes = [0_u8; 32];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(format!("{bytes:02x?}"))
}

fn answers(what: &str, port: u16) -> Result<()> {
    debug_assert!(PORTS.contains(&port), "ports come from one range");
    until(what, START_TIMEOUT, || TcpStream::connect(("127.0.0.1", port)).is_ok())
}

/// A real process of `LocalStack`, with KMS only. What it keeps dies with it, so it is never
/// killed while somebody has keys in it.
struct LocalStack {
    port: u16,
    child: Child,
}

impl LocalStack {
    fn start(lab: &Lab, port: u16) -> Result<Self> {
        let python = process::cache_dir().join("localstack/bin/python");
        ensure!(
            python.exists(),
            "LocalStack is not installed: `cargo xtask setup` installs it into {}",
            process::cache_dir().display()
        );
        let home = lab.path("localstack");
        fs::create_dir(&home)?;
        let log = fs::File::create(lab.path("localstack.log"))?;
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(&python);
        command.args(["-m", "localstack.runtime.main"]).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let settings = [
            ("HOME", home.as_os_str()),
            ("FILESYSTEM_ROOT", home.as_os_str()),
            ("SERVICES", "kms".as_ref()),
            ("STRICT_SERVICE_LOADING", "1".as_ref()),
            ("GATEWAY_LISTEN", address.as_ref()),
            ("LOCALSTACK_HOST", address.as_ref()),
            ("SKIP_SSL_CERT_DOWNLOAD", "1".as_ref()),
            ("DISABLE_EVENTS", "1".as_ref()),
            ("USE_SSL", "0".as_ref()),
        ];
        let command = command.envs(settings).current_dir(&home).stderr(log);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("LocalStack has an output")?;
        let mut found = Self { port, child };
        let mut lines = BufReader::new(output).lines();
        let is_ready = lines.any(|line| line.is_ok_and(|line| line.trim() == "Ready."));
        ensure!(is_ready, "LocalStack ended: {:?}", found.child.try_wait()?);
        // Nobody reads what it says later, and a full pipe would stop it.
        std::thread::Builder::new().name("localstack".to_owned()).spawn(move || {
            lines.for_each(drop);
        })?;
        Ok(found)
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        super::terminate(&mut self.child);
    }
}
