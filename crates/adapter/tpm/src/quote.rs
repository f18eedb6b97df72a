//! Quotes: registers, signed by the attestation key.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use crate::call::Call;
use crate::code::CommandCode;
use crate::error::TpmError;
use crate::key::AttestationKey;
use crate::limit::QUOTE_ATTEMPTS_MAX;
use crate::pcr::{Register, Selection, registers_digest};
use crate::structure::{ALG_ECDSA, ALG_NULL, ALG_SHA256};
use crate::wire::{Reader, Writer};

/// A quote, with the registers that it is about. Its signature was looked at once, so that an
/// answer that was damaged on the way is not taken for evidence; appraising it is for others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Quote {
    /// `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// The registers that were quoted, by index.
    pub registers: Vec<Register>,
}

impl AttestationKey<'_, '_> {
    /// Quotes registers for whoever asked with `qualifying` data.
    pub fn quote(&self, qualifying: &[u8; 32], selection: Selection) -> Result<Quote, TpmError> {
        for _ in 0..QUOTE_ATTEMPTS_MAX {
            let registers = self.tpm().registers(selection)?;
            let (attest, signature) = self.quote_once(qualifying, selection)?;
            let statement = Statement::parse(&attest)?;
            if statement.qualifying != qualifying || statement.selection != selection {
                return Err(reply("it is about something else than was asked for"));
            }
            // Otherwise a register was extended between reading and quoting.
            if statement.digest == registers_digest(&registers) {
                self.verify(&attest, &signature)?;
                return Ok(Quote { attest, signature, registers });
            }
        }
        Err(TpmError::Unreachable { reason: "registers change all the time".to_owned() })
    }

    fn quote_once(
        &self,
        qualifying: &[u8; 32],
        selection: Selection,
    ) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
        let parameters = selection.write(Writer::new().sized(qualifying).u16(ALG_NULL));
        let call =
            Call::new(CommandCode::Quote, parameters).about([self.target()]).ending_session();
        let answer = self.run(call, Vec::new())?;
        let mut reader = answer.reader();
        let attest = reader.sized()?.to_vec();
        Ok((attest, reader.rest().to_vec()))
    }

    /// Finds that the key answers to our value. Whoever made another one in its place does not know
    /// it.
    pub fn prove(&self) -> Result<(), TpmError> {
        self.quote_once(&[0; 32], Selection::boot()).map(drop)
    }

    fn verify(&self, attest: &[u8], signature: &[u8]) -> Result<(), TpmError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.point()?.to_sec1())
            .verify(attest, &fixed_signature(signature)?)
            .map_err(|_| reply("its signature does not fit"))
    }
}

/// What a quote says (`TPMS_ATTEST`), as far as it is looked at here.
struct Statement<'bytes> {
    qualifying: &'bytes [u8],
    selection: Selection,
    digest: [u8; 32],
}

impl<'bytes> Statement<'bytes> {
    fn parse(bytes: &'bytes [u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new("Quote", bytes);
        if reader.u32()? != GENERATED || reader.u16()? != ATTEST_QUOTE {
            return Err(reader.corrupt("it is no quote of a TPM"));
        }
        let _signer = reader.sized()?;
        let qualifying = reader.sized()?;
        let (_clock, _resets, _restarts, _safe) =
            (reader.u64()?, reader.u32()?, reader.u32()?, reader.u8()?);
        let _firmware = reader.u64()?;
        let selection = Selection::read(&mut reader)?
            .ok_or_else(|| reader.corrupt("it is about no register"))?;
        let digest = reader.sized_array()?;
        reader.end()?;
        Ok(Self { qualifying, selection, digest })
    }
}

/// Both halves of an ECDSA signature out of a `TPMT_SIGNATURE`; leading zeros may be missing.
fn fixed_signature(signature: &[u8]) -> Result<[u8; 64], TpmError> {
    let mut reader = Reader::new("a signature", signature);
    reader.expect_u16(ALG_ECDSA, "it is not of ECDSA")?;
    reader.expect_u16(ALG_SHA256, "it is not over SHA-256")?;
    let mut fixed = [0; 64];
    for half in fixed.chunks_exact_mut(32) {
        let part = reader.sized()?;
        let start = half.len().checked_sub(part.len());
        let start = start.ok_or_else(|| reader.corrupt("it is longer than the key"))?;
        half[start..].copy_from_slice(part);
    }
    reader.end()?;
    Ok(fixed)
}

fn reply(what: &'static str) -> TpmError {
    TpmError::Corrupt { subject: "Quote", what }
}

/// `TPM_GENERATED_VALUE`: no restricted key signs foreign bytes that begin like this.
const GENERATED: u32 = 0xff54_4347;
const ATTEST_QUOTE: u16 = 0x8018;
