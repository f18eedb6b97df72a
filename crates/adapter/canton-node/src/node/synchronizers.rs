//! To which synchronizers a participant is connected, and whether it connects by itself.

use heirloom_model::party::SynchronizerId;
use prost::Message;

use crate::error::{NodeError, Refusal};
use crate::node::call::ask;
use crate::node::{Node, Port, Shape};
use crate::wire::older;
use crate::wire::older::synchronizer_connectivity_service_client as older_client;
use crate::wire::participant::synchronizer_connectivity_service_client::SynchronizerConnectivityServiceClient;
use crate::wire::participant::{
    ConnectSynchronizerRequest, DisconnectAllSynchronizersRequest,
    ListConnectedSynchronizersRequest, ListRegisteredSynchronizersRequest,
    ModifySynchronizerRequest, ReconnectSynchronizerRequest, SequencerConnectionValidation,
    SynchronizerConnectionConfig,
};

/// Synchronizers of one participant.
pub(crate) const LISTED_SYNCHRONIZERS_MAX: usize = 256;
/// `manual_connect` of a connection's description.
const MANUAL_CONNECT: u64 = 3;
/// `physical_synchronizer_id` of it.
const PHYSICAL_ID: u64 = 4;

/// A synchronizer that a participant knows how to reach.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration {
    /// What the participant calls it.
    pub alias: String,
    /// Its name, if it was ever reached.
    pub synchronizer: Option<SynchronizerId>,
    /// Its protocol version, if that is known.
    pub protocol: Option<u32>,
    /// Whether the participant connects only when it is told to.
    pub is_manual: bool,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// Its name with version and serial, in the words of the server.
    physical: Option<String>,
    /// How it is reached, in the server's bytes.
    pub(crate) config: Vec<u8>,
}

/// A synchronizer that a participant is connected to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connection {
    /// What the participant calls it.
    pub alias: String,
    /// Its name.
    pub synchronizer: SynchronizerId,
    /// Whether it works.
    pub is_healthy: bool,
}

impl Registration {
    /// Where its sequencers are, for people.
    pub fn sequencers(&self) -> Vec<String> {
        use crate::wire::participant::sequencer_connection::Type;
        let config = SynchronizerConnectionConfig::decode(&*self.config).unwrap_or_default();
        let connections = config.sequencer_connections.unwrap_or_default().sequencer_connections;
        let addresses = connections.into_iter().filter_map(|connection| match connection.r#type {
            Some(Type::Grpc(grpc)) => Some(grpc.connections),
            None => None,
        });
        addresses.flatten().collect()
    }
}

/// Reads the name of a synchronizer with protocol version and serial behind it, or without.
pub(crate) fn logical(
    node: &Node,
    call: &'static str,
    text: &str,
) -> Result<(SynchronizerId, Option<u32>), NodeError> {
    read_logical(text).map_err(|why| node.corrupt(call, why))
}

/// The same, of whoever said it.
pub(crate) fn read_logical(text: &str) -> Result<(SynchronizerId, Option<u32>), String> {
    let mut parts = text.splitn(3, "::");
    let (Some(identifier), Some(namespace)) = (parts.next(), parts.next()) else {
        return Err(format!("{text:?} is no synchronizer"));
    };
    let synchronizer = format!("{identifier}::{namespace}");
    let synchronizer: SynchronizerId =
        synchronizer.parse().map_err(|error| format!("{text:?}: {error}"))?;
    let protocol = match parts.next() {
        None => None,
        Some(rest) => {
            let version = rest.split('-').next().and_then(|version| version.parse().ok());
            Some(version.ok_or_else(|| format!("{text:?} has no protocol version"))?)
        }
    };
    Ok((synchronizer, protocol))
}

