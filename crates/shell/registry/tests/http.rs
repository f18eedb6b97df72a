//! Client and server together: the suite of every log store, and what each failure looks like.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use heirloom_conformance::log_store::{self, Fixture};
use heirloom_model::counter::{Epoch, LogIndex, Serial};
use heirloom_model::digest::NetworkId;
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::wire;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_registry_shell::announcer::Announcer;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_registry_shell::message::Announcement;
use heirloom_registry_shell::server::{ServeError, Server, Stopper};
use heirloom_store::log_file::LogFile;
use heirloom_testkit::ceremony::Ceremony;
use tempfile::TempDir;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

struct Served {
    directory: TempDir,
    network: NetworkId,
    client: RegistryClient,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Served {
    fn start(directory: TempDir, log: LogFile, network: NetworkId) -> Self {
        let server = Server::bind(log, network, ANY).unwrap();
        let client = RegistryClient::new(&server.address().to_string());
        let stopper = server.stopper();
        let thread = Some(thread::spawn(move || server.run()));
        Self { directory, network, client, stopper, thread }
    }

    fn stop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Fixture for Served {
    type Store = RegistryClient;

    fn create(network: NetworkId) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = LogFile::create(&directory.path().join("log")).unwrap();
        Self::start(directory, log, network)
    }

    fn store(&self) -> &RegistryClient {
        &self.client
    }

    fn restart(mut self) -> Self {
        self.stop();
        let (log, torn) = LogFile::open(&self.directory.path().join("log")).unwrap();
        assert_eq!(torn, None);
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Self::start(directory, log, self.network)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

fn some_network() -> NetworkId {
    NetworkId::new([1; 32])
}

#[test]
fn client_and_server_are_a_log_store() {
    log_store::run::<Served>();
}

#[test]
fn a_statement_that_breaks_a_rule_is_not_stored() {
    let served = Served::create(some_network());
    let refused = served.client.append(LogIndex(0), b"junk");
    assert!(matches!(refused, Err(AppendError::Refused { code, .. }) if code == "malformed"));
    assert_eq!(served.client.head(), Ok(LogPosition::START));
}

/// A served network with a fleet of two nodes.
fn served_fleet(ceremony: &Ceremony) -> Served {
    let served = Served::create(ceremony.network);
    let fleet = ceremony.fleet(Serial(1), ceremony.nodes(2));
    for (index, statement) in [ceremony.root(), ceremony.epoch(Epoch(1)), fleet].iter().enumerate()
    {
        let expected = LogIndex(u64::try_from(index).unwrap());
        served.client.append(expected, &wire::encode(statement)).unwrap();
    }
    served
}

#[test]
fn addresses_are_announced_and_found() {
    let ceremony = Ceremony::new(&[4; 32]);
    let served = served_fleet(&ceremony);
    let node: NodeId = "node-1".parse().unwrap();
    let announcer = |network, node: &NodeId, key| {
        Announcer::new(served.client.clone(), network, node.clone(), Arc::new(key))
    };
    let (network, minute) = (ceremony.network, Duration::from_mins(1));
    let agent = announcer(network, &node, ceremony.agent_key(&node));
    assert_eq!(served.client.presence().unwrap().len(), 0);
    agent.announce("host-1:7000", minute).unwrap();
    assert_eq!(served.client.presence().unwrap()[&node], "host-1:7000");
    // At once, and however quickly after the one before.
    for port in 7001..7010 {
        let address = format!("host-1:{port}");
        agent.announce(&address, minute).unwrap();
        assert_eq!(served.client.presence().unwrap()[&node], address);
    }
    let found = served.client.presence().unwrap();
    let other: NodeId = "node-2".parse().unwrap();
    let stranger: NodeId = "node-3".parse().unwrap();
    let refused = [
        agent.announce("no address", minute),
        announcer(network, &node, ceremony.agent_key(&other)).announce("other:1", minute),
        announcer(some_network(), &node, ceremony.agent_key(&node)).announce("other:1", minute),
        announcer(network, &stranger, ceremony.agent_key(&stranger)).announce("other:1", minute),
        served.client.announce(
            &node,
            &Announcement::signed(&network, &node, "old:1", 1, 0, &ceremony.agent_key(&node)),
        ),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(ReadError::Refused { .. })), "{refused:?}");
    }
    assert_eq!(served.client.presence().unwrap(), found);
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = RegistryClient::new(&format!("http://{address}/"));
    assert!(matches!(client.head(), Err(ReadError::Unreachable { .. })));
    let lost = client.append(LogIndex(0), b"");
    assert!(matches!(lost, Err(AppendError::Unreachable { .. })), "{lost:?}");
}

#[test]
fn a_server_that_stops_ends_every_watch() {
    let mut served = Served::create(some_network());
    let client = served.client.clone();
    let watcher = thread::spawn(move || client.watch(LogIndex(0), Duration::from_secs(30)));
    served.stop();
    // It was answered, or it came too late to be.
    let seen = watcher.join().unwrap();
    let ended = matches!(seen, Ok(LogPosition::START) | Err(ReadError::Unreachable { .. }));
    assert!(ended, "{seen:?}");
}

#[test]
fn an_address_in_use_is_said_to_be() {
    let taken = TcpListener::bind(ANY).unwrap();
    let address = taken.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = LogFile::create(&directory.path().join("log")).unwrap();
    let refused = Server::bind(log, some_network(), address).map(|_| ());
    assert!(matches!(refused, Err(ServeError::AddressInUse { .. })), "{refused:?}");
}

#[test]
fn a_log_of_another_network_is_not_served() {
    let directory = tempfile::tempdir().unwrap();
    let log = LogFile::create(&directory.path().join("log")).unwrap();
    log.append(LogIndex(0), b"the root of another network").unwrap();
    let refused = Server::bind(log, some_network(), ANY).map(|_| ());
    assert!(matches!(refused, Err(ServeError::OtherNetwork { .. })), "{refused:?}");
}

/// Answers one request with these bytes, whatever it is.
fn answer_once(answer: Vec<u8>) -> RegistryClient {
    let listener = TcpListener::bind(ANY).unwrap();
    let client = RegistryClient::new(&listener.local_addr().unwrap().to_string());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        stream.write_all(&answer).unwrap();
    });
    client
}

