//! Frames: how values follow each other in a stream of bytes.
//!
//! A frame is four bytes of length, big-endian, and then one value in its one encoding. Sessions
//! have the same frames inside TLS (`heirloom_session`), where bytes come and go in records.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use crate::wire::{self, Wire, WireError};

/// Bytes of the length.
pub const LENGTH_BYTES: usize = 4;
/// Room that is made for a frame on its sender's word alone. Frames with secrets in them are
/// smaller: they are never moved, so that no copy of them is left behind.
const ROOM_BYTES_MAX: usize = 64 * 1024;

/// Why no value came through a stream.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side is gone, between two frames.
    #[error("the other side closed the connection")]
    Closed,
    /// The stream failed, or ended within a frame.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The frame is larger than its value may be.
    #[error("{what} of {found} bytes is more than the {limit} allowed")]
    TooLarge {
        /// What was expected.
        what: &'static str,
        /// What the frame claims to have.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The frame has no value of the expected kind.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Sends one value.
pub fn send<T: Wire>(stream: &mut impl Write, value: &T) -> Result<(), FrameError> {
    let bytes = Zeroizing::new(wire::encode(value));
    send_bytes(stream, &bytes, T::WHAT, T::BYTES_MAX)
}

/// Receives one value.
pub fn receive<T: Wire>(stream: &mut impl Read) -> Result<T, FrameError> {
    Ok(wire::decode(&receive_bytes(stream, T::WHAT, T::BYTES_MAX)?)?)
}

/// Sends the bytes of one frame.
pub fn send_bytes(
    stream: &mut impl Write,
    bytes: &[u8],
    what: &'static str,
    limit: usize,
) -> Result<(), FrameError> {
    let found = bytes.len();
    let length = u32::try_from(found).ok().filter(|_| found <= limit);
    let length = length.ok_or(FrameError::TooLarge { what, found, limit })?;
    let frame = Zeroizing::new([length.to_be_bytes().as_slice(), bytes].concat());
    stream.write_all(&frame).and_then(|()| stream.flush()).map_err(FrameError::Io)
}

/// Receives the bytes of one frame. Memory grows with what arrives, not with what is announced.
pub fn receive_bytes(
    stream: &mut impl Read,
    what: &'static str,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let mut header = [0; LENGTH_BYTES];
    stream.read_exact(&mut header).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => FrameError::Closed,
        _ => FrameError::Io(error),
    })?;
    let length = u32::from_be_bytes(header);
    let found = usize::try_from(length).unwrap_or(usize::MAX);
    if found > limit {
        return Err(FrameError::TooLarge { what, found, limit });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(found.min(ROOM_BYTES_MAX)));
    let read = stream.take(u64::from(length)).read_to_end(&mut bytes).map_err(FrameError::Io)?;
    if read < found {
        return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use minicbor::{Decode, Encode};

    use super::*;

    #[derive(Debug, Decode, Encode, PartialEq)]
    #[cbor(transparent)]
    struct Number(#[n(0)] u32);
    crate::wire! { Number: "number", 5; }

    #[test]
    fn values_follow_each_other() {
        let mut stream = Vec::new();
        for number in [7, 300] {
            send(&mut stream, &Number(number)).unwrap();
        }
        assert_eq!(stream, [0, 0, 0, 1, 7, 0, 0, 0, 3, 0x19, 1, 0x2c]);
        let mut stream = &stream[..];
        assert_eq!(receive::<Number>(&mut stream).unwrap(), Number(7));
        assert_eq!(receive::<Number>(&mut stream).unwrap(), Number(300));
        assert!(matches!(receive::<Number>(&mut stream), Err(FrameError::Closed)));
    }

    #[test]
    fn what_is_torn_too_large_or_no_value_is_refused() {
        let found = |bytes: &[u8]| receive::<Number>(&mut &bytes[..]).unwrap_err();
        for announced in [[0, 0, 0, 6], [0xff; 4]] {
            assert!(matches!(found(&announced), FrameError::TooLarge { limit: 5, .. }));
        }
        assert!(matches!(found(&[0, 0]), FrameError::Closed));
        assert!(matches!(found(&[0, 0, 0, 3, 0x19, 1]), FrameError::Io(_)));
        let padded = found(&[0, 0, 0, 2, 0x18, 7]);
        assert!(matches!(padded, FrameError::Wire(WireError::NotCanonical { .. })));
        let sent = send_bytes(&mut Vec::new(), &[0; 6], "number", 5);
        assert!(matches!(sent, Err(FrameError::TooLarge { found: 6, .. })));
    }
}
