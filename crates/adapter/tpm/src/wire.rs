//! Big-endian bytes in and out (TPM 2.0 part 1, 5 and 6: canonical form).

use zeroize::Zeroizing;

use crate::error::TpmError;
use crate::limit::{MESSAGE_BYTES_MAX, SIZED_BYTES_MAX};

/// Bytes that are put together for a TPM. Wiped when dropped, and never moved while they grow.
pub(crate) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(MESSAGE_BYTES_MAX)))
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes with their length in front (`TPM2B_`).
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).expect("structures are shorter than a message");
        self.u16(length).bytes(bytes)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.0.to_vec()
    }
}

/// Bytes that came from a TPM or a file, and are taken apart strictly.
pub(crate) struct Reader<'bytes> {
    rest: &'bytes [u8],
    subject: &'static str,
}

impl<'bytes> Reader<'bytes> {
    /// `subject` is named if the bytes cannot be understood.
    pub(crate) fn new(subject: &'static str, bytes: &'bytes [u8]) -> Self {
        Self { rest: bytes, subject }
    }

    pub(crate) fn corrupt(&self, what: &'static str) -> TpmError {
        TpmError::Corrupt { subject: self.subject, what }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'bytes [u8], TpmError> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| self.corrupt("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], TpmError> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or_else(|| self.corrupt("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, TpmError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, TpmError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, TpmError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, TpmError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Bytes with their length in front.
    pub(crate) fn sized(&mut self) -> Result<&'bytes [u8], TpmError> {
        let length = usize::from(self.u16()?);
        if length > SIZED_BYTES_MAX {
            return Err(self.corrupt("a part of it is longer than any such part"));
        }
        self.take(length)
    }

    /// Bytes with their length in front, which must be `N`.
    pub(crate) fn sized_array<const N: usize>(&mut self) -> Result<[u8; N], TpmError> {
        let bytes = self.sized()?;
        bytes.try_into().map_err(|_| self.corrupt("a part of it has an unexpected length"))
    }

    /// A number that must be this one.
    pub(crate) fn expect_u16(&mut self, value: u16, what: &'static str) -> Result<(), TpmError> {
        if self.u16()? == value { Ok(()) } else { Err(self.corrupt(what)) }
    }

    pub(crate) fn rest(&self) -> &'bytes [u8] {
        self.rest
    }

    pub(crate) fn end(self) -> Result<(), TpmError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.corrupt("it has trailing bytes")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let written = Writer::new().u8(1).u16(2).u32(3).sized(b"four").to_vec();
        let mut reader = Reader::new("a test", &written);
        assert_eq!(reader.u8().unwrap(), 1);
        assert_eq!(reader.u16().unwrap(), 2);
        assert_eq!(reader.u32().unwrap(), 3);
        assert_eq!(reader.sized().unwrap(), b"four");
        reader.end().unwrap();
        for length in 0..written.len() {
            let mut reader = Reader::new("a test", &written[..length]);
            let read = reader.u8().and_then(|_| reader.u16()).and_then(|_| reader.u32());
            assert!(read.and_then(|_| reader.sized()).is_err(), "{length} bytes");
        }
        assert!(Reader::new("a test", &[0]).end().is_err());
        assert!(Reader::new("a test", &[0xff, 0xff, 0]).sized().is_err());
    }
}
