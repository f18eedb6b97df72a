//! Layouts of the database, and how one becomes the next.
//!
//! Pure: for each record of the old layout, the records that the new one has beside it. Storage
//! calls the same functions when it appends a block, so a migrated database and one that was made
//! in the new layout cannot differ.

use heirloom_model::identifier::{MigrationName, ReleaseName};
use heirloom_model::service::{Height, SchemaVersion};

use crate::output::{Output, OutputId, OutputRecord};
use crate::transaction::TransactionId;

/// Outputs by id, and nothing else.
pub const SCHEMA_OUTPUTS: SchemaVersion = SchemaVersion(1);
/// Public outputs by owner too.
pub const SCHEMA_OWNERS: SchemaVersion = SchemaVersion(2);
/// Heights of transactions too.
pub const SCHEMA_TRANSACTIONS: SchemaVersion = SchemaVersion(3);

/// A release that this program does not know: it cannot know which schema it serves.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("release {release} is none whose schema is known")]
pub struct UnknownRelease {
    /// The release.
    pub release: ReleaseName,
}

/// The first characters of the names of releases, and the one schema that they serve.
const RELEASES: [(&str, SchemaVersion); 2] =
    [("ledger-1.", SCHEMA_OWNERS), ("ledger-2.", SCHEMA_TRANSACTIONS)];

/// The one schema that a release serves. The name stands in its measured manifest.
pub fn schema_of(release: &ReleaseName) -> Result<SchemaVersion, UnknownRelease> {
    let serves = |(prefix, _): &&(&str, SchemaVersion)| release.as_str().starts_with(prefix);
    let found = RELEASES.iter().find(serves).map(|(_, schema)| *schema);
    found.ok_or_else(|| UnknownRelease { release: release.clone() })
}

/// A change of the layout, from one schema to the next.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Migration {
    /// 1 to 2: an index of public outputs by owner.
    OutputsByOwner,
    /// 2 to 3: an index of heights by transaction.
    HeightOfTransaction,
}

/// An index beside the records that every schema has.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Index {
    /// From owner and output id to nothing.
    OutputsByOwner,
    /// From transaction id to height.
    HeightOfTransaction,
}

/// One record of an index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IndexRecord {
    /// The index.
    pub index: Index,
    /// Where it stands.
    pub key: Vec<u8>,
    /// What stands there.
    pub value: Vec<u8>,
}

/// Why there is no way from one schema to another.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoWay {
    /// The schema is none that this release knows.
    #[error("schema {found} is not known")]
    UnknownSchema {
        /// The schema.
        found: SchemaVersion,
    },
    /// Migrations only go forward.
    #[error("schema {to} is older than {from}: restore the snapshot instead")]
    Backward {
        /// What is there.
        from: SchemaVersion,
        /// What was asked for.
        to: SchemaVersion,
    },
    /// The names are not those of the way.
    #[error("from schema {from} to {to} the migrations are {expected:?}, not {found:?}")]
    OtherMigrations {
        /// What is there.
        from: SchemaVersion,
        /// What was asked for.
        to: SchemaVersion,
        /// The names of the way.
        expected: Vec<&'static str>,
        /// The names that were asked for.
        found: Vec<String>,
    },
}

impl Migration {
    /// All of them, in order.
    pub const ALL: [Self; 2] = [Self::OutputsByOwner, Self::HeightOfTransaction];

    /// The name that plans have.
    pub fn name(self) -> &'static str {
        match self {
            Self::OutputsByOwner => "outputs-by-owner",
            Self::HeightOfTransaction => "height-of-transaction",
        }
    }

    /// The schema before.
    pub fn from(self) -> SchemaVersion {
        match self {
            Self::OutputsByOwner => SCHEMA_OUTPUTS,
            Self::HeightOfTransaction => SCHEMA_OWNERS,
        }
    }

    /// The schema after.
    pub fn to(self) -> SchemaVersion {
        match self {
            Self::OutputsByOwner => SCHEMA_OWNERS,
            Self::HeightOfTransaction => SCHEMA_TRANSACTIONS,
        }
    }
}

