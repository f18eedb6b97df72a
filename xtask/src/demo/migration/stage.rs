//! The participants of all operators of one run, on their way to a KMS and back.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::super::{UPGRADE_TIMEOUT, say};
use super::epochs;
use super::summary::rounded;
use crate::lab::moving::{Moving, stated};
use crate::lab::participant::{Keys, Participant, Participants};
use crate::lab::{Lab, SharedLab};
use crate::process::workspace_root;

/// Contracts of a participant that moves alone.
const CONTRACTS_ALONE: u64 = 10_000;
/// Contracts that only parties of one participant know, if several move together.
const CONTRACTS_OWN: u64 = 2_000;
/// Contracts that each participant then makes together with the next one.
const CONTRACTS_SHARED: u64 = 500;
/// How long the foreground process of an operator lives while it is killed again and again.
const LIFE: [Duration; 3] =
    [Duration::from_millis(900), Duration::from_millis(2_300), Duration::from_millis(4_100)];
/// How often to look whether a process has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often an operator asks whether there are names to agree to.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// One run.
pub(super) struct Stage<'a> {
    lab: &'a SharedLab,
    participants: &'a Participants,
    keys: Keys,
    kill: bool,
    /// One node for each operator, in their order.
    nodes: Vec<String>,
    /// Who kills a server that everybody shares starts it again before the next one kills.
    striking: Mutex<()>,
}

/// What the move of one participant came to.
struct Moved {
    node: String,
    folder: String,
    status: Value,
    seconds: f64,
    kills: u32,
    /// Who must agree before the first participant of this plan could move alone.
    must_agree: Option<String>,
}

impl<'a> Stage<'a> {
    /// A run of these nodes.
    pub(super) fn new(
        lab: &'a SharedLab,
        participants: &'a Participants,
        keys: Keys,
        kill: bool,
        nodes: Vec<String>,
    ) -> Self {
        Self { lab, participants, keys, kill, nodes, striking: Mutex::new(()) }
    }

    /// Plays the run, and returns its summary.
    pub(super) fn there_and_back(&self) -> Result<Value> {
        let (lab, keys) = (self.lab, self.keys.name());
        let (alone, count) = (self.nodes.len() == 1, self.nodes.len());
        let who = if alone { "A participant".to_owned() } else { format!("{count} participants") };
        say(&format!("\n2. {who} with keys in files, and contracts ({keys})."));
        let old = self.add("old", Keys::Software, false)?;
        for participant in &old {
            self.participants.connect(lab, participant)?;
        }
        let expected = self.load(&old)?;

        say(&format!("\n3. Move to new participants whose keys are in {keys}."));
        let kms = self.add("kms", self.keys, true)?;
        let there = self.migrate(&old, &kms, "there")?;

        say("\n4. Transact on the new side.");
        self.transact(&kms, &there)?;

        say("\n5. Move back to keys in files, under new names again.");
        let back = self.add("back", Keys::Software, true)?;
        let again = self.migrate(&kms, &back, "back")?;

        say(
            "\n6. Compare: the way back, renamed to the first names, has the contracts it began with.",
        );
        let mut sides = Vec::new();
        for (there, back) in there.iter().zip(&again) {
            let number = sides.len() + 1;
            let compared = self.compare(number, there, back)?;
            sides.push(Self::summary(there, back, &compared)?);
        }
        Ok(self.sum(&sides, expected, [&there, &again]))
    }

    /// One participant of each operator.
    fn add(&self, part: &str, keys: Keys, is_manual: bool) -> Result<Vec<Participant>> {
        let numbers = 1..=self.nodes.len();
        let name = |number: usize| match self.nodes.len() {
            1 => format!("{part}-{}", self.keys.name()),
            _ => format!("{part}-{number}-{}", self.keys.name()),
        };
        numbers
            .map(|number| self.participants.add(self.lab, &name(number), keys, is_manual))
            .collect()
    }

    /// Fills the participants. Returns how many contracts all of them have together, each counted
    /// on every participant that has a copy.
    fn load(&self, all: &[Participant]) -> Result<u64> {
        let own = if all.len() == 1 { CONTRACTS_ALONE } else { CONTRACTS_OWN };
        let mut parties = Vec::new();
        for participant in all {
            let loaded = self.load_one(participant, own, None)?;
            say(&format!("   {}: {loaded}", participant.name));
            let first = loaded.pointer("/parties/0").and_then(Value::as_str);
            parties.push(first.context("a party was made")?.to_owned());
        }
        let mut total = own * u64::try_from(all.len())?;
        let mut last = own;
        // Each with the next one, and the last one with the first.
        for (participant, owner) in all.iter().zip(parties.iter().cycle().skip(1)) {
            if all.len() == 1 {
                break;
            }
            last += CONTRACTS_SHARED;
            let loaded = self.load_one(participant, last, Some(owner))?;
            say(&format!("   {} with {owner}: {loaded}", participant.name));
            total += 2 * CONTRACTS_SHARED;
        }
        Ok(total)
    }

