//! A quote and its signature (TPM 2.0 part 2, 10.12.12 and 11.3.4).

use aws_lc_rs::digest::{Context, SHA256, SHA384};
use heirloom_model::evidence::PcrValue;

use super::error::TpmError;
use super::key::{AttestationKey, padded};
use super::reader::Reader;

/// `TPM_GENERATED_VALUE`: a TPM signs these bytes in front of nothing but its own statements.
const MAGIC: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const TYPE_QUOTE: u16 = 0x8018;
/// A quote has some 150 bytes; names and selections can be longer.
const QUOTE_BYTES_MAX: usize = 1024;
/// RSA-4096 and its headers.
const SIGNATURE_BYTES_MAX: usize = 520;
/// Registers of a TPM; a selection of three bytes has a bit for each.
const SELECTION_BYTES_MAX: usize = 4;

mod algorithm {
    pub(super) const SHA256: u16 = 0x000b;
    pub(super) const SHA384: u16 = 0x000c;
    pub(super) const RSASSA: u16 = 0x0014;
    pub(super) const RSAPSS: u16 = 0x0016;
    pub(super) const ECDSA: u16 = 0x0018;
}

/// A quote, taken apart. Nothing in it is verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quote<'a> {
    qualified_signer: &'a [u8],
    qualifying: &'a [u8],
    clock: Clock,
    firmware_version: u64,
    /// Bit n is register n.
    selection: u32,
    digest: &'a [u8],
}

/// What a TPM says about its own time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Clock {
    /// Milliseconds for which the TPM has had power.
    pub milliseconds: u64,
    /// How often it was reset. Grows with each boot of the machine.
    pub resets: u32,
    /// How often it was resumed since.
    pub restarts: u32,
    /// Whether no greater time was ever reported.
    pub safe: bool,
}

impl<'a> Quote<'a> {
    /// Takes a quote apart. There is one bank of registers, SHA-256, and nothing after the end.
    pub fn parse(attest: &'a [u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new("quote", attest, QUOTE_BYTES_MAX)?;
        if reader.u32()? != MAGIC || reader.u16()? != TYPE_QUOTE {
            return Err(TpmError::NotAQuote);
        }
        let qualified_signer = reader.sized()?;
        let qualifying = reader.sized()?;
        let milliseconds = reader.u64()?;
        let (resets, restarts) = (reader.u32()?, reader.u32()?);
        let safe = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(reader.fault("a truth value is neither 0 nor 1")),
        };
        let firmware_version = reader.u64()?;
        let selection = selection(&mut reader)?;
        let digest = reader.sized()?;
        reader.finish()?;
        let clock = Clock { milliseconds, resets, restarts, safe };
        Ok(Self { qualified_signer, qualifying, clock, firmware_version, selection, digest })
    }

    /// What the caller of the TPM put in.
    pub fn qualifying(&self) -> &'a [u8] {
        self.qualifying
    }

    /// The quoted registers as a mask: bit n is register n.
    pub fn selection(&self) -> u32 {
        self.selection
    }

    /// The TPM's own time.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The vendor's version of the TPM's firmware.
    pub fn firmware_version(&self) -> u64 {
        self.firmware_version
    }

    /// The key's name among those of its parents.
    pub fn qualified_signer(&self) -> &'a [u8] {
        self.qualified_signer
    }
}

/// What a verified quote says. Whose key signed it is another question.
///
/// Only [`verify_quote`] makes one.
///
/// ```compile_fail
/// let forged = heirloom_attest::tpm::QuoteClaims {};
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuoteClaims {
    registers: Vec<PcrValue>,
    clock: Clock,
    firmware_version: u64,
}

impl QuoteClaims {
    /// The registers, in order of their number.
    pub fn registers(&self) -> &[PcrValue] {
        &self.registers
    }

    /// The TPM's own time.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The vendor's version of the TPM's firmware.
    pub fn firmware_version(&self) -> u64 {
        self.firmware_version
    }
}

