//! The service's processes: started measured through the platform daemon, as keepers are, and
//! ended in order if they can.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heirloom_launcher::client::{ClientError, LaunchClient};
use heirloom_launcher::protocol::{
    InstanceInfo, InstanceState, LaunchId, LaunchRequest, StopSignal, WireMode,
};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::service::ServiceRequest;
use heirloom_upgrade::port::DriverError;

use super::control;
use crate::instance::{last_line, short};

/// How long an instance may take to end after it was asked, before it is told with a signal.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it may take after the signal before it is killed.
pub(crate) const TERMINATE_TIMEOUT: Duration = Duration::from_secs(10);

/// The processes of one node's service.
pub(crate) struct Processes {
    pub(crate) node: NodeId,
    /// Socket of the platform daemon.
    pub(crate) platform: PathBuf,
    /// Everything that the service keeps.
    pub(crate) directory: PathBuf,
    ending: Option<Ending>,
}

/// An instance that was told to end.
struct Ending {
    instance: LaunchId,
    stage: Stage,
    since: Instant,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Stage {
    Asked,
    Terminated,
    Killed,
}

/// What a place is called and where it is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// Where the service runs.
    Seat,
    /// Where code is tried without data.
    Trial,
}

impl Processes {
    pub(crate) fn new(node: NodeId, platform: PathBuf, directory: PathBuf) -> Self {
        Self { node, platform, directory, ending: None }
    }

    /// The control socket of a place.
    pub(crate) fn socket(&self, place: Place) -> PathBuf {
        self.directory.join(match place {
            Place::Seat => "service.sock",
            Place::Trial => "trial.sock",
        })
    }

    /// The processes of a place that exist.
    pub(crate) fn running(&self, place: Place) -> Result<Vec<InstanceInfo>, DriverError> {
        let mut list = self.launcher()?.list().map_err(|error| unknown(&error))?;
        list.retain(|found| {
            found.state == InstanceState::Running
                && found.label == self.label(place, &found.measurement)
        });
        Ok(list)
    }

    /// Starts a staged bundle in a place. Nothing else must run there.
    pub(crate) fn start(
        &mut self,
        place: Place,
        code: &Measurement,
        bundle: &Path,
        arguments: Vec<String>,
    ) -> Result<Started, DriverError> {
        // What a process that died left: the next one makes its own.
        std::fs::remove_file(self.socket(place)).ok();
        let label = self.label(place, code);
        let log = self.log(&label);
        let began = std::fs::metadata(&log).map_or(0, |found| found.len());
        let request = LaunchRequest {
            bundle: bundle.display().to_string(),
            arguments,
            log: log.display().to_string(),
            mode: WireMode::Production,
            label,
        };
        let launcher = self.launcher()?;
        if launcher.host_info().map_err(|error| unknown(&error))?.group.is_some() {
            return Err(DriverError::Refused(
                "the platform gives each bundle a user of its own, who cannot write in the \
                 service's data: run the service on an emulated or SGX host"
                    .to_owned(),
            ));
        }
        let launched = launcher.launch(request).map_err(|error| match error {
            ClientError::Refused(refusal) => {
                DriverError::Refused(format!("the platform: {refusal}"))
            }
            error => unknown(&error),
        })?;
        if launched.measurement != *code {
            self.stop(launched.instance, StopSignal::Kill)?;
            return Err(DriverError::Corrupt {
                what: "the service's bundle".to_owned(),
                reason: format!("it measures {}, not {code}", launched.measurement),
            });
        }
        Ok(Started { instance: launched.instance, log, began })
    }

    /// Why an instance that was started is gone; none if it runs.
    pub(crate) fn why_gone(&self, started: &Started) -> Result<Option<DriverError>, DriverError> {
        let list = self.launcher()?.list().map_err(|error| unknown(&error))?;
        let found = list.into_iter().find(|found| found.instance == started.instance);
        Ok(match found.map(|found| found.state) {
            Some(InstanceState::Running) => None,
            Some(state) => Some(ended(state, &started.reason())),
            // A daemon that started again took everything along.
            None => Some(DriverError::Unknown("the platform started again".to_owned())),
        })
    }

