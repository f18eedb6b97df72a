//! One file of tables. What a committed write has said is there after any crash.

use std::io;
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use crate::limit::STORE_CACHE_BYTES;

/// The file in the data directory.
pub const STORE_FILE: &str = "participant.redb";
/// The tables and records of this program. Another number is another program's store.
const SCHEMA: u32 = 1;
/// Where the schema is written.
const SCHEMA_KEY: &[u8] = b"schema";

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    /// Topology transactions that this node has signed for every synchronizer.
    Authorized,
    /// What became of commands, so that none is carried out twice.
    Commands,
    /// Contracts, by contract id.
    Contracts,
    /// DARs, by main package id.
    Dars,
    /// Keys, by fingerprint.
    Keys,
    /// What a synchronizer has accepted, by position.
    Log,
    /// Single values.
    Meta,
    /// Synchronizers that were registered, by alias.
    Synchronizers,
    /// Topology transactions that a synchronizer has accepted.
    Topology,
    /// Contract ids, by where they were created.
    Updates,
    /// Users, by id.
    Users,
}

impl Table {
    const ALL: [Self; 11] = [
        Self::Authorized,
        Self::Commands,
        Self::Contracts,
        Self::Dars,
        Self::Keys,
        Self::Log,
        Self::Meta,
        Self::Synchronizers,
        Self::Topology,
        Self::Updates,
        Self::Users,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Authorized => "authorized",
            Self::Commands => "commands",
            Self::Contracts => "contracts",
            Self::Dars => "dars",
            Self::Keys => "keys",
            Self::Log => "log",
            Self::Meta => "meta",
            Self::Synchronizers => "synchronizers",
            Self::Topology => "topology",
            Self::Updates => "updates",
            Self::Users => "users",
        }
    }

    const fn definition(self) -> Definition {
        TableDefinition::new(self.name())
    }
}

/// Why a store does not do its part.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its directory or file cannot be reached.
    #[error("{path} cannot be opened")]
    Open {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database does not do what it should.
    #[error("the store failed")]
    Database(#[source] Box<redb::Error>),
    /// A record is not what was written.
    #[error("the record {key} of the store's table {table} is damaged")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The key, as hex.
        key: String,
        /// What is wrong with it.
        source: minicbor::decode::Error,
    },
    /// It is a store of another program, or of another version of it.
    #[error("the store has schema {found:?}, and this program has {SCHEMA}")]
    Schema {
        /// What it says.
        found: Option<u32>,
    },
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// The store of one process. A second process is refused by the file's lock.
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the store of a directory. It is made if the directory has none.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let failed = |path: &Path, source| StoreError::Open { path: path.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
        let path = directory.join(STORE_FILE);
        let is_new = match std::fs::metadata(&path) {
            Ok(found) => found.len() == 0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(failed(&path, error)),
        };
        let database = Database::builder().set_cache_size(STORE_CACHE_BYTES).create(&path)?;
        let store = Self { database };
        if is_new {
            store.write(|write| {
                for table in Table::ALL {
                    write.transaction.open_table(table.definition())?;
                }
                write.put(Table::Meta, SCHEMA_KEY, &SCHEMA)
            })?;
        }
        match store.read().and_then(|read| read.one(Table::Meta, SCHEMA_KEY)) {
            Ok(Some(SCHEMA)) => Ok(store),
            Ok(found) => Err(StoreError::Schema { found }),
            // A crash before the first commit leaves a file without tables.
            Err(StoreError::Database(error))
                if matches!(*error, redb::Error::TableDoesNotExist(_)) =>
            {
                Err(StoreError::Schema { found: None })
            }
            Err(error) => Err(error),
        }
    }

    /// What is there now. Writes that follow do not change it.
    pub fn read(&self) -> Result<Read, StoreError> {
        Ok(Read { transaction: self.database.begin_read()? })
    }

    /// Does all of it or nothing. When it returns, it is on disk.
    pub fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Write) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.database.begin_write().map_err(StoreError::from)?;
        let write = Write { transaction };
        let done = change(&write)?;
        write.transaction.commit().map_err(StoreError::from)?;
        Ok(done)
    }
}

