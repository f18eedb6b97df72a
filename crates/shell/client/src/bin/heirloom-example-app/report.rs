//! What happened so far, as a file that is replaced again and again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use heirloom_client::key::{Holder, Key};
use heirloom_keeper::derive::KeyDigest;
use heirloom_model::counter::{Generation, Serial};
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::{ApplicationId, DomainId, KeyId};
use heirloom_model::measurement::Measurement;
use heirloom_model::protocol::{KeyKind, KeyRequest};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// What happened so far.
pub(crate) struct Report {
    network: NetworkId,
    domain: DomainId,
    application: ApplicationId,
    measurement: Measurement,
    begun: Instant,
    answered: Option<Instant>,
    requests: u64,
    failures: u64,
    last_failure: Option<String>,
    contradictions: u64,
    longest_gap: Duration,
    longest_call: Duration,
    policy: Option<Serial>,
    keys: BTreeMap<(KeyId, KeyKind, Generation), KeyDigest>,
    holders: BTreeMap<Holder, Answers>,
}

/// What one holder answered, and when: times of the machine's clock since it was started, so that
/// processes of one machine can compare theirs.
struct Answers {
    count: u64,
    first: Duration,
    last: Duration,
}

impl Report {
    pub(crate) fn new(
        network: NetworkId,
        domain: DomainId,
        application: ApplicationId,
        measurement: Measurement,
    ) -> Self {
        Self {
            network,
            domain,
            application,
            measurement,
            begun: Instant::now(),
            answered: None,
            requests: 0,
            failures: 0,
            last_failure: None,
            contradictions: 0,
            longest_gap: Duration::ZERO,
            longest_call: Duration::ZERO,
            policy: None,
            keys: BTreeMap::new(),
            holders: BTreeMap::new(),
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether every request was answered with a key, and equal requests with equal keys.
    pub(crate) fn is_flawless(&self) -> bool {
        self.requests > 0 && self.failures == 0 && self.contradictions == 0
    }

    /// A call ended, well or not.
    pub(crate) fn call(&mut self, requests: usize, took: Duration) {
        self.requests = self.requests.saturating_add(u64::try_from(requests).unwrap_or(u64::MAX));
        self.longest_call = self.longest_call.max(took);
    }

    /// A request was answered with a key.
    pub(crate) fn key(&mut self, request: &KeyRequest, key: &Key) {
        let received = key.received();
        let last = self.answered.unwrap_or(received);
        self.longest_gap = self.longest_gap.max(received.saturating_duration_since(last));
        self.answered = Some(last.max(received));
        self.heard(key.holder(), since_boot().saturating_sub(received.elapsed()));
        self.policy = Some(key.policy());
        let Some(check) = key.check() else { return };
        let name = (request.key.clone(), request.kind, key.generation());
        if *self.keys.entry(name).or_insert(check) != check {
            self.contradictions = self.contradictions.saturating_add(1);
        }
    }

    /// A holder answered.
    fn heard(&mut self, holder: Holder, at: Duration) {
        let new = || Answers { count: 0, first: at, last: at };
        let answers = self.holders.entry(holder).or_insert_with(new);
        answers.count = answers.count.saturating_add(1);
        answers.first = answers.first.min(at);
        answers.last = answers.last.max(at);
    }

    /// Requests were not answered with a key.
    pub(crate) fn failed(&mut self, requests: usize, why: String) {
        self.failures = self.failures.saturating_add(u64::try_from(requests).unwrap_or(u64::MAX));
        self.last_failure = Some(why);
    }

    /// Replaces the file as a whole: whoever reads it sees one report, never half of one.
    pub(crate) fn write(&self, path: &Path, progress: Progress) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let text = format!("{:#}\n", self.to_json(progress));
        fs::write(&temporary, text)?;
        fs::rename(&temporary, path)
    }

    fn to_json(&self, progress: Progress) -> Value {
        let keys: Vec<Value> = self
            .keys
            .iter()
            .map(|((key, kind, generation), check)| {
                json!({
                    "key": key.as_str(),
                    "kind": kind.name(),
                    "generation": generation.0,
                    "check": check.to_string(),
                })
            })
            .collect();
        json!({
            "schema": "heirloom.example-app.v1",
            "network": self.network.to_string(),
            "domain": self.domain.to_string(),
            "application": self.application.as_str(),
            "measurement": self.measurement.to_string(),
            "finished": progress == Progress::Finished,
            "elapsed_ms": milliseconds(self.elapsed()),
            "requests": self.requests,
            "failures": self.failures,
            "last_failure": self.last_failure,
            "contradictions": self.contradictions,
            "max_gap_ms": milliseconds(self.longest_gap),
            "max_call_ms": milliseconds(self.longest_call),
            "policy": self.policy.map(|policy| policy.0),
            "keys": keys,
            "holders": self.holders_to_json(),
        })
    }

    fn holders_to_json(&self) -> Vec<Value> {
        let described = self.holders.iter().map(|(holder, answers)| {
            json!({
                "instance": holder.instance.to_string(),
                "measurement": holder.measurement.to_string(),
                "answers": answers.count,
                "first_ms": microseconds_as_ms(answers.first),
                "last_ms": microseconds_as_ms(answers.last),
            })
        });
        described.collect()
    }
}

/// The machine's clock: it counts since the machine was started, also while it sleeps.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock").into()
}

/// Whether the application goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    Running,
    Finished,
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Milliseconds with three decimals.
fn microseconds_as_ms(time: Duration) -> f64 {
    milliseconds(Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(
            NetworkId::new([1; 32]),
            DomainId::new([2; 32]),
            "wallet".parse().unwrap(),
            format!("sgx:{}", "11".repeat(32)).parse().unwrap(),
        )
    }

    #[test]
    fn a_report_without_requests_is_not_flawless() {
        assert!(!report().is_flawless());
    }

    #[test]
    fn who_answered_and_when_is_written_down() {
        let mut report = report();
        let holder = |byte: u8| Holder {
            instance: heirloom_model::signature::PublicKey::new([byte; 32]),
            measurement: format!("sgx:{}", "22".repeat(32)).parse().unwrap(),
        };
        for (byte, at_us) in [(1, 5_000), (2, 9_001), (1, 4_000), (1, 6_500)] {
            report.heard(holder(byte), Duration::from_micros(at_us));
        }
        let holders = &report.to_json(Progress::Running)["holders"];
        assert_eq!(holders.as_array().unwrap().len(), 2);
        assert_eq!(holders[0]["instance"], "01".repeat(32));
        assert_eq!(holders[0]["answers"], 3);
        assert_eq!((&holders[0]["first_ms"], &holders[0]["last_ms"]), (&json!(4.0), &json!(6.5)));
        assert_eq!(holders[1]["first_ms"], json!(9.001));
        assert!(since_boot() > Duration::ZERO);
    }

    #[test]
    fn failures_are_counted_and_explained() {
        let mut report = report();
        report.call(3, Duration::from_millis(5));
        assert!(report.is_flawless());
        report.failed(2, "nobody answered".to_owned());
        assert!(!report.is_flawless());
        let json = report.to_json(Progress::Finished);
        assert_eq!((&json["requests"], &json["failures"]), (&json!(3), &json!(2)));
        assert_eq!(json["last_failure"], "nobody answered");
        assert_eq!(json["finished"], true);
    }
}
