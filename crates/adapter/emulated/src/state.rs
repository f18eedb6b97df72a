//! What the manufacturer and a machine keep in their directories.

use std::path::{Path, PathBuf};

use heirloom_model::counter::Time;
use heirloom_model::identifier::HostId;
use heirloom_model::sealed::CpuSvn;
use heirloom_model::wire;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::cpu::{FUSE_BYTES, FuseKeys, next_cpu_svn};
use crate::provisioning::{
    AnnounceError, Announcements, DevelopmentRoot, FIRST_CPU_SVN, PckCertificate, PckRequest,
};
use heirloom_launcher::files::{self, FileError};
use heirloom_launcher::secret_memory::{MemoryProtection, protect};

/// The directory of a development root.
pub struct RootDirectory {
    path: PathBuf,
    root: DevelopmentRoot,
}

/// The directory of one machine.
pub struct HostDirectory {
    path: PathBuf,
    record: HostRecord,
}

/// What is known about a machine besides its fuses.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct HostRecord {
    /// The machine's name.
    #[n(0)]
    pub host: HostId,
    /// Where its CPU stands.
    #[n(1)]
    pub cpu_svn: CpuSvn,
    /// What the manufacturer certified.
    #[n(2)]
    pub certificate: PckCertificate,
}

/// Why a directory was not changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The manufacturer could not announce.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// The record and the fuses belong to different machines.
    #[error("the fuses in {path} are not those of the machine in its record")]
    OtherFuses {
        /// The directory.
        path: PathBuf,
    },
    /// The CPU stands at the last security version.
    #[error("the first component of the CPUSVN is at its end")]
    CpuSvnExhausted,
}

const ROOT_SECRET: &str = "secret";
const ROOT_SECRET_KIND: [u8; 16] = *b"heirloom root 1\n";
const ANNOUNCEMENTS: &str = "announcements";
const FUSES: &str = "fuses";
const FUSES_KIND: [u8; 16] = *b"heirloom fuses1\n";
const RECORD: &str = "host";

impl RootDirectory {
    /// Founds a manufacturer in a directory that has none.
    pub fn create(
        path: &Path,
        founded: Time,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, StateError> {
        files::create_private_directory(path)?;
        files::refuse_present(&path.join(ANNOUNCEMENTS))?;
        let secret = make_or_resume(&path.join(ROOT_SECRET), ROOT_SECRET_KIND, random)?;
        let root = DevelopmentRoot::from_seed(&secret, founded);
        let created = Self { path: path.to_owned(), root };
        created.save()?;
        Ok(created)
    }

    /// Opens the directory of a manufacturer.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let secret = files::read_secret(&path.join(ROOT_SECRET), ROOT_SECRET_KIND)?;
        let announcements: Announcements = files::read_value(&path.join(ANNOUNCEMENTS))?;
        Ok(Self { path: path.to_owned(), root: DevelopmentRoot::resume(&secret, announcements) })
    }

    /// Announces that the certificate of a machine is not good any more.
    pub fn revoke(&mut self, certificate: &PckCertificate, time: Time) -> Result<(), StateError> {
        self.root.revoke(certificate.serial, time)?;
        self.save()
    }

    /// Announces that machines below `required` are out of date.
    pub fn require(&mut self, required: CpuSvn, time: Time) -> Result<(), StateError> {
        self.root.require(required, time)?;
        self.save()
    }

    /// The manufacturer.
    pub fn root(&self) -> &DevelopmentRoot {
        &self.root
    }

    fn save(&self) -> Result<(), StateError> {
        let encoded = wire::encode(self.root.announcements());
        Ok(files::replace(&self.path.join(ANNOUNCEMENTS), &encoded)?)
    }
}

impl HostDirectory {
    /// Burns fuses for a new machine and has it certified. The fuses are durable first; if a
    /// crash left them without a record, this goes on with them.
    pub fn create(
        path: &Path,
        host: HostId,
        root: &DevelopmentRoot,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, StateError> {
        files::create_private_directory(path)?;
        files::refuse_present(&path.join(RECORD))?;
        let fuses: Zeroizing<[u8; FUSE_BYTES]> =
            make_or_resume(&path.join(FUSES), FUSES_KIND, random)?;
        let (memory, _) = protect(&fuses);
        let request = request(&FuseKeys::new(memory), FIRST_CPU_SVN);
        let certificate = root.certify(&request);
        let record = HostRecord { host, cpu_svn: FIRST_CPU_SVN, certificate };
        let created = Self { path: path.to_owned(), record };
        created.save()?;
        Ok(created)
    }

    /// Opens the directory of a machine. What is missing or damaged is an error; nothing is ever
    /// made anew.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let record = files::read_value(&path.join(RECORD))?;
        Ok(Self { path: path.to_owned(), record })
    }

    /// Reads the fuses into the best memory that the kernel offers.
    pub fn fuses(&self) -> Result<(FuseKeys, MemoryProtection), StateError> {
        let fuses = files::read_secret(&self.path.join(FUSES), FUSES_KIND)?;
        let (memory, protection) = protect(&fuses);
        let fuses = FuseKeys::new(memory);
        if fuses.ppid() != self.record.certificate.ppid {
            return Err(StateError::OtherFuses { path: self.path.clone() });
        }
        Ok((fuses, protection))
    }

