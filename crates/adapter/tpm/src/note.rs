//! A note in non-volatile memory: 32 bytes that only one who knows a value can read or write.
//!
//! The owner of the TPM can remove a note, and make another one in its place; but nobody makes one
//! that answers to a value which he does not know. So whoever reads a note with a value of its own
//! reads what it wrote.

use zeroize::Zeroizing;

use crate::call::{Authorisation, Call};
use crate::client::Tpm;
use crate::code::{CommandCode, ResponseCode};
use crate::error::{Absent, TpmError};
use crate::key::{StorageRoot, read_index};
use crate::session::Session;
use crate::structure::{ALG_SHA256, Name, OWNER, Target};
use crate::wire::Writer;

/// A note of a TPM, and the value that it answers to.
pub struct Note<'tpm> {
    tpm: &'tpm Tpm,
    index: u32,
    value: Zeroizing<[u8; 32]>,
}

/// What came of reading a note.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Noted {
    /// What was written last.
    Content([u8; 32]),
    /// It was made, and nothing was written yet.
    Nothing,
    /// What is in its place is not the note: it has another form, or answers to another value.
    Other,
}

impl<'tpm> Note<'tpm> {
    /// The note at an index of the range that TCG leaves to owners, whatever is there.
    pub fn new(tpm: &'tpm Tpm, index: u32, value: Zeroizing<[u8; 32]>) -> Self {
        Self { tpm, index, value }
    }

    /// Whether anything is at an index.
    pub fn is_taken(tpm: &Tpm, index: u32) -> Result<bool, TpmError> {
        Ok(read_index(tpm, index)?.is_some())
    }

    /// Removes whatever is at an index of the owner's.
    pub fn remove(tpm: &Tpm, index: u32) -> Result<(), TpmError> {
        let area = read_index(tpm, index)?.ok_or(TpmError::Missing(Absent::Index(index)))?;
        let call = Call::new(CommandCode::NvUndefineSpace, Writer::new())
            .about([Target::bare(OWNER), Target::named(index, Name::of(&area))]);
        tpm.run_as_owner(call).map(drop)
    }

    /// Makes the note, in the place of whatever is there. The value crosses the bus encrypted.
    pub fn define(&self, root: &StorageRoot<'tpm>) -> Result<(), TpmError> {
        if Self::is_taken(self.tpm, self.index)? {
            Self::remove(self.tpm, self.index)?;
        }
        let parameters = Writer::new().sized(self.value.as_slice()).sized(&self.area(0));
        let call = Call::new(CommandCode::NvDefineSpace, parameters)
            .about([Target::bare(OWNER)])
            .with_secret_parameter()
            .ending_session();
        let mut session = Session::salted(root)?;
        let owner = self.tpm.owner_value();
        self.tpm.run(call, vec![Authorisation::Session(&mut session, &owner)]).map(drop)
    }

    /// What the note says. Nobody on the bus can show another answer.
    pub fn read(&self, root: &StorageRoot<'tpm>) -> Result<Noted, TpmError> {
        let missing = TpmError::Missing(Absent::Index(self.index));
        let area = read_index(self.tpm, self.index)?.ok_or(missing)?;
        if area == self.area(0) {
            return Ok(Noted::Nothing);
        }
        if area != self.area(WRITTEN) {
            return Ok(Noted::Other);
        }
        let target = Target::named(self.index, Name::of(&area));
        let call = Call::new(CommandCode::NvRead, Writer::new().u16(BYTES).u16(0))
            .about([target, target])
            .ending_session();
        let mut session = Session::salted(root)?;
        let authorisations = vec![Authorisation::Session(&mut session, self.value.as_slice())];
        let answer = match self.tpm.run(call, authorisations) {
            Err(error) if is_other_value(&error) => return Ok(Noted::Other),
            answer => answer?,
        };
        let mut reader = answer.reader();
        let content = reader.sized_array()?;
        reader.end()?;
        Ok(Noted::Content(content))
    }

    /// Writes the note. After [`TpmError::Unknown`] it may have been written: read it.
    pub fn write(&self, root: &StorageRoot<'tpm>, content: &[u8; 32]) -> Result<(), TpmError> {
        let missing = TpmError::Missing(Absent::Index(self.index));
        let area = read_index(self.tpm, self.index)?.ok_or(missing)?;
        if area != self.area(0) && area != self.area(WRITTEN) {
            return Err(TpmError::Corrupt {
                subject: "a note",
                what: "another one is in its place",
            });
        }
        let target = Target::named(self.index, Name::of(&area));
        let call = Call::new(CommandCode::NvWrite, Writer::new().sized(content).u16(0))
            .about([target, target])
            .ending_session();
        let mut session = Session::salted(root)?;
        let authorisations = vec![Authorisation::Session(&mut session, self.value.as_slice())];
        self.tpm.run(call, authorisations).map(drop)
    }

    /// `TPMS_NV_PUBLIC`.
    fn area(&self, written: u32) -> Vec<u8> {
        let attributes = AUTH_WRITE | AUTH_READ | NO_DA | written;
        let area = Writer::new().u32(self.index).u16(ALG_SHA256).u32(attributes);
        area.sized(&[]).u16(BYTES).to_vec()
    }
}

/// What a TPM says to whoever shows another value than the one that an index has.
fn is_other_value(error: &TpmError) -> bool {
    matches!(error.refusal(), Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL))
}

const BYTES: u16 = 32;

// Attributes of an index (part 2, 13.4). The owner is not among those who read or write.
const AUTH_WRITE: u32 = 1 << 2;
const AUTH_READ: u32 = 1 << 18;
/// Wrong authorisations are not counted: they must not lock a machine out of its own state.
const NO_DA: u32 = 1 << 25;
const WRITTEN: u32 = 1 << 29;
