//! Parties and users, as applications' administrators see them.

use heirloom_canton_node::wire::ledger_admin::party_management_service_server::PartyManagementService;
use heirloom_canton_node::wire::ledger_admin::user_management_service_server::UserManagementService;
use heirloom_canton_node::wire::ledger_admin::{
    AllocatePartyRequest, AllocatePartyResponse, CreateUserRequest, CreateUserResponse,
    GetParticipantIdRequest, GetParticipantIdResponse, GetPartiesRequest, GetPartiesResponse,
    GetUserRequest, GetUserResponse, GrantUserRightsRequest, GrantUserRightsResponse,
    ListKnownPartiesRequest, ListKnownPartiesResponse, ListUserRightsRequest,
    ListUserRightsResponse, ListUsersRequest, ListUsersResponse,
};
use tonic::{Request, Response, Status};

use crate::node::error::NodeError;
use crate::service::{Services, page};
use crate::version::Line;

#[tonic::async_trait]
impl PartyManagementService for Services {
    async fn get_participant_id(
        &self,
        _: Request<GetParticipantIdRequest>,
    ) -> Result<Response<GetParticipantIdResponse>, Status> {
        self.on("GetParticipantId", |node| {
            Ok(GetParticipantIdResponse { participant_id: node.required_id()?.to_string() })
        })
        .await
    }

    async fn get_parties(
        &self,
        request: Request<GetPartiesRequest>,
    ) -> Result<Response<GetPartiesResponse>, Status> {
        let wanted = request.into_inner().parties;
        self.on("GetParties", move |node| {
            let mut party_details = node.parties()?;
            party_details.retain(|found| wanted.contains(&found.party));
            Ok(GetPartiesResponse { party_details })
        })
        .await
    }

    async fn list_known_parties(
        &self,
        request: Request<ListKnownPartiesRequest>,
    ) -> Result<Response<ListKnownPartiesResponse>, Status> {
        let request = request.into_inner();
        self.on("ListKnownParties", move |node| {
            let mut all = node.parties()?;
            // Before 3.4 the field is not known, and what is not known is ignored.
            if node.settings().version.line >= Line::V34 {
                all.retain(|found| found.party.starts_with(&request.filter_party));
            }
            let name = |found: &heirloom_canton_node::wire::ledger_admin::PartyDetails| {
                found.party.clone()
            };
            all.sort_by_key(name);
            let (party_details, next_page_token) =
                page(all, &request.page_token, request.page_size, |found| found.party.as_str());
            Ok(ListKnownPartiesResponse { party_details, next_page_token })
        })
        .await
    }

    async fn allocate_party(
        &self,
        request: Request<AllocatePartyRequest>,
    ) -> Result<Response<AllocatePartyResponse>, Status> {
        let request = request.into_inner();
        self.with("AllocateParty", |node| async move {
            if request.party_id_hint.is_empty() {
                let no_hint = "party_id_hint is empty: no names are made up here";
                return Err(NodeError::Invalid(no_hint.to_owned()));
            }
            let is_known = node.settings().version.line >= Line::V34;
            let synchronizer = if is_known { request.synchronizer_id } else { String::new() };
            let mut details = node.allocate(&request.party_id_hint, &synchronizer).await?;
            details.local_metadata = request.local_metadata;
            Ok(AllocatePartyResponse { party_details: Some(details) })
        })
        .await
    }
}

#[tonic::async_trait]
impl UserManagementService for Services {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let request = request.into_inner();
        self.on("CreateUser", move |node| {
            let missing = || NodeError::Invalid("there is no user in the request".to_owned());
            let user = request.user.ok_or_else(missing)?;
            node.create_user(&user, &request.rights)?;
            Ok(CreateUserResponse { user: Some(user) })
        })
        .await
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let id = request.into_inner().user_id;
        self.on("GetUser", move |node| Ok(GetUserResponse { user: Some(node.user(&id)?.0) })).await
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let request = request.into_inner();
        self.on("ListUsers", move |node| {
            let (users, next_page_token) =
                page(node.users()?, &request.page_token, request.page_size, |user| &user.id);
            Ok(ListUsersResponse { users, next_page_token })
        })
        .await
    }

    async fn grant_user_rights(
        &self,
        request: Request<GrantUserRightsRequest>,
    ) -> Result<Response<GrantUserRightsResponse>, Status> {
        let request = request.into_inner();
        self.on("GrantUserRights", move |node| {
            let newly_granted_rights = node.grant(&request.user_id, &request.rights)?;
            Ok(GrantUserRightsResponse { newly_granted_rights })
        })
        .await
    }

    async fn list_user_rights(
        &self,
        request: Request<ListUserRightsRequest>,
    ) -> Result<Response<ListUserRightsResponse>, Status> {
        let id = request.into_inner().user_id;
        self.on("ListUserRights", move |node| {
            Ok(ListUserRightsResponse { rights: node.user(&id)?.1 })
        })
        .await
    }
}
