//! Instances of one node: which run, where they are, and how they start and end.
//!
//! A seat has its own label at the platform daemon, state directory, socket and log, all named
//! after its measurement, so that instances of different code run side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heirloom_launcher::client::LaunchClient;
use heirloom_launcher::protocol::StopSignal;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_upgrade::port::DriverError;

use crate::admin::{self, Door, SHORT_TIMEOUT};
use crate::launcher::{Launcher, Running, Start, unknown};
use crate::share;

/// How long an instance may take to open its admin socket.
pub const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long an instance may take to end in order before it is killed.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a killed process may still be there: the kernel ends it as soon as it can.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait between two looks at a process.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What is told of the last line of a log, in bytes.
const REASON_BYTES_MAX: usize = 200;
/// What is read of the end of a log to find its last line, in bytes.
const LOG_END_BYTES: u64 = 4 * 1024;
/// Digits of a measurement in a label: enough to tell the seats of one node apart.
const LABEL_DIGITS: usize = 8;

/// The instances of one node.
#[derive(Clone, Debug)]
pub struct Instances {
    /// The node.
    pub node: NodeId,
    /// Who starts instances on its host.
    pub launcher: Launcher,
    /// Everything that the node keeps.
    pub data: PathBuf,
}

/// Where one instance runs and how it is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    code: Measurement,
    label: String,
    state: PathBuf,
    door: Door,
}

impl Place {
    /// Where it answers its agent.
    pub fn door(&self) -> &Door {
        &self.door
    }
}

impl Instances {
    /// The seat of some code. `state` is where its sealed files are.
    pub fn seat(&self, code: &Measurement, state: PathBuf) -> Place {
        let short = short(code);
        Place {
            code: *code,
            label: format!("{}.{short}", self.node),
            state,
            door: self.launcher.door(code, self.sockets().join(format!("keeper-{short}.sock"))),
        }
    }

    /// Where some code is tried without keys.
    pub fn trial(&self, code: &Measurement) -> Place {
        Place {
            code: *code,
            label: format!("{}.trial", self.node),
            state: self.data.join("trial").join(code.to_string()),
            door: self.launcher.door(code, self.sockets().join("trial.sock")),
        }
    }

    /// Where instances make their sockets. Nothing else is there: they may write in it.
    fn sockets(&self) -> PathBuf {
        self.data.join("run")
    }

    /// Makes what an instance of this place writes in. Where each code has a user of its own, it is
    /// given to the group that they have in common with us.
    fn prepare(&self, place: &Place) -> Result<(), DriverError> {
        let info = self.launcher.daemon()?.map(|daemon| daemon.host_info()).transpose();
        let group = info.map_err(|error| unknown(&error))?.and_then(|info| info.group);
        for directory in [&place.state, &self.sockets()] {
            heirloom_store::atomic::create_directory(directory).map_err(|error| unknown(&error))?;
            let Some(group) = group else { continue };
            let above = directory.ancestors().skip(1);
            for ancestor in above.take_while(|ancestor| ancestor.starts_with(&self.data)) {
                share::let_pass(ancestor, group)?;
            }
            share::give(directory, group)?;
        }
        Ok(())
    }

    /// Where the instance in the seat of some code answers its agent.
    pub fn door(&self, code: &Measurement) -> Door {
        self.seat(code, PathBuf::new()).door
    }

    /// The code whose process exists in a seat of this node.
    pub fn running(&self) -> Result<BTreeSet<Measurement>, DriverError> {
        Ok(self.processes()?.into_keys().collect())
    }

    /// What operators call the processes in the seats of this node, by their code: for those that
    /// cannot be asked.
    pub fn processes(&self) -> Result<BTreeMap<Measurement, String>, DriverError> {
        self.launcher.seated(|code| format!("{}.{}", self.node, short(code)))
    }

    /// Starts code, whose bundle is there if it has one, and waits until it answers.
    pub fn launch(&self, place: &Place, bundle: &Path, listen: &str) -> Result<(), DriverError> {
        let text = |path: &Path| path.display().to_string();
        let arguments = [
            ["--node", self.node.as_str()],
            ["--state", &text(&place.state)],
            ["--admin", &place.door.to_string()],
            ["--listen", listen],
        ];
        self.prepare(place)?;
        // Instances of one place write into one log, one after the other.
        let began = std::fs::metadata(self.log(place)).map_or(0, |found| found.len());
        self.launcher.start(Start {
            label: &place.label,
            code: &place.code,
            bundle: text(bundle),
            arguments: arguments.into_iter().flatten().map(str::to_owned).collect(),
            log: text(&self.log(place)),
        })?;
        self.await_answer_since(place, began)?;
        self.expect_started(place)
    }