/// A state of the store.
pub struct Read {
    transaction: ReadTransaction,
}

impl Read {
    /// One record.
    pub fn one<T>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        let opened = self.transaction.open_table(table.definition())?;
        one(&opened, table, key)
    }

    /// Records from a key on, at most so many.
    pub fn some<T>(
        &self,
        table: Table,
        from: &[u8],
        count: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        let opened = self.transaction.open_table(table.definition())?;
        some(&opened, table, from, count)
    }

    /// All records of a small table.
    pub fn all<T>(&self, table: Table) -> Result<Vec<(Vec<u8>, T)>, StoreError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        self.some(table, &[], usize::MAX)
    }
}

/// A change of the store that is not done yet.
pub struct Write {
    transaction: WriteTransaction,
}

impl Write {
    /// One record, with everything that this change did.
    pub fn one<T>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        let opened = self.transaction.open_table(table.definition())?;
        one(&opened, table, key)
    }

    /// Writes a record, whatever was there.
    pub fn put<T: Encode<()>>(
        &self,
        table: Table,
        key: &[u8],
        value: &T,
    ) -> Result<(), StoreError> {
        let bytes = minicbor::to_vec(value).expect("a vector takes whatever is written");
        let mut opened = self.transaction.open_table(table.definition())?;
        opened.insert(key, bytes.as_slice())?;
        Ok(())
    }

    /// Takes a record away.
    pub fn remove(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let mut opened = self.transaction.open_table(table.definition())?;
        opened.remove(key)?;
        Ok(())
    }
}

fn one<T>(
    opened: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: Table,
    key: &[u8],
) -> Result<Option<T>, StoreError>
where
    T: for<'b> Decode<'b, ()>,
{
    let found = opened.get(key)?;
    found.map(|bytes| decode(table, key, bytes.value())).transpose()
}

fn some<T>(
    opened: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: Table,
    from: &[u8],
    count: usize,
) -> Result<Vec<(Vec<u8>, T)>, StoreError>
where
    T: for<'b> Decode<'b, ()>,
{
    let mut found = Vec::new();
    for entry in opened.range(from..)?.take(count) {
        let (key, bytes) = entry?;
        found.push((key.value().to_vec(), decode(table, key.value(), bytes.value())?));
    }
    Ok(found)
}

fn decode<T>(table: Table, key: &[u8], bytes: &[u8]) -> Result<T, StoreError>
where
    T: for<'b> Decode<'b, ()>,
{
    minicbor::decode(bytes).map_err(|source| StoreError::Corrupt {
        table: table.name(),
        key: hex::encode(key),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_after_opening_again_and_half_a_change_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store
            .write::<_, StoreError>(|write| {
                write.put(Table::Users, b"b", &2_u64)?;
                write.put(Table::Users, b"a", &1_u64)
            })
            .unwrap();
        let failed = store.write::<(), StoreError>(|write| {
            write.put(Table::Users, b"c", &3_u64)?;
            Err(StoreError::Schema { found: None })
        });
        assert!(failed.is_err());
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        let all = store.read().unwrap().all::<u64>(Table::Users).unwrap();
        assert_eq!(all, [(b"a".to_vec(), 1), (b"b".to_vec(), 2)]);
        let some = store.read().unwrap().some::<u64>(Table::Users, b"b", 1).unwrap();
        assert_eq!(some, [(b"b".to_vec(), 2)]);
    }

    #[test]
    fn another_schema_and_a_damaged_record_are_said() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let put = |table, key: &[u8]| {
            store.write::<_, StoreError>(|write| write.put(table, key, &"text")).unwrap();
        };
        put(Table::Keys, b"\x01");
        let error = store.read().unwrap().one::<u64>(Table::Keys, b"\x01").unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { key, .. } if key == "01"), "{error:?}");
        store
            .write::<_, StoreError>(|write| write.put(Table::Meta, SCHEMA_KEY, &(SCHEMA + 1)))
            .unwrap();
        drop(store);
        let error = Store::open(directory.path()).err().unwrap();
        assert!(matches!(error, StoreError::Schema { found: Some(2) }), "{error:?}");
    }
}
