//! What no policy can allow, and bytes that are no quote.

use heirloom_attest::error::AppraiseError;

use crate::vectors::{reason, sgx};

/// Where an attribute flag, a digest or a header field stands in a quote.
const HEADER_VERSION: usize = 0;
const HEADER_KEY_TYPE: usize = 2;
const HEADER_TEE: usize = 4;
const HEADER_VENDOR: usize = 12;
const REPORT: usize = 48;
const FLAGS: usize = REPORT + 48;
const MEASUREMENT: usize = REPORT + 64;
const SIGNER: usize = REPORT + 128;
const SECTION_LENGTH: usize = 432;
const AUTHENTICATION_LENGTH: usize = 436 + 64 + 64 + 384 + 64;
const CERTIFICATION_TYPE: usize = AUTHENTICATION_LENGTH + 2 + 32;

#[test]
fn no_policy_allows_debug_privileged_or_zero_enclaves() {
    let Some(case) = sgx() else { return };
    let flags = |low: u8, second: u8| {
        case.with(|case| {
            case.quote[FLAGS] = low;
            case.quote[FLAGS + 1] = second;
        })
        .appraise()
    };
    assert_eq!(flags(0b0111, 0), Err(AppraiseError::DebugEnclave));
    assert_eq!(flags(0b0100, 0), Err(AppraiseError::NotInitialised));
    assert_eq!(flags(0b0001, 0), Err(AppraiseError::Not64Bit));
    assert_eq!(flags(0x15, 0), Err(AppraiseError::PrivilegedEnclave { bits: 0x10 }));
    assert_eq!(flags(0x25, 0), Err(AppraiseError::PrivilegedEnclave { bits: 0x20 }));
    assert_eq!(flags(0x85, 0), Err(AppraiseError::UnmeasuredConfiguration));
    assert_eq!(flags(0x0d, 0), Err(AppraiseError::UnknownAttributes { bits: 0x08 }));
    assert_eq!(flags(0x05, 0x80), Err(AppraiseError::UnknownAttributes { bits: 0x8000 }));
    // Known and harmless: only the signature refuses them.
    assert_eq!(flags(0x45, 0x04), Err(AppraiseError::QuoteSignature));

    let zero = |from: usize| case.with(|case| case.quote[from..from + 32].fill(0)).appraise();
    assert_eq!(zero(MEASUREMENT), Err(AppraiseError::ZeroMeasurement));
    assert_eq!(zero(SIGNER), Err(AppraiseError::ZeroSigner));
    for reserved in [20, 47, 96, 127, 160, 255, 260, 319] {
        let used = case.with(|case| case.quote[REPORT + reserved] = 1).appraise();
        assert_eq!(used, Err(AppraiseError::ReservedNotZero), "{reserved}");
    }
}

#[test]
fn unknown_kinds_of_quotes_are_refused() {
    let Some(case) = sgx() else { return };
    let with = |at: usize, value: u8| case.with(|case| case.quote[at] = value).appraise();
    for version in [0, 1, 2, 4, 5] {
        let found = u16::from(version);
        assert_eq!(
            with(HEADER_VERSION, version),
            Err(AppraiseError::UnsupportedQuoteVersion { found })
        );
    }
    assert_eq!(
        with(HEADER_KEY_TYPE, 3),
        Err(AppraiseError::UnsupportedAttestationKey { found: 3 })
    );
    assert_eq!(with(HEADER_TEE, 0x81), Err(AppraiseError::UnsupportedTeeType { found: 0x81 }));
    assert_eq!(with(HEADER_VENDOR, 0), Err(AppraiseError::UnknownQuotingVendor));
    for found in [1, 2, 3, 4, 6, 7] {
        let value = u8::try_from(found).unwrap();
        assert_eq!(
            with(CERTIFICATION_TYPE, value),
            Err(AppraiseError::UnsupportedCertificationData { found })
        );
    }
    assert_eq!(reason(&with(AUTHENTICATION_LENGTH, 31)), "malformed-quote");
}

#[test]
fn quotes_are_neither_truncated_nor_padded() {
    let Some(case) = sgx() else { return };
    for length in 0..case.quote.len() {
        let short = case.with(|case| case.quote.truncate(length)).appraise();
        assert_eq!(reason(&short), "malformed-quote", "{length} bytes");
    }
    let long = case.with(|case| case.quote.push(0)).appraise();
    assert_eq!(reason(&long), "malformed-quote");
    // Padding inside the signature section.
    let inside = case.with(|case| {
        case.quote.push(0);
        case.quote[SECTION_LENGTH] += 1;
    });
    assert_eq!(reason(&inside.appraise()), "malformed-quote");
}

#[test]
fn decoding_for_people_says_what_no_policy_could_accept() {
    let Some(case) = sgx() else { return };
    let decode = |quote: Vec<u8>| {
        let evidence = heirloom_model::evidence::Evidence::SgxDcap(quote);
        heirloom_attest::decode::unverified(&evidence).unwrap()
    };
    let claims = decode(case.quote.clone());
    assert_eq!(claims.denied, None);
    assert!(!claims.debug);
    assert_eq!(claims.quoted.unwrap().fmspc, Some([0x00, 0xa0, 0x67, 0x11, 0x00, 0x00]));
    assert_eq!(claims.platform, Some(case.appraise().unwrap().platform()));
    let debug = decode(case.with(|case| case.quote[FLAGS] |= 2).quote);
    assert!(debug.debug);
    assert_eq!(debug.denied, Some(AppraiseError::DebugEnclave));
}
