//! Holders that attest in earnest and answer from a script.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use heirloom_emulated::host::EmulatedEnclave;
use heirloom_keeper::derive::{DerivedKey, KeyName, Period, derive};
use heirloom_keeper::port::Platform;
use heirloom_model::admin::Source;
use heirloom_model::counter::{Generation, Serial};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::DomainId;
use heirloom_model::protocol::{
    KeyAnswer, KeyPeriod, KeyRequest, PeerRequest, PeerResponse, WireSecret,
};
use heirloom_model::secret::Secret;
use heirloom_model::signature::{PublicKey, SigningKey};
use heirloom_model::statement::AttestedStatement;
use heirloom_registry::network::NetworkState;
use heirloom_session::context::SessionContext;
use heirloom_session::error::SessionError;
use heirloom_session::session::accept;
use heirloom_session::tls::Identity;
use heirloom_testkit::ceremony::Code;

use super::Network;

/// What a holder answers to its n-th request.
pub(crate) type Script = fn(&KeyRequest, usize) -> PeerResponse;

/// A running holder. It stops when it is dropped.
pub(crate) struct Holder {
    name: String,
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    platform: EmulatedEnclave,
    key: Arc<SigningKey>,
    identity: Identity,
    state: Mutex<NetworkState>,
    domain: DomainId,
    script: Script,
    streams: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
    sessions: AtomicUsize,
    requests: AtomicUsize,
}

impl Holder {
    /// An instance on a machine. `seed` makes its identity key.
    pub(crate) fn start(
        network: &Network,
        (machine, seed): (u8, u8),
        code: Code,
        script: Script,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let key = Arc::new(SigningKey::from_seed(Secret::new([seed; 32])));
        let shared = Arc::new(Shared {
            platform: network.launch(machine, code),
            identity: Identity::new(Arc::clone(&key)),
            key,
            state: Mutex::new(network.state()),
            domain: network.ceremony.domain,
            script,
            streams: Mutex::default(),
            stopped: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                serving.streams.lock().unwrap().push(stream.try_clone().unwrap());
                let serving = Arc::clone(&serving);
                // How a session ends is for the client to say.
                thread::spawn(move || serving.serve(stream).ok());
            }
        });
        Self { name: format!("node-{machine}"), address, shared }
    }

    pub(crate) fn source(&self) -> Source {
        Source { node: self.name.parse().unwrap(), address: self.address.clone() }
    }

    /// Its identity key.
    pub(crate) fn instance(&self) -> PublicKey {
        self.shared.key.public_key()
    }

    /// Its statement, as its agent hands it in.
    pub(crate) fn attest<T: AttestedStatement>(&self, network: &Network, said: &T) -> Envelope {
        let mut envelope = Envelope::signed(said, [self.shared.key.as_ref()]);
        let report_data = envelope.report_data(&self.instance());
        envelope.evidence = Some(self.shared.platform.evidence(&report_data).unwrap());
        envelope.sign(&network.ceremony.agent_key(said.node()));
        envelope
    }

    /// Follows the network's log up to now.
    pub(crate) fn follow(&self, network: &Network) {
        *self.shared.state.lock().unwrap() = network.state();
    }

    pub(crate) fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Ends every connection and answers no more.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
        // Wakes the listener, which then ends.
        TcpStream::connect(&self.address).ok();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> Result<(), SessionError> {
        let network = self.state.lock().unwrap().network();
        let context = SessionContext {
            network,
            domain: self.domain,
            platform: &self.platform,
            trust: &self.state,
        };
        let mut session = accept(stream, &self.identity, &context)?;
        self.sessions.fetch_add(1, Ordering::SeqCst);
        loop {
            let request = session.receive()?;
            session.queue(&self.answer(&request))?;
            while let Some(request) = session.receive_ready()? {
                session.queue(&self.answer(&request))?;
            }
            session.flush()?;
        }
    }

    fn answer(&self, request: &PeerRequest) -> PeerResponse {
        let PeerRequest::Key(request) = request else { panic!("applications ask for keys only") };
        let count = self.requests.fetch_add(1, Ordering::SeqCst);
        (self.script)(request, count)
    }
}

/// The key that every holder of these tests has.
pub(crate) fn key_of(request: &KeyRequest) -> DerivedKey {
    let name = KeyName {
        domain: DomainId::new([0; 32]),
        application: request.application.clone(),
        key: request.key.clone(),
        kind: request.kind,
        period: Period::Generation(Generation(3)),
    };
    derive(&[42; 32], &name)
}

/// Answers as a holder of generation 3 does.
pub(crate) fn serve(request: &KeyRequest, _: usize) -> PeerResponse {
    let generation = match request.period {
        KeyPeriod::Generation(generation) => generation,
        KeyPeriod::Newest | KeyPeriod::Epoch(_) => Generation(3),
    };
    let key = key_of(request);
    PeerResponse::Key(KeyAnswer {
        generation,
        secret: Some(key.secret.expose(WireSecret::new)),
        public: key.public,
        policy: Serial(1),
    })
}
