//! Reads what a TPM writes (TPM 2.0 part 2, 4.3: big-endian, lengths of two bytes).

use super::error::TpmError;

/// What is left to read of one structure.
pub(super) struct Reader<'a> {
    part: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins with a structure of at most so many bytes.
    pub(super) fn new(part: &'static str, bytes: &'a [u8], limit: usize) -> Result<Self, TpmError> {
        if bytes.len() > limit {
            return Err(TpmError::Malformed { part, fault: "it is too long" });
        }
        Ok(Self { part, rest: bytes })
    }

    pub(super) fn u8(&mut self) -> Result<u8, TpmError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, TpmError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, TpmError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, TpmError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A `TPM2B`: its length, then its bytes.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], TpmError> {
        let count = usize::from(self.u16()?);
        self.take(count)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], TpmError> {
        let split = self.rest.split_at_checked(count);
        let (head, tail) = split.ok_or_else(|| self.fault("it is truncated"))?;
        self.rest = tail;
        Ok(head)
    }

    /// Ends with the structure.
    pub(super) fn finish(self) -> Result<(), TpmError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.fault("bytes follow it"))
    }

    pub(super) fn fault(&self, fault: &'static str) -> TpmError {
        TpmError::Malformed { part: self.part, fault }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TpmError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
}
