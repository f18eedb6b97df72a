//! The quotes that Oasis tests its key managers with, and what we make of each.
//!
//! Oasis verifies quotes without revocation lists, so its endorsements have none; ours must. The
//! cases run with real lists of the same CA (FMSPC 00606A000000 is under the PCK Platform CA) that
//! were issued later: a list of the future revokes at least as much. Everything else is as stated.
//!
//! Where Oasis' policy has a word that ours has not:
//!
//! | Oasis | ours |
//! |---|---|
//! | `tcb_validity_period` (days after the issue date) | `nextUpdate` of the manufacturer; longer only by `collateral_grace_seconds`, and the result says so; shorter: not possible |
//! | `min_tcb_evaluation_data_number` | `tcb_evaluation_min`, the same |
//! | accepted statuses, fixed: `UpToDate`, `SWHardeningNeeded` | `tcb`, any list |
//! | advisories: not looked at | `advisories_accepted`; one that is not listed refuses |
//! | `fmspc_whitelist` | none: `platforms` lists machines, not makes |
//! | `fmspc_blacklist` | none: a machine is excluded by not listing it |
//! | `tdx`, `allowed_tdx_modules` (by signer) | `tdx`, `module` (by MRSEAM) |
//!
//! Whatever Oasis says about attributes of trust domains, those that can be migrated, or whose pages
//! the host may replace, are refused here.

use heirloom_attest::error::{AppraiseError, EndorsementPart};
use heirloom_attest::result::Tcb;
use heirloom_model::appraisal::Reference;
use heirloom_model::counter::Time;
use heirloom_model::evidence::DcapCollateral;
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{Measurement, MrEnclave, Register48, TeeKind};
use heirloom_model::policy::{AppraisalPolicy, PlatformRule, TcbLevel};
use minicbor::Decoder;
use serde_json::Value;

use crate::vectors::{Case, bytes, collateral, forever, intel_root, json, policy, reason};

const FOLDER: &str = "oasis/quotes/";

/// How our answer compares with the one that Oasis expects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// Accepted or refused for the same reason.
    Same,
    /// Ours is the nearest thing that our policy can say.
    Mapped,
    /// Both refuse, for different reasons.
    Refused,
}

/// Per case: our reason, and how it compares.
const CASES: [(&str, Verdict); 22] = [
    ("ok", Verdict::Same),
    ("certificate-expired", Verdict::Same),
    ("certificate-not-yet-valid", Verdict::Same),
    ("endorsements-not-yet-valid", Verdict::Same),
    ("expired-endorsements", Verdict::Same),
    ("ok", Verdict::Mapped), // 90 days, as a grace
    ("tcb-evaluation-too-low", Verdict::Same),
    ("ok", Verdict::Same),                    // an empty whitelist is none
    ("ok", Verdict::Mapped),                  // this machine is listed
    ("platform-not-listed", Verdict::Mapped), // another machine is listed
    ("platform-not-listed", Verdict::Mapped), // another machine is listed
    ("endorsement-chain-length", Verdict::Same),
    ("endorsement-signature", Verdict::Same),
    ("endorsement-signature", Verdict::Same),
    ("endorsement-signature", Verdict::Same),
    ("ok", Verdict::Same),
    ("unsupported-certification-data", Verdict::Same),
    ("ok", Verdict::Same), // TDX
    ("kind-not-accepted", Verdict::Same),
    ("reference-mismatch", Verdict::Mapped), // another module is named
    ("pages-not-protected", Verdict::Refused),
    ("malformed-quote", Verdict::Same), // padded
];

#[test]
fn every_case_has_the_outcome_that_the_table_says() {
    let Some(expectations) = json("oasis/quotes/expectations.json") else { return };
    let stated = expectations["cases"].as_array().unwrap();
    assert_eq!(stated.len(), CASES.len());
    for (number, (expected, verdict)) in CASES.into_iter().enumerate() {
        let case = build(stated, number);
        let outcome = case.appraise();
        let found = reason(&outcome);
        assert_eq!(found, expected, "case {number}: {outcome:?}");
        let oasis = stated[number]["expect"].as_str().unwrap();
        let both = (oasis == "ok", found == "ok");
        let consistent = match verdict {
            Verdict::Same | Verdict::Mapped => both.0 == both.1,
            Verdict::Refused => both == (false, false),
        };
        assert!(consistent, "case {number}: Oasis says {oasis}");
        if let (Ok(result), Some(measurement)) = (&outcome, stated[number]["mr_enclave"].as_str()) {
            let measurement = MrEnclave::new(hex::decode(measurement).unwrap().try_into().unwrap());
            assert_eq!(result.measurement(), Measurement::Sgx(measurement));
            assert_eq!(result.tcb(), Tcb::Intel(TcbLevel::SwHardeningNeeded));
            assert_eq!(result.grace().is_some(), number == 5);
        }
        if let (Ok(result), Some(signer)) = (&outcome, stated[number]["mr_signer"].as_str()) {
            // Trust domains have no signer, of which Oasis makes zeros.
            let found = result.signer().map_or("0".repeat(64), |signer| signer.to_string());
            assert_eq!(found, signer);
        }
    }
}

