//! Applications that ask for keys all the time, and what they came to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::{Lab, text, until, write};

/// Key digests by the key that they belong to.
pub(crate) type Digests = BTreeMap<String, String>;

/// What clients came to.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    pub(crate) contradictions: u64,
    pub(crate) digests: Digests,
    /// Who answered, by instance.
    pub(crate) answered: BTreeMap<String, Answered>,
}

/// When one instance answered, in milliseconds of this machine's clock.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) measurement: String,
    pub(crate) first: f64,
    pub(crate) last: f64,
}

impl Clients {
    /// The most instances that answered at the same time, from the first to the last answer of
    /// each.
    pub(crate) fn most_at_once(&self) -> usize {
        let spans = || self.answered.values().map(|it| (it.first, it.last));
        let at =
            |time: f64| spans().filter(|(first, last)| *first <= time && time <= *last).count();
        spans().map(|(first, _)| at(first)).max().unwrap_or(0)
    }
}

/// The name of the file that ends applications.
const END: &str = "end";
/// Where applications write.
const REPORTS: &str = "clients";

/// The keys that an application gets which asks for each once and ends.
pub(crate) fn first_answers(lab: &Lab) -> Result<Digests> {
    let node = lab.nodes.first().context("a fleet has nodes")?;
    let report = lab.shared_directory(REPORTS)?.join("first-answers.json");
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

/// Starts this many more applications, one host after the other.
pub(crate) fn start_clients(lab: &Lab, count: usize) -> Result<()> {
    for (_, node) in (0..count).zip(lab.nodes.iter().cycle()) {
        let index = lab.clients.fetch_add(1, Ordering::Relaxed);
        let report = report(lab, index)?.display().to_string();
        let end = lab.path(END).display().to_string();
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

/// Ends the applications, and adds up what they say.
pub(crate) fn finish_clients(lab: &Lab) -> Result<Clients> {
    write(&lab.path(END), "")?;
    // A killed host takes its applications with it: their last report stands.
    std::thread::sleep(Duration::from_secs(2));
    read(lab)
}

/// Adds up what all applications have said so far. Who was killed before it said anything says
/// nothing.
pub(crate) fn read(lab: &Lab) -> Result<Clients> {
    let mut clients = Clients::default();
    let started = 0..lab.clients.load(Ordering::Relaxed);
    let paths = started.map(|index| report(lab, index)).collect::<Result<Vec<_>>>()?;
    let mut written = paths.into_iter().filter(|path| path.exists()).peekable();
    ensure!(written.peek().is_some(), "no application has said anything");
    for path in written {
        add(&mut clients, &read_report(&path)?)?;
    }
    Ok(clients)
}

/// Where an application says what it got.
fn report(lab: &Lab, index: usize) -> Result<PathBuf> {
    Ok(lab.shared_directory(REPORTS)?.join(format!("client-{index}.json")))
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
    for holder in report.get("holders").and_then(Value::as_array).into_iter().flatten() {
        note(clients, holder)?;
    }
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

fn note(clients: &mut Clients, holder: &Value) -> Result<()> {
    let time =
        |name: &str| holder.get(name).and_then(Value::as_f64).context("an answer has a time");
    let (first, last) = (time("first_ms")?, time("last_ms")?);
    let measurement = text(holder, "/measurement")?.to_owned();
    let instance = text(holder, "/instance")?.to_owned();
    let answered =
        clients.answered.entry(instance).or_insert(Answered { measurement, first, last });
    answered.first = answered.first.min(first);
    answered.last = answered.last.max(last);
    Ok(())
}

/// Whether every key of `some` is the same in `all`.
pub(crate) fn contains(all: &Digests, some: &Digests) -> bool {
    some.iter().all(|(key, digest)| all.get(key) == Some(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(spans: &[(f64, f64)]) -> Clients {
        let measurement = "sgx:1".to_owned();
        let answered = |(first, last): &(f64, f64)| {
            (
                first.to_string(),
                Answered { measurement: measurement.clone(), first: *first, last: *last },
            )
        };
        Clients { answered: spans.iter().map(answered).collect(), ..Clients::default() }
    }

    #[test]
    fn answers_in_turn_are_never_two_at_once() {
        assert_eq!(answered(&[(1.0, 2.0), (2.5, 9.0), (9.1, 9.2)]).most_at_once(), 1);
    }

    #[test]
    fn one_late_answer_of_the_old_holder_is_two_at_once() {
        assert_eq!(answered(&[(1.0, 2.6), (2.5, 9.0)]).most_at_once(), 2);
    }
}
