//! Topology as a participant sees it, and changes that it signs itself.

use std::collections::BTreeSet;

use heirloom_canton::fingerprint::Fingerprint;
use heirloom_canton::types::PackageId;
use heirloom_model::party::{Namespace, ParticipantId, PartyId, SynchronizerId};

use crate::error::NodeError;
use crate::node::call::ask;
use crate::node::keys::{KeyMaterial, read_key};
use crate::node::{Node, Port};
use crate::wire::protocol::enums::TopologyChangeOp;
use crate::wire::protocol::namespace_delegation::{CanSignAllMappings, Restriction};
use crate::wire::protocol::topology_mapping::Mapping;
use crate::wire::protocol::{NamespaceDelegation, OwnerToKeyMapping, TopologyMapping};
use crate::wire::topology::authorize_request::{Proposal, Type};
use crate::wire::topology::base_query::TimeQuery;
use crate::wire::topology::store_id::{Authorized, Store};
use crate::wire::topology::synchronizer::Kind;
use crate::wire::topology::topology_manager_read_service_client::TopologyManagerReadServiceClient;
use crate::wire::topology::topology_manager_write_service_client::TopologyManagerWriteServiceClient;
use crate::wire::topology::{
    AuthorizeRequest, BaseQuery, ListNamespaceDelegationRequest, ListOwnerToKeyMappingRequest,
    ListPartyToParticipantRequest, ListVettedPackagesRequest, StoreId, Synchronizer,
};

/// Mappings in one answer: a participant hosts some hundred thousand parties at most.
const MAPPINGS_MAX: usize = 1_000_000;
/// Participants that host one party.
const HOSTS_MAX: usize = 1_024;

/// Whose topology.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// The participant's own: what it signed, wherever it is connected.
    Own,
    /// What holds on a synchronizer.
    Synchronizer(SynchronizerId),
}

/// Who hosts a party.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hosting {
    /// Who.
    pub party: PartyId,
    /// Every participant that hosts it.
    pub participants: BTreeSet<ParticipantId>,
    /// Whether it signs with keys of its own.
    pub has_own_keys: bool,
}

fn store(place: &Place) -> StoreId {
    let store = match place {
        Place::Own => Store::Authorized(Authorized {}),
        Place::Synchronizer(id) => {
            Store::Synchronizer(Synchronizer { kind: Some(Kind::Id(id.to_string())) })
        }
    };
    StoreId { store: Some(store) }
}

/// What holds now and is no proposal.
fn head(place: &Place) -> BaseQuery {
    BaseQuery {
        store: Some(store(place)),
        proposals: false,
        operation: TopologyChangeOp::AddReplace.into(),
        time_query: Some(TimeQuery::HeadState(())),
        filter_signed_key: String::new(),
        protocol_version: None,
    }
}

impl Node {
    /// Which keys a namespace lets sign everything, and which it is its own root.
    pub fn delegations(
        &self,
        place: &Place,
        namespace: &Namespace,
    ) -> Result<BTreeSet<Fingerprint>, NodeError> {
        let call = "ListNamespaceDelegation";
        let request = ListNamespaceDelegationRequest {
            base_query: Some(head(place)),
            filter_namespace: namespace.to_string(),
            filter_target_key_fingerprint: String::new(),
        };
        let request = ask!(TopologyManagerReadServiceClient<_>, list_namespace_delegation, request);
        let found = self.read(Port::Admin, call, request)?.results;
        self.bounded(call, found.len(), MAPPINGS_MAX)?;
        let mut keys = BTreeSet::new();
        for item in found.into_iter().filter_map(|result| result.item) {
            // A filter of the server is a prefix.
            if item.namespace != namespace.as_str() {
                continue;
            }
            let key = item.target_key.ok_or_else(|| self.corrupt(call, "no target key"))?;
            let key = Some(crate::wire::crypto::public_key::Key::SigningPublicKey(key));
            let key = read_key(&crate::wire::crypto::PublicKey { key });
            keys.insert(key.map_err(|why| self.corrupt(call, why))?.fingerprint());
        }
        Ok(keys)
    }

    /// The keys that a participant says are its own; none if it never said.
    pub fn owned_keys(
        &self,
        place: &Place,
        participant: &ParticipantId,
    ) -> Result<Option<BTreeSet<Fingerprint>>, NodeError> {
        let call = "ListOwnerToKeyMapping";
        let request = ListOwnerToKeyMappingRequest {
            base_query: Some(head(place)),
            filter_key_owner_type: "PAR".to_owned(),
            filter_key_owner_uid: participant.to_string(),
        };
        let request = ask!(TopologyManagerReadServiceClient<_>, list_owner_to_key_mapping, request);
        let found = self.read(Port::Admin, call, request)?.results;
        self.bounded(call, found.len(), MAPPINGS_MAX)?;
        let member = member(participant);
        let of = |item: &OwnerToKeyMapping| item.member == member;
        let Some(item) = found.into_iter().filter_map(|result| result.item).find(of) else {
            return Ok(None);
        };
        let keys = item.public_keys.iter().map(|key| {
            let key = read_key(key).map_err(|why| self.corrupt(call, why))?;
            Ok(key.fingerprint())
        });
        keys.collect::<Result<_, NodeError>>().map(Some)
    }

