//! Migration: a ledger participant moves to keys in a KMS, under new names, and back again.

use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::{EPOCH_EVERY, UPGRADE_TIMEOUT, in_words, say};
use crate::lab::participant::{Keys, Participant, Participants, SYNCHRONIZER};
use crate::lab::{Lab, SharedLab, text, write};
use crate::process::workspace_root;

/// Nodes of the laboratory: one for each kind of KMS, each in a domain of its own.
pub(super) const NODES: usize = 2;
/// Contracts of each old participant.
const CONTRACTS: u64 = 10_000;
/// How long the foreground process of an operator lives while it is killed again and again.
const LIFE: [Duration; 3] =
    [Duration::from_millis(900), Duration::from_millis(2_300), Duration::from_millis(4_100)];

/// What to play.
#[derive(Clone, Copy, Debug)]
pub(super) struct Play {
    /// Whether processes are killed all along.
    pub(super) kill: bool,
    /// Which KMS.
    pub(super) kms: Kms,
}

/// The key stores that participants move to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Kms {
    /// One after the other.
    Both,
    /// A token of `SoftHSM2`, over PKCS #11.
    Pkcs11,
    /// AWS KMS, as `LocalStack` imitates it.
    Aws,
}

impl Kms {
    fn all(self) -> &'static [Keys] {
        match self {
            Self::Both => &[Keys::Token, Keys::Aws],
            Self::Pkcs11 => &[Keys::Token],
            Self::Aws => &[Keys::Aws],
        }
    }
}

/// Plays the demo, and returns its summary.
pub(super) fn play(lab: &SharedLab, play: Play) -> Result<Value> {
    say("\n1. Found a network without keepers: operators, a log, a fleet of participants.");
    found(lab)?;
    let begun = Instant::now();
    let with_kms = play.kms.all().contains(&Keys::Aws);
    let participants = Arc::new(Participants::start(lab, with_kms)?);
    let mut runs = Vec::new();
    for (index, keys) in play.kms.all().iter().enumerate() {
        let stage = Stage { lab, participants: &participants, index, keys: *keys, kill: play.kill };
        runs.push(stage.there_and_back()?);
    }
    let summary = summarize(&runs, begun.elapsed());
    explain(&summary);
    judge(&summary)?;
    Ok(summary)
}

/// Network, registry and fleet.
fn found(lab: &Lab) -> Result<()> {
    let registry = format!("http://127.0.0.1:{}", lab.registry_port);
    let words = ["init", "net", "--without-keepers", "--registry", &registry];
    lab.heirloom(&words)?;
    lab.start_registry()?;
    lab.advance_epoch()?;
    let mut fleet = "serial = 1\nnot_after = \"+365d\"\n".to_owned();
    for (index, node) in lab.nodes.iter().enumerate() {
        std::fs::create_dir(lab.path(&node.name))?;
        let made = lab.heirloom(&["signer", "create", &format!("{}/agent.key", node.name)])?;
        let number = index + 1;
        write!(
            fleet,
            "[[node]]\nnode = \"{}\"\ndomain = \"{}\"\nhost = \"host-{number}\"\n\
             failure_domain = \"zone-{number}\"\noperator = \"operator-{number}\"\nagent = \"{}\"\n",
            node.name,
            domain(index),
            text(&made, "/public_key")?,
        )?;
    }
    write(&lab.path("fleet.toml"), &fleet)?;
    let keys = ["--key", "net/keys/operator-1.key", "--key", "net/keys/operator-2.key"];
    lab.operate(
        &[&["fleet", "sign", "fleet.toml", "--out", "fleet.statement"][..], &keys].concat(),
    )?;
    lab.operate(&["fleet", "publish", "fleet.statement"])?;
    Ok(())
}

fn domain(index: usize) -> String {
    format!("{:02x}", 0x80 + index).repeat(32)
}

/// One participant on its way to a KMS and back.
struct Stage<'a> {
    lab: &'a SharedLab,
    participants: &'a Arc<Participants>,
    index: usize,
    keys: Keys,
    kill: bool,
}

/// What one move came to.
struct Moved {
    way: &'static str,
    plan: String,
    status: Value,
    seconds: f64,
    kills: u32,
}

