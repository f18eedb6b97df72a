//! What the sequencers of a synchronizer say about the keys of its members.
//!
//! A participant knows where they are and does not say what they require, so they are asked
//! themselves, on the interface on which they answer everybody. They are told nothing about who
//! asks: no token goes there.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use heirloom_model::causes::with_causes;
use heirloom_model::party::SynchronizerId;
use heirloom_participant::preflight::required::{
    List, Required, RequiredError, SequencerSaid, SequencerSeen,
};
use prost::Message;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use crate::node::config::Deadlines;
use crate::node::synchronizers::read_logical;
use crate::node::{Node, Registration};
use crate::wire::participant::SynchronizerConnectionConfig;
use crate::wire::participant::sequencer_connection::{Grpc, Type};
use crate::wire::protocol::StaticSynchronizerParameters;
use crate::wire::sequencer::sequencer_connect::get_synchronizer_parameters_response::Parameters;
use crate::wire::sequencer::sequencer_connect::{
    GetSynchronizerIdRequest, GetSynchronizerParametersRequest,
};
use crate::wire::sequencer::sequencer_connect_service_client::SequencerConnectServiceClient;

/// Sequencers of one synchronizer that are asked. Large networks have some dozens.
const SEQUENCERS_MAX: usize = 64;
/// Addresses of one sequencer that are tried.
const ADDRESSES_MAX: usize = 16;
/// The largest answer. Parameters have some hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest text of a server that is repeated.
const WORDS_CHARACTERS_MAX: usize = 300;
/// The largest file of authorities that a machine trusts.
const AUTHORITIES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Where distributions keep the authorities that a machine trusts.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why an address of a sequencer says nothing.
#[derive(Debug, thiserror::Error)]
enum AskError {
    /// The address is none.
    #[error("it is not an address: {reason}")]
    Address { reason: String },
    /// Nobody can certify it.
    #[error("its connection names no authorities, and this machine has none")]
    Authorities,
    /// What certifies it cannot be used.
    #[error("TLS cannot be used: {reason}")]
    Tls { reason: String },
    /// No connection is made.
    #[error("cannot be reached: {reason}")]
    Unreachable { reason: String },
    /// It is connected, and does not answer.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// It answers that it does not.
    #[error("{}: {}", .0.code(), .0.message().chars().take(WORDS_CHARACTERS_MAX).collect::<String>())]
    Status(Box<Status>),
    /// Its name for the synchronizer is none.
    #[error("its synchronizer has no name: {0}")]
    Name(String),
    /// Its answer has no parameters of a kind that is known.
    #[error("its parameters are of a later kind")]
    Later,
    /// Its answer contradicts itself.
    #[error("it has protocol version {parameters} in its parameters, and {name} in its name")]
    Protocol { parameters: i32, name: String },
    /// Its parameters lack what all have.
    #[error("its parameters cannot be used: {0}")]
    Required(#[from] RequiredError),
}

/// A sequencer, as a connection describes it.
struct Sequencer {
    name: String,
    addresses: Vec<String>,
    is_tls: bool,
    /// The authorities that the connection names, in PEM.
    authorities: Option<Vec<u8>>,
}

impl Node {
    /// Asks all sequencers through which a participant reaches this synchronizer, at the same
    /// time. Each has the deadline of a question.
    pub fn ask_sequencers(
        &self,
        registration: &Registration,
        synchronizer: &SynchronizerId,
    ) -> Vec<SequencerSeen> {
        let nothing = |name: &str, why: String| SequencerSeen {
            name: name.to_owned(),
            said: SequencerSaid::Nothing { why },
        };
        let config = match SynchronizerConnectionConfig::decode(&*registration.config) {
            Ok(config) => config,
            Err(error) => return vec![nothing(&registration.alias, error.to_string())],
        };
        let mut all = sequencers(config);
        let left = all.len().saturating_sub(SEQUENCERS_MAX);
        all.truncate(SEQUENCERS_MAX);
        let names: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
        let deadlines = self.shared.deadlines;
        let answers = self.wait(async {
            let asked: Vec<_> = all
                .into_iter()
                .map(|one| tokio::spawn(one.ask(synchronizer.clone(), deadlines)))
                .collect();
            let mut answers = Vec::with_capacity(asked.len());
            for one in asked {
                answers.push(one.await);
            }
            answers
        });
        let mut seen: Vec<SequencerSeen> = names
            .into_iter()
            .zip(answers)
            .map(|(name, answer)| match answer {
                Ok(said) => SequencerSeen { name, said },
                Err(error) => nothing(&name, error.to_string()),
            })
            .collect();
        if left > 0 {
            let why = format!("only the first {SEQUENCERS_MAX} are asked");
            seen.push(nothing(&format!("{left} more"), why));
        }
        seen
    }
}

fn sequencers(config: SynchronizerConnectionConfig) -> Vec<Sequencer> {
    let connections = config.sequencer_connections.unwrap_or_default().sequencer_connections;
    let described = connections.into_iter().filter_map(|connection| {
        let Some(Type::Grpc(grpc)) = connection.r#type else { return None };
        let Grpc { connections, transport_security, custom_trust_certificates } = grpc;
        let first = connections.first().map_or("nowhere", String::as_str);
        let name = match connection.alias.as_str() {
            "" => first.to_owned(),
            alias => format!("{alias} at {first}"),
        };
        Some(Sequencer {
            name,
            addresses: connections,
            is_tls: transport_security,
            authorities: custom_trust_certificates,
        })
    });
    described.collect()
}

impl Sequencer {
    /// What the first of its addresses that answers says.
    async fn ask(self, expected: SynchronizerId, deadlines: Deadlines) -> SequencerSaid {
        let tried = self.addresses.iter().take(ADDRESSES_MAX);
        let count = u32::try_from(tried.len()).unwrap_or(u32::MAX).max(1);
        // An address that is connected and silent leaves time for the next one.
        let share = deadlines.read / count;
        let mut whys: Vec<String> = Vec::new();
        for address in tried {
            let asked = tokio::time::timeout(share, self.ask_at(address, &deadlines)).await;
            match asked.unwrap_or(Err(AskError::Silent(share))) {
                Ok((synchronizer, _)) if synchronizer != expected => {
                    return SequencerSaid::Other(synchronizer);
                }
                Ok((_, required)) => return SequencerSaid::Required(required),
                Err(error) => whys.push(said(&error, address, count)),
            }
        }
        if whys.is_empty() {
            whys.push("its connection has no address".to_owned());
        }
        SequencerSaid::Nothing { why: whys.join(", ") }
    }

