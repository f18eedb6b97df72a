//! A service moves to other code on all nodes at once, while the agent of one node is killed: once
//! to the end, and once back because the tool of another node says that data is damaged.
//!
//! Meanwhile nobody pays. A few payments before make a ledger whose blocks must all be there
//! afterwards, on every node; a few payments after show that the service serves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::events::{Progress, Source};
use super::phase::{KILLS_MAX, OPERATORS, SERVING_TIMEOUT, Victim};
use super::table::{Coverage, Outcome, Table};
use crate::lab::network::{Code, Shape};
use crate::lab::service::{PROGRAM, ToolFault};
use crate::lab::{SharedLab, get, text, until, write};

/// Nodes of the network.
pub(crate) const NODES: usize = 3;
/// Blocks of the ledger before anybody pays.
const BLOCKS: u64 = 200;
/// How long one event may take, with all kills.
const EVENT_TIMEOUT: Duration = Duration::from_mins(6);
/// How often an epoch begins.
const EPOCH_EVERY: Duration = Duration::from_secs(3);
/// Payments before and after an event.
const PAYMENTS: &str = "6";

/// One phase.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// The data of the last node is damaged; the agent of the first is killed.
    Back,
    /// To the end; the agent of the second node is killed.
    Forward,
}

/// The network between events.
pub(crate) struct Stage {
    lab: SharedLab,
    old: Code,
    new: Code,
    events: u32,
}

/// What every node had before an event.
struct Before {
    height: u64,
    block: String,
}

/// What is wrong after an event.
struct Wrong {
    outcome: Outcome,
    why: anyhow::Error,
}

impl Event {
    /// In order: what comes back leaves the old code for the next.
    pub(crate) const ALL: [Self; 2] = [Self::Back, Self::Forward];

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Back => "flag-day-back",
            Self::Forward => "flag-day",
        }
    }

    fn victim(self) -> Victim {
        match self {
            Self::Back => Victim::Agent(0),
            Self::Forward => Victim::Agent(1),
        }
    }

    /// Plays the event.
    pub(crate) fn run(self, stage: &mut Stage, table: &mut Table) -> Result<()> {
        let source = self.victim().source(self.title(), &stage.lab);
        let done = self.play(stage, &source);
        let mut rows = source.rows_at_the_end(done.is_ok());
        let (operations, struck) = source.coverage();
        table.cover(vec![Coverage {
            phase: self.title(),
            process: format!("{} of {}", source.role, source.node),
            operations,
            struck,
        }]);
        if let Err(Wrong { outcome, .. }) = &done
            && *outcome > Outcome::Stuck
        {
            for row in &mut rows {
                row.outcome = *outcome;
            }
        }
        super::say(&format!("   {} kills at {struck} of {operations} operations", rows.len()));
        table.add(rows);
        done.map_err(|wrong| wrong.why)
    }

    fn play(self, stage: &mut Stage, source: &Source) -> Result<(), Wrong> {
        stage.pay()?;
        let before = stage.anchor()?;
        let lab = SharedLab::clone(&stage.lab);
        self.victim().put_under(source, &lab);
        let progress = Progress::show(vec![source.clone()], super::say)?;
        let done = self.act(stage).and_then(|status| {
            until("the agent that was killed", SERVING_TIMEOUT, || source.is_back())?;
            Ok(status)
        });
        progress.finish();
        self.victim().leave_alone(&lab)?;
        let status = done?;
        super::say(&format!("   the event has {status}"));
        let code = if status == "finished" { &stage.new } else { &stage.old };
        lab.await_mesh(code)?;
        if source.is_exhausted() {
            let why = anyhow::anyhow!("there were more operations than {KILLS_MAX} kills");
            return Err(why.into());
        }
        if self == Self::Back && status != "rolled back" {
            return Err(anyhow::anyhow!("damaged data did not call the event off").into());
        }
        stage.compare(&before)?;
        stage.pay()
    }

    fn act(self, stage: &mut Stage) -> Result<String> {
        let lab = SharedLab::clone(&stage.lab);
        self.victim().restart(&lab)?;
        lab.await_mesh(&stage.old)?;
        let last = lab.nodes.last().context("a fleet has nodes")?;
        if self == Self::Back {
            lab.install_tool(last, Some(ToolFault::Corrupt("migrate")))?;
        }
        let plan = stage.propose()?;
        let status = stage.await_end(&plan);
        lab.install_tool(last, None)?;
        status
    }
}

