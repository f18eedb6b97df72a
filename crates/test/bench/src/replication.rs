//! One generation, from a holder into a keeper that has nothing: a fresh session that is attested
//! on both sides, the generation itself, its sealed file, and the flushes of the disk.
//!
//! The floor is what cannot be left out: a mutual post-quantum TLS handshake over the same kind of
//! socket, two verified quotes, and one durable file of the same size on the same disk. Neither
//! side's making of its quote is in it, nor any message.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use heirloom_attest::appraiser::Appraiser;
use heirloom_emulated::host::EmulatedEnclave;
use heirloom_keeper::port::Platform as _;
use heirloom_keeper_shell::run::Running;
use heirloom_model::admin::{AdminRequest, Source};
use heirloom_model::counter::{Generation, Time};
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::policy::AppraisalPolicy;
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_session::channel::Channel;
use heirloom_session::limit::HANDSHAKE_TIME_MAX;
use heirloom_session::tls::Identity;

use crate::disk;
use crate::figure::{Better, Figure};
use crate::network::{Network, node_name};
use crate::node::{self, Agent};
use crate::sample::{Samples, timed};

/// Receivers that are started one after the other. 95 of 100 need some hundreds to mean anything.
const ROUNDS: usize = 200;
/// Rounds that fill caches and count for nothing.
const WARM_UP: usize = 10;

/// Measures.
pub(crate) fn measure(directory: &Path, report: &mut dyn FnMut(&Figure)) {
    let mut network = Network::new();
    let sockets = tempfile::tempdir().expect("temporary directories can be made");
    let donor = donor(&mut network, &directory.join("donor"), &sockets.path().join("1"));
    let source = Source { node: node_name(1), address: donor.address().to_string() };
    let receiver = Arc::new(network.enclave(2, &network.new));
    let floor = Floor::new(&network, &receiver);
    let (mut whole, mut bare) = (Samples::default(), Samples::default());
    let (mut flushes, mut compute) = (Samples::default(), Samples::default());
    for round in 0..WARM_UP + ROUNDS {
        let state = directory.join("receiver");
        let socket = sockets.path().join("2");
        let running = node::run(&network, 2, Arc::clone(&receiver) as _, &state, &socket);
        let mut agent = Agent::connect(&socket);
        agent.feed(&network.log);
        let request = AdminRequest::Replicate { sources: vec![source.clone()] };
        let ((), took) = timed(|| agent.demand(&request));
        let sizes = disk::keyring_files(&state);
        running.stop();
        fs::remove_dir_all(&state).expect("the keeper has stopped");
        let (sessions, flushed) = (floor.session(), Floor::disk(directory, &sizes));
        if round >= WARM_UP {
            whole.push(took);
            bare.push(sessions + flushed);
            flushes.push(flushed);
            compute.push(sessions);
        }
    }
    for percent in [50, 95] {
        report(&Figure {
            name: "replication",
            what: format!("attested replication of one generation, p{percent}"),
            unit: "ms",
            better: Better::Less,
            value: whole.percentile(percent),
            floor: Some(bare.percentile(percent)),
            target: Some("at most 3 times the floor".to_owned()),
            note: format!(
                "{ROUNDS} fresh sessions; of the floor {:.2} ms are handshake and two quotes, \
                 {:.2} ms one durable file; a peer needs 53 ms on 2 processors",
                compute.percentile(percent),
                flushes.percentile(percent)
            ),
        });
    }
    donor.stop();
}

/// A keeper that holds generation 0.
pub(crate) fn donor(network: &mut Network, state: &Path, socket: &Path) -> Running {
    let platform = Arc::new(network.enclave(1, &network.old));
    let running = node::run(network, 1, platform, state, socket);
    hold_first(network, &mut Agent::connect(socket));
    running
}

/// Has node 1, which follows nothing yet, create generation 0.
pub(crate) fn hold_first(network: &mut Network, agent: &mut Agent) {
    let order = network.order(Generation(0), &node_name(1));
    agent.feed(&network.log);
    let fed = network.log.len();
    network.accept_bytes(&agent.statement(&AdminRequest::CreateGeneration { order }));
    agent.feed(network.log.get(fed..).expect("a log only grows"));
}

/// What is needed for the bare session.
struct Floor {
    one: Identity,
    other: Identity,
    listener: TcpListener,
    appraiser: Appraiser,
    evidence: Evidence,
    expected: ReportData,
    policy: AppraisalPolicy,
    now: Time,
}

impl Floor {
    fn new(network: &Network, platform: &EmulatedEnclave) -> Self {
        let identity =
            |seed| Identity::new(Arc::new(SigningKey::from_seed(Secret::new([seed; 32]))));
        let manufacturer = &network.ceremony.manufacturer;
        let mut appraiser = Appraiser::new(vec![manufacturer.anchor()]);
        let endorsements = manufacturer.endorsements(heirloom_testkit::ceremony::BEGINNING);
        appraiser.endorse(endorsements).expect("the manufacturer's own endorsements are good");
        let expected = ReportData::new([7; 64]);
        let policy = network.state.policy(&network.ceremony.domain).expect("there is a policy");
        Self {
            one: identity(1),
            other: identity(2),
            listener: TcpListener::bind("127.0.0.1:0").expect("a port is free"),
            appraiser,
            evidence: platform.evidence(&expected).expect("the platform is in this process"),
            expected,
            policy: policy.appraisal.clone(),
            now: network.state.now().expect("an epoch has begun"),
        }
    }

    /// One mutual handshake over TCP, and two quotes verified from memory.
    fn session(&self) -> Duration {
        let address = self.listener.local_addr().expect("it is bound");
        let deadline = Instant::now() + HANDSHAKE_TIME_MAX;
        let ((), handshake) = timed(|| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (stream, _) = self.listener.accept().expect("somebody connects");
                    stream.set_nodelay(true).expect("it is a socket");
                    Channel::respond(stream, &self.other, deadline).map(drop)
                });
                let stream = TcpStream::connect(address).expect("somebody listens");
                stream.set_nodelay(true).expect("it is a socket");
                Channel::initiate(stream, &self.one, deadline)
                    .map(drop)
                    .expect("both keys are good");
            });
        });
        let mut appraiser = self.appraiser.clone();
        let mut appraise = || {
            appraiser
                .appraise(&self.evidence, &self.expected, &self.policy, self.now)
                .expect("the quote is good")
        };
        appraise();
        let (_, quotes) = timed(|| (appraise(), appraise()));
        handshake + quotes
    }

    /// Files of these sizes, durable.
    fn disk(directory: &Path, sizes: &[usize]) -> Duration {
        let files: Vec<Vec<u8>> = sizes.iter().map(|size| vec![0x5a; *size]).collect();
        let ((), took) = timed(|| {
            for (number, bytes) in files.iter().enumerate() {
                disk::write_durably(directory, &format!("bare-{number}"), bytes);
            }
        });
        took
    }
}
