//! Questions and answers of the security module (`aws-nitro-enclaves-nsm-api`, version 0.4).
//!
//! A question without arguments is a text; one with arguments, and every answer, is a map of one
//! text to a map. Answers are read strictly: one definite map, no key twice, no missing field,
//! nothing behind the end. Fields that later minor versions add are passed over.

use heirloom_model::measurement::Register48;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::limit::{NSM_FIELDS_MAX, NSM_MODULE_CHARACTERS_MAX};

/// Why an answer is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum MessageError {
    #[error("it refused: {code}")]
    Refused { code: String },
    #[error("its answer is not the one to {question}")]
    OtherAnswer { question: &'static str },
    #[error("its answer to {question} cannot be read")]
    Malformed { question: &'static str },
    #[error("its answer to {question} has no {field}")]
    Missing { question: &'static str, field: &'static str },
}

/// What the module says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// Major version of the interface.
    pub version_major: u16,
    /// The enclave's module: that of its instance, and a part of its own.
    pub module_id: String,
    /// The digest of the registers.
    pub digest: String,
}

const DESCRIBE: &str = "DescribeNSM";
const DESCRIBE_REGISTER: &str = "DescribePCR";
const ATTESTATION: &str = "Attestation";
const RANDOM: &str = "GetRandom";

/// Asks what the module is.
pub(super) fn describe() -> Vec<u8> {
    question(|e| drop(e.str(DESCRIBE)))
}

/// Asks for a register.
pub(super) fn describe_register(index: u16) -> Vec<u8> {
    question(|e| {
        drop(e.map(1).and_then(|e| e.str(DESCRIBE_REGISTER)?.map(1)?.str("index")?.u16(index)));
    })
}

/// Asks for a document with this user data, and neither nonce nor public key: the report data of
/// keepers covers both.
pub(super) fn attestation(user_data: &[u8]) -> Vec<u8> {
    question(|e| {
        drop(e.map(1).and_then(|e| {
            e.str(ATTESTATION)?.map(3)?;
            e.str("user_data")?.bytes(user_data)?;
            e.str("nonce")?.null()?.str("public_key")?.null()
        }));
    })
}

/// Asks for random bytes.
pub(super) fn random_question() -> Vec<u8> {
    question(|e| drop(e.str(RANDOM)))
}

fn question(write: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Encoder::new(&mut bytes));
    bytes
}

/// Reads what the module says about itself.
pub(super) fn description(answer: &[u8]) -> Result<Description, MessageError> {
    let mut fields = Fields::read(answer, DESCRIBE)?;
    let version_major = fields.take("version_major")?.u16();
    let module_id = fields.take("module_id")?.str().map(str::to_owned);
    let digest = fields.take("digest")?.str().map(str::to_owned);
    match (version_major, module_id, digest) {
        (Ok(version_major), Ok(module_id), Ok(digest))
            if module_id.len() <= NSM_MODULE_CHARACTERS_MAX && !module_id.is_empty() =>
        {
            Ok(Description { version_major, module_id, digest })
        }
        _ => Err(MessageError::Malformed { question: DESCRIBE }),
    }
}

/// Reads a register.
pub(super) fn register(answer: &[u8]) -> Result<Register48, MessageError> {
    let malformed = MessageError::Malformed { question: DESCRIBE_REGISTER };
    let bytes = bytes(answer, DESCRIBE_REGISTER, "data")?;
    bytes.try_into().map(Register48::new).map_err(|_| malformed)
}

/// Reads a document.
pub(super) fn document(answer: &[u8]) -> Result<Vec<u8>, MessageError> {
    bytes(answer, ATTESTATION, "document").map(<[u8]>::to_vec)
}

/// Reads random bytes.
pub(super) fn random(answer: &[u8]) -> Result<Vec<u8>, MessageError> {
    bytes(answer, RANDOM, "random").map(<[u8]>::to_vec)
}

fn bytes<'a>(
    answer: &'a [u8],
    question: &'static str,
    field: &'static str,
) -> Result<&'a [u8], MessageError> {
    let mut value = Fields::read(answer, question)?.take(field)?;
    value.bytes().map_err(|_| MessageError::Malformed { question })
}

