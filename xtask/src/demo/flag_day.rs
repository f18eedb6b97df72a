//! Flag day: the nodes of independent operators move their service to new code all at once, while
//! clients keep paying.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{EPOCH_EVERY, UPGRADE_TIMEOUT, explain_fields, progress, say};
use crate::lab::chaos::{Chaos, Pace};
use crate::lab::etcd::Trouble;
use crate::lab::network::{Code, Network, Shape};
use crate::lab::service::ToolFault;
use crate::lab::{Lab, SharedLab, text, write};

mod figures;
mod payers;

use payers::Payers;

/// Blocks of the ledger before anybody pays.
pub(super) const BLOCKS: u64 = 100_000;
/// How often an epoch begins while the abort deadline is awaited.
const EPOCH_SOON: Duration = Duration::from_secs(1);
/// Epochs from now to the abort deadline.
const ABORT_EPOCHS: u64 = 400;
/// The same where somebody is absent, so that the deadline comes soon.
const ABORT_EPOCHS_ABSENT: u64 = 25;

/// Where a demonstration lets something fail, before the point of no return.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Failing {
    /// The agent of one operator is absent from then on.
    Equip,
    /// As above.
    Muster,
    /// As above.
    Fence,
    /// As above.
    Freeze,
    /// As above.
    Halt,
    /// The tool of one node says that data is damaged.
    Snapshot,
    /// As above.
    Migrate,
    /// The agent of one operator is absent from then on.
    Deploy,
    /// As above.
    Launch,
    /// As above.
    Join,
    /// The tests of one node fail.
    Exercise,
    /// The agent of one operator is absent from then on.
    Commit,
}

impl Failing {
    fn action(self) -> &'static str {
        match self {
            Self::Equip => "equip",
            Self::Muster => "muster",
            Self::Fence => "fence",
            Self::Freeze => "freeze",
            Self::Halt => "halt",
            Self::Snapshot => "snapshot",
            Self::Migrate => "migrate",
            Self::Deploy => "deploy",
            Self::Launch => "launch",
            Self::Join => "join",
            Self::Exercise => "exercise",
            Self::Commit => "commit",
        }
    }

    /// Whether the host's tool fails; otherwise somebody is absent.
    fn is_of_tool(self) -> bool {
        matches!(self, Self::Snapshot | Self::Migrate | Self::Exercise)
    }
}

/// What to play.
#[derive(Clone, Copy, Debug)]
pub(super) struct Play {
    pub(super) kill: bool,
    pub(super) failing: Option<Failing>,
    pub(super) blocks: u64,
    pub(super) rehearse: bool,
}

/// A network with its service, before the event.
struct Stage {
    lab: SharedLab,
    network: Network,
    keeper: Code,
    old: Code,
    new: Code,
}

/// Plays the demo, and returns its summary.
pub(super) fn play(lab: &SharedLab, play: Play) -> Result<Value> {
    say(&format!(
        "\n1. Found a network: {} operators, each with a host of its own, keeper and agent.",
        lab.nodes.len()
    ));
    let stage = set_up(lab, play.blocks)?;

    say("\n3. Clients pay all the time: to themselves and to others, in the open and privately.");
    let payers = Payers::start(lab)?;
    payers.await_some(20)?;

    say("\n4. Publish ledger-2.0.0 and the policy that names it; propose a flag day.");
    let plan = stage.propose(play)?;
    let begun = Instant::now();
    let chaos =
        if play.kill { Some(Chaos::start(Arc::clone(lab), Pace::Slow, |_| Ok(()))?) } else { None };
    let trouble = lab.etcd().map(|cluster| Trouble::start(cluster, say)).transpose()?;
    let status = stage.await_end(&plan, play.failing)?;
    let trouble = trouble.map(Trouble::finish).transpose()?;
    let wall_seconds = begun.elapsed().as_secs_f64();
    let kills = chaos.map(Chaos::finish).transpose()?;

    say("\n6. Everybody pays again; then every payment is looked for in every ledger.");
    let rolled_back = status == "rolled back";
    stage.lab.await_mesh(if rolled_back { &stage.old } else { &stage.new })?;
    payers.await_more(20)?;
    let paid = payers.finish()?;
    let report = lab.operate(&["upgrade", "report", "--plan", &plan])?;
    let floor = figures::floor(lab, &stage.new)?;
    let mut summary = summarize(lab, &stage, (&paid, &report, &floor), (rolled_back, wall_seconds));
    if let (Some((kills, partitions)), Some(fields)) = (trouble, summary.as_object_mut()) {
        fields.insert("etcd_members_killed".to_owned(), kills.into());
        fields.insert("etcd_partitions".to_owned(), partitions.into());
    }
    explain(&summary, kills);
    judge(&summary, play)?;
    Ok(summary)
}

