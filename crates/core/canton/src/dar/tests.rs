//! Each refusal by one changed byte or field.

mod packages;
mod versions;
mod zips;

use super::archive::{self, ArchiveError, LfVersion};
use super::manifest::{self, Manifest, ManifestError};
use super::{DarError, build::DarBuilder, read, zip};
use crate::proto::Writer;
use crate::types::BuiltinType;

/// A small file of one package.
fn good() -> Vec<u8> {
    let party = super::build::plain(BuiltinType::Party);
    let fields = vec![super::build::field("issuer", party)];
    DarBuilder::new("good".parse().unwrap(), "1.0.0".parse().unwrap())
        .template("Main:T".parse().unwrap(), fields, &["issuer"], &[])
        .build()
        .unwrap()
        .bytes
}

/// The manifest and the package of it.
fn parts() -> (String, String, Vec<u8>) {
    let file = good();
    let entries = zip::entries(&file).unwrap();
    let manifest = entries[manifest::PATH].unpack().unwrap();
    let (path, entry) = entries.iter().find(|(path, _)| *path != manifest::PATH).unwrap();
    (String::from_utf8(manifest).unwrap(), path.clone(), entry.unpack().unwrap())
}

fn file(manifest: &str, path: &str, package: &[u8]) -> Vec<u8> {
    zip::write(&[
        (manifest::PATH.to_owned(), manifest.as_bytes().to_vec()),
        (path.to_owned(), package.to_vec()),
    ])
}

#[test]
fn the_parts_of_a_good_file_make_a_good_file() {
    let (manifest, path, package) = parts();
    assert_eq!(file(&manifest, &path, &package), good());
    read(&good()).unwrap();
}

#[test]
fn a_manifest_is_folded_and_read_again() {
    let path = |letter: &str| format!("{}/{}.dalf", letter.repeat(64), letter.repeat(90));
    for others in [vec![], vec![path("b"), path("c")]] {
        let manifest = Manifest { main: path("a"), others };
        let text = manifest.write("name-1.0.0");
        assert!(text.lines().all(|line| line.len() <= 72), "{text}");
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
        let carriage = text.replace('\n', "\r\n");
        assert_eq!(Manifest::parse(carriage.as_bytes()).unwrap(), manifest);
        let old = text.replace('\n', "\r");
        assert_eq!(Manifest::parse(old.as_bytes()).unwrap(), manifest);
    }
}

#[test]
fn each_rule_of_a_manifest_refuses_by_itself() {
    let good = "Manifest-Version: 1.0\nMain-Dalf: a\nDalfs: a, b\nFormat: daml-lf\n";
    let parsed = Manifest::parse(good.as_bytes()).unwrap();
    assert_eq!(parsed, Manifest { main: "a".to_owned(), others: vec!["b".to_owned()] });
    let many: Vec<_> = (0..5_000).map(|number| format!("p{number}")).collect();
    let cases = [
        (good.replace("Main-Dalf: a\n", ""), ManifestError::Missing { name: "Main-Dalf" }),
        (good.replace("Dalfs: a, b\n", ""), ManifestError::Missing { name: "Dalfs" }),
        (good.replace("Format: daml-lf\n", ""), ManifestError::Missing { name: "Format" }),
        (good.replace("Dalfs", "\nDalfs"), ManifestError::Missing { name: "Dalfs" }),
        (good.replace("daml-lf", "daml-l"), ManifestError::Format { found: "daml-l".to_owned() }),
        (good.replace("Format: ", "Format:"), ManifestError::Line { line: 4 }),
        (good.replace("Main-Dalf", "Main Dalf"), ManifestError::Line { line: 2 }),
        (format!(" {good}"), ManifestError::Line { line: 1 }),
        (
            good.replace("Format", "main-dalf: c\nFormat"),
            ManifestError::Duplicate { name: "main-dalf".to_owned() },
        ),
        (
            good.replace("a, b", &many.join(",\n ")),
            ManifestError::TooManyPackages { packages: 5_001 },
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap_err(), expected, "{text:.200}");
    }
    assert_eq!(Manifest::parse(b"Name: \xff\n").unwrap_err(), ManifestError::NotText);
}

