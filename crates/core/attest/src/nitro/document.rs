//! The format of a document: `COSE_Sign1` over a CBOR map.

use std::collections::BTreeMap;

use heirloom_model::counter::Time;
use heirloom_model::limit;
use heirloom_model::measurement::Register48;
use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};

use super::error::NitroError;
use crate::chain::INTERMEDIATES_MAX;

/// `COSE_Sign1` (RFC 9052 §2).
const TAG_SIGN1: u64 = 18;
/// The protected header `{1: -35}`: algorithm ES384. There is no other header that AWS uses, and
/// each one, such as `crit`, would change how the rest is to be read.
const PROTECTED_ES384: &[u8] = &[0xa1, 0x01, 0x38, 0x22];
/// r and s of P-384.
const SIGNATURE_BYTES: usize = 96;
/// Registers of an enclave.
const REGISTERS_MAX: usize = 32;
/// Fields of the map.
const FIELDS: usize = 9;
/// AWS allows this many bytes for a certificate or a public key.
const CERTIFICATE_BYTES_MAX: usize = 1024;
/// AWS allows this many bytes for user data and for a nonce.
const DATA_BYTES_MAX: usize = 512;
/// Names of modules have some 60 bytes.
const MODULE_BYTES_MAX: usize = 256;

/// A document, taken apart. Nothing in it is verified.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    payload: &'a [u8],
    signature: &'a [u8],
    module_id: &'a str,
    timestamp_ms: u64,
    registers: BTreeMap<u8, Register48>,
    certificate: &'a [u8],
    /// The root first.
    bundle: Vec<&'a [u8]>,
    public_key: Option<&'a [u8]>,
    user_data: Option<&'a [u8]>,
    nonce: Option<&'a [u8]>,
}

impl<'a> Document<'a> {
    /// Takes a document apart, tagged or not. Every byte has a meaning: unprotected headers,
    /// unknown or repeated fields, longer spellings of lengths and bytes after the end are refused.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NitroError> {
        within("bytes", bytes.len(), limit::EVIDENCE_BYTES_MAX)?;
        let mut decoder = Decoder::new(bytes);
        let tagged = decoder.datatype().map_err(not_cbor)? == Type::Tag;
        if tagged && decoder.tag().map_err(not_cbor)? != Tag::new(TAG_SIGN1) {
            return Err(malformed("it has another tag than COSE_Sign1"));
        }
        if decoder.array().map_err(not_cbor)? != Some(4) {
            return Err(malformed("COSE_Sign1 has four parts"));
        }
        if decoder.bytes().map_err(not_cbor)? != PROTECTED_ES384 {
            return Err(NitroError::Algorithm);
        }
        if decoder.map().map_err(not_cbor)? != Some(0) {
            return Err(malformed("it has an unprotected header"));
        }
        let payload = decoder.bytes().map_err(not_cbor)?;
        let signature = decoder.bytes().map_err(not_cbor)?;
        if signature.len() != SIGNATURE_BYTES {
            return Err(malformed("the signature must have 96 bytes"));
        }
        // Nothing outside of the payload is signed, so there must be one way to write it.
        if sign1(tagged, payload, signature) != bytes {
            return Err(malformed("the envelope is not written in the shortest way"));
        }
        Fields::parse(payload)?.document(payload, signature)
    }

    /// What the key signed: `Sig_structure` (RFC 9052 §4.4), without external data.
    pub(super) fn signed(&self) -> Vec<u8> {
        encoded(|encoder| {
            encoder.array(4)?.str("Signature1")?.bytes(PROTECTED_ES384)?;
            encoder.bytes(&[])?.bytes(self.payload)?;
            Ok(())
        })
    }

    /// r and s.
    pub(super) fn signature(&self) -> &'a [u8] {
        self.signature
    }

    /// The enclave's module.
    pub fn module_id(&self) -> &'a str {
        self.module_id
    }

    /// When the hypervisor made it.
    pub fn timestamp(&self) -> Time {
        Time(self.timestamp_ms / 1000)
    }

    /// The registers.
    pub fn registers(&self) -> &BTreeMap<u8, Register48> {
        &self.registers
    }

    /// The certificate of the key that signed: DER.
    pub fn certificate(&self) -> &'a [u8] {
        self.certificate
    }

    /// The certificates above it, the root first: DER.
    pub fn bundle(&self) -> &[&'a [u8]] {
        &self.bundle
    }

    /// What the attester put in as a public key.
    pub fn public_key(&self) -> Option<&'a [u8]> {
        self.public_key
    }

    /// What the attester put in as data.
    pub fn user_data(&self) -> Option<&'a [u8]> {
        self.user_data
    }

    /// What the attester put in as a nonce.
    pub fn nonce(&self) -> Option<&'a [u8]> {
        self.nonce
    }
}

/// The fields that were found so far.
#[derive(Default)]
struct Fields<'a> {
    module_id: Option<&'a str>,
    digest: Option<&'a str>,
    timestamp_ms: Option<u64>,
    registers: Option<BTreeMap<u8, Register48>>,
    certificate: Option<&'a [u8]>,
    bundle: Option<Vec<&'a [u8]>>,
    public_key: Option<Data<'a>>,
    user_data: Option<Data<'a>>,
    nonce: Option<Data<'a>>,
}

/// A field that the attester fills, or leaves empty.
struct Data<'a>(Option<&'a [u8]>);

impl<'a> Data<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        self.0
    }
}

impl<'a> Fields<'a> {
    fn parse(payload: &'a [u8]) -> Result<Self, NitroError> {
        let mut decoder = Decoder::new(payload);
        let count = counted("map", decoder.map(), FIELDS)?;
        let mut fields = Self::default();
        for _ in 0..count {
            let name = decoder.str().map_err(not_cbor)?;
            fields.take(name, &mut decoder)?;
        }
        if decoder.position() != payload.len() {
            return Err(malformed("bytes follow the map"));
        }
        Ok(fields)
    }

