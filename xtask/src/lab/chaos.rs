//! Random kills, with the power cord and not with a request: agents, keepers, the registry, and
//! now and then a whole host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Lab, Node, SharedLab};

/// Kills something again and again, until it is stopped.
pub(crate) struct Chaos {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32>>,
}

impl Chaos {
    /// Begins.
    pub(crate) fn start(lab: SharedLab, pace: Pace, after_host: AfterHost) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("chaos".to_owned())
            .spawn(move || {
                let mut dice = Dice::new();
                let mut kills = 0;
                while !stopping.load(Ordering::Relaxed) {
                    kills += strike(&lab, &mut dice, after_host)?;
                    let pause = pace.pause(&mut dice);
                    std::thread::sleep(pause);
                }
                Ok(kills)
            })
            .context("cannot start a thread")?;
        Ok(Self { stop, thread })
    }

    /// Ends, and says how often it struck. Everything that was killed runs again.
    pub(crate) fn finish(self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the killer panicked"))?
    }
}

/// Kills the service of a node, or the proxy in front of it, if it has one.
fn kill_service(lab: &Lab, node: &Node, index: usize, dice: &mut Dice) -> Result<u32> {
    if dice.below(4) == 0 {
        lab.say(&format!("  kill: the proxy of {}", node.name));
        lab.kill(&format!("proxy-{}", node.name))?;
        lab.start_proxy(index, node)?;
        return Ok(1);
    }
    let service = format!("{}.service.", node.name);
    let Some(process) = process(lab, node, |label| label.starts_with(&service))? else {
        return Ok(0);
    };
    lab.say(&format!("  kill: the service of {}", node.name));
    kill_process(process)?;
    Ok(1)
}

/// Kills something, and says how many processes that were there.
fn strike(lab: &Lab, dice: &mut Dice, after_host: AfterHost) -> Result<u32> {
    let index = usize::try_from(dice.below(lab.nodes.len() as u64)).unwrap_or(0);
    let node = lab.nodes.get(index).context("a fleet has nodes")?;
    match dice.below(10) {
        0 => {
            lab.say("  kill: the registry");
            lab.kill("registry")?;
            lab.start_registry()?;
        }
        1 => {
            lab.say(&format!("  kill: the host of {}", node.name));
            lab.kill(&agent(node))?;
            lab.kill_platform(node)?;
            lab.start_platform(node)?;
            lab.start_agent(node)?;
            after_host(lab)?;
        }
        2 | 3 if lab.has_services() => return kill_service(lab, node, index, dice),
        2..=5 => {
            lab.say(&format!("  kill: the agent of {}", node.name));
            lab.kill(&agent(node))?;
            lab.start_agent(node)?;
        }
        _ => return kill_keeper(lab, node),
    }
    Ok(1)
}

fn agent(node: &Node) -> String {
    format!("agent-{}", node.name)
}

/// What to start again after a host was killed, besides what belongs to the fleet.
pub(crate) type AfterHost = fn(&Lab) -> Result<()>;

/// How soon one kill follows the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pace {
    /// A fleet, of which each host is hit now and then.
    Quick,
    /// One host, which must come back from each.
    Slow,
}

impl Pace {
    fn pause(self, dice: &mut Dice) -> Duration {
        Duration::from_millis(match self {
            Self::Quick => 200 + dice.below(900),
            Self::Slow => 200 + dice.below(1_800),
        })
    }
}

/// Whether a label is that of an instance that a node's agent runs for good.
fn is_seat(label: &str, node: &str) -> bool {
    let code = label.strip_prefix(node).and_then(|rest| rest.strip_prefix('.'));
    code.is_some_and(|code| code.len() == 8 && code.bytes().all(|it| it.is_ascii_hexdigit()))
}

/// Process of a node's keeper, as its platform names it.
pub(crate) fn keeper_process(lab: &Lab, node: &Node) -> Result<Option<u64>> {
    // A trial is over soon, and no keeper of the node.
    process(lab, node, |label| is_seat(label, &node.name))
}

/// A process that runs on a node's host under a label of this kind.
fn process(lab: &Lab, node: &Node, wanted: impl Fn(&str) -> bool) -> Result<Option<u64>> {
    let listed = lab.platformd(&["list", "--socket", &node.socket()])?;
    let instances = listed.pointer("/instances").and_then(Value::as_array);
    let running = instances.into_iter().flatten().find(|instance| {
        let label = instance.get("label").and_then(Value::as_str).unwrap_or_default();
        wanted(label) && instance.get("running").and_then(Value::as_bool) == Some(true)
    });
    Ok(running.and_then(|it| it.get("process")).and_then(Value::as_u64))
}

/// Kills the keeper of a node, if one runs.
fn kill_keeper(lab: &Lab, node: &Node) -> Result<u32> {
    let Some(process) = keeper_process(lab, node)? else { return Ok(0) };
    lab.say(&format!("  kill: the keeper of {}", node.name));
    kill_process(process)?;
    Ok(1)
}

fn kill_process(process: u64) -> Result<()> {
    // It may have ended in this moment.
    let _status = std::process::Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .stderr(std::process::Stdio::null())
        .status()?;
    Ok(())
}

/// A generator for what nobody has to repeat: the simulator repeats, this one surprises.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(since.subsec_nanos().into())
    }

    /// A number below `limit` (`SplitMix64`).
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(limit).unwrap_or(0)
    }
}
