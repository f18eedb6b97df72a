//! Who starts instances: the platform daemon of the host, or commands of its operator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heirloom_launcher::client::{ClientError, LaunchClient};
use heirloom_launcher::protocol::{
    InstanceInfo, InstanceState, LaunchId, LaunchRequest, StopSignal, WireMode,
};
use heirloom_model::measurement::Measurement;
use heirloom_upgrade::port::DriverError;

use crate::admin::Door;
use crate::commands::{Commands, Number};

/// Who starts instances on this host.
#[derive(Clone, Debug)]
pub enum Launcher {
    /// The platform daemon at this socket, which measures what it launches.
    Daemon(PathBuf),
    /// Commands: what they start proves itself what it is.
    Commands(Arc<Commands>),
}

/// An instance whose process exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Running {
    /// The daemon launched it.
    Launched(LaunchId),
    /// A command did, under this label.
    Started(String),
}

/// What is started: the code, its bundle where bundles are launched, and what it is told.
pub(crate) struct Start<'a> {
    pub(crate) label: &'a str,
    pub(crate) code: &'a Measurement,
    pub(crate) bundle: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) log: String,
}

impl Launcher {
    /// The daemon, for what only a daemon can say.
    pub(crate) fn daemon(&self) -> Result<Option<LaunchClient>, DriverError> {
        match self {
            Self::Daemon(socket) => connect(socket).map(Some),
            Self::Commands(_) => Ok(None),
        }
    }

    /// Where an instance of this code answers its agent: at this socket, unless it cannot.
    pub(crate) fn door(&self, code: &Measurement, socket: PathBuf) -> Door {
        let address = match self {
            Self::Daemon(_) => None,
            Self::Commands(commands) => commands.address(code),
        };
        address.map_or(Door::File(socket), Door::Loopback)
    }

    /// Starts an instance. It may not answer yet.
    pub(crate) fn start(&self, start: Start<'_>) -> Result<(), DriverError> {
        match self {
            Self::Daemon(socket) => {
                let request = LaunchRequest {
                    label: start.label.to_owned(),
                    bundle: start.bundle,
                    arguments: start.arguments,
                    log: start.log,
                    mode: WireMode::Production,
                };
                let launched = connect(socket)?.launch(request);
                launched.map(drop).map_err(|error| not_launched(&error))
            }
            Self::Commands(commands) => {
                commands.start(start.label, start.code, &start.arguments, start.log.as_ref())
            }
        }
    }

    /// The instance that has this label, if its process exists.
    pub(crate) fn find(&self, label: &str) -> Result<Option<Running>, DriverError> {
        match self {
            Self::Daemon(socket) => {
                let found = launched(socket)?.into_iter().find(|found| found.label == label);
                Ok(found.map(|found| Running::Launched(found.instance)))
            }
            Self::Commands(commands) => {
                let found = commands.running(label)?;
                Ok(found.map(|_| Running::Started(label.to_owned())))
            }
        }
    }

    /// The code whose process exists in its seat, and what operators call that process. Seats are
    /// named after their code.
    pub(crate) fn seated(
        &self,
        seat: impl Fn(&Measurement) -> String,
    ) -> Result<BTreeMap<Measurement, String>, DriverError> {
        match self {
            Self::Daemon(socket) => {
                let mut list = launched(socket)?;
                list.retain(|found| found.label == seat(&found.measurement));
                let name = |found: &InstanceInfo| named(&found.process.to_string(), &found.label);
                Ok(list.iter().map(|found| (found.measurement, name(found))).collect())
            }
            Self::Commands(commands) => {
                let mut seated = BTreeMap::new();
                for code in commands.codes() {
                    let label = seat(code);
                    if let Some(Number(number)) = commands.running(&label)? {
                        let number = number.map_or("unknown".to_owned(), |it| it.to_string());
                        seated.insert(*code, named(&number, &label));
                    }
                }
                Ok(seated)
            }
        }
    }

    /// Sends an instance a signal.
    pub(crate) fn stop(&self, running: &Running, signal: StopSignal) -> Result<(), DriverError> {
        match (self, running) {
            (Self::Daemon(socket), Running::Launched(id)) => {
                connect(socket)?.stop(*id, signal).map_err(|error| unknown(&error))
            }
            (Self::Commands(commands), Running::Started(label)) => commands.stop(label, signal),
            // Nobody finds by one launcher what another has started.
            (Self::Daemon(_), Running::Started(_)) | (Self::Commands(_), Running::Launched(_)) => {
                Err(DriverError::Unknown("another launcher started it".to_owned()))
            }
        }
    }
}

fn named(process: &str, label: &str) -> String {
    format!("process {process} ({label})")
}

fn connect(socket: &Path) -> Result<LaunchClient, DriverError> {
    LaunchClient::connect(socket).map_err(|error| unknown(&error))
}

fn launched(socket: &Path) -> Result<Vec<InstanceInfo>, DriverError> {
    let mut list = connect(socket)?.list().map_err(|error| unknown(&error))?;
    list.retain(|found| found.state == InstanceState::Running);
    Ok(list)
}

