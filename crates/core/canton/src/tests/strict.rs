//! Each rule of a contract's form refuses by itself: one field is changed, everything else is right.

use crate::blob::{BlobError, FatContract};
use crate::contract_id::{ContractId, ContractIdError, ContractIdVersion};
use crate::hash::{Purpose, canton_hash};
use crate::proto::{ProtoError, Reader, Writer, read_varint, read_versioned, versioned};
use crate::value::Value;
use crate::value::codec::ValueError;

/// The parts of a blob, each of which a test may change.
struct Parts {
    version: &'static str,
    package_name: &'static str,
    argument: Vec<u8>,
    signatories: Vec<&'static str>,
    observers: Vec<&'static str>,
    created_at: i64,
    authentication: Vec<u8>,
    key: Option<Vec<u8>>,
    extra: Vec<u8>,
}

fn authentication(version: u32, algorithm: i32, salt: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.message(1, |w| _ = w.int32(1, algorithm).bytes(2, salt));
    versioned(version, &writer.finish())
}

fn key(maintainers: &[&str], hash: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.bytes(1, &Value::Int64(7).encode());
    for maintainer in maintainers {
        writer.text(2, maintainer);
    }
    writer.bytes_if_set(3, hash);
    writer.finish()
}

impl Parts {
    fn new() -> Self {
        Self {
            version: "2.1",
            package_name: "a-package",
            argument: Value::Record(vec![Value::Text("x".to_owned())]).encode(),
            signatories: vec!["a", "b"],
            observers: vec!["c", "d"],
            created_at: 1,
            authentication: authentication(30, 1, &[9; 32]),
            key: None,
            extra: Vec::new(),
        }
    }

    fn decode(&self) -> Result<FatContract, BlobError> {
        let unicum = canton_hash(Purpose::Unicum, b"");
        let id = ContractId::new(ContractIdVersion::V12, &[1; 32], &unicum);
        let mut payload = Writer::default();
        payload.bytes(1, id.as_bytes()).text(2, self.package_name);
        payload.message(3, |w| _ = w.text(1, "00").text(2, "M").text(3, "T"));
        payload.bytes(4, &self.argument);
        for party in &self.signatories {
            payload.text(5, party);
        }
        for party in &self.observers {
            payload.text(6, party);
        }
        payload.sfixed64(7, self.created_at).bytes(8, &self.authentication);
        if let Some(key) = &self.key {
            payload.bytes(1001, key);
        }
        payload.copy(&self.extra);
        let mut blob = Writer::default();
        blob.text(1, self.version).bytes(2, &payload.finish());
        FatContract::decode(&blob.finish())
    }
}

fn refused(change: impl FnOnce(&mut Parts)) -> BlobError {
    let mut parts = Parts::new();
    change(&mut parts);
    parts.decode().unwrap_err()
}

#[test]
fn what_is_right_is_read() {
    assert!(Parts::new().decode().is_ok());
    let (signatories, key) = (vec!["b"], Some(key(&["a"], &[3; 32])));
    let with_key = Parts { version: "2", signatories, key, ..Parts::new() };
    let contract = with_key.decode().unwrap();
    assert_eq!(contract.signatories.len(), 2, "maintainers sign");
}

#[test]
fn parties_out_of_order_or_twice_are_refused() {
    let error = refused(|p| p.signatories = vec!["b", "a"]);
    assert_eq!(error, BlobError::Unsorted { list: "signatories" });
    let error = refused(|p| p.observers = vec!["c", "c"]);
    assert_eq!(error, BlobError::Unsorted { list: "observers" });
    let error = refused(|p| p.observers = vec!["a", "c"]);
    assert!(matches!(error, BlobError::Twice { .. }));
    let error = refused(|p| p.signatories = Vec::new());
    assert_eq!(error, BlobError::NoSignatory);
    let error = refused(|p| p.observers = vec!["c.d"]);
    assert!(matches!(error, BlobError::Party(_)));
}

#[test]
fn keys_that_contradict_the_form_are_refused() {
    let with = |version, maintainers: &[&str], hash: &[u8]| {
        let key = Some(key(maintainers, hash));
        refused(|p| (p.version, p.key) = (version, key))
    };
    assert!(matches!(with("2.1", &["0"], &[]), BlobError::KeyAndVersion { .. }));
    assert!(matches!(with("2", &["0"], &[]), BlobError::KeyAndVersion { .. }));
    assert!(matches!(with("2", &["0"], &[1; 31]), BlobError::KeyHashLength { bytes: 31 }));
    assert!(matches!(with("2", &["a"], &[1; 32]), BlobError::Twice { .. }));
    assert_eq!(with("2", &[], &[1; 32]), BlobError::NoMaintainer);
    assert_eq!(with("2", &["1", "0"], &[1; 32]), BlobError::Unsorted { list: "maintainers" });
    let error = refused(|p| p.version = "2");
    assert!(matches!(error, BlobError::KeyAndVersion { .. }));
}

