//! The users of the source, for the target.

mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use heirloom_model::party::{ParticipantId, PartyId};
use heirloom_store::atomic;
use heirloom_store::error::StoreError;
use heirloom_upgrade::port::{DriverError, ParticipantCall};

use crate::driver::fault::{node_error, store_error};
use crate::driver::users::record::Record;
use crate::driver::work::{Work, is_there, keep};
use crate::driver::{Driver, supply};
use crate::error::{NodeError, Refusal};
use crate::node::{UserEntry, UserRight};

/// The user that every participant brings along.
const BUILT_IN: &str = "participant_admin";
/// A hundred thousand users with some rights each.
const RECORD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Notes the users of the source. What was noted before stays.
pub(crate) fn note(driver: &Driver, work: &Work) -> Result<(), DriverError> {
    let path = work.noted_users();
    if is_there(&path)? {
        return Ok(());
    }
    let record = Record::of(current(driver)?);
    atomic::create(&path, &record.encode()).map_err(store_error)
}

/// The source has the users that it had when it became quiet: others would be left behind.
pub(crate) fn expect_as_noted(driver: &Driver, work: &Work) -> Result<(), DriverError> {
    let Some(noted) = noted(work)? else { return Ok(()) };
    let found = Record::of(current(driver)?);
    let Some(user) = noted.difference(&found) else { return Ok(()) };
    Err(DriverError::Unexpected {
        expected: format!(
            "the users of {} as they were when it became quiet",
            driver.source.name()
        ),
        found: format!("user {user:?} is another one, new or gone: put it back as it was"),
    })
}

/// The users of the source; none where it has no users at all.
fn current(driver: &Driver) -> Result<Option<Vec<UserEntry>>, DriverError> {
    match driver.source.users() {
        Ok(users) => Ok(Some(users.into_iter().filter(|user| user.id != BUILT_IN).collect())),
        Err(NodeError::Refused { cause: Refusal::Unimplemented, .. }) => Ok(None),
        Err(error) => Err(node_error(error)),
    }
}

fn noted(work: &Work) -> Result<Option<Record>, DriverError> {
    let path = work.noted_users();
    let bytes = match atomic::read(&path, RECORD_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(StoreError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(store_error(error)),
    };
    let record = Record::decode(&bytes)
        .map_err(|reason| DriverError::Corrupt { what: path.display().to_string(), reason })?;
    Ok(Some(record))
}

/// Makes the users of the source on the target, with rights for the new parties. What cannot be
/// made is listed in a file of the plan.
pub(crate) fn recreate(
    driver: &Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    target: &ParticipantId,
) -> Result<(), DriverError> {
    let users = match noted(work)? {
        Some(noted) => noted.entries().map_err(|reason| DriverError::Corrupt {
            what: work.noted_users().display().to_string(),
            reason,
        })?,
        // A plan that became quiet before users were noted. The source is waited for.
        None => current(driver)?.unwrap_or_default(),
    };
    let mut moves = BTreeMap::new();
    for party in &task.moved.parties {
        moves.insert(party.clone(), supply::new_name(party, target)?);
    }
    moves.insert(task.moved.source.admin_party(), target.admin_party());
    let mut left = String::new();
    for user in users {
        let (user, remarks) = moved(user, &moves);
        for remark in remarks {
            writeln!(left, "{}: {remark}", user.id).expect("text grows in memory");
        }
        match driver.target.ensure_user(&user) {
            Ok(()) => {}
            Err(NodeError::Refused { why, .. }) => {
                writeln!(left, "{}: the target refused it: {why}", user.id)
                    .expect("text grows in memory");
            }
            Err(error) => return Err(node_error(error)),
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    // A later run may have less to say; what the first one said stays.
    match keep(&work.users(), left.as_bytes()) {
        Ok(()) | Err(DriverError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A user with rights for new parties, and what it loses.
fn moved(user: UserEntry, moves: &BTreeMap<PartyId, PartyId>) -> (UserEntry, Vec<String>) {
    let mut remarks = Vec::new();
    let mut rights = BTreeSet::new();
    for right in &user.rights {
        match (right, right.party()) {
            (UserRight::Unknown, _) => {
                remarks.push("a right that is newer than this program".to_owned());
            }
            (_, None) => {
                rights.insert(right.clone());
            }
            (_, Some(party)) => match moves.get(party) {
                Some(new) => {
                    rights.insert(right.moved(new));
                }
                None => remarks.push(format!("a right for {party}, which does not move")),
            },
        }
    }
    let primary = user.primary.as_ref().and_then(|party| moves.get(party)).cloned();
    if primary.is_none()
        && let Some(party) = &user.primary
    {
        remarks.push(format!("its primary party {party} does not move"));
    }
    if !user.identity_provider.is_empty() {
        let provider = &user.identity_provider;
        remarks.push(format!("the target must know its identity provider {provider}"));
    }
    (UserEntry { primary, rights, ..user }, remarks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_follow_their_parties_and_what_is_lost_is_said() {
        let party = |text: &str| text.parse::<PartyId>().unwrap();
        let moves = [(party("a::1220aa"), party("a::1220bb"))].into();
        let rights = [
            UserRight::ParticipantAdmin,
            UserRight::ActAs(party("a::1220aa")),
            UserRight::ReadAs(party("x::1220cc")),
            UserRight::Unknown,
        ];
        let user = UserEntry {
            id: "app".to_owned(),
            primary: Some(party("x::1220cc")),
            is_deactivated: false,
            annotations: BTreeMap::new(),
            identity_provider: String::new(),
            rights: rights.into(),
        };
        let (user, remarks) = moved(user, &moves);
        let expected = [UserRight::ParticipantAdmin, UserRight::ActAs(party("a::1220bb"))];
        assert_eq!(user.rights, expected.into());
        assert_eq!(user.primary, None);
        assert_eq!(remarks.len(), 3, "{remarks:?}");
    }
}
