//! What an authority has approved so far, so that it approves nothing that cannot be retired.
//!
//! A request says where the machine's counter of approvals stands, and nobody vouches for that: the
//! highest number of all would be good for ever. So the authority keeps beside its key, for each
//! machine, the highest count that it approved, and goes up by single steps from there.

use std::fs::File;
use std::path::{Path, PathBuf};

use heirloom_launcher::files::{self, FileError};
use heirloom_model::evidence::PcrValue;
use heirloom_model::identifier::{HostId, PlatformId};
use heirloom_model::wire;
use minicbor::{Decode, Encode};

use super::error::MachineError;
use super::setup::Earlier;
use super::state::{HostRequest, host_policy};

/// The highest count of a machine that was never approved. A new counter starts above every count
/// that its TPM ever had, and TPMs are built for some hundred thousand writes.
pub const FIRST_COUNT_MAX: u64 = 1 << 20;

/// The records of an authority, in a directory of their own beside its key.
#[derive(Clone, Debug)]
pub struct ApprovalRecords {
    directory: PathBuf,
}

/// What was approved of one machine.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ApprovalRecord {
    /// The machine.
    #[n(0)]
    pub platform: PlatformId,
    /// Its name, as it was then.
    #[n(1)]
    pub host: HostId,
    /// The highest count that was approved.
    #[n(2)]
    pub counter: u64,
    /// The registers that were approved last.
    #[n(3)]
    pub registers: Vec<PcrValue>,
}

/// A request that may be approved: its count goes on from those before, and this is on record.
///
/// Only [`ApprovalRecords::admit`] makes one.
///
/// ```compile_fail
/// fn forge(of: heirloom_tpm::machine::approved::Admitted) -> heirloom_tpm::machine::approved::Admitted {
///     heirloom_tpm::machine::approved::Admitted { counter: u64::MAX, ..of }
/// }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admitted {
    request: HostRequest,
    counter: u64,
    before: Option<ApprovalRecord>,
}

impl ApprovalRecords {
    /// The records beside the key of an authority.
    pub fn beside(key: &Path) -> Self {
        let mut name = key.as_os_str().to_owned();
        name.push(".approved");
        Self { directory: name.into() }
    }

    /// What was approved of a machine; none if nothing was.
    pub fn of(&self, platform: &PlatformId) -> Result<Option<ApprovalRecord>, MachineError> {
        let record: ApprovalRecord = match files::read_value(&self.path(platform)) {
            Err(FileError::Missing { .. }) => return Ok(None),
            read => read?,
        };
        // Whoever renames a record would give a machine the counts of another one.
        if record.platform == *platform { Ok(Some(record)) } else { Err(MachineError::OtherRecord) }
    }

    /// Refuses a request whose count jumps, and records durably what is about to be approved.
    pub fn admit(&self, request: HostRequest, earlier: Earlier) -> Result<Admitted, MachineError> {
        let before = self.of(&request.platform)?;
        let asked = request.counter;
        let limit = match &before {
            Some(before) => before.counter.saturating_add(1),
            None => FIRST_COUNT_MAX,
        };
        if asked > limit {
            return Err(MachineError::ApprovalJump { asked, limit });
        }
        let highest = before.as_ref().map_or(asked, |before| before.counter.max(asked));
        let counter = match earlier {
            Earlier::Hold => asked,
            // Above all that was ever approved, wherever the request says that the machine stands:
            // what was approved and not installed yet must not outlive this one.
            Earlier::Retired => highest.saturating_add(1),
        };
        host_policy(&request.registers, counter)?;
        let record = ApprovalRecord {
            platform: request.platform,
            host: request.host.clone(),
            counter: highest.max(counter),
            registers: request.registers.clone(),
        };
        self.make_directory()?;
        files::replace(&self.path(&request.platform), &wire::encode(&record))?;
        Ok(Admitted { request, counter, before })
    }

    /// Makes the directory, durably: records that are lost would make every machine a new one.
    fn make_directory(&self) -> Result<(), FileError> {
        files::create_private_directory(&self.directory)?;
        let parent = self.directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let failed = |source| FileError::Failed { path: parent.to_owned(), source };
        File::open(parent).and_then(|opened| opened.sync_all()).map_err(failed)
    }

