//! TDX quotes: real ones on their day, one changed field at a time, and others that only parse.

use heirloom_attest::decode;
use heirloom_attest::error::AppraiseError;
use heirloom_attest::result::{AnchorClass, Host, Tcb};
use heirloom_model::appraisal::Reference;
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::evidence::Evidence;
use heirloom_model::measurement::{Register48, TdMeasurement, TeeKind};
use heirloom_model::policy::{PlatformRule, TcbLevel};

use crate::vectors::{Case, bytes, collateral, reason, tdx};

/// Where a report begins in a quote of version 4; what it says stands behind that.
const REPORT: usize = 48;
const TCB_SVN: usize = REPORT;
const MODULE_SIGNER: usize = REPORT + 64;
const MODULE_ATTRIBUTES: usize = REPORT + 112;
const ATTRIBUTES: usize = REPORT + 120;
const MRTD: usize = REPORT + 136;
const SIGNED: usize = REPORT + 584;

#[test]
fn a_real_quote_is_accepted_on_its_day() {
    let Some(case) = tdx() else { return };
    let result = case.appraise().unwrap();
    assert_eq!(result.kind(), TeeKind::Tdx);
    assert_eq!((result.signer(), result.product_id()), (None, None));
    assert_eq!(result.security_version(), SecurityVersion(0));
    assert_eq!(result.tcb(), Tcb::Intel(TcbLevel::UpToDate));
    assert_eq!(result.anchor_class(), AnchorClass::Production);
    assert_eq!(result.host(), Host::Known(result.platform()));
    assert_eq!(*result.report_data(), case.report_data());
    // The measurement is over all registers, each at the place where the layout says it is.
    let at = |offset: usize| Register48::new(case.quote[offset..offset + 48].try_into().unwrap());
    let registers = [136, 328, 376, 424, 472, 184, 232, 280].map(|offset| at(REPORT + offset));
    let digest = TdMeasurement::of(&registers);
    assert_eq!(result.measurement().to_string(), format!("tdx:{digest}"));
}

#[test]
fn every_flipped_byte_of_the_signed_part_is_refused_remembered_or_not() {
    let Some(case) = tdx() else { return };
    let cold = case.appraiser().unwrap();
    let mut warm = cold.clone();
    case.appraise_with(&mut warm).unwrap();
    for byte in 0..SIGNED {
        let flipped = case.with(|case| case.quote[byte] ^= 1 << (byte % 8));
        let remembered = flipped.appraise_with(&mut warm.clone());
        assert!(remembered.is_err(), "byte {byte}");
        assert_eq!(remembered, flipped.appraise_with(&mut cold.clone()), "byte {byte}");
    }
}

/// What is outside the signed part has a second spelling only in the text of certificates.
#[test]
fn every_changed_byte_behind_the_signed_part_is_answered_the_same() {
    let Some(case) = tdx() else { return };
    let cold = case.appraiser().unwrap();
    let mut warm = cold.clone();
    case.appraise_with(&mut warm).unwrap();
    let certificates = SIGNED + 4 + 134 + 456 + 32;
    let sample = (SIGNED..certificates).chain((certificates..case.quote.len()).step_by(29));
    for byte in sample {
        let changed = case.with(|case| case.quote[byte] ^= 1 << (byte % 8));
        let remembered = changed.appraise_with(&mut warm.clone());
        assert_eq!(remembered, changed.appraise_with(&mut cold.clone()), "byte {byte}");
        // Behind the first 32 bytes, the report data of a quoting enclave has no meaning.
        assert!(byte >= certificates || remembered.is_err(), "byte {byte}");
    }
}

