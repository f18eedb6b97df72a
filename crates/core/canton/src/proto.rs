//! Protocol buffers, as much as the formats here need: a reader that shows every field, also the
//! unknown ones, and a writer of canonical bytes.
//!
//! There are no generated types. The ledger refuses unknown fields in contracts, so a reader must
//! see them; and a snapshot must keep the fields that this release does not know, so a writer must
//! be able to copy them ([`Field::raw`]).

/// A varint of a 64-bit number has at most this many bytes.
const VARINT_BYTES_MAX: usize = 10;

/// Why bytes are not a message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtoError {
    /// They end inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A number has more than ten bytes, or more than 64 bits.
    #[error("a number has more than 64 bits")]
    VarintTooLong,
    /// A tag with field number zero or with an unknown or outdated wire type.
    #[error("{tag:#x} is no tag of a field")]
    Tag {
        /// The tag.
        tag: u64,
    },
    /// The field has another wire type than its format says.
    #[error("field {number} is not {expected}")]
    WireType {
        /// The field.
        number: u32,
        /// What it should be.
        expected: &'static str,
    },
    /// A text is no UTF-8.
    #[error("field {number} is not UTF-8")]
    NotUtf8 {
        /// The field.
        number: u32,
    },
    /// A field that the format does not have.
    #[error("{message} has the unknown field {number}")]
    UnknownField {
        /// The message.
        message: &'static str,
        /// The field.
        number: u32,
    },
    /// A field that the format demands is absent.
    #[error("{message} has no {field}")]
    Missing {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A number stands for nothing that the format names.
    #[error("{found} is no {what}")]
    Number {
        /// What was expected.
        what: &'static str,
        /// What was found.
        found: u64,
    },
    /// More elements than its limit.
    #[error("more than {limit} of {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// The content of one field as the wire has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wire<'a> {
    /// Bytes, text or a message.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// A number.
    Varint(u64),
}

/// One field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field<'a> {
    number: u32,
    wire: Wire<'a>,
    raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its bytes with the tag, to copy it unread.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Its content as the wire has it.
    pub fn wire(&self) -> Wire<'a> {
        self.wire
    }

    /// Bytes, or a message.
    pub fn bytes(&self) -> Result<&'a [u8], ProtoError> {
        match self.wire {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(self.expected("a byte string")),
        }
    }

    /// UTF-8.
    pub fn text(&self) -> Result<&'a str, ProtoError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtoError::NotUtf8 { number: self.number })
    }

    /// An unsigned number, or the bits of a signed one.
    pub fn varint(&self) -> Result<u64, ProtoError> {
        match self.wire {
            Wire::Varint(number) => Ok(number),
            _ => Err(self.expected("a number")),
        }
    }

    /// An `int32` or an enumeration: the lower 32 bits, as every decoder takes them.
    pub fn int32(&self) -> Result<i32, ProtoError> {
        let [a, b, c, d, ..] = self.varint()?.to_le_bytes();
        Ok(i32::from_le_bytes([a, b, c, d]))
    }

    /// A `uint32`: the lower 32 bits.
    pub fn uint32(&self) -> Result<u32, ProtoError> {
        Ok(self.int32()?.cast_unsigned())
    }

    /// An `int64`.
    pub fn int64(&self) -> Result<i64, ProtoError> {
        Ok(self.varint()?.cast_signed())
    }

    /// A `sint64`.
    pub fn sint64(&self) -> Result<i64, ProtoError> {
        let bits = self.varint()?;
        Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
    }

    /// A `bool`.
    pub fn boolean(&self) -> Result<bool, ProtoError> {
        Ok(self.varint()? != 0)
    }

    /// A `sfixed64`.
    pub fn sfixed64(&self) -> Result<i64, ProtoError> {
        match self.wire {
            Wire::Fixed64(bytes) => Ok(i64::from_le_bytes(bytes)),
            _ => Err(self.expected("a number of eight bytes")),
        }
    }

    /// The error for a field that `message` does not have.
    pub fn unknown(&self, message: &'static str) -> ProtoError {
        ProtoError::UnknownField { message, number: self.number }
    }

    fn expected(&self, expected: &'static str) -> ProtoError {
        ProtoError::WireType { number: self.number, expected }
    }
}

