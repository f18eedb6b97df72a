//! Synchronizers that a participant knows, and those that it is connected to.

use std::collections::BTreeMap;
use std::sync::Arc;

use heirloom_canton_node::wire::participant::SynchronizerConnectionConfig;
use heirloom_canton_node::wire::participant::sequencer_connection::Type;
use heirloom_canton_node::wire::protocol::SynchronizerTrustCertificate;
use heirloom_canton_node::wire::protocol::enums::TopologyChangeOp;
use heirloom_canton_node::wire::protocol::topology_mapping::Mapping;
use heirloom_model::party::SynchronizerId;
use heirloom_participant::custodian::key::KeyScheme;
use prost::Message;

use crate::crypto;
use crate::limit::{LABEL_CHARACTERS_MAX, SERVER_SYNCHRONIZERS_MAX};
use crate::log::event;
use crate::node::error::NodeError;
use crate::node::link::{Link, describe, submit_once};
use crate::node::{Known, Node, lock};
use crate::record::{PositionRecord, SynchronizerRecord, TopologyRecord};
use crate::store::{StoreError, Table};
use crate::synchronizer::wire::{Parameters, Proposal};
use crate::topology::{Demands, Subject, Topology, check_keys};
use crate::version::Line;

/// A synchronizer that was registered.
#[derive(Clone, Debug)]
pub struct Registered {
    /// What its owner calls it.
    pub alias: String,
    /// How it is reached, as it was written.
    pub config: Vec<u8>,
    /// The same, read.
    pub read: SynchronizerConnectionConfig,
    /// What it is; nothing before the first handshake.
    pub parameters: Option<Parameters>,
}

impl Registered {
    fn new(alias: String, record: SynchronizerRecord) -> Result<Self, NodeError> {
        let read = read_config(&record.config)?;
        let parameters = record.parameters.as_deref().map(Parameters::decode).transpose();
        let parameters = parameters.map_err(|error| {
            NodeError::Invalid(format!("the parameters of {alias} in the store: {error}"))
        })?;
        Ok(Self { alias, config: record.config, read, parameters })
    }

    /// How it is reached, with its name as soon as that is known.
    pub fn stated_config(&self, line: Line) -> Vec<u8> {
        let mut config = self.config.clone();
        if let (Some(parameters), true) =
            (&self.parameters, self.read.physical_synchronizer_id.is_empty())
        {
            let physical_synchronizer_id = match line {
                Line::V33 => parameters.synchronizer_id.clone(),
                Line::V34 | Line::V35 => parameters.physical_id(),
            };
            let name =
                SynchronizerConnectionConfig { physical_synchronizer_id, ..Default::default() };
            // Behind everything else, so that what is not known here stays as it is.
            config.extend(name.encode_to_vec());
        }
        config
    }

    /// Its name, once it is known.
    pub fn synchronizer(&self) -> Option<SynchronizerId> {
        self.parameters.as_ref()?.synchronizer_id.parse().ok()
    }
}

impl Node {
    /// All of them, by alias.
    pub fn synchronizers(&self) -> Result<Vec<Registered>, NodeError> {
        let all = self.store().read()?.all::<SynchronizerRecord>(Table::Synchronizers)?;
        let all = all.into_iter().map(|(alias, record)| {
            Registered::new(String::from_utf8_lossy(&alias).into_owned(), record)
        });
        all.collect()
    }

    /// One of them.
    pub fn synchronizer(&self, alias: &str) -> Result<Registered, NodeError> {
        let found = self.store().read()?.one(Table::Synchronizers, alias.as_bytes())?;
        let unknown = || NodeError::Missing(format!("synchronizer {alias:?} is not registered"));
        Registered::new(alias.to_owned(), found.ok_or_else(unknown)?)
    }

    /// The one with this name.
    pub fn synchronizer_named(&self, id: &SynchronizerId) -> Result<Registered, NodeError> {
        let mut all = self.synchronizers()?.into_iter();
        let found = all.find(|one| one.synchronizer().as_ref() == Some(id));
        found.ok_or_else(|| NodeError::Missing(format!("synchronizer {id} is not known")))
    }

