//! What an attestation CA keeps in its directory: files that are written once, each with one fact.

use std::fs;
use std::path::{Path, PathBuf};

use heirloom_attest::tpm::{EkKind, Name};
use heirloom_launcher::files::{self, FileError};
use heirloom_model::counter::Time;
use heirloom_model::identifier::PlatformId;
use heirloom_model::limit::NODES_MAX;
use heirloom_model::wire;
use heirloom_tpm::machine::enrolment::EnrolmentSecret;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::CertifyError;
use crate::error::PlatformdError;

/// Certificates that one CA issues: each machine is certified every two years, for ten years.
pub(super) const CERTIFIED_MAX: usize = 5 * NODES_MAX;
/// Certificates of one machine that have not ended: it needs one, and another for each key that it
/// lost. More would let one machine fill the list of what was taken back.
pub(super) const CERTIFIED_OF_MACHINE_MAX: usize = 16;
/// How long a challenge may wait for its answer: people carry both.
pub(super) const CHALLENGE_SECONDS_MAX: u64 = 24 * 60 * 60;
const RULES: &str = "ca";
const CERTIFIED: &str = "certified-";
const REVOKED: &str = "revoked-";

/// Which endorsement keys name machines. One TPM has a key of each kind, and would be two machines
/// for a CA that takes both.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum EndorsementKeys {
    /// RSA with 2048 bits, of which most TPMs have a certificate.
    #[n(0)]
    Rsa,
    /// P-256.
    #[n(1)]
    P256,
}

impl EndorsementKeys {
    /// Whether a key is of this kind.
    pub(super) fn admit(self, found: EkKind) -> Result<(), CertifyError> {
        match (self, found) {
            (Self::Rsa, EkKind::Rsa) | (Self::P256, EkKind::P256) => Ok(()),
            (demanded, found) => Err(CertifyError::EndorsementKind { demanded, found }),
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::P256 => "p256",
        }
    }
}

/// What was decided when the CA was founded.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(super) struct Rules {
    #[n(0)]
    pub(super) endorsement_keys: EndorsementKeys,
}

impl Rules {
    /// Only where no CA is: a crash may have left those of one that was never founded.
    pub(super) fn write(&self, directory: &Path) -> Result<(), FileError> {
        files::replace(&directory.join(RULES), &wire::encode(self))
    }

    pub(super) fn read(directory: &Path) -> Result<Self, FileError> {
        files::read_value(&directory.join(RULES))
    }
}

/// A challenge that nobody answered yet.
#[derive(Decode, Encode)]
pub(super) struct Pending {
    #[n(0)]
    made: Time,
    #[n(1)]
    secret: EnrolmentSecret,
}

impl Pending {
    pub(super) fn new(secret: EnrolmentSecret, made: Time) -> Self {
        Self { made, secret }
    }

    /// Keeps it. A new request of the same machine replaces what was asked before.
    pub(super) fn write(&self, path: &Path) -> Result<(), FileError> {
        files::replace(path, &Zeroizing::new(wire::encode(self)))
    }

    /// Whether a secret is the one that was asked for, in time. An answer is good once: the
    /// challenge is gone before anything rests on it.
    pub(super) fn answered(
        path: &Path,
        secret: &EnrolmentSecret,
        now: Time,
    ) -> Result<(), PlatformdError> {
        let expected: Self = match files::read_value(path) {
            Err(FileError::Missing { .. }) => return Err(CertifyError::NotChallenged.into()),
            read => read?,
        };
        let (made, until) = (expected.made, expected.made.after(CHALLENGE_SECONDS_MAX));
        // A clock that went back says nothing about how long it took.
        if now < made || now > until {
            return Err(CertifyError::ChallengeExpired { made, now }.into());
        }
        if !expected.secret.same_as(secret) {
            return Err(CertifyError::WrongAnswer.into());
        }
        Ok(files::remove(path)?)
    }

    pub(super) fn path(directory: &Path, platform: &PlatformId, name: &Name) -> PathBuf {
        directory.join(format!("pending-{platform}-{}", hex::encode(name.as_bytes())))
    }
}

/// A certificate that the CA issued.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Certified {
    /// The machine.
    #[n(0)]
    pub platform: PlatformId,
    /// The attestation key, by the name by which its TPM knows it.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// The serial number of the certificate: 16 bytes.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub serial: Vec<u8>,
    /// When it was issued.
    #[n(3)]
    pub issued: Time,
    /// The first second after it.
    #[n(4)]
    pub until: Time,
}

/// When a certificate was taken back.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
struct Revoked {
    #[n(0)]
    at: Time,
}

impl Certified {
    /// Notes what is about to be issued: there is no certificate that the CA does not know of.
    pub(super) fn write(&self, directory: &Path) -> Result<(), FileError> {
        files::create(&self.path(directory, CERTIFIED), &wire::encode(self))
    }

