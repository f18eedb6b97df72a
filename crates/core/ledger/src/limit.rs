//! Every named limit of the ledger, with its reason.

/// Outputs that one transaction spends: enough to sweep an account in a few transactions.
pub const INPUTS_MAX: usize = 16;
/// Outputs that one transaction makes.
pub const OUTPUTS_MAX: usize = 16;
/// One transaction: at the limits above it has some 6 kB.
pub const TRANSACTION_BYTES_MAX: usize = 7 * 1024;
/// Transactions of one block, whatever the configuration says.
pub const BLOCK_TRANSACTIONS_MAX: usize = 512;
/// Accounts that a network starts with.
pub const ALLOCATIONS_MAX: usize = 1_024;
/// One block: its transactions at their largest, and room for what is around them.
pub const BLOCK_BYTES_MAX: usize = BLOCK_TRANSACTIONS_MAX * TRANSACTION_BYTES_MAX + 128 * 1024;
/// The proof of who proposed a block.
pub const METADATA_BYTES_MAX: usize = 512;
/// One configuration: an allocation has some 50 bytes.
pub const CONFIGURATION_BYTES_MAX: usize = 128 * 1024;
/// One record of an output in the database.
pub const OUTPUT_RECORD_BYTES_MAX: usize = 512;
/// Transactions that wait for a block: some seconds of work at full speed.
pub const PENDING_MAX: usize = 4_096;
/// Outputs in one answer to a client. Each has some 130 bytes.
pub const ANSWER_OUTPUTS_MAX: usize = 64;
/// Outputs that one view request looks through, so that nobody keeps a node busy.
pub const SCAN_OUTPUTS_MAX: usize = 4_096;
/// Every request of a client has this size: the largest transaction and what is around it.
pub const REQUEST_BYTES: usize = 8 * 1024;
/// Every answer to a client has this size: the largest page of outputs and what is around it.
pub const ANSWER_BYTES: usize = 16 * 1024;
/// Words about an error, for people.
pub const REASON_CHARACTERS_MAX: usize = 512;
/// The name of a network, for people.
pub const NETWORK_NAME_CHARACTERS_MAX: usize = 63;
/// How far ahead a transaction may be valid, whatever the configuration says: nodes remember what
/// is pending for that long.
pub const TOMBSTONE_DISTANCE_MAX: u64 = 100_000;
