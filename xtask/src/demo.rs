//! `cargo xtask demo`: upgrade a real fleet under load, and prove what was claimed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::lab::chaos::Chaos;
use crate::lab::network::{Code, Network};
use crate::lab::watch::{Seen, Watcher, status};
use crate::lab::{self, Lab, SharedLab, text, until, write};

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kill random processes all along: agents, keepers, the registry, whole hosts.
    #[arg(long)]
    kill: bool,
    /// Print one line of JSON at the end, and nothing else, to standard output.
    #[arg(long)]
    json: bool,
    /// Keep the fleet's files, to look at them afterwards.
    #[arg(long)]
    keep: bool,
}

const NODES: usize = 4;
const CLIENTS: usize = 8;
/// How long the upgrade may take, with kills all along on a busy machine.
const UPGRADE_TIMEOUT: Duration = Duration::from_mins(10);
/// How often an epoch begins.
const EPOCH_EVERY: Duration = Duration::from_secs(3);

/// Key digests by the key that they belong to.
pub(crate) type Digests = BTreeMap<String, String>;

/// What clients came to.
#[derive(Debug, Default)]
struct Clients {
    requests: u64,
    failures: u64,
    contradictions: u64,
    digests: Digests,
}

/// Runs the demo.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    say("Building the fleet's programs (minutes on the first run, then seconds).");
    lab::build()?;
    let lab = Arc::new(Lab::new("demo", NODES, say)?);
    end_when_interrupted(&lab)?;
    let played = play(&lab, arguments);
    if lab.is_ending() {
        // What failed did so because somebody interrupted. The process ends when the fleet has.
        loop {
            std::thread::park();
        }
    }
    let summary = played.with_context(|| format!("look into {}", lab.directory.display()))?;
    if arguments.json {
        println!("{summary}");
    }
    let directory = lab.directory.clone();
    drop(lab);
    if arguments.keep {
        say(&format!("\nEverything is in {}.", directory.display()));
    } else {
        std::fs::remove_dir_all(&directory)?;
    }
    Ok(())
}

/// Plays the demo for the test: once in peace, and once with kills all along.
pub(crate) fn check() -> Result<()> {
    for kill in [false, true] {
        run(&Arguments { kill, json: true, keep: false })?;
    }
    Ok(())
}

/// Ctrl-C ends the whole fleet and leaves nothing behind.
fn end_when_interrupted(lab: &SharedLab) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // The lab ends by itself when nobody holds it any more, so this must not.
    let lab = Arc::downgrade(lab);
    std::thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            say("\ninterrupted: ending the fleet");
            if let Some(lab) = lab.upgrade() {
                lab.end();
                let _removed = std::fs::remove_dir_all(&lab.directory);
            }
            #[expect(clippy::exit, reason = "the main thread may be anywhere")]
            std::process::exit(130);
        }
    })?;
    Ok(())
}

fn play(lab: &SharedLab, arguments: &Arguments) -> Result<Value> {
    say(
        "\n1. Found a network: 4 hosts with an emulated CPU each, registry, 3 policy signers, 3 operators.",
    );
    let network = lab.found()?;
    let old = lab.sign_bundle("keeper-1.0.0", "heirloom-keeper", &network.domain)?;
    lab.publish_first(&network, &old)?;
    say(&format!("   keeper-1.0.0 is {}", old.measurement));

    say("\n2. Start agents and keepers; genesis, and a first rotation, by order of two operators.");
    lab.start_agents(&old)?;
    lab.order_generation(0)?;
    lab.order_generation(1)?;
    say("   every node holds generations 0 and 1, and has restarted and unsealed them once");

    say("\n3. Start 8 applications that ask for keys all the time.");
    let before = first_answers(lab)?;
    start_clients(lab)?;

    say("\n4. Release keeper-2.0.0; a policy that names the edge, and the way back; a plan.");
    let new = lab.sign_bundle("keeper-2.0.0", "heirloom-keeper", &network.domain)?;
    ensure!(old.measurement != new.measurement, "both releases have the same measurement");
    say(&format!("   keeper-2.0.0 is {}", new.measurement));
    let watcher = Watcher::start(Arc::clone(lab), &new.measurement)?;
    let begun = Instant::now();
    let plan = propose(lab, &network, &old, &new)?;
    let chaos = if arguments.kill { Some(Chaos::start(Arc::clone(lab))?) } else { None };

    say("\n5. Half of the fleet, then the other half; verified, and verified again.");
    await_upgrade(lab, &plan)?;
    let wall_seconds = begun.elapsed().as_secs_f64();
    let kills = chaos.map(Chaos::finish).transpose()?;
    everybody_serves(lab, &new)?;

    say(
        "\n6. Compare every key before and after, also through an application that starts only now.",
    );
    let seen = watcher.finish();
    let clients = finish_clients(lab)?;
    let after = first_answers(lab)?;
    let identical = contains(&after, &before)
        && contains(&clients.digests, &before)
        && clients.contradictions == 0;
    let summary = summarize(lab, (&old, &new), (&seen, &clients), identical, wall_seconds);
    explain(&summary, kills, &before);
    judge(&summary, arguments.kill)?;
    Ok(summary)
}

