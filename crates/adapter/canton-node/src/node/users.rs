//! The users of a participant: who may act for which parties.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::party::PartyId;

use crate::error::{NodeError, Refusal};
use crate::node::call::ask;
use crate::node::{Node, Port};
use crate::wire::ledger_admin::right::Kind;
use crate::wire::ledger_admin::user_management_service_client::UserManagementServiceClient;
use crate::wire::ledger_admin::{
    CreateUserRequest, GrantUserRightsRequest, ListUserRightsRequest, ListUsersRequest, ObjectMeta,
    Right, User, right,
};

/// Users of one participant.
const USERS_MAX: usize = 100_000;
/// Rights of one user. Servers take 1000.
const RIGHTS_MAX: usize = 10_000;
/// Users in one answer.
const PAGE: i32 = 1_000;

/// A user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserEntry {
    /// Who.
    pub id: String,
    /// The party that it acts for if it does not say.
    pub primary: Option<PartyId>,
    /// Whether it may not come in at present.
    pub is_deactivated: bool,
    /// What operators noted about it.
    pub annotations: BTreeMap<String, String>,
    /// Who vouches for it; empty for the participant itself.
    pub identity_provider: String,
    /// What it may do.
    pub rights: BTreeSet<UserRight>,
}

/// What a user may do.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum UserRight {
    /// Administer the participant.
    ParticipantAdmin,
    /// Administer users of its identity provider.
    IdentityProviderAdmin,
    /// Act for a party.
    ActAs(PartyId),
    /// Read for a party.
    ReadAs(PartyId),
    /// Submit what somebody else signed for a party.
    ExecuteAs(PartyId),
    /// Read for everybody.
    ReadAsAny,
    /// Submit what somebody else signed for anybody.
    ExecuteAsAny,
    /// Act for everybody.
    ActAsAny,
    /// Something that is not known here: it is not given to anybody.
    Unknown,
}

impl UserRight {
    /// The party that it is about.
    pub fn party(&self) -> Option<&PartyId> {
        match self {
            Self::ActAs(party) | Self::ReadAs(party) | Self::ExecuteAs(party) => Some(party),
            Self::ParticipantAdmin
            | Self::IdentityProviderAdmin
            | Self::ReadAsAny
            | Self::ExecuteAsAny
            | Self::ActAsAny
            | Self::Unknown => None,
        }
    }

    /// The same right for another party.
    #[must_use]
    pub fn moved(&self, to: &PartyId) -> Self {
        match self {
            Self::ActAs(_) => Self::ActAs(to.clone()),
            Self::ReadAs(_) => Self::ReadAs(to.clone()),
            Self::ExecuteAs(_) => Self::ExecuteAs(to.clone()),
            other => other.clone(),
        }
    }

    fn write(&self) -> Option<Right> {
        let kind = match self {
            Self::ParticipantAdmin => Kind::ParticipantAdmin(right::ParticipantAdmin {}),
            Self::IdentityProviderAdmin => {
                Kind::IdentityProviderAdmin(right::IdentityProviderAdmin {})
            }
            Self::ActAs(party) => Kind::CanActAs(right::CanActAs { party: party.to_string() }),
            Self::ReadAs(party) => Kind::CanReadAs(right::CanReadAs { party: party.to_string() }),
            Self::ExecuteAs(party) => {
                Kind::CanExecuteAs(right::CanExecuteAs { party: party.to_string() })
            }
            Self::ReadAsAny => Kind::CanReadAsAnyParty(right::CanReadAsAnyParty {}),
            Self::ExecuteAsAny => Kind::CanExecuteAsAnyParty(right::CanExecuteAsAnyParty {}),
            Self::ActAsAny => Kind::CanActAsAnyParty(right::CanActAsAnyParty {}),
            Self::Unknown => return None,
        };
        Some(Right { kind: Some(kind) })
    }
}

