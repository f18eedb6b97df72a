//! Handover: one host, an exclusive domain; the keyring goes from the old keeper through the
//! upgrader to the new one, and at no moment do two of them answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::clients::{Clients, Digests, contains, finish_clients, first_answers, start_clients};
use super::{await_upgrade, explain_fields, name_platforms, say};
use crate::lab::chaos::{Chaos, Pace};
use crate::lab::network::{Code, Network, Shape};
use crate::lab::start;
use crate::lab::watch::status;
use crate::lab::{Lab, SharedLab, text, until};

/// Hosts of the fleet.
pub(super) const NODES: usize = 1;
const CLIENTS: usize = 4;
/// Launches of which the median counts.
const LAUNCHES: usize = 7;
/// How long the agent may take to fetch, verify and try a release.
const STAGE_TIMEOUT: Duration = Duration::from_mins(2);

/// The code of the handover.
struct Cast {
    old: Code,
    upgrader: Code,
    new: Code,
}

/// Plays the demo, and returns its summary.
pub(super) fn play(lab: &SharedLab, kill: bool) -> Result<Value> {
    say(&format!(
        "\n1. Found a network: one host ({}), registry, operators, an exclusive domain.",
        lab.platform_words().join(", ")
    ));
    let network = lab.found(Shape::EXCLUSIVE)?;
    let old = lab.sign_bundle("keeper-1.0.0", "heirloom-keeper", &network.domain)?;
    lab.publish_first(&network, &old)?;
    say("\n2. Start agent and keeper; genesis, and a first rotation. One instance is active.");
    lab.start_agents(&old, None)?;
    lab.order_generation(Shape::EXCLUSIVE, 0)?;
    lab.order_generation(Shape::EXCLUSIVE, 1)?;

    say("\n3. Start 4 applications that ask for keys all the time.");
    let before = first_answers(lab)?;
    start_clients(lab, CLIENTS)?;
    let starts = (0..LAUNCHES).map(|index| start::seconds(lab, &old, index));
    let start = start::median(starts.collect::<Result<_>>()?)?;
    say(&format!("   under this load one process start takes {:.0} ms", start * 1_000.0));

    say("\n4. Publish an upgrader and keeper-2.0.0, and the policy that names the edges.");
    let upgrader = lab.sign_upgrader("upgrader-1.0.0", &network.domain)?;
    let new = lab.sign_bundle("keeper-2.0.0", "heirloom-keeper", &network.domain)?;
    let cast = Cast { old, upgrader, new };
    publish(lab, &network, &cast)?;
    say("   the agent sees them, fetches them over HTTP, verifies them, and tries each once");
    await_staged(lab, &cast)?;

    say("\n5. An operator plans, two approve.");
    let begun = Instant::now();
    let plan = propose(lab, &cast)?;
    let chaos = if kill {
        Some(Chaos::start(Arc::clone(lab), Pace::Slow, |lab| start_clients(lab, CLIENTS))?)
    } else {
        None
    };
    await_upgrade(lab, &plan)?;
    let wall_seconds = begun.elapsed().as_secs_f64();
    let kills = chaos.map(Chaos::finish).transpose()?;
    let node = lab.nodes.first().context("there is one node")?;
    until("the node with the new code", Duration::from_mins(2), || {
        status(node).is_ok_and(|status| status.serves(cast.new.on(node)))
    })?;

    say("\n6. Compare every key before and after, and look at who answered when.");
    // Applications reach the new keeper also after the last kill.
    std::thread::sleep(Duration::from_secs(3));
    let clients = finish_clients(lab)?;
    let after = first_answers(lab)?;
    let identical = contains(&after, &before)
        && contains(&clients.digests, &before)
        && clients.contradictions == 0;
    let codes = [&cast.old, &cast.upgrader, &cast.new].map(|code| code.measurement.clone());
    let times = Times { downtime_ms: downtime(&cast, &clients)?, start, wall_seconds };
    let summary = summarize(lab, codes, &clients, identical, &times);
    explain(&summary, kills, &before);
    ensure!(kills != Some(0), "nothing was killed");
    judge(&summary, kill)?;
    Ok(summary)
}

/// Publishes both releases, and a policy with the edges there and back.
fn publish(lab: &Lab, network: &Network, cast: &Cast) -> Result<()> {
    let Cast { old, upgrader, new } = cast;
    ensure!(old.measurement != new.measurement, "both releases have the same measurement");
    lab.publish_release(upgrader)?;
    lab.publish_release(new)?;
    let edges = [(old, upgrader), (upgrader, new), (new, upgrader), (upgrader, old)];
    lab.publish_policy(network, 2, &[old, upgrader, new], &edges, None)
}

