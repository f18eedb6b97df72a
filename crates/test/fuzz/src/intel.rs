//! SGX and TDX: quotes, and the documents of the collateral.

use std::sync::{LazyLock, Mutex, PoisonError};

use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::decode;
use heirloom_model::evidence::{DcapCollateral, Endorsements, Evidence, ReportData, TrustAnchor};
use heirloom_model::measurement::Measurement;

use crate::forge::{self, Key, Request, SINCE, UNTIL};
use crate::vectors::{self, Case};

/// A real quote, an appraiser that remembers what it verified, and what the quote says.
struct Genuine {
    case: Case,
    cold: Appraiser,
    warm: Mutex<Appraiser>,
    says: (Option<Measurement>, Option<ReportData>),
}

impl Genuine {
    fn of(case: Case) -> Self {
        let cold = case.appraiser().unwrap();
        let says = said(&case.evidence()).unwrap();
        Self { case, warm: Mutex::new(cold.clone()), cold, says }
    }

    /// Appraises evidence as its own report data wants it, with and without memory.
    fn accepts(&self, evidence: &Evidence) -> bool {
        let Some(says) = said(evidence) else { return false };
        let expected = says.1.unwrap_or(ReportData::new([0; 64]));
        let appraise = |appraiser: &mut Appraiser| {
            appraiser.appraise(evidence, &expected, &self.case.policy, self.case.now)
        };
        let cold = appraise(&mut self.cold.clone());
        let warm = appraise(&mut self.warm.lock().unwrap_or_else(PoisonError::into_inner));
        assert_eq!(cold.is_ok(), warm.is_ok(), "memory changed an answer");
        if cold.is_ok() {
            assert_eq!(says, self.says, "a quote that nobody made is accepted");
        }
        cold.is_ok()
    }
}

fn said(evidence: &Evidence) -> Option<(Option<Measurement>, Option<ReportData>)> {
    let claims = decode::unverified(evidence).ok()?;
    Some((claims.measurement, claims.report_data))
}

static SGX: LazyLock<Option<Genuine>> = LazyLock::new(|| vectors::sgx().map(Genuine::of));
static TDX: LazyLock<Option<Genuine>> = LazyLock::new(|| vectors::tdx().map(Genuine::of));

/// A quote of SGX.
pub fn sgx_quote(data: &[u8]) -> bool {
    check_padding(data);
    SGX.as_ref().is_some_and(|genuine| genuine.accepts(&Evidence::SgxDcap(data.to_vec())))
}

/// A quote of TDX.
pub fn tdx_quote(data: &[u8]) -> bool {
    check_padding(data);
    TDX.as_ref().is_some_and(|genuine| genuine.accepts(&Evidence::TdxDcap(data.to_vec())))
}

fn check_padding(data: &[u8]) {
    if let Ok(quote) = decode::unpadded_quote(data) {
        let rest = data.strip_prefix(quote).expect("a quote is the beginning of what was read");
        assert!(rest.iter().all(|byte| *byte == 0), "padding is zeros");
        assert_eq!(decode::unpadded_quote(quote), Ok(quote), "a quote has no padding");
    }
}

/// Real quotes of SGX, of which the first is accepted.
pub fn sgx_quotes() -> Vec<Vec<u8>> {
    let names = [
        "tee/sgx/sgx_quote_v3.bin",
        "tee/sgx/mc_hw_quote_v3.bin",
        "oasis/quotes/quote_v3_ecdsa_p256_pck_chain.bin",
        "oasis/quotes/quote_v3_ecdsa_p256_eppid.bin",
    ];
    names.into_iter().filter_map(vectors::bytes).collect()
}

/// Real quotes of TDX, with and without padding.
pub fn tdx_quotes() -> Vec<Vec<u8>> {
    let names = [
        "tee/tdx/tdx_quote_v4.bin",
        "oasis/quotes/quote_v4_tdx_ecdsa_p256.bin",
        "oasis/quotes/quote_v4_tdx_ecdsa_p256_trailing.bin",
    ];
    let quoted = vectors::tdx().map(|case| case.quote);
    quoted.into_iter().chain(names.into_iter().filter_map(vectors::bytes)).collect()
}

/// A manufacturer of our own, who signs whatever is fuzzed.
struct Manufacturer {
    key: Key,
    /// What is genuine of Intel, under our signatures.
    collateral: DcapCollateral,
    empty: Appraiser,
}

static MANUFACTURER: LazyLock<Option<Manufacturer>> = LazyLock::new(|| {
    let genuine = vectors::collateral("tee/sgx/sgx_quote_v3.collateral.json")?;
    let key = Key::p256();
    let root = Request::authority("root", "root", &key).signed(&key);
    let authority = Request::authority("root", "authority", &key).signed(&key);
    let block = |der: &[u8]| pem::encode(&pem::Pem::new("CERTIFICATE", der));
    let chain = [block(&authority), block(&root)].concat();
    let collateral = DcapCollateral {
        pck_crl_issuer_chain: chain.clone(),
        root_ca_crl: forge::list(&key, "root", SINCE, UNTIL, &[]),
        pck_crl: forge::list(&key, "authority", SINCE, UNTIL, &[1, 2]),
        tcb_info_issuer_chain: chain.clone(),
        tcb_info_signature: key.sign_evidence(genuine.tcb_info.as_bytes()),
        tcb_info: genuine.tcb_info,
        qe_identity_issuer_chain: chain,
        qe_identity_signature: key.sign_evidence(genuine.qe_identity.as_bytes()),
        qe_identity: genuine.qe_identity,
    };
    let empty = Appraiser::new(vec![TrustAnchor::SgxDcap(root)]);
    Some(Manufacturer { key, collateral, empty })
});

/// A part of the collateral, which the first byte names: the JSON of both documents, signed, the
/// lists of revoked keys, chains of certificates.
pub fn collateral(data: &[u8]) -> bool {
    let (Some(maker), Some((part, data))) = (MANUFACTURER.as_ref(), data.split_first()) else {
        return false;
    };
    let mut content = maker.collateral.clone();
    let text = || String::from_utf8_lossy(data).into_owned();
    match part % 6 {
        0 => {
            content.tcb_info = text();
            content.tcb_info_signature = maker.key.sign_evidence(content.tcb_info.as_bytes());
        }
        1 => {
            content.qe_identity = text();
            content.qe_identity_signature = maker.key.sign_evidence(content.qe_identity.as_bytes());
        }
        2 => content.pck_crl = data.to_vec(),
        3 => content.root_ca_crl = data.to_vec(),
        4 => content.pck_crl_issuer_chain = text(),
        _ => content.tcb_info_signature = data.to_vec(),
    }
    let mut appraiser = maker.empty.clone();
    let learnt = appraiser.endorse(Endorsements::SgxDcap(content)).is_ok();
    let calendar = appraiser.expiry_calendar();
    assert_eq!(calendar.len() > 1, learnt, "what was learnt is in the calendar");
    learnt
}

/// Each part as it is.
pub fn documents() -> Vec<Vec<u8>> {
    let Some(maker) = MANUFACTURER.as_ref() else { return Vec::new() };
    let content = &maker.collateral;
    let parts: [&[u8]; 6] = [
        content.tcb_info.as_bytes(),
        content.qe_identity.as_bytes(),
        &content.pck_crl,
        &content.root_ca_crl,
        content.pck_crl_issuer_chain.as_bytes(),
        &content.tcb_info_signature,
    ];
    let numbered = parts.into_iter().zip(0_u8..);
    numbered.map(|(part, number)| [&[number], part].concat()).collect()
}
