//! The reference ledger in LMDB: schema versions, snapshots, migrations, archive.
