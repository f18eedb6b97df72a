//! Who is the active holder of an exclusive domain.
//!
//! An exclusive domain has at most one instance that serves. Sealed state can be copied, and old
//! code can be started again, so that instance is named by its identity key, which is fresh at
//! each start: the log says which one it is, and a second start of the same files is another one.

use std::collections::BTreeMap;

use heirloom_attest::result::Host;
use heirloom_model::counter::LogIndex;
use heirloom_model::domain::{ActivationCause, PlanStep};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::signature::PublicKey;

/// Who is the active holder of an exclusive domain. Always [`None`](Self::None) in a domain that
/// was replicated from the beginning.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Activity {
    /// Nobody was ever active.
    #[default]
    None,
    /// Exactly this instance is.
    Active(Active),
    /// Nobody is: this one was, and said that it serves no more.
    Suspended(SuspendedHolder),
}

/// The active holder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Active {
    pub(crate) node: NodeId,
    pub(crate) measurement: Measurement,
    pub(crate) host: Host,
    pub(crate) instance: PublicKey,
    pub(crate) cause: ActivationCause,
    pub(crate) at: LogIndex,
}

/// The holder that was active last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SuspendedHolder {
    pub(crate) node: NodeId,
    pub(crate) measurement: Measurement,
    pub(crate) instance: PublicKey,
    pub(crate) step: PlanStep,
    pub(crate) at: LogIndex,
}

/// Instances that were active and that a domain remembers by their keys.
///
/// That no instance becomes active twice does not depend on it: an activation must be younger than
/// the entry that last changed who is active, and measured code that was active once makes no
/// younger one. Nor does an instance learn from it that it was superseded: a keeper looks after
/// each entry that it follows, and remembers that it was active. The memory gives a broken promise
/// of measured code its name, and people the entry in which an instance became active.
pub const ACTIVATIONS_KEPT_MAX: usize = 4_096;

/// The instances that became active last, with the entries that made them so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent(BTreeMap<PublicKey, LogIndex>);

impl Activity {
    /// The active holder.
    pub fn active(&self) -> Option<&Active> {
        match self {
            Self::Active(active) => Some(active),
            Self::None | Self::Suspended(_) => None,
        }
    }

    /// The holder that is suspended, while nobody is active.
    pub fn suspended(&self) -> Option<&SuspendedHolder> {
        match self {
            Self::Suspended(holder) => Some(holder),
            Self::None | Self::Active(_) => None,
        }
    }

    /// The entry that made it so; none if nobody was ever active.
    pub fn at(&self) -> Option<LogIndex> {
        match self {
            Self::None => None,
            Self::Active(active) => Some(active.at),
            Self::Suspended(holder) => Some(holder.at),
        }
    }
}

impl Active {
    /// Where it runs.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Its code, as its evidence showed.
    pub fn measurement(&self) -> Measurement {
        self.measurement
    }

    /// Its machine, if its evidence named one.
    pub fn host(&self) -> Host {
        self.host
    }

    /// Its identity key.
    pub fn instance(&self) -> &PublicKey {
        &self.instance
    }

    /// Why it became active.
    pub fn cause(&self) -> ActivationCause {
        self.cause
    }

    /// The entry.
    pub fn at(&self) -> LogIndex {
        self.at
    }

    /// Whether it is at this seat.
    pub fn is_at(&self, node: &NodeId, measurement: &Measurement) -> bool {
        self.node == *node && self.measurement == *measurement
    }
}

impl SuspendedHolder {
    /// Where it ran.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Its code, as its evidence showed.
    pub fn measurement(&self) -> Measurement {
        self.measurement
    }

    /// Its identity key.
    pub fn instance(&self) -> &PublicKey {
        &self.instance
    }

    /// The step that asked for it.
    pub fn step(&self) -> PlanStep {
        self.step
    }

    /// The entry.
    pub fn at(&self) -> LogIndex {
        self.at
    }
}

impl Spent {
    /// The entry that made this instance active, if it is remembered.
    pub(crate) fn at(&self, instance: &PublicKey) -> Option<LogIndex> {
        self.0.get(instance).copied()
    }

    /// Remembers an instance, in place of the oldest one if there are too many.
    pub(crate) fn remember(&mut self, instance: PublicKey, at: LogIndex) {
        if self.0.len() >= ACTIVATIONS_KEPT_MAX {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at).map(|(instance, _)| *instance);
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(instance, at);
    }
}

#[cfg(test)]
mod tests {
    use heirloom_model::secret::Secret;
    use heirloom_model::signature::SigningKey;

    use super::*;

    fn instance(number: usize) -> PublicKey {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        SigningKey::from_seed(Secret::new(seed)).public_key()
    }

    #[test]
    fn the_memory_of_instances_forgets_the_oldest_and_never_grows_beyond_its_limit() {
        let mut spent = Spent::default();
        for number in 0..=ACTIVATIONS_KEPT_MAX {
            spent.remember(instance(number), LogIndex(u64::try_from(number).unwrap()));
        }
        assert_eq!(spent.0.len(), ACTIVATIONS_KEPT_MAX);
        assert_eq!(spent.at(&instance(0)), None);
        assert_eq!(spent.at(&instance(1)), Some(LogIndex(1)));
        assert!(spent.at(&instance(ACTIVATIONS_KEPT_MAX)).is_some());
    }
}
