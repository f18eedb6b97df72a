//! Sealing again after platform or code were updated.

use std::collections::BTreeMap;

use heirloom_model::admin::SealingAge;

use super::error::KeeperError;
use super::{Change, Keeper};
use crate::file::{FileName, Kind};
use crate::intent::{FileWrite, Intent, StoredFile};
use crate::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use crate::sealing::{OpenError, open, seal};

/// What is said where keys cannot be asked for under other circumstances than the present ones.
const NO_RESEALING: &str = "sealing again after an update: its keys change with the update; let \
                            this keeper receive its keyring from another holder instead";

impl Keeper {
    /// Seals every file again that was made at lower security versions than the present ones,
    /// under the same name. May be repeated; a file that is current stays as it is.
    ///
    /// Each new file was opened once, and its content compared, before it is in the intent. Each
    /// write takes the place of one file at once, and old and new files open side by side: power
    /// may fail between any two of them.
    pub fn reseal(
        &self,
        platform: &dyn Platform,
        files: &[StoredFile],
    ) -> Result<Intent<()>, KeeperError> {
        self.expect_writable()?;
        if self.sealing != Sealing::Recorded {
            return Err(PlatformError::Unsupported(NO_RESEALING).into());
        }
        let identity = self.identity_now(platform)?;
        self.reload(platform, files)?;
        let ordered: BTreeMap<&str, &StoredFile> =
            files.iter().map(|stored| (stored.name.as_str(), stored)).collect();
        let mut writes = Vec::new();
        for stored in ordered.into_values() {
            let Kind::Sealed(name) = FileName::classify(&stored.name) else { continue };
            let opened = match open(platform, &identity, self.home(), stored) {
                Ok(opened) => opened,
                // One witness that opens is enough, and there is one: another stays as it is.
                Err(OpenError::Unreadable(_)) if matches!(name, FileName::Witness { .. }) => {
                    continue;
                }
                Err(OpenError::Unreadable(reason)) => return Err(KeeperError::Unreadable(reason)),
                Err(OpenError::Platform(error)) => return Err(error.into()),
            };
            if opened.age == SealingAge::Older {
                let bytes = seal(platform, &identity, &opened.subject, &opened.content)?;
                writes.push(FileWrite { name: stored.name.clone(), bytes });
            }
        }
        let change = Change { identity: Some(identity), ..Change::default() };
        Ok(Intent::with(writes, Vec::new(), change, ()))
    }

    /// Who the platform says we are, now: its firmware may have been updated since the start.
    /// Nothing else about us can have changed.
    fn identity_now(&self, platform: &dyn Platform) -> Result<PlatformIdentity, PlatformError> {
        let now = platform.identity()?;
        if now == (PlatformIdentity { cpu_svn: now.cpu_svn, ..self.identity }) {
            return Ok(now);
        }
        Err(PlatformError::Corrupt("it says that this code is another one now".to_owned()))
    }
}
