//! Virtual TPMs of confidential machines: the report of the paravisor.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use heirloom_attest::decode;
use heirloom_attest::hcl::{self, BoundKey, Hardware, HclReport};
use heirloom_attest::snp::{self, Report, SnpClaims};
use heirloom_model::evidence::{Evidence, ReportData, VtpmEvidence};
use serde_json::Value;

use crate::amd::{DAY, Genuine};
use crate::vectors;

/// A real report, what the chip says about it, and the key for which it vouches.
struct Real {
    bytes: Vec<u8>,
    claims: SnpClaims,
    key: BoundKey,
}

static REAL: LazyLock<Vec<Real>> =
    LazyLock::new(|| [milan("v1"), milan("v2"), genoa()].into_iter().flatten().collect());

impl Real {
    fn of(bytes: Vec<u8>, key: &[u8], generation: &str) -> Option<Self> {
        let parsed = HclReport::parse(&bytes).unwrap();
        let Hardware::Snp(report) = parsed.hardware() else { return None };
        let genuine = Genuine::of(report.to_vec(), key, generation)?;
        let claims = snp::verify(&Report::parse(report).unwrap(), &genuine.key, DAY).unwrap();
        let key = hcl::bind(&parsed, &claims).unwrap();
        Some(Self { bytes, claims, key })
    }
}

fn milan(name: &str) -> Option<Real> {
    let json = vectors::json(&format!("tee/tpm/coco/az-snp-vtpm_evidence-{name}.json"))?;
    Real::of(base64(&json["hcl_report"]), &base64(&json["vcek"]), "milan")
}

fn genoa() -> Option<Real> {
    let json = vectors::json("tee/snp/coco/az-snp-vtpm_evidence-genoa.json")?;
    let report = serde_json::from_value(json["report"].clone()).unwrap();
    let key = pem::parse(json["vcek"].as_str().unwrap()).unwrap().into_contents();
    Real::of(report, &key, "genoa")
}

/// Either alphabet, with or without padding.
pub(crate) fn base64(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap().trim_end_matches('=');
    URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).unwrap()
}

/// A report of a paravisor.
pub fn hcl_report(data: &[u8]) -> bool {
    let shown = VtpmEvidence {
        hcl_report: data.to_vec(),
        certificates: Vec::new(),
        attest: Vec::new(),
        signature: Vec::new(),
        registers: Vec::new(),
        report_data: ReportData::new([0; 64]),
    };
    drop(decode::unverified(&Evidence::Vtpm(shown)));
    let Ok(report) = HclReport::parse(data) else { return false };
    let mut accepted = false;
    for real in REAL.iter() {
        if let Ok(key) = hcl::bind(&report, &real.claims) {
            assert_eq!(key, real.key, "a chip vouches for one key");
            accepted = true;
        }
    }
    accepted
}

/// Real reports.
pub fn hcl_reports() -> Vec<Vec<u8>> {
    REAL.iter().map(|real| real.bytes.clone()).collect()
}
