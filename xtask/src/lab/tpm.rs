//! Hosts with a TPM in software: manufacturing it, booting, and what people do once for each host.
//!
//! Nobody boots in a laboratory, so it plays the firmware: before the platform daemon starts, PCR 4
//! is extended by the digest of its program, as firmware does with the boot application that it
//! starts. The other registers stay as the TPM has them. A TPM in software is files of whoever runs
//! it: what is shown is the procedure, and protects nothing from this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::host::Platform;
use super::{Lab, Node, START_TIMEOUT, text, until, write};
use crate::process;

/// The register that the boot application is in.
const BOOT_REGISTER: u8 = 4;
/// The directory of whoever manufactures and certifies the TPMs.
const MAKER: &str = "tpm-manufacturer";
/// The file with the certificates of that manufacturer.
const MANUFACTURERS: &str = "tpm-manufacturers.pem";
/// The digest of the authority that approves hosts.
const AUTHORITY: &str = "tpm-authority.id";
/// The trust anchor of the attestation CA.
pub(super) const ATTESTATION_ANCHOR: &str = "attestation-ca.anchor";

impl Lab {
    /// Whether a host has a TPM.
    pub(super) fn has_tpms(&self) -> bool {
        self.platforms().contains(&Platform::Tpm)
    }

    /// Founds what hosts with a TPM need once for all: the authority that approves what they boot,
    /// and the attestation CA that certifies their keys.
    pub(super) fn found_tpm_authorities(&self) -> Result<()> {
        ensure!(
            process::read(Command::new("id").arg("-u"))?.trim() == "0",
            "hosts with a TPM give each bundle a user of its own, which only root can do: run it as \
             root"
        );
        for program in ["swtpm", "swtpm_setup", "tpm2_pcrextend"] {
            ensure!(
                process::find(program).is_some(),
                "{program} is missing: `cargo xtask setup` installs it"
            );
        }
        let authority = self.platformd(&[
            "tpm",
            "authority-key",
            "--out",
            "tpm-authority.key",
            "--public",
            "tpm-authority.pub",
        ])?;
        write(&self.path(AUTHORITY), text(&authority, "/authority")?)?;
        let found = ["found", "--dir", "attestation-ca", "--anchor", ATTESTATION_ANCHOR];
        let keys = ["--endorsement-keys", "rsa"];
        self.platformd(&[&["attestation-ca"], &found[..], &keys].concat())?;
        self.write_maker()
    }

    /// Makes a host: manufactures its TPM, boots it once, has what it booted approved and its
    /// attestation key certified. Everything goes over files, as between people who only meet now
    /// and then.
    pub(super) fn make_tpm_host(&self, node: &Node) -> Result<()> {
        self.manufacture(node)?;
        self.boot(node)?;
        let host = node.host();
        let on = |verb: &'static str, words: &[&str]| {
            let (state, tpm) = (node.machine(), self.tpm_address(node));
            let machine = ["tpm", verb, "--state", &state, "--tpm", &tpm];
            self.platformd(&[&machine[..], words].concat())
        };
        let file = |name: &str| format!("{}/tpm/{name}", node.name);
        on("init", &["--host", &host, "--authority", "tpm-authority.pub"])?;

        let (request, approval) = (file("host.request"), file("host.approval"));
        let asked = on("request", &["--out", &request])?;
        write(&self.path(&file(REGISTERS)), &asked.to_string())?;
        let approve = ["tpm", "approve", "--key", "tpm-authority.key", "--request", &request];
        self.platformd(&[&approve[..], &["--out", &approval]].concat())?;
        on("install-approval", &["--approval", &approval])?;

