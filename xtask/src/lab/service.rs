//! The service of every node: its ledger, the proxy in front of it, and clients that pay.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use heirloom_proxy::template;
use serde_json::Value;

use super::network::{Code, Network};
use super::{Lab, Node, get, until, write};
use crate::process::run;

/// The name of the service's application.
pub(crate) const SERVICE: &str = "ledger";
/// The service's program.
pub(crate) const PROGRAM: &str = "heirloom-ledger";
/// How long all services may take until they see each other.
const MESH_TIMEOUT: Duration = Duration::from_mins(2);

/// Ports of a node's service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// Where clients come in: the proxy.
    pub(crate) edge: u16,
    /// Where the proxy's own side door is.
    pub(crate) edge_door: u16,
    /// Where the service takes what the proxy lets through.
    pub(crate) client: u16,
    /// Where peers meet.
    pub(crate) peer: u16,
    /// Where its operator's tests come in.
    pub(crate) door: u16,
}

impl Ports {
    /// How many there are.
    pub(crate) const COUNT: usize = 5;

    /// From free ports.
    pub(crate) fn of(free: &[u16]) -> Option<Self> {
        match free {
            [edge, edge_door, client, peer, door] => Some(Self {
                edge: *edge,
                edge_door: *edge_door,
                client: *client,
                peer: *peer,
                door: *door,
            }),
            _ => None,
        }
    }
}

/// What is wrong with a node's tool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ToolFault<'v> {
    /// This verb says that the data is corrupt.
    Corrupt(&'v str),
    /// This verb takes long.
    Slow(&'v str),
}

/// Which proxy stands in front of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Proxy {
    Nginx,
    HaProxy,
}

impl Proxy {
    /// Both kinds take turns.
    pub(crate) fn of(index: usize) -> Self {
        if index.is_multiple_of(2) { Self::Nginx } else { Self::HaProxy }
    }
}

impl Lab {
    /// Makes the first ledger, and gives every node a copy of it.
    pub(crate) fn prepare_ledgers(&self, blocks: u64) -> Result<()> {
        let (blocks, network) = (blocks.to_string(), self.network_id()?);
        let words = ["prepare", "--out", "ledger", "--network", &network, "--blocks", &blocks];
        self.ledger(&words).context("no ledger was prepared")?;
        for node in &self.nodes {
            let data = self.service_dir(node);
            fs::create_dir_all(&data)?;
            copy(&self.path("ledger/data"), &data.join("ledger"))?;
            fs::copy(self.path("ledger/ledger.toml"), self.configuration(node))?;
            // What is configured names the wallets of the tests, beside it.
            let wallets = self.path(&format!("{}/wallets", node.name));
            std::os::unix::fs::symlink(self.path("ledger/wallets"), wallets)?;
        }
        Ok(())
    }

    /// Whether its nodes run a service besides their keepers.
    pub(crate) fn has_services(&self) -> bool {
        self.path("ledger").exists()
    }

    /// Where the agent of a node keeps what belongs to the service.
    pub(crate) fn service_dir(&self, node: &Node) -> PathBuf {
        self.path(&format!("{}/data/service", node.name))
    }

    /// What the service of a node has configured.
    pub(crate) fn configuration(&self, node: &Node) -> PathBuf {
        self.path(&format!("{}/ledger.toml", node.name))
    }

    /// The digest of what every node has configured.
    pub(crate) fn configuration_digest(&self) -> Result<String> {
        let shown = self.ledger(&["configuration", "--configuration", "ledger/ledger.toml"])?;
        let digest = shown.pointer("/done/configuration").and_then(Value::as_str);
        Ok(digest.context("the configuration has no digest")?.to_owned())
    }

    /// Runs the ledger's program for one answer: the last line that it prints.
    pub(crate) fn ledger(&self, words: &[&str]) -> Result<Value> {
        let output = self.program(PROGRAM).args(words).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{PROGRAM} {} failed ({}): {text}{}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let last = text.lines().last().context("no answer")?;
        serde_json::from_str(last).with_context(|| format!("not an answer: {last}"))
    }

    /// Starts the proxy of every node, open.
    pub(crate) fn start_proxies(&self) -> Result<()> {
        self.nodes.iter().enumerate().try_for_each(|(index, node)| {
            let service = self.proxied(node)?;
            match Proxy::of(index) {
                Proxy::Nginx => template::install_nginx(&service)?,
                Proxy::HaProxy => template::install_haproxy(&service)?,
            }
            self.start_proxy(index, node)
        })
    }

    /// Starts the proxy of a node, as it was installed.
    pub(crate) fn start_proxy(&self, index: usize, node: &Node) -> Result<()> {
        let service = self.proxied(node)?;
        let mut command = match Proxy::of(index) {
            Proxy::Nginx => template::nginx_command(&service),
            Proxy::HaProxy => template::haproxy_command(&service),
        };
        self.start(&format!("proxy-{}", node.name), &mut command)?;
        let listens = || std::net::TcpStream::connect(("127.0.0.1", node.service.edge)).is_ok();
        until(&format!("the proxy of {}", node.name), Duration::from_secs(20), listens)
    }