/// Reads the fields of one message in the order in which they stand.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn field(&mut self) -> Result<Field<'a>, ProtoError> {
        let start = self.rest;
        let tag = read_varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n != 0 && *n < 1 << 29);
        let number = number.ok_or(ProtoError::Tag { tag })?;
        let wire = match tag & 7 {
            0 => Wire::Varint(read_varint(&mut self.rest)?),
            1 => Wire::Fixed64(self.take_array()?),
            2 => {
                let length = read_varint(&mut self.rest)?;
                let length = usize::try_from(length).map_err(|_| ProtoError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(self.take_array()?),
            // 3 and 4 are groups; none of the formats has them.
            _ => return Err(ProtoError::Tag { tag }),
        };
        let (raw, _) = start.split_at(start.len() - self.rest.len());
        Ok(Field { number, wire, raw })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtoError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtoError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], ProtoError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(ProtoError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Field<'a>, ProtoError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // One error ends the message; nothing behind it has a meaning.
            self.rest = &[];
        }
        Some(field)
    }
}

/// Reads one number and moves `bytes` behind it.
pub fn read_varint(bytes: &mut &[u8]) -> Result<u64, ProtoError> {
    let mut number = 0_u64;
    for index in 0..VARINT_BYTES_MAX {
        let (byte, rest) = bytes.split_first().ok_or(ProtoError::Truncated)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if index == VARINT_BYTES_MAX - 1 && bits > 1 {
            return Err(ProtoError::VarintTooLong);
        }
        number |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ProtoError::VarintTooLong)
}

/// Appends one number in its shortest form.
pub fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("less than eight bits"));
}

/// Writes the fields of one message. A field that has its default value is written all the same:
/// whoever writes decides (`_if_set`).
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Bytes.
    pub fn bytes(&mut self, number: u32, bytes: &[u8]) -> &mut Self {
        self.tag(number, 2);
        write_varint(&mut self.out, bytes.len() as u64);
        self.copy(bytes)
    }

    /// Bytes, unless there are none.
    pub fn bytes_if_set(&mut self, number: u32, bytes: &[u8]) -> &mut Self {
        if bytes.is_empty() { self } else { self.bytes(number, bytes) }
    }

    /// UTF-8.
    pub fn text(&mut self, number: u32, text: &str) -> &mut Self {
        self.bytes(number, text.as_bytes())
    }

    /// UTF-8, unless it is empty.
    pub fn text_if_set(&mut self, number: u32, text: &str) -> &mut Self {
        self.bytes_if_set(number, text.as_bytes())
    }

    /// A message.
    pub fn message(&mut self, number: u32, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(number, &inner.out)
    }

    /// An unsigned number, or the bits of a signed one.
    pub fn varint(&mut self, number: u32, value: u64) -> &mut Self {
        self.tag(number, 0);
        write_varint(&mut self.out, value);
        self
    }

    /// An unsigned number, unless it is zero.
    pub fn varint_if_set(&mut self, number: u32, value: u64) -> &mut Self {
        if value == 0 { self } else { self.varint(number, value) }
    }

    /// An `int32`: negative numbers have ten bytes.
    pub fn int32(&mut self, number: u32, value: i32) -> &mut Self {
        self.varint(number, i64::from(value).cast_unsigned())
    }

    /// A `sint64`.
    pub fn sint64(&mut self, number: u32, value: i64) -> &mut Self {
        self.varint(number, ((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    /// A `sfixed64`.
    pub fn sfixed64(&mut self, number: u32, value: i64) -> &mut Self {
        self.tag(number, 1);
        self.copy(&value.to_le_bytes())
    }

    /// Bytes that are already fields ([`Field::raw`]).
    pub fn copy(&mut self, raw: &[u8]) -> &mut Self {
        self.out.extend_from_slice(raw);
        self
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn tag(&mut self, number: u32, wire_type: u64) {
        write_varint(&mut self.out, u64::from(number) << 3 | wire_type);
    }
}

/// Wraps a message with its version (`UntypedVersionedMessage`).
pub fn versioned(version: u32, data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.bytes_if_set(1, data).varint_if_set(2, u64::from(version));
    writer.finish()
}

/// Unwraps a message and its version. Unknown fields are refused.
pub fn read_versioned(bytes: &[u8]) -> Result<(u32, &[u8]), ProtoError> {
    let (mut version, mut data): (u32, &[u8]) = (0, &[]);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => data = field.bytes()?,
            2 => version = field.uint32()?,
            _ => return Err(field.unknown("UntypedVersionedMessage")),
        }
    }
    Ok((version, data))
}

/// Appends an element under a named limit.
pub fn push<T>(
    list: &mut Vec<T>,
    element: T,
    what: &'static str,
    limit: usize,
) -> Result<(), ProtoError> {
    if list.len() >= limit {
        return Err(ProtoError::TooMany { what, limit });
    }
    list.push(element);
    Ok(())
}
