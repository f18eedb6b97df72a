//! Named limits of a participant and of its synchronizer, with their reasons.

use std::time::Duration;

/// A configuration file. It has a few dozen lines.
pub const CONFIGURATION_BYTES_MAX: u64 = 256 * 1024;
/// One message to a participant, as the real one has it by default.
pub const INBOUND_MESSAGE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// One answer of a participant: a DAR, or an event of a large contract.
pub const OUTBOUND_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// One message between a participant and the synchronizer: a transaction with all its contracts.
pub const SYNCHRONIZER_MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Uncompressed bytes of a snapshot that is imported. The real one has no limit of its own; this
/// one keeps a small test node from being filled by one call.
pub const IMPORT_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Contracts that are made durable together while a snapshot is imported.
pub const IMPORT_BATCH_CONTRACTS: usize = 200;
/// Bytes of one chunk of an exported snapshot.
pub const EXPORT_CHUNK_BYTES: usize = 64 * 1024;
/// Contracts that are read from the store in one go.
pub const READ_CONTRACTS: usize = 500;
/// Chunks and events that wait for a slow caller.
pub const STREAM_QUEUE: usize = 8;
/// Commands in one submission.
pub const COMMANDS_MAX: usize = 1_000;
/// Parties that may act in one submission.
pub const ACT_AS_MAX: usize = 100;
/// How deep a value of a command may be nested, as the ledger has it.
pub const VALUE_DEPTH_MAX: usize = 100;
/// Parties, users and transactions in one answer when the caller asks for no fewer.
pub const PAGE_MAX: usize = 10_000;
/// The longest name of a key and of a KMS key, as the real one has it.
pub const KEY_NAME_CHARACTERS_MAX: usize = 300;
/// The longest identifier of a user, command or synchronizer alias.
pub const LABEL_CHARACTERS_MAX: usize = 255;
/// Keys that a node has. A real one has four, and a few more after rotations.
pub const SERVER_KEYS_MAX: usize = 1_000;
/// Synchronizers that a participant knows.
pub const SERVER_SYNCHRONIZERS_MAX: usize = 16;
/// Participants that follow one synchronizer at the same time.
pub const FOLLOWERS_MAX: usize = 64;
/// Entries of the log that wait for a slow follower before it is cut off; it comes back and reads
/// them from the store.
pub const FOLLOWER_QUEUE: usize = 256;
/// How long a participant may take to confirm a transaction, in milliseconds, as in the real one.
pub const CONFIRMATION_MS: u64 = 30_000;
/// How long a participant may take to see what the synchronizer has accepted.
pub const OBSERVATION_MAX: Duration = Duration::from_mins(1);
/// How long to rest before a lost connection to the synchronizer is made again.
pub const RECONNECT_REST: Duration = Duration::from_millis(250);
/// How long a connection may take to be made.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Memory for pages of the store.
pub const STORE_CACHE_BYTES: usize = 64 * 1024 * 1024;
