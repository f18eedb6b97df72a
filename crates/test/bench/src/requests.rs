//! Key requests over kept sessions, with many on their way at once.
//!
//! The keeper is a process of its own, so that its processor time is known and the askers' is not
//! counted. The floor is what an answer cannot do without: one derivation, and its share of a
//! record that is opened and of one that is sealed.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use heirloom_keeper::derive::{KeyName, Period, derive};
use heirloom_model::admin::AdminRequest;
use heirloom_model::counter::{Generation, Serial};
use heirloom_model::identifier::DomainId;
use heirloom_model::protocol::{
    KeyAnswer, KeyKind, KeyPart, KeyPeriod, KeyRequest, PeerRequest, PeerResponse, WireSecret,
};
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_model::wire;
use heirloom_session::context::SessionContext;
use heirloom_session::limit::PIPELINE_MAX;
use heirloom_session::session::{Session, connect};
use heirloom_session::tls::Identity;

use crate::figure::{Better, Figure};
use crate::network::{APPLICATION, Network};
use crate::node::{self, Agent};
use crate::replication::hold_first;
use crate::sample::{Samples, count, own_processor_time, processor_time, timed};

/// Applications that ask at the same time, one session each.
const SESSIONS: usize = 2;
/// Full pipelines that each of them sends.
const BATCHES: usize = 2_000;
/// Requests that are asked one at a time.
const SINGLES: usize = 20_000;
/// So many of them, then as many echoes: whoever waits for every second message sleeps deeper.
const TURN: usize = 500;
/// Rounds of the floor.
const FLOOR_ROUNDS: usize = 2_000;
/// Requests per second that a peer serves, and the multiple of it that we want.
const PEER_RATE: u32 = 3_700;
const PEER_MULTIPLE: u32 = 20;

/// Runs the keeper whose processor time is counted, until its agent ends it.
pub(crate) fn serve(state: &Path, admin: &Path) {
    let network = Network::new();
    let platform = Arc::new(network.enclave(1, &network.old));
    let running = node::run(&network, 1, platform, state, admin);
    let bare = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let bare_address = bare.local_addr().expect("it is bound");
    thread::spawn(move || echo(&bare));
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {bare_address}", running.address())
        .expect("the measurement waits for the addresses");
    out.flush().expect("the measurement waits for the addresses");
    running.wait();
    running.stop();
}

/// Measures.
pub(crate) fn measure(directory: &Path, report: &mut dyn FnMut(&Figure)) {
    let mut network = Network::new();
    let sockets = tempfile::tempdir().expect("temporary directories can be made");
    let socket = sockets.path().join("1");
    let (mut keeper, addresses) = spawn(&directory.join("keeper"), &socket);
    let mut agent = Agent::connect(&socket);
    hold_first(&mut network, &mut agent);
    let (address, bare) = addresses.split_once(' ').expect("the keeper says both");
    for kind in [KeyKind::Symmetric, KeyKind::Ed25519] {
        throughput(&network, &keeper, address, kind, report);
    }
    latency(&network, address, bare, report);
    agent.demand(&AdminRequest::Shutdown);
    keeper.wait().expect("the keeper ends");
}

fn spawn(state: &Path, socket: &Path) -> (Child, String) {
    let own = std::env::current_exe().expect("a process knows its program");
    let mut command = Command::new(own);
    command.arg("--directory").arg(state).arg("--serve").arg(socket).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program that runs can be started again");
    let out = child.stdout.take().expect("it was asked for");
    let mut address = String::new();
    BufReader::new(out).read_line(&mut address).expect("the keeper says where it listens");
    (child, address.trim().to_owned())
}

fn throughput(
    network: &Network,
    keeper: &Child,
    address: &str,
    kind: KeyKind,
    report: &mut dyn FnMut(&Figure),
) {
    let sessions: Vec<_> = (0..SESSIONS).map(|_| open(network, address)).collect();
    let latencies = Mutex::new(Samples::default());
    let before = processor_time(keeper.id());
    let ((), wall) = timed(|| {
        thread::scope(|scope| {
            for session in sessions {
                scope.spawn(|| ask_in_batches(session, kind, &latencies));
            }
        });
    });
    let processor = processor_time(keeper.id()).saturating_sub(before);
    let requests = SESSIONS * BATCHES * PIPELINE_MAX;
    let latencies = latencies.into_inner().expect("the askers have ended");
    let mut note = String::new();
    write!(
        note,
        "{SESSIONS} sessions, {PIPELINE_MAX} requests on their way in each; {:.0} requests per \
         second of the clock beside their askers; answers come after {:.2} ms (p50), {:.2} ms (p99)",
        count(requests) / wall.as_secs_f64(),
        latencies.percentile(50),
        latencies.percentile(99),
    )
    .expect("writing into memory cannot fail");
    let target = f64::from(PEER_RATE * PEER_MULTIPLE);
    report(&Figure {
        name: "requests",
        what: format!("key requests per second of one processor, {}", kind.name()),
        unit: "1/s",
        better: Better::More,
        value: count(requests) / processor.as_secs_f64(),
        floor: Some(1.0 / bare_answer(kind).as_secs_f64()),
        target: (kind == KeyKind::Symmetric)
            .then(|| format!("at least {target:.0}, {PEER_MULTIPLE} times a peer's {PEER_RATE}")),
        note,
    });
}

