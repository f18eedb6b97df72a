//! From files to what a keeper holds.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::admin::{SealingAge, Unreadable};
use heirloom_model::counter::Generation;
use heirloom_model::digest::{Checksum, Nonce};
use heirloom_model::limit::GENERATIONS_MAX;
use heirloom_model::sealed::{SealedPurpose, Witness};
use heirloom_model::secret::Secret;
use heirloom_model::wire;
use zeroize::Zeroizing;

use super::Proposal;
use crate::file::{FileName, Kind};
use crate::intent::StoredFile;
use crate::keyring::{Batch, Keyring};
use crate::port::{Platform, PlatformError, PlatformIdentity};
use crate::sealing::{Home, OpenError, Opened, Subject, open};

/// One file for each generation, and as many again for what is proposed or forgotten.
pub(crate) const FILES_MAX: usize = 2 * 1_000_000;
const _: () = assert!(FILES_MAX as u64 >= 2 * GENERATIONS_MAX, "a full keyring can be loaded");

/// Bytes of a proposal: secret, checksum before it, nonce of the order.
const PROPOSAL_BYTES: usize = 96;

/// What the files of one directory are.
pub(crate) struct Loaded {
    pub(crate) keyring: Keyring,
    pub(crate) proposals: BTreeMap<Nonce, Proposal>,
    pub(crate) witness: Option<(u64, Witness)>,
    pub(crate) witness_files: BTreeSet<u64>,
    pub(crate) sequence: u64,
    pub(crate) unreadable: Option<Unreadable>,
    /// Files that were sealed at lower security versions than the present ones.
    pub(crate) older: BTreeSet<String>,
}

/// Opens every file. What cannot be opened is named in `unreadable`, the first one in the order
/// of the names; only a platform that does not answer is an error.
pub(crate) fn load(
    platform: &dyn Platform,
    identity: &PlatformIdentity,
    home: Home<'_>,
    files: &[StoredFile],
) -> Result<Loaded, PlatformError> {
    let mut loaded = Loaded {
        keyring: Keyring::new(*home.domain),
        proposals: BTreeMap::new(),
        witness: None,
        witness_files: BTreeSet::new(),
        sequence: 0,
        unreadable: None,
        older: BTreeSet::new(),
    };
    let mut witnesses = Vec::new();
    let ordered: BTreeMap<&str, &StoredFile> =
        files.iter().map(|stored| (stored.name.as_str(), stored)).collect();
    for stored in ordered.into_values() {
        let name = match FileName::classify(&stored.name) {
            Kind::Foreign => continue,
            Kind::Malformed => {
                loaded.note(Unreadable::Corrupt { file: stored.name.clone() });
                continue;
            }
            Kind::Sealed(name) => name,
        };
        if let FileName::Witness { sequence } = name {
            loaded.witness_files.insert(sequence);
            witnesses.push((sequence, stored));
            continue;
        }
        if let Err(reason) = or_platform(loaded.take(platform, identity, home, name, stored))? {
            loaded.note(reason);
        }
    }
    loaded.take_witness(platform, identity, home, witnesses)?;
    if loaded.keyring.climb().is_err() {
        let newest = loaded.keyring.newest().unwrap_or_default();
        loaded.note(Unreadable::BrokenChain { newest });
    }
    Ok(loaded)
}

/// The content of a proposal's file.
pub(crate) fn proposal_bytes(order: &Nonce, proposal: &Proposal) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(PROPOSAL_BYTES));
    proposal.secret.expose(|secret| bytes.extend_from_slice(secret));
    bytes.extend_from_slice(proposal.previous.as_bytes());
    bytes.extend_from_slice(order.as_bytes());
    bytes
}

