//! Handover between platforms: an exclusive domain moves to a host of another kind, and on to one
//! of the first kind. Each measures the same code differently; the keys are the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::clients::{Clients, contains, finish_clients, first_answers, start_clients};
use super::handover::{Times, explain, judge, summarize};
use super::{await_upgrade, say};
use crate::lab::chaos::{Chaos, Pace};
use crate::lab::network::{Code, Shape};
use crate::lab::start;
use crate::lab::watch::status;
use crate::lab::{Lab, Node, SharedLab, text, until};

/// Hosts of the fleet: where the keyring begins, where it goes, and where it ends.
pub(super) const NODES: usize = 3;
const CLIENTS: usize = 6;
/// Launches of which the median counts.
const LAUNCHES: usize = 5;
/// How long a keeper without keys may take until the log knows it.
const REGISTER_TIMEOUT: Duration = Duration::from_mins(1);

/// Plays the demo, and returns its summary.
pub(super) fn play(lab: &SharedLab, kill: bool) -> Result<Value> {
    let platforms = lab.platform_words().join(", ");
    say(&format!(
        "\n1. Found a network: {NODES} hosts ({platforms}), registry, operators, an exclusive domain."
    ));
    let network = lab.found(Shape::EXCLUSIVE)?;
    let code = lab.sign_bundle("keeper-1.0.0", "heirloom-keeper", &network.domain)?;
    lab.publish_first(&network, &code)?;
    for node in &lab.nodes {
        say(&format!("   on {} keeper-1.0.0 is {}", node.name, code.on(node)));
    }

    say("\n2. Start agents and keepers; genesis, and a first rotation. One instance is active.");
    lab.start_agents(&code, None)?;
    lab.order_generation(Shape::EXCLUSIVE, 0)?;
    lab.order_generation(Shape::EXCLUSIVE, 1)?;

    say("\n3. Start 6 applications, on every host, that ask for keys all the time.");
    let before = first_answers(lab)?;
    start_clients(lab, CLIENTS)?;
    let starts = (0..LAUNCHES).map(|index| start::seconds(lab, &code, index));
    let start = start::median(starts.collect::<Result<_>>()?)?;

    let begun = Instant::now();
    let chaos = if kill {
        Some(Chaos::start(Arc::clone(lab), Pace::Slow, |lab| start_clients(lab, CLIENTS))?)
    } else {
        None
    };
    for (index, pair) in lab.nodes.windows(2).enumerate() {
        let [from, to] = pair else { continue };
        say(&format!("\n{}. Move the keyring from {} to {}.", index + 4, from.name, to.name));
        relocate(lab, &code, from, to)?;
    }
    let wall_seconds = begun.elapsed().as_secs_f64();
    let kills = chaos.map(Chaos::finish).transpose()?;
    let last = lab.nodes.last().context("a fleet has nodes")?;
    await_service(&code, last)?;

    say("\n6. Compare every key before and after, and look at who answered when.");
    // Applications reach the last keeper also after the last kill.
    std::thread::sleep(Duration::from_secs(3));
    let clients = finish_clients(lab)?;
    let after = first_answers(lab)?;
    let identical = contains(&after, &before)
        && contains(&clients.digests, &before)
        && clients.contradictions == 0;
    let times = Times { downtime_ms: longest_silence(&clients)?, start, wall_seconds };
    let codes: Vec<String> = lab.nodes.iter().map(|node| code.on(node).to_owned()).collect();
    let codes = codes.try_into().ok().context("there are three nodes")?;
    let summary = summarize(lab, codes, &clients, identical, &times);
    explain(&summary, kills, &before);
    ensure!(kills != Some(0), "nothing was killed");
    judge(&summary, kill)?;
    Ok(summary)
}

/// Plans a move, shows the plan, has it approved, and waits until the other node serves.
fn relocate(lab: &Lab, code: &Code, from: &Node, to: &Node) -> Result<()> {
    let file = format!("plan-{}", to.name);
    let mut started = Value::Null;
    let words = ["host", "move", "--from", &from.name, "--to", &to.name];
    let mut refused = String::new();
    let planned = until("a plan for the move", REGISTER_TIMEOUT, || {
        let signed = ["--key", "net/keys/operator-1.key", "--out", &file];
        match lab.operate(&[&words[..], &signed].concat()) {
            Ok(plan) => started = plan,
            Err(error) => refused = format!("{error:#}"),
        }
        started != Value::Null
    });
    planned.with_context(|| refused)?;
    let plan = text(&started, "/plan")?.to_owned();
    for line in lab.show(&["plan", "show", &file, "--network", "net/network.toml"])?.lines() {
        say(&format!("   {line}"));
    }
    for operator in ["net/keys/operator-2.key", "net/keys/operator-3.key"] {
        lab.operate(&["plan", "approve", "--plan", &plan, "--key", operator])?;
    }
    say(&format!("   two operators approved {plan}"));
    await_upgrade(lab, &plan)?;
    await_service(code, to)
}

fn await_service(code: &Code, node: &Node) -> Result<()> {
    until(&format!("{} with the keyring", node.name), Duration::from_mins(2), || {
        status(node).is_ok_and(|status| status.serves(code.on(node)))
    })
}

/// The longest time, in milliseconds, between the last answer of one holder and the first of the
/// next.
fn longest_silence(clients: &Clients) -> Result<f64> {
    let mut spans: Vec<(f64, f64)> =
        clients.answered.values().map(|it| (it.first, it.last)).collect();
    spans.sort_by(|left, right| left.0.total_cmp(&right.0));
    ensure!(spans.len() >= NODES, "{} holders have answered, not {NODES}", spans.len());
    let gaps = spans.windows(2).filter_map(|pair| match pair {
        [before, after] => Some(after.0 - before.1),
        _ => None,
    });
    gaps.reduce(f64::max).context("nobody answered")
}
