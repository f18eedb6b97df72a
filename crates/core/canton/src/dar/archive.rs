//! One package as a file (`daml_lf.proto`): a payload, its hash, and in it a package of a version
//! of Daml-LF.

use std::fmt;

use heirloom_model::digest::sha256;

use crate::proto::{ProtoError, Reader, Writer};
use crate::types::PackageId;

/// A version of Daml-LF that packages are read of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LfVersion {
    major: u8,
    minor: u8,
}

impl LfVersion {
    /// What participants read, and packages on ledgers have (`LanguageVersion.scala` of 3.6 and of
    /// 2.10). Versions in development have no format that stays, and no ledger for real contracts
    /// takes them.
    const SUPPORTED: [(u8, &[u8]); 2] = [(1, &[6, 7, 8, 11, 12, 13, 14, 15, 17]), (2, &[1, 2, 3])];

    /// What the builder writes.
    pub(super) const BUILT: Self = Self { major: 2, minor: 1 };

    fn parse(major: u8, minor: &str) -> Result<Self, ArchiveError> {
        let unsupported = || {
            let minor = minor.chars().take(20).collect();
            ArchiveError::Version { major, minor }
        };
        let number: u8 = minor.parse().map_err(|_| unsupported())?;
        let (_, minors) =
            Self::SUPPORTED.iter().find(|(known, _)| *known == major).ok_or_else(unsupported)?;
        // What parses is not always what prints: "02".
        if number.to_string() != minor || !minors.contains(&number) {
            return Err(unsupported());
        }
        Ok(Self { major, minor: number })
    }

    /// 1 or 2: Daml 2 or Daml 3.
    pub fn major(&self) -> u8 {
        self.major
    }

    /// What follows the dot.
    pub fn minor(&self) -> u8 {
        self.minor
    }

    /// Names stand in tables, and declarations have their numbers.
    pub(super) fn has_tables(self) -> bool {
        self >= Self { major: 1, minor: 7 }
    }

    /// A package says its name and version.
    pub(super) fn has_metadata(self) -> bool {
        self >= Self { major: 1, minor: 8 }
    }

    /// Types stand in a table, and declarations have their numbers.
    pub(super) fn has_type_table(self) -> bool {
        self >= Self { major: 1, minor: 11 }
    }

    /// Kinds and expressions have tables too, types are applied one argument at a time, and other
    /// packages are named in a list.
    pub(super) fn is_flat(self) -> bool {
        self >= Self { major: 2, minor: 2 }
    }
}

impl fmt::Display for LfVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why bytes are not a package as a file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ArchiveError {
    /// They are not such a message.
    #[error("it is not an archive")]
    Proto(#[from] ProtoError),
    /// It is hashed otherwise.
    #[error("its hash function is number {found}; only SHA-256, number 0, is known")]
    HashFunction {
        /// The number.
        found: i32,
    },
    /// The payload is not the one that was hashed.
    #[error("it says that its hash is {stated:?}, and it is {computed}")]
    Hash {
        /// What it says, cut.
        stated: String,
        /// What it is.
        computed: PackageId,
    },
    /// A version that is not read.
    #[error("packages of Daml-LF {major}.{minor:?} are not read")]
    Version {
        /// Its first number.
        major: u8,
        /// The rest, cut.
        minor: String,
    },
    /// A package of a corrected format.
    #[error("it has patch {found} of its version of Daml-LF; none is known")]
    Patch {
        /// The patch.
        found: i32,
    },
    /// No package is in it.
    #[error("it holds no package of Daml-LF 1 or 2")]
    Empty,
    /// Two are.
    #[error("it holds two packages")]
    Two,
}

/// A package as its file has it: the hash is verified, the package itself is not read.
#[derive(Clone, Debug)]
pub(super) struct Archive<'a> {
    pub(super) id: PackageId,
    pub(super) version: LfVersion,
    pub(super) package: &'a [u8],
}

impl<'a> Archive<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let message = "Archive";
        let (mut payload, mut stated): (&[u8], &str) = (&[], "");
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => match field.int32()? {
                    0 => {}
                    found => return Err(ArchiveError::HashFunction { found }),
                },
                3 => payload = field.bytes()?,
                4 => stated = field.text()?,
                _ => return Err(field.unknown(message).into()),
            }
        }
        let id = package_id(payload);
        if id.as_str() != stated {
            let stated = stated.chars().take(80).collect();
            return Err(ArchiveError::Hash { stated, computed: id });
        }
        let (version, package) = read_payload(payload)?;
        Ok(Self { id, version, package })
    }
}

fn read_payload(payload: &[u8]) -> Result<(LfVersion, &[u8]), ArchiveError> {
    let (mut minor, mut patch) = ("", 0);
    let (mut first, mut second): (Option<&[u8]>, Option<&[u8]>) = (None, None);
    for field in Reader::new(payload) {
        let field = field?;
        match field.number() {
            2 => first = Some(field.bytes()?),
            3 => minor = field.text()?,
            4 => second = Some(field.bytes()?),
            5 => patch = field.int32()?,
            _ => return Err(field.unknown("ArchivePayload").into()),
        }
    }
    let (major, package) = match (first, second) {
        (Some(package), None) => (1, package),
        (None, Some(package)) => (2, package),
        (Some(_), Some(_)) => return Err(ArchiveError::Two),
        (None, None) => return Err(ArchiveError::Empty),
    };
    let version = LfVersion::parse(major, minor)?;
    if patch != 0 {
        return Err(ArchiveError::Patch { found: patch });
    }
    Ok((version, package))
}

/// The name of a payload.
fn package_id(payload: &[u8]) -> PackageId {
    hex::encode(sha256(&[payload])).parse().expect("64 hexadecimal digits are a package id")
}

/// Wraps a package of Daml-LF 2, and says its id.
pub(super) fn write(version: LfVersion, package: &[u8]) -> (PackageId, Vec<u8>) {
    let mut payload = Writer::default();
    payload.text(3, &version.minor.to_string()).bytes(4, package);
    let payload = payload.finish();
    let id = package_id(&payload);
    let mut archive = Writer::default();
    archive.bytes(3, &payload).text(4, id.as_str());
    (id, archive.finish())
}
