//! Users of the system for launched code: each code runs under one of its own.
//!
//! Where processes are isolated by the kernel alone, code that runs under the launcher's user can
//! read the launcher's memory, open its machine, and trace other code. So the operator gives a range
//! of users that belong to nobody, and the launcher gives each code, by what seal keys depend on
//! too, one of them for ever: a file says which, and is durable before the code first runs. Root and
//! the kernel can do everything all the same; which kernel that is, evidence says.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use heirloom_model::digest::sha256;
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::wire;
use minicbor::{Decode, Encode};
use nix::unistd::{Group, geteuid, setgroups};

use crate::files::{self, FileError};
use crate::report::{LaunchMode, Secs};

/// Users that a range has at least: a machine runs a handful of codes, and none gives its user
/// back.
pub const USERS_MIN: u32 = 16;
/// Users that a range has at most: more codes than one machine ever runs.
pub const USERS_MAX: u32 = 4096;
/// File name of the table in the machine's directory.
pub const TABLE: &str = "bundle-users";
/// A user's entry has some 90 bytes.
const TABLE_BYTES_MAX: usize = USERS_MAX as usize * 128 + OVERHEAD_BYTES;
const OVERHEAD_BYTES: usize = 256;
/// What the table's file begins with.
const KIND: [u8; 16] = *b"heirloom users\0\x01";
const DIGEST_BYTES: usize = 32;
/// Above are numbers that some programs take for negative ones; `-1` is nobody at all.
const USER_MAX: u32 = i32::MAX.unsigned_abs();
/// Numbers that systemd and the kernel give to others without writing it down: dynamic users,
/// `nobody`, and what was -1 when numbers had 16 bits. They are more than a range may have, so a
/// range with free ends has none of them.
const RESERVED: std::ops::RangeInclusive<u32> = 61_184..=65_535;
/// Files of the system that say whose a number is.
const PASSWD: &str = "/etc/passwd";
const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";
/// A file of the system that is larger is none.
const SYSTEM_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A range of users, `FIRST-LAST`. That they belong to nobody, [`BundleUsers`] shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UserRange {
    first: u32,
    last: u32,
}

/// Users that belong to nobody else here, and the group in which they meet the host's agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BundleUsers {
    range: UserRange,
    group: u32,
}

/// Which code has which user, on one machine.
pub struct UserTable {
    path: PathBuf,
    users: BundleUsers,
    entries: Mutex<Vec<Entry>>,
}

