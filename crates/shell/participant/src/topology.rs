//! Who owns which keys, who hosts whom, who takes which packages: what was accepted so far, and
//! what may come next. Participants and the synchronizer decide it with this same code.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_canton::hash::{Multihash, Purpose, canton_hash};
use heirloom_canton_node::wire::crypto::{PublicKey, Signature, SigningPublicKey, public_key};
use heirloom_canton_node::wire::protocol::enums::TopologyChangeOp;
use heirloom_canton_node::wire::protocol::namespace_delegation::Restriction;
use heirloom_canton_node::wire::protocol::topology_mapping::Mapping;
use heirloom_canton_node::wire::protocol::{
    NamespaceDelegation, OwnerToKeyMapping, PartyToParticipant, SignedTopologyTransaction,
    TopologyMapping, TopologyTransaction,
};
use heirloom_model::party::{Namespace, ParsePartyError, ParticipantId, PartyId};
use heirloom_participant::custodian::key::KeyScheme;
use prost::Message;

use crate::crypto::{self, CryptoError};
use crate::versioned::{self, VersionedError};

/// In front of the name of a participant that is a member of a synchronizer.
const PARTICIPANT_PREFIX: &str = "PAR::";

/// What a mapping is about: a later one with the same subject replaces it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// A key that signs for a namespace.
    Delegation {
        /// Whose.
        namespace: Namespace,
        /// The fingerprint of the key.
        target: String,
    },
    /// The keys of a member.
    Keys(ParticipantId),
    /// That a participant trusts a synchronizer.
    Trust(ParticipantId, String),
    /// The packages that a participant takes.
    Packages(ParticipantId),
    /// Who hosts a party.
    Hosting(PartyId),
}

/// Why a topology transaction is not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TopologyRefusal {
    /// The bytes are not what they should be.
    #[error("the topology transaction cannot be read")]
    Envelope(#[from] VersionedError),
    /// A name in it is none.
    #[error(transparent)]
    Name(#[from] ParsePartyError),
    /// A key or signature in it is none.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// It has no mapping, or one that is not known here.
    #[error("the topology transaction has no mapping that is known here")]
    Mapping,
    /// A log has it twice.
    #[error("the topology transaction stands in the log before")]
    Repeated,
    /// The operation is none.
    #[error("operation {0} of the topology transaction is none")]
    Operation(i32),
    /// It is a proposal that others must sign.
    #[error("proposals that are not fully authorized are not kept here")]
    Proposal,
    /// The member is no participant.
    #[error("{0:?} is no participant: its name must begin with \"PAR::\"")]
    Member(String),
    /// Another serial comes next.
    #[error("serial {found} of {subject} does not follow: {expected} is next")]
    Serial {
        /// The mapping.
        subject: String,
        /// What comes next.
        expected: u32,
        /// What was found.
        found: u32,
    },
    /// A signature is missing.
    #[error("{subject} must be signed by a key of {namespace}")]
    Unauthorized {
        /// The mapping.
        subject: String,
        /// Whose signature is missing.
        namespace: Namespace,
    },
    /// A new key did not sign.
    #[error("key {key} of {subject} did not prove that its owner has it")]
    NotOwned {
        /// The mapping.
        subject: String,
        /// The fingerprint.
        key: String,
    },
    /// A signature is of a key that has no say.
    #[error("{signed_by} signed, and this key is not known or has no say here")]
    UnknownSigner {
        /// The fingerprint.
        signed_by: String,
    },
    /// Nobody could act for the party.
    #[error("threshold {threshold} of {subject} does not fit {participants} participants")]
    Threshold {
        /// The mapping.
        subject: String,
        /// The threshold.
        threshold: u32,
        /// How many participants there are.
        participants: usize,
    },
    /// The synchronizer does not admit keys of this scheme.
    #[error(
        "key {key} has scheme {scheme}; the synchronizer requires {what} keys to be one of: {required}"
    )]
    Scheme {
        /// The fingerprint.
        key: String,
        /// Its scheme.
        scheme: KeyScheme,
        /// Signing or encryption.
        what: &'static str,
        /// What would do.
        required: String,
    },
    /// It is about another synchronizer.
    #[error("the certificate trusts {found}, and this is {expected}")]
    OtherSynchronizer {
        /// What was found.
        found: String,
        /// What this is.
        expected: String,
    },
}