#[test]
fn everything_else_that_is_wrong_is_refused_by_name() {
    let error = refused(|p| p.version = "dev");
    assert!(matches!(error, BlobError::Version { .. }));
    assert!(matches!(refused(|p| p.package_name = ""), BlobError::Name(_)));
    assert_eq!(refused(|p| p.created_at = i64::MIN), BlobError::CreatedNow);
    let error = refused(|p| p.authentication = authentication(31, 1, &[9; 32]));
    assert_eq!(error, BlobError::AuthenticationVersion { found: 31 });
    let error = refused(|p| p.authentication = authentication(30, 2, &[9; 32]));
    assert_eq!(error, BlobError::Salt { algorithm: 2, bytes: 32 });
    let error = refused(|p| p.authentication = authentication(30, 1, &[9; 33]));
    assert_eq!(error, BlobError::Salt { algorithm: 1, bytes: 33 });
    let error = refused(|p| p.extra = vec![0x48, 0x01]);
    let unknown = ProtoError::UnknownField { message: "FatContractInstance", number: 9 };
    assert_eq!(error, BlobError::Proto(unknown));
    let error = refused(|p| p.argument = Vec::new());
    assert_eq!(error, BlobError::Argument(ValueError::Contents { members: 0 }));
    // The same contract, with a field that stands twice.
    let error = refused(|p| p.extra = vec![0x39, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(error, BlobError::NotCanonical);
}

#[test]
fn each_rule_of_a_value_refuses_by_itself() {
    let with = |number: u32, fill: &dyn Fn(&mut Writer)| {
        let mut writer = Writer::default();
        writer.message(number, fill);
        Value::decode(&writer.finish()).unwrap_err()
    };
    assert!(matches!(with(7, &|_| ()), ValueError::Party(_)));
    assert_eq!(with(8, &|w| _ = w.copy(b"a\0")), ValueError::Nul);
    assert!(matches!(with(8, &|w| _ = w.copy(&[0xff])), ValueError::Proto(_)));
    assert!(matches!(with(9, &|w| _ = w.copy(&[0; 32])), ValueError::ContractId(_)));
    assert!(matches!(with(6, &|w| _ = w.copy(b"1.0e5")), ValueError::Numeric(_)));
    assert!(matches!(with(15, &|w| _ = w.text(1, "9")), ValueError::Constructor { .. }));
    assert!(matches!(with(17, &|_| ()), ValueError::Proto(_)));
    let unit = Value::Unit.encode();
    let entry = |w: &mut Writer, key: &str| {
        w.message(1, |w| _ = w.text(1, key).bytes(2, &unit));
    };
    assert_eq!(with(16, &|w| (entry(w, "b"), entry(w, "a")).0), ValueError::Unsorted);
    assert_eq!(with(16, &|w| (entry(w, "a"), entry(w, "a")).0), ValueError::Unsorted);
    let key = |w: &mut Writer, key: i64| {
        w.message(1, |w| _ = w.bytes(1, &Value::Int64(key).encode()).bytes(2, &unit));
    };
    assert_eq!(with(12, &|w| (key(w, 2), key(w, 1)).0), ValueError::Unsorted);
    let twice = [unit.clone(), unit.clone()].concat();
    assert_eq!(Value::decode(&twice).unwrap_err(), ValueError::Contents { members: 2 });
    // Zero with a byte too many.
    assert_eq!(Value::decode(&[0x18, 0x80, 0x00]).unwrap_err(), ValueError::NotCanonical);
}

#[test]
fn each_rule_of_a_contract_id_refuses_by_itself() {
    let id = |bytes: &[u8]| ContractId::from_bytes(bytes);
    assert!(id(&[0; 33]).is_ok() && id(&[0; 127]).is_ok());
    assert_eq!(id(&[0; 32]), Err(ContractIdError::Length { bytes: 32 }));
    assert_eq!(id(&[0; 128]), Err(ContractIdError::Length { bytes: 128 }));
    assert_eq!(id(&[]), Err(ContractIdError::Length { bytes: 0 }));
    assert_eq!(id(&[1; 69]), Err(ContractIdError::LfVersion { found: 1 }));
    let unicum = canton_hash(Purpose::Unicum, b"");
    let right = ContractId::new(ContractIdVersion::V11, &[0xab; 32], &unicum);
    assert_eq!(right.to_string().parse(), Ok(right.clone()));
    assert_eq!(
        right.to_string().to_uppercase().parse::<ContractId>(),
        Err(ContractIdError::NotHex)
    );
    assert_eq!(right.version(), Some(ContractIdVersion::V11));
    // Another prefix, another multihash, one byte less: no ledger makes such suffixes.
    for (index, mask) in [(33, 1), (34, 0x40), (35, 1), (36, 1)] {
        let mut bytes = right.as_bytes().to_vec();
        bytes[index] ^= mask;
        assert_eq!(id(&bytes).unwrap().version(), None, "{index}");
    }
    assert_eq!(id(&right.as_bytes()[..68]).unwrap().version(), None);
}

#[test]
fn each_rule_of_a_message_refuses_by_itself() {
    let first = |bytes: &[u8]| Reader::new(bytes).next().unwrap().unwrap_err();
    assert_eq!(first(&[0x00, 0x00]), ProtoError::Tag { tag: 0 });
    assert_eq!(first(&[0x0b]), ProtoError::Tag { tag: 0x0b });
    assert_eq!(first(&[0x0f]), ProtoError::Tag { tag: 0x0f });
    assert_eq!(first(&[0x08]), ProtoError::Truncated);
    assert_eq!(first(&[0x09, 1, 2, 3]), ProtoError::Truncated);
    assert_eq!(first(&[0x0a, 2, 1]), ProtoError::Truncated);
    assert_eq!(first(&[&[0x08][..], &[0xff; 10]].concat()), ProtoError::VarintTooLong);
    assert_eq!(read_varint(&mut &[0xff; 11][..]), Err(ProtoError::VarintTooLong));
    let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(read_varint(&mut &largest[..]), Ok(u64::MAX));
    assert!(read_versioned(&[0x18, 0x01]).is_err(), "an unknown field around a message");
    for number in [0, -1, 1, i64::MIN, i64::MAX] {
        let mut writer = Writer::default();
        writer.sint64(1, number);
        let bytes = writer.finish();
        let field = Reader::new(&bytes).next().unwrap().unwrap();
        assert_eq!(field.sint64(), Ok(number));
        assert_eq!(field.raw(), bytes);
    }
}