/// Verifies a quote: made by this key, for this data, over exactly these registers.
pub fn verify_quote(
    key: &AttestationKey,
    attest: &[u8],
    signature: &[u8],
    qualifying: &[u8],
    registers: &[PcrValue],
) -> Result<QuoteClaims, TpmError> {
    let quote = Quote::parse(attest)?;
    let signature = Signature::parse(signature)?;
    if quote.qualifying != qualifying {
        return Err(TpmError::QualifyingData);
    }
    if selected(registers) != Some(quote.selection) {
        return Err(TpmError::RegisterSelection);
    }
    // The digest is made by the hash of the signature (TPM 2.0 part 3, 18.4).
    if signature.hash.digest(registers) != quote.digest {
        return Err(TpmError::RegisterDigest);
    }
    key.0.verify(attest, &signature)?;
    Ok(QuoteClaims {
        registers: registers.to_vec(),
        clock: quote.clock,
        firmware_version: quote.firmware_version,
    })
}

/// `TPMT_SIGNATURE`.
pub(super) struct Signature {
    pub(super) scheme: Scheme,
    pub(super) hash: Hash,
    /// RSA: the signature. ECDSA: r.
    pub(super) first: Vec<u8>,
    /// ECDSA: s.
    second: Vec<u8>,
}

/// How a key signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scheme {
    Ecdsa,
    RsaPss,
    RsaSsa,
}

/// What a key signs, and how registers are hashed into it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
}

impl Signature {
    fn parse(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new("signature", bytes, SIGNATURE_BYTES_MAX)?;
        let unsupported = |found| TpmError::UnsupportedAlgorithm { part: "signature", found };
        let scheme = match reader.u16()? {
            algorithm::ECDSA => Scheme::Ecdsa,
            algorithm::RSAPSS => Scheme::RsaPss,
            algorithm::RSASSA => Scheme::RsaSsa,
            found => return Err(unsupported(found)),
        };
        let hash = match reader.u16()? {
            algorithm::SHA256 => Hash::Sha256,
            algorithm::SHA384 => Hash::Sha384,
            found => return Err(unsupported(found)),
        };
        let first = reader.sized()?.to_vec();
        let second = match scheme {
            Scheme::Ecdsa => reader.sized()?.to_vec(),
            Scheme::RsaPss | Scheme::RsaSsa => Vec::new(),
        };
        reader.finish()?;
        Ok(Self { scheme, hash, first, second })
    }

    /// r and s, each of a width.
    pub(super) fn scalars(&self, width: usize) -> Option<Vec<u8>> {
        Some([padded(&self.first, width)?, padded(&self.second, width)?].concat())
    }
}

impl Hash {
    fn digest(self, registers: &[PcrValue]) -> Vec<u8> {
        let mut context = match self {
            Self::Sha256 => Context::new(&SHA256),
            Self::Sha384 => Context::new(&SHA384),
        };
        for register in registers {
            context.update(register.value.as_bytes());
        }
        context.finish().as_ref().to_vec()
    }
}

/// The one selection of a quote, as a mask.
fn selection(reader: &mut Reader<'_>) -> Result<u32, TpmError> {
    if reader.u32()? != 1 {
        return Err(TpmError::RegisterSelection);
    }
    let bank = reader.u16()?;
    if bank != algorithm::SHA256 {
        return Err(TpmError::UnsupportedAlgorithm { part: "register bank", found: bank });
    }
    let count = usize::from(reader.u8()?);
    if count > SELECTION_BYTES_MAX {
        return Err(TpmError::RegisterSelection);
    }
    let mut mask = [0; SELECTION_BYTES_MAX];
    mask.iter_mut().zip(reader.take(count)?).for_each(|(to, from)| *to = *from);
    Ok(u32::from_le_bytes(mask))
}

/// Registers as a mask, if they are in ascending order.
fn selected(registers: &[PcrValue]) -> Option<u32> {
    registers.iter().try_fold(0_u32, |mask, register| {
        let bit = 1_u32.checked_shl(u32::from(register.index))?;
        // Everything that came before is below this register.
        (mask < bit).then_some(mask | bit)
    })
}
