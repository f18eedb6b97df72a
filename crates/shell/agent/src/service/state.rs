//! What the node was last told to be, in one file that is replaced as a whole.
//!
//! It is written before the effect that it describes. Whoever finds the world otherwise puts the
//! world right, not the file.

use std::path::PathBuf;

use heirloom_model::digest::sha256;
use heirloom_model::domain::PlanStep;
use heirloom_model::measurement::Measurement;
use heirloom_model::service::{Admission, Tip};
use heirloom_model::wire::{self, Wire};
use heirloom_store::atomic;
use heirloom_store::error::StoreError;
use minicbor::{Decode, Encode};

/// Steps whose tests succeeded that are remembered: those of the last plans.
pub const EXERCISED_MAX: usize = 64;
/// What the file begins with.
const KIND: &[u8; 27] = b"heirloom service state v2\n\0";
/// A digest of everything before it ends the file: damage must not look like another wish.
const DIGEST_BYTES: usize = 32;

/// What the node was last told to be.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Desired {
    /// The installed service.
    #[n(0)]
    pub installed: Option<Measurement>,
    /// What runs.
    #[n(1)]
    pub wanted: Wanted,
    /// Whose work is taken. Only with [`Admission::Open`] is the proxy open.
    #[n(2)]
    pub admission: Admission,
    /// Whether the service has promised to append nothing.
    #[n(3)]
    pub promise: Promise,
    /// Whether blocks are distributed.
    #[n(4)]
    pub distribution: Distribution,
    /// Steps whose tests succeeded, oldest first.
    #[n(5)]
    pub exercised: Vec<PlanStep>,
}

/// What is meant to run.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Wanted {
    /// Nothing.
    #[n(0)]
    Halted,
    /// One instance of this code.
    #[n(1)]
    Running {
        /// The code.
        #[n(0)]
        code: Measurement,
        /// How its ledger must end when it is started, until it was once.
        #[n(1)]
        expected: Option<Tip>,
    },
}

/// The promise of a service to append nothing. An instance forgets it when it dies, so that it is
/// kept here: before anybody is told that it was given.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Promise {
    /// The service may append.
    #[n(0)]
    Absent,
    /// It is asked to promise. Whether it has is not known.
    #[n(1)]
    Asked,
    /// It has promised.
    #[n(2)]
    Given {
        /// Where its ledger ends until the promise is taken back.
        #[n(0)]
        tip: Tip,
    },
}

/// How code of the service is started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    /// Wherever its ledger ends.
    Anywhere,
    /// Only with a ledger that ends here.
    At(Tip),
    /// As it was when it had promised to append nothing: frozen from the first moment on, and only
    /// with a ledger that ends here.
    Frozen(Tip),
}

/// Whether blocks are distributed.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Distribution {
    /// No.
    #[n(0)]
    Stopped,
    /// Yes.
    #[n(1)]
    Running,
}

heirloom_model::wire! { Desired: "service state", 16 * 1024; }

impl Desired {
    /// A node that has no service yet.
    pub fn nothing() -> Self {
        Self {
            installed: None,
            wanted: Wanted::Halted,
            admission: Admission::Closed,
            promise: Promise::Absent,
            distribution: Distribution::Stopped,
            exercised: Vec::new(),
        }
    }

    /// The code that is meant to run.
    pub fn code(&self) -> Option<&Measurement> {
        match &self.wanted {
            Wanted::Halted => None,
            Wanted::Running { code, .. } => Some(code),
        }
    }

    /// How what is meant to run is started.
    pub(crate) fn start(&self) -> Start {
        match (self.promise, &self.wanted) {
            (Promise::Given { tip }, _) => Start::Frozen(tip),
            (_, Wanted::Running { expected: Some(tip), .. }) => Start::At(*tip),
            (_, Wanted::Running { expected: None, .. } | Wanted::Halted) => Start::Anywhere,
        }
    }

    /// With the mark of a step whose tests succeeded.
    #[must_use]
    pub fn with_exercised(mut self, step: PlanStep) -> Self {
        if !self.exercised.contains(&step) {
            self.exercised.push(step);
        }
        let surplus = self.exercised.len().saturating_sub(EXERCISED_MAX);
        self.exercised.drain(..surplus);
        self
    }
}

/// The file, and what is in it.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    now: Desired,
    /// A write that failed may have happened all the same.
    is_sure: bool,
}