#[test]
fn no_policy_allows_debug_profiling_migration_or_unknown_attributes() {
    let Some(case) = tdx() else { return };
    let with = |attributes: u64| {
        let bytes = attributes.to_le_bytes();
        case.with(|case| case.quote[ATTRIBUTES..ATTRIBUTES + 8].copy_from_slice(&bytes)).appraise()
    };
    let good = 1 << 28;
    assert_eq!(with(good | 1), Err(AppraiseError::DebugEnclave));
    for bit in 4..7 {
        assert_eq!(with(good | (1 << bit)), Err(AppraiseError::ProfiledDomain));
    }
    assert_eq!(with(good | (1 << 29)), Err(AppraiseError::MigratableDomain));
    assert_eq!(with(0), Err(AppraiseError::PagesNotProtected));
    for bit in [1, 7, 15, 17, 23, 26, 32, 61] {
        assert_eq!(
            with(good | (1 << bit)),
            Err(AppraiseError::UnknownAttributes { bits: 1 << bit })
        );
    }
    // Known and for the policy to judge: only the signature refuses them.
    for bit in [16, 18, 27, 30, 31, 62, 63] {
        assert_eq!(with(good | (1 << bit)), Err(AppraiseError::QuoteSignature));
    }
    let zero = case.with(|case| case.quote[MRTD..MRTD + 48].fill(0)).appraise();
    assert_eq!(zero, Err(AppraiseError::ZeroMeasurement));
}

#[test]
fn each_reference_is_judged_alone() {
    let Some(case) = tdx() else { return };
    let field = |offset: usize| REPORT + offset;
    let number = |at: usize| u64::from_le_bytes(case.quote[at..at + 8].try_into().unwrap());
    let module = Register48::new(case.quote[field(16)..field(64)].try_into().unwrap());
    let other = Register48::new([9; 48]);
    let matching = case.with(|case| {
        let (attributes, xfam) = (number(ATTRIBUTES), number(field(128)));
        let rule = case.policy.tdx.as_mut().unwrap();
        rule.module = Reference::Match(vec![module, other]);
        rule.attributes = Reference::Match(vec![attributes]);
        rule.xfam = Reference::Match(vec![xfam]);
    });
    assert_eq!(matching.appraise(), case.appraise());
    let rule = |change: &dyn Fn(&mut heirloom_model::appraisal::TdxRule)| {
        let changed = matching.with(|case| change(case.policy.tdx.as_mut().unwrap()));
        match changed.appraise() {
            Err(AppraiseError::ReferenceMismatch { claim, .. }) => claim,
            found => panic!("{found:?}"),
        }
    };
    assert_eq!(rule(&|rule| rule.module = Reference::Match(vec![other])), "TDX module");
    assert_eq!(rule(&|rule| rule.attributes = Reference::Match(vec![0])), "TD attributes");
    assert_eq!(rule(&|rule| rule.xfam = Reference::Match(vec![0])), "XFAM");
    // TDX 1.0 does not state them: not even none is what it says.
    let zero = Reference::Match(vec![Register48::new([0; 48])]);
    let unstated = matching.with(|case| case.policy.tdx.as_mut().unwrap().service_td = zero);
    let claim = "service trust domains";
    assert_eq!(unstated.appraise(), Err(AppraiseError::ClaimMissing { claim }));
    assert_eq!(
        matching.with(|case| case.policy.tdx = None).appraise(),
        Err(AppraiseError::KindNotAccepted { kind: TeeKind::Tdx })
    );
}

#[test]
fn the_common_part_of_the_policy_is_judged_for_trust_domains_too() {
    let Some(case) = tdx() else { return };
    let other = heirloom_model::identifier::PlatformId::new([1; 32]);
    let cases = [
        ("tcb-level-not-accepted", case.with(|case| case.policy.tcb = vec![TcbLevel::OutOfDate])),
        ("tcb-evaluation-too-low", case.with(|case| case.policy.tcb_evaluation_min = 1000)),
        (
            "platform-not-listed",
            case.with(|case| case.policy.platforms = PlatformRule::Only(vec![other])),
        ),
        ("expired-endorsements", case.with(|case| case.now = case.now.after(60 * 86_400))),
    ];
    for (expected, refused) in cases {
        assert_eq!(reason(&refused.appraise()), expected);
    }
    let graced = case.with(|case| {
        case.now = case.now.after(60 * 86_400);
        case.policy.collateral_grace_seconds = 365 * 86_400;
    });
    let result = graced.appraise().unwrap();
    assert_eq!(result.expires(), result.grace().unwrap().until);
}

