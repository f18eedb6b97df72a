//! What the service looks like, and what is not as the node was last told to be.
//!
//! A tick looks several times, so that nothing here may be slow: the database is inspected with
//! the tool only when its directory changed, or while somebody still holds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use heirloom_model::digest::PlanDigest;
use heirloom_model::service::{Admission, Height, Tip, Writing};
use heirloom_upgrade::port::{DriverError, EdgeAdmission, ServiceObservation};
use serde_json::Value;

use super::control::plain;
use super::state::{Desired, Distribution, Promise, Wanted};
use super::tool::{Run, Tool};

/// The tool's word.
pub(crate) const INSPECT: &str = "inspect";
/// How long an inspection may take before an observation goes without it.
const INSPECT_PATIENCE: Duration = Duration::from_secs(2);
/// How long an inspection may take at all.
const INSPECT_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a failed inspection, or one of a database that is held, stands.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Entries of a directory that are looked at: one for each plan.
const ENTRIES_MAX: usize = 4096;

/// What the tool says about the database.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Inspected {
    pub(crate) tip: Option<Tip>,
    pub(crate) snapshots: BTreeMap<PlanDigest, Tip>,
    pub(crate) migrated: Option<PlanDigest>,
    pub(crate) held: Option<String>,
}

/// Everything whose change means that the database must be inspected again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Print {
    live: Option<PathBuf>,
    entries: Vec<(PathBuf, Option<SystemTime>, u64)>,
    /// Processes come and go without a trace in the directory.
    exists: bool,
}

/// The inspections of one database.
pub(crate) struct Inspector {
    data: PathBuf,
    arguments: Vec<String>,
    last: Option<(Print, Instant, Result<Inspected, DriverError>)>,
}

impl Inspector {
    pub(crate) fn new(data: PathBuf, state: &Path) -> Self {
        let text = |path: &Path| path.display().to_string();
        let arguments = vec!["--data".to_owned(), text(&data), "--state".to_owned(), text(state)];
        Self { data, arguments, last: None }
    }

    /// What the database is, or why that cannot be said. `exists` says whether a process of the
    /// service does.
    pub(crate) fn look(&mut self, tool: &mut Tool, exists: bool) -> Result<Inspected, DriverError> {
        if std::fs::symlink_metadata(self.data.join("live")).is_err() {
            // Nothing was ever opened there; the tool would say the same.
            return Ok(Inspected::default());
        }
        let print = self.print(exists);
        if let Some((of, at, found)) = &self.last {
            let is_final = match found {
                Ok(found) => exists || found.held.is_none(),
                Err(_) => false,
            };
            let is_recent = at.elapsed() < LOOK_AGAIN;
            // A run of ours changes the directory all the time, and is waited for elsewhere.
            if tool.has_other(INSPECT) || (*of == print && (is_final || is_recent)) {
                return found.clone();
            }
        } else if tool.has_other(INSPECT) {
            return Err(DriverError::Unknown("the database is being worked on".to_owned()));
        }
        let run =
            Run { word: INSPECT, arguments: self.arguments.clone(), deadline: INSPECT_TIMEOUT };
        let found = tool.run(&run, INSPECT_PATIENCE).and_then(|done| inspected(&done));
        // Looking may leave a trace of its own.
        self.last = Some((self.print(exists), Instant::now(), found.clone()));
        found
    }

    /// Forgets what was seen.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// What the directory itself shows of the live database, whoever has it open.
    pub(crate) fn migrated(&self) -> Option<PlanDigest> {
        let live = std::fs::read_link(self.data.join("live")).ok()?;
        live.file_name()?.to_str()?.strip_prefix("migrated-")?.parse().ok()
    }

    fn print(&self, exists: bool) -> Print {
        let mut entries = Vec::new();
        let mut list = |directory: PathBuf| {
            let listed = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.extend(listed.take(ENTRIES_MAX).map(|entry| {
                let found = entry.metadata().ok();
                let changed = found.as_ref().and_then(|found| found.modified().ok());
                (entry.path(), changed, found.map_or(0, |found| found.len()))
            }));
        };
        if !exists {
            list(self.data.clone());
            list(self.data.join("live"));
        }
        list(self.data.join("snapshots"));
        entries.sort();
        Print { live: std::fs::read_link(self.data.join("live")).ok(), entries, exists }
    }
}