impl Stage<'_> {
    fn there_and_back(&self) -> Result<Value> {
        let (lab, keys) = (self.lab, self.keys.name());
        let name = |part: &str| format!("{part}-{keys}");
        say(&format!("\n2. A participant with keys in files; {CONTRACTS} contracts ({keys})."));
        let old = self.participants.add(lab, &name("old"), Keys::Software, false)?;
        self.participants.connect(lab, &old)?;
        let loaded = self.load(&old)?;
        say(&format!("   {loaded}"));

        say(&format!("\n3. Move it to a new participant whose keys are in {keys}."));
        let kms = self.participants.add(lab, &name("kms"), self.keys, true)?;
        let there = self.migrate(&old, &kms, "there")?;

        say("\n4. Transact on the new side.");
        let transacted = Participants::client(lab, &["transact", "--ledger", &kms.ledger_url()])?;
        say(&format!("   {transacted}"));

        say("\n5. Move it back to keys in files, under new names again.");
        let back = self.participants.add(lab, &name("back"), Keys::Software, true)?;
        let again = self.migrate(&kms, &back, "back")?;

        say(
            "\n6. Compare: the way back, renamed to the first names, has the contracts it began with.",
        );
        let compared = self.compare(&there, &again)?;
        self.summary(&there, &again, &compared)
    }

    fn load(&self, participant: &Participant) -> Result<Value> {
        let (admin, ledger) = (participant.admin_url(), participant.ledger_url());
        let contracts = CONTRACTS.to_string();
        let mut words = vec!["load", "--admin", &admin, "--ledger", &ledger];
        words.extend(["--contracts", &contracts]);
        let dars = real_dars();
        for dar in &dars {
            words.extend(["--dar", dar]);
        }
        Participants::client(self.lab, &words)
    }

    fn migrate(&self, from: &Participant, to: &Participant, way: &'static str) -> Result<Moved> {
        let lab = self.lab;
        let node = lab.nodes.get(self.index).context("a laboratory has nodes")?;
        let config = format!("{}/{way}.toml", node.name);
        write(&lab.path(&config), &self.config(&node.name, from, to, way)?)?;
        let flags = ["--config", &config];
        let preflight = [&["participant", "preflight", "--publish"][..], &flags].concat();
        lab.operate_with_keys(&preflight)?;
        let out = format!("{}/{way}.plan", node.name);
        let key = ["--key", "net/keys/operator-1.key", "--opens", "+1", "--out", &out];
        let made = lab.operate_with_keys(&[&["participant", "plan"][..], &flags, &key].concat())?;
        let plan = text(&made, "/plan")?.to_owned();
        for line in lab.show(&["plan", "show", &out, "--network", "net/network.toml"])?.lines() {
            say(&format!("   {line}"));
        }
        for key in ["net/keys/operator-1.key", "net/keys/operator-2.key"] {
            lab.operate(&["plan", "approve", "--plan", &plan, "--key", key])?;
        }
        let begun = Instant::now();
        let kills = self.run_to_end(&flags, &plan, [from, to])?;
        let seconds = begun.elapsed().as_secs_f64();
        let words = [&["participant", "status"][..], &flags, &["--plan", &plan]].concat();
        let status = lab.operate_with_keys(&words)?;
        Ok(Moved { way, plan, status, seconds, kills })
    }

    fn config(
        &self,
        node: &str,
        from: &Participant,
        to: &Participant,
        way: &str,
    ) -> Result<String> {
        let lab = self.lab;
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

    /// Runs the operator's process until the plan is over. With kills it lives for a moment only,
    /// again and again, and the servers are killed too.
    fn run_to_end(&self, flags: &[&str], plan: &str, sides: [&Participant; 2]) -> Result<u32> {
        let lab = self.lab;
        let deadline = Instant::now() + UPGRADE_TIMEOUT;
        let stop = Arc::new(AtomicBool::new(false));
        let epochs = epochs(lab, &stop)?;
        let mut kills = 0_u32;
        let ended = loop {
            ensure!(Instant::now() < deadline, "the move did not end in {UPGRADE_TIMEOUT:?}");
            let words = [&["participant", "migrate", "--yes", "--json"][..], flags].concat();
            let mut command = lab.command_with_keys(&words);
            let log = std::fs::File::options()
                .append(true)
                .create(true)
                .open(lab.path(&format!("migrate-{}.log", self.keys.name())))?;
            let mut child = command.stdout(Stdio::null()).stderr(log).spawn()?;
            let index = usize::try_from(kills)?.checked_rem(LIFE.len()).unwrap_or(0);
            let life = LIFE.get(index).filter(|_| self.kill);
            let until = life.map(|life| Instant::now() + *life);
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break Some(status);
                }
                if until.is_some_and(|until| Instant::now() > until) || Instant::now() > deadline {
                    child.kill()?;
                    child.wait()?;
                    break None;
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            match status {
                Some(status) if status.success() => break Ok(()),
                Some(status) if !self.kill => {
                    break Err(anyhow!("the operator's process ended with {status}"));
                }
                Some(_) | None => kills += 1 + self.strike(sides, kills)?,
            }
        };
        stop.store(true, Ordering::Relaxed);
        epochs.join().map_err(|_| anyhow!("the clock panicked"))?;
        ended.with_context(|| format!("plan {plan}"))?;
        Ok(kills)
    }

    /// Kills one of the servers too, and starts it again.
    fn strike(&self, [source, target]: [&Participant; 2], turn: u32) -> Result<u32> {
        let lab = self.lab;
        match turn % 5 {
            0 | 3 => {
                say("  kill: the new participant");
                lab.kill(&target.process())?;
                Participants::start_participant(lab, target)?;
            }
            1 => {
                say("  kill: the registry");
                lab.kill("registry")?;
                lab.start_registry()?;
            }
            2 => {
                say("  kill: the old participant");
                lab.kill(&source.process())?;
                Participants::start_participant(lab, source)?;
            }
            _ => {
                say("  kill: the synchronizer");
                lab.kill("synchronizer")?;
                self.participants.start_synchronizer(lab)?;
            }
        }
        Ok(1)
    }

    /// Goes back from the last names to the first ones, and looks at the ids: they say everything
    /// that a contract says.
    fn compare(&self, there: &Moved, back: &Moved) -> Result<Compared> {
        let lab = self.lab;
        let before = self.verified(there, "source-snapshot.gz")?;
        let moved = self.verified(there, "target-snapshot.gz")?;
        let after = self.verified(back, "target-snapshot.gz")?;
        let mut snapshot = self.file(back, "target-snapshot.gz");
        for (number, step) in [back, there].into_iter().enumerate() {
            let map = self.scratch(&format!("inverse-{number}.map"));
            let parties = self.file(step, "parties.map");
            lab.heirloom(&["participant", "map", "invert", &parties, "--out", &map])?;
            let out = self.scratch(&format!("inverse-{number}.gz"));
            let mut words = vec!["participant", "rewrite", &snapshot, "--map", &map];
            words.extend(["--out", &out]);
            let dars = self.dars(step)?;
            words.push("--dar");
            words.extend(dars.iter().map(String::as_str));
            lab.heirloom(&words)?;
            snapshot = out;
        }
        let dars = self.dars(there)?;
        let round_trip = verify(lab, &snapshot, &dars)?;
        Ok(Compared { before, moved, after, round_trip })
    }

    fn verified(&self, moved: &Moved, name: &str) -> Result<Value> {
        verify(self.lab, &self.file(moved, name), &self.dars(moved)?)
    }

    /// A file that a plan left.
    fn file(&self, moved: &Moved, name: &str) -> String {
        format!("{}/{name}", self.folder(moved))
    }

    fn folder(&self, moved: &Moved) -> String {
        let node = self.lab.nodes.get(self.index).map_or("", |node| node.name.as_str());
        format!("{node}/data-{}/plans/{}", moved.way, moved.plan)
    }

    fn scratch(&self, name: &str) -> String {
        format!("{}-{name}", self.keys.name())
    }

    fn dars(&self, moved: &Moved) -> Result<Vec<String>> {
        let folder = self.lab.path(&self.file(moved, "packages"));
        let listed = std::fs::read_dir(&folder)
            .with_context(|| format!("no packages in {}", folder.display()))?;
        listed.map(|entry| Ok(entry?.path().display().to_string())).collect()
    }

    fn summary(&self, there: &Moved, back: &Moved, compared: &Compared) -> Result<Value> {
        let contracts = |value: &Value| value.get("contracts").and_then(Value::as_u64);
        let before = contracts(&compared.before).context("no contracts")?;
        let after = contracts(&compared.after).unwrap_or(0);
        let on_kms = shown_contracts(&there.status).unwrap_or(0);
        let on_back = shown_contracts(&back.status).unwrap_or(0);
        let lost = before.saturating_sub(on_kms.min(on_back).min(after));
        let ids = |value: &Value| value.get("ids").cloned();
        let identical = ids(&compared.before).is_some()
            && ids(&compared.before) == ids(&compared.round_trip)
            && ids(&compared.before) != ids(&compared.moved);
        Ok(json!({
            "kms": self.keys.name(),
            "contracts": before,
            "ids_reproduced_before": before,
            "ids_verified_after": contracts(&compared.moved),
            "lost": lost,
            "round_trip_identical": identical,
            "sign_verified": signed(&there.status),
            "seconds_there": rounded(there.seconds),
            "seconds_back": rounded(back.seconds),
            "kills": there.kills + back.kills,
        }))
    }
}