/// The migrations from one schema to another, in order.
pub fn way(from: SchemaVersion, to: SchemaVersion) -> Result<Vec<Migration>, NoWay> {
    for found in [from, to] {
        if !(SCHEMA_OUTPUTS..=SCHEMA_TRANSACTIONS).contains(&found) {
            return Err(NoWay::UnknownSchema { found });
        }
    }
    if to < from {
        return Err(NoWay::Backward { from, to });
    }
    let between = |migration: &Migration| from <= migration.from() && migration.to() <= to;
    Ok(Migration::ALL.into_iter().filter(between).collect())
}

/// As [`way`], for a plan that names the migrations: other names, or another order, are refused.
pub fn named_way(
    from: SchemaVersion,
    to: SchemaVersion,
    names: &[MigrationName],
) -> Result<Vec<Migration>, NoWay> {
    let way = way(from, to)?;
    let expected = way.iter().map(|migration| migration.name());
    if names.iter().map(MigrationName::as_str).eq(expected.clone()) {
        return Ok(way);
    }
    let found = names.iter().map(ToString::to_string).collect();
    Err(NoWay::OtherMigrations { from, to, expected: expected.collect(), found })
}

/// What an output adds to the indexes of a schema.
pub fn records_of_output(
    schema: SchemaVersion,
    id: &OutputId,
    record: &OutputRecord,
) -> Option<IndexRecord> {
    match record.output {
        Output::Public { owner, .. } if schema >= SCHEMA_OWNERS => {
            let key = [owner.as_bytes().as_slice(), id.as_bytes()].concat();
            Some(IndexRecord { index: Index::OutputsByOwner, key, value: Vec::new() })
        }
        Output::Public { .. } | Output::Private { .. } => None,
    }
}

/// What a transaction adds to the indexes of a schema.
pub fn records_of_transaction(
    schema: SchemaVersion,
    id: &TransactionId,
    height: Height,
) -> Option<IndexRecord> {
    (schema >= SCHEMA_TRANSACTIONS).then(|| IndexRecord {
        index: Index::HeightOfTransaction,
        key: id.as_bytes().to_vec(),
        value: height.0.to_be_bytes().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_serves_one_schema_and_unknown_ones_none() {
        for (name, expected) in [
            ("ledger-1.0.0", Some(2)),
            ("ledger-1.9.3", Some(2)),
            ("ledger-2.0.0", Some(3)),
            ("ledger-3.0.0", None),
            ("ledger-10.0.0", None),
            ("ledger", None),
            ("keeper-1.0.0", None),
        ] {
            let found = schema_of(&name.parse().unwrap());
            assert_eq!(found.ok(), expected.map(SchemaVersion), "{name}");
        }
    }

    #[test]
    fn the_way_is_forward_and_named_exactly() {
        let names = |names: &[&str]| -> Vec<MigrationName> {
            names.iter().map(|name| name.parse().unwrap()).collect()
        };
        let both = ["outputs-by-owner", "height-of-transaction"];
        let (one, two, three) = (SchemaVersion(1), SchemaVersion(2), SchemaVersion(3));
        assert_eq!(named_way(one, three, &names(&both)), Ok(Migration::ALL.to_vec()));
        assert_eq!(named_way(two, two, &[]), Ok(Vec::new()));
        for wrong in [&both[..1], &both[1..], &["height-of-transaction", "outputs-by-owner"]] {
            let refused = named_way(one, three, &names(wrong));
            assert!(matches!(refused, Err(NoWay::OtherMigrations { .. })), "{wrong:?}");
        }
        assert_eq!(way(three, two), Err(NoWay::Backward { from: three, to: two }));
        for found in [SchemaVersion(0), SchemaVersion(4)] {
            assert_eq!(way(one, found), Err(NoWay::UnknownSchema { found }));
            assert_eq!(way(found, three), Err(NoWay::UnknownSchema { found }));
        }
    }
}