impl StateFile {
    /// Reads the file. If there is none, the node has no service yet.
    pub fn open(path: PathBuf) -> Result<Self, StoreError> {
        let now = match atomic::read(&path, KIND.len() + Desired::BYTES_MAX + DIGEST_BYTES) {
            Ok(bytes) => decode(&bytes).map_err(|reason| StoreError::Corrupt {
                path: path.clone(),
                offset: 0,
                reason,
            })?,
            Err(StoreError::Missing { .. }) => Desired::nothing(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, now, is_sure: true })
    }

    /// What the node was last told to be.
    pub fn now(&self) -> &Desired {
        &self.now
    }

    /// Tells it to be something else. When this returns, it survives a power failure.
    pub fn set(&mut self, next: Desired) -> Result<(), StoreError> {
        if self.is_sure && next == self.now {
            return Ok(());
        }
        self.is_sure = false;
        atomic::write(&self.path, &encode(&next))?;
        self.is_sure = true;
        self.now = next;
        Ok(())
    }
}

fn encode(desired: &Desired) -> Vec<u8> {
    let body = wire::encode(desired);
    let digest = sha256(&[KIND, &body]);
    [KIND.as_slice(), &body, &digest].concat()
}

fn decode(bytes: &[u8]) -> Result<Desired, &'static str> {
    let rest = bytes.strip_prefix(KIND).ok_or("it is no state of a service")?;
    let (body, digest) = rest.split_last_chunk::<DIGEST_BYTES>().ok_or("it is too short")?;
    if *digest != sha256(&[KIND, body]) {
        return Err("its digest does not belong to its content");
    }
    wire::decode(body).map_err(|_error| "it cannot be understood")
}

#[cfg(test)]
mod tests {
    use heirloom_model::digest::PlanDigest;
    use heirloom_model::measurement::MrEnclave;
    use heirloom_model::plan::StepId;

    use super::*;

    fn step(number: u32) -> PlanStep {
        PlanStep { plan: PlanDigest::new([7; 32]), step: StepId(number) }
    }

    #[test]
    fn what_was_told_is_there_after_a_restart_and_damage_is_never_another_wish() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.state");
        let mut file = StateFile::open(path.clone()).unwrap();
        assert_eq!(*file.now(), Desired::nothing());
        let code = Measurement::Sgx(MrEnclave::new([1; 32]));
        let told = Desired {
            installed: Some(code),
            wanted: Wanted::Running { code, expected: None },
            admission: Admission::Open,
            ..Desired::nothing()
        };
        let told = told.with_exercised(step(3));
        file.set(told.clone()).unwrap();
        assert_eq!(*StateFile::open(path.clone()).unwrap().now(), told);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            let found = StateFile::open(path.clone());
            assert!(matches!(found, Err(StoreError::Corrupt { .. })), "{at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(StateFile::open(path), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn only_a_promise_that_was_given_starts_frozen_code() {
        let [one, other] = [1, 2].map(|byte| Tip {
            height: heirloom_model::service::Height(7),
            id: heirloom_model::digest::BlockId::new([byte; 32]),
        });
        let code = Measurement::Sgx(MrEnclave::new([1; 32]));
        let start = |promise, expected| {
            let wanted = Wanted::Running { code, expected };
            Desired { wanted, promise, ..Desired::nothing() }.start()
        };
        for promise in [Promise::Absent, Promise::Asked] {
            assert_eq!(start(promise, None), Start::Anywhere);
            assert_eq!(start(promise, Some(one)), Start::At(one));
        }
        assert_eq!(start(Promise::Given { tip: other }, None), Start::Frozen(other));
    }

    #[test]
    fn a_write_that_failed_is_repeated_even_if_nothing_changed() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let path = gone.join("service.state");
        let mut file = StateFile::open(path.clone()).unwrap();
        let closed = Desired { distribution: Distribution::Running, ..Desired::nothing() };
        file.set(closed).unwrap_err();
        std::fs::create_dir(&gone).unwrap();
        file.set(Desired::nothing()).unwrap();
        assert!(path.exists(), "nobody knew what the failed write had left");
    }

    #[test]
    fn marks_are_kept_once_and_the_oldest_are_forgotten() {
        let mut desired = Desired::nothing();
        for number in 0..=u32::try_from(EXERCISED_MAX).unwrap() {
            desired = desired.with_exercised(step(number)).with_exercised(step(number));
        }
        assert_eq!(desired.exercised.len(), EXERCISED_MAX);
        assert_eq!(desired.exercised.first(), Some(&step(1)));
    }
}