/// What a place demands of topology.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Demands {
    /// Which synchronizer it is; nothing for a node's own store.
    pub synchronizer: Option<String>,
    /// Schemes of signing keys, if not all.
    pub signing: Option<Vec<KeyScheme>>,
    /// Schemes of encryption keys, if not all.
    pub encryption: Option<Vec<KeyScheme>>,
}

/// A transaction that may be accepted, or was.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// What it is about.
    pub subject: Subject,
    /// As it was signed.
    pub signed: SignedTopologyTransaction,
    /// What it says.
    pub mapping: Mapping,
    /// Its number.
    pub serial: u32,
    /// Whether it takes the mapping away.
    pub is_removal: bool,
    /// What was signed.
    pub hash: Multihash,
    /// When it was accepted, in microseconds since 1970.
    pub time_micros: i64,
}

/// What becomes of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Assessed {
    /// It may be accepted.
    New(Box<Accepted>),
    /// It was accepted before.
    Known,
}

/// Everything that was accepted.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    accepted: BTreeMap<Subject, Accepted>,
}

impl Topology {
    /// Whether this may be accepted next.
    pub fn assess(
        &self,
        signed: &SignedTopologyTransaction,
        demands: &Demands,
    ) -> Result<Assessed, TopologyRefusal> {
        if signed.proposal || !signed.multi_transaction_signatures.is_empty() {
            return Err(TopologyRefusal::Proposal);
        }
        let transaction: TopologyTransaction = versioned::open(&signed.transaction)?;
        let is_removal = match TopologyChangeOp::try_from(transaction.operation) {
            Ok(TopologyChangeOp::AddReplace) => false,
            Ok(TopologyChangeOp::Remove) => true,
            _ => return Err(TopologyRefusal::Operation(transaction.operation)),
        };
        let mapping = transaction.mapping.and_then(|mapping| mapping.mapping);
        let mapping = mapping.ok_or(TopologyRefusal::Mapping)?;
        let subject = subject_of(&mapping)?;
        let hash = hash_of(&signed.transaction);
        let previous = self.accepted.get(&subject);
        if previous.is_some_and(|previous| previous.hash == hash) {
            return Ok(Assessed::Known);
        }
        let expected = previous.map_or(1, |previous| previous.serial.saturating_add(1));
        if transaction.serial != expected {
            let (found, subject) = (transaction.serial, format!("{subject:?}"));
            return Err(TopologyRefusal::Serial { subject, expected, found });
        }
        let time_micros = 0;
        let serial = transaction.serial;
        let signed = signed.clone();
        let next = Accepted { subject, signed, mapping, serial, is_removal, hash, time_micros };
        self.check_signatures(&next)?;
        check_content(&next, demands)?;
        Ok(Assessed::New(Box::new(next)))
    }

    /// Takes up what this program's own store says was accepted before.
    pub fn restore(
        &mut self,
        signed: &SignedTopologyTransaction,
        time_micros: i64,
    ) -> Result<(), TopologyRefusal> {
        let transaction: TopologyTransaction = versioned::open(&signed.transaction)?;
        let mapping = transaction.mapping.and_then(|mapping| mapping.mapping);
        let mapping = mapping.ok_or(TopologyRefusal::Mapping)?;
        self.accept(Accepted {
            subject: subject_of(&mapping)?,
            signed: signed.clone(),
            mapping,
            serial: transaction.serial,
            is_removal: transaction.operation == i32::from(TopologyChangeOp::Remove),
            hash: hash_of(&signed.transaction),
            time_micros,
        });
        Ok(())
    }

    /// Takes it up. Only what [`Self::assess`] returned for this state is given here.
    pub fn accept(&mut self, accepted: Accepted) {
        self.accepted.insert(accepted.subject.clone(), accepted);
    }

    /// The transaction about a subject, also a removal.
    pub fn latest(&self, subject: &Subject) -> Option<&Accepted> {
        self.accepted.get(subject)
    }

    /// The mappings that stand.
    pub fn standing(&self) -> impl Iterator<Item = &Accepted> {
        self.accepted.values().filter(|accepted| !accepted.is_removal)
    }

    /// The keys of a member.
    pub fn keys_of(&self, member: &ParticipantId) -> &[PublicKey] {
        match self.mapping(&Subject::Keys(member.clone())) {
            Some(Mapping::OwnerToKeyMapping(found)) => &found.public_keys,
            _ => &[],
        }
    }