/// Cases 1 to 4: not only the same kind of refusal, but the same second.
#[test]
fn dates_are_refused_at_the_second_that_is_stated() {
    let Some(expectations) = json("oasis/quotes/expectations.json") else { return };
    let stated = expectations["cases"].as_array().unwrap();
    let refusals = [
        AppraiseError::CertificateExpired { expired: Time(1_891_163_521 + 1) },
        AppraiseError::CertificateNotYetValid { since: Time(1_670_238_721) },
        AppraiseError::EndorsementsNotYetValid {
            part: EndorsementPart::QeIdentity,
            since: Time(1_671_194_736),
        },
        AppraiseError::ExpiredEndorsements {
            part: EndorsementPart::QeIdentity,
            expired: Time(1_673_786_736 + 1),
        },
    ];
    for (number, refusal) in (1..).zip(refusals) {
        assert_eq!(build(stated, number).appraise(), Err(refusal), "case {number}");
    }
}

/// Without the borrowed lists the endorsements are no endorsements.
#[test]
fn endorsements_without_revocation_lists_are_refused() {
    let Some(expectations) = json("oasis/quotes/expectations.json") else { return };
    let case = build(expectations["cases"].as_array().unwrap(), 0);
    let bare = case.with(|case| {
        case.collateral.pck_crl.clear();
        case.collateral.root_ca_crl.clear();
    });
    assert_eq!(reason(&bare.appraise()), "malformed-endorsements");
}

/// A case as stated, with lists of the same CA and in the words of our policy.
fn build(stated: &[Value], number: usize) -> Case {
    let this = &stated[number];
    let base = this["same_as"].as_u64().map_or(number, |base| usize::try_from(base).unwrap());
    let of = |name: &str| if this[name].is_null() { &stated[base][name] } else { &this[name] };
    let file = |name: &str| bytes(&[FOLDER, of(name).as_str().unwrap_or("absent")].concat());
    let is_bundle = this["bundle_cbor"].is_string();
    let has_endorsements = is_bundle || of("tcb_info").is_string();
    let is_tdx = of("quote").as_str().is_some_and(|name| name.contains("tdx"));
    let (quote, mut endorsements) = if is_bundle {
        bundle(&file("bundle_cbor").unwrap())
    } else {
        (file("quote").unwrap(), Parts::default())
    };
    if has_endorsements && !is_bundle {
        endorsements = Parts::from_files(&file("tcb_info").unwrap(), &file("qe_identity").unwrap());
        let none = this.get("certs").is_some_and(Value::is_null);
        endorsements.certificates =
            if none { String::new() } else { String::from_utf8(file("certs").unwrap()).unwrap() };
    }
    mutate(this["mutate"].as_str(), &mut endorsements);
    let mut case = Case {
        kind: if is_tdx { TeeKind::Tdx } else { TeeKind::Sgx },
        quote,
        anchors: vec![intel_root().unwrap()],
        collateral: endorsements.with_borrowed_lists(),
        policy: default_policy(),
        now: Time(of("now").as_u64().unwrap_or(1_671_497_404)),
    };
    if !has_endorsements {
        // The quote is refused before anybody looks for endorsements: those of case 0 will do.
        case.collateral = build(stated, if is_tdx { 17 } else { 0 }).collateral;
    }
    case.policy.tdx = case.policy.tdx.filter(|_| !of("policy")["tdx"].is_null());
    translate(&this["policy"], &mut case);
    case
}

/// Oasis' defaults: evaluation 12 at least, 30 days, two statuses, advisories are not looked at.
fn default_policy() -> AppraisalPolicy {
    AppraisalPolicy {
        tcb: vec![TcbLevel::UpToDate, TcbLevel::SwHardeningNeeded],
        advisories_accepted: forever(&["INTEL-SA-00615", "INTEL-SA-00657"]),
        tcb_evaluation_min: 12,
        ..policy()
    }
}

/// Says in our policy what a case's policy says, as near as possible.
fn translate(policy: &Value, case: &mut Case) {
    let claims = heirloom_attest::decode::unverified(&case.evidence()).ok();
    let own = claims.and_then(|claims| claims.platform);
    let own = own.unwrap_or(PlatformId::new([0; 32]));
    let other = PlatformId::new([1; 32]);
    if let Some(days) = policy["tcb_validity_period"].as_u64() {
        case.policy.collateral_grace_seconds = (days - 30) * 86_400;
    }
    if let Some(least) = policy["min_tcb_evaluation_data_number"].as_u64() {
        case.policy.tcb_evaluation_min = u32::try_from(least).unwrap();
    }
    if policy["tdx"]["allowed_tdx_modules"].is_array() {
        let rule = case.policy.tdx.as_mut().unwrap();
        rule.module = Reference::Match(vec![Register48::new([1; 48])]);
    }
    for listed in policy["fmspc_whitelist"].as_array().into_iter().flatten() {
        let platform = if listed == "00606A000000" { own } else { other };
        case.policy.platforms = PlatformRule::Only(vec![platform]);
    }
    if policy["fmspc_blacklist"].is_array() {
        case.policy.platforms = PlatformRule::Only(vec![other]);
    }
}

