//! A node without a keeper: it has a participant to move, and nothing else.

use heirloom_model::admin::Ticket;
use heirloom_model::digest::Nonce;
use heirloom_model::domain::{ActivationCause, LogPosition, PlanStep};
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::Release;

use super::{DriverError, NodeDriver, Observation, ParticipantDriver};

/// The driver of a node that has no keeper. What would concern one is refused by name.
#[derive(Debug)]
pub struct Keeperless<P> {
    /// Source and target.
    pub participant: P,
}

fn refuse<T>(asked: &'static str) -> Result<T, DriverError> {
    Err(DriverError::Missing {
        what: format!("a keeper on this node, which was asked to {asked},"),
    })
}

impl<P: ParticipantDriver> NodeDriver for Keeperless<P> {
    fn observe(&mut self) -> Result<Observation, DriverError> {
        // Source and target are seen through their own driver.
        Ok(Observation::default())
    }

    fn participant(&mut self) -> Option<&mut dyn ParticipantDriver> {
        Some(&mut self.participant)
    }

    fn stage(&mut self, _: &Release, _: &Measurement) -> Result<Vec<u8>, DriverError> {
        refuse("stage a release")
    }

    fn prepare(&mut self, _: &Release, _: &Measurement) -> Result<Vec<u8>, DriverError> {
        refuse("prepare")
    }

    fn drain(&mut self, _: &Measurement) -> Result<(), DriverError> {
        refuse("drain")
    }

    fn resume(&mut self, _: &Measurement) -> Result<(), DriverError> {
        refuse("resume")
    }

    fn stop(&mut self, _: &Measurement) -> Result<(), DriverError> {
        refuse("stop")
    }

    fn quarantine(&mut self, _: &Measurement) -> Result<(), DriverError> {
        refuse("quarantine sealed state")
    }

    fn restore(&mut self, _: &Measurement) -> Result<(), DriverError> {
        refuse("restore sealed state")
    }

    fn install(&mut self, _: &Measurement, _: &Measurement) -> Result<(), DriverError> {
        refuse("install a release")
    }

    fn start(&mut self, _: &Measurement) -> Result<(), DriverError> {
        refuse("start")
    }

    fn replicate(&mut self, _: &Measurement, _: &[NodeId]) -> Result<(), DriverError> {
        refuse("replicate")
    }

    fn attend(&mut self, _: &Measurement) -> Result<Ticket, DriverError> {
        refuse("attend")
    }

    fn follow(
        &mut self,
        _: &Measurement,
        _: &[LogEntry],
        _: Option<Ticket>,
    ) -> Result<LogPosition, DriverError> {
        refuse("follow the log")
    }

    fn register(&mut self, _: &Measurement) -> Result<Vec<u8>, DriverError> {
        refuse("register")
    }

    fn prove(&mut self, _: &Measurement, _: &Nonce) -> Result<Vec<u8>, DriverError> {
        refuse("prove possession")
    }

    fn create_generation(&mut self, _: &Measurement, _: &Nonce) -> Result<Vec<u8>, DriverError> {
        refuse("create a generation")
    }

    fn receive_generation(
        &mut self,
        _: &Measurement,
        _: &Nonce,
        _: &[NodeId],
    ) -> Result<Vec<u8>, DriverError> {
        refuse("receive a generation")
    }

    fn hand_over(
        &mut self,
        _: &Measurement,
        _: PlanStep,
        _: &NodeId,
        _: &Measurement,
    ) -> Result<(), DriverError> {
        refuse("hand over")
    }

    fn suspend(&mut self, _: &Measurement, _: PlanStep) -> Result<Vec<u8>, DriverError> {
        refuse("suspend")
    }

    fn activate(&mut self, _: &Measurement, _: ActivationCause) -> Result<Vec<u8>, DriverError> {
        refuse("activate")
    }

    fn forget(&mut self, _: &Measurement, _: PlanStep) -> Result<(), DriverError> {
        refuse("forget")
    }

    fn preserve(&mut self, _: &Measurement) -> Result<(), DriverError> {
        refuse("preserve sealed state")
    }

    fn reseal(&mut self, _: &Measurement) -> Result<(), DriverError> {
        refuse("reseal")
    }
}