impl Node {
    /// The synchronizers that it knows.
    pub fn registrations(&self) -> Result<Vec<Registration>, NodeError> {
        let call = "ListRegisteredSynchronizers";
        let request = ask!(
            SynchronizerConnectivityServiceClient<_>,
            list_registered_synchronizers,
            ListRegisteredSynchronizersRequest { all_statuses: false }
        );
        let found = self.read(Port::Admin, call, request)?.results;
        self.bounded(call, found.len(), LISTED_SYNCHRONIZERS_MAX)?;
        let read =
            |one: crate::wire::participant::list_registered_synchronizers_response::Result| {
                let config = SynchronizerConnectionConfig::decode(&*one.config)
                    .map_err(|error| self.corrupt(call, error.to_string()))?;
                let said = one.physical_synchronizer_id.filter(|text| !text.is_empty());
                let in_config =
                    Some(config.physical_synchronizer_id).filter(|text| !text.is_empty());
                let physical = said.or(in_config);
                let named =
                    physical.as_deref().map(|text| logical(self, call, text)).transpose()?;
                let (synchronizer, protocol) = named.map_or((None, None), |(id, v)| (Some(id), v));
                Ok(Registration {
                    alias: config.synchronizer_alias,
                    synchronizer,
                    protocol,
                    is_manual: config.manual_connect,
                    is_connected: one.connected,
                    physical,
                    config: one.config,
                })
            };
        let mut read = found.into_iter().map(read).collect::<Result<Vec<_>, NodeError>>()?;
        // 3.3 need not say which one it is; of those that are connected, it does elsewhere.
        if read.iter().any(|one| one.is_connected && one.synchronizer.is_none()) {
            let connected = self.connections()?;
            for one in read.iter_mut().filter(|one| one.synchronizer.is_none()) {
                let same = connected.iter().find(|other| other.alias == one.alias);
                one.synchronizer = same.map(|same| same.synchronizer.clone());
            }
        }
        Ok(read)
    }

    /// The synchronizers that it is connected to.
    pub fn connections(&self) -> Result<Vec<Connection>, NodeError> {
        let call = "ListConnectedSynchronizers";
        let found: Vec<(String, String, bool)> = if self.shape()? == Shape::V33 {
            let request = ask!(
                older_client::SynchronizerConnectivityServiceClient<_>,
                list_connected_synchronizers,
                older::ListConnectedSynchronizersRequest {}
            );
            let found = self.read(Port::Admin, call, request)?.connected_synchronizers;
            let found = found.into_iter();
            found.map(|one| (one.synchronizer_alias, one.synchronizer_id, one.healthy)).collect()
        } else {
            let request = ask!(
                SynchronizerConnectivityServiceClient<_>,
                list_connected_synchronizers,
                ListConnectedSynchronizersRequest {}
            );
            let found = self.read(Port::Admin, call, request)?.connected_synchronizers;
            let found = found.into_iter();
            found.map(|one| (one.synchronizer_alias, one.synchronizer_id, one.healthy)).collect()
        };
        self.bounded(call, found.len(), LISTED_SYNCHRONIZERS_MAX)?;
        found
            .into_iter()
            .map(|(alias, id, is_healthy)| {
                let synchronizer = self.parse(call, &id)?;
                Ok(Connection { alias, synchronizer, is_healthy })
            })
            .collect()
    }

    /// Says whether it connects by itself when it starts. Everything else about the connection
    /// stays as the server wrote it.
    pub fn set_manual(&self, registration: &Registration, manual: bool) -> Result<(), NodeError> {
        let call = "ModifySynchronizer";
        let mut config = without_field(&registration.config, MANUAL_CONNECT)
            .ok_or_else(|| self.corrupt(call, "the description of a connection ends too early"))?;
        if manual {
            // The field's number and type, and true.
            config.extend_from_slice(&[0x18, 1]);
        }
        // The sequencers do not change, and may be away: they are not asked.
        let validation = i32::from(SequencerConnectionValidation::Disabled);
        if self.shape()? == Shape::V33 {
            let request = older::ModifySynchronizerRequest {
                new_config: config,
                sequencer_connection_validation: validation,
            };
            let request = ask!(
                older_client::SynchronizerConnectivityServiceClient<_>,
                modify_synchronizer,
                request
            );
            return self.change(Port::Admin, call, request).map(|_| ());
        }
        let request = ModifySynchronizerRequest {
            physical_synchronizer_id: registration.physical.clone(),
            new_config: config,
            sequencer_connection_validation: validation,
        };
        let request = ask!(SynchronizerConnectivityServiceClient<_>, modify_synchronizer, request);
        self.change(Port::Admin, call, request).map(|_| ())
    }

