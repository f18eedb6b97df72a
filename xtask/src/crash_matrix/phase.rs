//! What happens to the fleet while processes are killed: each phase with two of them under the
//! supervisor, the others running as always.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::events::{Progress, Source};
use super::table::{Outcome, Row};
use crate::demo::clients::{self, Digests};
use crate::demo::rolling;
use crate::lab::chaos::keeper_process;
use crate::lab::network::{Code, Network, Shape};
use crate::lab::watch::status;
use crate::lab::{self, Lab, Node, SharedLab, text, until};

/// The most kills of one process in one phase. A phase has some forty steps and each step some
/// ten operations; a process that needs more kills than this comes back to the same operations
/// under ever new names, and would never come to an end.
pub(super) const KILLS_MAX: u32 = 400;
/// How long one phase may take, with a hundred kills in it.
const PHASE_TIMEOUT: Duration = Duration::from_secs(150);
/// How often an epoch begins.
const EPOCH_EVERY: Duration = Duration::from_secs(5);
/// How long a keeper may take to notice that its platform is gone.
const KEEPER_ENDS: Duration = Duration::from_secs(10);
/// How long a fleet may take until everybody serves again.
pub(super) const SERVING_TIMEOUT: Duration = Duration::from_mins(1);

/// One phase.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Genesis and a rotation.
    FirstKeys,
    /// A host loses its platform daemon: its power, as far as the keeper sees.
    Power,
    /// An upgrade, with kills in its first wave.
    FirstWave,
    /// An upgrade, with kills in its second wave.
    SecondWave,
    /// An upgrade that is called off after its first wave has begun, with kills on the way back.
    WayBack,
    /// Genesis and a rotation of an exclusive domain.
    OneHolder,
    /// A handover, with kills of the agent.
    HandoverAgent,
    /// A handover, with kills of the old keeper, the upgrader and the new keeper.
    HandoverKeepers,
    /// A handover that is called off when the new keeper runs, with kills of the agent.
    CalledOffAgent,
    /// The same, with kills of the keepers.
    CalledOffKeepers,
    /// A handover to the code from which the last one came, with kills of the keepers.
    BackAgain,
    /// Everything is sealed again after a microcode update.
    Reseal,
    /// The same code takes over on another host.
    Move,
}

/// A process that is killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Victim {
    Agent(usize),
    Keeper(usize),
}

/// The fleet between phases.
pub(crate) struct Fleet {
    lab: SharedLab,
    network: Network,
    /// The code that everybody runs.
    code: Code,
    releases: u64,
    policies: u64,
    shape: Shape,
    /// The code before that.
    before: Option<Code>,
    /// Measurements of what carried the keyring.
    upgraders: Vec<String>,
    /// What an application got in the beginning.
    keys: Option<Digests>,
}

impl Phase {
    /// In order.
    pub(crate) const ROLLING: &[Self] =
        &[Self::FirstKeys, Self::Power, Self::FirstWave, Self::SecondWave, Self::WayBack];
    /// On one host, in order.
    pub(crate) const HANDOVER: &[Self] = &[
        Self::OneHolder,
        Self::HandoverAgent,
        Self::HandoverKeepers,
        Self::CalledOffAgent,
        Self::CalledOffKeepers,
        Self::BackAgain,
        Self::Reseal,
    ];
    /// On two hosts, in order.
    pub(crate) const MOVE: &[Self] = &[Self::OneHolder, Self::Move];

    /// Whether the phase makes the keys that later ones need.
    pub(crate) fn makes_keys(self) -> bool {
        matches!(self, Self::FirstKeys | Self::OneHolder)
    }

