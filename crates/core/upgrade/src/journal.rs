//! What an agent has done. Written before it is acted upon; folded to recover.
//!
//! Records form a hash chain. A record that the fold does not accept means corruption or a bug:
//! the agent stops and says which, it never skips.

use std::collections::BTreeMap;

use heirloom_model::context;
use heirloom_model::counter::{PlanNumber, Time};
use heirloom_model::digest::{JournalHash, PlanDigest, sha256};
use heirloom_model::plan::{StepId, StepOutcome};
use heirloom_model::wire::{self, WireError};
use minicbor::{Decode, Encode};

/// Evidence that a record reached durable storage. Only journal stores make one.
///
/// ```compile_fail
/// let forged = heirloom_upgrade::journal::Durable(());
/// ```
#[derive(Debug)]
#[must_use = "nothing may act on records that are not durable"]
pub struct Durable(());

impl Durable {
    /// Asserts that every record handed to the store so far is durable.
    pub fn assertion() -> Self {
        Self(())
    }
}

/// One durable fact.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Record {
    /// From now on this agent acts for this plan, and for none with a lower number.
    #[n(0)]
    Adopted {
        /// The plan.
        #[n(0)]
        plan: PlanDigest,
        /// Its number.
        #[n(1)]
        number: PlanNumber,
    },
    /// The step may have taken effect from now on.
    #[n(1)]
    Started(#[n(0)] StepId),
    /// The step has taken effect.
    #[n(2)]
    Succeeded(#[n(0)] StepId, #[n(1)] StepOutcome),
    /// The step was refused; it may be tried again.
    #[n(3)]
    Refused(#[n(0)] StepId),
    /// The plan was called off: only its way back is walked from here.
    #[n(4)]
    TurnedBack,
    /// This agent calls the plan off, because of this step: it starts no step of it any more, and
    /// says so until the log has it.
    #[n(5)]
    CalledOff(#[n(0)] StepId, #[n(1)] Cause),
}

/// Why an agent calls a plan off.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Cause {
    /// The node is not as the step expects.
    #[n(0)]
    Unexpected,
    /// Something that the step needs does not exist.
    #[n(1)]
    Missing,
    /// Something is not what was signed or written.
    #[n(2)]
    Corrupt,
    /// The service, the platform or the log says no.
    #[n(3)]
    Refused,
    /// The disk is full.
    #[n(4)]
    Full,
    /// Services that must agree stated different things.
    #[n(5)]
    Disagreed,
    /// A peer has another block than this node's service.
    #[n(6)]
    Forked,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unexpected => "the node is not as the step expects",
            Self::Missing => "something that it needs is missing",
            Self::Corrupt => "something that it needs is corrupt",
            Self::Refused => "it was refused",
            Self::Full => "the disk is full",
            Self::Disagreed => "the services do not agree",
            Self::Forked => "a peer has another block",
        })
    }
}

/// A record in its place.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct JournalEntry {
    /// Position, from 0.
    #[n(0)]
    pub sequence: u64,
    /// Hash of the entry before; all zero for the first.
    #[n(1)]
    pub previous: JournalHash,
    /// When it was written, by the host's clock: for people only.
    #[n(2)]
    pub written: Time,
    /// What it says.
    #[n(3)]
    pub record: Record,
}

heirloom_model::wire! { JournalEntry: "journal record", 256; }

impl JournalEntry {
    /// Hash of this entry, and through `previous` of all before it.
    pub fn hash(&self) -> JournalHash {
        JournalHash::new(sha256(&[context::JOURNAL_RECORD, &wire::encode(self)]))
    }
}

/// Why a journal cannot be continued. Never recoverable by trying again.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CorruptJournal {
    /// An entry does not decode.
    #[error("journal record {sequence} cannot be read")]
    Unreadable {
        /// Its position.
        sequence: u64,
        /// Why.
        #[source]
        source: WireError,
    },
    /// An entry does not follow the one before it.
    #[error("journal record {sequence} does not continue the record before it")]
    BrokenChain {
        /// Its position.
        sequence: u64,
    },
    /// The entries tell a story that no agent can have lived.
    #[error("journal record {sequence} says {found:?}, which cannot follow what stands before it")]
    OutOfOrder {
        /// Its position.
        sequence: u64,
        /// What it says.
        found: Record,
    },
}

