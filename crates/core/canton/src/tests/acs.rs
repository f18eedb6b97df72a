//! Snapshots: frames, entries, and the readable half of entries.

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::acs::{AcsError, ActiveContract, Entry, FrameReader, write_frame};
use crate::blob::FatContract;
use crate::ledger_event::{self, Disagreement};
use crate::name::SynchronizerId;
use crate::proto::{Reader, Writer, read_versioned, versioned};
use crate::tests::contracts::{Table, rewritten, vectors};
use crate::tests::{AnyVersion, vector};
use crate::value::Value;

type Change = fn(&mut FatContract);

fn snapshot() -> Option<Vec<u8>> {
    let compressed = vector("acs/constructed-3x-acs.gz")?;
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

fn frames(bytes: &[u8]) -> Result<Vec<Vec<u8>>, AcsError> {
    FrameReader::new(bytes).collect()
}

/// Gives one byte at a time, and is interrupted in between.
struct Slow<'a>(&'a [u8], bool);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let end = out.len().min(1);
        self.0.read(&mut out[..end])
    }
}

#[test]
fn a_snapshot_is_read_and_written_with_the_same_bytes() {
    let Some(bytes) = snapshot() else { return };
    let frames = frames(&bytes).unwrap();
    assert_eq!(frames.len(), 7);
    let slowly: Vec<_> = FrameReader::new(Slow(&bytes, false)).collect::<Result<_, _>>().unwrap();
    assert_eq!(slowly, frames);
    let mut written = Vec::new();
    for (frame, vector) in frames.iter().zip(vectors()) {
        let entry = ActiveContract::decode(frame).unwrap();
        assert_eq!(Entry::decode(frame).unwrap(), Entry::Current(entry.clone()));
        assert_eq!(entry.contract().unwrap(), vector.contract);
        assert!(ledger_event::disagreements(entry.event(), &vector.contract).unwrap().is_empty());
        write_frame(&mut written, entry.encode());
    }
    assert_eq!(written, bytes);
}

#[test]
fn a_snapshot_that_was_cut_is_refused_unless_the_cut_is_between_entries() {
    let Some(bytes) = snapshot() else { return };
    let mut ends = vec![0];
    let mut reader = FrameReader::new(&bytes[..]);
    while let Some(frame) = reader.next() {
        frame.unwrap();
        ends.push(reader.offset());
    }
    for length in 0..bytes.len() {
        let read = frames(&bytes[..length]);
        match read {
            Ok(_) => assert!(ends.contains(&(length as u64)), "{length}"),
            Err(error) => assert!(matches!(error, AcsError::Truncated { .. }), "{error}"),
        }
    }
}

#[test]
fn lengths_that_no_entry_has_are_refused_without_reading_them() {
    let error = frames(&[0xff; 16]).unwrap_err();
    assert!(matches!(error, AcsError::Length { entry: 0, offset: 0 }), "{error}");
    let error = frames(&[0xff, 0xff, 0xff, 0xff, 0x0f]).unwrap_err();
    assert!(matches!(error, AcsError::TooLarge { entry: 0, .. }), "{error}");
    let mut reader = FrameReader::new(&[5, 1][..]);
    assert!(matches!(reader.next(), Some(Err(AcsError::Truncated { entry: 0, offset: 2 }))));
    assert!(reader.next().is_none(), "nothing comes behind an error");
}

/// The entry with fields that no release knows, in every layer.
fn with_unknown_fields(frame: &[u8]) -> Vec<u8> {
    let (version, data) = read_versioned(frame).unwrap();
    let inner = Reader::new(data).next().unwrap().unwrap().bytes().unwrap();
    let mut outer = Writer::default();
    outer.message(1, |w| {
        for field in Reader::new(inner) {
            let field = field.unwrap();
            if field.number() == 1 {
                let event = [field.bytes().unwrap(), &[0xf2, 0x3f, 1, 9]].concat();
                w.bytes(1, &event);
            } else {
                w.copy(field.raw());
            }
        }
        w.bytes(1000, b"later");
    });
    versioned(version, &outer.finish())
}

