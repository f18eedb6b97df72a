//! A service and its tool for tests: measured like a real one, with a database that is one line.
//!
//! Started by the platform daemon it is the service, else the tool. Files beside its data make it
//! behave badly: `pending` has a number, `slow` holds copies up, `deaf` lets it answer nobody,
//! `unready` lets it admit nobody, `failing` lets tests fail.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use heirloom_launcher::protocol::{Answer, Request};
use heirloom_model::digest::{BlockId, ConfigurationDigest};
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::frame::{receive, send};
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::service::{
    Admission, Height, ServiceRequest, ServiceResponse, ServiceStatus, Tip, Writing,
};
use heirloom_model::signature::PublicKey;
use serde_json::{Value, json};

/// The exit codes of the contract.
const REFUSED: u8 = 3;
const MISSING: u8 = 6;
const FAILED: u8 = 1;
/// Where a quote has the measurement: header of 48 bytes, then 64 into the report.
const MEASUREMENT: usize = 48 + 64;
/// How long to wait between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let flags = Flags::of(&all);
    let ended = match all.first().map(String::as_str) {
        Some("--platform") => serve(&flags),
        Some(word) => tool(word, &flags),
        None => Err(Failure::of(2, "no word")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            // Nobody reads what cannot be written.
            writeln!(io::stderr(), "stand-in: {text}").ok();
            ExitCode::from(code)
        }
    }
}

struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn of(code: u8, text: &str) -> Self {
        Self { code, text: text.to_owned() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::of(FAILED, &error.to_string())
    }
}

struct Flags(BTreeMap<String, String>);

impl Flags {
    fn of(all: &[String]) -> Self {
        let pairs = all.windows(2).filter_map(|pair| match pair {
            [name, value] if name.starts_with("--") => Some((name.clone(), value.clone())),
            _ => None,
        });
        let trial = all.iter().filter(|flag| *flag == "--try" || *flag == "--frozen");
        Self(pairs.chain(trial.map(|flag| (flag.clone(), String::new()))).collect())
    }

    fn get(&self, name: &str) -> Result<&str, Failure> {
        let found = self.0.get(name).map(String::as_str);
        found.ok_or_else(|| Failure::of(2, &format!("{name} is missing")))
    }

    fn data(&self) -> Result<PathBuf, Failure> {
        Ok(PathBuf::from(self.get("--data")?))
    }

    fn tip(&self, height: &str, id: &str) -> Result<Tip, Failure> {
        parse_tip(&format!("{} {}", self.get(height)?, self.get(id)?))
    }
}

fn parse_tip(text: &str) -> Result<Tip, Failure> {
    let wrong = || Failure::of(4, "the tip cannot be understood");
    let (height, id) = text.trim().split_once(' ').ok_or_else(wrong)?;
    let height = Height(height.parse().map_err(|_error| wrong())?);
    Ok(Tip { height, id: id.parse().map_err(|_error| wrong())? })
}

fn read_tip(directory: &Path) -> Result<Tip, Failure> {
    parse_tip(&fs::read_to_string(directory.join("tip"))?)
}

/// Whether a file beside the data says so.
fn is_told(data: &Path, word: &str) -> bool {
    data.with_file_name(word).exists()
}

// The service.

struct Instance {
    data: PathBuf,
    status: ServiceStatus,
    began: Instant,
}

fn serve(flags: &Flags) -> Result<(), Failure> {
    let control = flags.get("--control")?;
    let platform = flags.get("--platform")?;
    let is_trial = flags.get("--try").is_ok();
    let data = if is_trial { PathBuf::from(control) } else { flags.data()? };
    let loaded = if is_trial { None } else { Some(load(&data)?) };
    if let (Ok(expected), Some(loaded)) = (flags.tip("--expect-height", "--expect-tip"), loaded)
        && expected != loaded
    {
        return Err(Failure::of(REFUSED, &format!("the ledger ends at {loaded}")));
    }
    let status = ServiceStatus {
        measurement: measurement(platform)?,
        instance: PublicKey::new([1; 32]),
        configuration: ConfigurationDigest::new([2; 32]),
        schema: None,
        loaded,
        tip: loaded,
        writing: if flags.get("--frozen").is_ok() { Writing::Frozen } else { Writing::Active },
        pending: 0,
        admission: Admission::Closed,
        quiet_milliseconds: 0,
        peers: Vec::new(),
        keys: Vec::new(),
        fork: None,
        errors: 0,
        open_milliseconds: 0,
        waits_for: None,
    };
    let listener = UnixListener::bind(control)?;
    let mut instance = Instance { data, status, began: Instant::now() };
    for stream in listener.incoming().flatten() {
        if is_told(&instance.data, "deaf") {
            continue;
        }
        match answer(&mut instance, stream) {
            Ok(false) | Err(_) => {}
            Ok(true) => break,
        }
    }
    if !is_trial {
        fs::remove_file(instance.data.join("held"))?;
    }
    Ok(())
}

/// Opens the database, which is made if there is none.
fn load(data: &Path) -> Result<Tip, Failure> {
    let live = data.join("live");
    if !live.exists() {
        fs::create_dir_all(data.join("original"))?;
        let tip = format!("1 {}", BlockId::new([9; 32]));
        fs::write(data.join("original/tip"), tip)?;
        symlink("original", &live)?;
    }
    fs::write(data.join("held"), std::process::id().to_string())?;
    read_tip(&live)
}