    /// Whether the phase is played with an exclusive domain, while an application asks.
    fn is_handover(self) -> bool {
        let exclusive = [Self::HANDOVER, Self::MOVE].concat();
        exclusive.contains(&self) && !self.makes_keys()
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::FirstKeys => "first keys",
            Self::Power => "power",
            Self::FirstWave => "first wave",
            Self::SecondWave => "second wave",
            Self::WayBack => "way back",
            Self::OneHolder => "one holder",
            Self::HandoverAgent => "handover, agent",
            Self::HandoverKeepers => "handover",
            Self::CalledOffAgent => "called off, agent",
            Self::CalledOffKeepers => "called off",
            Self::BackAgain => "handover back",
            Self::Reseal => "reseal",
            Self::Move => "move",
        }
    }

    /// Who is killed: nodes 0 and 1 change in the first wave, 2 and 3 in the second.
    fn victims(self) -> &'static [Victim] {
        match self {
            // The creator, one that receives, and an agent from its first start on.
            Self::FirstKeys => &[Victim::Keeper(0), Victim::Keeper(1), Victim::Agent(2)],
            Self::Power => &[],
            Self::FirstWave | Self::Move => &[Victim::Agent(0), Victim::Keeper(1)],
            Self::SecondWave => &[Victim::Keeper(2), Victim::Agent(3)],
            Self::WayBack => &[Victim::Keeper(0), Victim::Agent(1)],
            Self::OneHolder | Self::Reseal => &[Victim::Keeper(0), Victim::Agent(0)],
            Self::HandoverAgent | Self::CalledOffAgent => &[Victim::Agent(0)],
            Self::HandoverKeepers | Self::CalledOffKeepers | Self::BackAgain => {
                &[Victim::Keeper(0)]
            }
        }
    }

    /// Plays the phase. Returns what came of each kill, also if the phase did not end.
    pub(crate) fn run(self, fleet: &mut Fleet) -> (Vec<Row>, Result<()>) {
        let sources: Vec<Source> =
            self.victims().iter().map(|victim| victim.source(self.title(), &fleet.lab)).collect();
        let done = self.play(fleet, &sources);
        let mut rows: Vec<Row> = Vec::new();
        for source in &sources {
            rows.extend(source.rows_at_the_end(done.is_ok()));
        }
        if self == Self::Power {
            let outcome = if done.is_ok() { Outcome::Serving } else { Outcome::Stuck };
            rows.extend(fleet.lab.nodes.iter().map(|node| power_row(node, outcome)));
        }
        if let Err(error) = done {
            return (rows, Err(error));
        }
        if self.is_handover() {
            match clients::read(&fleet.lab) {
                Ok(clients) if clients.most_at_once() == 1 => {}
                Ok(clients) => {
                    for row in &mut rows {
                        row.outcome = Outcome::Double;
                    }
                    let most = clients.most_at_once();
                    return (rows, Err(anyhow!("{most} instances answered at the same time")));
                }
                Err(error) => return (rows, Err(error)),
            }
        }
        match fleet.keys_are_kept() {
            Ok(true) => (rows, Ok(())),
            Ok(false) => {
                for row in &mut rows {
                    row.outcome = Outcome::Lost;
                }
                (rows, Err(anyhow!("a key is not what it was")))
            }
            Err(error) => {
                if let Some(last) = rows.last_mut() {
                    last.outcome = Outcome::Stuck;
                }
                (rows, Err(error))
            }
        }
    }

    fn play(self, fleet: &mut Fleet, sources: &[Source]) -> Result<()> {
        let lab = SharedLab::clone(&fleet.lab);
        for (victim, source) in self.victims().iter().zip(sources) {
            victim.put_under(source, &lab);
        }
        let progress = Progress::show(sources.to_vec(), super::say)?;
        // A process that was killed by its last operation of the phase comes back in it.
        let back = || sources.iter().all(Source::is_back);
        let done = self
            .act(fleet)
            .and_then(|()| until("everybody who was killed", SERVING_TIMEOUT, back))
            .and_then(|()| fleet.everybody_serves());
        progress.finish();
        if self.is_handover() {
            clients::finish_clients(&lab)?;
        }
        let alone = self.victims().iter().try_for_each(|victim| victim.leave_alone(&lab));
        done.and(alone)?;
        ensure!(
            !sources.iter().any(Source::is_exhausted),
            "there were more operations than {KILLS_MAX} kills"
        );
        fleet.everybody_serves()
    }

    fn act(self, fleet: &mut Fleet) -> Result<()> {
        let lab = SharedLab::clone(&fleet.lab);
        if self.makes_keys() {
            for victim in self.victims() {
                if let Victim::Keeper(_) = victim {
                    restart_platform(&lab, victim.node(&lab))?;
                }
            }
            lab.start_agents(&fleet.code, None)?;
            lab.order_generation(fleet.shape, 0)?;
            return lab.order_generation(fleet.shape, 1);
        }
        if self == Self::Power {
            return lab.nodes.iter().try_for_each(|node| lose_power(&lab, node));
        }
        if self == Self::Reseal {
            lab.nodes.iter().try_for_each(|node| update_microcode(&lab, node))?;
        }
        for victim in self.victims() {
            victim.restart(&lab)?;
        }
        fleet.everybody_serves()?;
        if self.is_handover() {
            let _absent = std::fs::remove_file(lab.path("end"));
            clients::start_clients(&lab, 1)?;
        }
        if matches!(self, Self::BackAgain | Self::Reseal | Self::Move) {
            return self.act_on_the_host(fleet);
        }
        let new = fleet.next_release()?;
        let plan =
            if self.is_handover() { fleet.propose_handover(&new)? } else { fleet.propose(&new)? };
        if matches!(self, Self::WayBack | Self::CalledOffAgent | Self::CalledOffKeepers) {
            if self == Self::WayBack {
                fleet.await_begun(&plan)?;
            } else {
                fleet.await_new_keeper(&plan, &new)?;
            }
            lab.operate(&["upgrade", "abort", "--plan", &plan, "--key", OPERATORS[0]])?;
            fleet.await_status(&plan, "rolled back")
        } else {
            fleet.await_status(&plan, "finished")?;
            fleet.before = Some(std::mem::replace(&mut fleet.code, new));
            Ok(())
        }
    }

    /// A plan that ends with the code that was there, or that was there before.
    fn act_on_the_host(self, fleet: &mut Fleet) -> Result<()> {
        let lab = SharedLab::clone(&fleet.lab);
        let (plan, code) = match self {
            Self::BackAgain => {
                let before = fleet.before.clone().context("there was other code before")?;
                (fleet.propose_handover(&before)?, before)
            }
            Self::Reseal => {
                (fleet.start(&["host", "reseal", "--node", "node-1"])?, fleet.code.clone())
            }
            _ => {
                let words = ["host", "move", "--from", "node-1", "--to", "node-2"];
                (fleet.start(&words)?, fleet.code.clone())
            }
        };
        fleet.await_status(&plan, "finished")?;
        if self == Self::Reseal {
            let node = lab.nodes.first().context("there is one node")?;
            until("everything sealed anew", SERVING_TIMEOUT, || {
                status(node).is_ok_and(|status| status.is_sealed_anew())
            })?;
        }
        fleet.before = Some(std::mem::replace(&mut fleet.code, code));
        Ok(())
    }
}