    /// Who hosts a party.
    pub fn hosting(&self, party: &PartyId) -> Option<&PartyToParticipant> {
        match self.mapping(&Subject::Hosting(party.clone()))? {
            Mapping::PartyToParticipant(found) => Some(found),
            _ => None,
        }
    }

    /// The participants that host a party. A participant always hosts its own.
    pub fn hosts_of(&self, party: &PartyId) -> BTreeSet<String> {
        if let Some(found) = self.hosting(party) {
            return found.participants.iter().map(|p| p.participant_uid.clone()).collect();
        }
        let own: Option<ParticipantId> = party.as_str().parse().ok();
        let own = own.filter(|own| self.latest(&Subject::Keys(own.clone())).is_some());
        own.into_iter().map(|own| own.to_string()).collect()
    }

    /// The parties that a participant hosts, without its own.
    pub fn hosted_by(&self, participant: &ParticipantId) -> BTreeSet<PartyId> {
        let mut parties = BTreeSet::new();
        for accepted in self.standing() {
            if let (Subject::Hosting(party), Mapping::PartyToParticipant(hosting)) =
                (&accepted.subject, &accepted.mapping)
            {
                let uid = participant.as_str();
                if hosting.participants.iter().any(|host| host.participant_uid == uid) {
                    parties.insert(party.clone());
                }
            }
        }
        parties
    }