    /// Remembers a synchronizer. With a handshake, what it is too.
    pub async fn register(
        self: &Arc<Self>,
        config: Vec<u8>,
        with_handshake: bool,
    ) -> Result<String, NodeError> {
        let _turn = self.connectivity.lock().await;
        let read = read_config(&config)?;
        let alias = read.synchronizer_alias.clone();
        let known = self.synchronizers()?;
        if let Some(found) = known.iter().find(|one| one.alias == alias) {
            if found.config == config {
                return Ok(alias);
            }
            return Err(NodeError::Exists(format!("synchronizer {alias:?} is registered already")));
        }
        if known.len() >= SERVER_SYNCHRONIZERS_MAX {
            return Err(NodeError::Refused("too many synchronizers are registered".to_owned()));
        }
        let parameters = if with_handshake {
            let (_, parameters) = describe(&address_of(&read)?).await?;
            self.check_parameters(&read, &parameters, None)?;
            Some(parameters.encode_to_vec())
        } else {
            None
        };
        self.keep_synchronizer(&alias, &SynchronizerRecord { config, parameters })?;
        Ok(alias)
    }

    /// Replaces how a synchronizer is reached.
    pub async fn modify(&self, config: Vec<u8>) -> Result<(), NodeError> {
        let _turn = self.connectivity.lock().await;
        let read = read_config(&config)?;
        let before = self.synchronizer(&read.synchronizer_alias)?;
        let parameters = before.parameters.map(|parameters| parameters.encode_to_vec());
        let record = SynchronizerRecord { config, parameters };
        self.keep_synchronizer(&read.synchronizer_alias, &record)
    }

    /// Connects to all that connect by themselves, and says which could not be reached.
    pub async fn reconnect_all(self: &Arc<Self>) -> Result<BTreeMap<String, NodeError>, NodeError> {
        let mut failed = BTreeMap::new();
        for one in self.synchronizers()? {
            if one.read.manual_connect {
                event("stays-apart", &one.alias);
                continue;
            }
            if let Err(error) = self.connect(&one.alias).await {
                failed.insert(one.alias, error);
            }
        }
        Ok(failed)
    }

    /// Connects to one of them.
    pub async fn connect(self: &Arc<Self>, alias: &str) -> Result<(), NodeError> {
        let _turn = self.connectivity.lock().await;
        let existing = lock(&self.links).get(alias).cloned();
        if let Some(link) = existing {
            return link.wait_until_following().await;
        }
        if !self.has_topology() {
            return Err(NodeError::NotInitialized);
        }
        let registered = self.synchronizer(alias)?;
        let (client, parameters) = describe(&address_of(&registered.read)?).await?;
        self.check_parameters(&registered.read, &parameters, registered.parameters.as_ref())?;
        self.check_own_keys(&parameters)?;
        let config = registered.config;
        let stated = Some(parameters.encode_to_vec());
        self.keep_synchronizer(alias, &SynchronizerRecord { config, parameters: stated })?;
        self.trust(&parameters.synchronizer_id)?;
        let own = self.with_authorized(|topology| in_order(topology, &parameters.synchronizer_id));
        for signed in own {
            submit_once(&client, Proposal::Topology(signed)).await?;
        }
        let link = Arc::new(Link::start(self, client, &parameters)?);
        if let Err(error) = link.wait_until_following().await {
            link.cut().await;
            return Err(error);
        }
        lock(&self.links).insert(alias.to_owned(), link);
        event("connected", alias);
        Ok(())
    }

    /// Disconnects from one, or from all.
    pub async fn disconnect(&self, alias: Option<&str>) -> Result<(), NodeError> {
        let _turn = self.connectivity.lock().await;
        if let Some(alias) = alias {
            self.synchronizer(alias)?;
        }
        let aliases: Vec<String> = match alias {
            Some(alias) => vec![alias.to_owned()],
            None => lock(&self.links).keys().cloned().collect(),
        };
        for alias in aliases {
            // It is cut before it is forgotten: whoever sees no link knows that nothing comes in.
            let link = lock(&self.links).get(&alias).cloned();
            if let Some(link) = link {
                link.cut().await;
                lock(&self.links).remove(&alias);
                event("disconnected", alias);
            }
        }
        Ok(())
    }

    /// The connections that there are, by alias.
    pub fn connected(&self) -> Vec<(String, Arc<Link>)> {
        lock(&self.links).iter().map(|(alias, link)| (alias.clone(), Arc::clone(link))).collect()
    }