fn ask_in_batches(mut session: Session<TcpStream>, kind: KeyKind, latencies: &Mutex<Samples>) {
    let mut own = Samples::default();
    let request = request(kind);
    for _ in 0..BATCHES {
        let begun = Instant::now();
        for _ in 0..PIPELINE_MAX {
            session.queue(&request).expect("the keeper reads");
        }
        for _ in 0..PIPELINE_MAX {
            expect_key(&session.receive().expect("the keeper answers"));
            own.push(begun.elapsed());
        }
    }
    session.close();
    let mut all = latencies.lock().expect("askers do not panic while they report");
    all.extend(own);
}

/// One request at a time, and in turn the same bytes over a bare socket of the same process: how
/// long a process takes to wake up depends on where it sleeps.
fn latency(network: &Network, address: &str, bare: &str, report: &mut dyn FnMut(&Figure)) {
    let mut session = open(network, address);
    let request = request(KeyKind::Symmetric);
    let (mut asked, mut echoed) = (Samples::default(), Samples::default());
    let mut message = wire::encode(&request);
    let mut bare = TcpStream::connect(bare).expect("the keeper's process listens");
    bare.set_nodelay(true).expect("it is a socket");
    for _ in 0..SINGLES / TURN {
        for _ in 0..TURN {
            let (answer, took) = timed(|| {
                session.send(&request).expect("the keeper reads");
                session.receive::<PeerResponse>().expect("the keeper answers")
            });
            expect_key(&answer);
            asked.push(took);
        }
        for _ in 0..TURN {
            let ((), took) = timed(|| {
                bare.write_all(&message).expect("somebody reads");
                bare.read_exact(&mut message).expect("somebody answers");
            });
            echoed.push(took);
        }
    }
    session.close();
    for percent in [50, 99] {
        report(&Figure {
            name: "requests",
            what: format!("one key request at a time, p{percent}"),
            unit: "ms",
            better: Better::Less,
            value: asked.percentile(percent),
            floor: Some(echoed.percentile(percent)),
            target: None,
            note: format!(
                "{SINGLES} requests; the floor is an echo over a bare socket of the same process"
            ),
        });
    }
}

/// Sends back what one caller sends, until it is done.
fn echo(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().expect("somebody connects");
    stream.set_nodelay(true).expect("it is a socket");
    let mut message = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut message) {
        let some = message.get(..count).expect("so much was read");
        stream.write_all(some).expect("somebody reads");
    }
}

fn open(network: &Network, address: &str) -> Session<TcpStream> {
    let enclave = network.enclave(9, &network.application);
    let identity = Identity::new(Arc::new(SigningKey::from_seed(Secret::new([9; 32]))));
    let trust = Mutex::new(network.state.clone());
    let context = SessionContext {
        network: network.ceremony.network,
        domain: network.ceremony.domain,
        platform: &enclave,
        trust: &trust,
    };
    let stream = TcpStream::connect(address).expect("the keeper listens");
    stream.set_nodelay(true).expect("it is a socket");
    connect(stream, &identity, &context).expect("the policy names the application")
}

fn request(kind: KeyKind) -> PeerRequest {
    PeerRequest::Key(KeyRequest {
        application: APPLICATION.parse().expect("it is a name"),
        key: "signing".parse().expect("it is a name"),
        kind,
        period: KeyPeriod::Newest,
        part: KeyPart::Private,
    })
}

fn expect_key(answer: &PeerResponse) {
    assert!(matches!(answer, PeerResponse::Key(_)), "the keeper gives the key");
}

/// The least that one answer costs: a derivation, and a full pipeline's records shared among its
/// requests.
fn bare_answer(kind: KeyKind) -> Duration {
    let name = KeyName {
        domain: DomainId::new([0xd0; 32]),
        application: APPLICATION.parse().expect("it is a name"),
        key: "signing".parse().expect("it is a name"),
        kind,
        period: Period::Generation(Generation(0)),
    };
    let key = derive(&[1; 32], &name);
    let answer = PeerResponse::Key(KeyAnswer {
        generation: Generation(0),
        secret: Some(key.secret.expose(WireSecret::new)),
        public: key.public,
        policy: Serial(1),
    });
    let aead = LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, &[3; 32]).expect("an AES-256 key has 32 bytes"),
    );
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let mut asked = wire::encode(&request(kind)).repeat(PIPELINE_MAX);
    aead.seal_in_place_append_tag(nonce(), Aad::empty(), &mut asked).expect("it is short");
    let answers = wire::encode(&answer).repeat(PIPELINE_MAX);
    let before = own_processor_time();
    for _ in 0..FLOOR_ROUNDS {
        let mut opened = asked.clone();
        aead.open_in_place(nonce(), Aad::empty(), &mut opened).expect("it was sealed");
        for _ in 0..PIPELINE_MAX {
            std::hint::black_box(derive(std::hint::black_box(&[1; 32]), &name));
        }
        let mut sealed = answers.clone();
        aead.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).expect("it is short");
    }
    let took = own_processor_time().saturating_sub(before);
    took / u32::try_from(FLOOR_ROUNDS * PIPELINE_MAX).expect("these are some hundred thousand")
}
