//! A participant moves while somebody is killed at every durable operation: once the process of
//! its operator, once both participants. Keys are in files: the token of another process is not
//! what is killed here, and `SoftHSM2` does not like two that look at it together.
//!
//! A move must come to its end, with every contract that there was: the snapshot of the source has
//! them, the written one has as many, the target shows exactly the written ids, and counts as many
//! by itself. From the moment on at which the source is quiet, both participants are never
//! connected together: one contract would then be active under two names.

use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::events::{Progress, Source};
use super::phase::KILLS_MAX;
use super::table::{Coverage, Outcome, Row, Table};
use crate::lab::moving::{Moving, stated};
use crate::lab::participant::{Keys, Participant, Participants};
use crate::lab::{Lab, Node, SharedLab, until};

/// Nodes: each moves once.
pub(crate) const NODES: usize = 2;
/// Contracts of the participant: more than one batch of an import.
const CONTRACTS: &str = "300";
/// How long one move may take, with all kills.
const MOVE_TIMEOUT: Duration = Duration::from_mins(6);
/// How long whoever was killed may take to come back.
const BACK_TIMEOUT: Duration = Duration::from_mins(1);
/// How often an epoch begins.
const EPOCH_EVERY: Duration = Duration::from_secs(3);
/// How often to look at both participants.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// One phase.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Journey {
    /// To new names; the operator's process is killed.
    There,
    /// To other names again; both participants are killed.
    Back,
}

/// What is wrong after a move.
struct Wrong {
    outcome: Outcome,
    why: anyhow::Error,
}

impl From<anyhow::Error> for Wrong {
    fn from(why: anyhow::Error) -> Self {
        Self { outcome: Outcome::Stuck, why }
    }
}

/// A participant with contracts, wherever it has moved to.
pub(crate) struct Stage {
    lab: SharedLab,
    participants: Participants,
    now: Participant,
}

impl Stage {
    /// A network without keepers, and a participant with keys in files.
    pub(crate) fn found(lab: &SharedLab) -> Result<Self> {
        super::say("Founding a network without keepers, and a participant.");
        lab.found_without_keepers(1)?;
        let participants = Participants::start(lab, false)?;
        let now = participants.add(lab, "first", Keys::Software, false)?;
        participants.connect(lab, &now)?;
        let (admin, ledger) = (now.admin_url(), now.ledger_url());
        let words = ["load", "--admin", &admin, "--ledger", &ledger, "--contracts", CONTRACTS];
        Participants::client(lab, &words)?;
        Ok(Self { lab: SharedLab::clone(lab), participants, now })
    }
}

