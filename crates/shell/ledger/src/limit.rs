//! Named limits of a node and of its tools, with their reasons.

use std::time::Duration;

/// Sessions of peers at the same time: two for every other node while one of them is replaced.
pub const PEER_SESSIONS_MAX: usize = 2 * heirloom_model::limit::SERVICE_PEERS_MAX;
/// Connections of agents at the same time. There is one agent; tools look now and then.
pub const CONTROL_CONNECTIONS_MAX: usize = 16;
/// How long an agent may be silent between two requests.
pub const CONTROL_IDLE_MAX: Duration = Duration::from_mins(5);
/// How long a peer may be silent: it says something several times a second.
pub const PEER_IDLE_MAX: Duration = Duration::from_secs(10);
/// How long a peer may take to be reached and attested.
pub const PEER_CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a peer may take for one answer.
pub const PEER_ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often peers tell each other where their ledgers end when they have nothing else to say.
pub const PEER_EXCHANGE: Duration = Duration::from_millis(100);
/// How long to rest after a peer could not be reached.
pub const PEER_REST: Duration = Duration::from_millis(200);
/// How long to rest after a session in which one side refused the other: that takes people.
pub const PEER_REFUSED_REST: Duration = Duration::from_secs(1);
/// Questions that wait for a peer. Consensus has a few at a time; the rest are payments.
pub const PEER_QUEUE_MAX: usize = 4_096;
/// One message between peers: below what a session carries, with room for its frame.
pub const PEER_MESSAGE_BYTES_MAX: usize = 960 * 1024;
/// Bytes of blocks in one message to a peer that lags.
pub const BLOCKS_BYTES_MAX: usize = 512 * 1024;
/// Blocks in one message to a peer that lags.
pub const BLOCKS_MAX: usize = 1_024;
/// Transactions that wait for a block, on one node. Beyond them clients are asked to come back.
pub const POOL_MAX: usize = 10_000;
/// Transactions in one message to the leader.
pub const FORWARD_MAX: usize = 256;
/// How long to wait before a transaction is told to the leader again.
pub const FORWARD_AGAIN: Duration = Duration::from_millis(500);
/// Refused peers that are remembered by reason and name, for people.
pub const REFUSALS_MAX: usize = 64;
/// How long a client may wait for a receipt in one request.
pub const WAIT_MS_MAX: u64 = 5_000;
/// The body of a request of a client: one transaction.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Requests of clients at the same time.
pub const REQUESTS_MAX: usize = 1_024;
/// Connections of one entrance at the same time: clients cannot take the operator's, and all of
/// them together leave files for the ledger and for peers.
pub const CLIENT_CONNECTIONS_MAX: usize = 384;
/// How long a connection may take from one answer to the end of the next request, head and body,
/// or for taking an answer. Longer than any answer takes, and than a proxy keeps a connection that
/// it does not use.
pub const CLIENT_IDLE_MAX: Duration = Duration::from_secs(30);
/// Outputs in one answer about an owner.
pub const OUTPUTS_MAX: usize = 1_024;
/// Log entries between two snapshots: each is a note of where the ledger stands.
pub const ENTRIES_PER_SNAPSHOT: u64 = 5_000;
/// Log entries that are kept behind a snapshot, for peers that lag a little.
pub const ENTRIES_KEPT: u64 = 1_000;
/// Log entries in one message: fewer when blocks are large.
pub const ENTRIES_PER_MESSAGE: u64 = 64;
/// One record of the file with votes and log: an entry with one block, in text.
pub const RECORD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The file with votes and log is written anew at a start when it has more bytes than this.
pub const VOTES_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A configuration file.
pub const CONFIGURATION_BYTES_MAX: usize = 256 * 1024;
/// A wallet file.
pub const WALLET_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the follower waits for the next entry before it looks whether it should end.
pub const WATCH_TIME: Duration = Duration::from_millis(250);
/// How long the follower rests after the registry could not be reached.
pub const FOLLOW_REST: Duration = Duration::from_millis(250);
/// How long a start waits for one try to get a key; tries go on until there is one.
pub const KEY_TIME: Duration = Duration::from_secs(5);
/// Transactions of one proposed block, in bytes: in text and with what is around them they fit
/// into one message of consensus.
pub const BLOCK_ENCODED_BYTES_MAX: usize = 320 * 1024;
/// How long requests may still run after the node was told to end.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(2);
/// How long evidence for clients is shown before the platform is asked again: clients cannot make
/// it work for them.
pub const EVIDENCE_TIME: Duration = Duration::from_mins(1);
/// How often a leader shows that it is there.
pub const HEARTBEAT_MS: u64 = 250;
/// How long what a peer said about its ledger counts: it says it several times while a leader
/// shows once that it is there.
pub const POSITION_TIME: Duration = Duration::from_millis(4 * HEARTBEAT_MS);
/// How long nobody may have been heard before somebody else wants to lead, at least and at most.
pub const ELECTION_MS: (u64, u64) = (1_200, 2_400);