    /// The connection for something: the one that is named, or the only one.
    pub fn link_for(&self, synchronizer: &str) -> Result<Arc<Link>, NodeError> {
        let mut links: Vec<Arc<Link>> =
            self.connected().into_iter().map(|(_, link)| link).collect();
        if !synchronizer.is_empty() {
            links.retain(|link| {
                link.synchronizer().as_str() == synchronizer || link.physical() == synchronizer
            });
        }
        match links.len() {
            1 => links.pop().ok_or(NodeError::NotInitialized),
            0 if synchronizer.is_empty() => Err(NodeError::Refused(
                "this participant is connected to no synchronizer".to_owned(),
            )),
            0 => Err(NodeError::Refused(format!(
                "this participant is not connected to {synchronizer}"
            ))),
            _ => Err(NodeError::Invalid(
                "this participant is connected to several synchronizers: name one".to_owned(),
            )),
        }
    }

    /// Keeps connections from being made while something is done that needs that there are none.
    pub async fn while_apart(
        &self,
    ) -> Result<tokio::sync::MutexGuard<'_, ()>, crate::repair::RepairError> {
        let turn = self.connectivity.lock().await;
        if lock(&self.links).is_empty() {
            Ok(turn)
        } else {
            Err(crate::repair::RepairError::Connected)
        }
    }

    pub(crate) fn load_known(&self) -> Result<(), NodeError> {
        let read = self.store().read()?;
        let mut known = lock(&self.known);
        for one in self.synchronizers()? {
            let Some(id) = one.synchronizer() else { continue };
            let position = read.one::<PositionRecord>(Table::Meta, &position_key(&id))?;
            known.insert(
                id,
                Known { topology: Topology::default(), position: position.unwrap_or_default() },
            );
        }
        for (key, record) in read.all::<TopologyRecord>(Table::Topology)? {
            let id = key.split(|byte| *byte == 0).next().unwrap_or_default();
            let id: SynchronizerId = String::from_utf8_lossy(id).parse()?;
            let signed = Message::decode(record.signed.as_slice()).map_err(|error| {
                NodeError::Invalid(format!("the store's topology is damaged: {error}"))
            })?;
            known.entry(id).or_default().topology.restore(&signed, record.time_micros)?;
        }
        Ok(())
    }

    fn keep_synchronizer(&self, alias: &str, record: &SynchronizerRecord) -> Result<(), NodeError> {
        self.store().write::<_, StoreError>(|write| {
            write.put(Table::Synchronizers, alias.as_bytes(), record)
        })?;
        let known = Registered::new(alias.to_owned(), record.clone())?;
        if let Some(id) = known.synchronizer() {
            lock(&self.known).entry(id).or_default();
        }
        Ok(())
    }

    fn check_parameters(
        &self,
        config: &SynchronizerConnectionConfig,
        parameters: &Parameters,
        before: Option<&Parameters>,
    ) -> Result<(), NodeError> {
        if let Some(before) = before
            && before != parameters
        {
            return Err(NodeError::Rejected(format!(
                "the synchronizer is {parameters}, and {before} was registered, or its static \
                 parameters are others"
            )));
        }
        let expected = &config.physical_synchronizer_id;
        let names = [parameters.physical_id(), parameters.synchronizer_id.clone()];
        if !expected.is_empty() && !names.contains(expected) {
            return Err(NodeError::Rejected(format!(
                "the synchronizer is {parameters}, and {expected} is expected"
            )));
        }
        let version = &self.settings().version;
        if !version.line.speaks(parameters.protocol_version) {
            return Err(NodeError::Rejected(format!(
                "the synchronizer has protocol version {}, which a participant of version \
                 {version} does not speak",
                parameters.protocol_version
            )));
        }
        Ok(())
    }

    /// The synchronizer must admit every key of this node.
    fn check_own_keys(&self, parameters: &Parameters) -> Result<(), NodeError> {
        let id = self.required_id()?;
        let demands = demands_of(parameters);
        self.with_authorized(|topology| {
            let found = topology.latest(&Subject::Keys(id));
            if let Some(Mapping::OwnerToKeyMapping(keys)) = found.map(|found| &found.mapping) {
                check_keys(keys, &demands)?;
            }
            Ok::<_, NodeError>(())
        })?;
        for key in self.keys()? {
            let is_root = key.usage == heirloom_participant::custodian::key::KeyUsage::Namespace;
            let admitted = demands.signing.as_ref();
            if is_root && admitted.is_some_and(|admitted| !admitted.contains(&key.scheme)) {
                let words: Vec<&str> =
                    admitted.into_iter().flatten().map(|scheme| scheme.as_str()).collect();
                return Err(NodeError::Topology(crate::topology::TopologyRefusal::Scheme {
                    key: key.fingerprint,
                    scheme: key.scheme,
                    what: "signing",
                    required: words.join(", "),
                }));
            }
        }
        Ok(())
    }

    /// Says, once, that this participant trusts a synchronizer.
    fn trust(&self, synchronizer: &str) -> Result<(), NodeError> {
        let id = self.required_id()?;
        let subject = Subject::Trust(id.clone(), synchronizer.to_owned());
        if self.with_authorized(|topology| topology.latest(&subject).is_some()) {
            return Ok(());
        }
        let certificate = Mapping::SynchronizerTrustCertificate(SynchronizerTrustCertificate {
            participant_uid: id.to_string(),
            synchronizer_id: synchronizer.to_owned(),
            feature_flags: Vec::new(),
        });
        let before = self.with_authorized(Clone::clone);
        let signed = self.propose(certificate, TopologyChangeOp::AddReplace, 1, &[], &before)?;
        self.authorize(&[signed])
    }
}