/// Why there are no users for what is launched.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// Only root gives processes other users.
    #[error("launching under other users needs root: run it as root")]
    NotRoot,
    /// It is not a range.
    #[error("`{0}` is not a range of users: write FIRST-LAST, as in 1900000000-1900000255")]
    NotARange(String),
    /// There is no such group.
    #[error("there is no group `{0}`: `groupadd --system {0}`, and run the agent with it")]
    NoGroup(String),
    /// It is too small or too large.
    #[error("the range has {found} users: give it {USERS_MIN} to {USERS_MAX}")]
    Size {
        /// Users in it.
        found: u64,
    },
    /// A number in it means something else.
    #[error(
        "user or group {number} means something else to the system: choose one that means nothing"
    )]
    Reserved {
        /// The number.
        number: u32,
    },
    /// A number in it belongs to somebody.
    #[error("{number} belongs to {owner} by {file}: choose numbers that belong to nobody")]
    Taken {
        /// The user or group.
        number: u32,
        /// Whose it is.
        owner: String,
        /// What says so.
        file: &'static str,
    },
    /// The machine's directory is open to others.
    #[error("{path} is open to other users: `chown root` and `chmod 700` it")]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The table says what cannot be.
    #[error("{path} is corrupt: {reason}")]
    Corrupt {
        /// The table.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A user was given to some code, and is not in the range any more.
    #[error(
        "user {user} was given to some code and is not in the range {range}: give the range back that it was given from"
    )]
    OutOfRange {
        /// The user.
        user: u32,
        /// The range.
        range: UserRange,
    },
    /// Every user belongs to some code.
    #[error("all {users} users belong to other code: make the range longer at its end")]
    Exhausted {
        /// Users in the range.
        users: u32,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system did not say or do something.
    #[error("{what}")]
    System {
        /// What.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl UserRange {
    /// From the first to the last, both of them in it.
    pub fn new(first: u32, last: u32) -> Result<Self, UsersError> {
        let found = (u64::from(last) + 1).saturating_sub(u64::from(first));
        if found < u64::from(USERS_MIN) || found > u64::from(USERS_MAX) {
            return Err(UsersError::Size { found });
        }
        for number in [first, last] {
            expect_free(number)?;
        }
        Ok(Self { first, last })
    }

    fn contains(self, user: u32) -> bool {
        (self.first..=self.last).contains(&user)
    }

    fn users(self) -> u32 {
        self.last - self.first + 1
    }
}

impl FromStr for UserRange {
    type Err = UsersError;

    fn from_str(text: &str) -> Result<Self, UsersError> {
        let numbers = text.split_once('-');
        let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (first, last) = numbers.ok_or_else(|| UsersError::NotARange(text.to_owned()))?;
        Self::new(first, last)
    }
}

impl std::fmt::Display for UserRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

fn expect_free(number: u32) -> Result<(), UsersError> {
    if number == 0 || number > USER_MAX || RESERVED.contains(&number) {
        return Err(UsersError::Reserved { number });
    }
    Ok(())
}

/// The group of the host's agent, by its name or number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AgentGroup(pub u32);

impl FromStr for AgentGroup {
    type Err = UsersError;

    fn from_str(text: &str) -> Result<Self, UsersError> {
        if let Ok(number) = text.parse() {
            return Ok(Self(number));
        }
        let failed = |error: nix::Error| UsersError::System {
            what: "the groups of the system cannot be read",
            source: error.into(),
        };
        let group = Group::from_name(text).map_err(failed)?;
        let group = group.ok_or_else(|| UsersError::NoGroup(text.to_owned()))?;
        Ok(Self(group.gid.as_raw()))
    }
}

/// Gives up every group of this process but its first: what it opens for the agent, the agent could
/// open.
pub fn leave_other_groups() -> Result<(), UsersError> {
    setgroups(&[]).map_err(|error| UsersError::System {
        what: "other groups cannot be given up",
        source: error.into(),
    })
}

impl BundleUsers {
    /// Finds that this process can give these users to others, and that they belong to nobody:
    /// neither directly, nor as users of somebody's containers. The group is the agent's own.
    pub fn new(range: UserRange, AgentGroup(group): AgentGroup) -> Result<Self, UsersError> {
        if !geteuid().is_root() {
            return Err(UsersError::NotRoot);
        }
        expect_free(group)?;
        refuse_taken(PASSWD, range, &read_system(PASSWD)?, one_user)?;
        refuse_taken(SUBUID, range, &read_system(SUBUID)?, many)?;
        let only_group = UserRange { first: group, last: group };
        refuse_taken(SUBGID, only_group, &read_system(SUBGID)?, many)?;
        Ok(Self { range, group })
    }

    /// The group of everything that is launched, and of the host's agent.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Whether this user is for launched code: nobody else has it, so whoever has it was launched,
    /// or comes from there.
    pub fn contains(&self, user: u32) -> bool {
        self.range.contains(user)
    }
}

/// The numbers of a line of `passwd`: its own.
fn one_user(fields: &[&str]) -> Option<(u32, u32)> {
    let number = fields.get(2)?.parse().ok()?;
    Some((number, number))
}

/// The numbers of a line of `subuid` and `subgid`: first, and how many.
fn many(fields: &[&str]) -> Option<(u32, u32)> {
    let first: u32 = fields.get(1)?.parse().ok()?;
    let count: u32 = fields.get(2)?.parse().ok()?;
    Some((first, first.saturating_add(count.checked_sub(1)?)))
}

fn refuse_taken(
    file: &'static str,
    range: UserRange,
    text: &str,
    numbers: fn(&[&str]) -> Option<(u32, u32)>,
) -> Result<(), UsersError> {
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        // What is no line of the system gives nobody anything.
        let Some((first, last)) = numbers(&fields) else { continue };
        if first <= range.last && range.first <= last {
            let owner = fields.first().copied().unwrap_or_default().to_owned();
            return Err(UsersError::Taken { number: first.max(range.first), owner, file });
        }
    }
    Ok(())
}