/// The fields of one answer, each as the bytes of its value.
struct Fields<'a> {
    question: &'static str,
    values: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Fields<'a> {
    fn read(answer: &'a [u8], question: &'static str) -> Result<Self, MessageError> {
        let malformed = |_| MessageError::Malformed { question };
        let mut d = Decoder::new(answer);
        if d.map().map_err(malformed)? != Some(1) {
            return Err(MessageError::Malformed { question });
        }
        let found = d.str().map_err(malformed)?;
        if found == "Error" {
            let code = d.str().map_err(malformed)?.to_owned();
            return Err(MessageError::Refused { code });
        }
        if found != question {
            return Err(MessageError::OtherAnswer { question });
        }
        let count = d.map().map_err(malformed)?.filter(|count| *count <= NSM_FIELDS_MAX);
        let count = count.ok_or(MessageError::Malformed { question })?;
        let mut values: Vec<(&str, &[u8])> = Vec::new();
        for _ in 0..count {
            let name = d.str().map_err(malformed)?;
            let from = d.position();
            d.skip().map_err(malformed)?;
            let value = answer.get(from..d.position());
            if values.iter().any(|(known, _)| *known == name) {
                return Err(MessageError::Malformed { question });
            }
            values.push((name, value.ok_or(MessageError::Malformed { question })?));
        }
        if d.position() != answer.len() {
            return Err(MessageError::Malformed { question });
        }
        Ok(Self { question, values })
    }

    /// A decoder at the value of a field.
    fn take(&mut self, field: &'static str) -> Result<Decoder<'a>, MessageError> {
        let question = self.question;
        let found = self.values.iter().find(|(name, _)| *name == field);
        let (_, value) = found.ok_or(MessageError::Missing { question, field })?;
        let decoder = Decoder::new(value);
        match decoder.datatype() {
            Ok(Type::BytesIndef | Type::StringIndef) | Err(_) => {
                Err(MessageError::Malformed { question })
            }
            Ok(_) => Ok(decoder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"GetRandom": {"random": h'0102'}}`.
    const GOOD: &[u8] = b"\xa1\x69GetRandom\xa1\x66random\x42\x01\x02";

    #[test]
    fn questions_are_the_bytes_that_the_module_knows() {
        assert_eq!(describe(), b"\x6bDescribeNSM");
        assert_eq!(random_question(), b"\x69GetRandom");
        assert_eq!(describe_register(2), b"\xa1\x6bDescribePCR\xa1\x65index\x02");
        let expected = b"\xa1\x6bAttestation\xa3\x69user_data\x42\x07\x08\x65nonce\xf6\
                         \x6apublic_key\xf6";
        assert_eq!(attestation(&[7, 8]), expected);
    }

    #[test]
    fn an_answer_is_read() {
        assert_eq!(random(GOOD), Ok(vec![1, 2]));
    }

    #[test]
    fn every_cut_and_every_appended_byte_is_refused() {
        for length in 0..GOOD.len() {
            assert!(random(&GOOD[..length]).is_err(), "{length}");
        }
        assert!(random(&[GOOD, &[0]].concat()).is_err());
    }

    #[test]
    fn answers_that_are_none_are_told_apart() {
        let refused = MessageError::Refused { code: "InvalidIndex".to_owned() };
        assert_eq!(random(b"\xa1\x65Error\x6cInvalidIndex"), Err(refused));
        let other = MessageError::OtherAnswer { question: RANDOM };
        assert_eq!(random(b"\xa1\x6bAttestation\xa1\x68document\x40"), Err(other));
        let missing = MessageError::Missing { question: RANDOM, field: "random" };
        assert_eq!(random(b"\xa1\x69GetRandom\xa1\x65other\x40"), Err(missing));
        for malformed in [
            &b"\xa1\x69GetRandom\xa2\x66random\x40\x66random\x40"[..],
            b"\xa1\x69GetRandom\xbf\x66random\x40\xff",
            b"\xa1\x69GetRandom\xa1\x66random\x5f\x41\x01\xff",
            b"\xa1\x69GetRandom\xa1\x66random\x82\x01\x02",
            b"\xa2\x69GetRandom\xa1\x66random\x40\x61x\x01",
            b"\x69GetRandom",
        ] {
            let expected = MessageError::Malformed { question: RANDOM };
            assert_eq!(random(malformed), Err(expected), "{malformed:x?}");
        }
    }
}
