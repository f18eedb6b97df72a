//! The wrapper that says which version a message has.

use prost::Message;

/// The version of every message here.
const VERSION: i32 = 30;

/// Why a wrapped message cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VersionedError {
    /// The wrapper or what is in it is no message.
    #[error("the bytes are no versioned message: {0}")]
    Malformed(prost::DecodeError),
    /// It has another version.
    #[error("the message has version {0}, and 30 is known here")]
    Version(i32),
}

#[derive(Clone, PartialEq, Message)]
struct Versioned {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
    #[prost(int32, tag = "2")]
    version: i32,
}

/// The bytes of a message, wrapped.
pub fn wrap(message: &[u8]) -> Vec<u8> {
    Versioned { data: message.to_vec(), version: VERSION }.encode_to_vec()
}

/// The message in a wrapper.
pub fn open<T: Message + Default>(bytes: &[u8]) -> Result<T, VersionedError> {
    let versioned = Versioned::decode(bytes).map_err(VersionedError::Malformed)?;
    if versioned.version != VERSION {
        return Err(VersionedError::Version(versioned.version));
    }
    T::decode(versioned.data.as_slice()).map_err(VersionedError::Malformed)
}