    /// Every party that a participant hosts.
    pub fn hosted_by(
        &self,
        place: &Place,
        participant: &ParticipantId,
    ) -> Result<Vec<Hosting>, NodeError> {
        let found = self.hostings(place, "", participant.as_str())?;
        // Filters of the server are prefixes.
        let is = |one: &Hosting| one.participants.contains(participant);
        Ok(found.into_iter().filter(is).collect())
    }

    /// Who hosts a party; none if nobody does.
    pub fn hosts_of(&self, place: &Place, party: &PartyId) -> Result<Option<Hosting>, NodeError> {
        let found = self.hostings(place, party.as_str(), "")?;
        Ok(found.into_iter().find(|one| one.party == *party))
    }

    fn hostings(
        &self,
        place: &Place,
        party: &str,
        participant: &str,
    ) -> Result<Vec<Hosting>, NodeError> {
        let call = "ListPartyToParticipant";
        let request = ListPartyToParticipantRequest {
            base_query: Some(head(place)),
            filter_party: party.to_owned(),
            filter_participant: participant.to_owned(),
        };
        let request = ask!(TopologyManagerReadServiceClient<_>, list_party_to_participant, request);
        let found = self.read(Port::Admin, call, request)?.results;
        self.bounded(call, found.len(), MAPPINGS_MAX)?;
        let mut hostings = Vec::with_capacity(found.len());
        for item in found.into_iter().filter_map(|result| result.item) {
            self.bounded(call, item.participants.len(), HOSTS_MAX)?;
            let participants = item.participants.iter();
            let participants = participants
                .map(|host| self.parse(call, &host.participant_uid))
                .collect::<Result<BTreeSet<ParticipantId>, _>>()?;
            let party = self.parse(call, &item.party)?;
            let has_own_keys = item.party_signing_keys.is_some_and(|keys| !keys.keys.is_empty());
            hostings.push(Hosting { party, participants, has_own_keys });
        }
        Ok(hostings)
    }

    /// The packages that a participant takes in transactions of a synchronizer.
    pub fn vetted(
        &self,
        place: &Place,
        participant: &ParticipantId,
    ) -> Result<BTreeSet<PackageId>, NodeError> {
        let call = "ListVettedPackages";
        let request = ListVettedPackagesRequest {
            base_query: Some(head(place)),
            filter_participant: participant.to_string(),
        };
        let request = ask!(TopologyManagerReadServiceClient<_>, list_vetted_packages, request);
        let found = self.read(Port::Admin, call, request)?.results;
        self.bounded(call, found.len(), MAPPINGS_MAX)?;
        let mut packages = BTreeSet::new();
        for item in found.into_iter().filter_map(|result| result.item) {
            if item.participant_uid != participant.as_str() {
                continue;
            }
            let ids = item.packages.iter().map(|package| &package.package_id);
            for id in ids.chain(&item.package_ids) {
                packages.insert(self.parse(call, id)?);
            }
        }
        Ok(packages)
    }

    /// Says that this key, whose fingerprint is its namespace, may sign everything in it. The
    /// participant signs.
    pub fn delegate_root(&self, root: &KeyMaterial) -> Result<(), NodeError> {
        let target_key = match &root.wire.key {
            Some(crate::wire::crypto::public_key::Key::SigningPublicKey(key)) => Some(key.clone()),
            _ => None,
        };
        let delegation = NamespaceDelegation {
            namespace: root.fingerprint().to_string(),
            target_key,
            // Servers before restrictions read the one, later ones the other.
            is_root_delegation: true,
            restriction: Some(Restriction::CanSignAllMappings(CanSignAllMappings {})),
        };
        let signed_by = vec![root.fingerprint().to_string()];
        self.authorize(Mapping::NamespaceDelegation(delegation), signed_by)
    }

    /// Says which keys the participant has. It signs with its namespace key and with every new
    /// one, which proves that it can use them.
    pub fn own_keys(
        &self,
        participant: &ParticipantId,
        root: &KeyMaterial,
        keys: &[KeyMaterial],
    ) -> Result<(), NodeError> {
        let public_keys = keys.iter().map(|key| key.wire.clone()).collect();
        let mapping = OwnerToKeyMapping { member: member(participant), public_keys };
        let mut signed_by = vec![root.fingerprint().to_string()];
        for key in keys {
            if let heirloom_canton::key::PublicKey::Signing(signing) = &key.key {
                signed_by.push(signing.fingerprint().to_string());
            }
        }
        self.authorize(Mapping::OwnerToKeyMapping(mapping), signed_by)
    }

    fn authorize(&self, mapping: Mapping, signed_by: Vec<String>) -> Result<(), NodeError> {
        let proposal = Proposal {
            change: TopologyChangeOp::AddReplace.into(),
            serial: 1,
            v30: Some(TopologyMapping { mapping: Some(mapping) }),
        };
        let request = AuthorizeRequest {
            r#type: Some(Type::Proposal(proposal)),
            must_fully_authorize: true,
            force_changes: Vec::new(),
            signed_by,
            store: Some(store(&Place::Own)),
            wait_to_become_effective: None,
        };
        let request = ask!(TopologyManagerWriteServiceClient<_>, authorize, request);
        self.change(Port::Admin, "Authorize", request).map(|_| ())
    }
}

/// A participant as a member of a synchronizer.
fn member(participant: &ParticipantId) -> String {
    format!("PAR::{participant}")
}
