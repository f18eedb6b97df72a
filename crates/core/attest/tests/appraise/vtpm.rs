//! Virtual TPMs of confidential machines: from the chip over the runtime data to the quote.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use heirloom_attest::hcl::{self, Hardware, HclError, HclReport};
use heirloom_attest::snp::{self, Report, SnpClaims};
use heirloom_attest::tpm::Quote;
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Certificate, TrustAnchor};
use serde_json::Value;

use crate::tpm::{Case, register, rsassa};
use crate::vectors;

const MARCH_2026: Time = Time(1_773_000_000);

/// Real evidence of one virtual TPM.
struct Real {
    generation: &'static str,
    hcl: Vec<u8>,
    vek: Vec<u8>,
    attest: Vec<u8>,
    signature: Vec<u8>,
    pcrs: Vec<String>,
}

/// Either alphabet, with or without padding.
pub(crate) fn base64(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap().trim_end_matches('=');
    URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).unwrap()
}

fn milan(name: &str) -> Option<Real> {
    let json = vectors::json(&format!("tee/tpm/coco/az-snp-vtpm_evidence-{name}.json"))?;
    let quote = &json["tpm_quote"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Some(Real {
        generation: "milan",
        hcl: base64(&json["hcl_report"]),
        vek: base64(&json["vcek"]),
        attest: hex::decode(text(&quote["message"])).unwrap(),
        signature: hex::decode(text(&quote["signature"])).unwrap(),
        pcrs: quote["pcrs"].as_array().unwrap().iter().map(text).collect(),
    })
}

fn genoa() -> Option<Real> {
    let json = vectors::json("tee/snp/coco/az-snp-vtpm_evidence-genoa.json")?;
    let quote = &json["quote"];
    let bytes = |value: &Value| serde_json::from_value::<Vec<u8>>(value.clone()).unwrap();
    Some(Real {
        generation: "genoa",
        hcl: bytes(&json["report"]),
        vek: pem::parse(json["vcek"].as_str().unwrap()).unwrap().into_contents(),
        attest: bytes(&quote["message"]),
        signature: bytes(&quote["signature"]),
        pcrs: quote["pcrs"].as_array().unwrap().iter().map(|pcr| hex::encode(bytes(pcr))).collect(),
    })
}

fn real() -> Vec<Real> {
    [milan("v1"), milan("v2"), genoa()].into_iter().flatten().collect()
}

impl Real {
    /// What the chip says, whatever stands in the changed report around it.
    fn claims(&self) -> Option<SnpClaims> {
        let name = format!("tee/snp/coco/{}_ask_ark_asvk.pem", self.generation);
        let blocks = pem::parse_many(vectors::bytes(&name)?).unwrap();
        let [ask, ark] = [0, 1].map(|index: usize| blocks[index].contents().to_vec());
        let certificates = [Certificate(self.vek.clone()), Certificate(ask)];
        let anchors = [TrustAnchor::Snp(ark)];
        let vek = snp::verify_vek(&anchors, &certificates, MARCH_2026).unwrap();
        let parsed = HclReport::parse(&self.hcl).unwrap();
        let Hardware::Snp(report) = parsed.hardware() else { panic!("not a report of SEV-SNP") };
        Some(snp::verify(&Report::parse(report).unwrap(), &vek, MARCH_2026).unwrap())
    }

    fn quote(&self, key: &hcl::BoundKey) -> Case {
        let mask = Quote::parse(&self.attest).unwrap().selection();
        let all = self.pcrs.iter().enumerate();
        let quoted = all.filter(|(index, _)| mask >> index & 1 == 1);
        Case {
            key: key.key().clone(),
            attest: self.attest.clone(),
            signature: rsassa(&self.signature),
            qualifying: Quote::parse(&self.attest).unwrap().qualifying().to_vec(),
            registers: quoted.map(|(index, pcr)| register(index, pcr)).collect(),
        }
    }
}

#[test]
fn a_real_quote_is_bound_to_the_chip() {
    for case in real() {
        let Some(claims) = case.claims() else { return };
        let report = HclReport::parse(&case.hcl).unwrap();
        let key = hcl::bind(&report, &claims).unwrap();
        case.quote(&key).verify().unwrap();
    }
}

#[test]
fn the_report_must_be_the_one_that_was_verified() {
    let all = real();
    let [first, second, ..] = all.as_slice() else { return };
    let Some(claims) = first.claims() else { return };
    let other = HclReport::parse(&second.hcl).unwrap();
    assert_eq!(hcl::bind(&other, &claims), Err(HclError::OtherReport));
    // A TD report in its place.
    let mut changed = first.hcl.clone();
    changed[1216 + 8] = 4;
    let report = HclReport::parse(&changed).unwrap();
    assert!(matches!(report.hardware(), Hardware::Tdx(bytes) if bytes.len() == 1024));
    assert_eq!(hcl::bind(&report, &claims), Err(HclError::OtherReport));
}

#[test]
fn no_byte_of_the_runtime_data_or_the_machine_report_can_change() {
    for case in real() {
        let Some(claims) = case.claims() else { return };
        let runtime = HclReport::parse(&case.hcl).unwrap().runtime().len();
        let ranges = (32..32 + Report::BYTES).chain(1236..1236 + runtime);
        for index in ranges {
            let mut changed = case.hcl.clone();
            changed[index] ^= 1 << (index % 8);
            let report = HclReport::parse(&changed).unwrap();
            assert!(hcl::bind(&report, &claims).is_err(), "at {index}");
        }
    }
}

#[test]
fn a_malformed_report_is_refused() {
    let Some(case) = milan("v2") else { return };
    let reason =
        |bytes: &[u8]| HclReport::parse(bytes).map_or_else(|error| error.reason(), |_| "ok");
    let with = |at: usize, byte: u8| {
        let mut changed = case.hcl.clone();
        changed[at] = byte;
        reason(&changed)
    };
    assert_eq!(with(0, b'h'), "malformed-paravisor-report");
    assert_eq!(with(1216 + 8, 3), "unsupported-machine-report");
    assert_eq!(with(1216 + 12, 2), "unsupported-hash");
    assert_eq!(with(1216 + 18, 1), "malformed-paravisor-report");
    assert_eq!(with(case.hcl.len() - 1, 1), "malformed-paravisor-report");
    let runtime = HclReport::parse(&case.hcl).unwrap().runtime().len();
    for length in 0..1236 + runtime {
        assert_ne!(reason(&case.hcl[..length]), "ok", "{length}");
    }
    assert_eq!(reason(&case.hcl[..1236 + runtime]), "ok");
    assert_eq!(reason(&[0; 9000]), "malformed-paravisor-report");
}