    fn load_one(&self, at: &Participant, contracts: u64, owner: Option<&str>) -> Result<Value> {
        let (admin, ledger) = (at.admin_url(), at.ledger_url());
        let contracts = contracts.to_string();
        let mut words = vec!["load", "--admin", &admin, "--ledger", &ledger];
        words.extend(["--contracts", &contracts]);
        let dars = real_dars();
        for dar in &dars {
            words.extend(["--dar", dar]);
        }
        words.extend(owner.into_iter().flat_map(|owner| ["--owner", owner]));
        Participants::client(self.lab, &words)
    }

    /// Every participant makes a contract with a party of the next one, and archives it.
    fn transact(&self, all: &[Participant], moved: &[Moved]) -> Result<()> {
        let owners = moved.iter().zip(&self.nodes).map(|(moved, node)| {
            let names = stated(&moved.status, node, "allocated").and_then(Value::as_array);
            let first = names.and_then(|names| names.first()?.get("to")?.as_str());
            first.context("a party has a new name")
        });
        let owners: Vec<&str> = owners.collect::<Result<_>>()?;
        for (participant, owner) in all.iter().zip(owners.iter().cycle().skip(1)) {
            let url = participant.ledger_url();
            let words = ["transact", "--ledger", &url, "--owner", owner];
            let done = Participants::client(self.lab, &words)?;
            say(&format!("   {}: {done}", participant.name));
            let archived = done.get("archived").and_then(Value::as_bool);
            ensure!(archived == Some(true), "a new contract was not archived: {done}");
        }
        Ok(())
    }

    /// All participants move by one plan.
    fn migrate(&self, from: &[Participant], to: &[Participant], way: &str) -> Result<Vec<Moved>> {
        let lab = self.lab;
        let sides = self.nodes.iter().zip(from).zip(to).zip(1..);
        let moves: Vec<Moving<'_>> = sides
            .map(|(((node, from), to), operator)| Moving { node, operator, from, to, way })
            .collect();
        lab.look(&moves)?;
        let must_agree = if moves.len() > 1 { Some(lab.refused_alone(&moves)?) } else { None };
        if let Some(operator) = &must_agree {
            say(&format!("   a plan without {operator} is refused: {operator} must agree"));
        }
        let (plan, out) = lab.plan_migration(&moves)?;
        for line in lab.show(&["plan", "show", &out, "--network", "net/network.toml"])?.lines() {
            say(&format!("   {line}"));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let epochs = epochs(lab, &stop)?;
        let begun = Instant::now();
        let ended = self.run_all(&moves, &plan);
        stop.store(true, Ordering::Relaxed);
        epochs.join().map_err(|_| anyhow!("the clock panicked"))?;
        let kills = ended.with_context(|| format!("plan {plan}"))?;
        let seconds = begun.elapsed().as_secs_f64();
        let moved = moves.iter().zip(kills).map(|(moving, kills)| {
            let status = lab.migration_status(&plan, moving)?;
            let (node, folder) = (moving.node.to_owned(), moving.folder(&plan));
            let must_agree = must_agree.clone();
            Ok(Moved { node, folder, status, seconds, kills, must_agree })
        });
        moved.collect()
    }

    /// Runs the process of every operator until the plan is over. Meanwhile each agrees to the
    /// names. Returns how often somebody was killed, for each of them.
    fn run_all(&self, moves: &[Moving<'_>], plan: &str) -> Result<Vec<u32>> {
        let failed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let threads: Vec<_> = moves
                .iter()
                .map(|moving| {
                    let failed = &failed;
                    scope.spawn(move || {
                        let ended = self.run_one(moving, failed);
                        failed.fetch_or(ended.is_err(), Ordering::Relaxed);
                        ended
                    })
                })
                .collect();
            let deadline = Instant::now() + UPGRADE_TIMEOUT;
            for moving in moves.iter().filter(|_| moves.len() > 1) {
                while !failed.load(Ordering::Relaxed) && !self.lab.has_agreed(plan, moving) {
                    if Instant::now() > deadline {
                        failed.store(true, Ordering::Relaxed);
                    }
                    std::thread::sleep(ASK_AGAIN);
                }
                say(&format!("   {} agreed to the new names", moving.operator_name()));
            }
            let joined = threads.into_iter().map(|thread| {
                thread.join().map_err(|_| anyhow!("an operator's thread panicked"))?
            });
            joined.collect()
        })
    }

