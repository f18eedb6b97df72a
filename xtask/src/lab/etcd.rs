//! The registry's log on a real etcd cluster, and faults in that cluster.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Lab;

/// Members of the cluster.
const MEMBERS: usize = 3;
/// The program that starts it.
const PROGRAM: &str = "heirloom-etcd-cluster";
/// The package of that program.
pub(crate) const PACKAGE: &str = "heirloom-conformance";

/// A cluster, as long as this value lives.
pub(crate) struct Cluster {
    endpoints: Vec<String>,
    link: Mutex<Link>,
}

struct Link {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    /// Starts a cluster below the lab's directory.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let mut command = lab.program(PROGRAM);
        command.args([&MEMBERS.to_string(), &lab.path("etcd").display().to_string()]);
        std::fs::create_dir(lab.path("etcd"))?;
        let log = std::fs::File::create(lab.path("etcd.log"))?;
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = piped.spawn().context("no etcd cluster")?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().context("the cluster has an output")?;
        let mut answers = BufReader::new(answers);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let endpoints =
            serde_json::from_str(&line).with_context(|| format!("no etcd cluster: {line}"))?;
        Ok(Self { endpoints, link: Mutex::new(Link { child, orders, answers }) })
    }

    /// Where clients reach its members.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Lets something happen to it.
    fn order(&self, order: &str) -> Result<()> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = link.orders.as_mut().context("the cluster has ended")?;
        writeln!(orders, "{order}")?;
        orders.flush()?;
        let mut line = String::new();
        link.answers.read_line(&mut line)?;
        ensure!(line.trim() == "done", "the cluster answers {order:?} with {line}");
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let link = self.link.get_mut().unwrap_or_else(PoisonError::into_inner);
        link.orders = None;
        let _ended = link.child.wait();
    }
}

/// Kills members and cuts the cluster apart, in turns, until it is stopped.
pub(crate) struct Trouble {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(u32, u32)>>,
}

impl Trouble {
    /// Begins.
    pub(crate) fn start(cluster: Arc<Cluster>, out: fn(&str)) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("etcd-trouble".to_owned())
            .spawn(move || {
                let (mut kills, mut partitions) = (0, 0);
                for member in (0..MEMBERS).cycle() {
                    let next = (member + 1) % MEMBERS;
                    out(&format!("  kill: etcd member {member}"));
                    cluster.order(&format!("kill {member}"))?;
                    std::thread::sleep(Duration::from_secs(2));
                    cluster.order(&format!("restart {member}"))?;
                    kills += 1;
                    out(&format!("  partition: etcd member {next} is cut off"));
                    cluster.order(&format!("cut {next}"))?;
                    std::thread::sleep(Duration::from_secs(2));
                    cluster.order("heal")?;
                    partitions += 1;
                    if stopping.load(Ordering::Relaxed) {
                        break;
                    }
                }
                Ok((kills, partitions))
            })
            .context("cannot start a thread")?;
        Ok(Self { stop, thread })
    }

    /// Ends when the cluster is whole, and says how many members were killed and how often it was
    /// parted.
    pub(crate) fn finish(self) -> Result<(u32, u32)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the trouble panicked"))?
    }
}