/// Publishes the second release and its policy, plans, shows the plan, and has it approved.
pub(crate) fn propose(lab: &Lab, network: &Network, old: &Code, new: &Code) -> Result<String> {
    lab.publish_release(new)?;
    lab.publish_policy(network, 2, &[old, new], &[(old, new), (new, old)], None)?;
    let started = lab.operate(&[
        "upgrade",
        "start",
        "--strategy",
        "rolling",
        "--to",
        "keeper-2.0.0",
        "--key",
        "net/keys/operator-1.key",
        "--out",
        "plan",
    ])?;
    let plan = text(&started, "/plan")?.to_owned();
    let epoch_seconds = EPOCH_EVERY.as_secs().to_string();
    let show = ["plan", "show", "plan", "--epoch-seconds", &epoch_seconds];
    for line in lab.show(&[&show[..], &["--network", "net/network.toml"]].concat())?.lines() {
        say(&format!("   {line}"));
    }
    lab.publish_policy(network, 3, &[new], &[], Some(&plan))?;
    for operator in ["net/keys/operator-2.key", "net/keys/operator-3.key"] {
        lab.operate(&["plan", "approve", "--plan", &plan, "--key", operator])?;
    }
    say(&format!("   two operators approved {plan}"));
    Ok(plan)
}