impl Node {
    /// Every user that the participant itself vouches for, with what it may do.
    pub fn users(&self) -> Result<Vec<UserEntry>, NodeError> {
        let call = "ListUsers";
        let (mut users, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListUsersRequest {
                page_token: page_token.clone(),
                page_size: PAGE,
                ..ListUsersRequest::default()
            };
            let request = ask!(UserManagementServiceClient<_>, list_users, request);
            let page = self.read(Port::Ledger, call, request)?;
            let is_empty = page.users.is_empty();
            self.bounded(call, users.len().saturating_add(page.users.len()), USERS_MAX)?;
            for user in page.users {
                users.push(self.user(call, user)?);
            }
            if page.next_page_token.is_empty() {
                return Ok(users);
            }
            if page.next_page_token == page_token || is_empty {
                return Err(self.corrupt(call, "a page leads nowhere"));
            }
            page_token = page.next_page_token;
        }
    }

    fn user(&self, call: &'static str, user: User) -> Result<UserEntry, NodeError> {
        let rights = self.rights(&user.id, &user.identity_provider_id)?;
        let primary = Some(user.primary_party).filter(|party| !party.is_empty());
        let annotations = user.metadata.unwrap_or_default().annotations;
        Ok(UserEntry {
            id: user.id,
            primary: primary.map(|party| self.parse(call, &party)).transpose()?,
            is_deactivated: user.is_deactivated,
            annotations: annotations.into_iter().collect(),
            identity_provider: user.identity_provider_id,
            rights,
        })
    }

    fn rights(&self, user: &str, provider: &str) -> Result<BTreeSet<UserRight>, NodeError> {
        let call = "ListUserRights";
        let request = ListUserRightsRequest {
            user_id: user.to_owned(),
            identity_provider_id: provider.to_owned(),
        };
        let request = ask!(UserManagementServiceClient<_>, list_user_rights, request);
        let found = self.read(Port::Ledger, call, request)?.rights;
        self.bounded(call, found.len(), RIGHTS_MAX)?;
        let read = |right: Right| {
            let party = |text: &str| self.parse(call, text);
            Ok(match right.kind {
                None => UserRight::Unknown,
                Some(Kind::ParticipantAdmin(_)) => UserRight::ParticipantAdmin,
                Some(Kind::IdentityProviderAdmin(_)) => UserRight::IdentityProviderAdmin,
                Some(Kind::CanActAs(right)) => UserRight::ActAs(party(&right.party)?),
                Some(Kind::CanReadAs(right)) => UserRight::ReadAs(party(&right.party)?),
                Some(Kind::CanExecuteAs(right)) => UserRight::ExecuteAs(party(&right.party)?),
                Some(Kind::CanReadAsAnyParty(_)) => UserRight::ReadAsAny,
                Some(Kind::CanExecuteAsAnyParty(_)) => UserRight::ExecuteAsAny,
                Some(Kind::CanActAsAnyParty(_)) => UserRight::ActAsAny,
            })
        };
        found.into_iter().map(read).collect()
    }

    /// Makes a user with these rights; one that is there gets those that it lacks. None is taken
    /// away.
    pub fn ensure_user(&self, user: &UserEntry) -> Result<(), NodeError> {
        let call = "CreateUser";
        let rights: Vec<Right> = user.rights.iter().filter_map(UserRight::write).collect();
        let annotations = user.annotations.clone().into_iter().collect();
        let request = CreateUserRequest {
            user: Some(User {
                id: user.id.clone(),
                primary_party: user.primary.as_ref().map(ToString::to_string).unwrap_or_default(),
                is_deactivated: user.is_deactivated,
                metadata: Some(ObjectMeta { resource_version: String::new(), annotations }),
                identity_provider_id: user.identity_provider.clone(),
            }),
            rights: rights.clone(),
        };
        let request = ask!(UserManagementServiceClient<_>, create_user, request);
        match self.change(Port::Ledger, call, request) {
            Ok(_) => return Ok(()),
            Err(NodeError::Refused { cause: Refusal::Exists, .. }) => {}
            Err(error) => return Err(error),
        }
        let request = GrantUserRightsRequest {
            user_id: user.id.clone(),
            rights,
            identity_provider_id: user.identity_provider.clone(),
        };
        let request = ask!(UserManagementServiceClient<_>, grant_user_rights, request);
        self.change(Port::Ledger, "GrantUserRights", request).map(|_| ())
    }
}