/// What Oasis carries as endorsements.
#[derive(Default)]
struct Parts {
    tcb_info: String,
    tcb_info_signature: Vec<u8>,
    qe_identity: String,
    qe_identity_signature: Vec<u8>,
    certificates: String,
}

impl Parts {
    fn from_files(tcb_info: &[u8], qe_identity: &[u8]) -> Self {
        let (tcb_info, tcb_info_signature) = signed_json(tcb_info, "tcbInfo");
        let (qe_identity, qe_identity_signature) = signed_json(qe_identity, "enclaveIdentity");
        Self {
            tcb_info,
            tcb_info_signature,
            qe_identity,
            qe_identity_signature,
            certificates: String::new(),
        }
    }

    fn with_borrowed_lists(self) -> DcapCollateral {
        let borrowed = collateral("tee/tdx/tdx_quote_v4.collateral.json").unwrap();
        DcapCollateral {
            pck_crl_issuer_chain: borrowed.pck_crl_issuer_chain,
            root_ca_crl: borrowed.root_ca_crl,
            pck_crl: borrowed.pck_crl,
            tcb_info_issuer_chain: self.certificates.clone(),
            tcb_info: self.tcb_info,
            tcb_info_signature: self.tcb_info_signature,
            qe_identity_issuer_chain: self.certificates,
            qe_identity: self.qe_identity,
            qe_identity_signature: self.qe_identity_signature,
        }
    }
}

/// The exact signed text inside `{"name":…,"signature":"…"}`, and the signature.
fn signed_json(document: &[u8], name: &str) -> (String, Vec<u8>) {
    let text = std::str::from_utf8(document).unwrap().trim();
    let body = text.strip_prefix(&format!("{{\"{name}\":")).unwrap();
    let (body, signature) = body.split_once(",\"signature\":\"").unwrap();
    (body.to_owned(), hex::decode(signature.strip_suffix("\"}").unwrap()).unwrap())
}

fn mutate(mutation: Option<&str>, parts: &mut Parts) {
    let Some(mutation) = mutation else { return };
    let (target, at) = match mutation {
        "byte 16 of raw tcbInfo JSON = x" => (&mut parts.tcb_info, 16),
        "byte 22 of raw enclaveIdentity JSON = x" => (&mut parts.qe_identity, 22),
        unknown => panic!("unknown mutation {unknown}"),
    };
    assert_ne!(&target[at..=at], "x");
    target.replace_range(at..=at, "x");
}

/// Oasis' quote bundle: `{quote, tcb: {certs, qe_id: {…, signature}, tcb_info: {…, signature}}}`.
fn bundle(cbor: &[u8]) -> (Vec<u8>, Parts) {
    let mut quote = Vec::new();
    let mut parts = Parts::default();
    let mut d = Decoder::new(cbor);
    entries(&mut d, &mut |name, d| match name {
        "quote" => quote = d.bytes().unwrap().to_vec(),
        "tcb" => entries(d, &mut |name, d| match name {
            "certs" => parts.certificates = text(d),
            "qe_id" => entries(d, &mut |name, d| match name {
                "enclave_identity" => parts.qe_identity = text(d),
                "signature" => parts.qe_identity_signature = hex::decode(text(d)).unwrap(),
                unknown => panic!("unknown field {unknown}"),
            }),
            "tcb_info" => entries(d, &mut |name, d| match name {
                "signature" => parts.tcb_info_signature = hex::decode(text(d)).unwrap(),
                "tcb_info" => parts.tcb_info = text(d),
                unknown => panic!("unknown field {unknown}"),
            }),
            unknown => panic!("unknown field {unknown}"),
        }),
        unknown => panic!("unknown field {unknown}"),
    });
    (quote, parts)
}

fn entries<'b>(d: &mut Decoder<'b>, each: &mut dyn FnMut(&str, &mut Decoder<'b>)) {
    for _ in 0..d.map().unwrap().unwrap() {
        let name = d.str().unwrap();
        each(name, d);
    }
}

/// Text, in a text or byte string.
fn text(d: &mut Decoder<'_>) -> String {
    let bytes = match d.datatype().unwrap() {
        minicbor::data::Type::String => d.str().unwrap().as_bytes(),
        _ => d.bytes().unwrap(),
    };
    String::from_utf8(bytes.to_vec()).unwrap()
}
