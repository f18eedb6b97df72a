//! Nitro: documents, and what the security module answers.

use std::sync::{LazyLock, Mutex};

use heirloom_attest::decode;
use heirloom_attest::nitro::{self, Document};
use heirloom_hardware::nsm::{Nsm, NsmDevice};
use heirloom_keeper::port::{Platform as _, PlatformError};
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Evidence, ReportData, TrustAnchor};

use crate::vectors;

/// Real documents, and the second in which each was made.
const REAL: [(&str, Time); 3] = [
    ("nitro_attest_fixture.cose", Time(1_736_179_625)),
    ("evervault/beta_debug-mode.cose", Time(1_665_582_606)),
    ("evervault/valid-attestation-doc.cose", Time(1_695_049_410)),
];

static ROOT: LazyLock<Option<Vec<TrustAnchor>>> = LazyLock::new(|| {
    let text = vectors::bytes("tee/nitro/aws_nitro_root_g1.pem")?;
    Some(vec![TrustAnchor::Nitro(pem::parse(text).unwrap().into_contents())])
});

/// A document.
pub fn document(data: &[u8]) -> bool {
    drop(decode::unverified(&Evidence::Nitro(data.to_vec())));
    let (Ok(document), Some(anchors)) = (Document::parse(data), ROOT.as_ref()) else {
        return false;
    };
    let mut accepted = false;
    for (name, now) in REAL {
        let Ok(chain) = nitro::verify_chain(&document, anchors, now) else { continue };
        if let Ok(claims) = nitro::verify(&document, &chain, now) {
            let genuine = vectors::bytes(&format!("tee/nitro/{name}")).unwrap();
            let genuine = Document::parse(&genuine).unwrap();
            assert_eq!(claims.registers(), genuine.registers(), "nobody signed this document");
            assert_eq!(claims.timestamp(), genuine.timestamp());
            drop(claims.measurement());
            accepted = true;
        }
    }
    accepted
}

/// Real documents.
pub fn documents() -> Vec<Vec<u8>> {
    REAL.iter().filter_map(|(name, _)| vectors::bytes(&format!("tee/nitro/{name}"))).collect()
}

/// A security module that gives these answers one after the other, and then none.
struct Module(Mutex<Vec<Vec<u8>>>);

impl NsmDevice for Module {
    fn transact(&self, _: &[u8]) -> Result<Vec<u8>, PlatformError> {
        let answer = self.0.lock().unwrap().pop();
        answer.ok_or_else(|| PlatformError::Unreachable("it has said everything".to_owned()))
    }
}

/// Answers, each behind its length: to the first question, about three registers, for random bytes
/// and for a document.
pub fn answers(data: &[u8]) -> bool {
    let mut answers = cut(data);
    answers.reverse();
    let Ok(module) = Nsm::open(Box::new(Module(Mutex::new(answers)))) else { return false };
    let identity = module.identity();
    let mut random = [0; 40];
    drop(module.random(&mut random));
    let data = ReportData::new([7; 64]);
    if let Ok(evidence) = module.evidence(&data) {
        let claims = decode::unverified(&evidence).expect("a module's document can be read");
        assert_eq!(claims.report_data, Some(data), "a document that answers another question");
    }
    identity.is_ok()
}

/// Takes bytes apart: a length in two bytes, then as many.
pub(crate) fn cut(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        parts.push(part.to_vec());
        data = rest;
    }
    parts
}

/// The other way round.
pub(crate) fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    let length = |part: &Vec<u8>| u16::try_from(part.len()).unwrap().to_be_bytes();
    parts.iter().flat_map(|part| [&length(part), part.as_slice()].concat()).collect()
}

/// A whole conversation, and one that is refused.
pub fn conversations() -> Vec<Vec<u8>> {
    let module = b"\xa1\x6bDescribeNSM\xa3\x6dversion_major\x01\x69module_id\x65i-abc\x66digest\
                   \x66SHA384";
    let register = |byte| {
        [b"\xa1\x6bDescribePCR\xa2\x64lock\xf5\x64data\x58\x30".as_slice(), &[byte; 48]].concat()
    };
    let random = [b"\xa1\x69GetRandom\xa1\x66random\x58\x28".as_slice(), &[0x5a; 40]].concat();
    let document = documents().into_iter().next().unwrap_or_default();
    let length = u16::try_from(document.len()).unwrap().to_be_bytes();
    let document =
        [b"\xa1\x6bAttestation\xa1\x68document\x59".as_slice(), &length, &document].concat();
    let refused = b"\xa1\x65Error\x6cInvalidIndex";
    vec![
        joined(&[module.to_vec(), register(1), register(2), register(3), random, document]),
        joined(&[module.to_vec(), refused.to_vec()]),
    ]
}