    /// The packages that a participant takes.
    pub fn packages_of(&self, participant: &ParticipantId) -> BTreeSet<String> {
        match self.mapping(&Subject::Packages(participant.clone())) {
            Some(Mapping::VettedPackages(found)) => {
                let listed = found.packages.iter().map(|package| package.package_id.clone());
                listed.chain(found.package_ids.iter().cloned()).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    fn mapping(&self, subject: &Subject) -> Option<&Mapping> {
        let found = self.accepted.get(subject).filter(|accepted| !accepted.is_removal);
        found.map(|accepted| &accepted.mapping)
    }

    /// The keys that sign this mapping for a namespace. A root delegation brings its own.
    fn keys_for(&self, namespace: &Namespace, next: &Mapping) -> Vec<SigningPublicKey> {
        let standing = self.standing().filter_map(|accepted| match &accepted.mapping {
            Mapping::NamespaceDelegation(delegation) => Some(delegation),
            _ => None,
        });
        let own = match next {
            Mapping::NamespaceDelegation(delegation) if is_root(delegation) => Some(delegation),
            _ => None,
        };
        let all = standing.chain(own).filter(|found| found.namespace == namespace.as_str());
        all.filter(|found| may_sign(found, next))
            .filter_map(|found| found.target_key.clone())
            .collect()
    }

    fn check_signatures(&self, next: &Accepted) -> Result<(), TopologyRefusal> {
        let subject = format!("{:?}", next.subject);
        let required = self.required(next)?;
        let mut candidates: BTreeMap<String, SigningPublicKey> = BTreeMap::new();
        let mut by_namespace: BTreeMap<&Namespace, BTreeSet<String>> = BTreeMap::new();
        for namespace in &required.namespaces {
            for key in self.keys_for(namespace, &next.mapping) {
                let (_, _, name) = crypto::read_signing(&key)?;
                by_namespace.entry(namespace).or_default().insert(name.to_string());
                candidates.insert(name.to_string(), key);
            }
        }
        candidates.extend(required.owned.clone());
        let signers = verified_signers(&next.signed.signatures, &next.hash, &candidates)?;
        for namespace in &required.namespaces {
            let keys = by_namespace.get(namespace);
            if keys.is_none_or(|keys| keys.is_disjoint(&signers)) {
                let namespace = namespace.clone();
                return Err(TopologyRefusal::Unauthorized { subject, namespace });
            }
        }
        match required.owned.keys().find(|key| !signers.contains(*key)) {
            Some(key) => Err(TopologyRefusal::NotOwned { subject, key: key.clone() }),
            None => Ok(()),
        }
    }

    /// Whose signatures it takes.
    fn required(&self, next: &Accepted) -> Result<Required, TopologyRefusal> {
        let mut required = Required::default();
        match (&next.subject, &next.mapping) {
            (Subject::Delegation { namespace, .. }, _) => {
                required.namespaces.insert(namespace.clone());
            }
            (Subject::Keys(member), Mapping::OwnerToKeyMapping(keys)) => {
                required.namespaces.insert(member.namespace());
                let known: BTreeSet<String> = self
                    .keys_of(member)
                    .iter()
                    .map(|key| crypto::read_public(key).map(|(_, name)| name.to_string()))
                    .collect::<Result<_, _>>()?;
                if !next.is_removal {
                    required.owned = new_signing_keys(keys, &known)?;
                }
            }
            (Subject::Hosting(party), Mapping::PartyToParticipant(hosting)) => {
                required.namespaces.insert(party.namespace());
                let before = self.hosts_of(party);
                let added = hosting
                    .participants
                    .iter()
                    .filter(|host| !next.is_removal && !before.contains(&host.participant_uid));
                for host in added {
                    let host: ParticipantId = host.participant_uid.parse()?;
                    required.namespaces.insert(host.namespace());
                }
            }
            (
                Subject::Trust(participant, _)
                | Subject::Packages(participant)
                | Subject::Keys(participant),
                _,
            ) => {
                required.namespaces.insert(participant.namespace());
            }
            (Subject::Hosting(party), _) => {
                required.namespaces.insert(party.namespace());
            }
        }
        Ok(required)
    }
}

/// Whose signatures a mapping takes.
#[derive(Default)]
struct Required {
    namespaces: BTreeSet<Namespace>,
    /// New keys, which must sign too.
    owned: BTreeMap<String, SigningPublicKey>,
}

/// Whether a mapping fits the place that it is for.
fn check_content(next: &Accepted, demands: &Demands) -> Result<(), TopologyRefusal> {
    match &next.mapping {
        Mapping::NamespaceDelegation(delegation) => {
            let key = delegation.target_key.as_ref().ok_or(CryptoError::NoKey)?;
            let (scheme, _, name) = crypto::read_signing(key)?;
            check_scheme(demands.signing.as_deref(), "signing", scheme, name.as_str())
        }
        Mapping::OwnerToKeyMapping(keys) => check_keys(keys, demands),
        Mapping::PartyToParticipant(hosting) => {
            let (threshold, participants) = (hosting.threshold, hosting.participants.len());
            let fits = threshold >= 1
                && usize::try_from(threshold).is_ok_and(|threshold| threshold <= participants);
            if fits || next.is_removal {
                return Ok(());
            }
            let subject = format!("{:?}", next.subject);
            Err(TopologyRefusal::Threshold { subject, threshold, participants })
        }
        Mapping::SynchronizerTrustCertificate(certificate) => match &demands.synchronizer {
            Some(expected) if certificate.synchronizer_id != *expected => {
                Err(TopologyRefusal::OtherSynchronizer {
                    found: certificate.synchronizer_id.clone(),
                    expected: expected.clone(),
                })
            }
            _ => Ok(()),
        },
        Mapping::VettedPackages(_) => Ok(()),
    }
}

/// What keys of a topology transaction sign.
pub fn hash_of(transaction: &[u8]) -> Multihash {
    canton_hash(Purpose::TopologyTransactionSignature, transaction)
}

/// The bytes of a transaction, with their wrapper.
pub fn transaction_bytes(operation: TopologyChangeOp, serial: u32, mapping: Mapping) -> Vec<u8> {
    let mapping = Some(TopologyMapping { mapping: Some(mapping) });
    let transaction = TopologyTransaction { operation: operation.into(), serial, mapping };
    versioned::wrap(&transaction.encode_to_vec())
}

/// The next transaction of a log that was accepted before.
pub fn read_next(
    topology: &Topology,
    bytes: &[u8],
    demands: &Demands,
    time_micros: i64,
) -> Result<Accepted, TopologyRefusal> {
    let signed = SignedTopologyTransaction::decode(bytes);
    let signed = signed.map_err(VersionedError::Malformed)?;
    match topology.assess(&signed, demands)? {
        Assessed::New(mut next) => {
            next.time_micros = time_micros;
            Ok(*next)
        }
        Assessed::Known => Err(TopologyRefusal::Repeated),
    }
}

/// The name of a participant as a member.
pub fn member(participant: &ParticipantId) -> String {
    format!("{PARTICIPANT_PREFIX}{participant}")
}

/// What a mapping is about.
pub fn subject_of(mapping: &Mapping) -> Result<Subject, TopologyRefusal> {
    Ok(match mapping {
        Mapping::NamespaceDelegation(delegation) => {
            let key = delegation.target_key.as_ref().ok_or(CryptoError::NoKey)?;
            let target = crypto::read_signing(key)?.2.to_string();
            Subject::Delegation { namespace: delegation.namespace.parse()?, target }
        }
        Mapping::OwnerToKeyMapping(keys) => {
            let uid = keys.member.strip_prefix(PARTICIPANT_PREFIX);
            let uid = uid.ok_or_else(|| TopologyRefusal::Member(keys.member.clone()))?;
            Subject::Keys(uid.parse()?)
        }
        Mapping::SynchronizerTrustCertificate(certificate) => Subject::Trust(
            certificate.participant_uid.parse()?,
            certificate.synchronizer_id.clone(),
        ),
        Mapping::VettedPackages(vetted) => Subject::Packages(vetted.participant_uid.parse()?),
        Mapping::PartyToParticipant(hosting) => Subject::Hosting(hosting.party.parse()?),
    })
}

/// Whether a delegation says that a key owns the namespace that has its name.
pub fn is_root(delegation: &NamespaceDelegation) -> bool {
    let key = delegation.target_key.as_ref().and_then(|key| crypto::read_signing(key).ok());
    key.is_some_and(|(_, _, name)| name.as_str() == delegation.namespace)
}

fn may_sign(delegation: &NamespaceDelegation, next: &Mapping) -> bool {
    match &delegation.restriction {
        Some(Restriction::CanSignAllMappings(_)) => true,
        Some(Restriction::CanSignAllButNamespaceDelegations(_)) => {
            !matches!(next, Mapping::NamespaceDelegation(_))
        }
        // The old form of "all".
        None => delegation.is_root_delegation,
        // Numbers of mappings are not read here: less may be signed than was meant, never more.
        Some(Restriction::CanSignSpecificMapings(_)) => false,
    }
}

fn new_signing_keys(
    keys: &OwnerToKeyMapping,
    known: &BTreeSet<String>,
) -> Result<BTreeMap<String, SigningPublicKey>, TopologyRefusal> {
    let mut new = BTreeMap::new();
    for key in &keys.public_keys {
        if let Some(public_key::Key::SigningPublicKey(key)) = &key.key {
            let name = crypto::read_signing(key)?.2.to_string();
            if !known.contains(&name) {
                new.insert(name, key.clone());
            }
        }
    }
    Ok(new)
}

fn verified_signers(
    signatures: &[Signature],
    hash: &Multihash,
    candidates: &BTreeMap<String, SigningPublicKey>,
) -> Result<BTreeSet<String>, TopologyRefusal> {
    let mut signers = BTreeSet::new();
    for signature in signatures {
        let signed_by = signature.signed_by.clone();
        let Some(key) = candidates.get(&signed_by) else {
            return Err(TopologyRefusal::UnknownSigner { signed_by });
        };
        crypto::verify(key, hash, signature)?;
        signers.insert(signed_by);
    }
    Ok(signers)
}

/// Whether the keys of a member are of schemes that a synchronizer admits.
pub fn check_keys(keys: &OwnerToKeyMapping, demands: &Demands) -> Result<(), TopologyRefusal> {
    for key in &keys.public_keys {
        let (scheme, name) = crypto::read_public(key)?;
        match key.key {
            Some(public_key::Key::EncryptionPublicKey(_)) => {
                check_scheme(demands.encryption.as_deref(), "encryption", scheme, name.as_str())?;
            }
            _ => check_scheme(demands.signing.as_deref(), "signing", scheme, name.as_str())?,
        }
    }
    Ok(())
}

fn check_scheme(
    required: Option<&[KeyScheme]>,
    what: &'static str,
    scheme: KeyScheme,
    key: &str,
) -> Result<(), TopologyRefusal> {
    let Some(required) = required.filter(|required| !required.contains(&scheme)) else {
        return Ok(());
    };
    let words: Vec<&str> = required.iter().map(|scheme| scheme.as_str()).collect();
    let required = words.join(", ");
    Err(TopologyRefusal::Scheme { key: key.to_owned(), scheme, what, required })
}

#[cfg(test)]
mod tests;
