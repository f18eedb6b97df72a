//! Parties that this participant hosts or knows, and users with their rights.

use std::collections::BTreeMap;

use heirloom_canton_node::wire::ledger_admin::{PartyDetails, Right, User};
use heirloom_canton_node::wire::protocol::PartyToParticipant;
use heirloom_canton_node::wire::protocol::enums::{ParticipantPermission, TopologyChangeOp};
use heirloom_canton_node::wire::protocol::party_to_participant::HostingParticipant;
use heirloom_canton_node::wire::protocol::topology_mapping::Mapping;
use heirloom_model::party::PartyId;
use minicbor::bytes::ByteVec;
use prost::Message;

use crate::limit::LABEL_CHARACTERS_MAX;
use crate::node::error::NodeError;
use crate::node::{Node, lock};
use crate::record::UserRecord;
use crate::store::{StoreError, Table};
use crate::synchronizer::wire::Proposal;
use crate::topology::Subject;

impl Node {
    /// Makes a party in the namespace of this participant, hosted here.
    pub async fn allocate(
        &self,
        hint: &str,
        synchronizer: &str,
    ) -> Result<PartyDetails, NodeError> {
        let id = self.required_id()?;
        let link = self.link_for(synchronizer)?;
        let party = PartyId::new(hint, &id.namespace())?;
        let before = self.with_known(link.synchronizer(), |known| known.topology.clone());
        let before = before.unwrap_or_default();
        if before.hosting(&party).is_some() || party == id.admin_party() {
            return Err(NodeError::Exists(format!("party {party} exists already")));
        }
        let mapping = Mapping::PartyToParticipant(PartyToParticipant {
            party: party.to_string(),
            threshold: 1,
            participants: vec![HostingParticipant {
                participant_uid: id.to_string(),
                permission: ParticipantPermission::Submission.into(),
                onboarding: None,
            }],
            party_signing_keys: None,
        });
        let signed = self.propose(mapping, TopologyChangeOp::AddReplace, 0, &[], &before)?;
        link.submit(Proposal::Topology(signed.encode_to_vec())).await?;
        Ok(details(&party, true))
    }

    /// All parties that are known, ordered by name.
    pub fn parties(&self) -> Result<Vec<PartyDetails>, NodeError> {
        let id = self.required_id()?;
        let mut parties: BTreeMap<PartyId, bool> = BTreeMap::from([(id.admin_party(), true)]);
        for known in lock(&self.known).values() {
            for accepted in known.topology.standing() {
                match &accepted.subject {
                    Subject::Hosting(party) => {
                        let is_local = known.topology.hosts_of(party).contains(id.as_str());
                        *parties.entry(party.clone()).or_default() |= is_local;
                    }
                    Subject::Trust(participant, _) => {
                        parties.entry(participant.admin_party()).or_insert(false);
                    }
                    _ => {}
                }
            }
        }
        Ok(parties.iter().map(|(party, is_local)| details(party, *is_local)).collect())
    }

    /// Makes a user.
    pub fn create_user(&self, user: &User, rights: &[Right]) -> Result<(), NodeError> {
        if !(1..=LABEL_CHARACTERS_MAX).contains(&user.id.len()) {
            return Err(NodeError::Invalid("a user id has 1 to 255 characters".to_owned()));
        }
        let rights = distinct(&[], rights);
        let record = UserRecord { user: user.encode_to_vec(), rights: encoded(&rights) };
        self.store().write::<_, NodeError>(|write| {
            if write.one::<UserRecord>(Table::Users, user.id.as_bytes())?.is_some() {
                return Err(NodeError::Exists(format!("user {} exists already", user.id)));
            }
            Ok(write.put(Table::Users, user.id.as_bytes(), &record)?)
        })
    }

    /// A user with its rights.
    pub fn user(&self, id: &str) -> Result<(User, Vec<Right>), NodeError> {
        let found: Option<UserRecord> = self.store().read()?.one(Table::Users, id.as_bytes())?;
        let missing = || NodeError::Missing(format!("there is no user {id}"));
        decoded(&found.ok_or_else(missing)?)
    }

    /// All users, ordered by id.
    pub fn users(&self) -> Result<Vec<User>, NodeError> {
        let all = self.store().read()?.all::<UserRecord>(Table::Users)?;
        all.iter().map(|(_, record)| Ok(decoded(record)?.0)).collect()
    }

    /// Gives rights, and says which are new.
    pub fn grant(&self, id: &str, rights: &[Right]) -> Result<Vec<Right>, NodeError> {
        let (user, mut held) = self.user(id)?;
        let new = distinct(&held, rights);
        held.extend(new.iter().cloned());
        let record = UserRecord { user: user.encode_to_vec(), rights: encoded(&held) };
        self.store()
            .write::<_, StoreError>(|write| write.put(Table::Users, id.as_bytes(), &record))?;
        Ok(new)
    }
}

fn details(party: &PartyId, is_local: bool) -> PartyDetails {
    PartyDetails { party: party.to_string(), is_local, ..PartyDetails::default() }
}

fn distinct(held: &[Right], rights: &[Right]) -> Vec<Right> {
    let mut new: Vec<Right> = Vec::new();
    for right in rights {
        if !held.contains(right) && !new.contains(right) {
            new.push(right.clone());
        }
    }
    new
}

fn encoded(rights: &[Right]) -> Vec<ByteVec> {
    rights.iter().map(|right| ByteVec::from(right.encode_to_vec())).collect()
}

fn decoded(record: &UserRecord) -> Result<(User, Vec<Right>), NodeError> {
    let damaged = |error: prost::DecodeError| {
        NodeError::Invalid(format!("a user in the store is damaged: {error}"))
    };
    let user = User::decode(record.user.as_slice()).map_err(damaged)?;
    let rights = record.rights.iter().map(|right| Right::decode(right.as_slice()));
    Ok((user, rights.collect::<Result<_, _>>().map_err(damaged)?))
}