    /// Ends what a command started and calls itself other code. A daemon has measured what it
    /// launched, and whoever tries it compares.
    fn expect_started(&self, place: &Place) -> Result<(), DriverError> {
        let Launcher::Commands(_) = self.launcher else { return Ok(()) };
        let found = admin::status(&place.door, SHORT_TIMEOUT)?.measurement;
        if found == place.code {
            return Ok(());
        }
        self.end(place)?;
        let (expected, found) = (place.code.to_string(), found.to_string());
        Err(DriverError::Unexpected { expected, found })
    }

    /// Waits until an instance that was started before answers, or its process is gone.
    pub fn await_answer(&self, place: &Place) -> Result<(), DriverError> {
        self.await_answer_since(place, 0)
    }

    /// Waits for an instance whose log begins there.
    fn await_answer_since(&self, place: &Place, began: u64) -> Result<(), DriverError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match admin::status(&place.door, SHORT_TIMEOUT) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) if self.instance(place)?.is_none() => {
                    return Err(DriverError::Refused(ended(&self.log(place), began)));
                }
                Err(_) => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// Ends the instance of a place, in order if it can, and waits until its process is gone. One
    /// that outlives its killing is unknown: whoever asks again goes on from there.
    pub fn end(&self, place: &Place) -> Result<(), DriverError> {
        self.end_within(place, STOP_TIMEOUT, KILL_TIMEOUT)
    }

    fn end_within(
        &self,
        place: &Place,
        order: Duration,
        killing: Duration,
    ) -> Result<(), DriverError> {
        let began = Instant::now();
        let mut asked = false;
        let mut killed = None;
        while let Some(running) = self.instance(place)? {
            let late = began.elapsed() > order;
            if killed.is_some_and(|at: Instant| at.elapsed() > killing) {
                let label = &place.label;
                return Err(DriverError::Unknown(format!("{label} was killed and still runs")));
            }
            if !asked || late {
                let signal = if late { StopSignal::Kill } else { StopSignal::Terminate };
                self.launcher.stop(&running, signal)?;
                asked = true;
            }
            if late && killed.is_none() {
                killed = Some(Instant::now());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Where the instances of a place say what happens to them.
    fn log(&self, place: &Place) -> PathBuf {
        self.data.join(format!("{}.log", place.label))
    }

    /// The instance of a place, if its process exists.
    fn instance(&self, place: &Place) -> Result<Option<Running>, DriverError> {
        self.launcher.find(&place.label)
    }
}

/// Of which kind the platform is whose daemon listens there.
pub(crate) fn kind_of(platform: &Path) -> Result<TeeKind, DriverError> {
    let info = LaunchClient::connect(platform).and_then(|client| client.host_info());
    info.map(|info| info.kind).map_err(|error| unknown(&error))
}

/// Says that an instance ended before it answered, and why, as far as its log tells.
fn ended(log: &Path, began: u64) -> String {
    let name = log.file_name().unwrap_or_default().display();
    match last_line(log, began) {
        Ok(Some(reason)) => format!("the keeper ended at once ({reason}); see {name}"),
        Ok(None) => format!("the keeper ended at once, and said nothing in {name}"),
        Err(error) => format!("the keeper ended at once, and {name} cannot be read: {error}"),
    }
}

/// The last line that says something in what was written since the log had this length: plain
/// text, and cut if it is long. Whoever wrote it is not trusted with more.
pub(crate) fn last_line(log: &Path, began: u64) -> io::Result<Option<String>> {
    let mut file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(began.max(end.saturating_sub(LOG_END_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(LOG_END_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // After a panic, a note about backtraces comes last.
    let says = |line: &&str| !line.is_empty() && !line.starts_with("note: ");
    let Some(line) = text.lines().rev().map(str::trim).find(says) else { return Ok(None) };
    let plain: String = line.chars().filter(|character| !character.is_control()).collect();
    Ok(Some(plain[..plain.floor_char_boundary(REASON_BYTES_MAX)].to_owned()))
}

/// The beginning of a measurement, for names.
pub(crate) fn short(code: &Measurement) -> String {
    hex::encode(code.as_bytes()).chars().take(LABEL_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use heirloom_launcher::protocol::{Answer, InstanceInfo, InstanceState, LaunchId, Request};
    use heirloom_model::frame::{receive, send};
    use heirloom_model::measurement::{MrEnclave, MrSigner};

    use super::*;

    #[test]
    fn an_instance_that_ended_at_once_leaves_its_last_line_as_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("node-1.abababab.log");
        let said = |text: &str, began: u64| {
            std::fs::write(&log, text).unwrap();
            ended(&log, began)
        };
        let expected = "the keeper ended at once, and said nothing in node-1.abababab.log";
        assert_eq!(ended(&log, 0), expected, "there is no log");
        let before = "heirloom-keeper: ended: Terminated\n";
        let began = before.len() as u64;
        assert_eq!(said(before, began), expected, "an instance before it said that");
        let failed = "heirloom-keeper: failed: the disk is full";
        let expected = format!("the keeper ended at once ({failed}); see node-1.abababab.log");
        assert_eq!(said(&format!("{before}starting\n{failed}\n\n"), began), expected);
        let panicked = format!("thread 'main' panicked at a.rs:1:1:\n{failed}\nnote: run with\n");
        assert_eq!(said(&panicked, 0), expected);
        assert_eq!(said(&format!("\u{1b}{failed}\u{7}\n"), 0), expected, "no terminal obeys it");
        let long = "é".repeat(10 * REASON_BYTES_MAX);
        let told = last_line(&log, 0).unwrap().unwrap();
        assert_eq!(told, failed);
        std::fs::write(&log, format!("x\ny{long}")).unwrap();
        let told = last_line(&log, 0).unwrap().unwrap();
        assert!(told.len() <= REASON_BYTES_MAX && told.len() + 2 > REASON_BYTES_MAX, "{told}");
        std::fs::remove_file(&log).unwrap();
        std::fs::create_dir(&log).unwrap();
        assert!(ended(&log, 0).contains("node-1.abababab.log cannot be read"));
    }

    #[test]
    fn what_outlives_its_killing_is_given_up_as_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("platform.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let instances = Instances {
            node: "node-1".parse().unwrap(),
            launcher: Launcher::Daemon(socket),
            data: directory.path().to_owned(),
        };
        let place = instances.trial(&Measurement::Sgx(MrEnclave::new([1; 32])));
        let immortal = InstanceInfo {
            instance: LaunchId(7),
            process: 7,
            release: "keeper-1.0.0".parse().unwrap(),
            measurement: place.code,
            signer: MrSigner::new([2; 32]),
            state: InstanceState::Running,
            label: place.label.clone(),
        };
        let kills = Arc::new(AtomicUsize::new(0));
        let counted = kills.clone();
        // It ends with the tests: nobody asks it any more.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let answer = match receive::<Request>(&mut stream).unwrap() {
                    Request::Stop { signal: StopSignal::Kill, .. } => {
                        counted.fetch_add(1, Ordering::SeqCst);
                        Answer::Stopping
                    }
                    Request::Stop { .. } => Answer::Stopping,
                    _ => Answer::Instances(vec![immortal.clone()]),
                };
                send(&mut stream, &answer).unwrap();
            }
        });
        let given_up = instances.end_within(&place, Duration::ZERO, Duration::ZERO);
        assert!(matches!(given_up, Err(DriverError::Unknown(_))), "{given_up:?}");
        assert_eq!(kills.load(Ordering::SeqCst), 1, "not before it was killed");
    }

    #[test]
    fn seats_share_nothing_and_a_trial_shares_nothing_with_them() {
        let instances = Instances {
            node: "node-1".parse().unwrap(),
            launcher: Launcher::Daemon(PathBuf::from("/platform.sock")),
            data: PathBuf::from("/data"),
        };
        let old = Measurement::Sgx(MrEnclave::new([0xab; 32]));
        let new = Measurement::Sgx(MrEnclave::new([0xcd; 32]));
        let places = [
            instances.seat(&old, PathBuf::from("/data/state/live/old")),
            instances.seat(&new, PathBuf::from("/data/state/live/new")),
            instances.trial(&old),
        ];
        assert_eq!(places[0].label, "node-1.abababab");
        assert_eq!(places[0].door, Door::File("/data/run/keeper-abababab.sock".into()));
        assert_eq!(places[0].door, instances.door(&old));
        for (at, one) in places.iter().enumerate() {
            for other in &places[at + 1..] {
                assert_ne!(one.label, other.label);
                assert_ne!(one.door, other.door);
                assert_ne!(one.state, other.state);
            }
        }
        assert_ne!(instances.trial(&old).state, instances.trial(&new).state);
    }
}
