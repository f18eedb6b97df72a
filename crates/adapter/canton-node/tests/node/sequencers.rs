//! Sequencers as servers that answer as each test says.

use std::time::Duration;

use heirloom_canton_node::node::{Node, Registration};
use heirloom_canton_node::wire::crypto::{RequiredEncryptionSpecs, RequiredSigningSpecs};
use heirloom_canton_node::wire::participant::sequencer_connection::{Grpc, Type};
use heirloom_canton_node::wire::participant::{
    SequencerConnection, SequencerConnections, SynchronizerConnectionConfig,
};
use heirloom_canton_node::wire::protocol::StaticSynchronizerParameters;
use heirloom_canton_node::wire::sequencer::sequencer_connect::get_synchronizer_parameters_response::Parameters;
use heirloom_canton_node::wire::sequencer::sequencer_connect::{
    GetSynchronizerIdRequest, GetSynchronizerIdResponse, GetSynchronizerParametersRequest,
    GetSynchronizerParametersResponse,
};
use heirloom_canton_node::wire::sequencer::sequencer_connect_service_server::{
    SequencerConnectService, SequencerConnectServiceServer,
};
use heirloom_participant::custodian::key::KeyScheme;
use heirloom_participant::preflight::required::SequencerSaid;
use prost::Message;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::fake::Fake;
use crate::{SYNCHRONIZER, config, of_version};

/// What a sequencer says.
#[derive(Clone)]
struct Says {
    name: String,
    parameters: Option<StaticSynchronizerParameters>,
    is_silent: bool,
}

/// One of protocol version 35 that takes P-256 and RSA.
fn usual() -> Says {
    let parameters = StaticSynchronizerParameters {
        required_signing_specs: Some(RequiredSigningSpecs { algorithms: vec![2], keys: vec![2] }),
        required_encryption_specs: Some(RequiredEncryptionSpecs {
            algorithms: vec![2],
            keys: vec![2],
        }),
        required_symmetric_key_schemes: vec![1],
        required_hash_algorithms: vec![1],
        required_crypto_key_formats: vec![3, 4, 5],
        required_signature_formats: vec![2, 3],
        protocol_version: 35,
        serial: 0,
    };
    let name = format!("{SYNCHRONIZER}::35-0");
    Says { name, parameters: Some(parameters), is_silent: false }
}

fn changed(change: impl FnOnce(&mut StaticSynchronizerParameters)) -> Says {
    let mut says = usual();
    change(says.parameters.as_mut().unwrap());
    says
}

#[tonic::async_trait]
impl SequencerConnectService for Says {
    async fn get_synchronizer_id(
        &self,
        _: Request<GetSynchronizerIdRequest>,
    ) -> Result<Response<GetSynchronizerIdResponse>, Status> {
        if self.is_silent {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(GetSynchronizerIdResponse {
            physical_synchronizer_id: self.name.clone(),
            sequencer_uid: "sequencer::1220ff".to_owned(),
        }))
    }

    async fn get_synchronizer_parameters(
        &self,
        _: Request<GetSynchronizerParametersRequest>,
    ) -> Result<Response<GetSynchronizerParametersResponse>, Status> {
        let parameters = self.parameters.clone().map(Parameters::ParametersV1);
        Ok(Response::new(GetSynchronizerParametersResponse { parameters }))
    }
}

/// Sequencers that run until this is dropped.
struct Sequencers(Option<Runtime>);

impl Drop for Sequencers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Sequencers {
    fn new() -> Self {
        Self(Some(Runtime::new().unwrap()))
    }

