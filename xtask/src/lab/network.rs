//! Founding a network: keys, fleet, releases, policies, genesis.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::host::Platform;
use super::tpm::ATTESTATION_ANCHOR;
use super::{Lab, Node, mirror, text, until, watch, write};

/// Code of the fleet: its bundle and what it measures.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    /// Name of the release, and of its directory.
    pub(crate) name: String,
    /// What it measures on the platform of the first node.
    pub(crate) measurement: String,
    /// What it measures on each platform of the fleet.
    measurements: BTreeMap<Platform, String>,
    /// `keeper`, `upgrader` or `application`.
    role: &'static str,
    /// Whose keys it asks for.
    application: Option<&'static str>,
}

impl Code {
    /// What it measures on a node.
    pub(crate) fn on(&self, node: &Node) -> &str {
        self.measurements.get(&node.platform).unwrap_or(&self.measurement)
    }
}

/// How the keyring of a lab's domain is shared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    sharing: &'static str,
    holders_min: u32,
}

impl Shape {
    /// Many holders, of which two must stay.
    pub(crate) const REPLICATED: Self = Self { sharing: "replicated", holders_min: 2 };
    /// One active holder.
    pub(crate) const EXCLUSIVE: Self = Self { sharing: "exclusive", holders_min: 1 };

    /// Whether only one node holds.
    pub(crate) fn is_exclusive(self) -> bool {
        self.sharing == Self::EXCLUSIVE.sharing
    }
}

/// The network of a lab.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// Its only domain.
    pub(crate) domain: String,
    shape: Shape,
    /// The application that asks for keys.
    pub(crate) application: Code,
    /// The service's code, of every release that the policy names.
    pub(crate) services: Vec<Code>,
}

/// The only domain of a lab.
pub(crate) fn domain() -> String {
    "80".repeat(32)
}

/// The name of the application.
pub(crate) const APPLICATION: &str = "wallet";
/// How long genesis may take on a busy machine.
const GENESIS_TIMEOUT: Duration = Duration::from_mins(3);
const POLICY_KEYS: [&str; 2] = ["net/keys/policy-1.key", "net/keys/policy-3.key"];
/// Operators of a network that `heirloom init` makes.
const OPERATORS_COUNT: usize = 3;
const OPERATORS: [&str; 2] = ["net/keys/operator-1.key", "net/keys/operator-2.key"];

impl Lab {
    /// Makes manufacturer, network, hosts and registry. Nothing holds a key yet.
    pub(crate) fn found(&self, shape: Shape) -> Result<Network> {
        self.platformd(&["provision-root", "--dir", "manufacturer"])?;
        self.platformd(&["anchor", "--root-dir", "manufacturer", "--out", "anchor"])?;
        let registry = format!("http://127.0.0.1:{}", self.registry_port);
        let mut words = vec!["init", "net", "--anchor", "anchor", "--registry", &registry];
        if self.has_tpms() {
            self.found_tpm_authorities()?;
            words.extend(["--anchor", ATTESTATION_ANCHOR]);
        }
        self.heirloom(&words)?;
        self.start_registry()?;
        if self.etcd().is_some() {
            // A file begins with the first root; an empty cluster is told it.
            self.operate(&["root", "publish", "net/root.statement"])?;
        }
        for node in &self.nodes {
            fs::create_dir(self.path(&node.name))?;
            self.make_host(node)?;
            self.start_platform(node)?;
        }
        self.platformd(&["signing-key", "--out", "code.pem"])?;
        fs::create_dir(self.path("artifacts"))?;
        let domain = domain();
        let application = self.sign_bundle("wallet-1.0.0", "heirloom-example-app", &domain)?;
        Ok(Network { domain, shape, application, services: Vec::new() })
    }

    /// Signs a bundle of one of our programs for this network, as a release of this name.
    pub(crate) fn sign_bundle(&self, name: &str, program: &str, domain: &str) -> Result<Code> {
        match program {
            "heirloom-example-app" => self.sign_application(name, program, domain, APPLICATION),
            _ => self.sign(name, program, domain, ("keeper", None)),
        }
    }

    /// As [`Self::sign_bundle`], of a program that asks for this application's keys.
    pub(crate) fn sign_application(
        &self,
        name: &str,
        program: &str,
        domain: &str,
        application: &'static str,
    ) -> Result<Code> {
        self.sign(name, program, domain, ("application", Some(application)))
    }

    /// As [`Self::sign_bundle`], of the keeper program as an upgrader.
    pub(crate) fn sign_upgrader(&self, name: &str, domain: &str) -> Result<Code> {
        self.sign(name, "heirloom-keeper", domain, ("upgrader", None))
    }