/// SGX and TDX machines of one make have endorsements of their own.
#[test]
fn kinds_are_not_mixed_up() {
    let Some(case) = tdx() else { return };
    let quote = Evidence::SgxDcap(case.quote.clone());
    assert_eq!(
        case.appraiser().unwrap().appraise(&quote, &case.report_data(), &case.policy, case.now),
        Err(AppraiseError::UnsupportedQuoteVersion { found: 4 })
    );
    let as_sgx = case.with(|case| case.kind = TeeKind::Sgx).appraiser();
    assert_eq!(as_sgx.unwrap_err().reason(), "endorsements-disagree");
    let tee = case.with(|case| case.quote[4] = 0).appraise();
    assert_eq!(tee, Err(AppraiseError::UnsupportedTeeType { found: 0 }));
}

/// Two quotes of one quoting enclave differ in their TCB if their modules do.
#[test]
fn what_is_remembered_of_one_module_says_nothing_about_another() {
    let Some(case) = tdx() else { return };
    let mut warm = case.appraiser().unwrap();
    case.appraise_with(&mut warm).unwrap();
    for byte in [TCB_SVN, TCB_SVN + 1, MODULE_SIGNER, MODULE_ATTRIBUTES, REPORT + 16] {
        let mut appraiser = warm.clone();
        let changed = case.with(|case| case.quote[byte] ^= 1);
        assert_eq!(reason(&changed.appraise_with(&mut appraiser)), "quote-signature", "{byte}");
        assert_eq!(appraiser.quoting_identities_known(), 1);
    }
}

/// A quote of version 5 of TDX 1.5, of a machine that is older than any level.
#[test]
fn a_machine_below_every_level_is_refused() {
    let Some(good) = tdx() else { return };
    let (Some(quote), Some(collateral)) = (
        bytes("tee/tdx/tdx_quote_v4_outdated.bin"),
        collateral("tee/tdx/tdx_quote_v4_outdated.collateral.json"),
    ) else {
        return;
    };
    assert_eq!(quote[0], 5);
    let old = good.with(|case: &mut Case| {
        case.quote = quote;
        case.collateral = collateral;
        case.now = Time(1_771_415_931);
    });
    assert_eq!(old.appraise(), Err(AppraiseError::NoTcbLevel));
    // Its type, its length and whatever it says are covered by the signature.
    for byte in 48..48 + 6 + 648 {
        let outcome = old.with(|case| case.quote[byte] ^= 1 << (byte % 8)).appraise();
        assert!(outcome.is_err() && outcome != old.appraise(), "byte {byte}");
    }
    let body = old.with(|case| case.quote[48] = 4).appraise();
    assert_eq!(body, Err(AppraiseError::UnsupportedQuoteBody { found: 4 }));
}

#[test]
fn quotes_of_other_projects_parse_and_padding_is_cut() {
    let files = [
        ("tee/tdx/coco/tdx_quote_4.dat", Some(AppraiseError::DebugEnclave)),
        ("tee/tdx/coco/tdx_quote_5.dat", None),
        ("tee/tdx/coco/tdx_quote_6.dat", None),
        ("tee/tdx/coco/az-tdx-vtpm_td-quote.bin", Some(AppraiseError::PagesNotProtected)),
        ("tee/tdx/oak/tdx_oc_quote_v4.bin", None),
    ];
    for (file, denied) in files {
        let Some(padded) = bytes(file) else { return };
        let quote = decode::unpadded_quote(&padded).unwrap();
        let claims = decode::unverified(&Evidence::TdxDcap(quote.to_vec())).unwrap();
        assert_eq!(claims.kind, TeeKind::Tdx);
        assert_eq!(claims.denied, denied, "{file}");
        if quote.len() < padded.len() {
            let whole = decode::unverified(&Evidence::TdxDcap(padded.clone()));
            assert_eq!(whole.unwrap_err().reason(), "malformed-quote", "{file}");
        }
        let mut dirty = quote.to_vec();
        dirty.push(1);
        assert_eq!(decode::unpadded_quote(&dirty).unwrap_err().reason(), "malformed-quote");
    }
}

#[test]
fn quotes_are_neither_truncated_nor_padded() {
    let Some(case) = tdx() else { return };
    for length in 0..case.quote.len() {
        let short = case.with(|case| case.quote.truncate(length)).appraise();
        assert_eq!(reason(&short), "malformed-quote", "{length} bytes");
    }
}
