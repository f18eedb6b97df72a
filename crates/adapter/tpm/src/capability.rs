//! What a TPM says about itself, and what others left in it.

use crate::call::Call;
use crate::client::Tpm;
use crate::code::CommandCode;
use crate::error::TpmError;
use crate::limit::{CAPABILITY_ANSWERS_MAX, CAPABILITY_ELEMENTS_MAX};
use crate::structure::{CAPABILITY_HANDLES, CAPABILITY_PCRS, CAPABILITY_PROPERTIES};
use crate::wire::{Reader, Writer};

/// Who made a TPM, and what it runs. Nothing in it is proven.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// The manufacturer's four letters.
    pub manufacturer: String,
    /// The manufacturer's version of the firmware.
    pub firmware: u64,
    /// Whether it has been in lockout because of wrong authorisations.
    pub in_lockout: bool,
    /// How many wrong authorisations it counts.
    pub lockout_counter: u32,
}

/// One bank of registers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bank {
    /// The hash, as `TPM_ALG_ID`.
    pub algorithm: u16,
    /// How many registers it has: none if it is switched off.
    pub registers: u32,
}

/// Kinds of handles that can be listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Handles {
    /// Indices of non-volatile memory.
    Indices,
    /// Permanent objects.
    Permanent,
    /// Loaded objects.
    Objects,
    /// Sessions, loaded or saved.
    Sessions,
}

impl Handles {
    fn ranges(self) -> &'static [u32] {
        match self {
            Self::Indices => &[0x0100_0000],
            Self::Permanent => &[0x8100_0000],
            Self::Objects => &[0x8000_0000],
            Self::Sessions => &[0x0200_0000, 0x0300_0000],
        }
    }
}

impl Tpm {
    /// Who made it, and what it runs.
    pub fn description(&self) -> Result<Description, TpmError> {
        let manufacturer = self.property(MANUFACTURER)?.to_be_bytes();
        let letters = manufacturer.iter().filter(|byte| byte.is_ascii_graphic());
        let firmware = u64::from(self.property(FIRMWARE_VERSION)?) << 32
            | u64::from(self.property(FIRMWARE_VERSION + 1)?);
        Ok(Description {
            manufacturer: letters.map(|byte| char::from(*byte)).collect(),
            firmware,
            in_lockout: self.property(PERMANENT)? & IN_LOCKOUT != 0,
            lockout_counter: self.property(LOCKOUT_COUNTER)?,
        })
    }

    /// Its banks of registers.
    pub fn banks(&self) -> Result<Vec<Bank>, TpmError> {
        let mut banks = Vec::new();
        self.capability(CAPABILITY_PCRS, 0, |reader| {
            let algorithm = reader.u16()?;
            let bitmap = usize::from(reader.u8()?);
            let registers = reader.take(bitmap)?.iter().map(|byte| byte.count_ones()).sum();
            banks.push(Bank { algorithm, registers });
            Ok(())
        })?;
        Ok(banks)
    }

    /// What it has of a kind.
    pub fn handles(&self, kind: Handles) -> Result<Vec<u32>, TpmError> {
        let mut handles: Vec<u32> = Vec::new();
        for start in kind.ranges() {
            let mut next = *start;
            for _ in 0..CAPABILITY_ANSWERS_MAX {
                let more = self.capability(CAPABILITY_HANDLES, next, |reader| {
                    handles.push(reader.u32()?);
                    Ok(())
                })?;
                match handles.last() {
                    Some(last) if more => next = last.wrapping_add(1),
                    _ => break,
                }
            }
        }
        Ok(handles)
    }

    /// Unloads all objects and sessions, which somebody left who ended suddenly.
    ///
    /// Only for whoever has the TPM for itself: through the kernel's resource manager it is not
    /// needed, and on a shared socket it disturbs others.
    pub fn flush_leftovers(&self) -> Result<(), TpmError> {
        for kind in [Handles::Objects, Handles::Sessions] {
            for handle in self.handles(kind)? {
                self.flush(handle)?;
            }
        }
        Ok(())
    }

    fn property(&self, wanted: u32) -> Result<u32, TpmError> {
        let mut found = None;
        self.capability(CAPABILITY_PROPERTIES, wanted, |reader| {
            let (property, value) = (reader.u32()?, reader.u32()?);
            if property == wanted {
                found = Some(value);
            }
            Ok(())
        })?;
        found.ok_or(TpmError::Corrupt {
            subject: "GetCapability",
            what: "the TPM does not have a property that all have",
        })
    }

    /// Asks for elements from `first` on, and says whether there are more.
    fn capability(
        &self,
        capability: u32,
        first: u32,
        mut element: impl FnMut(&mut Reader<'_>) -> Result<(), TpmError>,
    ) -> Result<bool, TpmError> {
        let count = if capability == CAPABILITY_PROPERTIES { 1 } else { CAPABILITY_ELEMENTS_MAX };
        let parameters = Writer::new().u32(capability).u32(first).u32(count);
        let answer = self.run(Call::new(CommandCode::GetCapability, parameters), Vec::new())?;
        let mut reader = answer.reader();
        let more = reader.u8()? != 0;
        let (found, count) = (reader.u32()?, reader.u32()?);
        if found != capability || count > CAPABILITY_ELEMENTS_MAX {
            return Err(reader.corrupt("it is not what was asked for"));
        }
        for _ in 0..count {
            element(&mut reader)?;
        }
        reader.end()?;
        Ok(more)
    }
}

// Properties (part 2, 6.13).
const MANUFACTURER: u32 = 0x105;
const FIRMWARE_VERSION: u32 = 0x10b;
const PERMANENT: u32 = 0x200;
const LOCKOUT_COUNTER: u32 = 0x20e;
/// `TPMA_PERMANENT.inLockout`.
const IN_LOCKOUT: u32 = 1 << 9;