/// Where the position in a synchronizer's log is written.
pub(crate) fn position_key(synchronizer: &SynchronizerId) -> Vec<u8> {
    format!("position/{synchronizer}").into_bytes()
}

/// What a synchronizer demands.
pub fn demands_of(parameters: &Parameters) -> Demands {
    let signing: Vec<KeyScheme> =
        parameters.signing_keys.iter().filter_map(|n| crypto::scheme_of_signing(*n)).collect();
    let encryption: Vec<KeyScheme> = parameters
        .encryption_keys
        .iter()
        .filter_map(|number| crypto::scheme_of_encryption(*number))
        .collect();
    Demands {
        synchronizer: Some(parameters.synchronizer_id.clone()),
        signing: Some(signing),
        encryption: Some(encryption),
    }
}

/// What a node has signed, each behind what it needs, without what is for other synchronizers.
fn in_order(topology: &Topology, synchronizer: &str) -> Vec<Vec<u8>> {
    let rank = |subject: &Subject| match subject {
        Subject::Delegation { .. } => 0,
        Subject::Keys(_) => 1,
        Subject::Trust(..) => 2,
        Subject::Packages(_) | Subject::Hosting(_) => 3,
    };
    let mut own: Vec<_> = topology
        .standing()
        .filter(|accepted| match &accepted.subject {
            Subject::Trust(_, trusted) => trusted == synchronizer,
            _ => true,
        })
        .collect();
    own.sort_by_key(|accepted| rank(&accepted.subject));
    own.into_iter().map(|accepted| accepted.signed.encode_to_vec()).collect()
}

fn read_config(config: &[u8]) -> Result<SynchronizerConnectionConfig, NodeError> {
    let read = SynchronizerConnectionConfig::decode(config);
    let read = read.map_err(|error| NodeError::Invalid(format!("the configuration: {error}")))?;
    let alias = read.synchronizer_alias.chars().count();
    if !(1..=LABEL_CHARACTERS_MAX).contains(&alias) {
        return Err(NodeError::Invalid(
            "a synchronizer has an alias of 1 to 255 characters".into(),
        ));
    }
    Ok(read)
}

fn address_of(config: &SynchronizerConnectionConfig) -> Result<String, NodeError> {
    let connections = config.sequencer_connections.iter();
    let connections = connections.flat_map(|found| &found.sequencer_connections);
    let addresses = connections.filter_map(|connection| match connection.r#type.as_ref()? {
        Type::Grpc(grpc) => grpc.connections.first().cloned(),
    });
    let mut addresses: Vec<String> = addresses.collect();
    addresses.pop().ok_or_else(|| {
        let alias = &config.synchronizer_alias;
        NodeError::Invalid(format!("synchronizer {alias:?} has no address"))
    })
}