/// What an operator does when a machine got new microcode. It counts when the machine starts again.
fn update_microcode(lab: &Lab, node: &Node) -> Result<()> {
    let state = format!("{}/platform", node.name);
    lab.platformd(&["update-microcode", "--state", &state])?;
    lab.platformd(&["certify", "--root-dir", "manufacturer", "--state", &state])?;
    Ok(())
}

/// A host that lost its platform while its keeper served.
fn power_row(node: &Node, outcome: Outcome) -> Row {
    Row {
        phase: Phase::Power.title(),
        process: format!("platform of {}", node.name),
        operation: "serve".to_owned(),
        file: "-".to_owned(),
        stage: "-".to_owned(),
        when: "in it".to_owned(),
        outcome,
    }
}

pub(super) const OPERATORS: [&str; 3] =
    ["net/keys/operator-1.key", "net/keys/operator-2.key", "net/keys/operator-3.key"];

impl Victim {
    fn index(self) -> usize {
        match self {
            Self::Agent(index) | Self::Keeper(index) => index,
        }
    }

    fn node(self, lab: &Lab) -> &Node {
        lab.nodes.get(self.index()).expect("phases name nodes that the lab has")
    }

    fn role(self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Keeper(_) => "keeper",
        }
    }

    /// The server that the supervisor runs: a keeper is launched by its platform.
    fn server(self, lab: &Lab) -> String {
        let name = &self.node(lab).name;
        match self {
            Self::Agent(_) => format!("agent-{name}"),
            Self::Keeper(_) => format!("platform-{name}"),
        }
    }

    pub(super) fn source(self, phase: &'static str, lab: &Lab) -> Source {
        let node = self.node(lab).name.clone();
        let role = self.role();
        let file = format!("{}-{role}-{node}.events", phase.replace(' ', "-"));
        Source { phase, role, node, file: lab.path(&file) }
    }

    /// From its next start on it is under the supervisor.
    pub(super) fn put_under(self, source: &Source, lab: &Lab) {
        let path = |path: PathBuf| path.display().to_string();
        let data = format!("{}/data", source.node);
        let words = [
            "run".to_owned(),
            "--role".to_owned(),
            self.role().to_owned(),
            "--within".to_owned(),
            path(lab.path(&data)),
            "--journal".to_owned(),
            path(lab.path(&format!("{data}/journal"))),
            "--log".to_owned(),
            path(source.file.clone()),
            "--kills-max".to_owned(),
            KILLS_MAX.to_string(),
        ];
        lab.supervise(&self.server(lab), words.to_vec());
    }

    /// Starts the server again, which puts it under the supervisor or takes it away from it.
    pub(super) fn restart(self, lab: &Lab) -> Result<()> {
        let node = self.node(lab);
        match self {
            Self::Agent(_) => {
                lab.kill(&self.server(lab))?;
                let gone = || lab::get(node.agent_port, "/v1/status").is_err();
                until("the end of an agent", SERVING_TIMEOUT, gone)?;
                lab.start_agent(node)
            }
            Self::Keeper(_) => restart_platform(lab, node),
        }
    }

    pub(super) fn leave_alone(self, lab: &Lab) -> Result<()> {
        lab.leave_alone(&self.server(lab));
        self.restart(lab)
    }
}