/// A network that serves with the old code, and where nothing is planned.
fn set_up(lab: &SharedLab, blocks: u64) -> Result<Stage> {
    let mut network = lab.found(Shape::REPLICATED)?;
    let keeper = lab.sign_bundle("keeper-1.0.0", "heirloom-keeper", &network.domain)?;
    let old = lab.sign_service("ledger-1.0.0", &network)?;
    network.services.push(old.clone());
    lab.publish_first(&network, &keeper)?;
    lab.publish_release(&old)?;
    say(&format!("\n2. A ledger of {blocks} blocks for each node; proxies; agents; genesis."));
    lab.install_tools()?;
    lab.prepare_ledgers(blocks)?;
    lab.start_proxies()?;
    lab.start_agents(&keeper, Some(&old))?;
    lab.order_generation(Shape::REPLICATED, 0)?;
    lab.order_generation(Shape::REPLICATED, 1)?;
    lab.await_mesh(&old)?;
    let new = lab.sign_service("ledger-2.0.0", &network)?;
    ensure!(old.measurement != new.measurement, "both releases have the same measurement");
    Ok(Stage { lab: Arc::clone(lab), network, keeper, old, new })
}

impl Stage {
    /// Publishes what the event needs, plans, and lets operators approve.
    fn propose(&self, play: Play) -> Result<String> {
        let Self { lab, network, keeper, old, new } = self;
        lab.publish_release(new)?;
        let mut network = network.clone();
        network.services = vec![old.clone(), new.clone()];
        lab.publish_policy(&network, 2, &[keeper], &[], None)?;
        let configuration = lab.configuration_digest()?;
        write(&lab.path("terms.toml"), &terms(&configuration))?;
        let epochs = if play.failing.is_some() { ABORT_EPOCHS_ABSENT } else { ABORT_EPOCHS };
        let abort_after = format!("+{epochs}");
        let rehearsals = if play.rehearse { "1" } else { "0" };
        let started = lab.operate(&[
            "upgrade",
            "start",
            "--strategy",
            "flag-day",
            "--terms",
            "terms.toml",
            "--opens",
            "+1",
            "--abort-after",
            &abort_after,
            "--rehearsals",
            rehearsals,
            "--key",
            "net/keys/operator-1.key",
            "--out",
            "plan",
        ])?;
        let plan = text(&started, "/plan")?.to_owned();
        for line in lab.show(&["plan", "show", "plan", "--network", "net/network.toml"])?.lines() {
            say(&format!("   {line}"));
        }
        if let Some(failing) = play.failing.filter(|failing| failing.is_of_tool()) {
            let last = lab.nodes.last().context("a fleet has nodes")?;
            lab.install_tool(last, Some(ToolFault::Corrupt(failing.action())))?;
        }
        if play.failing == Some(Failing::Deploy) {
            // Somebody is late with the step before, so that the others are seen waiting for it.
            let first = lab.nodes.first().context("a fleet has nodes")?;
            lab.install_tool(first, Some(ToolFault::Slow(Failing::Migrate.action())))?;
        }
        say("\n5. Two operators approve. Nobody commands: each agent does its own node's steps.");
        for operator in ["net/keys/operator-2.key", "net/keys/operator-3.key"] {
            lab.operate(&["plan", "approve", "--plan", &plan, "--key", operator])?;
        }
        Ok(plan)
    }