/// How far one step has come on this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StepProgress {
    /// Started: it may or may not have taken effect.
    Interrupted,
    /// Refused: it did not take effect and may be tried again.
    Refused,
    /// It has taken effect.
    Succeeded(StepOutcome),
}

/// The fold of a journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Progress {
    sequence: u64,
    head: JournalHash,
    plan: Option<(PlanDigest, PlanNumber)>,
    turned_back: bool,
    called_off: Option<(StepId, Cause)>,
    steps: BTreeMap<StepId, StepProgress>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            sequence: 0,
            head: JournalHash::new([0; 32]),
            plan: None,
            turned_back: false,
            called_off: None,
            steps: BTreeMap::new(),
        }
    }
}

impl Progress {
    /// Folds a whole journal.
    pub fn recover<'r>(
        records: impl IntoIterator<Item = &'r [u8]>,
    ) -> Result<Self, CorruptJournal> {
        let mut progress = Self::default();
        for bytes in records {
            let sequence = progress.sequence;
            let entry: JournalEntry = wire::decode(bytes)
                .map_err(|source| CorruptJournal::Unreadable { sequence, source })?;
            progress.apply(&entry)?;
        }
        Ok(progress)
    }

    /// The entry that would record this fact next.
    pub fn entry(&self, record: Record, written: Time) -> JournalEntry {
        JournalEntry { sequence: self.sequence, previous: self.head, written, record }
    }

    /// Adds one durable entry, or says why no agent can have written it.
    pub fn apply(&mut self, entry: &JournalEntry) -> Result<(), CorruptJournal> {
        let sequence = self.sequence;
        if entry.sequence != sequence || entry.previous != self.head {
            return Err(CorruptJournal::BrokenChain { sequence });
        }
        let found = entry.record;
        self.next(found).ok_or(CorruptJournal::OutOfOrder { sequence, found })?;
        self.sequence = sequence.saturating_add(1);
        self.head = entry.hash();
        Ok(())
    }

    /// The legal transitions, as one total function.
    fn next(&mut self, record: Record) -> Option<()> {
        match record {
            Record::Adopted { plan, number } => {
                if self.plan.is_some_and(|(_, adopted)| number <= adopted) {
                    return None;
                }
                self.plan = Some((plan, number));
                self.turned_back = false;
                self.called_off = None;
                self.steps.clear();
            }
            Record::TurnedBack => {
                if self.plan.is_none() || self.turned_back {
                    return None;
                }
                self.turned_back = true;
            }
            Record::Started(step) => {
                self.plan?;
                match self.steps.get(&step) {
                    None | Some(StepProgress::Refused) => {
                        self.steps.insert(step, StepProgress::Interrupted);
                    }
                    Some(StepProgress::Interrupted | StepProgress::Succeeded(_)) => return None,
                }
            }
            Record::Succeeded(step, outcome) => {
                self.end(step, StepProgress::Succeeded(outcome))?;
            }
            Record::Refused(step) => self.end(step, StepProgress::Refused)?,
            Record::CalledOff(step, cause) => {
                self.plan?;
                if self.turned_back || self.called_off.is_some() {
                    return None;
                }
                self.called_off = Some((step, cause));
            }
        }
        Some(())
    }

    fn end(&mut self, step: StepId, end: StepProgress) -> Option<()> {
        match self.steps.get_mut(&step)? {
            progress @ StepProgress::Interrupted => *progress = end,
            StepProgress::Refused | StepProgress::Succeeded(_) => return None,
        }
        Some(())
    }

    /// The plan that this agent acts for, and its number.
    pub fn plan(&self) -> Option<(PlanDigest, PlanNumber)> {
        self.plan
    }

    /// Whether the way back has begun.
    pub fn turned_back(&self) -> bool {
        self.turned_back
    }

    /// Why this agent called the plan off itself, if it did: because of which step.
    pub fn called_off(&self) -> Option<(StepId, Cause)> {
        self.called_off
    }

    /// How far a step has come, if it was ever started.
    pub fn step(&self, step: StepId) -> Option<StepProgress> {
        self.steps.get(&step).copied()
    }

    /// Hash of the newest entry.
    pub fn head(&self) -> JournalHash {
        self.head
    }

    /// How many entries there are.
    pub fn length(&self) -> u64 {
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adopted(number: u64) -> Record {
        Record::Adopted { plan: PlanDigest::new([1; 32]), number: PlanNumber(number) }
    }

    fn fold(records: &[Record]) -> Result<Progress, CorruptJournal> {
        let mut progress = Progress::default();
        for record in records {
            let entry = progress.entry(*record, Time(0));
            progress.apply(&entry)?;
        }
        Ok(progress)
    }

    #[test]
    fn a_step_is_started_before_it_ends_and_ends_once() {
        let (step, done) = (StepId(3), StepOutcome::Done);
        let good = [adopted(1), Record::Started(step), Record::Succeeded(step, done)];
        assert_eq!(fold(&good).unwrap().step(step), Some(StepProgress::Succeeded(done)));
        for bad in [
            vec![Record::Started(step)],
            vec![Record::TurnedBack],
            vec![adopted(1), Record::Succeeded(step, done)],
            vec![adopted(1), Record::Refused(step)],
            vec![adopted(1), Record::Started(step), Record::Started(step)],
            vec![adopted(1), good[1], good[2], good[2]],
            vec![adopted(1), good[1], good[2], Record::Started(step)],
            vec![adopted(1), Record::TurnedBack, Record::TurnedBack],
            vec![Record::CalledOff(step, Cause::Full)],
            vec![adopted(1), Record::TurnedBack, Record::CalledOff(step, Cause::Full)],
            vec![
                adopted(1),
                Record::CalledOff(step, Cause::Full),
                Record::CalledOff(step, Cause::Full),
            ],
            vec![adopted(2), adopted(1)],
            vec![adopted(2), adopted(2)],
        ] {
            let error = fold(&bad).unwrap_err();
            assert!(matches!(error, CorruptJournal::OutOfOrder { .. }), "{bad:?}");
        }
    }

    #[test]
    fn a_refused_step_may_be_tried_again() {
        let step = StepId(0);
        let records =
            [adopted(1), Record::Started(step), Record::Refused(step), Record::Started(step)];
        assert_eq!(fold(&records).unwrap().step(step), Some(StepProgress::Interrupted));
    }

    #[test]
    fn a_plan_is_called_off_once_and_the_next_one_begins_anew() {
        let off = Record::CalledOff(StepId(4), Cause::Disagreed);
        let progress = fold(&[adopted(1), off, Record::TurnedBack]).unwrap();
        assert_eq!(progress.called_off(), Some((StepId(4), Cause::Disagreed)));
        assert_eq!(fold(&[adopted(1), off, adopted(2)]).unwrap().called_off(), None);
        assert_eq!(fold(&[adopted(1)]).unwrap().called_off(), None);
    }

    #[test]
    fn every_flipped_byte_of_a_journal_is_noticed() {
        let mut progress = Progress::default();
        let mut encoded = Vec::new();
        let off = Record::CalledOff(StepId(0), Cause::Forked);
        for record in [adopted(1), Record::Started(StepId(0)), off, Record::TurnedBack] {
            let entry = progress.entry(record, Time(9));
            progress.apply(&entry).unwrap();
            encoded.push(wire::encode(&entry));
        }
        let head = progress.head();
        for index in 0..encoded.len() {
            for byte in 0..encoded[index].len() {
                let mut damaged = encoded.clone();
                damaged[index][byte] ^= 1;
                let folded = Progress::recover(damaged.iter().map(Vec::as_slice));
                assert!(folded.is_err() || folded.unwrap().head() != head, "{index}/{byte}");
            }
        }
    }
}