impl Journey {
    /// In order.
    pub(crate) const ALL: [Self; 2] = [Self::There, Self::Back];

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::There => "migration",
            Self::Back => "migration-back",
        }
    }

    /// Plays the phase.
    pub(crate) fn run(self, stage: &mut Stage, table: &mut Table) -> Result<()> {
        let lab = SharedLab::clone(&stage.lab);
        let (index, name) = match self {
            Self::There => (0, "second"),
            Self::Back => (1, "third"),
        };
        let node: Node = lab.nodes.get(index).context("a laboratory has nodes")?.clone();
        let target = stage.participants.add(&lab, name, Keys::Software, true)?;
        let from = stage.now.clone();
        let moving =
            Moving { node: &node.name, operator: 1, from: &from, to: &target, way: self.title() };
        let sources = self.sources(&moving, &lab);
        let done = self.play(&stage.participants, &lab, &moving, &sources);
        let mut rows: Vec<Row> = Vec::new();
        for source in &sources {
            rows.extend(source.rows_at_the_end(done.is_ok()));
            let (operations, struck) = source.coverage();
            let process = format!("{} of {}", source.role, source.node);
            super::say(&format!("   {process}: struck at {struck} of {operations} operations"));
            table.cover(vec![Coverage { phase: self.title(), process, operations, struck }]);
        }
        if let Err(Wrong { outcome, .. }) = &done
            && *outcome > Outcome::Stuck
        {
            for row in &mut rows {
                row.outcome = *outcome;
            }
        }
        table.add(rows);
        stage.now = target;
        done.map_err(|wrong| wrong.why)
    }

    /// Who is killed.
    fn sources(self, moving: &Moving<'_>, lab: &Lab) -> Vec<Source> {
        let source = |role: &'static str, node: &str| Source {
            phase: self.title(),
            role,
            node: node.to_owned(),
            file: lab.path(&format!("{}-{role}-{node}.events", self.title())),
        };
        match self {
            Self::There => vec![source("mover", moving.node)],
            Self::Back => {
                vec![source("server", &moving.from.name), source("server", &moving.to.name)]
            }
        }
    }

    fn play(
        self,
        participants: &Participants,
        lab: &SharedLab,
        moving: &Moving<'_>,
        sources: &[Source],
    ) -> Result<(), Wrong> {
        let before = counted(lab, moving.from)?;
        let (plan, _) = lab.plan_migration(&[*moving])?;
        let servers = if self == Self::Back { vec![moving.from, moving.to] } else { Vec::new() };
        for (server, source) in servers.iter().zip(sources) {
            // Its store and its keys.
            lab.supervise(&server.process(), supervisor(lab, source, &server.name, moving));
            restart(lab, server)?;
        }
        let progress = Progress::show(sources.to_vec(), super::say)?;
        let watch = Watch::begin(lab, moving, &plan)?;
        let ended = self.carry_out(lab, moving, sources);
        // Whoever was killed by his last operation comes back by himself.
        let back = || sources.iter().all(Source::is_back);
        let ended = ended.and_then(|()| until("everybody who was killed", BACK_TIMEOUT, back));
        for server in servers {
            lab.leave_alone(&server.process());
            restart(lab, server)?;
        }
        let double = watch.finish();
        progress.finish();
        ended?;
        if let Some(seen) = double? {
            let why = anyhow!("source and target were connected at the same time: {seen}");
            return Err(Wrong { outcome: Outcome::Double, why });
        }
        if sources.iter().any(Source::is_exhausted) {
            return Err(anyhow!("there were more operations than {KILLS_MAX} kills").into());
        }
        participants.connect(lab, moving.to)?;
        compare(lab, moving, &plan, before)?;
        transacts(lab, moving.to)
    }

    /// Runs the operator's process until the plan is over, and lets epochs pass meanwhile.
    fn carry_out(self, lab: &Lab, moving: &Moving<'_>, sources: &[Source]) -> Result<()> {
        let file = moving.file();
        let words = ["participant", "migrate", "--yes", "--json", "--config", &file];
        let mut command = lab.command_with_keys(moving.to, &words);
        if let (Self::There, Some(source)) = (self, sources.first()) {
            let words = supervisor(lab, source, &moving.data(), moving);
            let mut supervised = lab.under_supervision(&words, &command);
            std::mem::swap(&mut command, &mut supervised);
        }
        let log = std::fs::File::create(lab.path(&format!("{}.log", self.title())))?;
        let mut child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let ended = await_end(lab, &mut child, self.title());
        if ended.is_err() {
            // What it traces ends with it.
            child.kill()?;
            child.wait()?;
        }
        ended
    }
}

fn await_end(lab: &Lab, child: &mut Child, what: &str) -> Result<()> {
    let (mut epoch, mut status) = (Instant::now(), None);
    until(what, MOVE_TIMEOUT, || {
        if epoch.elapsed() > EPOCH_EVERY {
            epoch = Instant::now();
            // Somebody else appended at the same moment: the next epoch comes soon.
            let _advanced = lab.advance_epoch();
        }
        status = child.try_wait().ok().flatten();
        status.is_some()
    })?;
    ensure!(status.is_some_and(|status| status.success()), "the operator's process gave up");
    Ok(())
}

/// The words for the supervisor. Stages are those of the moving node, for its servers too.
fn supervisor(lab: &Lab, source: &Source, within: &str, moving: &Moving<'_>) -> Vec<String> {
    let path = |name: &str| lab.path(name).display().to_string();
    let journal = path(&format!("{}/journal", moving.data()));
    let words = ["run", "--role", "agent", "--within"];
    let mut words: Vec<String> = words.map(str::to_owned).to_vec();
    words.extend([path(within), "--journal".to_owned(), journal]);
    words.extend(["--log".to_owned(), source.file.display().to_string()]);
    words.extend(["--kills-max".to_owned(), KILLS_MAX.to_string()]);
    words
}

fn restart(lab: &Lab, server: &Participant) -> Result<()> {
    lab.kill(&server.process())?;
    until("the end of a participant", BACK_TIMEOUT, || !server.is_listening())?;
    Participants::start_participant(lab, server)
}

/// How many contracts a participant shows.
fn counted(lab: &Lab, participant: &Participant) -> Result<u64> {
    let seen = Participants::client(lab, &["contracts", "--ledger", &participant.ledger_url()])?;
    seen.get("contracts").and_then(Value::as_u64).context("nothing was counted")
}

