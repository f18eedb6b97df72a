//! The registry, as an agent's port over the world.

use std::time::Duration;

use heirloom_model::counter::LogIndex;
use heirloom_model::domain::LogPosition;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::wire;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_registry::refusal::Refusal;

use crate::world::{Crashed, Shared, World, lock};

/// The registry as one node reaches it.
pub struct SimLog {
    /// The world.
    pub world: Shared,
    /// Whose agent asks.
    pub node: NodeId,
}

impl LogStore for SimLog {
    fn append(&self, expected: LogIndex, envelope: &[u8]) -> Result<LogPosition, AppendError> {
        let mut world = lock(&self.world);
        let gone = |Crashed| AppendError::Unknown { reason: "the agent died".to_owned() };
        let (unreachable, lost) = (world.faults.unreachable, world.faults.lost_answer);
        if world.node(&self.node).partitioned || world.chance(unreachable) {
            return Err(AppendError::Unreachable { reason: "cut off".to_owned() });
        }
        let (late, twice) = (world.faults.late, world.faults.twice);
        if world.chance(late) {
            world.delayed.push((expected, envelope.to_vec()));
            return Err(AppendError::Unknown { reason: "no answer in time".to_owned() });
        }
        let twice = world.chance(twice);
        let appended = world
            .operate(&self.node, "append", |world| {
                let appended = world.append(expected, envelope);
                if twice {
                    // The second one finds its place taken.
                    let _conflict = world.append(expected, envelope);
                }
                appended
            })
            .map_err(gone)?;
        if world.chance(lost) {
            return Err(AppendError::Unknown { reason: "the answer was lost".to_owned() });
        }
        appended
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        Ok(lock(&self.world).judge.position())
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        let mut world = lock(&self.world);
        let unreachable = world.faults.unreachable;
        let down = world.node(&self.node).agent_down;
        if down || world.node(&self.node).partitioned || world.chance(unreachable) {
            return Err(ReadError::Unreachable { reason: "cut off".to_owned() });
        }
        Ok(world.read(from, max))
    }

    fn watch(&self, _from: LogIndex, _timeout: Duration) -> Result<LogPosition, ReadError> {
        self.head()
    }
}

impl World {
    /// Appends to the registry, as its server does: judged first.
    pub fn append(
        &mut self,
        expected: LogIndex,
        envelope: &[u8],
    ) -> Result<LogPosition, AppendError> {
        let head = self.judge.position();
        if expected != head.length {
            return Err(AppendError::Conflict { head });
        }
        if let Err(refusal) = self.judge.judge(envelope) {
            return Err(AppendError::Refused {
                code: refusal.code().to_owned(),
                reason: refusal.to_string(),
            });
        }
        let entry = LogEntry::following(&head, envelope.to_vec());
        let _applied = self.judge.apply(&entry).expect("the entry follows the head");
        self.entries.push(entry);
        Ok(self.judge.position())
    }

    /// Lets a late request arrive, if there is one. Whoever sent it has gone on.
    pub fn deliver_late(&mut self) {
        let count = u32::try_from(self.delayed.len()).unwrap_or(u32::MAX);
        if count > 0 && self.chance(100) {
            let index = usize::try_from(self.below(count)).unwrap_or(0);
            let (expected, envelope) = self.delayed.swap_remove(index);
            let arrived = self.append(expected, &envelope);
            self.note(|| format!("a late request arrives: {arrived:?}"));
        }
    }

    /// Appends what an operator signed, or says why the registry refuses it.
    pub fn publish(&mut self, envelope: &Envelope) -> Result<(), Refusal> {
        let bytes = wire::encode(envelope);
        self.judge.judge(&bytes)?;
        let head = self.judge.position().length;
        self.append(head, &bytes).expect("it was judged for this very position");
        Ok(())
    }

    /// Entries from `from` on.
    pub fn read(&self, from: LogIndex, max: usize) -> Vec<LogEntry> {
        let start = usize::try_from(from.0).unwrap_or(usize::MAX);
        self.entries.iter().skip(start).take(max).cloned().collect()
    }
}