/// Reads what the tool says.
fn inspected(done: &Value) -> Result<Inspected, DriverError> {
    let strange = |what: &str| DriverError::Corrupt {
        what: "the tool's answer".to_owned(),
        reason: format!("{what} cannot be understood: {}", plain(&done.to_string())),
    };
    let snapshots = match done.get("snapshots") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(listed)) => listed
            .iter()
            .map(|(plan, at)| Some((plan.parse().ok()?, tip(at)?)))
            .collect::<Option<_>>()
            .ok_or_else(|| strange("a snapshot"))?,
        Some(_) => return Err(strange("the list of snapshots")),
    };
    let text = |name: &str| done.get(name).and_then(Value::as_str);
    let migrated = text("migrated").map(str::parse).transpose();
    let held = match done.get("held") {
        None => return Err(strange("who holds it")),
        Some(Value::Null) => None,
        Some(Value::String(holder)) => Some(plain(holder)),
        Some(other) => Some(plain(&other.to_string())),
    };
    Ok(Inspected {
        tip: done.get("tip").and_then(tip),
        snapshots,
        migrated: migrated.map_err(|_error| strange("the plan"))?,
        held,
    })
}

fn tip(value: &Value) -> Option<Tip> {
    let height = Height(value.get("height")?.as_u64()?);
    Some(Tip { height, id: value.get("id")?.as_str()?.parse().ok()? })
}

/// What is not as the node was last told to be, for people.
pub(crate) fn drift(
    desired: &Desired,
    seen: &ServiceObservation,
    distributes: bool,
) -> Option<String> {
    desired.installed?;
    let exists = || seen.silent.iter().chain(seen.running_code()).copied();
    let (code, status) = match &desired.wanted {
        Wanted::Halted => {
            let left = exists().next();
            let left = left.map(|code| format!("{code} runs although it was halted"));
            return left.or_else(|| shut(desired, seen, distributes));
        }
        Wanted::Running { code, .. } => (code, &seen.running),
    };
    if let Some(other) = exists().find(|other| other != code) {
        return Some(format!("{other} runs, not only {code}"));
    }
    if exists().next().is_none() {
        // Of one that died while it was asked nobody knows whether it had promised: it is not
        // started before the plan says so. One that had promised starts as it was, since its
        // peers need it to see that they have all that it has.
        if desired.promise != Promise::Asked {
            return Some(format!("{code} does not run"));
        }
    }
    if let Some(found) = shut(desired, seen, distributes) {
        return Some(found);
    }
    let status = status.as_ref()?;
    if status.writing == Writing::Frozen && desired.promise == Promise::Absent {
        return Some("the service is frozen".to_owned());
    }
    if status.admission != desired.admission {
        let (found, wanted) = (status.admission.name(), desired.admission.name());
        return Some(format!("the service is {found}, not {wanted}"));
    }
    if desired.admission == Admission::Open && seen.edge == Some(EdgeAdmission::Closed) {
        return Some("the proxy turns clients away".to_owned());
    }
    let wants = desired.distribution == Distribution::Running;
    (wants && !distributes).then(|| "blocks are not distributed".to_owned())
}

/// What lets somebody in who should not be let in.
fn shut(desired: &Desired, seen: &ServiceObservation, distributes: bool) -> Option<String> {
    if desired.admission != Admission::Open && seen.edge == Some(EdgeAdmission::Open) {
        return Some("the proxy lets clients in".to_owned());
    }
    let wants = desired.distribution == Distribution::Running;
    (distributes && !wants).then(|| "blocks are still distributed".to_owned())
}

#[cfg(test)]
mod tests {
    use heirloom_model::digest::ConfigurationDigest;
    use heirloom_model::measurement::{Measurement, MrEnclave};
    use heirloom_model::service::ServiceStatus;
    use heirloom_model::signature::PublicKey;
    use serde_json::json;

    use super::*;

    const OLD: Measurement = Measurement::Sgx(MrEnclave::new([1; 32]));
    const NEW: Measurement = Measurement::Sgx(MrEnclave::new([2; 32]));

    fn status(code: Measurement) -> Box<ServiceStatus> {
        Box::new(ServiceStatus {
            measurement: code,
            instance: PublicKey::new([3; 32]),
            configuration: ConfigurationDigest::new([4; 32]),
            schema: None,
            loaded: None,
            tip: None,
            writing: Writing::Active,
            pending: 0,
            admission: Admission::Open,
            quiet_milliseconds: 0,
            peers: Vec::new(),
            keys: Vec::new(),
            fork: None,
            errors: 0,
            open_milliseconds: 0,
            waits_for: None,
        })
    }

    fn open() -> (Desired, ServiceObservation) {
        let desired = Desired {
            installed: Some(OLD),
            wanted: Wanted::Running { code: OLD, expected: None },
            admission: Admission::Open,
            promise: Promise::Absent,
            distribution: Distribution::Running,
            exercised: Vec::new(),
        };
        let seen = ServiceObservation {
            installed: Some(OLD),
            running: Some(status(OLD)),
            edge: Some(EdgeAdmission::Open),
            ..ServiceObservation::default()
        };
        (desired, seen)
    }

