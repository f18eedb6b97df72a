//! Who signed a topology transaction, and whether they may.

use std::collections::{BTreeMap, BTreeSet};

use crate::fingerprint::Fingerprint;
use crate::hash::{Multihash, Preimage, Purpose, canton_hash};
use crate::key::verify::SignatureError;
use crate::key::{PublicKey, Signature, SigningPublicKey};
use crate::name::{Namespace, ParsePartyError};
use crate::topology::mapping::{DecentralizedNamespace, Mapping, Restriction};
use crate::topology::required::required;
use crate::topology::{Operation, SignedTransaction};

/// Why a transaction is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// Nobody signed it.
    #[error("the topology transaction {hash} has no signature")]
    Unsigned {
        /// The transaction.
        hash: Multihash,
    },
    /// A key that nobody introduced.
    #[error("the topology transaction {hash} is signed by the unknown key {key}")]
    UnknownKey {
        /// The transaction.
        hash: Multihash,
        /// The key.
        key: Fingerprint,
    },
    /// A signature over several transactions that does not name this one.
    #[error("signatures of several transactions do not name {hash}")]
    NotCovered {
        /// The transaction.
        hash: Multihash,
    },
    /// A signature.
    #[error("the topology transaction {hash}: {error}")]
    Signature {
        /// The transaction.
        hash: Multihash,
        /// What is wrong.
        #[source]
        error: SignatureError,
    },
}

/// A transaction whose every signature is right. Only [`Authority::verify`] makes it.
#[derive(Clone, Debug)]
pub struct VerifiedTransaction<'a> {
    signed: &'a SignedTransaction,
    signers: BTreeSet<Fingerprint>,
}

impl<'a> VerifiedTransaction<'a> {
    /// The transaction.
    pub fn signed(&self) -> &'a SignedTransaction {
        self.signed
    }

    /// The keys that signed.
    pub fn signers(&self) -> &BTreeSet<Fingerprint> {
        &self.signers
    }
}

/// Who must sign.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Requirement {
    /// One of these namespaces: a host may leave by itself.
    AnyOf(BTreeSet<Namespace>),
    /// This key itself: its owner proves that it has it.
    Key(Fingerprint),
    /// This namespace.
    Namespace(Namespace),
}

/// Why it is not known who must sign.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequirementError {
    /// The mapping is not read by this release.
    #[error("mappings of kind {field} are not read")]
    Unread {
        /// The kind.
        field: u32,
    },
    /// A member has no name.
    #[error(transparent)]
    Member(#[from] ParsePartyError),
    /// A group's name is not made of its owners.
    #[error("the namespace {stated} is not the one of its first owners, {computed}")]
    Decentralized {
        /// What the mapping says.
        stated: Namespace,
        /// What its owners make.
        computed: Namespace,
    },
}

/// Keys and delegations that were accepted so far.
#[derive(Clone, Debug, Default)]
pub struct Authority {
    keys: BTreeMap<Fingerprint, SigningPublicKey>,
    delegations: BTreeMap<Namespace, BTreeMap<Fingerprint, Restriction>>,
    groups: BTreeMap<Namespace, DecentralizedNamespace>,
}

impl Authority {
    /// Makes a key known. That gives it no right.
    pub fn know(&mut self, key: SigningPublicKey) {
        self.keys.insert(key.fingerprint().clone(), key);
    }