fn restart_platform(lab: &Lab, node: &Node) -> Result<()> {
    lab.kill(&format!("platform-{}", node.name))?;
    // What a supervisor runs ends with it, but a moment later.
    let gone = || UnixStream::connect(lab.path(&node.socket())).is_err();
    until("the end of a platform", SERVING_TIMEOUT, gone)?;
    lab.start_platform(node)
}

/// Kills a platform daemon, sees its keeper end by itself, and starts the daemon again.
fn lose_power(lab: &Lab, node: &Node) -> Result<()> {
    let process = keeper_process(lab, node)?.context("a fleet that serves has keepers")?;
    lab.kill(&format!("platform-{}", node.name))?;
    super::say(&format!("   {}: killed the platform daemon", node.name));
    let what = format!("the end of the keeper of {} after its platform's", node.name);
    until(&what, KEEPER_ENDS, || is_gone(process))?;
    lab.start_platform(node)?;
    until(&format!("{} after a power failure", node.name), SERVING_TIMEOUT, || {
        status(node).is_ok_and(|status| status.has_recovered(1))
            && keeper_process(lab, node).is_ok_and(|now| now.is_some_and(|now| now != process))
    })
}

/// Whether a process has ended. Nobody may have asked yet how.
fn is_gone(process: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).map_or(true, |stat| {
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    })
}

impl Fleet {
    /// Founds the network. No agent runs yet.
    pub(crate) fn found(lab: &SharedLab, shape: Shape) -> Result<Self> {
        super::say(&format!("Founding a network of {} host(s).", lab.nodes.len()));
        let network = lab.found(shape)?;
        let code = lab.sign_bundle("keeper-1.0.0", "heirloom-keeper", &network.domain)?;
        lab.publish_first(&network, &code)?;
        let lab = SharedLab::clone(lab);
        Ok(Self {
            lab,
            network,
            code,
            releases: 1,
            policies: 1,
            shape,
            before: None,
            upgraders: Vec::new(),
            keys: None,
        })
    }

    /// Measurements of the code that carried the keyring.
    pub(crate) fn upgraders(&self) -> &[String] {
        &self.upgraders
    }

    fn next_release(&mut self) -> Result<Code> {
        self.releases += 1;
        let name = format!("keeper-{}.0.0", self.releases);
        let new = self.lab.sign_bundle(&name, "heirloom-keeper", &self.network.domain)?;
        self.lab.publish_release(&new)?;
        Ok(new)
    }

    /// Publishes the edge and the way back, plans, publishes what completes the plan, approves.
    fn propose(&mut self, new: &Code) -> Result<String> {
        let Self { lab, network, code: old, .. } = &*self;
        let (edge, end) = (self.policies + 1, self.policies + 2);
        lab.publish_policy(network, edge, &[old, new], &[(old, new), (new, old)], None)?;
        let out = format!("plan-{}", self.releases);
        let [first, ..] = OPERATORS;
        let started =
            lab.operate(&["upgrade", "start", "--to", &new.name, "--key", first, "--out", &out])?;
        let plan = text(&started, "/plan")?.to_owned();
        lab.publish_policy(network, end, &[new], &[], Some(&plan))?;
        for operator in OPERATORS.iter().skip(1) {
            lab.operate(&["plan", "approve", "--plan", &plan, "--key", operator])?;
        }
        self.policies = end;
        Ok(plan)
    }