impl Loaded {
    /// Takes in one key file.
    fn take(
        &mut self,
        platform: &dyn Platform,
        identity: &PlatformIdentity,
        home: Home<'_>,
        name: FileName,
        stored: &StoredFile,
    ) -> Result<(), OpenError> {
        let corrupt = || Unreadable::Corrupt { file: stored.name.clone() };
        let Opened { subject, age, content } = open(platform, identity, home, stored)?;
        self.note_age(age, stored);
        self.sequence = self.sequence.max(subject.sequence);
        match name {
            FileName::Keyring { first, last } => {
                expect_subject(&subject, SealedPurpose::Keyring, first, last, stored)?;
                let batch = Batch::from_bytes(first, last, &content).ok_or_else(corrupt)?;
                self.keyring.insert(batch).map_err(|_| Unreadable::BrokenChain { newest: last })?;
            }
            FileName::Proposed { generation, .. } => {
                let purpose = SealedPurpose::ProposedGeneration;
                expect_subject(&subject, purpose, generation, generation, stored)?;
                let (order, proposal) = proposal(generation, &content).ok_or_else(corrupt)?;
                if FileName::proposed(generation, &order) != name {
                    return Err(corrupt().into());
                }
                self.proposals.insert(order, proposal);
            }
            FileName::Witness { .. } => {}
        }
        Ok(())
    }

    /// The newest witness that opens counts. That none of several opens is not the same as that
    /// there is none.
    fn take_witness(
        &mut self,
        platform: &dyn Platform,
        identity: &PlatformIdentity,
        home: Home<'_>,
        mut witnesses: Vec<(u64, &StoredFile)>,
    ) -> Result<(), PlatformError> {
        witnesses.sort_by_key(|(sequence, _)| *sequence);
        let mut reason = None;
        for (sequence, stored) in witnesses.into_iter().rev() {
            match or_platform(open_witness(platform, identity, home, sequence, stored))? {
                Ok((witness, age)) => {
                    self.note_age(age, stored);
                    self.witness.get_or_insert((sequence, witness));
                }
                Err(unreadable) => reason = reason.or(Some(unreadable)),
            }
        }
        if let Some(reason) = reason.filter(|_| self.witness.is_none()) {
            self.note(reason);
        }
        Ok(())
    }

    fn note_age(&mut self, age: SealingAge, stored: &StoredFile) {
        match age {
            SealingAge::Current => {}
            SealingAge::Older => {
                self.older.insert(stored.name.clone());
            }
        }
    }

    fn note(&mut self, reason: Unreadable) {
        self.unreadable.get_or_insert(reason);
    }
}

fn open_witness(
    platform: &dyn Platform,
    identity: &PlatformIdentity,
    home: Home<'_>,
    sequence: u64,
    stored: &StoredFile,
) -> Result<(Witness, SealingAge), OpenError> {
    let corrupt = || Unreadable::Corrupt { file: stored.name.clone() };
    let Opened { subject, age, content } = open(platform, identity, home, stored)?;
    let none = Generation(0);
    expect_subject(&subject, SealedPurpose::Witness, none, none, stored)?;
    if subject.sequence != sequence {
        return Err(corrupt().into());
    }
    let witness = wire::decode(&content).map_err(|_| corrupt())?;
    Ok((witness, age))
}

fn proposal(generation: Generation, content: &[u8]) -> Option<(Nonce, Proposal)> {
    let content: &[u8; PROPOSAL_BYTES] = content.try_into().ok()?;
    let (secret, rest) = content.split_first_chunk::<32>()?;
    let (previous, order) = rest.split_first_chunk::<32>()?;
    let previous = Checksum::new(*previous);
    let proposal = Proposal { generation, secret: Secret::new(*secret), previous };
    Some((Nonce::new(*order.first_chunk::<32>()?), proposal))
}

/// Expects that a file's authenticated header says what its name says: nobody renames a proposal
/// into a keyring, or one generation into another.
fn expect_subject(
    subject: &Subject,
    purpose: SealedPurpose,
    first: Generation,
    last: Generation,
    stored: &StoredFile,
) -> Result<(), Unreadable> {
    if (subject.purpose, subject.first, subject.last) == (purpose, first, last) {
        return Ok(());
    }
    Err(Unreadable::Corrupt { file: stored.name.clone() })
}

/// Separates what is wrong with a file from what is wrong with the platform.
fn or_platform<T>(opened: Result<T, OpenError>) -> Result<Result<T, Unreadable>, PlatformError> {
    match opened {
        Ok(value) => Ok(Ok(value)),
        Err(OpenError::Unreadable(reason)) => Ok(Err(reason)),
        Err(OpenError::Platform(error)) => Err(error),
    }
}