impl From<anyhow::Error> for Wrong {
    fn from(why: anyhow::Error) -> Self {
        Self { outcome: Outcome::Stuck, why }
    }
}

impl Stage {
    /// A network that serves with the old code, in which the new one is published.
    pub(crate) fn found(lab: &SharedLab) -> Result<Self> {
        super::say(&format!("Founding a network of {NODES} hosts with a service."));
        let mut network = lab.found(Shape::REPLICATED)?;
        let keeper = lab.sign_bundle("keeper-1.0.0", "heirloom-keeper", &network.domain)?;
        let old = lab.sign_service("ledger-1.0.0", &network)?;
        network.services.push(old.clone());
        lab.publish_first(&network, &keeper)?;
        lab.publish_release(&old)?;
        lab.install_tools()?;
        lab.prepare_ledgers(BLOCKS)?;
        lab.start_proxies()?;
        lab.start_agents(&keeper, Some(&old))?;
        lab.order_generation(Shape::REPLICATED, 0)?;
        lab.order_generation(Shape::REPLICATED, 1)?;
        lab.await_mesh(&old)?;
        let new = lab.sign_service("ledger-2.0.0", &network)?;
        lab.publish_release(&new)?;
        network.services.push(new.clone());
        lab.publish_policy(&network, 2, &[&keeper], &[], None)?;
        write(&lab.path("terms.toml"), &terms(&lab.configuration_digest()?))?;
        Ok(Self { lab: SharedLab::clone(lab), old, new, events: 0 })
    }

    /// Plans an event, and lets two operators approve it.
    fn propose(&mut self) -> Result<String> {
        self.events += 1;
        let out = format!("plan-{}", self.events);
        let words = ["upgrade", "start", "--strategy", "flag-day", "--terms", "terms.toml"];
        let times = ["--opens", "+1", "--abort-after", "+400", "--rehearsals", "0"];
        let [first, others @ ..] = OPERATORS;
        let rest = ["--key", first, "--out", &out];
        let started = self.lab.operate(&[&words[..], &times, &rest].concat())?;
        let plan = text(&started, "/plan")?.to_owned();
        for operator in others {
            self.lab.operate(&["plan", "approve", "--plan", &plan, "--key", operator])?;
        }
        Ok(plan)
    }

    /// Lets epochs pass until the event is over. Returns how it ended.
    fn await_end(&self, plan: &str) -> Result<String> {
        let (mut epoch, mut last) = (Instant::now(), String::new());
        let mut end = None;
        let waited = until("the end of the event", EVENT_TIMEOUT, || {
            if epoch.elapsed() > EPOCH_EVERY {
                epoch = Instant::now();
                // Somebody else appended at the same moment: the next epoch comes soon.
                let _advanced = self.lab.advance_epoch();
            }
            let Ok(status) = self.lab.operate(&["upgrade", "status", "--plan", plan]) else {
                return false;
            };
            let state = status.get("status").and_then(Value::as_str).unwrap_or_default();
            end = ["finished", "rolled back"].into_iter().find(|it| *it == state);
            last = status.to_string();
            end.is_some()
        });
        waited.with_context(|| format!("the plan's last status: {last}"))?;
        Ok(end.context("it was waited for")?.to_owned())
    }