    /// Ends an instance: asks it, then tells it, then kills it. Call it until the process is gone.
    pub(crate) fn end(&mut self, place: Place, instance: LaunchId) -> Result<(), DriverError> {
        let (stage, since) = match &self.ending {
            Some(ending) if ending.instance == instance => (ending.stage, ending.since),
            Some(_) | None => {
                // One that does not answer is told with a signal when its time is over.
                let asked = control::command(&self.socket(place), &ServiceRequest::Shutdown);
                let stage = Stage::Asked;
                self.ending = Some(Ending { instance, stage, since: Instant::now() });
                if let Err(error) = asked {
                    tracing::debug!(%error, "the service did not take the request to end");
                    self.advance(instance, Stage::Terminated)?;
                }
                return Ok(());
            }
        };
        match stage {
            Stage::Asked if since.elapsed() > ASK_TIMEOUT => {
                self.advance(instance, Stage::Terminated)
            }
            Stage::Terminated if since.elapsed() > TERMINATE_TIMEOUT => {
                self.advance(instance, Stage::Killed)
            }
            Stage::Asked | Stage::Terminated | Stage::Killed => Ok(()),
        }
    }

    fn advance(&mut self, instance: LaunchId, stage: Stage) -> Result<(), DriverError> {
        let signal = match stage {
            Stage::Asked | Stage::Terminated => StopSignal::Terminate,
            Stage::Killed => StopSignal::Kill,
        };
        self.stop(instance, signal)?;
        self.ending = Some(Ending { instance, stage, since: Instant::now() });
        Ok(())
    }

    fn stop(&self, instance: LaunchId, signal: StopSignal) -> Result<(), DriverError> {
        self.launcher()?.stop(instance, signal).map_err(|error| unknown(&error))
    }

    fn label(&self, place: Place, code: &Measurement) -> String {
        match place {
            Place::Seat => format!("{}.service.{}", self.node, short(code)),
            Place::Trial => format!("{}.service-trial", self.node),
        }
    }

    fn log(&self, label: &str) -> PathBuf {
        self.directory.join(format!("{label}.log"))
    }

    fn launcher(&self) -> Result<LaunchClient, DriverError> {
        LaunchClient::connect(&self.platform).map_err(|error| unknown(&error))
    }
}

/// An instance that this agent started.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) instance: LaunchId,
    log: PathBuf,
    began: u64,
}

impl Started {
    /// The last thing that it said.
    fn reason(&self) -> String {
        let name = self.log.file_name().unwrap_or_default().display();
        match last_line(&self.log, self.began) {
            Ok(Some(line)) => format!("{line}; see {name}"),
            Ok(None) => format!("nothing was said in {name}"),
            Err(error) => format!("{name} cannot be read: {error}"),
        }
    }
}

/// What the end of a service means.
fn ended(state: InstanceState, reason: &str) -> DriverError {
    match state {
        InstanceState::Exited(3) => DriverError::Unexpected {
            expected: "a ledger that ends as was agreed".to_owned(),
            found: reason.to_owned(),
        },
        InstanceState::Exited(4) => DriverError::Corrupt {
            what: "the service's data".to_owned(),
            reason: reason.to_owned(),
        },
        InstanceState::Exited(5) => DriverError::Full(format!("the service: {reason}")),
        InstanceState::Exited(6) => DriverError::Missing { what: reason.to_owned() },
        InstanceState::Exited(75) => DriverError::Unknown(format!("the service: {reason}")),
        InstanceState::Exited(code) => {
            DriverError::Refused(format!("the service ended with code {code}: {reason}"))
        }
        InstanceState::Killed(_) | InstanceState::Running | InstanceState::Unknown => {
            DriverError::Unknown(format!("the service was killed: {reason}"))
        }
    }
}

fn unknown(error: &dyn std::fmt::Display) -> DriverError {
    DriverError::Unknown(format!("the platform: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_a_service_means_one_thing() {
        let of = |code| ended(InstanceState::Exited(code), "why");
        assert!(matches!(of(3), DriverError::Unexpected { .. }));
        assert!(matches!(of(4), DriverError::Corrupt { .. }));
        assert!(matches!(of(5), DriverError::Full(_)));
        assert!(matches!(of(6), DriverError::Missing { .. }));
        assert!(matches!(of(75), DriverError::Unknown(_)));
        for code in [0, 1, 2, 101] {
            assert!(matches!(of(code), DriverError::Refused(_)), "{code}");
        }
        assert!(matches!(ended(InstanceState::Killed(9), "why"), DriverError::Unknown(_)));
    }
}
