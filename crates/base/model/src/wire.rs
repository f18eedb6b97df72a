//! The one codec: canonical CBOR (RFC 8949 §4.2) with numbered fields.
//!
//! [`decode`] encodes what it decoded once more and compares. Unknown fields, trailing bytes,
//! padded integers, indefinite lengths and unsorted sets are therefore all refused by one rule:
//! *these bytes are not the bytes of the value that they claim to be*.

use minicbor::{Decode, Encode};

/// Why bytes are not a value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// More bytes than this type may have.
    #[error("{what} has {found} bytes, more than the {limit} allowed")]
    TooLarge {
        /// What was being decoded.
        what: &'static str,
        /// Bytes present.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not CBOR, or not of the expected shape.
    #[error("{what} cannot be decoded: {reason}")]
    Malformed {
        /// What was being decoded.
        what: &'static str,
        /// The position and kind of the fault, for people.
        reason: String,
    },
    /// The bytes decode, but carry an unknown field, trailing data or a second spelling.
    #[error("{what} is not in canonical form, or has a field that this release does not know")]
    NotCanonical {
        /// What was being decoded.
        what: &'static str,
    },
}

/// A type with one byte format.
///
/// Implement it next to the type, with a name for error messages and a limit in bytes.
pub trait Wire: Encode<()> + for<'b> Decode<'b, ()> {
    /// The name used in errors.
    const WHAT: &'static str;
    /// The largest encoding in bytes.
    const BYTES_MAX: usize;
}

/// Declares the name and size limit of wire types.
#[macro_export]
macro_rules! wire {
    ($($type:ty: $what:literal, $limit:expr;)+) => {$(
        impl $crate::wire::Wire for $type {
            const WHAT: &'static str = $what;
            const BYTES_MAX: usize = $limit;
        }
    )+};
}

/// Encodes a value. Equal values have equal bytes.
pub fn encode<T: Wire>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("encoding into memory cannot fail")
}

/// Decodes exactly one value from exactly these bytes.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, WireError> {
    let what = T::WHAT;
    if bytes.len() > T::BYTES_MAX {
        return Err(WireError::TooLarge { what, found: bytes.len(), limit: T::BYTES_MAX });
    }
    let value: T = minicbor::decode(bytes)
        .map_err(|error| WireError::Malformed { what, reason: error.to_string() })?;
    let mut rest = Expected(bytes);
    if minicbor::encode(&value, &mut rest).is_err() || !rest.0.is_empty() {
        return Err(WireError::NotCanonical { what });
    }
    Ok(value)
}

/// Compares an encoding with expected bytes while it is made, so that no copy of a secret is left
/// behind.
struct Expected<'a>(&'a [u8]);

/// The encoding differs from what was expected.
#[derive(Debug)]
struct Different;

impl minicbor::encode::Write for Expected<'_> {
    type Error = Different;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Different> {
        self.0 = self.0.strip_prefix(bytes).ok_or(Different)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Decode, Encode, PartialEq)]
    struct Pair {
        #[n(0)]
        left: u32,
        #[n(1)]
        right: u32,
    }
    wire! { Pair: "pair", 16; }

    #[test]
    fn a_value_survives_its_encoding() {
        let pair = Pair { left: 7, right: 300 };
        assert_eq!(decode::<Pair>(&encode(&pair)), Ok(pair));
    }

    #[test]
    fn every_second_spelling_is_refused() {
        let not_canonical = Err(WireError::NotCanonical { what: "pair" });
        assert_eq!(decode::<Pair>(&[0x83, 7, 8, 9]), not_canonical, "unknown field");
        assert_eq!(decode::<Pair>(&[0x82, 7, 8, 0]), not_canonical, "trailing byte");
        assert_eq!(decode::<Pair>(&[0x82, 0x18, 7, 8]), not_canonical, "padded integer");
        assert_eq!(decode::<Pair>(&[0x9f, 7, 8, 0xff]), not_canonical, "indefinite length");
        assert!(matches!(decode::<Pair>(&[0x81, 7]), Err(WireError::Malformed { .. })));
        assert!(matches!(decode::<Pair>(&[0; 17]), Err(WireError::TooLarge { .. })));
    }
}