    /// A few payments through every node. All are found in every ledger, once.
    fn pay(&self) -> Result<(), Wrong> {
        let lab = &self.lab;
        let mut words: Vec<String> =
            ["load", "--wallets", "ledger/wallets", "--report", "payments.json"]
                .map(str::to_owned)
                .to_vec();
        words.extend(["--payments", PAYMENTS].map(str::to_owned));
        for node in &lab.nodes {
            let edge = format!("http://127.0.0.1:{}", node.service.edge);
            words.extend(["--edge".to_owned(), edge]);
        }
        let mut command = lab.program(PROGRAM);
        let output = command.args(&words).output().context("nobody can pay")?;
        let said = std::fs::read(lab.path("payments.json")).unwrap_or_default();
        let report: Value = serde_json::from_slice(&said).unwrap_or_default();
        let number = |name: &str| report.get(name).and_then(Value::as_u64);
        let shown = || anyhow::anyhow!("{report} {}", String::from_utf8_lossy(&output.stderr));
        let wrong = |outcome, what| Wrong { outcome, why: shown().context(what) };
        if number("payments_doubled").is_some_and(|doubled| doubled > 0) {
            return Err(wrong(Outcome::Doubled, "a payment was made twice"));
        }
        if number("payments_lost").is_some_and(|lost| lost > 0) {
            return Err(wrong(Outcome::Lost, "a payment was lost"));
        }
        let tips = report.get("tips").and_then(Value::as_array);
        let mut pairs = tips.into_iter().flat_map(|tips| tips.windows(2));
        if pairs.any(|pair| pair.first() != pair.last()) {
            return Err(wrong(Outcome::Forked, "the ledgers do not end alike"));
        }
        if output.status.success() && number("payments_accepted") > Some(0) {
            return Ok(());
        }
        Err(wrong(Outcome::Stuck, "nobody can pay"))
    }

    /// The last block that every node has: it names all before it.
    fn anchor(&self) -> Result<Before> {
        let mut height = u64::MAX;
        for node in &self.lab.nodes {
            let tip: Value = serde_json::from_str(&get(node.service.edge, "/v1/tip")?)?;
            let own = tip.pointer("/height").or_else(|| tip.pointer("/tip/height"));
            height = height.min(own.and_then(Value::as_u64).context("no tip")?);
        }
        let first = self.lab.nodes.first().context("a fleet has nodes")?;
        let block = get(first.service.edge, &format!("/v1/blocks/{height}"))?;
        Ok(Before { height, block })
    }

    /// Every block that there was is there, on every node.
    fn compare(&self, before: &Before) -> Result<(), Wrong> {
        for node in &self.lab.nodes {
            let path = format!("/v1/blocks/{}", before.height);
            let now = get(node.service.edge, &path)?;
            if now != before.block {
                let why = anyhow::anyhow!("block {} of {} is another", before.height, node.name);
                return Err(Wrong { outcome: Outcome::Forked, why });
            }
        }
        Ok(())
    }
}

/// What the operators agree on.
fn terms(configuration: &str) -> String {
    format!(
        "application = \"ledger\"\nfrom = \"ledger-1.0.0\"\nto = \"ledger-2.0.0\"\n\
         program = \"binary\"\nconfiguration_from = \"{configuration}\"\n\
         configuration_to = \"{configuration}\"\nschema_from = 2\nschema_to = 3\n\
         migrations = [\"height-of-transaction\"]\n\
         tests = [\"self-public\", \"old-output-spendable\"]\n\
         quiet_ms = 200\nwatch_ms = 500\nerrors_max = 0\nclients_min = 1\n\
         [[key]]\nkey = \"instance\"\ncustody = \"per-boot\"\n\
         [[key]]\nkey = \"view\"\ncustody = \"keyring\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worse_than_being_stuck_is_told_of_every_kill() {
        for worse in [Outcome::Lost, Outcome::Forked, Outcome::Doubled] {
            assert!(worse > Outcome::Stuck);
        }
        assert_eq!(Event::ALL.map(Event::title), ["flag-day-back", "flag-day"]);
    }
}