    fn closed() -> (Desired, ServiceObservation) {
        let (mut desired, mut seen) = open();
        desired.admission = Admission::Closed;
        desired.distribution = Distribution::Stopped;
        seen.running.as_mut().unwrap().admission = Admission::Closed;
        seen.edge = Some(EdgeAdmission::Closed);
        (desired, seen)
    }

    #[test]
    fn a_node_that_is_as_it_should_be_does_not_drift_and_each_difference_does() {
        type Change = fn(&mut Desired, &mut ServiceObservation);
        let (desired, seen) = open();
        assert_eq!(drift(&desired, &seen, true), None);
        assert!(drift(&desired, &seen, false).unwrap().contains("not distributed"));
        let from_open: [(&str, Change); 5] = [
            ("does not run", |_, seen| seen.running = None),
            ("runs, not only", |_, seen| seen.silent = [NEW].into()),
            ("is frozen", |_, seen| {
                seen.running.as_mut().unwrap().writing = Writing::Frozen;
            }),
            ("not open", |_, seen| {
                seen.running.as_mut().unwrap().admission = Admission::Closed;
            }),
            ("turns clients away", |_, seen| seen.edge = Some(EdgeAdmission::Closed)),
        ];
        for (word, change) in from_open {
            let (mut desired, mut seen) = open();
            change(&mut desired, &mut seen);
            let found = drift(&desired, &seen, true);
            assert!(found.as_ref().is_some_and(|it| it.contains(word)), "{word}: {found:?}");
        }
        let (desired, seen) = closed();
        assert_eq!(drift(&desired, &seen, false), None);
        assert!(drift(&desired, &seen, true).unwrap().contains("still distributed"));
        let from_closed: [(&str, Change); 3] = [
            ("lets clients in", |_, seen| seen.edge = Some(EdgeAdmission::Open)),
            ("not closed", |_, seen| {
                seen.running.as_mut().unwrap().admission = Admission::SideDoor;
            }),
            ("although it was halted", |desired, _| desired.wanted = Wanted::Halted),
        ];
        for (word, change) in from_closed {
            let (mut desired, mut seen) = closed();
            change(&mut desired, &mut seen);
            let found = drift(&desired, &seen, false);
            assert!(found.as_ref().is_some_and(|it| it.contains(word)), "{word}: {found:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_and_what_was_promised_is_no_drift() {
        let (desired, mut seen) = open();
        seen.edge = None;
        assert_eq!(drift(&desired, &seen, true), None, "a proxy that does not answer");
        seen.running = None;
        seen.silent = [OLD].into();
        assert_eq!(drift(&desired, &seen, true), None, "a process that does not answer yet");
        let (mut desired, mut seen) = closed();
        desired.promise = Promise::Asked;
        assert_eq!(drift(&desired, &seen, false), None, "it is about to freeze");
        seen.running.as_mut().unwrap().writing = Writing::Frozen;
        assert_eq!(drift(&desired, &seen, false), None, "it froze");
        let gone = ServiceObservation { running: None, ..seen.clone() };
        assert_eq!(drift(&desired, &gone, false), None, "it may have frozen, and died");
        let id = heirloom_model::digest::BlockId::new([9; 32]);
        desired.promise = Promise::Given { tip: Tip { height: Height(5), id } };
        assert_eq!(drift(&desired, &seen, false), None, "it froze");
        assert!(drift(&desired, &gone, false).unwrap().contains("does not run"), "it starts so");
        let (_, mut seen) = open();
        seen.running = None;
        assert_eq!(drift(&Desired::nothing(), &seen, false), None, "no service yet");
    }

    #[test]
    fn an_inspection_is_understood_whole_or_not_at_all() {
        let (plan, id) = ("07".repeat(32), "09".repeat(32));
        let done = json!({
            "tip": { "height": 5, "id": id }, "schema": 2, "migrated": plan,
            "snapshots": { plan.clone(): { "height": 5, "id": id } }, "held": "pid 123",
        });
        let found = inspected(&done).unwrap();
        assert_eq!(found.held.as_deref(), Some("pid 123"));
        assert_eq!(found.migrated, Some(PlanDigest::new([7; 32])));
        assert_eq!(found.snapshots[&PlanDigest::new([7; 32])].height, Height(5));
        let wrong = [
            ("migrated", json!("x")),
            ("snapshots", json!({ "x": { "height": 5, "id": id } })),
            ("snapshots", json!({ plan: { "height": 5 } })),
            ("snapshots", json!(1)),
        ];
        for (name, value) in wrong {
            let mut done = done.clone();
            done[name] = value;
            assert!(matches!(inspected(&done), Err(DriverError::Corrupt { .. })), "{name}");
        }
        let mut done = done;
        done.as_object_mut().unwrap().remove("held");
        assert!(inspected(&done).is_err(), "nobody may conclude that it is free");
    }
}