/// Reads to the end of the headers; the requests of these tests have short bodies.
fn read_request(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            return;
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}

fn http(status: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn batch(entries: &[LogEntry]) -> Vec<u8> {
    let frame = |entry: &LogEntry| {
        let bytes = wire::encode(entry);
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
    };
    entries.iter().flat_map(frame).collect()
}

/// A registry can withhold. What it makes up is noticed at the first look.
#[test]
fn answers_that_contradict_themselves_are_corrupt() {
    let first = LogEntry::following(&LogPosition::START, b"one".to_vec());
    let position = LogPosition::START.advance(&first).unwrap();
    let second = LogEntry::following(&position, b"two".to_vec());
    let forked = LogEntry { envelope: b"three".to_vec(), ..first.clone() };
    let read = |bytes: &[u8]| answer_once(http("200 OK", bytes)).read(LogIndex(0), 2);
    let good = batch(&[first.clone(), second.clone()]);
    assert_eq!(read(&good), Ok(vec![first.clone(), second.clone()]));
    let bad = [
        ("a gap", batch(std::slice::from_ref(&second))),
        ("a fork", batch(&[forked, second.clone()])),
        ("the wrong order", batch(&[second.clone(), first.clone()])),
        ("more than asked", batch(&[first.clone(), second.clone(), second])),
        ("half an entry", good[..good.len() - 1].to_vec()),
        ("half a length", good[..2].to_vec()),
        ("no entries", b"<html>".to_vec()),
    ];
    for (what, bytes) in bad {
        let found = read(&bytes);
        assert!(matches!(found, Err(ReadError::Corrupt { .. })), "{what}: {found:?}");
    }
}

/// Whether a statement was appended is unknown as soon as it may have been read.
#[test]
fn an_append_without_a_clear_answer_is_unknown() {
    let append = |answer: &[u8]| answer_once(answer.to_vec()).append(LogIndex(0), b"x");
    for answer in [
        b"".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec(),
        http("200 OK", b"<html>"),
        http("200 OK", br#"{"length":0,"head":"00"}"#),
        http("502 Bad Gateway", b"<html>"),
        http("500 Internal Server Error", br#"{"error":"unknown","reason":"time"}"#),
    ] {
        let found = append(&answer);
        let shown = String::from_utf8_lossy(&answer);
        assert!(matches!(found, Err(AppendError::Unknown { .. })), "{shown}: {found:?}");
    }
    let found = append(&http("404 Not Found", b"<html>"));
    assert!(matches!(found, Err(AppendError::Unreachable { .. })), "{found:?}");
    let found = append(&http("507 Insufficient Storage", br#"{"error":"full","reason":"disk"}"#));
    assert_eq!(found, Err(AppendError::Full { reason: "disk".to_owned() }));
}

/// Requests that no client of ours makes.
#[test]
fn malformed_requests_are_answered_and_change_nothing() {
    let served = Served::create(some_network());
    let address = served.client.base().trim_start_matches("http://").to_owned();
    let status = |request: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let get = |path: &str| {
        status(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    };
    assert_eq!(get("/v1/healthz"), "200");
    assert_eq!(get("/v1/entries?from=0"), "200");
    assert_eq!(get("/v1/entries?from=-1"), "400");
    assert_eq!(get("/v1/entries"), "400");
    assert_eq!(get("/v1/watch?from=0"), "400");
    assert_eq!(get("/v1/nothing"), "404");
    let put = |path: &str, body: &str| {
        let length = body.len();
        status(&format!(
            "PUT {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    };
    let unsigned = r#"{"address":"host:1","ttl_ms":1000}"#;
    assert_eq!(put("/v1/presence/n1", unsigned), "400");
    let signed = r#"{"address":"host:1","ttl_ms":1000,"said_at_ms":0,"signature":""}"#;
    assert_eq!(put("/v1/presence/n1", signed), "422");
    assert_eq!(put("/v1/presence/N1", signed), "400");
    assert_eq!(put("/v1/presence/n1", "{}"), "400");
    let large = format!("{{\"address\":\"{}\"}}", "x".repeat(20_000));
    assert_eq!(put("/v1/presence/n1", &large), "413");
    assert_eq!(served.client.presence().unwrap().len(), 0);
    assert_eq!(served.client.head(), Ok(LogPosition::START));
}
