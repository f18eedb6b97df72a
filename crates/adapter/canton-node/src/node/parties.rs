//! The parties that a participant knows.

use std::collections::BTreeMap;

use heirloom_model::party::{PartyId, SynchronizerId};

use crate::error::{NodeError, Refusal};
use crate::node::call::ask;
use crate::node::{Node, Port, Shape};
use crate::wire::ledger_admin::party_management_service_client::PartyManagementServiceClient;
use crate::wire::ledger_admin::{AllocatePartyRequest, ListKnownPartiesRequest, ObjectMeta};
use crate::wire::participant::PingRequest;
use crate::wire::participant::ping_response::Response;
use crate::wire::participant::ping_service_client::PingServiceClient;

/// Parties that one participant knows: its own, and those in its contracts.
const PARTIES_MAX: usize = 1_000_000;
/// Parties in one answer. Servers give at most this many.
const PAGE: i32 = 1_000;

/// A party that a participant knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartyEntry {
    /// Who.
    pub party: PartyId,
    /// Whether this participant hosts it.
    pub is_local: bool,
    /// What operators noted about it.
    pub annotations: BTreeMap<String, String>,
    /// Who vouches for its users; empty for the participant itself.
    pub identity_provider: String,
}

impl Node {
    /// Every party that it knows.
    pub fn parties(&self) -> Result<Vec<PartyEntry>, NodeError> {
        let call = "ListKnownParties";
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListKnownPartiesRequest {
                page_token: page_token.clone(),
                page_size: PAGE,
                ..ListKnownPartiesRequest::default()
            };
            let request = ask!(PartyManagementServiceClient<_>, list_known_parties, request);
            let page = self.read(Port::Ledger, call, request)?;
            let is_empty = page.party_details.is_empty();
            for details in page.party_details {
                let annotations = details.local_metadata.unwrap_or_default().annotations;
                found.push(PartyEntry {
                    party: self.parse(call, &details.party)?,
                    is_local: details.is_local,
                    annotations: annotations.into_iter().collect(),
                    identity_provider: details.identity_provider_id,
                });
            }
            self.bounded(call, found.len(), PARTIES_MAX)?;
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            // A page that leads to itself would never end.
            if page.next_page_token == page_token || is_empty {
                return Err(self.corrupt(call, "a page leads nowhere"));
            }
            page_token = page.next_page_token;
        }
    }

    /// Makes a party that it hosts.
    pub fn allocate(
        &self,
        hint: &str,
        annotations: &BTreeMap<String, String>,
        synchronizer: &SynchronizerId,
    ) -> Result<PartyId, NodeError> {
        let call = "AllocateParty";
        let names_synchronizer = self.shape()? >= Shape::V34;
        let annotations = annotations.clone().into_iter().collect();
        let request = AllocatePartyRequest {
            party_id_hint: hint.to_owned(),
            local_metadata: Some(ObjectMeta { resource_version: String::new(), annotations }),
            identity_provider_id: String::new(),
            synchronizer_id: if names_synchronizer {
                synchronizer.to_string()
            } else {
                String::new()
            },
            user_id: String::new(),
        };
        let request = ask!(PartyManagementServiceClient<_>, allocate_party, request);
        let answer = self.change(Port::Ledger, call, request)?;
        let details = answer.party_details.ok_or_else(|| self.corrupt(call, "no party"))?;
        self.parse(call, &details.party)
    }

    /// Lets it send something to itself over a synchronizer, so that its clock goes on.
    pub fn ping(&self, party: &PartyId, synchronizer: &SynchronizerId) -> Result<(), NodeError> {
        let call = "Ping";
        let limit = self.shared.deadlines.change / 2;
        let timeout = prost_types::Duration::try_from(limit).unwrap_or_default();
        let request = PingRequest {
            target_parties: vec![party.to_string()],
            timeout: Some(timeout),
            synchronizer_id: synchronizer.to_string(),
            ..PingRequest::default()
        };
        let request = ask!(PingServiceClient<_>, ping, request);
        match self.change(Port::Admin, call, request)?.response {
            Some(Response::Success(_)) => Ok(()),
            Some(Response::Failure(failure)) => {
                let (node, cause) = (self.name().to_owned(), Refusal::State);
                Err(NodeError::Refused { node, call, cause, why: failure.reason })
            }
            None => Err(self.corrupt(call, "neither success nor failure")),
        }
    }
}