    /// Makes the next microcode durable. A machine that is being served loads it when its daemon
    /// starts again.
    pub fn update_microcode(&mut self) -> Result<CpuSvn, StateError> {
        // Whoever else has the directory open may have gone further: never back.
        self.record = files::read_value(&self.path.join(RECORD))?;
        let next = next_cpu_svn(&self.record.cpu_svn).ok_or(StateError::CpuSvnExhausted)?;
        self.record.cpu_svn = next;
        self.save()?;
        Ok(next)
    }

    /// Has the machine certified at its current security version.
    pub fn certify_again(&mut self, root: &DevelopmentRoot) -> Result<(), StateError> {
        let (fuses, _) = self.fuses()?;
        self.record.certificate = root.certify(&request(&fuses, self.record.cpu_svn));
        self.save()
    }

    /// What is known about the machine.
    pub fn record(&self) -> &HostRecord {
        &self.record
    }

    fn save(&self) -> Result<(), StateError> {
        Ok(files::replace(&self.path.join(RECORD), &wire::encode(&self.record))?)
    }
}

/// A secret that a crash left, or a new one, durable either way. A damaged one stays an error.
fn make_or_resume<const N: usize>(
    path: &Path,
    kind: [u8; 16],
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<Zeroizing<[u8; N]>, FileError> {
    match files::read_secret(path, kind) {
        Err(FileError::Missing { .. }) => {
            let mut secret = Zeroizing::new([0; N]);
            random(&mut *secret);
            files::create_secret(path, kind, &*secret)?;
            Ok(secret)
        }
        present_or_error => present_or_error,
    }
}

fn request(fuses: &FuseKeys, cpu_svn: CpuSvn) -> PckRequest {
    PckRequest { ppid: fuses.ppid(), public_key: fuses.pck_public(), cpu_svn }
}

heirloom_model::wire! { HostRecord: "record of a machine", 16 * 1024; }

#[cfg(test)]
mod tests {
    use super::*;

    fn random(bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }

    #[test]
    fn a_manufacturer_and_its_machines_are_the_same_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (root_path, host_path) = (directory.path().join("r"), directory.path().join("h"));
        let mut root = RootDirectory::create(&root_path, Time(1_000), &mut random).unwrap();
        let name: HostId = "host-1".parse().unwrap();
        let mut host =
            HostDirectory::create(&host_path, name.clone(), root.root(), &mut random).unwrap();
        let next = host.update_microcode().unwrap();
        root.require(next, Time(2_000)).unwrap();
        root.revoke(&host.record().certificate, Time(2_000)).unwrap();

        let again = RootDirectory::open(&root_path).unwrap();
        assert_eq!(again.root().anchor(), root.root().anchor());
        assert_eq!(again.root().announcements(), root.root().announcements());
        assert_eq!(again.root().announcements().number, 3);
        let mut host_again = HostDirectory::open(&host_path).unwrap();
        assert_eq!(host_again.record(), host.record());
        assert_eq!(host_again.record().cpu_svn, next);
        host_again.certify_again(again.root()).unwrap();
        assert_eq!(host_again.record().certificate.cpu_svn, next);

        assert!(RootDirectory::create(&root_path, Time(1_000), &mut random).is_err());
        let twice = HostDirectory::create(&host_path, name, root.root(), &mut random);
        assert!(matches!(twice, Err(StateError::File(FileError::Exists { .. }))));
    }

    #[test]
    fn a_machine_that_a_crash_left_without_a_record_is_finished_with_its_fuses() {
        let directory = tempfile::tempdir().unwrap();
        let root = DevelopmentRoot::from_seed(&[1; 32], Time(0));
        let name: HostId = "host-1".parse().unwrap();
        let path = directory.path();
        let first = HostDirectory::create(path, name.clone(), &root, &mut random).unwrap();
        std::fs::remove_file(path.join(RECORD)).unwrap();
        let second = HostDirectory::create(path, name.clone(), &root, &mut random).unwrap();
        assert_eq!(first.record(), second.record());
        std::fs::remove_file(path.join(RECORD)).unwrap();
        std::fs::write(path.join(FUSES), b"damaged").unwrap();
        let damaged = HostDirectory::create(path, name, &root, &mut random);
        assert!(matches!(damaged, Err(StateError::File(FileError::Corrupt { .. }))));
    }

    #[test]
    fn fuses_are_never_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let root = DevelopmentRoot::from_seed(&[1; 32], Time(0));
        let missing = HostDirectory::open(directory.path());
        assert!(matches!(missing, Err(StateError::File(FileError::Missing { .. }))));
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        let name: HostId = "host-1".parse().unwrap();
        let host = HostDirectory::create(&one, name.clone(), &root, &mut random).unwrap();
        HostDirectory::create(&two, name, &root, &mut random).unwrap();
        assert!(host.fuses().is_ok());
        std::fs::copy(two.join(FUSES), one.join(FUSES)).unwrap();
        assert!(matches!(host.fuses(), Err(StateError::OtherFuses { .. })));
        std::fs::remove_file(one.join(FUSES)).unwrap();
        assert!(matches!(host.fuses(), Err(StateError::File(FileError::Missing { .. }))));
        assert!(!one.join(FUSES).exists());
    }
}