#[test]
fn files_that_the_manifest_needs_must_be_there() {
    let (manifest, path, package) = parts();
    let missing = |path: &str| DarError::MissingEntry { path: path.to_owned() };
    let error = read(&file(&manifest, "other.dalf", &package)).unwrap_err();
    assert_eq!(error, missing(&path));
    let error = read(&zip::write(&[(path.clone(), package.clone())])).unwrap_err();
    assert_eq!(error, missing(manifest::PATH));
    let more = manifest.replace("\nFormat", ", other.dalf\nFormat");
    assert_eq!(read(&file(&more, &path, &package)).unwrap_err(), missing("other.dalf"));
    let bad = manifest.replace("Format: daml-lf", "Format: zip");
    let error = read(&file(&bad, &path, &package)).unwrap_err();
    assert!(matches!(error, DarError::Manifest(ManifestError::Format { .. })), "{error:?}");
}

/// An archive from its fields.
fn archive_of(payload: &[u8], change: impl FnOnce(&mut Writer)) -> Result<(), ArchiveError> {
    let mut writer = Writer::default();
    writer.bytes(3, payload);
    let hash = hex::encode(heirloom_model::digest::sha256(&[payload]));
    writer.text(4, &hash);
    change(&mut writer);
    archive::Archive::parse(&writer.finish()).map(|_| ())
}

fn payload(minor: &str, change: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.text(3, minor);
    change(&mut writer);
    writer.finish()
}

#[test]
fn each_rule_of_an_archive_refuses_by_itself() {
    let second = |minor: &str| {
        payload(minor, |writer| {
            writer.bytes(4, b"");
        })
    };
    let first = |minor: &str| {
        payload(minor, |writer| {
            writer.bytes(2, b"");
        })
    };
    let same = |_: &mut Writer| {};
    for minor in ["1", "2", "3"] {
        archive_of(&second(minor), same).unwrap();
    }
    for minor in ["6", "7", "8", "11", "12", "13", "14", "15", "17"] {
        archive_of(&first(minor), same).unwrap();
    }
    for minor in ["", "0", "4", "02", "+2", "dev", "3-rc1", "1 "] {
        let error = archive_of(&second(minor), same).unwrap_err();
        assert_eq!(error, ArchiveError::Version { major: 2, minor: minor.to_owned() });
    }
    for minor in ["1", "9", "16", "18", "dev"] {
        let error = archive_of(&first(minor), same).unwrap_err();
        assert_eq!(error, ArchiveError::Version { major: 1, minor: minor.to_owned() });
    }
    let refused = |payload: &[u8]| archive_of(payload, same).unwrap_err();
    assert_eq!(refused(&payload("1", |_| {})), ArchiveError::Empty);
    let two = payload("1", |writer| {
        writer.bytes(4, b"").bytes(2, b"");
    });
    assert_eq!(refused(&two), ArchiveError::Two);
    let patched = payload("1", |writer| {
        writer.bytes(4, b"").varint(5, 1);
    });
    assert_eq!(refused(&patched), ArchiveError::Patch { found: 1 });
    let unknown = payload("1", |writer| {
        writer.bytes(4, b"").varint(6, 1);
    });
    assert!(matches!(refused(&unknown), ArchiveError::Proto(_)));
    let function = archive_of(&second("1"), |writer| {
        writer.varint(1, 1);
    });
    assert_eq!(function.unwrap_err(), ArchiveError::HashFunction { found: 1 });
    let unknown = archive_of(&second("1"), |writer| {
        writer.varint(2, 1);
    });
    assert!(matches!(unknown.unwrap_err(), ArchiveError::Proto(_)));
}

#[test]
fn a_package_with_another_hash_is_refused() {
    let (_, archive) = archive::write(LfVersion::BUILT, b"");
    archive::Archive::parse(&archive).unwrap();
    // One letter of the hash, and one bit of what is hashed.
    let last = archive.len() - 1;
    for at in [last, 4] {
        let mut changed = archive.clone();
        changed[at] ^= 1;
        let error = archive::Archive::parse(&changed).unwrap_err();
        assert!(matches!(error, ArchiveError::Hash { .. }), "{error:?}");
    }
}