    async fn ask_at(
        &self,
        address: &str,
        deadlines: &Deadlines,
    ) -> Result<(SynchronizerId, Required), AskError> {
        let channel = self.connect(address, deadlines).await?;
        let mut client =
            SequencerConnectServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let failed = |status: Status| AskError::Status(Box::new(status));
        let named = client.get_synchronizer_id(GetSynchronizerIdRequest {}).await;
        let named = named.map_err(failed)?.into_inner().physical_synchronizer_id;
        let asked = client.get_synchronizer_parameters(GetSynchronizerParametersRequest {}).await;
        let parameters = asked.map_err(failed)?.into_inner().parameters;
        let Some(Parameters::ParametersV1(parameters)) = parameters else {
            return Err(AskError::Later);
        };
        let (synchronizer, protocol) = read_logical(&named).map_err(AskError::Name)?;
        let said = parameters.protocol_version;
        match u32::try_from(said) {
            Ok(said) if protocol.is_none_or(|named| named == said) => {
                Ok((synchronizer, required(said, &parameters)?))
            }
            _ => Err(AskError::Protocol { parameters: said, name: named }),
        }
    }

    async fn connect(&self, address: &str, deadlines: &Deadlines) -> Result<Channel, AskError> {
        let (scheme, bare) = address.split_once("://").unwrap_or(("", address));
        // Servers write the scheme in front as well. What says TLS anywhere is never asked
        // without.
        let is_tls = self.is_tls || scheme == "https";
        let url = format!("{}://{bare}", if is_tls { "https" } else { "http" });
        let wrong = |error: &dyn fmt::Display| AskError::Address { reason: error.to_string() };
        let endpoint = Channel::from_shared(url).map_err(|error| wrong(&error))?;
        let mut endpoint = endpoint.connect_timeout(deadlines.connect);
        if is_tls {
            let authorities = match &self.authorities {
                Some(authorities) => authorities.clone(),
                None => machine_authorities().ok_or(AskError::Authorities)?,
            };
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities));
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|error| AskError::Tls { reason: with_causes(&error) })?;
        }
        let reached = endpoint.connect().await;
        reached.map_err(|error| AskError::Unreachable { reason: with_causes(&error) })
    }
}

/// Why an address says nothing; which one it is, if there are several.
fn said(error: &AskError, address: &str, addresses: u32) -> String {
    let why = with_causes(error);
    if addresses == 1 { why } else { format!("{address}: {why}") }
}

/// The authorities that this machine trusts, as the participant's would.
fn machine_authorities() -> Option<Vec<u8>> {
    let read =
        |path: &&str| heirloom_store::atomic::read(Path::new(path), AUTHORITIES_BYTES_MAX).ok();
    AUTHORITIES.iter().find_map(read)
}

fn required(
    protocol: u32,
    parameters: &StaticSynchronizerParameters,
) -> Result<Required, RequiredError> {
    let signing = parameters.required_signing_specs.as_ref();
    let encryption = parameters.required_encryption_specs.as_ref();
    Required::new(protocol, |list| {
        let numbers: &[i32] = match list {
            List::SigningKeys => signing.map_or(&[], |specs| &specs.keys),
            List::SigningAlgorithms => signing.map_or(&[], |specs| &specs.algorithms),
            List::EncryptionKeys => encryption.map_or(&[], |specs| &specs.keys),
            List::EncryptionAlgorithms => encryption.map_or(&[], |specs| &specs.algorithms),
            List::KeyFormats => &parameters.required_crypto_key_formats,
            List::SignatureFormats => &parameters.required_signature_formats,
        };
        numbers.iter().map(|number| number.cast_unsigned()).collect()
    })
}