    fn take(&mut self, name: &str, decoder: &mut Decoder<'a>) -> Result<(), NitroError> {
        match name {
            "module_id" => once(&mut self.module_id, text(decoder)?),
            "digest" => once(&mut self.digest, text(decoder)?),
            "timestamp" => once(&mut self.timestamp_ms, decoder.u64().map_err(not_cbor)?),
            "pcrs" => once(&mut self.registers, registers(decoder)?),
            "certificate" => once(&mut self.certificate, certificate(decoder)?),
            "cabundle" => once(&mut self.bundle, bundle(decoder)?),
            "public_key" => {
                once(&mut self.public_key, data("public_key", decoder, CERTIFICATE_BYTES_MAX)?)
            }
            "user_data" => once(&mut self.user_data, data("user_data", decoder, DATA_BYTES_MAX)?),
            "nonce" => once(&mut self.nonce, data("nonce", decoder, DATA_BYTES_MAX)?),
            _ => Err(malformed("it has an unknown field")),
        }
    }

    fn document(self, payload: &'a [u8], signature: &'a [u8]) -> Result<Document<'a>, NitroError> {
        if self.digest != Some("SHA384") {
            return Err(malformed("the registers are not made with SHA384"));
        }
        let missing = malformed("a field is missing");
        Ok(Document {
            payload,
            signature,
            module_id: self.module_id.ok_or(missing.clone())?,
            timestamp_ms: self.timestamp_ms.ok_or(missing.clone())?,
            registers: self.registers.ok_or(missing.clone())?,
            certificate: self.certificate.ok_or(missing.clone())?,
            bundle: self.bundle.ok_or(missing)?,
            public_key: self.public_key.and_then(Data::bytes),
            user_data: self.user_data.and_then(Data::bytes),
            nonce: self.nonce.and_then(Data::bytes),
        })
    }
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<(), NitroError> {
    match field.replace(value) {
        Some(_) => Err(malformed("a field occurs twice")),
        None => Ok(()),
    }
}

fn text<'a>(decoder: &mut Decoder<'a>) -> Result<&'a str, NitroError> {
    let text = decoder.str().map_err(not_cbor)?;
    within("text", text.len(), MODULE_BYTES_MAX)?;
    Ok(text)
}

fn certificate<'a>(decoder: &mut Decoder<'a>) -> Result<&'a [u8], NitroError> {
    let der = decoder.bytes().map_err(not_cbor)?;
    within("certificate", der.len(), CERTIFICATE_BYTES_MAX)?;
    Ok(der)
}

fn bundle<'a>(decoder: &mut Decoder<'a>) -> Result<Vec<&'a [u8]>, NitroError> {
    // The root is in it too.
    let count = counted("cabundle", decoder.array(), INTERMEDIATES_MAX + 1)?;
    (0..count).map(|_| certificate(decoder)).collect()
}

fn registers(decoder: &mut Decoder<'_>) -> Result<BTreeMap<u8, Register48>, NitroError> {
    let count = counted("pcrs", decoder.map(), REGISTERS_MAX)?;
    let mut registers = BTreeMap::new();
    for _ in 0..count {
        let index = decoder.u8().map_err(not_cbor)?;
        if usize::from(index) >= REGISTERS_MAX {
            return Err(malformed("a register has too high a number"));
        }
        let value = <[u8; 48]>::try_from(decoder.bytes().map_err(not_cbor)?)
            .map_err(|_| malformed("a register must have 48 bytes"))?;
        if registers.insert(index, Register48::new(value)).is_some() {
            return Err(malformed("a register occurs twice"));
        }
    }
    Ok(registers)
}

/// What the attester may have put in.
fn data<'a>(
    field: &'static str,
    decoder: &mut Decoder<'a>,
    limit: usize,
) -> Result<Data<'a>, NitroError> {
    if decoder.datatype().map_err(not_cbor)? == Type::Null {
        decoder.null().map_err(not_cbor)?;
        return Ok(Data(None));
    }
    let bytes = decoder.bytes().map_err(not_cbor)?;
    within(field, bytes.len(), limit)?;
    Ok(Data(Some(bytes)))
}

/// How many elements follow; there is no end mark.
fn counted(
    field: &'static str,
    count: Result<Option<u64>, minicbor::decode::Error>,
    limit: usize,
) -> Result<usize, NitroError> {
    let count = count.map_err(not_cbor)?.ok_or(malformed("a length is not stated"))?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    within(field, count, limit)?;
    Ok(count)
}

fn within(field: &'static str, found: usize, limit: usize) -> Result<(), NitroError> {
    if found > limit {
        return Err(NitroError::TooLarge { field, found, limit });
    }
    Ok(())
}

/// The one way to write an envelope.
fn sign1(tagged: bool, payload: &[u8], signature: &[u8]) -> Vec<u8> {
    encoded(|encoder| {
        if tagged {
            encoder.tag(Tag::new(TAG_SIGN1))?;
        }
        encoder.array(4)?.bytes(PROTECTED_ES384)?.map(0)?;
        encoder.bytes(payload)?.bytes(signature)?;
        Ok(())
    })
}

type Unfailing = minicbor::encode::Error<std::convert::Infallible>;

fn encoded(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Result<(), Unfailing>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder).expect("writing to memory cannot fail");
    encoder.into_writer()
}

fn not_cbor(_: minicbor::decode::Error) -> NitroError {
    malformed("it is not the CBOR of a document")
}

fn malformed(fault: &'static str) -> NitroError {
    NitroError::Malformed { fault }
}
