//! Registers (PCRs) of the SHA-256 bank.

use heirloom_model::evidence::BOOT_REGISTERS;

use crate::call::{Authorisation, Call};
use crate::client::Tpm;
use crate::code::CommandCode;
use crate::crypto::{sha256, write_digest};
use crate::error::{Absent, TpmError};
use crate::limit::{PCRS, QUOTE_ATTEMPTS_MAX};
use crate::structure::{ALG_SHA256, Target};
use crate::wire::{Reader, Writer};

/// One register and its value.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Register {
    /// Which, from 0 to 23.
    pub index: u8,
    /// Its value.
    pub value: [u8; 32],
}

/// Some registers: at least one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Selection(u32);

impl Selection {
    /// These registers. None if there are none, or one of them does not exist.
    pub fn new(indices: impl IntoIterator<Item = u8>) -> Option<Self> {
        let mut mask = 0_u32;
        for index in indices {
            if index >= PCRS {
                return None;
            }
            mask |= 1 << index;
        }
        (mask != 0).then_some(Self(mask))
    }

    /// Registers 0 to 15: what firmware, kernel and launcher measure.
    pub fn boot() -> Self {
        Self((1 << BOOT_REGISTERS.end) - 1)
    }

    /// The registers, in order.
    pub fn indices(self) -> impl Iterator<Item = u8> {
        (0..PCRS).filter(move |index| self.contains(*index))
    }

    /// One bit for each register, the lowest for register 0.
    pub fn mask(self) -> u32 {
        self.0
    }

    pub(crate) fn contains(self, index: u8) -> bool {
        self.0 >> index & 1 == 1
    }

    /// A list of one selection (`TPML_PCR_SELECTION`).
    pub(crate) fn write(self, writer: Writer) -> Writer {
        let [low, middle, high, _] = self.0.to_le_bytes();
        writer.u32(1).u16(ALG_SHA256).u8(BITMAP).bytes(&[low, middle, high])
    }

    /// Such a list; none if it selects nothing.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, TpmError> {
        if reader.u32()? != 1 {
            return Err(reader.corrupt("it is not about one bank of registers"));
        }
        reader.expect_u16(ALG_SHA256, "it is about another bank of registers")?;
        if reader.u8()? != BITMAP {
            return Err(reader.corrupt("it is about another number of registers"));
        }
        let [low, middle, high] = reader.array()?;
        let mask = u32::from_le_bytes([low, middle, high, 0]);
        Ok((mask != 0).then_some(Self(mask)))
    }
}

/// The digest over the values of registers, in order, as quotes and policies contain it.
pub fn registers_digest(registers: &[Register]) -> [u8; 32] {
    let values: Vec<&[u8]> = registers.iter().map(|register| register.value.as_slice()).collect();
    sha256(&values)
}

/// The value of a register that was zero and is extended with these digests: pure.
pub fn extended<'digest>(
    start: &[u8; 32],
    digests: impl IntoIterator<Item = &'digest [u8; 32]>,
) -> [u8; 32] {
    digests.into_iter().fold(*start, |value, digest| sha256(&[&value, digest]))
}

impl Tpm {
    /// Extends a register with a digest. Only a reboot takes that back.
    pub fn extend(&self, index: u8, digest: &[u8; 32]) -> Result<(), TpmError> {
        let parameters = write_digest(Writer::new().u32(1), digest);
        let call = Call::new(CommandCode::PcrExtend, parameters).about([register(index)]);
        self.run(call, vec![Authorisation::Empty]).map(drop)
    }

    /// Sets a register to zero that the platform lets everybody reset: 16 and 23.
    pub fn reset(&self, index: u8) -> Result<(), TpmError> {
        let call = Call::new(CommandCode::PcrReset, Writer::new()).about([register(index)]);
        self.run(call, vec![Authorisation::Empty]).map(drop)
    }

    /// The values of registers, all at the same time.
    pub fn registers(&self, selection: Selection) -> Result<Vec<Register>, TpmError> {
        for _ in 0..QUOTE_ATTEMPTS_MAX {
            if let Some(registers) = self.registers_unless_changed(selection)? {
                return Ok(registers);
            }
        }
        Err(TpmError::Unreachable { reason: "registers change all the time".to_owned() })
    }

    /// A TPM gives out some registers at a time; none if one was extended meanwhile.
    fn registers_unless_changed(
        &self,
        selection: Selection,
    ) -> Result<Option<Vec<Register>>, TpmError> {
        let mut registers = Vec::new();
        let mut open = Some(selection);
        let mut first = None;
        // Each round reads at least one register.
        while let Some(wanted) = open {
            let (counter, part) = self.read_some(wanted)?;
            if *first.get_or_insert(counter) != counter {
                return Ok(None);
            }
            registers.extend(part);
            let missing = |index: &u8| registers.iter().all(|read| read.index != *index);
            open = Selection::new(selection.indices().filter(missing));
        }
        registers.sort_unstable();
        Ok(Some(registers))
    }

    /// The number of changes so far, and some of the registers.
    fn read_some(&self, wanted: Selection) -> Result<(u32, Vec<Register>), TpmError> {
        let call = Call::new(CommandCode::PcrRead, wanted.write(Writer::new()));
        let answer = self.run(call, Vec::new())?;
        let mut reader = answer.reader();
        let counter = reader.u32()?;
        let selected = Selection::read(&mut reader)?.ok_or(TpmError::Missing(Absent::Register))?;
        if selected.0 & !wanted.0 != 0 {
            return Err(reader.corrupt("it has registers that were not asked for"));
        }
        if reader.u32()? != selected.0.count_ones() {
            return Err(reader.corrupt("it has another number of values than of registers"));
        }
        let read = |index| reader.sized_array().map(|value| Register { index, value });
        let registers = selected.indices().map(read).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok((counter, registers))
    }
}

/// A register is its own handle. One that does not exist is refused by the TPM.
fn register(index: u8) -> Target {
    Target::bare(u32::from(index))
}

/// Bytes of a selection: one bit for each register.
const BITMAP: u8 = PCRS / 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_written_as_it_is_read() {
        for indices in [vec![0], vec![0, 16], vec![23], (0..24).collect()] {
            let selection = Selection::new(indices.clone()).unwrap();
            assert_eq!(selection.indices().collect::<Vec<_>>(), indices);
            let bytes = selection.write(Writer::new()).to_vec();
            let mut reader = Reader::new("a selection", &bytes);
            assert_eq!(Selection::read(&mut reader).unwrap(), Some(selection));
            reader.end().unwrap();
        }
        assert_eq!(Selection::new([]), None);
        assert_eq!(Selection::new([24]), None);
        assert_eq!(Selection::boot(), Selection::new(0..16).unwrap());
    }
}
