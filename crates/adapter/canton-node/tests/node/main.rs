//! A participant as a server of its interfaces that answers as each test says.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod fake;
mod sequencers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use fake::{Fake, Script};
use heirloom_canton_node::error::{NodeError, Refusal};
use heirloom_canton_node::node::config::{Deadlines, Endpoint, NodeConfig};
use heirloom_canton_node::node::{
    ContractsError, ExportRequest, ImportRequest, Node, Shape, Standing, Waiting,
};
use heirloom_canton_node::wire::participant::SynchronizerConnectionConfig;
use heirloom_canton_node::wire::{health, participant};
use prost::Message;

const PARTICIPANT: &str = "node::1220aa";
const SYNCHRONIZER: &str = "global::1220ff";

fn config(address: &str) -> NodeConfig {
    NodeConfig {
        name: "the fake".to_owned(),
        admin: Endpoint::plain(address),
        ledger: Endpoint::plain(address),
        deadlines: Deadlines {
            connect: Duration::from_secs(2),
            read: Duration::from_millis(300),
            change: Duration::from_millis(300),
            stream: Duration::from_millis(300),
            import: Duration::from_secs(10),
            rest: Duration::from_millis(10),
        },
    }
}

fn serve(script: &Script) -> (Fake, Node) {
    let fake = Fake::serve(script);
    let node = Node::open(&config(&fake.address)).unwrap();
    (fake, node)
}

fn of_version(version: &str) -> Script {
    Script { status: Some(fake::ready(PARTICIPANT, version)), ..Script::default() }
}

#[test]
fn the_version_decides_the_shape_and_an_old_server_is_refused_by_name() {
    for (version, shape) in [("3.3.9", Shape::V33), ("3.4.1", Shape::V34), ("3.6.0", Shape::V35)] {
        let (_fake, node) = serve(&of_version(version));
        assert_eq!(node.shape().unwrap(), shape, "{version}");
    }
    for version in ["2.10.4", "3.2.0", "4.0.0"] {
        let (_fake, node) = serve(&of_version(version));
        let error = node.shape().unwrap_err();
        assert!(error.to_string().contains(version), "{error}");
        assert!(matches!(error, NodeError::Refused { .. }), "{error:?}");
    }
    // 2.x knows no service of this name.
    let (_fake, node) = serve(&Script { is_second_major: true, ..Script::default() });
    let error = node.standing().unwrap_err();
    let cause = Refusal::Unimplemented;
    assert!(matches!(&error, NodeError::Refused { cause: c, .. } if *c == cause), "{error:?}");
    assert!(error.to_string().contains("3.3 or later"), "{error}");
}

#[test]
fn a_participant_without_a_name_says_what_it_waits_for_and_unknown_words_are_other() {
    for (number, expected) in [(1, Waiting::Id), (2, Waiting::Topology), (77, Waiting::Other)] {
        let waits = health::NotInitialized {
            active: true,
            waiting_for_external_input: number,
            version: String::new(),
        };
        let kind = participant::participant_status_response::Kind::NotInitialized(waits);
        let status = participant::ParticipantStatusResponse { kind: Some(kind) };
        let (_fake, node) = serve(&Script { status: Some(status), ..Script::default() });
        let standing = node.standing().unwrap();
        assert_eq!(standing, Standing::Waiting { waiting: expected, version: None });
        assert!(matches!(node.shape(), Err(NodeError::Refused { .. })));
    }
}

#[test]
fn a_synchronizer_of_unknown_health_is_not_healthy() {
    let mut script = of_version("3.5.1");
    let Some(participant::participant_status_response::Kind::Status(status)) =
        script.status.as_mut().and_then(|status| status.kind.as_mut())
    else {
        unreachable!("it is ready")
    };
    for health in [1, 2, 99] {
        status.connected_synchronizers.push(participant::ConnectedSynchronizer {
            physical_synchronizer_id: format!("{SYNCHRONIZER}::35-0"),
            health,
        });
    }
    let (_fake, node) = serve(&script);
    let Standing::Ready { connected, .. } = node.standing().unwrap() else { panic!("ready") };
    let healthy: Vec<bool> = connected.iter().map(|one| one.is_healthy).collect();
    assert_eq!(healthy, [true, false, false]);
    assert_eq!(connected[0].protocol, Some(35));
    assert_eq!(connected[0].synchronizer.as_str(), SYNCHRONIZER);
}

#[test]
fn silence_is_unreachable_for_a_question_and_unknown_for_a_change() {
    let (fake, node) = serve(&Script { is_silent: true, ..of_version("3.5.1") });
    let error = node.standing().unwrap_err();
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error:?}");
    // A question is asked some times, a change once.
    assert_eq!(fake.asked("ParticipantStatus"), 3);
    let error = node.disconnect_all().unwrap_err();
    assert!(matches!(error, NodeError::Unknown { .. }), "{error:?}");
    assert_eq!(fake.asked("DisconnectAllSynchronizers"), 1);
}