/// What the platform says this process measures, read from its evidence.
fn measurement(platform: &str) -> Result<Measurement, Failure> {
    let none = || Failure::of(FAILED, "the platform says nothing about this process");
    let mut stream = UnixStream::connect(platform)?;
    let request = Request::Evidence(ReportData::new([0; 64]));
    send(&mut stream, &request).map_err(|_error| none())?;
    let Ok(Answer::Evidence(Evidence::SgxDcap(quote))) = receive(&mut stream) else {
        return Err(none());
    };
    let bytes = quote.get(MEASUREMENT..).and_then(|rest| rest.first_chunk());
    Ok(Measurement::Sgx(MrEnclave::new(*bytes.ok_or_else(none)?)))
}

/// Answers one request. Returns whether it was the last.
fn answer(
    instance: &mut Instance,
    mut stream: UnixStream,
) -> Result<bool, heirloom_model::frame::FrameError> {
    let request: ServiceRequest = receive(&mut stream)?;
    let is_last = request == ServiceRequest::Shutdown;
    let response = respond(instance, &request);
    send(&mut stream, &response)?;
    Ok(is_last)
}

fn respond(instance: &mut Instance, request: &ServiceRequest) -> ServiceResponse {
    let status = &mut instance.status;
    let quiet = instance.began.elapsed().as_millis();
    status.quiet_milliseconds = u64::try_from(quiet).unwrap_or(u64::MAX);
    let pending = fs::read_to_string(instance.data.with_file_name("pending")).ok();
    status.pending = pending.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    if let Ok(tip) = read_tip(&instance.data.join("live")) {
        status.tip = Some(tip);
    }
    match request {
        ServiceRequest::Status => ServiceResponse::Status(Box::new(status.clone())),
        ServiceRequest::Admit(admission) => {
            if *admission != Admission::Closed && is_told(&instance.data, "unready") {
                return ServiceResponse::NotYet { reason: "unready".to_owned() };
            }
            status.admission = *admission;
            ServiceResponse::Done
        }
        ServiceRequest::Freeze { .. } if status.pending > 0 => {
            ServiceResponse::NotYet { reason: "not quiet".to_owned() }
        }
        ServiceRequest::Freeze { .. } => {
            status.writing = Writing::Frozen;
            ServiceResponse::Done
        }
        ServiceRequest::Thaw => {
            status.writing = Writing::Active;
            ServiceResponse::Done
        }
        ServiceRequest::State { step } => {
            let code = status.measurement;
            ServiceResponse::Statement(format!("{code} {}", step.step.0).into_bytes())
        }
        ServiceRequest::Shutdown => ServiceResponse::Done,
    }
}

// The tool.

fn tool(word: &str, flags: &Flags) -> Result<(), Failure> {
    if word == "exercise" {
        let configuration = PathBuf::from(flags.get("--configuration")?);
        if is_told(&configuration, "failing") {
            return Err(Failure::of(REFUSED, "a test failed"));
        }
        return done(&json!({ "test": flags.get("--test")? }));
    }
    let data = flags.data()?;
    match word {
        "inspect" => inspect(&data),
        "distribute" => {
            // It ends with the directory of its test, whoever started it.
            while data.exists() {
                std::thread::sleep(LOOK_AGAIN);
            }
            Ok(())
        }
        "snapshot" | "migrate" | "revert" => change(word, &data, flags),
        other => Err(Failure::of(2, other)),
    }
}

fn done(done: &Value) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{}", json!({ "done": done }))?)
}

fn inspect(data: &Path) -> Result<(), Failure> {
    let live = fs::read_link(data.join("live"));
    let live = live.map_err(|_error| Failure::of(MISSING, "the database"))?;
    let tip = json_tip(&read_tip(&data.join("live"))?);
    let mut snapshots = serde_json::Map::new();
    for entry in fs::read_dir(data.join("snapshots")).into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        snapshots.insert(name, json_tip(&read_tip(&entry.path())?));
    }
    let held = fs::read_to_string(data.join("held")).ok();
    let held = held.filter(|number| Path::new("/proc").join(number).exists());
    let migrated = live.to_string_lossy().strip_prefix("migrated-").map(str::to_owned);
    done(&json!({
        "tip": tip, "schema": 2, "migrated": migrated, "snapshots": snapshots,
        "held": held.map(|number| format!("pid {number}")),
    }))
}

fn json_tip(tip: &Tip) -> Value {
    json!({ "height": tip.height.0, "id": tip.id.to_string() })
}

fn change(word: &str, data: &Path, flags: &Flags) -> Result<(), Failure> {
    let (plan, tip) = (flags.get("--plan")?, flags.tip("--height", "--tip")?);
    while is_told(data, "slow") {
        writeln!(io::stdout(), "{}", json!({ "progress": { "bytes": 1, "of": 2, "rate": 3 } }))?;
        std::thread::sleep(LOOK_AGAIN);
    }
    let (original, snapshot) = (data.join("original"), data.join("snapshots").join(plan));
    match word {
        "snapshot" => {
            if read_tip(&data.join("live"))? != tip {
                return Err(Failure::of(REFUSED, "the ledger ends elsewhere"));
            }
            fs::create_dir_all(&snapshot)?;
            fs::copy(data.join("live/tip"), snapshot.join("tip"))?;
        }
        "migrate" => {
            let copy = format!("migrated-{plan}");
            fs::create_dir_all(data.join(&copy))?;
            fs::copy(snapshot.join("tip"), data.join(&copy).join("tip"))?;
            swap(data, &copy)?;
        }
        _ => {
            read_tip(&original)?;
            swap(data, "original")?;
        }
    }
    done(&json!({ "bytes": 7 }))
}

fn swap(data: &Path, name: &str) -> Result<(), Failure> {
    let next = data.join("live.next");
    symlink(name, &next)?;
    Ok(fs::rename(next, data.join("live"))?)
}