#[test]
fn a_rewritten_entry_agrees_with_its_contract_and_keeps_what_is_not_understood() {
    let Some(bytes) = snapshot() else { return };
    let types = AnyVersion::load();
    for frame in frames(&bytes).unwrap() {
        let frame = with_unknown_fields(&frame);
        let entry = ActiveContract::decode(&frame).unwrap();
        assert_eq!(entry.encode(), frame);
        let contract = entry.contract().unwrap();
        let parties = contract.stakeholders().into_iter().map(|party| {
            let new = party.as_party_id().unwrap().moved_to(&"1220aa".parse().unwrap()).unwrap();
            (party, crate::name::Party::from(&new))
        });
        let table = Table(parties.collect());
        let new = rewritten(&contract, &table, &types);
        let elsewhere: SynchronizerId = "other::1220bb".parse().unwrap();
        let after = entry.rewritten(&new, &table, Some(&elsewhere)).unwrap();
        assert_eq!(after.contract().unwrap(), new);
        assert_eq!(*after.synchronizer(), elsewhere);
        assert_eq!(after.reassignment_counter(), entry.reassignment_counter());
        assert!(ledger_event::disagreements(after.event(), &new).unwrap().is_empty());
        let has = |needle: &[u8]| after.encode().windows(needle.len()).any(|w| w == needle);
        assert!(has(b"later") && has(&[0xf2, 0x3f, 1, 9]));
        for party in table.0.keys() {
            assert!(!has(party.as_str().as_bytes()), "{party} is still there");
        }
        let inverse = Table(table.0.iter().map(|(k, v)| (v.clone(), k.clone())).collect());
        let back = after.rewritten(&contract, &inverse, Some(entry.synchronizer())).unwrap();
        assert_eq!(back.encode(), frame, "the inverse gives back every byte");
    }
}

#[test]
fn an_event_that_says_something_else_than_its_contract_is_found_out() {
    for vector in vectors() {
        let contract = vector.contract;
        let event = ledger_event::write(&contract, &[]);
        assert_eq!(ledger_event::disagreements(&event, &contract), Ok(Vec::new()));
        let changes: [(Disagreement, Change); 4] = [
            (Disagreement::Signatories, |c| _ = c.signatories.insert("M".parse().unwrap())),
            (Disagreement::Observers, |c| _ = c.observers.insert("M".parse().unwrap())),
            (Disagreement::PackageName, |c| c.package_name = "other".parse().unwrap()),
            (Disagreement::Template, |c| c.template.package = "00".parse().unwrap()),
        ];
        for (expected, change) in changes {
            let mut other = contract.clone();
            change(&mut other);
            assert_eq!(ledger_event::disagreements(&event, &other), Ok(vec![expected]));
        }
    }
}

#[test]
fn an_entry_can_be_made_from_a_contract() {
    let Some(vector) = vectors().into_iter().next() else { return };
    let event = ledger_event::write(&vector.contract, &[]);
    let synchronizer: SynchronizerId = "sync::1220aa".parse().unwrap();
    let entry = ActiveContract::new(&event, &synchronizer, 0).unwrap();
    assert_eq!(entry.contract().unwrap(), vector.contract);
    assert_eq!(entry.blob(), vector.blob);
    assert_eq!(entry.representative_package(), Some(&vector.contract.template.package));
}

#[test]
fn maps_of_the_readable_half_are_sorted_like_those_of_the_contract() {
    let Some(vector) = vectors().into_iter().next() else { return };
    let party = |name: &str| Value::Party(name.parse().unwrap());
    let mut contract = vector.contract;
    contract.create_arg = Value::Record(vec![Value::GenMap(vec![
        (party("a::1"), Value::Int64(1)),
        (party("b::1"), Value::Int64(2)),
    ])]);
    let pairs = [("a::1", "z::1"), ("b::1", "y::1")];
    let pairs = pairs.map(|(old, new)| (old.parse().unwrap(), new.parse().unwrap()));
    let table = Table(BTreeMap::from(pairs));
    let event = ledger_event::write(&contract, &[]);
    contract.create_arg = contract.create_arg.rewritten(&table).unwrap();
    let after = ledger_event::rewrite(&event, &contract, &table).unwrap();
    assert_eq!(after, ledger_event::write(&contract, &[]));
    let Value::Record(fields) = &contract.create_arg else { panic!("a record") };
    let expected = vec![(party("y::1"), Value::Int64(2)), (party("z::1"), Value::Int64(1))];
    assert_eq!(fields[0], Value::GenMap(expected));
}