/// Nothing is lost: every contract of the source is on the target, under the ids that were written.
fn compare(lab: &Lab, moving: &Moving<'_>, plan: &str, before: u64) -> Result<(), Wrong> {
    let lost = |why: String| Wrong { outcome: Outcome::Lost, why: anyhow!(why) };
    let now = counted(lab, moving.to)?;
    if now != before {
        return Err(lost(format!("{before} contracts moved, and the target shows {now}")));
    }
    let verified = |name: &str| -> Result<u64> {
        let file = format!("{}/{name}", moving.folder(plan));
        let packages = lab.path(&format!("{}/packages", moving.folder(plan)));
        let mut words =
            vec!["participant".to_owned(), "verify".to_owned(), file, "--dar".to_owned()];
        for entry in std::fs::read_dir(packages)? {
            words.push(entry?.path().display().to_string());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let seen = lab.heirloom(&words)?;
        seen.get("contracts").and_then(Value::as_u64).context("nothing was verified")
    };
    for name in ["source-snapshot.gz", "target-snapshot.gz"] {
        let found = verified(name)?;
        if found != before {
            return Err(lost(format!("{name} has {found} contracts of {before}")));
        }
    }
    let status = lab.migration_status(plan, moving)?;
    let ids = |kind: &str| {
        let facts = stated(&status, moving.node, kind)?;
        facts.get("ids").and_then(Value::as_str).map(ToOwned::to_owned)
    };
    let (written, shown) = (ids("rewritten"), ids("reconciled"));
    if written.is_none() || written != shown {
        return Err(lost(format!("ids {written:?} were written, and {shown:?} are shown")));
    }
    Ok(())
}

/// The participant works with what it has.
fn transacts(lab: &Lab, participant: &Participant) -> Result<(), Wrong> {
    let done = Participants::client(lab, &["transact", "--ledger", &participant.ledger_url()])?;
    if done.get("archived").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    Err(anyhow!("the target does not transact: {done}").into())
}

/// Looks at both participants all the time, on a thread of its own.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Option<String>)>,
}

impl Watch {
    fn begin(lab: &SharedLab, moving: &Moving<'_>, plan: &str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, lab) = (Arc::clone(&stop), SharedLab::clone(lab));
        let (file, node, plan) = (moving.file(), moving.node.to_owned(), plan.to_owned());
        let target = moving.to.clone();
        let look = move || {
            let (mut looks, mut double) = (0, None);
            loop {
                let last = stopping.load(Ordering::Relaxed);
                let words = ["participant", "status", "--config", &file, "--plan", &plan];
                if let Ok(status) = lab.operate_with_keys(&target, &words) {
                    looks += 1;
                    double = double.or_else(|| both_connected(&status, &node));
                }
                if last {
                    return (looks, double);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(look)?;
        Ok(Self { stop, thread })
    }

    /// Ends. Returns what was seen when both were connected.
    fn finish(self) -> Result<Option<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let (looks, double) = self.thread.join().map_err(|_| anyhow!("the watch panicked"))?;
        ensure!(looks > 0, "nobody could look at the participants");
        Ok(double)
    }
}

/// What was seen, if both participants are connected although the source is quiet.
fn both_connected(status: &Value, node: &str) -> Option<String> {
    stated(status, node, "quiesced")?;
    let is_connected = |side: &str| {
        let listed = status.pointer(&format!("/participants/{side}/synchronizers"));
        let listed = listed.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        listed.iter().any(|it| it.get("connected").and_then(Value::as_bool) == Some(true))
    };
    (is_connected("source") && is_connected("target"))
        .then(|| status.get("participants").map(ToString::to_string).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_that_are_connected_count_from_the_moment_at_which_the_source_is_quiet() {
        let connected = |yes: bool| json!({ "synchronizers": [{ "connected": yes }] });
        let seen = |quiet: &str, source: bool, target: bool| {
            json!({
                "standings": [{ "node": "node-1", "facts": { quiet: {} } }],
                "participants": { "source": connected(source), "target": connected(target) },
            })
        };
        assert!(both_connected(&seen("quiesced", true, true), "node-1").is_some());
        assert!(both_connected(&seen("enrolled", true, true), "node-1").is_none());
        assert!(both_connected(&seen("quiesced", false, true), "node-1").is_none());
        assert!(both_connected(&seen("quiesced", true, false), "node-1").is_none());
        assert!(both_connected(&seen("quiesced", true, true), "node-2").is_none());
        // Who does not answer is not connected, as far as anybody knows.
        let mut absent = seen("quiesced", true, true);
        absent["participants"]["source"] = Value::Null;
        assert!(both_connected(&absent, "node-1").is_none());
    }
}