    /// Takes it back, for ever. Whoever does it twice finds the first time.
    pub(super) fn revoke(&self, directory: &Path, now: Time) -> Result<(), FileError> {
        let path = self.path(directory, REVOKED);
        match files::create(&path, &wire::encode(&Revoked { at: now })) {
            Err(FileError::Exists { .. }) => Ok(()),
            other => other,
        }
    }

    /// When it was taken back, if it was.
    pub fn revoked(&self, directory: &Path) -> Result<Option<Time>, FileError> {
        match files::read_value::<Revoked>(&self.path(directory, REVOKED)) {
            Ok(revoked) => Ok(Some(revoked.at)),
            Err(FileError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, directory: &Path, what: &str) -> PathBuf {
        directory.join(format!("{what}{}", hex::encode(&self.serial)))
    }
}

/// Every certificate that the CA issued, oldest first.
pub fn certified(directory: &Path) -> Result<Vec<Certified>, PlatformdError> {
    let unreadable = |source| FileError::Failed { path: directory.to_owned(), source };
    let mut found: Vec<Certified> = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        // What a power failure left half written begins with a point.
        if !name.to_str().is_some_and(|name| name.starts_with(CERTIFIED)) {
            continue;
        }
        if found.len() >= CERTIFIED_MAX {
            return Err(CertifyError::TooManyCertified { limit: CERTIFIED_MAX }.into());
        }
        found.push(files::read_value(&entry.path())?);
    }
    found.sort_by(|one, other| (one.issued, &one.serial).cmp(&(other.issued, &other.serial)));
    Ok(found)
}

/// Refuses a machine that was given up, and one certificate more than can be listed and taken back:
/// a CA that issued it could take back nothing any more.
pub(super) fn admit(
    all: &[Certified],
    directory: &Path,
    platform: &PlatformId,
    now: Time,
) -> Result<(), PlatformdError> {
    if all.len() >= CERTIFIED_MAX {
        return Err(CertifyError::TooManyCertified { limit: CERTIFIED_MAX }.into());
    }
    let of_machine = || all.iter().filter(|one| one.platform == *platform);
    for one in of_machine() {
        if let Some(at) = one.revoked(directory)? {
            return Err(CertifyError::GivenUp { platform: *platform, at }.into());
        }
    }
    let limit = CERTIFIED_OF_MACHINE_MAX;
    if of_machine().filter(|one| one.until > now).count() >= limit {
        return Err(CertifyError::TooManyOfMachine { platform: *platform, limit }.into());
    }
    Ok(())
}

wire! {
    Rules: "rules of an attestation CA", 16;
    Pending: "challenge that waits for its answer", 64;
    Certified: "certificate that an attestation CA issued", 256;
    Revoked: "revocation of an attestation CA", 32;
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000);

    fn one(platform: PlatformId, number: u64, until: Time) -> Certified {
        let mut serial = [0x40; 16];
        serial[8..].copy_from_slice(&number.to_be_bytes());
        let name = [&[0, 0x0b][..], &[number.to_be_bytes()[7]; 32]].concat();
        Certified { platform, name, serial: serial.to_vec(), issued: Time(number), until }
    }

    fn many(platform: PlatformId, count: usize, until: Time) -> Vec<Certified> {
        (0..count as u64).map(|number| one(platform, number, until)).collect()
    }

    #[test]
    fn a_ca_issues_no_more_than_it_can_take_back() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (PlatformId::new([1; 32]), PlatformId::new([2; 32]));
        let asked = |all: &[Certified]| admit(all, folder.path(), &own, NOW);
        let whole = many(other, CERTIFIED_MAX, NOW.after(1));
        assert!(asked(&whole[1..]).is_ok());
        let refused = asked(&whole);
        assert!(matches!(
            refused,
            Err(PlatformdError::Certify(CertifyError::TooManyCertified { .. }))
        ));
        let most = many(own, CERTIFIED_OF_MACHINE_MAX, NOW.after(1));
        assert!(asked(&most[1..]).is_ok());
        let refused = asked(&most);
        assert!(matches!(
            refused,
            Err(PlatformdError::Certify(CertifyError::TooManyOfMachine { .. }))
        ));
        // What has ended is on no list, and what others have is not counted.
        assert!(asked(&many(own, CERTIFIED_OF_MACHINE_MAX, NOW)).is_ok());
        assert!(asked(&many(other, CERTIFIED_OF_MACHINE_MAX, NOW.after(1))).is_ok());
    }

    #[test]
    fn a_machine_that_was_given_up_stays_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (PlatformId::new([1; 32]), PlatformId::new([2; 32]));
        // Also when the certificate that was taken back has ended.
        let all = [one(own, 1, NOW), one(own, 2, NOW.after(1)), one(other, 3, NOW.after(1))];
        assert!(admit(&all, folder.path(), &own, NOW).is_ok());
        all[0].revoke(folder.path(), NOW).unwrap();
        let refused = admit(&all, folder.path(), &own, NOW);
        assert!(matches!(
            refused,
            Err(PlatformdError::Certify(CertifyError::GivenUp { at: NOW, .. }))
        ));
        assert!(admit(&all, folder.path(), &other, NOW).is_ok());
    }
}