#[test]
fn where_nobody_listens_nothing_was_changed() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let node = Node::open(&config(&format!("http://127.0.0.1:{port}"))).unwrap();
    let error = node.disconnect_all().unwrap_err();
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error:?}");
    assert!(matches!(node.id(), Err(NodeError::Unreachable { .. })));
}

#[test]
fn each_status_is_one_kind_of_error() {
    use tonic::Code;
    type Check = fn(&NodeError) -> bool;
    let refused: Check = |error| matches!(error, NodeError::Refused { .. });
    let unknown: Check = |error| matches!(error, NodeError::Unknown { .. });
    let unreachable: Check = |error| matches!(error, NodeError::Unreachable { .. });
    let cases: [(Code, Check); 10] = [
        (Code::NotFound, |error| matches!(error, NodeError::Missing { .. })),
        (Code::DataLoss, |error| matches!(error, NodeError::Corrupt { .. })),
        (Code::FailedPrecondition, refused),
        (Code::PermissionDenied, refused),
        (Code::ResourceExhausted, unknown),
        (Code::Unauthenticated, unreachable),
        (Code::Unavailable, unknown),
        (Code::Internal, unknown),
        (Code::Aborted, unknown),
        (Code::Unknown, unknown),
    ];
    for (code, is_expected) in cases {
        let (fake, node) = serve(&Script { fails: Some(code), ..of_version("3.5.1") });
        let error = node.disconnect_all().unwrap_err();
        assert!(is_expected(&error), "{code:?}: {error:?}");
        // What surely changed nothing is asked some times, and everything else once.
        let attempts = if unreachable(&error) { 3 } else { 1 };
        assert_eq!(fake.asked("DisconnectAllSynchronizers"), attempts, "{code:?}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_corrupt() {
    let status = fake::ready("no unique identifier", "3.5.1");
    let (_fake, node) = serve(&Script { status: Some(status), ..Script::default() });
    let error = node.standing().unwrap_err();
    assert!(matches!(error, NodeError::Corrupt { .. }), "{error:?}");
    let status = participant::ParticipantStatusResponse { kind: None };
    let (_fake, node) = serve(&Script { status: Some(status), ..Script::default() });
    assert!(matches!(node.standing(), Err(NodeError::Corrupt { .. })));
}

fn import(node: &Node, file: &Path) -> Result<(), ContractsError> {
    node.import(&ImportRequest {
        file: file.to_owned(),
        synchronizer: SYNCHRONIZER.parse().unwrap(),
        prefix: "plan".to_owned(),
    })
}

#[test]
fn an_import_goes_in_pieces_of_a_mebibyte_with_what_each_version_wants() {
    const MEBIBYTE: usize = 1024 * 1024;
    // 251 is prime to the size of a piece: no two pieces are equal.
    let bytes: Vec<u8> = (0..=250).cycle().take(MEBIBYTE * 5 / 2).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    for (version, says_how, says_where) in
        [("3.3.0", [true; 3], [false; 3]), ("3.4.0", [true; 3], [false; 3])].into_iter().chain([(
            "3.5.1",
            [true, false, false],
            [true, false, false],
        )])
    {
        let (fake, node) = serve(&of_version(version));
        import(&node, file.path()).unwrap();
        let messages = fake.imported();
        assert_eq!(messages.len(), 3, "{version}");
        assert!(messages.iter().all(|one| one.acs_snapshot.len() <= MEBIBYTE));
        let together: Vec<u8> = messages.iter().flat_map(|one| one.acs_snapshot.clone()).collect();
        assert!(together == bytes, "{version}: the bytes are those of the file");
        let found = |of: fn(&participant::ImportAcsRequest) -> bool| -> Vec<bool> {
            messages.iter().map(of).collect()
        };
        assert_eq!(found(|one| one.contract_import_mode == Some(2)), says_how, "{version}");
        assert_eq!(found(|one| one.workflow_id_prefix.is_some()), says_how, "{version}");
        assert_eq!(found(|one| one.synchronizer_id.is_some()), says_where, "{version}");
    }
}

#[test]
fn an_empty_snapshot_is_one_message() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (fake, node) = serve(&of_version("3.5.1"));
    import(&node, file.path()).unwrap();
    assert_eq!(fake.imported().len(), 1);
}

#[test]
fn a_server_that_recomputes_ids_is_noticed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let renames = [("00aa".to_owned(), "00bb".to_owned())].into();
    let (_fake, node) = serve(&Script { renames, ..of_version("3.4.0") });
    let error = import(&node, file.path()).unwrap_err();
    assert!(matches!(error, ContractsError::Node(NodeError::Corrupt { .. })), "{error:?}");
}

#[test]
fn what_a_server_says_in_the_middle_of_an_import_is_heard() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![7; 20 * 1024 * 1024]).unwrap();
    let fails = Some(tonic::Code::FailedPrecondition);
    let (_fake, node) = serve(&Script { fails, ..of_version("3.5.1") });
    let error = import(&node, file.path()).unwrap_err();
    let is_state =
        |error: &NodeError| matches!(error, NodeError::Refused { cause: Refusal::State, .. });
    assert!(matches!(&error, ContractsError::Node(error) if is_state(error)), "{error:?}");
}