    /// Lets epochs pass until the plan is over, and lets somebody be absent.
    fn await_end(&self, plan: &str, failing: Option<Failing>) -> Result<String> {
        let lab = &self.lab;
        let last = lab.nodes.last().context("a fleet has nodes")?;
        let absent_at = failing.filter(|it| !it.is_of_tool()).map(Failing::action);
        let mut absence = Absence { at: absent_at, gone: false, back: false };
        let deadline = Instant::now() + UPGRADE_TIMEOUT;
        let (mut epoch, mut shown) = (Instant::now(), String::new());
        loop {
            ensure!(Instant::now() < deadline, "the event was not over in {UPGRADE_TIMEOUT:?}");
            let every = if failing.is_some() { EPOCH_SOON } else { EPOCH_EVERY };
            if epoch.elapsed() > every {
                epoch = Instant::now();
                // With the registry killed, the epoch comes a little later.
                let _advanced = lab.advance_epoch();
            }
            if let Ok(status) = lab.operate(&["upgrade", "status", "--plan", plan]) {
                let line = progress(&status);
                if line != shown {
                    say(&format!("   {line}"));
                    shown = line;
                }
                absence.follow(lab, last, &status)?;
                let state = status.get("status").and_then(Value::as_str).unwrap_or_default();
                if matches!(state, "finished" | "rolled back") {
                    absence.end(lab, last)?;
                    return Ok(state.to_owned());
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// An operator whose agent is away for a while.
struct Absence {
    at: Option<&'static str>,
    gone: bool,
    back: bool,
}

impl Absence {
    /// Leaves when the node's next step is the one, and comes back when the plan is called off.
    fn follow(&mut self, lab: &Lab, node: &crate::lab::Node, status: &Value) -> Result<()> {
        let Some(at) = self.at else { return Ok(()) };
        let next = status.get("next").and_then(Value::as_array);
        let is_next = |it: &Value| {
            let is = |name: &str, text: &str| it.get(name).and_then(Value::as_str) == Some(text);
            // Commit is one node's step: there whoever has it is away.
            is("action", at) && (is("node", &node.name) || at == "commit")
        };
        if !self.gone && next.into_iter().flatten().any(is_next) {
            say(&format!("   the operator of {} is absent from `{at}` on", node.name));
            self.gone = true;
            if at == "commit" {
                for other in &lab.nodes {
                    lab.kill(&format!("agent-{}", other.name))?;
                }
            } else {
                lab.kill(&format!("agent-{}", node.name))?;
            }
        }
        let state = status.get("status").and_then(Value::as_str);
        if state == Some("rolling back") {
            self.end(lab, node)?;
        }
        Ok(())
    }

    /// Whoever is away comes back.
    fn end(&mut self, lab: &Lab, node: &crate::lab::Node) -> Result<()> {
        if !self.gone || self.back {
            return Ok(());
        }
        say(&format!("   called off by its deadline; the operator of {} is back", node.name));
        self.back = true;
        let everybody = self.at == Some("commit");
        let away = lab.nodes.iter().filter(|it| everybody || it.name == node.name);
        away.into_iter().try_for_each(|node| lab.start_agent(node))
    }
}

/// What the operators agree on.
fn terms(configuration: &str) -> String {
    format!(
        "application = \"ledger\"\nfrom = \"ledger-1.0.0\"\nto = \"ledger-2.0.0\"\n\
         program = \"binary\"\nconfiguration_from = \"{configuration}\"\n\
         configuration_to = \"{configuration}\"\nschema_from = 2\nschema_to = 3\n\
         migrations = [\"height-of-transaction\"]\n\
         tests = [\"self-public\", \"self-private\", \"cross-public\", \"cross-private\", \
         \"double-spend-refused\", \"expired-tombstone-refused\", \"old-output-spendable\"]\n\
         quiet_ms = 500\nwatch_ms = 2000\nerrors_max = 0\nclients_min = 1\n\
         [[key]]\nkey = \"instance\"\ncustody = \"per-boot\"\n\
         [[key]]\nkey = \"view\"\ncustody = \"keyring\"\n"
    )
}

fn summarize(
    lab: &Lab,
    stage: &Stage,
    (paid, report, floor): (&Value, &Value, &figures::Floor),
    (rolled_back, wall_seconds): (bool, f64),
) -> Value {
    let rounded = |number: f64| (number * 1_000.0).round() / 1_000.0;
    let of = |name: &str| paid.get(name).cloned().unwrap_or(Value::Null);
    let window = paid.get("closed_window_ms").and_then(Value::as_f64);
    let tips: Vec<&Value> =
        paid.get("tips").and_then(Value::as_array).into_iter().flatten().collect();
    let tips_equal = tips.windows(2).all(|pair| pair.first() == pair.last());
    json!({
        "strategy": "flag-day",
        "nodes": lab.nodes.len(),
        "from": stage.old.measurement,
        "to": stage.new.measurement,
        "payments_accepted": of("payments_accepted"),
        "payments_lost": of("payments_lost"),
        "payments_doubled": of("payments_doubled"),
        "refused_while_closed": of("refused_while_closed"),
        "closed_window_ms": of("closed_window_ms"),
        "floor_ms": rounded(floor.total()),
        "floor": floor.json(),
        "closed_window_in_floors": window.map(|window| rounded(window / floor.total())),
        "peer_matrix_ok": report.get("peer_matrix_ok"),
        "tips_equal": tips_equal && tips.len() == lab.nodes.len(),
        "rolled_back": rolled_back,
        "called_off_for": report.get("called_off_for"),
        "wall_seconds": rounded(wall_seconds),
    })
}

fn explain(summary: &Value, kills: Option<u32>) {
    explain_fields(
        summary,
        &[
            ("old code", "from"),
            ("new code", "to"),
            ("payments accepted", "payments_accepted"),
            ("of which lost", "payments_lost"),
            ("paid twice", "payments_doubled"),
            ("turned away while closed", "refused_while_closed"),
            ("milliseconds closed", "closed_window_ms"),
            ("milliseconds that it takes at least", "floor_ms"),
            ("every node attested every other", "peer_matrix_ok"),
            ("all ledgers end alike", "tips_equal"),
            ("rolled back", "rolled_back"),
            ("called off for", "called_off_for"),
            ("seconds from plan to end", "wall_seconds"),
        ],
        (0, kills),
    );
}

/// The demo fails if it cannot claim what it is there to show.
fn judge(summary: &Value, play: Play) -> Result<()> {
    let number = |name: &str| summary.get(name).and_then(Value::as_u64);
    let is = |name: &str, value: bool| summary.get(name) == Some(&Value::Bool(value));
    ensure!(number("payments_accepted") > Some(0), "nobody paid anything");
    ensure!(number("payments_lost") == Some(0), "payments were lost");
    ensure!(number("payments_doubled") == Some(0), "payments were made twice");
    ensure!(is("tips_equal", true), "the ledgers do not end alike");
    match play.failing {
        Some(failing) => {
            ensure!(is("rolled_back", true), "failing {} was not rolled back", failing.action());
        }
        // Random kills may last until the deadline; then everything is as it was.
        None if play.kill => {}
        None => {
            ensure!(is("rolled_back", false), "the flag day was rolled back");
            ensure!(is("peer_matrix_ok", true), "somebody does not see a peer");
        }
    }
    Ok(())
}