        let (request, challenge) = (file("key.request"), file("key.challenge"));
        let (answer, certificates) = (file("key.answer"), file("key.certificates"));
        let ca = |verb: &'static str, words: &[&str]| {
            let shown = ["--dir", "attestation-ca", "--request", &request];
            let trusted = ["--manufacturers", MANUFACTURERS];
            let verb = ["attestation-ca", verb];
            self.platformd(&[&verb[..], &shown, &trusted, words].concat())
        };
        on("enrol-request", &["--out", &request])?;
        ca("challenge", &["--out", &challenge])?;
        on("enrol-answer", &["--challenge", &challenge, "--out", &answer])?;
        ca("certify", &["--answer", &answer, "--out", &certificates])?;
        on("enrol-install", &["--certificates", &certificates])?;
        Ok(())
    }

    /// Switches the TPM of a host on, and measures what boots there. A TPM that is on was booted.
    pub(super) fn boot(&self, node: &Node) -> Result<()> {
        let socket = self.tpm_socket(node);
        if UnixStream::connect(&socket).is_ok() {
            return Ok(());
        }
        let state = self.tpm_state(node).display().to_string();
        let control = format!("{}.ctrl", socket.display());
        for path in [&socket, &PathBuf::from(&control)] {
            let _absent = fs::remove_file(path);
        }
        let mut swtpm = Command::new("swtpm");
        swtpm.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
        swtpm.args(["--tpmstate", &format!("dir={state}")]);
        swtpm.args(["--server", &format!("type=unixio,path={}", socket.display())]);
        swtpm.args(["--ctrl", &format!("type=unixio,path={control}")]);
        self.start(&node.tpm(), swtpm.stdin(Stdio::null()))?;
        let listens = || UnixStream::connect(&socket).is_ok();
        until(&format!("the TPM of {}", node.name), START_TIMEOUT, listens)?;
        let digest = sha256(&self.program_path("heirloom-platformd"))?;
        let extend = format!("{BOOT_REGISTER}:sha256={digest}");
        let tcti = format!("swtpm:path={}", socket.display());
        process::read(Command::new("tpm2_pcrextend").args(["--tcti", &tcti, &extend]))?;
        Ok(())
    }

    /// Where the TPM of a host is, as its platform daemon is told.
    pub(super) fn tpm_address(&self, node: &Node) -> String {
        format!("unix:{}", self.tpm_socket(node).display())
    }

    /// The rule of a policy that accepts what the hosts have booted, and nothing else.
    pub(super) fn tpm_rule(&self) -> Result<String> {
        let mut values: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.platform == Platform::Tpm) {
            let path = self.path(&format!("{}/tpm/{REGISTERS}", node.name));
            let asked: Value = serde_json::from_slice(&fs::read(path)?)?;
            let registers = asked.pointer("/registers").and_then(Value::as_array);
            for register in registers.context("the request names no registers")? {
                let index = register.get("pcr").and_then(Value::as_u64);
                let index = index.context("a register has a number")?;
                let value = format!("\"{}\"", text(register, "/value")?);
                values.entry(index).or_default().insert(value);
            }
        }
        let authority = fs::read_to_string(self.path(AUTHORITY))?;
        let mut rule = format!(
            "[appraisal.tpm]\nrevocation = \"if-present\"\nauthorities = [\"{authority}\"]\n\
             [appraisal.tpm.pcr]\n"
        );
        for (index, values) in values {
            let values: Vec<String> = values.into_iter().collect();
            writeln!(rule, "{index} = [{}]", values.join(", "))?;
        }
        Ok(rule)
    }

    /// Writes down how TPMs are manufactured here. All have one manufacturer.
    fn write_maker(&self) -> Result<()> {
        let maker = self.path(MAKER);
        fs::create_dir(&maker)?;
        let path = |name: &str| maker.join(name).display().to_string();
        write(
            &maker.join("localca.conf"),
            &format!(
                "statedir = {}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
                maker.display(),
                path("signkey.pem"),
                path("issuercert.pem"),
                path("certserial"),
            ),
        )?;
        write(
            &maker.join("options"),
            "--platform-manufacturer Heirloom\n--platform-version 1\n--platform-model Laboratory\n",
        )?;
        write(
            &maker.join("setup.conf"),
            &format!(
                "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\n\
                 create_certs_tool_options = {}\nactive_pcr_banks = sha256\n",
                path("localca.conf"),
                path("options"),
            ),
        )
    }

    /// Makes the TPM of a host: its endorsement key, and the manufacturer's certificate of it.
    fn manufacture(&self, node: &Node) -> Result<()> {
        let (state, maker) = (self.tpm_state(node), self.path(MAKER));
        fs::create_dir_all(&state)?;
        // Whoever reaches a TPM asks it: bundles of the host are other users, and do not.
        let mode = |mode| <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
        fs::set_permissions(self.path(&format!("{}/tpm", node.name)), mode(0o700))?;
        // They reach the launcher and their own directories, whatever the umask is here.
        for path in [self.path(""), self.path(&node.name)] {
            fs::set_permissions(path, mode(0o711))?;
        }
        let user = process::read(Command::new("id").arg("-un"))?;
        let mut setup = Command::new("swtpm_setup");
        setup.args(["--tpm2", "--create-ek-cert", "--create-platform-cert", "--lock-nvram"]);
        setup.arg("--tpm-state").arg(&state).arg("--config").arg(maker.join("setup.conf"));
        // Else root becomes another user, who may not enter our folder.
        setup.args(["--runas", user.trim()]);
        process::read(&mut setup).context("the TPM could not be manufactured")?;
        let issuers = ["issuercert.pem", "swtpm-localca-rootca-cert.pem"]
            .map(|name| fs::read_to_string(maker.join(name)));
        let issuers: Vec<String> = issuers.into_iter().collect::<Result<_, _>>()?;
        write(&self.path(MANUFACTURERS), &issuers.concat())
    }

    /// A TPM with a relative directory starts in failure mode: this one is absolute.
    fn tpm_state(&self, node: &Node) -> PathBuf {
        self.path(&format!("{}/tpm/state", node.name))
    }

    fn tpm_socket(&self, node: &Node) -> PathBuf {
        self.path(&format!("{}/tpm/socket", node.name))
    }
}

/// The file with what a host had booted when it was approved.
const REGISTERS: &str = "registers.json";

fn sha256(path: &std::path::Path) -> Result<String> {
    let line = process::read(Command::new("sha256sum").arg("--binary").arg(path))?;
    let digest = line.split(' ').next().context("sha256sum said nothing")?;
    Ok(digest.trim_start_matches('\\').to_owned())
}
