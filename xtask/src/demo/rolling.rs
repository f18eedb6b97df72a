//! Rolling: half of a fleet, then the other half, under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::clients::{Clients, Digests, contains, finish_clients, first_answers, start_clients};
use super::{EPOCH_EVERY, await_upgrade, explain_fields, name_platforms, say};
use crate::lab::chaos::{Chaos, Pace};
use crate::lab::network::{Code, Network, Shape};
use crate::lab::watch::{Seen, Watcher, status};
use crate::lab::{Lab, SharedLab, text, until};

/// Hosts of the fleet.
pub(super) const NODES: usize = 4;
const CLIENTS: usize = 8;

/// Plays the demo, and returns its summary.
pub(super) fn play(lab: &SharedLab, kill: bool) -> Result<Value> {
    say(&format!(
        "\n1. Found a network: {NODES} hosts ({}), registry, 3 policy signers, 3 operators.",
        lab.platform_words().join(", ")
    ));
    let network = lab.found(Shape::REPLICATED)?;
    let old = lab.sign_bundle("keeper-1.0.0", "heirloom-keeper", &network.domain)?;
    lab.publish_first(&network, &old)?;
    say(&format!("   keeper-1.0.0 is {}", old.measurement));

    say("\n2. Start agents and keepers; genesis, and a first rotation, by order of two operators.");
    lab.start_agents(&old, None)?;
    lab.order_generation(Shape::REPLICATED, 0)?;
    lab.order_generation(Shape::REPLICATED, 1)?;
    say("   every node holds generations 0 and 1, and has restarted and unsealed them once");

    say("\n3. Start 8 applications that ask for keys all the time.");
    let before = first_answers(lab)?;
    start_clients(lab, CLIENTS)?;

    say("\n4. Release keeper-2.0.0; a policy that names the edge, and the way back; a plan.");
    let new = lab.sign_bundle("keeper-2.0.0", "heirloom-keeper", &network.domain)?;
    ensure!(old.measurement != new.measurement, "both releases have the same measurement");
    say(&format!("   keeper-2.0.0 is {}", new.measurement));
    let watcher = Watcher::start(Arc::clone(lab), &new)?;
    let begun = Instant::now();
    let plan = propose(lab, &network, &old, &new)?;
    let chaos =
        if kill { Some(Chaos::start(Arc::clone(lab), Pace::Quick, |_| Ok(()))?) } else { None };

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
    judge(&summary, kill)?;
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

pub(crate) fn everybody_serves(lab: &Lab, new: &Code) -> Result<()> {
    until("every node with the new code", Duration::from_mins(2), || {
        lab.nodes.iter().all(|node| status(node).is_ok_and(|status| status.serves(new.on(node))))
    })
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
    let mut summary = json!({
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
    });
    name_platforms(lab, &mut summary);
    summary
}

fn explain(summary: &Value, kills: Option<u32>, keys: &Digests) {
    explain_fields(
        summary,
        &[
            ("platforms of the hosts", "platforms"),
            ("old code", "from"),
            ("new code", "to"),
            ("key requests meanwhile", "client_requests"),
            ("of which failed", "client_failures"),
            ("all keys the same as before", "keys_identical"),
            ("fewest proven holders", "holders_min"),
            ("seconds from plan to end", "wall_seconds"),
            ("seconds for each node", "per_node_seconds"),
        ],
        (keys.len(), kills),
    );
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