    fn sign(
        &self,
        name: &str,
        program: &str,
        domain: &str,
        (role, application): (&'static str, Option<&'static str>),
    ) -> Result<Code> {
        let network = self.network_id()?;
        let binary = self.program_path(program).display().to_string();
        let out = format!("artifacts/{name}");
        let mut words = vec![
            "sign-bundle",
            "--key",
            "code.pem",
            "--binary",
            &binary,
            "--name",
            name,
            "--security-version",
            "1",
            "--product-id",
            "1",
            "--network",
            &network,
            "--domain",
            domain,
            "--out",
            &out,
        ];
        match (role, application) {
            (_, Some(application)) => words.extend(["--application", application]),
            ("upgrader", None) => words.extend(["--kind", "upgrader"]),
            _ => {}
        }
        let signed = self.platformd(&words)?;
        let measured = |platform: Platform| {
            let field = match platform {
                Platform::Emulated => "/measurement",
                Platform::Tpm => "/measurement_above_a_tpm",
            };
            Ok((platform, text(&signed, field)?.to_owned()))
        };
        let platforms = self.platforms().into_iter();
        let measurements: BTreeMap<_, _> = platforms.map(measured).collect::<Result<_>>()?;
        let first = self.nodes.first().map_or(Platform::Emulated, |node| node.platform);
        let measurement = measurements.get(&first).context("a fleet has nodes")?.clone();
        Ok(Code { name: name.to_owned(), measurement, measurements, role, application })
    }

    /// The network of the lab.
    pub(crate) fn network_id(&self) -> Result<String> {
        let text = fs::read_to_string(self.path("net/network.toml"))?;
        let table: toml::Table = toml::from_str(&text)?;
        let id = table.get("network").and_then(toml::Value::as_str).context("no network id")?;
        Ok(id.to_owned())
    }

    /// Publishes fleet, first release, first policy and endorsements.
    pub(crate) fn publish_first(&self, network: &Network, first: &Code) -> Result<()> {
        self.advance_epoch()?;
        let mut fleet = "serial = 1\nnot_after = \"+365d\"\n".to_owned();
        for (index, node) in self.nodes.iter().enumerate() {
            let key = format!("{}/agent.key", node.name);
            let made = self.heirloom(&["signer", "create", &key])?;
            let public = text(&made, "/public_key")?;
            let (name, number) = (&node.name, index + 1);
            write!(
                fleet,
                "[[node]]\nnode = \"{name}\"\ndomain = \"{}\"\nhost = \"host-{number}\"\n\
                 failure_domain = \"zone-{number}\"\noperator = \"operator-{}\"\nagent = \"{public}\"\n",
                network.domain,
                index % OPERATORS_COUNT + 1,
            )?;
        }
        fleet.push_str(&self.operator_keys()?);
        write(&self.path("fleet.toml"), &fleet)?;
        self.sign_and_publish("fleet", "fleet.toml", &OPERATORS)?;
        self.platformd(&["collateral", "--root-dir", "manufacturer", "--out", "collateral"])?;
        let [operator, _] = OPERATORS;
        self.operate(&["endorsements", "publish", "collateral", "--key", operator])?;
        self.publish_release(first)?;
        self.publish_release(&network.application)?;
        self.publish_policy(network, 1, &[first], &[], None)
    }

    /// The part of a fleet that says whose key is whose: operators agree in their own names only.
    pub(crate) fn operator_keys(&self) -> Result<String> {
        let mut named = String::new();
        for number in 1..=OPERATORS_COUNT {
            let key = format!("net/keys/operator-{number}.key");
            let shown = self.heirloom(&["signer", "show", &key])?;
            let public = text(&shown, "/public_key")?;
            write!(named, "[[operator]]\nname = \"operator-{number}\"\nkey = \"{public}\"\n")?;
        }
        Ok(named)
    }

    /// Publishes a release of some code.
    pub(crate) fn publish_release(&self, code: &Code) -> Result<()> {
        let input = format!("artifacts/{}", code.name);
        let out = format!("{}.release", code.name);
        let mut words = vec!["release", "sign", &input, "--out", &out];
        words.extend(["--key", "net/keys/release-1.key"]);
        for platform in code.measurements.keys() {
            words.extend(["--platform", platform.word()]);
        }
        self.heirloom(&words)?;
        self.operate(&["release", "publish", &out])?;
        Ok(())
    }