/// A file that a system need not have.
fn read_system(path: &'static str) -> Result<String, UsersError> {
    match files::read(Path::new(path), SYSTEM_FILE_BYTES_MAX) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(FileError::Missing { .. }) => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

/// Which code has a user: what seal keys of the code depend on, but not its version, so that code
/// has the user of whoever sealed its files.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
struct Entry {
    #[n(0)]
    user: u32,
    #[n(1)]
    measurement: MrEnclave,
    #[n(2)]
    signer: MrSigner,
    #[n(3)]
    debug: bool,
}

#[derive(Debug, Decode, Encode)]
struct Entries(#[n(0)] Vec<Entry>);

heirloom_model::wire! {
    Entries: "table of users of bundles", TABLE_BYTES_MAX;
}

impl UserTable {
    /// Reads the table of the machine in a directory, which must be root's alone. A machine that
    /// never launched anything has none.
    pub fn open(state: &Path, users: BundleUsers) -> Result<Self, UsersError> {
        let failed = |source| UsersError::System { what: "the directory cannot be seen", source };
        let found = fs::metadata(state).map_err(failed)?;
        if found.uid() != 0 || found.permissions().mode() & 0o077 != 0 {
            return Err(UsersError::OpenDirectory { path: state.to_owned() });
        }
        let path = state.join(TABLE);
        let entries = match files::read(&path, TABLE_BYTES_MAX) {
            Err(FileError::Missing { .. }) => Vec::new(),
            read => parse(&path, &read?)?,
        };
        if let Some(entry) = entries.iter().find(|entry| !users.contains(entry.user)) {
            return Err(UsersError::OutOfRange { user: entry.user, range: users.range });
        }
        Ok(Self { path, users, entries: Mutex::new(entries) })
    }

    /// Users and group.
    pub fn users(&self) -> &BundleUsers {
        &self.users
    }

    /// The user of some code. One that has none yet gets the next, durably before this returns.
    pub(crate) fn user_of(&self, secs: &Secs) -> Result<u32, UsersError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let debug = secs.mode() == LaunchMode::Debug;
        let (measurement, signer) = (secs.measurement, secs.signer);
        let same = |entry: &&Entry| {
            (entry.measurement, entry.signer, entry.debug) == (measurement, signer, debug)
        };
        if let Some(entry) = entries.iter().find(same) {
            return Ok(entry.user);
        }
        let highest = entries.iter().map(|entry| entry.user).max();
        let user = highest.map_or(self.users.range.first, |highest| highest + 1);
        if !self.users.contains(user) {
            return Err(UsersError::Exhausted { users: self.users.range.users() });
        }
        let mut next = entries.clone();
        next.push(Entry { user, measurement, signer, debug });
        files::replace(&self.path, &to_bytes(&Entries(next.clone())))?;
        *entries = next;
        Ok(user)
    }
}

fn to_bytes(entries: &Entries) -> Vec<u8> {
    let encoded = wire::encode(entries);
    [&KIND[..], &encoded, &sha256(&[&KIND, &encoded])].concat()
}

/// Damage must not give one user to two codes, so a digest tells it from another table.
fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Entry>, UsersError> {
    let corrupt = |reason| UsersError::Corrupt { path: path.to_owned(), reason };
    let rest = bytes.strip_prefix(&KIND).ok_or_else(|| corrupt("it is no table of users"))?;
    let at = rest.len().checked_sub(DIGEST_BYTES).ok_or_else(|| corrupt("it is too short"))?;
    let (encoded, digest) = rest.split_at(at);
    if *digest != sha256(&[&KIND, encoded]) {
        return Err(corrupt("its digest does not belong to its content"));
    }
    let Entries(entries) =
        wire::decode(encoded).map_err(|_| corrupt("its entries cannot be understood"))?;
    let mut seen = std::collections::BTreeSet::new();
    if !entries.iter().all(|entry| seen.insert(entry.user)) {
        return Err(corrupt("two codes have one user"));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
