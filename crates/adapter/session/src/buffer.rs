//! Bytes on their way, wiped when they have gone.

use std::convert::Infallible;
use std::ops::Range;

use zeroize::{Zeroize, Zeroizing};

/// A queue of bytes. What was consumed, and what was moved, is wiped.
pub(crate) struct Buffer {
    bytes: Zeroizing<Vec<u8>>,
    filled: Range<usize>,
}

impl Buffer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Zeroizing::new(vec![0; capacity]), filled: 0..0 }
    }

    /// The bytes that wait.
    pub(crate) fn filled(&self) -> &[u8] {
        self.bytes.get(self.filled.clone()).expect("the filled range lies in the buffer")
    }

    pub(crate) fn len(&self) -> usize {
        self.filled.len()
    }

    /// Wipes the first `count` bytes that wait.
    pub(crate) fn consume(&mut self, count: usize) {
        let end = self.filled.start.saturating_add(count).min(self.filled.end);
        self.bytes
            .get_mut(self.filled.start..end)
            .expect("the consumed range lies in the filled one")
            .zeroize();
        self.filled.start = end;
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
    }

    /// Takes back bytes from the end, so that `len` of them wait.
    pub(crate) fn truncate(&mut self, len: usize) {
        let end = self.filled.start.saturating_add(len).min(self.filled.end);
        self.bytes
            .get_mut(end..self.filled.end)
            .expect("the range that is taken back lies in the filled one")
            .zeroize();
        self.filled.end = end;
    }

    /// Room for exactly `count` more bytes, which count as filled.
    pub(crate) fn extend(&mut self, count: usize) -> &mut [u8] {
        self.reserve(count);
        let start = self.filled.end;
        self.filled.end = start.saturating_add(count);
        self.bytes.get_mut(start..self.filled.end).expect("the room was reserved")
    }

    /// Overwrites bytes that wait, `at` bytes after the first of them.
    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) {
        let start = self.filled.start.saturating_add(at);
        self.bytes
            .get_mut(start..start.saturating_add(bytes.len()))
            .expect("only bytes that wait are overwritten")
            .copy_from_slice(bytes);
    }

    /// Makes room behind the filled bytes: moves them to the front, or to a larger buffer. The old
    /// one is wiped when it is dropped; `Vec` alone would leave its bytes behind.
    fn reserve(&mut self, count: usize) {
        let needed = self.len().saturating_add(count);
        if self.filled.end.saturating_add(count) <= self.bytes.len() {
            return;
        }
        if needed <= self.bytes.len() {
            let len = self.len();
            self.bytes.copy_within(self.filled.clone(), 0);
            self.bytes
                .get_mut(len..self.filled.end)
                .expect("the filled bytes moved to the front")
                .zeroize();
            self.filled = 0..len;
            return;
        }
        let mut larger = Self::with_capacity(needed.next_power_of_two());
        larger.filled = 0..self.len();
        larger.patch(0, self.filled());
        *self = larger;
    }
}

impl minicbor::encode::Write for Buffer {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.extend(bytes.len()).copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut buffer = Buffer::with_capacity(4);
        buffer.extend(3).copy_from_slice(b"abc");
        buffer.consume(2);
        buffer.extend(3).copy_from_slice(b"def");
        assert_eq!(buffer.filled(), b"cdef");
        buffer.extend(2).copy_from_slice(b"gh");
        buffer.patch(1, b"D");
        buffer.truncate(5);
        assert_eq!(buffer.filled(), b"cDefg");
        buffer.consume(9);
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn what_has_gone_is_wiped() {
        let mut buffer = Buffer::with_capacity(8);
        buffer.extend(8).copy_from_slice(b"secretXY");
        buffer.consume(6);
        buffer.extend(2).copy_from_slice(b"ZZ");
        buffer.truncate(3);
        assert_eq!(buffer.bytes.as_slice(), b"XYZ\0\0\0\0\0");
    }
}
