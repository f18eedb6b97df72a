use super::*;
use crate::signer::SigningKeyError;

const KEY: &str = include_str!("../../tests/data/enclave-signing-test-key-not-secret.pem");

fn key() -> EnclaveSigningKey {
    EnclaveSigningKey::from_pem(KEY).unwrap()
}

fn content() -> SigstructContent {
    SigstructContent {
        measurement: MrEnclave::new([0xaa; 32]),
        product_id: 7,
        isv_svn: 3,
        date: 0x2026_1120,
    }
}

#[test]
fn what_was_signed_is_what_is_verified() {
    let key = key();
    let verified = verify(&sign(&key, &content())).unwrap();
    assert_eq!(*verified.content(), content());
    assert_eq!(verified.signer(), key.signer());
    let secs = verified.launch(content().measurement, LaunchMode::Production).unwrap();
    assert_eq!((secs.product_id, secs.isv_svn, secs.signer), (7, 3, key.signer()));
    assert_eq!(secs.mode(), LaunchMode::Production);
    let debug = verified.launch(content().measurement, LaunchMode::Debug).unwrap();
    assert_eq!(debug.mode(), LaunchMode::Debug);
}

#[test]
fn a_change_of_any_byte_is_refused() {
    let signed = sign(&key(), &content());
    for at in 0..SIGSTRUCT_BYTES {
        let mut changed = signed;
        changed[at] ^= 1;
        assert!(verify(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn each_field_is_refused_for_its_own_reason() {
    let signed = sign(&key(), &content());
    let changed = |at: usize| {
        let mut changed = signed;
        changed[at] ^= 2;
        verify(&changed).unwrap_err()
    };
    let constant = |field| SigstructError::WrongConstant { field };
    assert_eq!(changed(HEADER), constant("HEADER"));
    assert_eq!(changed(HEADER2), constant("HEADER2"));
    assert_eq!(changed(EXPONENT), constant("EXPONENT"));
    assert_eq!(changed(RESERVED), SigstructError::ReservedBytesSet);
    assert_eq!(changed(Q1), SigstructError::BadQuotients);
    assert_eq!(changed(Q2), SigstructError::BadQuotients);
    for at in [DATE, SIGNATURE, ENCLAVE_HASH, PRODUCT_ID, ISV_SVN, ATTRIBUTES, ATTRIBUTE_MASK] {
        assert_eq!(changed(at), SigstructError::BadSignature, "{at}");
    }
    assert_eq!(changed(MODULUS), SigstructError::BadSignature);
    assert_eq!(verify(&signed[1..]), Err(SigstructError::WrongSize { found: 1807 }));
    assert_eq!(verify(&[0; SIGSTRUCT_BYTES]), Err(constant("HEADER")));
}

#[test]
fn a_key_that_is_no_key_is_refused() {
    let mut signed = sign(&key(), &content());
    put(&mut signed, MODULUS, &[0; KEY_BYTES]);
    assert_eq!(verify(&signed), Err(SigstructError::BadKey));
    put(&mut signed, MODULUS, &{
        let mut small = [0; KEY_BYTES];
        small[0] = 0xff;
        small
    });
    assert_eq!(verify(&signed), Err(SigstructError::BadKey));
}

#[test]
fn other_code_and_other_attributes_do_not_launch() {
    let mut verified = verify(&sign(&key(), &content())).unwrap();
    let measured = MrEnclave::new([0xab; 32]);
    assert_eq!(
        verified.launch(measured, LaunchMode::Production),
        Err(SigstructError::OtherMeasurement { signed: content().measurement, measured })
    );
    // A signer that excludes debugging.
    verified.attribute_mask.flags = u64::MAX;
    assert!(verified.launch(content().measurement, LaunchMode::Production).is_ok());
    let found = LaunchMode::Debug.attributes().flags;
    assert_eq!(
        verified.launch(content().measurement, LaunchMode::Debug),
        Err(SigstructError::AttributesNotAllowed { found })
    );
}

#[test]
fn a_stored_key_is_the_same_key() {
    let key = key();
    let again = EnclaveSigningKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!(again.signer(), key.signer());
    assert_eq!(sign(&again, &content()), sign(&key, &content()));
    let damaged = EnclaveSigningKey::from_pem(&KEY[..200]);
    assert!(matches!(damaged, Err(SigningKeyError::NotPkcs8(_))));
}

#[test]
fn days_are_binary_coded_decimal() {
    assert_eq!(date(Time(0)), 0x1970_0101);
    assert_eq!(date(Time(1_795_132_800)), 0x2026_1120);
}