fn wanted() -> ExportRequest {
    ExportRequest {
        parties: ["a::1220aa".parse().unwrap()].into(),
        synchronizer: None,
        ledger_end: 7,
        renames: BTreeMap::new(),
    }
}

#[test]
fn an_export_is_whole_or_not_there_and_replaces_nothing() {
    for version in ["3.3.0", "3.4.0", "3.5.1"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let chunks = vec![b"one".to_vec(), b"two".to_vec()];
        let (fake, node) = serve(&Script { chunks: chunks.clone(), ..of_version(version) });
        assert_eq!(node.export(&wanted(), &path).unwrap(), 6, "{version}");
        assert_eq!(std::fs::read(&path).unwrap(), b"onetwo");
        let error = node.export(&wanted(), &path).unwrap_err();
        assert!(matches!(error, ContractsError::Exists { .. }), "{error:?}");
        assert_eq!(fake.asked("ExportAcs"), 1);
        drop(fake);

        let path = folder.path().join("broken");
        let script = Script { chunks, breaks: true, ..of_version(version) };
        let (_fake, node) = serve(&script);
        let error = node.export(&wanted(), &path).unwrap_err();
        assert!(matches!(error, ContractsError::Node(_)), "{error:?}");
        assert!(!path.exists(), "{version}: half a snapshot has no name");
    }
    let (_fake, node) = serve(&of_version("3.5.1"));
    let nobody = ExportRequest { parties: BTreeSet::new(), ..wanted() };
    let error = node.export(&nobody, Path::new("/nonexistent/snapshot")).unwrap_err();
    assert_eq!(error, ContractsError::NoParties);
}

#[test]
fn an_export_that_is_not_answered_is_given_up() {
    for version in ["3.3.0", "3.5.1"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let (fake, node) = serve(&Script { holds: Some("ExportAcs"), ..of_version(version) });
        let error = node.export(&wanted(), &path).unwrap_err();
        let is_unreachable = |error: &NodeError| matches!(error, NodeError::Unreachable { .. });
        assert!(matches!(&error, ContractsError::Node(one) if is_unreachable(one)), "{error:?}");
        assert_eq!(fake.asked("ExportAcs"), 1, "{version}");
        assert!(!path.exists());
    }
}

#[test]
fn parties_come_in_pages_and_a_page_that_leads_to_itself_is_corrupt() {
    let (fake, node) = serve(&Script { pages: 3, ..of_version("3.5.1") });
    assert_eq!(node.parties().unwrap().len(), 3);
    assert_eq!(fake.asked("ListKnownParties"), 3);
    let (_fake, node) = serve(&Script { pages: usize::MAX, ..of_version("3.5.1") });
    let error = node.parties().unwrap_err();
    assert!(matches!(error, NodeError::Corrupt { .. }), "{error:?}");
}

#[test]
fn a_connection_keeps_everything_but_whether_it_is_manual() {
    let config = SynchronizerConnectionConfig {
        synchronizer_alias: "global".to_owned(),
        manual_connect: false,
        physical_synchronizer_id: SYNCHRONIZER.to_owned(),
        ..SynchronizerConnectionConfig::default()
    };
    let mut bytes = config.encode_to_vec();
    let unknown = [0x9a, 0x06, 3, b'n', b'e', b'w'];
    bytes.extend_from_slice(&unknown);
    for version in ["3.3.0", "3.4.0"] {
        let (fake, node) = serve(&Script { connection: bytes.clone(), ..of_version(version) });
        let registration = node.registrations().unwrap().pop().unwrap();
        assert!(!registration.is_manual);
        node.set_manual(&registration, true).unwrap();
        let changed = node.registrations().unwrap().pop().unwrap();
        assert!(changed.is_manual, "{version}");
        let stored = fake.connection();
        assert!(stored.windows(unknown.len()).any(|part| part == unknown), "{version}");
        node.set_manual(&changed, false).unwrap();
        assert!(!node.registrations().unwrap().pop().unwrap().is_manual);
        let connections = node.connections().unwrap();
        assert_eq!(connections.len(), 1, "{version}");
        assert!(connections[0].is_healthy, "{version}");
    }
}

#[test]
fn a_token_is_read_again_for_every_call() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"first\n").unwrap();
    let fake = Fake::serve(&of_version("3.5.1"));
    let mut config = config(&fake.address);
    config.admin.token = Some(file.path().to_owned());
    let node = Node::open(&config).unwrap();
    node.standing().unwrap();
    std::fs::write(file.path(), "second").unwrap();
    node.standing().unwrap();
    assert_eq!(fake.tokens(), ["Bearer first", "Bearer second"]);
    std::fs::set_permissions(file.path(), Permissions::from_mode(0o640)).unwrap();
    let error = node.standing().unwrap_err();
    assert!(error.to_string().contains("its mode is 640"), "{error}");
    assert_eq!(fake.tokens().len(), 2);
    std::fs::remove_file(file.path()).unwrap();
    let error = node.standing().unwrap_err();
    let cause = Refusal::Permission;
    assert!(matches!(&error, NodeError::Refused { cause: c, .. } if *c == cause), "{error:?}");
}
