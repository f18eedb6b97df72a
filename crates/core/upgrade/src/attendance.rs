//! Showing keepers the end of the log, so that the active holder of an exclusive domain knows that
//! it still is.
//!
//! An active holder serves only for [`ATTENDANCE_MILLISECONDS`] after its agent began to read the
//! log to its end. Every tick of an agent renews that. A step can keep an agent busy for longer: a
//! shell renews meanwhile from another thread, with a driver of its own.
//!
//! [`ATTENDANCE_MILLISECONDS`]: heirloom_model::limit::ATTENDANCE_MILLISECONDS

use heirloom_model::admin::KeeperStatus;
use heirloom_model::domain::LogPosition;
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_model::policy::HolderRole;
use heirloom_registry::port::{LogStore, ReadError};

use crate::port::{DriverError, NodeDriver};

/// Batches of log entries that one renewal gives to a keeper: one that is further behind is not
/// the active holder, or will not be soon.
pub const RENEWAL_BATCHES_MAX: u32 = 16;

/// Why a keeper was not shown the end of the log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotRenewed {
    /// The registry log cannot be read.
    #[error("the registry log cannot be read")]
    Read(#[from] ReadError),
    /// The keeper did not take part.
    #[error("the keeper was not asked, or did not answer")]
    Driver(#[from] DriverError),
    /// The keeper is too far behind.
    #[error("the keeper is too far behind: it has followed {} entries", position.length)]
    Behind {
        /// How far it has come.
        position: LogPosition,
    },
}

/// Whether an instance can need it: only keepers become active holders.
pub fn concerns(status: &KeeperStatus) -> bool {
    status.role == HolderRole::Keeper
}

/// Shows one instance the end of the log. The ticket is taken before the log is read, so the time
/// that reading takes is on the safe side.
pub fn renew<L: LogStore, D: NodeDriver>(
    log: &L,
    driver: &mut D,
    status: &KeeperStatus,
) -> Result<LogPosition, NotRenewed> {
    let code = status.measurement;
    let ticket = driver.attend(&code)?;
    let mut position = status.position;
    for _ in 0..RENEWAL_BATCHES_MAX {
        let entries = log.read(position.length, LOG_ENTRIES_MAX)?;
        if entries.is_empty() {
            return Ok(driver.follow(&code, &[], Some(ticket))?);
        }
        position = driver.follow(&code, &entries, None)?;
    }
    Err(NotRenewed::Behind { position })
}