/// What the snapshots of both moves are.
struct Compared {
    before: Value,
    moved: Value,
    after: Value,
    round_trip: Value,
}

/// Every contract reproduces its id, or this fails.
fn verify(lab: &Lab, snapshot: &str, dars: &[String]) -> Result<Value> {
    let mut words = vec!["participant", "verify", snapshot, "--dar"];
    words.extend(dars.iter().map(String::as_str));
    lab.heirloom(&words)
}

/// How many contracts the target showed when everything was imported.
fn shown_contracts(status: &Value) -> Option<u64> {
    reconciled(status)?.get("contracts").and_then(Value::as_u64)
}

/// Whether the custodian signed, and the signature was verified.
fn signed(status: &Value) -> bool {
    reconciled(status).and_then(|found| found.get("signer")).is_some_and(Value::is_string)
}

/// What the node stated when target and snapshot were compared.
fn reconciled(status: &Value) -> Option<&Value> {
    let stated = status.get("standings").and_then(Value::as_array)?;
    stated.iter().find_map(|standing| standing.pointer("/facts/reconciled"))
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// Begins an epoch now and then, until it is told to stop. With the registry killed one comes a
/// little later.
fn epochs(lab: &SharedLab, stop: &Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    let (lab, stop) = (Arc::clone(lab), Arc::clone(stop));
    let tick = move || {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) && !lab.is_ending() {
            if last.elapsed() > EPOCH_EVERY {
                let _advanced = lab.advance_epoch();
                last = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    Ok(std::thread::Builder::new().name("epochs".to_owned()).spawn(tick)?)
}

/// Packages of others that are at hand beside this repository. The demonstration's own package
/// moves in any case.
fn real_dars() -> Vec<String> {
    let folder = workspace_root().join("../shared/vectors/canton/dars");
    let wanted = ["splice-amulet-0.1.17.dar", "splice-api-token-metadata-v1-1.0.0.dar"];
    let found = wanted.iter().map(|name| folder.join(name)).filter(|path| path.exists());
    found.map(|path| path.display().to_string()).collect()
}

fn summarize(runs: &[Value], wall: Duration) -> Value {
    let sum = |field: &str| -> u64 {
        runs.iter().filter_map(|run| run.get(field).and_then(Value::as_u64)).sum()
    };
    let all = |field: &str| {
        !runs.is_empty()
            && runs.iter().all(|run| run.get(field).and_then(Value::as_bool) == Some(true))
    };
    json!({
        "strategy": "migration",
        "contracts": sum("contracts"),
        "ids_reproduced_before": sum("ids_reproduced_before"),
        "ids_verified_after": sum("ids_verified_after"),
        "lost": sum("lost"),
        "round_trip_identical": all("round_trip_identical"),
        "kms_sign_verified": all("sign_verified"),
        "kills": sum("kills"),
        "runs": runs,
        "wall_seconds": rounded(wall.as_secs_f64()),
    })
}

fn explain(summary: &Value) {
    say("\nWhat happened");
    let fields = [
        ("contracts", "contracts"),
        ("ids reproduced before", "ids_reproduced_before"),
        ("ids verified after", "ids_verified_after"),
        ("contracts lost", "lost"),
        ("identical after the round trip", "round_trip_identical"),
        ("every KMS signed, verified", "kms_sign_verified"),
        ("processes killed meanwhile", "kills"),
    ];
    for (label, field) in fields {
        let value = summary.get(field).map(in_words).unwrap_or_default();
        say(&format!("   {label:<34}{value}"));
    }
}

fn judge(summary: &Value) -> Result<()> {
    let number = |field: &str| summary.get(field).and_then(Value::as_u64);
    let contracts = number("contracts");
    ensure!(contracts.is_some_and(|found| found >= CONTRACTS), "contracts are missing: {summary}");
    for field in ["ids_reproduced_before", "ids_verified_after"] {
        ensure!(number(field) == contracts, "{field} is not every contract: {summary}");
    }
    ensure!(number("lost") == Some(0), "contracts were lost: {summary}");
    for field in ["round_trip_identical", "kms_sign_verified"] {
        let found = summary.get(field).and_then(Value::as_bool);
        ensure!(found == Some(true), "{field} is false: {summary}");
    }
    Ok(())
}