    /// As [`Self::propose`], through an upgrader of its own.
    fn propose_handover(&mut self, new: &Code) -> Result<String> {
        let name = format!("upgrader-{}.0.0", self.upgraders.len() + 1);
        let upgrader = self.lab.sign_upgrader(&name, &self.network.domain)?;
        self.lab.publish_release(&upgrader)?;
        let Self { lab, network, code: old, .. } = &*self;
        let edge = self.policies + 1;
        let edges = [(old, &upgrader), (&upgrader, new)];
        lab.publish_policy(network, edge, &[old, &upgrader, new], &edges, None)?;
        self.policies = edge;
        self.upgraders.push(upgrader.measurement);
        let words = ["upgrade", "start", "--strategy", "handover", "--node", "node-1"];
        self.start(&[&words[..], &["--via", &name, "--to", &new.name]].concat())
    }

    /// Lets the command make and propose a plan, and lets two operators approve it.
    fn start(&self, words: &[&str]) -> Result<String> {
        let lab = &self.lab;
        let out = format!("plan-{}-{}", self.policies, words.first().copied().unwrap_or_default());
        let [first, ..] = OPERATORS;
        let started = lab.operate(&[words, &["--key", first, "--out", &out]].concat())?;
        let plan = text(&started, "/plan")?.to_owned();
        for operator in OPERATORS.iter().skip(1) {
            lab.operate(&["plan", "approve", "--plan", &plan, "--key", operator])?;
        }
        Ok(plan)
    }

    /// Waits until the new keeper runs beside the old one.
    fn await_new_keeper(&self, plan: &str, new: &Code) -> Result<()> {
        let live = self.lab.path(&format!("node-1/data/state/live/{}", new.measurement));
        self.await_plan(plan, "half handed over", |_| {
            std::fs::read_dir(&live).is_ok_and(|mut files| files.next().is_some())
        })
    }

    /// Waits until the plan stands where it should, and lets epochs pass meanwhile.
    fn await_status(&self, plan: &str, wanted: &str) -> Result<()> {
        self.await_plan(plan, wanted, |status| {
            status.get("status").and_then(Value::as_str) == Some(wanted)
        })
    }

    /// Waits until the first wave has changed something that has to be put back.
    fn await_begun(&self, plan: &str) -> Result<()> {
        let changed = |name: &str| {
            let journal = self.lab.path(&format!("{name}/data/installed"));
            std::fs::read_to_string(journal)
                .is_ok_and(|installed| installed.trim_end() != self.code.measurement)
        };
        self.await_plan(plan, "half changed", |_| {
            self.lab.nodes.iter().take(2).all(|node| changed(&node.name))
        })
    }

    fn await_plan(&self, plan: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        let (mut epoch, mut last) = (Instant::now(), String::new());
        let waited = until(&format!("a plan that is {what}"), PHASE_TIMEOUT, || {
            if epoch.elapsed() > EPOCH_EVERY {
                epoch = Instant::now();
                // Somebody else appended at the same moment: the next epoch comes soon.
                let _advanced = self.lab.advance_epoch();
            }
            let Ok(status) = self.lab.operate(&["upgrade", "status", "--plan", plan]) else {
                return false;
            };
            last = status.to_string();
            holds(&status)
        });
        waited.with_context(|| format!("the plan's last status: {last}"))
    }

    fn everybody_serves(&self) -> Result<()> {
        if self.shape.is_exclusive() {
            let code = &self.code.measurement;
            return until("one node with the right code", SERVING_TIMEOUT, || {
                let serves = |node| status(node).is_ok_and(|status| status.serves(code));
                self.lab.nodes.iter().any(serves)
            });
        }
        rolling::everybody_serves(&self.lab, &self.code)
    }

    /// Whether every key is what an application got in the beginning.
    fn keys_are_kept(&mut self) -> Result<bool> {
        let now = clients::first_answers(&self.lab)?;
        let first = self.keys.get_or_insert_with(|| now.clone());
        Ok(clients::contains(&now, first))
    }
}
