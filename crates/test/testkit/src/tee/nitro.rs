//! A security module of a Nitro enclave with a recorded document, into which it writes what it is
//! asked to: the signature under it does not hold any more.

use std::sync::atomic::{AtomicU8, Ordering};

use heirloom_attest::nitro::Document;
use minicbor::data::Type;
use minicbor::encode::Error;
use minicbor::{Decoder, Encoder};

/// What it is called.
pub const MODULE: &str = "i-0bee92034f3d60691-enc01943c5eaab3ad6a";
/// What a question that tests ask is written as.
const MADE: &str = "a vector takes every byte";
/// What a recorded document is.
const RECORDED: &str = "it was recorded whole";

/// The module.
pub struct NitroModule {
    registers: [[u8; 48]; 3],
    document: Vec<u8>,
    random: AtomicU8,
}

/// A question: its name, the register that it names, and its user data.
pub struct Question {
    /// Which.
    pub name: String,
    /// Of `DescribePCR`.
    pub index: u16,
    /// Of `Attestation`.
    pub user_data: Vec<u8>,
}

impl NitroModule {
    /// With a recorded document.
    pub fn with(document: Vec<u8>) -> Self {
        let recorded = Document::parse(&document).expect(RECORDED);
        let register = |index: u8| *recorded.registers().get(&index).expect(RECORDED).as_bytes();
        let registers = [register(0), register(1), register(2)];
        Self { registers, document, random: AtomicU8::new(0) }
    }

    /// Answers one question.
    pub fn answer(&self, question: &[u8]) -> Vec<u8> {
        let question = understand(question);
        let mut answer = Vec::new();
        self.write(&question, &mut Encoder::new(&mut answer)).expect(MADE);
        answer
    }

    fn write(
        &self,
        question: &Question,
        e: &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), Error<std::convert::Infallible>> {
        e.map(1)?.str(&question.name)?;
        match question.name.as_str() {
            "DescribeNSM" => {
                e.map(7)?;
                e.str("version_major")?.u16(1)?;
                e.str("version_minor")?.u16(0)?;
                e.str("version_patch")?.u16(0)?;
                e.str("module_id")?.str(MODULE)?;
                e.str("max_pcrs")?.u16(32)?;
                e.str("locked_pcrs")?.array(2)?.u8(0)?.u8(1)?;
                e.str("digest")?.str("SHA384")?;
            }
            "DescribePCR" => {
                let register = self.registers.get(usize::from(question.index));
                e.map(2)?.str("lock")?.bool(true)?;
                e.str("data")?.bytes(register.map_or(&[0; 48], |register| register))?;
            }
            "Attestation" => {
                let document = with_user_data(&self.document, &question.user_data);
                e.map(1)?.str("document")?.bytes(&document)?;
            }
            _ => {
                let next = self.random.fetch_add(1, Ordering::Relaxed);
                e.map(1)?.str("random")?.bytes(&[next; 256])?;
            }
        }
        Ok(())
    }
}

/// What a keeper asked.
pub fn understand(request: &[u8]) -> Question {
    const ASKED: &str = "keepers ask what the module knows";
    let question =
        |name: &str, index, user_data| Question { name: name.to_owned(), index, user_data };
    if let Ok(name) = Decoder::new(request).str() {
        return question(name, 0, Vec::new());
    }
    let mut d = Decoder::new(request);
    assert_eq!(d.map().expect(ASKED), Some(1));
    let name = d.str().expect(ASKED);
    d.map().expect(ASKED);
    match d.str().expect(ASKED) {
        "index" => question(name, d.u16().expect(ASKED), Vec::new()),
        "user_data" => question(name, 0, d.bytes().expect(ASKED).to_vec()),
        other => panic!("{other}"),
    }
}

/// The document with other user data, and so with a signature that does not hold.
pub fn with_user_data(document: &[u8], user_data: &[u8]) -> Vec<u8> {
    let mut d = Decoder::new(document);
    if d.datatype().expect(RECORDED) == Type::Tag {
        d.tag().expect(RECORDED);
    }
    d.array().expect(RECORDED);
    let protected = d.bytes().expect(RECORDED);
    d.map().expect(RECORDED);
    let (payload, signature) = (d.bytes().expect(RECORDED), d.bytes().expect(RECORDED));
    let name = payload.windows(9).position(|window| window == b"user_data").expect(RECORDED) + 9;
    let (before, rest) = payload.split_at(name);
    let mut value = Decoder::new(rest);
    value.skip().expect(RECORDED);
    let (_, after) = rest.split_at(value.position());
    let mut field = Vec::new();
    Encoder::new(&mut field).bytes(user_data).expect(MADE);
    let payload = [before, &field, after].concat();
    let mut made = Vec::new();
    let mut e = Encoder::new(&mut made);
    let written = e.array(4).and_then(|e| e.bytes(protected)).and_then(|e| e.map(0));
    let written = written.and_then(|e| e.bytes(&payload)).and_then(|e| e.bytes(signature));
    written.expect(MADE);
    made
}
