//! Hosts: what each is made of, and how it is switched on and off.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;

use anyhow::Result;

use super::{Lab, Node, START_TIMEOUT, until};

/// Users for bundles of hosts with a TPM: numbers that no system gives to anybody.
const BUNDLE_USERS: &str = "1900000000-1900000255";
/// The group that agents and bundles have in common there. Agents of a lab are root, which needs no
/// group.
pub(super) const AGENT_GROUP: u32 = 1_900_001_000;

/// What a host is made of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Platform {
    /// An emulated CPU with the semantics of SGX.
    Emulated,
    /// A machine with a TPM, in software, and a measured launcher.
    Tpm,
}

impl Platform {
    /// The word for it, as people write it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Emulated => "emulated",
            Self::Tpm => "tpm",
        }
    }
}

impl Lab {
    /// Lets the hosts be of these platforms, which take turns.
    pub(crate) fn with_platforms(mut self, platforms: &[Platform]) -> Self {
        for (node, platform) in self.nodes.iter_mut().zip(platforms.iter().cycle()) {
            node.platform = *platform;
        }
        self
    }

    /// Every platform that a host has, once.
    pub(crate) fn platforms(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = self.nodes.iter().map(|node| node.platform).collect();
        platforms.sort();
        platforms.dedup();
        platforms
    }

    /// The platform of each host, in words.
    pub(crate) fn platform_words(&self) -> Vec<&'static str> {
        self.nodes.iter().map(|node| node.platform.word()).collect()
    }

    /// A directory in which measured applications on any host may write, made if it is not there.
    pub(crate) fn shared_directory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.path(name);
        fs::create_dir_all(&directory)?;
        if self.has_tpms() {
            chown(&directory, None, Some(AGENT_GROUP))?;
            fs::set_permissions(&directory, Permissions::from_mode(0o2770))?;
        }
        Ok(directory)
    }

    /// Makes the host of a node, which is off.
    pub(crate) fn make_host(&self, node: &Node) -> Result<()> {
        match node.platform {
            Platform::Emulated => {
                let (state, host) = (node.machine(), node.host());
                let words =
                    ["init", "--root-dir", "manufacturer", "--state", &state, "--host", &host];
                self.platformd(&words)?;
                Ok(())
            }
            Platform::Tpm => self.make_tpm_host(node),
        }
    }

    /// Switches the host of a node on: its TPM, if it has one, and its platform daemon.
    pub(crate) fn start_platform(&self, node: &Node) -> Result<()> {
        let (state, socket, tpm) = (node.machine(), node.socket(), self.tpm_address(node));
        let group = AGENT_GROUP.to_string();
        let words = match node.platform {
            Platform::Emulated => vec!["serve", "--state", &state, "--socket", &socket],
            Platform::Tpm => {
                self.boot(node)?;
                let serve = ["tpm", "serve", "--state", &state, "--tpm", &tpm];
                let accounts = ["--bundle-users", BUNDLE_USERS, "--agent-group", &group];
                [&serve[..], &accounts, &["--socket", &socket]].concat()
            }
        };
        self.start(
            &format!("platform-{}", node.name),
            self.program("heirloom-platformd").args(words),
        )?;
        let answers = || std::os::unix::net::UnixStream::connect(self.path(&socket)).is_ok();
        until(&format!("the platform of {}", node.name), START_TIMEOUT, answers)
    }

    /// Takes the power of a node's host away: its platform daemon, and the TPM, whose registers
    /// start anew with the next boot.
    pub(crate) fn kill_platform(&self, node: &Node) -> Result<()> {
        self.kill(&format!("platform-{}", node.name))?;
        self.kill(&node.tpm())
    }
}

impl Node {
    /// What its host is called.
    pub(crate) fn host(&self) -> String {
        self.name.replace("node", "host")
    }

    /// Directory of its host's machine, relative to the lab.
    pub(crate) fn machine(&self) -> String {
        format!("{}/platform", self.name)
    }

    /// The process that is its host's TPM.
    pub(crate) fn tpm(&self) -> String {
        format!("tpm-{}", self.name)
    }
}
