//! How long a node is away during an upgrade, beside one start of its keeper.
//!
//! A real fleet on this machine, as in the demo, without applications. The floor is one launch of
//! the same bundle by the same platform daemon, until its agent's socket takes a connection.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::{Figure, say};
use crate::demo;
use crate::lab::network::Code;
use crate::lab::watch::Watcher;
use crate::lab::{self, Lab};

const NODES: usize = 4;
/// Launches of which the median counts.
const LAUNCHES: usize = 9;
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the socket of a keeper that starts is tried.
const LAUNCH_LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Upgrades a fleet, and measures each node.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    say("Building the fleet's programs (minutes on the first run).");
    lab::build()?;
    let lab = Arc::new(Lab::new("bench", NODES, say)?);
    let figures = play(&lab).with_context(|| format!("look into {}", lab.directory.display()))?;
    let directory = lab.directory.clone();
    drop(lab);
    std::fs::remove_dir_all(&directory)?;
    Ok(figures)
}

fn play(lab: &Arc<Lab>) -> Result<Vec<Figure>> {
    let network = lab.found()?;
    let old = lab.sign_bundle("keeper-1.0.0", "heirloom-keeper", &network.domain)?;
    lab.publish_first(&network, &old)?;
    lab.start_agents(&old)?;
    lab.order_generation(0)?;
    let starts = (0..LAUNCHES).map(|index| launch(lab, &old, index)).collect::<Result<_>>()?;
    let new = lab.sign_bundle("keeper-2.0.0", "heirloom-keeper", &network.domain)?;
    let watcher = Watcher::start(Arc::clone(lab), &new.measurement)?;
    let begun = Instant::now();
    let plan = demo::propose(lab, &network, &old, &new)?;
    demo::await_upgrade(lab, &plan)?;
    let wall = begun.elapsed().as_secs_f64();
    demo::everybody_serves(lab, &new)?;
    let away: Vec<f64> = watcher.finish().changed.into_values().collect();
    ensure!(away.len() == NODES, "{} of {NODES} nodes were seen changing", away.len());
    let longest = away.iter().copied().fold(0.0, f64::max);
    let (away, start) = (median(away)?, median(starts)?);
    Ok(vec![Figure {
        name: "upgrade".to_owned(),
        what: "upgrade of one node, from its last answer to its first".to_owned(),
        unit: "s".to_owned(),
        found: away,
        floor: Some(start),
        ratio: Some(away / start),
        target: None,
        note: format!(
            "median of {NODES} nodes in two waves, the longest {longest:.2} s, the whole upgrade \
             {wall:.1} s; the floor is the median of {LAUNCHES} launches of the same keeper; both \
             in the development profile"
        ),
    }])
}

/// Launches one more keeper on the first host, beside the one that serves, and says after how many
/// seconds its socket takes a connection. It holds nothing, and ends with the laboratory.
fn launch(lab: &Lab, code: &Code, index: usize) -> Result<f64> {
    let node = lab.nodes.first().context("a fleet has nodes")?;
    let label = format!("start-{index}");
    let path = |suffix: &str| lab.path(&format!("{label}{suffix}")).display().to_string();
    let (state, admin, log) = (path(""), path(".sock"), path(".log"));
    let bundle = format!("artifacts/{}", code.name);
    let socket = node.socket();
    let begun = Instant::now();
    lab.platformd(&[
        "launch",
        "--socket",
        &socket,
        "--bundle",
        &bundle,
        "--label",
        &label,
        "--log",
        &log,
        "--",
        "--node",
        &node.name,
        "--state",
        &state,
        "--admin",
        &admin,
        "--listen",
        "127.0.0.1:0",
    ])?;
    while UnixStream::connect(&admin).is_err() {
        ensure!(begun.elapsed() < LAUNCH_TIMEOUT, "the keeper does not start; look into {log}");
        std::thread::sleep(LAUNCH_LOOK_AGAIN);
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
}