/// Waits until the agent says that both releases are staged and were tried.
fn await_staged(lab: &Lab, cast: &Cast) -> Result<()> {
    let node = lab.nodes.first().context("there is one node")?;
    until("staged releases", STAGE_TIMEOUT, || {
        let status = status(node);
        [&cast.upgrader, &cast.new]
            .iter()
            .all(|code| status.as_ref().is_ok_and(|status| status.has_tried(code.on(node))))
    })
}

fn propose(lab: &Lab, cast: &Cast) -> Result<String> {
    let node = &lab.nodes.first().context("there is one node")?.name;
    let started = lab.operate(&[
        "upgrade",
        "start",
        "--strategy",
        "handover",
        "--node",
        node,
        "--via",
        &cast.upgrader.name,
        "--to",
        &cast.new.name,
        "--key",
        "net/keys/operator-1.key",
        "--out",
        "plan",
    ])?;
    let plan = text(&started, "/plan")?.to_owned();
    for line in lab.show(&["plan", "show", "plan", "--network", "net/network.toml"])?.lines() {
        say(&format!("   {line}"));
    }
    for operator in ["net/keys/operator-2.key", "net/keys/operator-3.key"] {
        lab.operate(&["plan", "approve", "--plan", &plan, "--key", operator])?;
    }
    say(&format!("   two operators approved {plan}"));
    Ok(plan)
}

/// Milliseconds from the last answer of old code to the first of new code.
fn downtime(cast: &Cast, clients: &Clients) -> Result<f64> {
    let of = |code: &Code| {
        let measurement = code.measurement.clone();
        clients.answered.values().filter(move |it| it.measurement == measurement)
    };
    let last = of(&cast.old).map(|it| it.last).reduce(f64::max).context("old never answered")?;
    let first = of(&cast.new).map(|it| it.first).reduce(f64::min).context("new never answered")?;
    Ok(first - last)
}

/// How long things took.
pub(super) struct Times {
    /// The longest time without an answer.
    pub(super) downtime_ms: f64,
    /// Seconds of one process start.
    pub(super) start: f64,
    /// Seconds from the plan to its end.
    pub(super) wall_seconds: f64,
}

/// What happened, where the keyring went from the first of these through the second to the third.
pub(super) fn summarize(
    lab: &Lab,
    [from, via, to]: [String; 3],
    clients: &Clients,
    identical: bool,
    times: &Times,
) -> Value {
    let rounded = |number: f64| (number * 1_000.0).round() / 1_000.0;
    let Times { downtime_ms, start, wall_seconds } = *times;
    let process_start_ms = start * 1_000.0;
    let mut summary = json!({
        "strategy": "handover",
        "nodes": lab.nodes.len(),
        "from": from,
        "via": via,
        "to": to,
        "client_requests": clients.requests,
        "client_failures": clients.failures,
        "keys_identical": identical,
        "active_holders_max": clients.most_at_once(),
        "downtime_ms": rounded(downtime_ms),
        "process_start_ms": rounded(process_start_ms),
        "downtime_in_process_starts": rounded(downtime_ms / process_start_ms),
        "wall_seconds": rounded(wall_seconds),
    });
    name_platforms(lab, &mut summary);
    summary
}

pub(super) fn explain(summary: &Value, kills: Option<u32>, keys: &Digests) {
    explain_fields(
        summary,
        &[
            ("platforms of the hosts", "platforms"),
            ("old code", "from"),
            ("by way of", "via"),
            ("new code", "to"),
            ("key requests meanwhile", "client_requests"),
            ("of which failed", "client_failures"),
            ("all keys the same as before", "keys_identical"),
            ("most holders active at once", "active_holders_max"),
            ("milliseconds without an answer", "downtime_ms"),
            ("milliseconds of one process start", "process_start_ms"),
            ("seconds from plan to end", "wall_seconds"),
        ],
        (keys.len(), kills),
    );
}

/// The demo fails if it cannot claim what it is there to show.
pub(super) fn judge(summary: &Value, killed: bool) -> Result<()> {
    let number = |name: &str| summary.get(name).and_then(Value::as_u64).unwrap_or(0);
    ensure!(summary.get("keys_identical") == Some(&Value::Bool(true)), "keys have changed");
    ensure!(number("active_holders_max") == 1, "two holders were active at once");
    ensure!(number("client_requests") > 0, "no application asked for anything");
    ensure!(killed || number("client_failures") == 0, "applications were refused");
    Ok(())
}
