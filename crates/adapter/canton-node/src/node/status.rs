//! What a participant says about itself.

use heirloom_model::party::{ParticipantId, SynchronizerId};

use crate::error::{NodeError, Refusal};
use crate::node::call::ask;
use crate::node::synchronizers::{LISTED_SYNCHRONIZERS_MAX, logical};
use crate::node::{Node, Port};
use crate::wire::health::not_initialized::WaitingForExternalInput;
use crate::wire::participant::connected_synchronizer::Health;
use crate::wire::participant::participant_status_response::Kind;
use crate::wire::participant::participant_status_service_client::ParticipantStatusServiceClient;
use crate::wire::participant::{ParticipantStatusRequest, participant_status_response};
use crate::wire::topology::identity_initialization_service_client::IdentityInitializationServiceClient;
use crate::wire::topology::{GetIdRequest, InitIdRequest};

/// How a participant is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It has a name and its keys.
    Ready {
        /// Its name.
        participant: ParticipantId,
        /// What it runs, in its own words.
        version: String,
        /// The synchronizers that it is connected to.
        connected: Vec<SynchronizerState>,
        /// Whether it is the active one of several replicas.
        is_active: bool,
    },
    /// Somebody has to give it something first.
    Waiting {
        /// What.
        waiting: Waiting,
        /// What it runs; servers before 3.5 do not say.
        version: Option<String>,
    },
}

/// What a participant without a name waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// For its name, or for its own initialisation to end.
    Id,
    /// For the topology that says which keys it has.
    Topology,
    /// For something that is not known here.
    Other,
}

/// A synchronizer that a participant is connected to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SynchronizerState {
    /// Which.
    pub synchronizer: SynchronizerId,
    /// Its protocol version; 3.3 does not say.
    pub protocol: Option<u32>,
    /// Whether it works. A word that is not known here is no.
    pub is_healthy: bool,
}

/// Which messages a server takes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Shape {
    /// 3.3: export belongs to the service of parties; what connects is shaped differently.
    V33,
    /// 3.4: every message of an import has all fields.
    V34,
    /// 3.5 and later: only the first message of an import has them.
    V35,
}

impl Shape {
    /// The shape of this version, if it is one that is driven.
    pub fn of(version: &str) -> Option<Self> {
        let mut parts = version.split(['.', '-', '+']);
        let mut number = || parts.next()?.parse::<u32>().ok();
        match (number()?, number()?) {
            (3, 3) => Some(Self::V33),
            (3, 4) => Some(Self::V34),
            (3, 5..) => Some(Self::V35),
            _ => None,
        }
    }
}

impl Node {
    /// How it is.
    pub fn standing(&self) -> Result<Standing, NodeError> {
        let call = "ParticipantStatus";
        let request = ask!(
            ParticipantStatusServiceClient<_>,
            participant_status,
            ParticipantStatusRequest {}
        );
        let answer = self.read(Port::Admin, call, request).map_err(too_old)?;
        match answer.kind {
            None => Err(self.corrupt(call, "neither a status nor the reason why there is none")),
            Some(Kind::NotInitialized(found)) => {
                let waiting = match found.waiting_for_external_input.try_into() {
                    Ok(WaitingForExternalInput::Id | WaitingForExternalInput::Unspecified) => {
                        Waiting::Id
                    }
                    Ok(WaitingForExternalInput::NodeTopology) => Waiting::Topology,
                    Ok(WaitingForExternalInput::Initialization) | Err(_) => Waiting::Other,
                };
                let version = Some(found.version).filter(|version| !version.is_empty());
                Ok(Standing::Waiting { waiting, version })
            }
            Some(Kind::Status(found)) => self.ready(call, found),
        }
    }

    fn ready(
        &self,
        call: &'static str,
        found: participant_status_response::ParticipantStatusResponseStatus,
    ) -> Result<Standing, NodeError> {
        let common = found.common_status.ok_or_else(|| self.corrupt(call, "no common status"))?;
        self.bounded(call, found.connected_synchronizers.len(), LISTED_SYNCHRONIZERS_MAX)?;
        let connected = found
            .connected_synchronizers
            .iter()
            .map(|one| {
                let (synchronizer, protocol) = logical(self, call, &one.physical_synchronizer_id)?;
                let is_healthy = one.health == i32::from(Health::Healthy);
                Ok(SynchronizerState { synchronizer, protocol, is_healthy })
            })
            .collect::<Result<_, NodeError>>()?;
        Ok(Standing::Ready {
            participant: self.parse(call, &common.uid)?,
            version: common.version,
            connected,
            is_active: found.active,
        })
    }

    /// Which messages it takes. Before it has a name, servers before 3.5 do not say.
    pub fn shape(&self) -> Result<Shape, NodeError> {
        let call = "ParticipantStatus";
        let refused = |why: String| NodeError::Refused {
            node: self.name().to_owned(),
            call,
            cause: Refusal::Unimplemented,
            why,
        };
        let version = match self.standing()? {
            Standing::Ready { version, .. } | Standing::Waiting { version: Some(version), .. } => {
                version
            }
            Standing::Waiting { version: None, .. } => {
                return Err(refused("it has no name yet and does not say what it runs".to_owned()));
            }
        };
        Shape::of(&version).ok_or_else(|| {
            refused(format!("it runs {version:?}; Canton 3.3 and later 3.x are driven"))
        })
    }

    /// Its name, if it has one.
    pub fn id(&self) -> Result<Option<ParticipantId>, NodeError> {
        let call = "GetId";
        let request = ask!(IdentityInitializationServiceClient<_>, get_id, GetIdRequest {});
        let answer = self.read(Port::Admin, call, request)?;
        match (answer.initialized, answer.unique_identifier.is_empty()) {
            (true, false) => Ok(Some(self.parse(call, &answer.unique_identifier)?)),
            (false, true) => Ok(None),
            _ => Err(self.corrupt(call, "initialised without a name, or named without being so")),
        }
    }

    /// Gives it its name, which it keeps for ever.
    pub fn name_it(&self, participant: &ParticipantId) -> Result<(), NodeError> {
        let request = InitIdRequest {
            identifier: participant.identifier().to_owned(),
            namespace: participant.namespace().to_string(),
            namespace_delegations: Vec::new(),
        };
        let request = ask!(IdentityInitializationServiceClient<_>, init_id, request);
        self.change(Port::Admin, "InitId", request).map(|_| ())
    }
}

/// A server that does not know the first question is not one of 3.x.
fn too_old(error: NodeError) -> NodeError {
    match error {
        NodeError::Refused { node, call, cause: cause @ Refusal::Unimplemented, why } => {
            let why = format!("it is no participant of Canton 3.3 or later ({why})");
            NodeError::Refused { node, call, cause, why }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_decides_the_shape_of_messages() {
        let cases = [
            ("3.3.0", Some(Shape::V33)),
            ("3.4.12-SNAPSHOT", Some(Shape::V34)),
            ("3.5.1", Some(Shape::V35)),
            ("3.6.0-SNAPSHOT", Some(Shape::V35)),
            ("3.2.9", None),
            ("2.10.5", None),
            ("4.0.0", None),
            ("three", None),
            ("", None),
        ];
        for (text, shape) in cases {
            assert_eq!(Shape::of(text), shape, "{text}");
        }
    }
}
