//! Names and numbers of the specification (TPM 2.0 part 2), as far as we use them.

use crate::wire::Writer;

/// SHA-256 as `TPM_ALG_ID`.
pub(crate) const ALG_SHA256: u16 = 0x000b;
pub(crate) const ALG_RSA: u16 = 0x0001;
pub(crate) const ALG_HMAC: u16 = 0x0005;
pub(crate) const ALG_AES: u16 = 0x0006;
pub(crate) const ALG_KEYED_HASH: u16 = 0x0008;
pub(crate) const ALG_NULL: u16 = 0x0010;
pub(crate) const ALG_ECDSA: u16 = 0x0018;
pub(crate) const ALG_ECC: u16 = 0x0023;
pub(crate) const ALG_CFB: u16 = 0x0043;
pub(crate) const CURVE_P256: u16 = 0x0003;

pub(crate) const OWNER: u32 = 0x4000_0001;
pub(crate) const NULL: u32 = 0x4000_0007;
pub(crate) const PASSWORD: u32 = 0x4000_0009;
pub(crate) const LOCKOUT: u32 = 0x4000_000a;
pub(crate) const ENDORSEMENT: u32 = 0x4000_000b;

pub(crate) const TAG_NO_SESSIONS: u16 = 0x8001;
pub(crate) const TAG_SESSIONS: u16 = 0x8002;
pub(crate) const TAG_VERIFIED: u16 = 0x8022;

pub(crate) const CAPABILITY_HANDLES: u32 = 1;
pub(crate) const CAPABILITY_PCRS: u32 = 5;
pub(crate) const CAPABILITY_PROPERTIES: u32 = 6;

/// The name of an object or index: the algorithm, and its digest of the public area.
///
/// Whoever knows the name knows every property of the object, and the TPM compares names in all
/// authorisations.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Name([u8; Self::BYTES]);

impl Name {
    /// Length of a name.
    pub const BYTES: usize = 34;

    /// The name of this public area.
    pub fn of(public_area: &[u8]) -> Self {
        let mut name = [0; Self::BYTES];
        let (algorithm, digest) = name.split_at_mut(2);
        algorithm.copy_from_slice(&ALG_SHA256.to_be_bytes());
        digest.copy_from_slice(&crate::crypto::sha256(&[public_area]));
        Self(name)
    }

    /// A name that was noted before; none if these bytes are no SHA-256 name.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let name = <[u8; Self::BYTES]>::try_from(bytes).ok()?;
        name.starts_with(&ALG_SHA256.to_be_bytes()).then_some(Self(name))
    }

    /// As it is written into policies.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// Something in a TPM that a command is about, with what authorisations call it.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) handle: u32,
    name: Option<Name>,
}

impl Target {
    /// An object or index.
    pub(crate) fn named(handle: u32, name: Name) -> Self {
        Self { handle, name: Some(name) }
    }

    /// A hierarchy, register or session, whose handle is its name.
    pub(crate) fn bare(handle: u32) -> Self {
        Self { handle, name: None }
    }

    pub(crate) fn write_name(&self, writer: Writer) -> Writer {
        match &self.name {
            Some(name) => writer.bytes(name.as_bytes()),
            None => writer.u32(self.handle),
        }
    }
}
