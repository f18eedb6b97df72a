//! A node without a keeper: it moves a participant, and has nothing else.

use heirloom_model::admin::Ticket;
use heirloom_model::digest::Nonce;
use heirloom_model::domain::{ActivationCause, LogPosition, PlanStep};
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::Release;
use heirloom_upgrade::port::{DriverError, NodeDriver, Observation, ParticipantDriver};

/// The node of a participant that moves.
pub(crate) struct ParticipantNode<D>(pub(crate) D);

/// What a step that needs a keeper gets.
fn no_keeper<T>() -> Result<T, DriverError> {
    Err(DriverError::Refused("this node moves a participant and has no keeper".to_owned()))
}

impl<D: ParticipantDriver> NodeDriver for ParticipantNode<D> {
    fn observe(&mut self) -> Result<Observation, DriverError> {
        Ok(Observation::default())
    }

    fn participant(&mut self) -> Option<&mut dyn ParticipantDriver> {
        Some(&mut self.0)
    }

    fn stage(&mut self, _: &Release, _: &Measurement) -> Result<Vec<u8>, DriverError> {
        no_keeper()
    }

    fn prepare(&mut self, _: &Release, _: &Measurement) -> Result<Vec<u8>, DriverError> {
        no_keeper()
    }

    fn drain(&mut self, _: &Measurement) -> Result<(), DriverError> {
        no_keeper()
    }

    fn resume(&mut self, _: &Measurement) -> Result<(), DriverError> {
        no_keeper()
    }

    fn stop(&mut self, _: &Measurement) -> Result<(), DriverError> {
        no_keeper()
    }

    fn quarantine(&mut self, _: &Measurement) -> Result<(), DriverError> {
        no_keeper()
    }

    fn restore(&mut self, _: &Measurement) -> Result<(), DriverError> {
        no_keeper()
    }

    fn install(&mut self, _: &Measurement, _: &Measurement) -> Result<(), DriverError> {
        no_keeper()
    }

    fn start(&mut self, _: &Measurement) -> Result<(), DriverError> {
        no_keeper()
    }

    fn replicate(&mut self, _: &Measurement, _: &[NodeId]) -> Result<(), DriverError> {
        no_keeper()
    }

    fn attend(&mut self, _: &Measurement) -> Result<Ticket, DriverError> {
        no_keeper()
    }

    fn follow(
        &mut self,
        _: &Measurement,
        _: &[LogEntry],
        _: Option<Ticket>,
    ) -> Result<LogPosition, DriverError> {
        no_keeper()
    }

    fn register(&mut self, _: &Measurement) -> Result<Vec<u8>, DriverError> {
        no_keeper()
    }

    fn prove(&mut self, _: &Measurement, _: &Nonce) -> Result<Vec<u8>, DriverError> {
        no_keeper()
    }

    fn create_generation(&mut self, _: &Measurement, _: &Nonce) -> Result<Vec<u8>, DriverError> {
        no_keeper()
    }

    fn receive_generation(
        &mut self,
        _: &Measurement,
        _: &Nonce,
        _: &[NodeId],
    ) -> Result<Vec<u8>, DriverError> {
        no_keeper()
    }

    fn hand_over(
        &mut self,
        _: &Measurement,
        _: PlanStep,
        _: &NodeId,
        _: &Measurement,
    ) -> Result<(), DriverError> {
        no_keeper()
    }

    fn suspend(&mut self, _: &Measurement, _: PlanStep) -> Result<Vec<u8>, DriverError> {
        no_keeper()
    }

    fn activate(&mut self, _: &Measurement, _: ActivationCause) -> Result<Vec<u8>, DriverError> {
        no_keeper()
    }

    fn forget(&mut self, _: &Measurement, _: PlanStep) -> Result<(), DriverError> {
        no_keeper()
    }

    fn preserve(&mut self, _: &Measurement) -> Result<(), DriverError> {
        no_keeper()
    }

    fn reseal(&mut self, _: &Measurement) -> Result<(), DriverError> {
        no_keeper()
    }
}
