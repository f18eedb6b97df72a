//! Users, as they are noted on disk.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::party::PartyId;
use minicbor::{Decode, Encode};

use crate::node::{UserEntry, UserRight};

/// Users of a participant, in the order of their names.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct Record {
    /// None where the participant has no users.
    #[n(0)]
    users: Option<Vec<Noted>>,
}

#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
struct Noted {
    #[n(0)]
    id: String,
    #[n(1)]
    primary: Option<String>,
    #[n(2)]
    is_deactivated: bool,
    #[n(3)]
    annotations: BTreeMap<String, String>,
    #[n(4)]
    identity_provider: String,
    #[n(5)]
    rights: Vec<NotedRight>,
}

#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
enum NotedRight {
    #[n(0)]
    Unknown,
    #[n(1)]
    ParticipantAdmin,
    #[n(2)]
    IdentityProviderAdmin,
    #[n(3)]
    ActAs(#[n(0)] String),
    #[n(4)]
    ReadAs(#[n(0)] String),
    #[n(5)]
    ExecuteAs(#[n(0)] String),
    #[n(6)]
    ReadAsAny,
    #[n(7)]
    ExecuteAsAny,
    #[n(8)]
    ActAsAny,
}

impl Record {
    /// These users; none where there can be none.
    pub(crate) fn of(users: Option<Vec<UserEntry>>) -> Self {
        let users = users.map(|users| {
            let mut noted: Vec<Noted> = users.into_iter().map(Noted::of).collect();
            noted.sort_by(|left, right| left.id.cmp(&right.id));
            noted
        });
        Self { users }
    }

    /// The bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("encoding into memory cannot fail")
    }

    /// Reads the bytes of a file; says what is wrong with them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        minicbor::decode(bytes).map_err(|error| error.to_string())
    }

    /// The users; says what is wrong with the name of a party.
    pub(crate) fn entries(self) -> Result<Vec<UserEntry>, String> {
        self.users.unwrap_or_default().into_iter().map(Noted::entry).collect()
    }

    /// The first user that is not the same in both.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let by_name = |record: &Self| -> BTreeMap<String, Noted> {
            let users = record.users.iter().flatten();
            users.map(|user| (user.id.clone(), user.clone())).collect()
        };
        let (left, right) = (by_name(self), by_name(other));
        let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        names.into_iter().find(|name| left.get(*name) != right.get(*name)).cloned()
    }
}

impl Noted {
    fn of(user: UserEntry) -> Self {
        Self {
            id: user.id,
            primary: user.primary.map(|party| party.to_string()),
            is_deactivated: user.is_deactivated,
            annotations: user.annotations,
            identity_provider: user.identity_provider,
            rights: user.rights.iter().map(NotedRight::of).collect(),
        }
    }

    fn entry(self) -> Result<UserEntry, String> {
        let rights = self.rights.into_iter().map(NotedRight::right);
        Ok(UserEntry {
            id: self.id,
            primary: self.primary.map(|text| party(&text)).transpose()?,
            is_deactivated: self.is_deactivated,
            annotations: self.annotations,
            identity_provider: self.identity_provider,
            rights: rights.collect::<Result<_, _>>()?,
        })
    }
}

impl NotedRight {
    fn of(right: &UserRight) -> Self {
        match right {
            UserRight::Unknown => Self::Unknown,
            UserRight::ParticipantAdmin => Self::ParticipantAdmin,
            UserRight::IdentityProviderAdmin => Self::IdentityProviderAdmin,
            UserRight::ActAs(party) => Self::ActAs(party.to_string()),
            UserRight::ReadAs(party) => Self::ReadAs(party.to_string()),
            UserRight::ExecuteAs(party) => Self::ExecuteAs(party.to_string()),
            UserRight::ReadAsAny => Self::ReadAsAny,
            UserRight::ExecuteAsAny => Self::ExecuteAsAny,
            UserRight::ActAsAny => Self::ActAsAny,
        }
    }

    fn right(self) -> Result<UserRight, String> {
        Ok(match self {
            Self::Unknown => UserRight::Unknown,
            Self::ParticipantAdmin => UserRight::ParticipantAdmin,
            Self::IdentityProviderAdmin => UserRight::IdentityProviderAdmin,
            Self::ActAs(text) => UserRight::ActAs(party(&text)?),
            Self::ReadAs(text) => UserRight::ReadAs(party(&text)?),
            Self::ExecuteAs(text) => UserRight::ExecuteAs(party(&text)?),
            Self::ReadAsAny => UserRight::ReadAsAny,
            Self::ExecuteAsAny => UserRight::ExecuteAsAny,
            Self::ActAsAny => UserRight::ActAsAny,
        })
    }
}

fn party(text: &str) -> Result<PartyId, String> {
    text.parse().map_err(|error| format!("{text:?} is no party: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserEntry {
        let party = || "a::1220aa".parse::<PartyId>().unwrap();
        let rights = [
            UserRight::Unknown,
            UserRight::ParticipantAdmin,
            UserRight::IdentityProviderAdmin,
            UserRight::ActAs(party()),
            UserRight::ReadAs(party()),
            UserRight::ExecuteAs(party()),
            UserRight::ReadAsAny,
            UserRight::ExecuteAsAny,
            UserRight::ActAsAny,
        ];
        UserEntry {
            id: id.to_owned(),
            primary: Some(party()),
            is_deactivated: true,
            annotations: [("team".to_owned(), "one".to_owned())].into(),
            identity_provider: "issuer".to_owned(),
            rights: rights.into(),
        }
    }

    #[test]
    fn users_are_noted_whole() {
        let users = vec![user("b"), user("a")];
        let record = Record::decode(&Record::of(Some(users.clone())).encode()).unwrap();
        assert_eq!(record.entries().unwrap(), [user("a"), user("b")]);
        assert!(Record::decode(b"nothing of the kind").is_err());
    }

    #[test]
    fn each_change_of_a_user_is_a_difference() {
        let record = |users: &[UserEntry]| Record::of(Some(users.to_vec()));
        let before = record(&[user("a"), user("b")]);
        assert_eq!(before.difference(&record(&[user("b"), user("a")])), None);
        let rights = UserEntry { rights: BTreeSet::new(), ..user("b") };
        let active = UserEntry { is_deactivated: false, ..user("b") };
        let primary = UserEntry { primary: None, ..user("b") };
        let notes = UserEntry { annotations: BTreeMap::new(), ..user("b") };
        let provider = UserEntry { identity_provider: String::new(), ..user("b") };
        for changed in [rights, active, primary, notes, provider] {
            let found = before.difference(&record(&[user("a"), changed]));
            assert_eq!(found.as_deref(), Some("b"));
        }
        assert_eq!(before.difference(&record(&[user("b")])).as_deref(), Some("a"));
        let more = record(&[user("a"), user("b"), user("c")]);
        assert_eq!(before.difference(&more).as_deref(), Some("c"));
        assert_eq!(before.difference(&Record::of(None)).as_deref(), Some("a"));
    }
}