    /// Leaves every synchronizer. That it left is for [`Self::connections`] to say.
    pub fn disconnect_all(&self) -> Result<(), NodeError> {
        let request = ask!(
            SynchronizerConnectivityServiceClient<_>,
            disconnect_all_synchronizers,
            DisconnectAllSynchronizersRequest {}
        );
        self.change(Port::Admin, "DisconnectAllSynchronizers", request).map(|_| ())
    }

    /// Connects to a synchronizer that it knows.
    pub fn reconnect(&self, alias: &str) -> Result<(), NodeError> {
        let call = "ReconnectSynchronizer";
        let request =
            ReconnectSynchronizerRequest { synchronizer_alias: alias.to_owned(), retry: false };
        let request =
            ask!(SynchronizerConnectivityServiceClient<_>, reconnect_synchronizer, request);
        let answer = self.change(Port::Admin, call, request)?;
        self.connected(call, alias, answer.connected_successfully)
    }

    /// Connects to a synchronizer in the way in which another participant does, under the same
    /// alias and with manual connection.
    pub fn connect_like(&self, other: &Registration) -> Result<(), NodeError> {
        let call = "ConnectSynchronizer";
        let broken = || self.corrupt(call, "the description of a connection ends too early");
        let config = without_field(&other.config, MANUAL_CONNECT).ok_or_else(broken)?;
        // The server asks the synchronizer for its name again.
        let mut config = without_field(&config, PHYSICAL_ID).ok_or_else(broken)?;
        config.extend_from_slice(&[0x18, 1]);
        let request = ConnectSynchronizerRequest {
            config,
            sequencer_connection_validation: SequencerConnectionValidation::Active.into(),
        };
        let request = ask!(SynchronizerConnectivityServiceClient<_>, connect_synchronizer, request);
        let answer = self.change(Port::Admin, call, request)?;
        self.connected(call, &other.alias, answer.connected_successfully)
    }

    fn connected(&self, call: &'static str, alias: &str, is: bool) -> Result<(), NodeError> {
        if is {
            return Ok(());
        }
        let (node, cause) = (self.name().to_owned(), Refusal::State);
        Err(NodeError::Refused { node, call, cause, why: format!("{alias} is offline") })
    }
}

/// A message without one of its fields, in the bytes in which it came; none if it is none.
fn without_field(message: &[u8], number: u64) -> Option<Vec<u8>> {
    let mut left = Vec::with_capacity(message.len());
    let mut rest = message;
    while !rest.is_empty() {
        let start = rest;
        let key = varint(&mut rest)?;
        match key & 7 {
            0 => {
                varint(&mut rest)?;
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
        if key >> 3 != number {
            left.extend_from_slice(&start[..start.len() - rest.len()]);
        }
    }
    Some(left)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_taken_out_and_everything_else_stays() {
        let known = SynchronizerConnectionConfig {
            synchronizer_alias: "here".to_owned(),
            manual_connect: true,
            priority: 7,
            ..SynchronizerConnectionConfig::default()
        };
        let mut bytes = known.encode_to_vec();
        // Field 99, which nobody here knows: text "new".
        let unknown = [0x9a, 0x06, 3, b'n', b'e', b'w'];
        bytes.extend_from_slice(&unknown);
        let without = without_field(&bytes, MANUAL_CONNECT).unwrap();
        assert_eq!(without.len(), bytes.len() - 2);
        assert!(without.ends_with(&unknown));
        let read = SynchronizerConnectionConfig::decode(&*without).unwrap();
        assert_eq!(read, SynchronizerConnectionConfig { manual_connect: false, ..known });
        assert_eq!(without_field(&bytes[..bytes.len() - 1], MANUAL_CONNECT), None);
    }
}