    /// Checks every signature. Keys that the transaction itself introduces are known to it.
    pub fn verify<'a>(
        &self,
        signed: &'a SignedTransaction,
    ) -> Result<VerifiedTransaction<'a>, VerifyError> {
        let hash = signed.transaction.hash();
        let own = introduced_keys(signed.transaction.mapping());
        let mut signers = BTreeSet::new();
        let mut check = |signature: &Signature, message: &Multihash| {
            let name = &signature.signed_by;
            let key = own.iter().copied().find(|key| key.fingerprint() == name);
            let key = key.or_else(|| self.keys.get(name));
            let unknown = || VerifyError::UnknownKey { hash, key: name.clone() };
            key.ok_or_else(unknown)?
                .verify_bytes(message.as_bytes(), signature)
                .map_err(|error| VerifyError::Signature { hash, error })?;
            signers.insert(name.clone());
            Ok(())
        };
        for signature in &signed.signatures {
            check(signature, &hash)?;
        }
        for multi in &signed.multi_signatures {
            if !multi.hashes.contains(&hash) {
                return Err(VerifyError::NotCovered { hash });
            }
            let message = combined_hash(&multi.hashes);
            for signature in &multi.signatures {
                check(signature, &message)?;
            }
        }
        if signers.is_empty() {
            return Err(VerifyError::Unsigned { hash });
        }
        Ok(VerifiedTransaction { signed, signers })
    }

    /// Who else would have to sign. `previous` is what the mapping replaces.
    pub fn missing(
        &self,
        verified: &VerifiedTransaction<'_>,
        previous: Option<&Mapping>,
    ) -> Result<BTreeSet<Requirement>, RequirementError> {
        let transaction = &verified.signed.transaction;
        let (mapping, kind) = (transaction.mapping(), transaction.mapping().code());
        let required = required(mapping, transaction.operation(), previous)?;
        let speaks = |namespace: &Namespace| {
            self.speaks_for(namespace, &verified.signers, kind, Some(mapping))
        };
        let fulfilled = |requirement: &Requirement| match requirement {
            Requirement::AnyOf(namespaces) => namespaces.iter().any(speaks),
            Requirement::Key(key) => verified.signers.contains(key),
            Requirement::Namespace(namespace) => speaks(namespace),
        };
        Ok(required.into_iter().filter(|requirement| !fulfilled(requirement)).collect())
    }

    /// Learns from a transaction that somebody decided to accept.
    pub fn accept(&mut self, verified: &VerifiedTransaction<'_>) {
        let transaction = &verified.signed.transaction;
        for key in introduced_keys(transaction.mapping()) {
            self.know(key.clone());
        }
        let adds = transaction.operation() == Operation::AddReplace;
        match transaction.mapping() {
            Mapping::NamespaceDelegation(delegation) => {
                let of_namespace =
                    self.delegations.entry(delegation.namespace.clone()).or_default();
                let key = delegation.target.fingerprint().clone();
                if adds {
                    of_namespace.insert(key, delegation.restriction.clone());
                } else {
                    of_namespace.remove(&key);
                }
            }
            Mapping::DecentralizedNamespace(group) if adds => {
                self.groups.insert(group.namespace.clone(), group.clone());
            }
            Mapping::DecentralizedNamespace(group) => {
                self.groups.remove(&group.namespace);
            }
            Mapping::Other { .. }
            | Mapping::OwnerToKey(_)
            | Mapping::PartyToParticipant(_)
            | Mapping::SynchronizerTrustCertificate(_)
            | Mapping::VettedPackages(_) => {}
        }
    }

    /// Whether these keys may change mappings of this kind in the namespace.
    fn speaks_for(
        &self,
        namespace: &Namespace,
        signers: &BTreeSet<Fingerprint>,
        kind: u32,
        proposed: Option<&Mapping>,
    ) -> bool {
        // The key that the namespace is named after signs everything.
        if signers.iter().any(|key| key.to_namespace() == *namespace) {
            return true;
        }
        let delegations = self.delegations.get(namespace);
        let delegated = delegations
            .into_iter()
            .flatten()
            .any(|(key, restriction)| signers.contains(key) && restriction.allows(kind));
        let group = self.groups.get(namespace).or(match proposed {
            Some(Mapping::DecentralizedNamespace(group)) if group.namespace == *namespace => {
                Some(group)
            }
            _ => None,
        });
        let by_owners = group.is_some_and(|group| {
            // Groups do not own groups, so the second call has no group to look at.
            let speaks = |owner: &&Namespace| {
                !self.groups.contains_key(*owner) && self.speaks_for(owner, signers, kind, None)
            };
            let speaking = group.owners.iter().filter(speaks).count();
            i32::try_from(speaking).is_ok_and(|speaking| speaking >= group.threshold.max(1))
        });
        delegated || by_owners
    }
}

impl Restriction {
    /// Whether the key may sign mappings of this kind.
    pub fn allows(&self, kind: u32) -> bool {
        match self {
            Self::AllMappings => true,
            Self::AllButNamespaceDelegations => kind != 1,
            Self::Specific(kinds) => kinds.contains(&kind),
        }
    }
}

/// What keys sign who sign several transactions at once.
pub fn combined_hash(hashes: &[Multihash]) -> Multihash {
    let sorted: BTreeSet<&Multihash> = hashes.iter().collect();
    let mut preimage = Preimage::default();
    preimage.count(sorted.len());
    for hash in sorted {
        preimage.bytes(hash.as_bytes());
    }
    canton_hash(Purpose::MultiTopologyTransaction, preimage.as_bytes())
}

pub(super) fn introduced_keys(mapping: &Mapping) -> Vec<&SigningPublicKey> {
    match mapping {
        Mapping::NamespaceDelegation(delegation) => vec![&delegation.target],
        Mapping::OwnerToKey(owner) => owner
            .keys
            .iter()
            .filter_map(|key| match key {
                PublicKey::Signing(key) => Some(key),
                PublicKey::Encryption(_) => None,
            })
            .collect(),
        Mapping::PartyToParticipant(party) => {
            party.signing_keys.iter().flat_map(|signing| &signing.keys).collect()
        }
        Mapping::DecentralizedNamespace(_)
        | Mapping::Other { .. }
        | Mapping::SynchronizerTrustCertificate(_)
        | Mapping::VettedPackages(_) => Vec::new(),
    }
}