/// Waits until the plan has finished, and lets epochs pass meanwhile.
pub(crate) fn await_upgrade(lab: &Lab, plan: &str) -> Result<()> {
    let deadline = Instant::now() + UPGRADE_TIMEOUT;
    let (mut epoch, mut shown) = (Instant::now(), String::new());
    loop {
        ensure!(Instant::now() < deadline, "the upgrade did not finish in {UPGRADE_TIMEOUT:?}");
        if epoch.elapsed() > EPOCH_EVERY {
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
            if status.get("status").and_then(Value::as_str) == Some("finished") {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn progress(status: &Value) -> String {
    let number = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or(0);
    let state = status.get("status").and_then(Value::as_str).unwrap_or("unknown");
    format!("{state}: {} of {} steps done", number("steps_done"), number("steps"))
}

pub(crate) fn everybody_serves(lab: &Lab, new: &Code) -> Result<()> {
    until("every node with the new code", Duration::from_mins(2), || {
        lab.nodes
            .iter()
            .all(|node| status(node).is_ok_and(|status| status.serves(&new.measurement)))
    })
}

/// The keys that an application gets which asks for each once and ends.
pub(crate) fn first_answers(lab: &Lab) -> Result<Digests> {
    let node = lab.nodes.first().context("a fleet has nodes")?;
    let report = lab.path("first-answers.json");
    let _absent = std::fs::remove_file(&report);
    let target = report.display().to_string();
    launch(lab, &node.name, "first-answers", &["--report", &target, "--requests", "400"])?;
    let finished = || {
        read_report(&report)
            .is_ok_and(|it| it.get("requests").is_some_and(|n| n.as_u64() >= Some(400)))
    };
    until("the first answers", Duration::from_secs(90), finished)?;
    let mut clients = Clients::default();
    add(&mut clients, &read_report(&report)?)?;
    ensure!(clients.failures == 0, "{} of the first requests failed", clients.failures);
    ensure!(!clients.digests.is_empty(), "no key was given");
    Ok(clients.digests)
}

fn start_clients(lab: &Lab) -> Result<()> {
    for (index, node) in (0..CLIENTS).zip(lab.nodes.iter().cycle()) {
        let report = lab.path(&format!("client-{index}.json")).display().to_string();
        let end = lab.path("end").display().to_string();
        let label = format!("client-{index}");
        launch(lab, &node.name, &label, &["--report", &report, "--until-file", &end])?;
    }
    Ok(())
}

/// Launches the application on a node's host, measured.
fn launch(lab: &Lab, node: &str, label: &str, arguments: &[&str]) -> Result<()> {
    let (socket, log) = (format!("{node}/platform.sock"), format!("{label}.log"));
    let registry = format!("http://127.0.0.1:{}", lab.registry_port);
    let mut words = vec![
        "launch",
        "--socket",
        &socket,
        "--bundle",
        "artifacts/wallet-1.0.0",
        "--label",
        label,
        "--log",
        &log,
        "--",
        "--registry",
        &registry,
        "--keys",
        "2",
    ];
    words.extend(arguments);
    lab.platformd(&words)?;
    Ok(())
}

fn finish_clients(lab: &Lab) -> Result<Clients> {
    write(&lab.path("end"), "")?;
    // A killed host takes its applications with it: their last report stands.
    std::thread::sleep(Duration::from_secs(2));
    let mut clients = Clients::default();
    for index in 0..CLIENTS {
        let path = lab.path(&format!("client-{index}.json"));
        add(&mut clients, &read_report(&path)?)?;
    }
    Ok(clients)
}

fn read_report(path: &std::path::Path) -> Result<Value> {
    let bytes = std::fs::read(path).with_context(|| format!("no report {}", path.display()))?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn add(clients: &mut Clients, report: &Value) -> Result<()> {
    let number = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or(0);
    clients.requests += number("requests");
    clients.failures += number("failures");
    clients.contradictions += number("contradictions");
    for key in report.get("keys").and_then(Value::as_array).into_iter().flatten() {
        let name = format!(
            "{}/{}/{}",
            text(key, "/key")?,
            text(key, "/kind")?,
            key.get("generation").context("a key has a generation")?
        );
        let check = text(key, "/check")?.to_owned();
        if clients.digests.insert(name, check.clone()).is_some_and(|known| known != check) {
            clients.contradictions += 1;
        }
    }
    Ok(())
}

/// Whether every key of `some` is the same in `all`.
pub(crate) fn contains(all: &Digests, some: &Digests) -> bool {
    some.iter().all(|(key, digest)| all.get(key) == Some(digest))
}

fn summarize(
    lab: &Lab,
    (old, new): (&Code, &Code),
    (seen, clients): (&Seen, &Clients),
    identical: bool,
    wall_seconds: f64,
) -> Value {
    let rounded = |seconds: f64| (seconds * 1_000.0).round() / 1_000.0;
    let per_node: Vec<f64> = lab
        .nodes
        .iter()
        .filter_map(|node| seen.changed.get(&node.name).copied().map(rounded))
        .collect();
    json!({
        "strategy": "rolling",
        "nodes": lab.nodes.len(),
        "from": old.measurement,
        "to": new.measurement,
        "client_requests": clients.requests,
        "client_failures": clients.failures,
        "keys_identical": identical,
        "holders_min": seen.holders_min.unwrap_or(0),
        "wall_seconds": rounded(wall_seconds),
        "per_node_seconds": per_node,
    })
}

fn explain(summary: &Value, kills: Option<u32>, keys: &Digests) {
    say("\nWhat happened");
    let show = |label: &str, value: &str| say(&format!("   {label:<34}{value}"));
    let field = |name: &str| summary.get(name).map(in_words).unwrap_or_default();
    show("old code", &field("from"));
    show("new code", &field("to"));
    show("key requests meanwhile", &field("client_requests"));
    show("of which failed", &field("client_failures"));
    show("keys compared", &keys.len().to_string());
    show("all the same as before", &field("keys_identical"));
    show("fewest proven holders", &field("holders_min"));
    show("seconds from plan to end", &field("wall_seconds"));
    show("seconds for each node", &field("per_node_seconds"));
    if let Some(kills) = kills {
        show("processes killed meanwhile", &kills.to_string());
    }
}

/// A value of the summary, for people.
fn in_words(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(in_words).collect::<Vec<_>>().join(", "),
        Value::Null | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// The demo fails if it cannot claim what it is there to show.
fn judge(summary: &Value, killed: bool) -> Result<()> {
    let number = |name: &str| summary.get(name).and_then(Value::as_u64).unwrap_or(0);
    ensure!(summary.get("keys_identical") == Some(&Value::Bool(true)), "keys have changed");
    ensure!(number("holders_min") >= 2, "there were fewer than two proven holders");
    ensure!(number("client_requests") > 0, "no application asked for anything");
    ensure!(killed || number("client_failures") == 0, "applications were refused");
    Ok(())
}

fn say(line: &str) {
    eprintln!("{line}");
}