    /// Its host and port.
    fn serve(&self, says: Says, identity: Option<Identity>) -> String {
        let runtime = self.0.as_ref().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let mut server = Server::builder();
        if let Some(identity) = identity {
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        let router = server.add_service(SequencerConnectServiceServer::new(says));
        runtime.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }
}

/// A sequencer with these addresses.
fn grpc(alias: &str, addresses: &[String]) -> SequencerConnection {
    let grpc = Grpc { connections: addresses.to_vec(), ..Grpc::default() };
    SequencerConnection {
        r#type: Some(Type::Grpc(grpc)),
        alias: alias.to_owned(),
        sequencer_id: None,
    }
}

fn registered(connections: Vec<SequencerConnection>) -> (Fake, Node, Registration) {
    let described = SynchronizerConnectionConfig {
        synchronizer_alias: "global".to_owned(),
        physical_synchronizer_id: format!("{SYNCHRONIZER}::35-0"),
        sequencer_connections: Some(SequencerConnections { sequencer_connections: connections }),
        ..SynchronizerConnectionConfig::default()
    };
    let script =
        crate::fake::Script { connection: described.encode_to_vec(), ..of_version("3.5.1") };
    let fake = Fake::serve(&script);
    let mut settings = config(&fake.address);
    // Long enough for a busy machine to answer, and for silence to be given up in a test.
    settings.deadlines.read = Duration::from_secs(6);
    let node = Node::open(&settings).unwrap();
    let registration = node.registrations().unwrap().pop().unwrap();
    (fake, node, registration)
}

/// What the sequencers of these connections say.
fn ask(connections: Vec<SequencerConnection>) -> Vec<SequencerSaid> {
    let (_fake, node, registration) = registered(connections);
    let seen = node.ask_sequencers(&registration, &SYNCHRONIZER.parse().unwrap());
    seen.into_iter().map(|one| one.said).collect()
}

fn ask_one(says: Says) -> SequencerSaid {
    let sequencers = Sequencers::new();
    let address = format!("http://{}", sequencers.serve(says, None));
    ask(vec![grpc("one", &[address])]).pop().unwrap()
}

#[track_caller]
fn says_nothing(said: &SequencerSaid, words: &str) {
    let SequencerSaid::Nothing { why } = said else { panic!("{said:?}") };
    assert!(why.contains(words), "{why} does not say {words:?}");
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn what_a_sequencer_requires_is_read_in_the_words_of_each_version() {
    let older = |parameters: &mut StaticSynchronizerParameters| {
        parameters.protocol_version = 33;
        parameters.required_encryption_specs.as_mut().unwrap().algorithms = vec![3];
    };
    let mut of_33 = changed(older);
    SYNCHRONIZER.clone_into(&mut of_33.name);
    for (says, protocol) in [(usual(), 35), (of_33, 33)] {
        let said = ask_one(says);
        let SequencerSaid::Required(required) = said else { panic!("{said:?}") };
        assert_eq!(required.protocol(), protocol);
        assert_eq!(required.admitted(KeyScheme::P256), [KeyScheme::P256]);
        assert_eq!(required.admitted(KeyScheme::Rsa2048), [KeyScheme::Rsa2048]);
    }
    let newer = ask_one(changed(|it| it.required_signing_specs.as_mut().unwrap().keys.push(77)));
    let SequencerSaid::Required(required) = newer else { panic!("{newer:?}") };
    let unknown: Vec<String> = required.unknown().iter().map(ToString::to_string).collect();
    assert_eq!(unknown, ["signing key number 77"]);
}

#[test]
fn an_answer_with_one_field_wrong_says_nothing() {
    let cases: [(Says, &str); 8] = [
        (changed(|it| it.required_signing_specs = None), "no signing key"),
        (
            changed(|it| it.required_encryption_specs.as_mut().unwrap().keys.clear()),
            "no encryption key",
        ),
        (changed(|it| it.required_crypto_key_formats.clear()), "no key format"),
        (changed(|it| it.required_signature_formats = vec![2; 65]), "65 times a signature format"),
        (changed(|it| it.protocol_version = 34), "protocol version 34 in its parameters"),
        (changed(|it| it.protocol_version = -1), "protocol version -1"),
        (Says { parameters: None, ..usual() }, "of a later kind"),
        (Says { name: "global".to_owned(), ..usual() }, "is no synchronizer"),
    ];
    for (says, words) in cases {
        says_nothing(&ask_one(says), words);
    }
    let other = "other::1220ff";
    let said = ask_one(Says { name: format!("{other}::35-0"), ..usual() });
    assert_eq!(said, SequencerSaid::Other(other.parse().unwrap()));
}

#[test]
fn the_first_address_that_answers_counts_and_silence_has_a_deadline() {
    let sequencers = Sequencers::new();
    let silent = format!("http://{}", sequencers.serve(Says { is_silent: true, ..usual() }, None));
    let good = sequencers.serve(usual(), None);
    let begun = std::time::Instant::now();
    let said = ask(vec![
        // An address may come without a scheme, as people write it.
        grpc("one", &[nobody(), silent.clone(), good]),
        grpc("two", &[silent]),
        grpc("three", &[nobody()]),
        grpc("four", &[]),
        grpc("five", &["http://a b:1".to_owned()]),
    ]);
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(matches!(said[0], SequencerSaid::Required(_)), "{said:?}");
    says_nothing(&said[1], "no answer within");
    says_nothing(&said[2], "cannot be reached");
    says_nothing(&said[3], "no address");
    says_nothing(&said[4], "not an address");
}

#[test]
fn more_sequencers_than_anybody_has_are_not_all_asked() {
    let said = ask((0..66).map(|index| grpc(&format!("s{index}"), &[])).collect());
    assert_eq!(said.len(), 65);
    says_nothing(&said[64], "only the first 64");
}

/// A certificate for this machine, and what serves with it.
fn certified() -> (Vec<u8>, Identity) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.pem();
    let identity = Identity::from_pem(&certificate, made.signing_key.serialize_pem());
    (certificate.into_bytes(), identity)
}

#[test]
fn tls_is_as_the_connection_says() {
    let sequencers = Sequencers::new();
    let (authority, identity) = certified();
    let (other, _) = certified();
    let address = sequencers.serve(usual(), Some(identity));
    let plain = sequencers.serve(usual(), None);
    let with = |address: String, is_tls: bool, authorities: Option<&Vec<u8>>| {
        let mut connection = grpc("tls", &[address]);
        let Some(Type::Grpc(grpc)) = connection.r#type.as_mut() else { unreachable!() };
        grpc.transport_security = is_tls;
        grpc.custom_trust_certificates = authorities.cloned();
        connection
    };
    let https = format!("https://{address}");
    let said = ask(vec![
        with(https.clone(), true, Some(&authority)),
        // Either of both says TLS.
        with(https.clone(), false, Some(&authority)),
        with(address.clone(), true, Some(&authority)),
        with(https.clone(), true, Some(&other)),
        // Nobody whom this machine trusts made that certificate.
        with(https, true, None),
        with(address, false, Some(&authority)),
        with(plain, true, Some(&authority)),
    ]);
    for (index, one) in said.iter().enumerate() {
        let is_good = matches!(one, SequencerSaid::Required(_));
        assert_eq!(is_good, index < 3, "{index}: {one:?}");
    }
}