    fn proxied(&self, node: &Node) -> Result<template::Service> {
        let directory = self.path(&format!("{}/proxy", node.name));
        fs::create_dir_all(&directory)?;
        Ok(template::Service {
            directory,
            client_port: node.service.edge,
            side_door_port: node.service.edge_door,
            upstream_port: node.service.client,
        })
    }

    /// What an agent's configuration says about the service of its node.
    pub(crate) fn service_section(
        &self,
        index: usize,
        node: &Node,
        first: &Code,
    ) -> Result<String> {
        let Ports { client, peer, door, edge, .. } = node.service;
        let tool = self.tool(node);
        let peers: Vec<String> = self
            .nodes
            .iter()
            .filter(|other| other.name != node.name)
            .map(|other| format!("\"{}=127.0.0.1:{}\"", other.name, other.service.peer))
            .collect();
        let mut section = format!(
            "[service]\napplication = \"{SERVICE}\"\ntool = \"{}\"\nbundle = \"artifacts/{}\"\n\
             configuration = \"{}\"\nclient_listen = \"127.0.0.1:{client}\"\n\
             peer_listen = \"127.0.0.1:{peer}\"\ndoor_listen = \"127.0.0.1:{door}\"\n\
             peers = [{}]\narchive = \"{}/archive\"\n[service.edge]\n",
            tool.display(),
            first.name,
            self.configuration(node).display(),
            peers.join(", "),
            node.name,
        );
        let service = self.proxied(node)?;
        match Proxy::of(index) {
            Proxy::Nginx => {
                let options = template::nginx_options(&service);
                write!(
                    section,
                    "kind = \"nginx\"\nconfiguration = \"{}\"\ninclude = \"{}\"\n\
                     pid_file = \"{}\"\nprobe = \"127.0.0.1:{edge}\"\n",
                    options.configuration.display(),
                    options.include.display(),
                    options.pid_file.display(),
                )?;
            }
            Proxy::HaProxy => {
                let options = template::haproxy_options(&service);
                write!(
                    section,
                    "kind = \"haproxy\"\nmaster_socket = \"{}\"\nbackend = \"{}\"\n\
                     state_file = \"{}\"\n",
                    options.master_socket.display(),
                    options.backend,
                    options.state_file.display(),
                )?;
            }
        }
        Ok(section)
    }

    /// The tool that a node's agent runs: the real one, through a script of the laboratory that
    /// can make one of its verbs fail.
    pub(crate) fn tool(&self, node: &Node) -> PathBuf {
        self.path(&format!("{}/ledger-tool", node.name))
    }

    /// Writes the tool of every node.
    pub(crate) fn install_tools(&self) -> Result<()> {
        self.nodes.iter().try_for_each(|node| self.install_tool(node, None))
    }

    /// Writes the tool of a node.
    pub(crate) fn install_tool(&self, node: &Node, fault: Option<ToolFault<'_>>) -> Result<()> {
        let real = self.program_path(PROGRAM);
        let fault = match fault {
            None => String::new(),
            Some(ToolFault::Corrupt(verb)) => format!(
                "if [ \"$1\" = {verb} ]; then echo 'the record of block 77 is damaged' >&2; \
                 exit 4; fi\n"
            ),
            Some(ToolFault::Slow(verb)) => format!("if [ \"$1\" = {verb} ]; then sleep 2; fi\n"),
        };
        let script = format!("#!/bin/sh\n{fault}exec {} \"$@\"\n", real.display());
        let path = self.tool(node);
        // Replaced as a whole: an agent may be running the one before.
        let fresh = path.with_extension("new");
        write(&fresh, &script)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&fresh, mode)?;
        fs::rename(&fresh, &path)?;
        Ok(())
    }

    /// Signs the service's program as a release of this name.
    pub(crate) fn sign_service(&self, name: &str, network: &Network) -> Result<Code> {
        self.sign_application(name, PROGRAM, &network.domain, SERVICE)
    }

    /// Waits until every service runs this code, is open, and sees all others.
    pub(crate) fn await_mesh(&self, code: &Code) -> Result<()> {
        until(&format!("{} on every node", code.name), MESH_TIMEOUT, || {
            self.nodes.iter().all(|node| self.serves(node, code))
        })
    }

    /// Whether the service of a node runs this code, is open, and sees all others.
    pub(crate) fn serves(&self, node: &Node, code: &Code) -> bool {
        let Ok(status) = service(node) else { return false };
        let is = |name: &str, value: &str| status.get(name).and_then(Value::as_str) == Some(value);
        let number = |name: &str| status.get(name).and_then(Value::as_u64);
        is("code", &code.measurement)
            && is("state", "open")
            && is("edge", "open")
            && number("peers_connected") == u64::try_from(self.nodes.len() - 1).ok()
    }
}

/// What the agent of a node says about its service.
pub(crate) fn service(node: &Node) -> Result<Value> {
    let status: Value = serde_json::from_str(&get(node.agent_port, "/v1/status")?)?;
    let found = status.pointer("/heirloom/service");
    Ok(found.context("the node has no service")?.clone())
}

/// Copies a directory with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to))
}
