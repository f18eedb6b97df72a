//! Founding a network without keepers, and what its operators do to move participants.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::participant::{Keys, Participant, SYNCHRONIZER};
use super::{Lab, text, write};

/// How many operators approve before a plan counts.
const APPROVALS: usize = 2;
/// How `heirloom` ends when it refuses what it was asked for.
const EXIT_REFUSED: i32 = 3;

/// What one operator moves: a participant of his node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moving<'a> {
    /// The node, as the fleet names it.
    pub(crate) node: &'a str,
    /// The operator's number: which key, and which name.
    pub(crate) operator: usize,
    /// Where the contracts are.
    pub(crate) from: &'a Participant,
    /// Where they go.
    pub(crate) to: &'a Participant,
    /// A word for this plan, which no other one of the node has.
    pub(crate) way: &'a str,
}

impl Moving<'_> {
    /// The node's configuration.
    pub(crate) fn file(&self) -> String {
        format!("{}/{}.toml", self.node, self.way)
    }

    /// The node's data, relative to the laboratory.
    pub(crate) fn data(&self) -> String {
        format!("{}/data-{}", self.node, self.way)
    }

    /// The folder of a plan.
    pub(crate) fn folder(&self, plan: &str) -> String {
        format!("{}/plans/{plan}", self.data())
    }

    /// The operator as the fleet names it.
    pub(crate) fn operator_name(&self) -> String {
        operator(self.operator)
    }

    fn config(&self, lab: &Lab) -> Result<String> {
        let Self { node, from, to, way, .. } = self;
        // Whose keys are in files makes them itself.
        let custodian = match to.keys {
            Keys::Software => "participant".to_owned(),
            Keys::Token | Keys::Aws => format!("../{}/custodian.toml", to.name),
        };
        let side = |participant: &Participant| {
            format!(
                "admin = \"{}\"\nledger = \"{}\"\n",
                participant.admin_url(),
                participant.ledger_url()
            )
        };
        Ok(format!(
            "network = \"{}\"\nnode = \"{node}\"\nkey_file = \"agent.key\"\n\
             registry = \"http://127.0.0.1:{}\"\ndata = \"data-{way}\"\nidentifier = \"{}\"\n\
             custodian = \"{custodian}\"\n\
             [source]\n{}[target]\n{}\
             [keys]\nsigning = \"p256\"\nencryption = \"rsa2048\"\nlabel = \"{}\"\n\
             [[route]]\nfrom = \"{SYNCHRONIZER}\"\nto = \"{SYNCHRONIZER}\"\n\
             [safeguard]\ndirectory = \"../{}/store\"\n",
            lab.network_id()?,
            lab.registry_port,
            to.name,
            side(from),
            side(to),
            to.name,
            to.name,
        ))
    }
}

fn operator(number: usize) -> String {
    format!("operator-{number}")
}

fn key(operator: usize) -> String {
    format!("net/keys/operator-{operator}.key")
}

impl Lab {
    /// Network, registry and fleet. Each domain has one node of each of these operators.
    pub(crate) fn found_without_keepers(&self, operators: usize) -> Result<()> {
        let registry = format!("http://127.0.0.1:{}", self.registry_port);
        self.heirloom(&["init", "net", "--without-keepers", "--registry", &registry])?;
        self.start_registry()?;
        self.advance_epoch()?;
        let mut fleet = "serial = 1\nnot_after = \"+365d\"\n".to_owned();
        for (index, node) in self.nodes.iter().enumerate() {
            std::fs::create_dir(self.path(&node.name))?;
            let made = self.heirloom(&["signer", "create", &format!("{}/agent.key", node.name)])?;
            let number = index + 1;
            let domain = index.checked_div(operators).context("a node has an operator")?;
            write!(
                fleet,
                "[[node]]\nnode = \"{}\"\ndomain = \"{}\"\nhost = \"host-{number}\"\n\
                 failure_domain = \"zone-{number}\"\noperator = \"{}\"\nagent = \"{}\"\n",
                node.name,
                format!("{:02x}", 0x80 + domain).repeat(32),
                operator(index.checked_rem(operators).unwrap_or(0) + 1),
                text(&made, "/public_key")?,
            )?;
        }
        fleet.push_str(&self.operator_keys()?);
        write(&self.path("fleet.toml"), &fleet)?;
        let keys = [key(1), key(2)];
        let keys = keys.iter().flat_map(|key| ["--key", key]);
        let words = ["fleet", "sign", "fleet.toml", "--out", "fleet.statement"];
        self.operate(&words.into_iter().chain(keys).collect::<Vec<_>>())?;
        self.operate(&["fleet", "publish", "fleet.statement"])?;
        Ok(())
    }