/// Only a refusal says that nothing was launched: whoever did not answer, or not so that it can be
/// understood, may have done it.
fn not_launched(error: &ClientError) -> DriverError {
    match error {
        ClientError::Refused(_) => DriverError::Refused(format!("the platform: {error}")),
        ClientError::Unreachable(_) | ClientError::Corrupt(_) => unknown(error),
    }
}

/// The platform did not answer.
pub(crate) fn unknown(error: &dyn std::fmt::Display) -> DriverError {
    DriverError::Unknown(format!("the platform: {error}"))
}

#[cfg(test)]
mod tests {
    use heirloom_emulated::host::EmulatedHost;
    use heirloom_hardware::tee::Tee;
    use heirloom_keeper::keeper::KeeperConfig;
    use heirloom_keeper_shell::door::Door as KeeperDoor;
    use heirloom_keeper_shell::run::{self, Settings};
    use heirloom_launcher::protocol::{Answer, Refusal, Request};
    use heirloom_launcher::report::{LaunchMode, Secs};
    use heirloom_model::frame::{receive, send};
    use heirloom_model::measurement::MrEnclave;
    use heirloom_model::policy::HolderRole;
    use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony};

    use super::*;
    use crate::config::TeeCode;
    use crate::instance::Instances;

    const ONE: MrEnclave = MrEnclave::new([1; 32]);
    const TWO: MrEnclave = MrEnclave::new([2; 32]);

    /// A keeper in this process that answers where a command's would, as code that measures `ONE`.
    fn answer(data: &Path, name: &str, door: &Door) -> run::Running {
        let ceremony = Ceremony::new(&[7; 32]);
        let secs = Secs {
            measurement: ONE,
            signer: CODE_SIGNER,
            product_id: 0,
            isv_svn: 1,
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
        let host = EmulatedHost::from_seed(&ceremony.manufacturer, &[1; 32]);
        let settings = Settings {
            config: KeeperConfig {
                network: ceremony.network,
                domain: ceremony.domain,
                node: "node-1".parse().unwrap(),
                role: HolderRole::Keeper,
            },
            state: data.join(name),
            admin: match door {
                Door::File(path) => KeeperDoor::File(path.clone()),
                Door::Loopback(address) => KeeperDoor::Loopback(*address),
            },
            listen: "127.0.0.1:0".parse().unwrap(),
        };
        let random = |bytes: &mut [u8]| bytes.fill(9);
        run::start(settings, Arc::new(host.launch(secs, Box::new(random)))).unwrap()
    }

    #[test]
    fn a_launch_is_refused_by_a_refusal_and_without_an_answer_it_is_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("platform.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let refusal = Answer::Refused(Refusal::NotAgent);
        let daemon = std::thread::spawn(move || {
            for answer in [None, Some(Answer::Stopping), Some(refusal)] {
                let (mut stream, _) = listener.accept().unwrap();
                receive::<Request>(&mut stream).unwrap();
                answer.map_or(Ok(()), |answer| send(&mut stream, &answer)).unwrap();
            }
        });
        let launcher = Launcher::Daemon(socket);
        let start = || {
            let code = Measurement::Sgx(ONE);
            let (bundle, log) = ("/bundle".to_owned(), "/log".to_owned());
            let start = Start { label: "trial", code: &code, bundle, arguments: Vec::new(), log };
            launcher.start(start)
        };
        let silent = start();
        assert!(matches!(silent, Err(DriverError::Unknown(_))), "it may run: {silent:?}");
        let other = start();
        assert!(matches!(other, Err(DriverError::Unknown(_))), "it may run: {other:?}");
        let refused = start();
        assert!(matches!(refused, Err(DriverError::Refused(_))), "{refused:?}");
        daemon.join().unwrap();
    }

    #[test]
    fn what_a_command_started_and_calls_itself_other_code_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().to_owned();
        std::fs::create_dir(data.join("run")).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let code = |measurement, admin| TeeCode {
            measurement: Measurement::Sgx(measurement),
            command: ["sh", "-c", "exec sleep 600"].map(str::to_owned).to_vec(),
            admin,
        };
        let codes = [code(ONE, Some(address)), code(TWO, None)];
        let codes = codes.map(|code| (code.measurement, code)).into();
        let commands = Commands::new(Tee::Gramine, data.clone(), codes);
        let launcher = Launcher::Commands(Arc::new(commands));
        let instances = Instances { node: "node-1".parse().unwrap(), launcher, data: data.clone() };

        let one = Measurement::Sgx(ONE);
        let seat = instances.seat(&one, data.join("one"));
        assert_eq!(*seat.door(), Door::Loopback(address));
        let keeper = answer(&data, "first", seat.door());
        instances.launch(&seat, Path::new(""), "127.0.0.1:0").unwrap();
        assert!(instances.running().unwrap().contains(&one));
        instances.end(&seat).unwrap();
        assert!(instances.running().unwrap().is_empty());
        keeper.stop();

        let two = Measurement::Sgx(TWO);
        let seat = instances.seat(&two, data.join("two"));
        let keeper = answer(&data, "second", seat.door());
        let refused = instances.launch(&seat, Path::new(""), "127.0.0.1:0");
        let (expected, found) = (two.to_string(), one.to_string());
        assert_eq!(refused, Err(DriverError::Unexpected { expected, found }));
        assert!(instances.running().unwrap().is_empty());
        keeper.stop();
    }
}
