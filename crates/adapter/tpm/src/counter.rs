//! Counters in non-volatile memory: numbers that only grow.
//!
//! A counter that is removed and made again starts above every count that the TPM ever had, so
//! that what was sealed to an older count stays closed. Somebody who may remove it can therefore
//! deny service, and no more.

use crate::call::{Authorisation, Call};
use crate::client::Tpm;
use crate::code::CommandCode;
use crate::error::{Absent, TpmError};
use crate::key::{StorageRoot, read_index};
use crate::policy::{Opening, PolicyDigest};
use crate::session::Session;
use crate::structure::{ALG_SHA256, Name, OWNER, Target};
use crate::wire::Writer;

/// What a counter is, as policies name it. Pure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CounterPublic {
    index: u32,
    incremented_by: Incrementer,
}

/// Who may increment a counter. Everybody may read it; only the owner may remove it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Incrementer {
    /// The owner of the TPM.
    Owner,
    /// Whoever satisfies this policy.
    Policy(PolicyDigest),
}

impl CounterPublic {
    /// A counter at an index of the range that TCG leaves to owners (`0x0180_0000` to
    /// `0x01bf_ffff`); none if it is elsewhere.
    pub fn new(index: u32, incremented_by: Incrementer) -> Option<Self> {
        (0x0180_0000..0x01c0_0000).contains(&index).then_some(Self { index, incremented_by })
    }

    /// Its place in non-volatile memory.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its name, once it was incremented for the first time.
    pub fn name(&self) -> Name {
        Name::of(&self.area(WRITTEN))
    }

    /// `TPMS_NV_PUBLIC`.
    fn area(&self, written: u32) -> Vec<u8> {
        let (write, policy): (u32, &[u8]) = match &self.incremented_by {
            Incrementer::Owner => (OWNER_WRITE, &[]),
            Incrementer::Policy(digest) => (POLICY_WRITE, digest.as_bytes()),
        };
        let attributes = COUNTER | NO_DA | OWNER_READ | AUTH_READ | write | written;
        let area = Writer::new().u32(self.index).u16(ALG_SHA256).u32(attributes);
        area.sized(policy).u16(8).to_vec()
    }
}

/// A counter of a TPM.
pub struct Counter<'tpm> {
    tpm: &'tpm Tpm,
    public: CounterPublic,
}

impl<'tpm> Counter<'tpm> {
    /// A counter that exists and was incremented at least once. Something else in its place is
    /// corrupt.
    pub fn open(tpm: &'tpm Tpm, public: CounterPublic) -> Result<Self, TpmError> {
        let missing = TpmError::Missing(Absent::Index(public.index));
        let area = read_index(tpm, public.index)?.ok_or(missing)?;
        if area == public.area(WRITTEN) {
            Ok(Self { tpm, public })
        } else {
            Err(TpmError::Corrupt { subject: "a counter", what: OTHER })
        }
    }

    /// Makes a counter and increments it for the first time; `opening` satisfies its policy, if it
    /// has one. One that was made and not incremented, because of a crash, is completed.
    pub fn define(
        root: &StorageRoot<'tpm>,
        public: CounterPublic,
        opening: Option<Opening<'_>>,
    ) -> Result<Self, TpmError> {
        let tpm = root.tpm();
        match read_index(tpm, public.index)? {
            None => define_index(tpm, &public)?,
            Some(area) if area == public.area(0) => {}
            Some(area) if area == public.area(WRITTEN) => return Ok(Self { tpm, public }),
            Some(_) => return Err(TpmError::Corrupt { subject: "a counter", what: OTHER }),
        }
        let counter = Self { tpm, public };
        counter.increment_as(Name::of(&public.area(0)), root, opening)?;
        Ok(counter)
    }

    /// What it is.
    pub fn public(&self) -> &CounterPublic {
        &self.public
    }

    /// Its value. The answer is authenticated, so that nobody on the bus can show an old one.
    pub fn read(&self, root: &StorageRoot<'tpm>) -> Result<u64, TpmError> {
        let target = Target::named(self.public.index, self.public.name());
        let call = Call::new(CommandCode::NvRead, Writer::new().u16(8).u16(0))
            .about([target, target])
            .ending_session();
        let mut session = Session::salted(root)?;
        let authorisations = vec![Authorisation::Session(&mut session, &[])];
        let answer = self.tpm.run(call, authorisations)?;
        let mut reader = answer.reader();
        let value = u64::from_be_bytes(reader.sized_array()?);
        reader.end()?;
        Ok(value)
    }

    /// Adds one. After [`TpmError::Unknown`] it may have been added: read it.
    pub fn increment(
        &self,
        root: &StorageRoot<'tpm>,
        opening: Option<Opening<'_>>,
    ) -> Result<(), TpmError> {
        self.increment_as(self.public.name(), root, opening)
    }

    /// Removes the counter, and with it everything that is sealed to it.
    pub fn remove(self) -> Result<(), TpmError> {
        let target = Target::named(self.public.index, self.public.name());
        let call = Call::new(CommandCode::NvUndefineSpace, Writer::new())
            .about([Target::bare(OWNER), target]);
        self.tpm.run_as_owner(call).map(drop)
    }

    fn increment_as(
        &self,
        name: Name,
        root: &StorageRoot<'tpm>,
        opening: Option<Opening<'_>>,
    ) -> Result<(), TpmError> {
        let target = Target::named(self.public.index, name);
        let call = Call::new(CommandCode::NvIncrement, Writer::new());
        let Some(opening) = opening else {
            let call = call.about([Target::bare(OWNER), target]);
            return self.tpm.run_as_owner(call).map(drop);
        };
        let mut session = Session::policy(root)?;
        opening.satisfy(&session)?;
        let call = call.about([target, target]).ending_session();
        let authorisations = vec![Authorisation::Session(&mut session, &[])];
        self.tpm.run(call, authorisations).map(drop)
    }
}

fn define_index(tpm: &Tpm, public: &CounterPublic) -> Result<(), TpmError> {
    let parameters = Writer::new().sized(&[]).sized(&public.area(0));
    let call = Call::new(CommandCode::NvDefineSpace, parameters).about([Target::bare(OWNER)]);
    tpm.run_as_owner(call).map(drop)
}

const OTHER: &str = "something else is in its place";

// Attributes of an index (part 2, 13.4).
const OWNER_WRITE: u32 = 1 << 1;
const POLICY_WRITE: u32 = 1 << 3;
const COUNTER: u32 = 1 << 4;
const OWNER_READ: u32 = 1 << 17;
const AUTH_READ: u32 = 1 << 18;
/// Wrong authorisations are not counted: they must not lock a machine out of its own state.
const NO_DA: u32 = 1 << 25;
const WRITTEN: u32 = 1 << 29;