    /// Each operator lets his node look.
    pub(crate) fn look(&self, moves: &[Moving<'_>]) -> Result<()> {
        for moving in moves {
            write(&self.path(&moving.file()), &moving.config(self)?)?;
        }
        for moving in moves {
            let file = moving.file();
            let words = ["participant", "preflight", "--publish", "--config", &file];
            self.operate_with_keys(moving.to, &words)?;
        }
        Ok(())
    }

    /// The first operator plans for all; enough approve. Returns the plan, and the file that it
    /// is in.
    pub(crate) fn plan_migration(&self, moves: &[Moving<'_>]) -> Result<(String, String)> {
        let (first, others) = moves.split_first().context("somebody moves")?;
        let (file, out) = (first.file(), format!("{}/{}.plan", first.node, first.way));
        let key = key(first.operator);
        let mut words = vec!["participant", "plan", "--config", &file, "--key", &key];
        words.extend(["--opens", "+1", "--out", &out]);
        for other in others {
            words.extend(["--with", other.node]);
        }
        let made = self.operate_with_keys(first.to, &words)?;
        let plan = text(&made, "/plan")?.to_owned();
        for operator in 1..=APPROVALS {
            let key = self::key(operator);
            self.operate(&["plan", "approve", "--plan", &plan, "--key", &key])?;
        }
        Ok((plan, out))
    }

    /// Who must agree before the first of these operators can move without the others, as the
    /// refusal of such a plan names him.
    pub(crate) fn refused_alone(&self, moves: &[Moving<'_>]) -> Result<String> {
        let (first, others) = moves.split_first().context("somebody moves")?;
        let (file, key) = (first.file(), key(first.operator));
        let out = format!("{}/alone.plan", first.node);
        let mut words = vec!["participant", "plan", "--config", &file, "--key", &key];
        words.extend(["--opens", "+1", "--out", &out]);
        let output = self.command_with_keys(first.to, &words).output()?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(EXIT_REFUSED) && !self.path(&out).exists(),
            "a plan without the others was not refused ({}): {told}",
            output.status
        );
        let mut named = others.iter().map(Moving::operator_name);
        let named = named.find(|name| told.contains(&format!("{name} must move too")));
        named.with_context(|| format!("the refusal names nobody who must agree: {told}"))
    }

    /// Agrees to the names for one operator, if they are settled and he has not. Returns whether
    /// nothing is left for him to do. A registry that does not answer is asked again.
    pub(crate) fn has_agreed(&self, plan: &str, moving: &Moving<'_>) -> bool {
        let Ok(status) = self.operate(&["participant", "status", "--plan", plan]) else {
            return false;
        };
        let name = moving.operator_name();
        let open = status.get("not_agreed").and_then(Value::as_array);
        let is_open = open.is_some_and(|open| open.iter().any(|it| it.as_str() == Some(&name)));
        if !is_open {
            return status.get("map").is_some_and(Value::is_string);
        }
        let key = key(moving.operator);
        let words = ["participant", "agree", "--plan", plan, "--key", &key, "--operator", &name];
        self.operate(&words).is_ok()
    }

    /// What the log and the participants of a node say.
    pub(crate) fn migration_status(&self, plan: &str, moving: &Moving<'_>) -> Result<Value> {
        let file = moving.file();
        let words = ["participant", "status", "--config", &file, "--plan", plan];
        self.operate_with_keys(moving.to, &words)
    }
}

/// What a node stated of this kind.
pub(crate) fn stated<'v>(status: &'v Value, node: &str, kind: &str) -> Option<&'v Value> {
    let stated = status.get("standings").and_then(Value::as_array)?;
    let of_node = |standing: &&Value| standing.get("node").and_then(Value::as_str) == Some(node);
    let facts = stated.iter().filter(of_node).filter_map(|standing| standing.get("facts"));
    facts.filter_map(|facts| facts.get(kind)).next_back()
}