    fn path(&self, platform: &PlatformId) -> PathBuf {
        self.directory.join(platform.to_string())
    }
}

impl Admitted {
    /// What was asked.
    pub fn request(&self) -> &HostRequest {
        &self.request
    }

    /// The count that the approval is for.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// What was approved of this machine before; none if nothing was.
    pub fn before(&self) -> Option<&ApprovalRecord> {
        self.before.as_ref()
    }

    /// Which registers are others than those that were approved last; all of them, the first time.
    pub fn changed(&self) -> impl Iterator<Item = &PcrValue> {
        let known: &[PcrValue] = self.before.as_ref().map_or(&[], |before| &before.registers);
        self.request.registers.iter().filter(move |register| !known.contains(register))
    }
}

wire! {
    ApprovalRecord: "record of approvals", 4 * 1024;
}

#[cfg(test)]
mod tests {
    use heirloom_model::measurement::Register32;

    use super::*;

    fn request(counter: u64, kernel: u8) -> HostRequest {
        let value = |index| PcrValue {
            index,
            value: Register32::new([if index == 8 { kernel } else { index }; 32]),
        };
        HostRequest {
            platform: PlatformId::new([1; 32]),
            host: "host-1".parse().unwrap(),
            registers: (0..16).map(value).collect(),
            counter,
        }
    }

    #[test]
    fn counts_go_on_from_what_was_approved_and_never_jump() {
        let folder = tempfile::tempdir().unwrap();
        let records = ApprovalRecords::beside(&folder.path().join("authority"));
        let jump = |counter, limit| {
            let refused = records.admit(request(counter, 1), Earlier::Hold);
            assert!(
                matches!(refused, Err(MachineError::ApprovalJump { asked, limit: found })
                    if (asked, found) == (counter, limit)),
                "{refused:?}"
            );
        };
        jump(u64::MAX, FIRST_COUNT_MAX);
        jump(FIRST_COUNT_MAX + 1, FIRST_COUNT_MAX);
        let platform = PlatformId::new([1; 32]);
        assert_eq!(records.of(&platform).unwrap(), None, "what is refused leaves no record");

        let first = records.admit(request(5, 1), Earlier::Hold).unwrap();
        assert_eq!((first.counter(), first.changed().count()), (5, 16));
        let next = records.admit(request(5, 2), Earlier::Retired).unwrap();
        assert_eq!(next.counter(), 6);
        let changed: Vec<u8> = next.changed().map(|register| register.index).collect();
        assert_eq!(changed, [8], "the kernel is another one");
        assert_eq!(next.before().unwrap().counter, 5);
        jump(8, 7);
        // An approval that was never installed leaves the counter where it was.
        assert_eq!(records.admit(request(5, 2), Earlier::Hold).unwrap().counter(), 5);
        assert_eq!(records.of(&platform).unwrap().unwrap().counter, 6, "the highest is kept");
        // What retires is above that one too: it may still be installed.
        assert_eq!(records.admit(request(5, 2), Earlier::Retired).unwrap().counter(), 7);
        assert!(records.admit(request(8, 2), Earlier::Hold).is_ok());
    }

    #[test]
    fn each_machine_has_a_record_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let records = ApprovalRecords::beside(&folder.path().join("authority"));
        records.admit(request(9, 1), Earlier::Hold).unwrap();
        let other = PlatformId::new([2; 32]);
        assert_eq!(records.of(&other).unwrap(), None);
        let own = records.path(&PlatformId::new([1; 32]));
        std::fs::rename(own, records.path(&other)).unwrap();
        let stolen = HostRequest { platform: other, ..request(9, 1) };
        let refused = records.admit(stolen, Earlier::Hold);
        assert!(matches!(refused, Err(MachineError::OtherRecord)), "{refused:?}");
    }

    #[test]
    fn a_damaged_record_is_no_first_approval() {
        let folder = tempfile::tempdir().unwrap();
        let records = ApprovalRecords::beside(&folder.path().join("authority"));
        records.admit(request(5, 1), Earlier::Hold).unwrap();
        std::fs::write(records.path(&PlatformId::new([1; 32])), b"damaged").unwrap();
        let refused = records.admit(request(5, 1), Earlier::Hold);
        assert!(matches!(refused, Err(MachineError::File(_))), "{refused:?}");
    }
}