    /// Publishes a policy: this code may hold, with these edges. Where hosts are of several kinds,
    /// an edge goes from each to each, and code gives to itself on the others.
    pub(crate) fn publish_policy(
        &self,
        network: &Network,
        serial: u64,
        holders: &[&Code],
        edges: &[(&Code, &Code)],
        completes: Option<&str>,
    ) -> Result<()> {
        let mut policy = format!(
            "domain = \"{}\"\nserial = {serial}\nsharing = \"{}\"\nholders_min = {}\n\
             forget_after_epochs = 1\nupdate = \"ask\"\nsession_seconds_max = 86400\nephemeral_epochs = 3\nnot_after = \"+180d\"\n\
             [appraisal]\nplatforms = \"any\"\ntcb = [\"up-to-date\"]\nadvisories_accepted = []\n\
             tcb_evaluation_min = 1\ntcb_grace = []\ncollateral_grace_seconds = 0\n",
            network.domain, network.shape.sharing, network.shape.holders_min
        );
        if self.has_tpms() {
            policy.push_str(&self.tpm_rule()?);
        }
        policy.push_str(&holder_rules(holders, edges)?);
        for code in network.services.iter().chain([&network.application]) {
            for measurement in code.measurements.values() {
                write!(
                    policy,
                    "[[application]]\napplication = \"{}\"\nmeasurement = \"{measurement}\"\n\
                     security_version = 1\nkeys = \"all\"\n",
                    code.application.unwrap_or(APPLICATION),
                )?;
            }
        }
        let file = format!("policy-{serial}.toml");
        write(&self.path(&file), &policy)?;
        let out = format!("policy-{serial}.statement");
        let [first, second] = POLICY_KEYS;
        let mut words =
            vec!["policy", "sign", &file, "--out", &out, "--key", first, "--key", second];
        if let Some(plan) = completes {
            words.extend(["--completes", plan]);
        }
        self.operate(&words)?;
        self.operate(&["policy", "publish", &out])?;
        Ok(())
    }

    fn sign_and_publish(&self, noun: &str, input: &str, keys: &[&str]) -> Result<()> {
        let out = format!("{noun}.statement");
        let mut words = vec![noun, "sign", input, "--out", &out];
        for key in keys {
            words.extend(["--key", key]);
        }
        self.operate(&words)?;
        self.operate(&[noun, "publish", &out])?;
        Ok(())
    }

    /// Begins the next epoch.
    pub(crate) fn advance_epoch(&self) -> Result<()> {
        self.operate(&["epoch", "advance", "--key", "net/keys/timekeeper-1.key"])?;
        Ok(())
    }

    /// Writes every agent's configuration, and starts the agents. Nodes run this service besides
    /// their keepers, if one is given.
    pub(crate) fn start_agents(&self, first: &Code, service: Option<&Code>) -> Result<()> {
        let network = self.network_id()?;
        let mirror = mirror::serve(self.path("artifacts"))?;
        for (index, node) in self.nodes.iter().enumerate() {
            let Node { name, keeper_ports: [one, other], agent_port, .. } = node;
            fs::create_dir_all(self.path(&format!("{name}/data")))?;
            let mut config = format!(
                "network = \"{network}\"\nnode = \"{name}\"\nkey_file = \"{name}/agent.key\"\n\
                 registry = \"http://127.0.0.1:{}\"\nplatform = \"{name}/platform.sock\"\n\
                 data = \"{name}/data\"\n\
                 mirrors = [\"http://127.0.0.1:{}\", \"http://127.0.0.1:{mirror}\"]\n\
                 listen = [\"127.0.0.1:{one}\", \"127.0.0.1:{other}\"]\napi = \"127.0.0.1:{agent_port}\"\n\
                 free_bytes_min = 1000000\n[[keeper]]\nbundle = \"artifacts/{}\"\n",
                self.registry_port, self.dead_port, first.name
            );
            if let Some(service) = service {
                config.push_str(&self.service_section(index, node, service)?);
            }
            write(&self.path(&format!("{name}/agent.toml")), &config)?;
            self.start_agent(node)?;
        }
        Ok(())
    }

    /// Orders the next generation, and waits until every node that may hold it holds it and has restarted with it.
    pub(crate) fn order_generation(&self, shape: Shape, generation: u64) -> Result<()> {
        let first = self.nodes.first().context("a fleet has nodes")?;
        let [one, two] = OPERATORS;
        let mut words =
            vec!["generation", "order", "--node", &first.name, "--key", one, "--key", two];
        if generation == 0 {
            words.push("--genesis");
        }
        self.operate(&words)?;
        let holders = if shape.is_exclusive() { 1 } else { self.nodes.len() };
        until(&format!("generation {generation} on every node"), GENESIS_TIMEOUT, || {
            self.nodes.iter().take(holders).all(|node| {
                watch::status(node).is_ok_and(|status| status.has_recovered(generation))
            })
        })
    }
}

/// What a policy says about holders, on every platform of the fleet.
fn holder_rules(holders: &[&Code], edges: &[(&Code, &Code)]) -> Result<String> {
    let mut rules = String::new();
    for holder in holders {
        let given = edges.iter().filter(|(from, _)| from.name == holder.name).map(|(_, to)| *to);
        let receivers: Vec<&Code> = given.chain([*holder]).collect();
        for measurement in holder.measurements.values() {
            let to = receivers.iter().flat_map(|code| code.measurements.values());
            let to = to.filter(|to| *to != measurement).map(|to| format!("\"{to}\""));
            write!(
                rules,
                "[[holder]]\nmeasurement = \"{measurement}\"\nsecurity_version = 1\n\
                 role = \"{}\"\ngives_to = [{}]\n",
                holder.role,
                to.collect::<Vec<_>>().join(", ")
            )?;
        }
    }
    Ok(rules)
}
