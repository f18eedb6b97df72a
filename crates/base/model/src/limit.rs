//! Every named limit on what comes from outside, with its reason.

/// Real quotes have 4 to 5 kB, padded ones 8 kB.
pub const EVIDENCE_BYTES_MAX: usize = 32 * 1024;
/// Real collateral has 10 to 20 kB; a platform family with many TCB levels some more.
pub const ENDORSEMENTS_BYTES_MAX: usize = 128 * 1024;
/// Collateral for this many platform families is kept; a fleet has a handful.
pub const ENDORSEMENTS_MAX: usize = 64;
/// One trust anchor: a root certificate has some 600 bytes.
pub const ANCHOR_BYTES_MAX: usize = 8 * 1024;
/// Certificates of TPM manufacturers that an attestation CA believes at once: a path has at most
/// this many below its roots, and a fleet has one or two makers.
pub const MANUFACTURERS_MAX: usize = 8;
/// Trust anchors of one root statement.
pub const ANCHORS_MAX: usize = 16;
/// Keys of one role. Thresholds are small: these are people.
pub const ROLE_KEYS_MAX: usize = 64;
/// Signatures on one statement: every key of the old and the new root.
pub const SIGNATURES_MAX: usize = 2 * ROLE_KEYS_MAX;
/// Nodes of one network.
pub const NODES_MAX: usize = 10_000;
/// Measurements that one policy names. Two releases, some platforms, many applications.
pub const POLICY_RULES_MAX: usize = 4_096;
/// Platforms that one policy names.
pub const PLATFORMS_MAX: usize = NODES_MAX;
/// Artifacts of one release.
pub const ARTIFACTS_MAX: usize = 64;
/// The largest file of a release in bytes: debug builds of keepers have some 100 MB.
pub const ARTIFACT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// All files of a release together: a keeper, what it needs beside it, and room to grow.
pub const RELEASE_BYTES_MAX: u64 = 4 * ARTIFACT_BYTES_MAX;
/// Steps of one plan: a dozen a node.
pub const STEPS_MAX: usize = 20 * NODES_MAX;
/// A plan for the largest network, with 200 bytes a step.
pub const PLAN_BYTES_MAX: usize = 48 * 1024 * 1024;
/// The payload of a statement other than a proposal.
pub const PAYLOAD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A whole statement with signatures and evidence.
pub const ENVELOPE_BYTES_MAX: usize = PLAN_BYTES_MAX + PAYLOAD_BYTES_MAX;
/// Entries in one answer of the registry.
pub const LOG_ENTRIES_MAX: usize = 1_024;
/// Bytes of entries in one answer, so that one large plan does not stop the reader.
pub const LOG_BATCH_BYTES_MAX: usize = 2 * ENVELOPE_BYTES_MAX;
/// Generations of one keyring. At one rotation an hour, a hundred years.
pub const GENERATIONS_MAX: u64 = 1_000_000;
/// Generations in one answer to a replica: 64 bytes each, so 128 kB.
pub const REPLICATION_BATCH_MAX: usize = 2_048;
/// Ephemeral secrets that a keeper keeps: the newest epochs, as Oasis does.
pub const EPHEMERAL_EPOCHS_MAX: usize = 20;
/// One message between a keeper and a peer or application.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// One message between an agent and its keeper: may carry log entries.
pub const ADMIN_MESSAGE_BYTES_MAX: usize = LOG_BATCH_BYTES_MAX + PAYLOAD_BYTES_MAX;
/// A sealed file: one replication batch with its header.
pub const SEALED_BYTES_MAX: usize = 256 * 1024;
/// How long an instance of an exclusive domain believes that it is still the active one after its
/// agent last read the log to its end, in milliseconds. Agents read four times in that time; an
/// instance that was killed is away for that much longer.
pub const ATTENDANCE_MILLISECONDS: u64 = 2_000;
/// Challenges that one statement issues.
pub const CHALLENGE_TARGETS_MAX: usize = NODES_MAX;
/// Peers of one instance of a service: each node attests each other one, so the matrix grows with
/// the square.
pub const SERVICE_PEERS_MAX: usize = 128;
/// Migrations of one flag day.
pub const MIGRATIONS_MAX: usize = 32;
/// Tests of one flag day.
pub const TESTS_MAX: usize = 32;
/// Keys of one service.
pub const SERVICE_KEYS_MAX: usize = 32;
/// Rehearsals of one set of terms that are remembered.
pub const REHEARSALS_MAX: usize = 64;
/// Parties of one participant that get a new name: two names of the greatest length each must fit
/// into one statement.
pub const PARTICIPANT_PARTIES_MAX: usize = 3_500;
/// Parties hosted elsewhere that one survey names, with those who host them.
pub const FOREIGN_PARTIES_MAX: usize = 2_000;
/// Participants that host one party.
pub const PARTY_HOSTS_MAX: usize = 32;
/// Synchronizers of one participant.
pub const SYNCHRONIZERS_MAX: usize = 32;
/// Participants that move together: each is compared with each other one.
pub const PARTICIPANTS_MAX: usize = 128;
/// What one survey says to people.
pub const SURVEY_REMARKS_MAX: usize = 256;
/// How many epochs a survey may be old when a plan is put forward that rests on it.
pub const SURVEY_EPOCHS_MAX: u64 = 256;
/// Free text in a statement, for people.
pub const NOTE_CHARACTERS_MAX: usize = 512;
/// Quoting identities whose verification is remembered: one or two a node of most fleets. Half a
/// kilobyte each.
pub const QUOTING_IDENTITIES_MAX: usize = 4_096;
/// Characters of a dotted name or identifier of Daml-LF (`Ref.DottedName`).
pub const LF_NAME_CHARACTERS_MAX: usize = 1_000;
/// Levels of one Daml value: the engine refuses deeper ones (`Value.MAXIMUM_NESTING`).
pub const VALUE_NESTING_MAX: usize = 100;
/// Nodes of one Daml value: a contract of [`CONTRACT_BYTES_MAX`] has no more.
pub const VALUE_NODES_MAX: usize = 1_000_000;
/// One contract as a participant exports it. Synchronizers take requests of 10 MiB.
pub const CONTRACT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// One message of a snapshot: a contract as blob and once more as readable value.
pub const SNAPSHOT_FRAME_BYTES_MAX: usize = 4 * CONTRACT_BYTES_MAX;
/// Signatories, observers or maintainers of one contract.
pub const STAKEHOLDERS_MAX: usize = 100_000;
/// One topology transaction: a vetting of some ten thousand packages.
pub const TOPOLOGY_TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Signatures on one topology transaction.
pub const TOPOLOGY_SIGNATURES_MAX: usize = 1_024;
/// Elements of one list in a topology mapping: owners, keys, hosts, packages.
pub const TOPOLOGY_ELEMENTS_MAX: usize = 50_000;
/// A whole topology snapshot: the one of the largest network has some 5 MB.
pub const TOPOLOGY_SNAPSHOT_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Transactions of one topology snapshot.
pub const TOPOLOGY_ITEMS_MAX: usize = 1_000_000;
/// One public or private key in its standard form: RSA-4096 as PKCS#8 has 2.4 kB.
pub const LEDGER_KEY_BYTES_MAX: usize = 8 * 1024;
/// One file of packages: the largest public ones have some 5 MB.
pub const DAR_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Files in one file of packages, sources and interfaces of the compiler among them.
pub const DAR_ENTRIES_MAX: usize = 16_384;
/// The longest name of such a file: folder and file each have name, version and package id.
pub const DAR_NAME_BYTES_MAX: usize = 1_024;
/// One such file, unpacked. Participants take up to 1 GiB, which nobody needs.
pub const DAR_ENTRY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// All such files together, unpacked.
pub const DAR_UNPACKED_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// The manifest of a file of packages: one line of some 200 bytes a package.
pub const DAR_MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Packages in one file of packages.
pub const DAR_PACKAGES_MAX: usize = 4_096;
/// Entries of each table of a package: strings, dotted names, types, kinds.
pub const LF_TABLE_ENTRIES_MAX: usize = 1_000_000;
/// Modules, or declarations of one kind in a module.
pub const LF_DEFINITIONS_MAX: usize = 100_000;
/// Levels of one type. Participants read older packages, which nest types, up to 1000 levels of
/// messages; no type that people write has ten.
pub const LF_TYPE_NESTING_MAX: usize = 64;
/// Nodes of all types of one file of packages after references into tables are followed: tables are
/// small, and what they stand for could be exponentially large.
pub const LF_TYPE_NODES_MAX: usize = 2_000_000;