    /// Runs the process of one operator until the plan is over. With kills it lives for a moment
    /// only, again and again, and the servers are killed too.
    fn run_one(&self, moving: &Moving<'_>, failed: &AtomicBool) -> Result<u32> {
        let deadline = Instant::now() + UPGRADE_TIMEOUT;
        let mut kills = 0_u32;
        loop {
            ensure!(Instant::now() < deadline, "the move did not end in {UPGRADE_TIMEOUT:?}");
            let mut child = self.command(moving)?.spawn()?;
            let index = usize::try_from(kills)?.checked_rem(LIFE.len()).unwrap_or(0);
            let life = LIFE.get(index).filter(|_| self.kill).map(|life| Instant::now() + *life);
            let until = life.unwrap_or(deadline).min(deadline);
            match await_end(&mut child, until, failed)? {
                Some(status) if status.success() => return Ok(kills),
                Some(status) if !self.kill => bail!("the operator's process ended with {status}"),
                Some(_) | None if failed.load(Ordering::Relaxed) => {
                    bail!("another participant did not move")
                }
                Some(_) | None => kills += 1 + self.strike(moving, kills)?,
            }
        }
    }

    fn command(&self, moving: &Moving<'_>) -> Result<Command> {
        let file = moving.file();
        let words = ["participant", "migrate", "--yes", "--json", "--config", &file];
        let mut command = self.lab.command_with_keys(moving.to, &words);
        let name = format!("migrate-{}-{}.log", moving.node, moving.way);
        let log = std::fs::File::options().append(true).create(true).open(self.lab.path(&name))?;
        command.stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Kills one of the servers too, and starts it again.
    fn strike(&self, moving: &Moving<'_>, turn: u32) -> Result<u32> {
        let _alone = self.striking.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = self.lab;
        let again = |participant: &Participant| {
            lab.kill(&participant.process())?;
            Participants::start_participant(lab, participant)
        };
        match turn % 5 {
            0 | 3 => {
                say(&format!("  kill: {}", moving.to.name));
                again(moving.to)?;
            }
            1 => {
                say("  kill: the registry");
                lab.kill("registry")?;
                lab.start_registry()?;
            }
            2 => {
                say(&format!("  kill: {}", moving.from.name));
                again(moving.from)?;
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
    fn compare(&self, number: usize, there: &Moved, back: &Moved) -> Result<Compared> {
        let lab = self.lab;
        let before = verified(lab, there, "source-snapshot.gz")?;
        let moved = verified(lab, there, "target-snapshot.gz")?;
        let after = verified(lab, back, "target-snapshot.gz")?;
        let mut snapshot = back.file("target-snapshot.gz");
        for (turn, step) in [back, there].into_iter().enumerate() {
            let scratch = format!("{}-{number}-inverse-{turn}", self.keys.name());
            let (map, out) = (format!("{scratch}.map"), format!("{scratch}.gz"));
            let parties = step.file("parties.map");
            lab.heirloom(&["participant", "map", "invert", &parties, "--out", &map])?;
            let mut words = vec!["participant", "rewrite", &snapshot, "--map", &map];
            words.extend(["--out", &out]);
            let dars = dars(lab, step)?;
            words.push("--dar");
            words.extend(dars.iter().map(String::as_str));
            lab.heirloom(&words)?;
            snapshot = out;
        }
        let round_trip = verify(lab, &snapshot, &dars(lab, there)?)?;
        Ok(Compared { before, moved, after, round_trip })
    }

    fn summary(there: &Moved, back: &Moved, compared: &Compared) -> Result<Value> {
        let contracts = |value: &Value| value.get("contracts").and_then(Value::as_u64);
        let before = contracts(&compared.before).context("no contracts")?;
        let after = contracts(&compared.after).unwrap_or(0);
        let on_kms = shown_contracts(there).unwrap_or(0);
        let on_back = shown_contracts(back).unwrap_or(0);
        let lost = before.saturating_sub(on_kms.min(on_back).min(after));
        let ids = |value: &Value| value.get("ids").cloned();
        let identical = ids(&compared.before).is_some()
            && ids(&compared.before) == ids(&compared.round_trip)
            && ids(&compared.before) != ids(&compared.moved);
        Ok(json!({
            "contracts": before,
            "ids_reproduced_before": before,
            "ids_verified_after": contracts(&compared.moved),
            "lost": lost,
            "round_trip_identical": identical,
            "sign_verified": signed(there),
            "seconds_there": rounded(there.seconds),
            "seconds_back": rounded(back.seconds),
            "kills": there.kills + back.kills,
        }))
    }

    /// The run: the sum of its participants.
    fn sum(&self, sides: &[Value], expected: u64, ways: [&[Moved]; 2]) -> Value {
        let sum = |field: &str| -> u64 {
            sides.iter().filter_map(|side| side.get(field).and_then(Value::as_u64)).sum()
        };
        let all = |field: &str| {
            sides.iter().all(|side| side.get(field).and_then(Value::as_bool) == Some(true))
        };
        let slowest = |field: &str| {
            let seconds = sides.iter().filter_map(|side| side.get(field).and_then(Value::as_f64));
            seconds.fold(0.0, f64::max)
        };
        let must_agree = ways.map(|moved| moved.first().and_then(|moved| moved.must_agree.clone()));
        let [there, back] = ways.map(|moved| self.shared(moved));
        json!({
            "kms": self.keys.name(),
            "operators": self.nodes.len(),
            "contracts": sum("contracts"),
            "contracts_expected": expected,
            "contracts_shared": there,
            "shared_equal": there.is_some() && there == back,
            "must_agree": must_agree,
            "ids_reproduced_before": sum("ids_reproduced_before"),
            "ids_verified_after": sum("ids_verified_after"),
            "lost": sum("lost"),
            "round_trip_identical": all("round_trip_identical"),
            "sign_verified": all("sign_verified"),
            "seconds_there": slowest("seconds_there"),
            "seconds_back": slowest("seconds_back"),
            "kills": sum("kills"),
            "participants": sides,
        })
    }

    /// How many contracts two participants share, if what both stated of them is the same.
    fn shared(&self, moved: &[Moved]) -> Option<u64> {
        let status = &moved.first()?.status;
        let said = |node: &str, other: &str| {
            let rewritten = stated(status, node, "rewritten")?;
            let list = rewritten.get("shared")?.as_array()?;
            let of = |it: &&Value| it.get("node").and_then(Value::as_str) == Some(other);
            let found = list.iter().find(of)?;
            Some((found.get("contracts")?.as_u64()?, found.get("ids")?.as_str()?.to_owned()))
        };
        let mut total = 0;
        for (index, node) in self.nodes.iter().enumerate() {
            for other in self.nodes.iter().skip(index + 1) {
                let (ours, theirs) = (said(node, other)?, said(other, node)?);
                if ours != theirs {
                    return None;
                }
                total += ours.0;
            }
        }
        Some(total)
    }
}

impl Moved {
    /// A file that a plan left.
    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

/// What the snapshots of both moves are.
struct Compared {
    before: Value,
    moved: Value,
    after: Value,
    round_trip: Value,
}

/// Waits for the end of a process. Kills it if it takes too long, or if it is not wanted any more.
fn await_end(
    child: &mut Child,
    until: Instant,
    unwanted: &AtomicBool,
) -> Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > until || unwanted.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn verified(lab: &Lab, moved: &Moved, name: &str) -> Result<Value> {
    verify(lab, &moved.file(name), &dars(lab, moved)?)
}

/// Every contract reproduces its id, or this fails.
fn verify(lab: &Lab, snapshot: &str, dars: &[String]) -> Result<Value> {
    let mut words = vec!["participant", "verify", snapshot, "--dar"];
    words.extend(dars.iter().map(String::as_str));
    lab.heirloom(&words)
}

fn dars(lab: &Lab, moved: &Moved) -> Result<Vec<String>> {
    let folder = lab.path(&moved.file("packages"));
    let listed = std::fs::read_dir(&folder)
        .with_context(|| format!("no packages in {}", folder.display()))?;
    listed.map(|entry| Ok(entry?.path().display().to_string())).collect()
}

/// How many contracts the target showed when everything was imported.
fn shown_contracts(moved: &Moved) -> Option<u64> {
    reconciled(moved)?.get("contracts").and_then(Value::as_u64)
}

/// Whether the custodian signed, and the signature was verified.
fn signed(moved: &Moved) -> bool {
    reconciled(moved).and_then(|found| found.get("signer")).is_some_and(Value::is_string)
}

/// What the node stated when target and snapshot were compared.
fn reconciled(moved: &Moved) -> Option<&Value> {
    stated(&moved.status, &moved.node, "reconciled")
}

/// Packages of others that are at hand beside this repository. The demonstration's own package
/// moves in any case.
fn real_dars() -> Vec<String> {
    let folder = workspace_root().join("../shared/vectors/canton/dars");
    let wanted = ["splice-amulet-0.1.17.dar", "splice-api-token-metadata-v1-1.0.0.dar"];
    let found = wanted.iter().map(|name| folder.join(name)).filter(|path| path.exists());
    found.map(|path| path.display().to_string()).collect()
}
