use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use heirloom_model::limit::{DAR_ENTRIES_MAX, DAR_NAME_BYTES_MAX};

use super::super::zip::{self, ZipError};

const NAME: &str = "folder/name.txt";
const CONTENT: &[u8] = b"Some content of the only file, some content of the only file.";

fn plain() -> Vec<u8> {
    zip::write(&[(NAME.to_owned(), CONTENT.to_vec())])
}

/// Where the directory begins in a file of one entry.
fn directory(file: &[u8]) -> usize {
    file.len() - 22 - 46 - NAME.len()
}

/// Replaces bytes.
fn patched(mut file: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

/// Replaces bytes in the entry and, at the offset of the same field, in the directory.
fn patched_both(file: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    let directory = directory(&file);
    let file = patched(file, at, bytes);
    patched(file, directory + at + 2, bytes)
}

fn refusal(file: &[u8]) -> ZipError {
    zip::entries(file).unwrap_err()
}

/// The same file with its content deflated.
fn deflated(packed: &[u8], bytes: u32) -> Vec<u8> {
    let mut file = zip::write(&[(NAME.to_owned(), packed.to_vec())]);
    let mut crc = flate2::Crc::new();
    crc.update(CONTENT);
    file = patched_both(file, 8, &8_u16.to_le_bytes());
    file = patched_both(file, 14, &crc.sum().to_le_bytes());
    patched_both(file, 22, &bytes.to_le_bytes())
}

fn packed() -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(CONTENT).unwrap();
    encoder.finish().unwrap()
}

fn length() -> u32 {
    u32::try_from(CONTENT.len()).unwrap()
}

#[test]
fn stored_and_deflated_files_are_read() {
    for file in [plain(), deflated(&packed(), length())] {
        let entries = zip::entries(&file).unwrap();
        assert_eq!(entries[NAME].unpack().unwrap(), CONTENT);
    }
}

#[test]
fn each_rule_of_the_directory_refuses_by_itself() {
    let end = plain().len() - 22;
    let many = u16::try_from(DAR_ENTRIES_MAX + 1).unwrap().to_le_bytes();
    let ends = |at: usize, bytes: &[u8]| refusal(&patched(plain(), end + at, bytes));
    assert_eq!(refusal(b"PK"), ZipError::NoDirectory);
    assert_eq!(ends(0, b"X"), ZipError::NoDirectory);
    assert_eq!(refusal(&[plain(), vec![0]].concat()), ZipError::NoDirectory);
    // A comment may hide a second directory.
    assert_eq!(ends(20, &[1]), ZipError::NoDirectory);
    assert_eq!(ends(4, &[1]), ZipError::Volumes);
    assert_eq!(ends(6, &[1]), ZipError::Volumes);
    assert_eq!(ends(8, &[2]), ZipError::Volumes);
    assert_eq!(ends(8, &[0xff; 4]), ZipError::SixtyFourBit);
    assert_eq!(ends(16, &[0xff; 4]), ZipError::SixtyFourBit);
    assert_eq!(
        ends(8, &[many, many].concat()),
        ZipError::TooManyEntries { entries: DAR_ENTRIES_MAX + 1 }
    );
    assert_eq!(ends(8, &[2, 0, 2, 0]), ZipError::Malformed { what: "an entry of the directory" });
    assert_eq!(ends(8, &[0, 0, 0, 0]), ZipError::Malformed { what: "the directory" });
    assert_eq!(ends(12, &[0]), ZipError::NoDirectory);
    assert_eq!(ends(16, &[0]), ZipError::NoDirectory);
}

#[test]
fn each_rule_of_an_entry_refuses_by_itself() {
    let name = || NAME.to_owned();
    let both = |at: usize, bytes: &[u8]| refusal(&patched_both(plain(), at, bytes));
    let encrypted = ZipError::Encrypted { name: name() };
    assert_eq!(both(6, &[0x01, 0x08]), encrypted);
    assert_eq!(both(6, &[0x40, 0x08]), encrypted);
    assert_eq!(both(6, &[0x00, 0x28]), encrypted);
    let unsupported = |flags, method| ZipError::Unsupported { name: name(), flags, method };
    assert_eq!(both(6, &[0x20, 0x08]), unsupported(0x0820, 0));
    assert_eq!(both(8, &[12]), unsupported(0x0800, 12));
    // A stored file whose sizes follow has no beginning of what follows.
    assert_eq!(both(6, &[0x08, 0x08]), unsupported(0x0808, 0));
    let large = 0x2000_0000_u32;
    let bytes = usize::try_from(large).unwrap();
    assert_eq!(both(22, &large.to_le_bytes()), ZipError::EntryTooLarge { name: name(), bytes });
    let bytes = CONTENT.len() * 1_040 + 1;
    let bomb = u32::try_from(bytes).unwrap().to_le_bytes();
    assert_eq!(both(22, &bomb), ZipError::Bomb { name: name(), packed: CONTENT.len(), bytes });
    assert_eq!(both(18, &[0xff; 4]), ZipError::SixtyFourBit);
    let signature = |at: usize| refusal(&patched(plain(), at, b"X"));
    assert_eq!(signature(0), ZipError::Malformed { what: "an entry" });
    assert_eq!(
        signature(directory(&plain())),
        ZipError::Malformed { what: "an entry of the directory" }
    );
    let volume = refusal(&patched(plain(), directory(&plain()) + 34, &[1]));
    assert_eq!(volume, ZipError::Volumes);
}

