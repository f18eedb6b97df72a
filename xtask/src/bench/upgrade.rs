//! How long a node is away during an upgrade, beside one start of its keeper.
//!
//! A real fleet on this machine, as in the demo, without applications. The floor is one launch of
//! the same bundle by the same platform daemon, until its agent's socket takes a connection.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Figure, say};
use crate::demo::{self, rolling};
use crate::lab::network::Shape;
use crate::lab::start;
use crate::lab::watch::Watcher;
use crate::lab::{self, Lab};

const NODES: usize = 4;
/// Launches of which the median counts.
const LAUNCHES: usize = 9;

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
    let network = lab.found(Shape::REPLICATED)?;
    let old = lab.sign_bundle("keeper-1.0.0", "heirloom-keeper", &network.domain)?;
    lab.publish_first(&network, &old)?;
    lab.start_agents(&old, None)?;
    lab.order_generation(Shape::REPLICATED, 0)?;
    let starts =
        (0..LAUNCHES).map(|index| start::seconds(lab, &old, index)).collect::<Result<_>>()?;
    let new = lab.sign_bundle("keeper-2.0.0", "heirloom-keeper", &network.domain)?;
    let watcher = Watcher::start(Arc::clone(lab), &new)?;
    let begun = Instant::now();
    let plan = rolling::propose(lab, &network, &old, &new)?;
    demo::await_upgrade(lab, &plan)?;
    let wall = begun.elapsed().as_secs_f64();
    rolling::everybody_serves(lab, &new)?;
    let away: Vec<f64> = watcher.finish().changed.into_values().collect();
    ensure!(away.len() == NODES, "{} of {NODES} nodes were seen changing", away.len());
    let longest = away.iter().copied().fold(0.0, f64::max);
    let (away, start) = (start::median(away)?, start::median(starts)?);
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