#[test]
fn an_entry_and_the_directory_must_agree() {
    let fields = [
        (6, "flags"),
        (8, "method"),
        (14, "checksum"),
        (18, "packed size"),
        (22, "size"),
        (30, "name"),
    ];
    for (at, what) in fields {
        let mut file = plain();
        file[at] ^= if at == 8 { 8 } else { 2 };
        let expected = ZipError::Disagreement { name: NAME.to_owned(), what };
        assert_eq!(refusal(&file), expected);
    }
}

#[test]
fn bytes_between_entries_are_refused() {
    let files = [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())];
    let file = zip::write(&files);
    zip::entries(&file).unwrap();
    // The directory names the second entry at the place of the first, then with a gap before it.
    let second = file.len() - 22 - 47;
    for (offset, found) in [(0_u8, 0), (33, 33)] {
        let changed = patched(file.clone(), second + 42, &[offset]);
        assert_eq!(refusal(&changed), ZipError::NotContiguous { expected: 32, found });
    }
    // A byte that belongs to nobody, in front of the directory.
    let at = file.len() - 22 - 2 * 47;
    let mut changed = file.clone();
    changed.insert(at, 0);
    let end = changed.len() - 22;
    let begins = u32::try_from(at + 1).unwrap().to_le_bytes();
    let changed = patched(changed, end + 16, &begins);
    assert_eq!(refusal(&changed), ZipError::NotContiguous { expected: at, found: at + 1 });
}

#[test]
fn names_stay_below_their_folder() {
    let long = "n".repeat(DAR_NAME_BYTES_MAX + 1);
    let names = [
        ("../x", "leads elsewhere"),
        ("a/../x", "leads elsewhere"),
        ("a//x", "leads elsewhere"),
        ("./x", "leads elsewhere"),
        ("/x", "is absolute or of another system"),
        ("a\\x", "is absolute or of another system"),
        ("C:x", "is absolute or of another system"),
        ("a\nx", "has a control character"),
        ("", "is empty"),
        (long.as_str(), "is too long"),
    ];
    for (name, problem) in names {
        let file = zip::write(&[(name.to_owned(), Vec::new())]);
        let name = name.chars().take(80).collect();
        assert_eq!(refusal(&file), ZipError::Name { name, problem });
    }
    let error = refusal(&patched_name(0xff));
    assert!(matches!(error, ZipError::Name { problem: "is not UTF-8", .. }), "{error:?}");
    for name in ["a", "a/b.dalf", "folder/", "a..b", "META-INF/MANIFEST.MF"] {
        zip::entries(&zip::write(&[(name.to_owned(), Vec::new())])).unwrap();
    }
}

fn patched_name(byte: u8) -> Vec<u8> {
    let at = directory(&plain()) + 46;
    patched(plain(), at, &[byte])
}

#[test]
fn two_entries_of_one_name_are_refused() {
    let file = zip::write(&[("a".to_owned(), Vec::new()), ("a".to_owned(), Vec::new())]);
    assert_eq!(refusal(&file), ZipError::Duplicate { name: "a".to_owned() });
}

#[test]
fn what_does_not_unpack_to_what_it_says_is_corrupt() {
    let problem = |file: &[u8]| match zip::entries(file).unwrap()[NAME].unpack().unwrap_err() {
        ZipError::Corrupt { problem, .. } => problem,
        other => panic!("{other:?}"),
    };
    let content = 30 + NAME.len();
    assert_eq!(problem(&patched(plain(), content, b"X")), "its checksum differs");
    let shorter = patched_both(plain(), 22, &(length() - 1).to_le_bytes());
    assert_eq!(problem(&shorter), "its size differs");
    let packed = packed();
    assert_eq!(problem(&deflated(&packed, length() + 1)), "its size differs");
    let less = problem(&deflated(&packed, length() - 1));
    assert_eq!(less, "its stream does not end where it says");
    let cut = &packed[..packed.len() - 1];
    assert_eq!(problem(&deflated(cut, length())), "its stream does not end where it says");
    let more = [packed.as_slice(), &[0]].concat();
    assert_eq!(problem(&deflated(&more, length())), "bytes follow its stream");
    assert_eq!(problem(&deflated(&[0xff; 40], length())), "it is not a deflate stream");
}
