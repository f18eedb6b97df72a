//! Who a participant is, and what it signs for every synchronizer.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use heirloom_canton_node::wire::crypto::SigningPublicKey;
use heirloom_canton_node::wire::crypto::public_key::Key;
use heirloom_canton_node::wire::protocol::enums::TopologyChangeOp;
use heirloom_canton_node::wire::protocol::namespace_delegation::{CanSignAllMappings, Restriction};
use heirloom_canton_node::wire::protocol::topology_mapping::Mapping;
use heirloom_canton_node::wire::protocol::{
    NamespaceDelegation, OwnerToKeyMapping, SignedTopologyTransaction,
};
use heirloom_model::party::{Namespace, ParticipantId};
use heirloom_participant::custodian::key::{KeyScheme, KeyUsage, Label};
use prost::Message;

use crate::clock::now_micros;
use crate::crypto;
use crate::node::error::NodeError;
use crate::node::keys::{OwnKey, put_key};
use crate::node::{IDENTITY_KEY, Node, lock};
use crate::record::{IdentityRecord, TopologyRecord};
use crate::store::{StoreError, Table, Write};
use crate::topology::{
    Accepted, Assessed, Demands, Subject, Topology, hash_of, is_root, member, subject_of,
    transaction_bytes,
};

/// Where it is written that the first keys are being made.
const BEGUN_KEY: &[u8] = b"initialisation-begun";

impl Node {
    /// Makes keys and identity, once. A crash on the way is taken up where it happened; a store
    /// that is missing or new beside keys that exist is refused.
    pub(crate) fn initialise(&self) -> Result<(), NodeError> {
        if self.id().is_some() {
            return self.check_keys();
        }
        let (signing, encryption) = (self.settings().signing, self.settings().encryption);
        let wanted: [(KeyUsage, KeyScheme); 4] = [
            (KeyUsage::Namespace, signing),
            (KeyUsage::SequencerAuthentication, signing),
            (KeyUsage::Protocol, signing),
            (KeyUsage::Encryption, encryption),
        ];
        let labels: Vec<Label> = wanted
            .iter()
            .map(|(usage, _)| format!("{}-{usage}", self.settings().name).parse())
            .collect::<Result<_, _>>()?;
        let begun: Option<u8> = self.store().read()?.one(Table::Meta, BEGUN_KEY)?;
        if begun.is_none() {
            for label in &labels {
                if self.has_label(label)? {
                    return Err(NodeError::KeysWithoutStore { label: label.to_string() });
                }
            }
            self.store()
                .write::<_, StoreError>(|write| write.put(Table::Meta, BEGUN_KEY, &1_u8))?;
        }
        let mut keys = Vec::new();
        for ((usage, scheme), label) in wanted.into_iter().zip(&labels) {
            let name = format!("{}-{usage}", self.settings().name);
            keys.push(self.make(label, &name, usage, scheme, crypto::usages_of(usage))?);
        }
        self.store()
            .write::<_, NodeError>(|write| keys.iter().try_for_each(|key| put_key(write, key)))?;
        let namespace: Namespace = keys
            .first()
            .map(|key| key.fingerprint.parse())
            .transpose()?
            .ok_or(NodeError::NotInitialized)?;
        let id = ParticipantId::new(&self.settings().name, &namespace)?;
        let node_keys: Vec<&OwnKey> = keys.iter().skip(1).collect();
        let owner = OwnerToKeyMapping {
            member: member(&id),
            public_keys: node_keys.iter().map(|key| key.public_key()).collect(),
        };
        let root = keys.first().ok_or(NodeError::NotInitialized)?;
        let delegation = self.signed(
            root_delegation(root),
            TopologyChangeOp::AddReplace,
            1,
            std::slice::from_ref(root),
        )?;
        let signers: Vec<OwnKey> =
            keys.iter().filter(|key| key.usage != KeyUsage::Encryption).cloned().collect();
        let owner = Mapping::OwnerToKeyMapping(owner);
        let owner = self.signed(owner, TopologyChangeOp::AddReplace, 1, &signers)?;
        self.become_somebody(&id, &[delegation, owner])
    }

    /// Takes an identity that somebody gives.
    pub fn init_id(
        &self,
        identifier: &str,
        namespace: &str,
        delegations: &[SignedTopologyTransaction],
    ) -> Result<(), NodeError> {
        if let Some(id) = self.id() {
            return Err(NodeError::Exists(format!("the participant is {id} already")));
        }
        let namespace: Namespace = namespace.parse()?;
        let id = ParticipantId::new(identifier, &namespace)?;
        let has_key = self.key(namespace.as_str())?.is_some_and(|k| k.usage == KeyUsage::Namespace);
        if !has_key && delegations.is_empty() {
            return Err(NodeError::Refused(format!(
                "this node has no key of namespace {namespace}, and no delegation to one of its \
                 keys was given"
            )));
        }
        self.become_somebody(&id, delegations)
    }

    fn become_somebody(
        &self,
        id: &ParticipantId,
        transactions: &[SignedTopologyTransaction],
    ) -> Result<(), NodeError> {
        let mut topology = lock(&self.authorized);
        let mut next = topology.clone();
        let taken = take(&mut next, transactions)?;
        let record = IdentityRecord { participant: id.to_string() };
        self.store().write::<_, NodeError>(|write| {
            put_authorized(write, &taken)?;
            Ok(write.put(Table::Meta, IDENTITY_KEY, &record)?)
        })?;
        *topology = next;
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
        Ok(())
    }

    /// Whether it has said which keys it has, without which nobody can talk to it.
    pub fn has_topology(&self) -> bool {
        let Some(id) = self.id() else { return false };
        self.with_authorized(|topology| {
            let has_root = topology.standing().any(|accepted| match &accepted.mapping {
                Mapping::NamespaceDelegation(found) => {
                    is_root(found) && found.namespace == id.namespace().as_str()
                }
                _ => false,
            });
            has_root && !topology.keys_of(&id).is_empty()
        })
    }

    /// Signs what somebody proposes. Without names of keys, all that have a say sign.
    pub fn propose(
        &self,
        mapping: Mapping,
        operation: TopologyChangeOp,
        serial: u32,
        signed_by: &[String],
        before: &Topology,
    ) -> Result<SignedTopologyTransaction, NodeError> {
        let subject = subject_of(&mapping)?;
        let latest = before.latest(&subject);
        // Asking again for what stands already changes nothing.
        if let Some(latest) = latest
            && serial == 0
            && latest.mapping == mapping
            && latest.is_removal == (operation == TopologyChangeOp::Remove)
        {
            return Ok(latest.signed.clone());
        }
        let next = latest.map_or(1, |latest| latest.serial.saturating_add(1));
        let serial = if serial == 0 { next } else { serial };
        let signers = if signed_by.is_empty() {
            self.signers(&mapping, before)?
        } else {
            let named = signed_by.iter().map(|name| {
                let missing = || NodeError::Missing(format!("this node has no key {name}"));
                self.key(name)?.ok_or_else(missing)
            });
            named.collect::<Result<_, _>>()?
        };
        if signers.is_empty() {
            let nobody = format!("no key of this node has a say about {subject:?}");
            return Err(NodeError::Refused(nobody));
        }
        self.signed(mapping, operation, serial, &signers)
    }

    /// The own keys that have a say about a mapping.
    fn signers(&self, mapping: &Mapping, before: &Topology) -> Result<Vec<OwnKey>, NodeError> {
        let mut namespaces: BTreeSet<String> = BTreeSet::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        match (subject_of(mapping)?, mapping) {
            (Subject::Delegation { namespace, .. }, _) => {
                namespaces.insert(namespace.to_string());
            }
            (Subject::Keys(member), Mapping::OwnerToKeyMapping(keys)) => {
                namespaces.insert(member.namespace().to_string());
                let signing = keys.public_keys.iter().filter_map(|key| match &key.key {
                    Some(Key::SigningPublicKey(key)) => Some(key),
                    _ => None,
                });
                for key in signing {
                    names.insert(crypto::read_signing(key)?.2.to_string());
                }
            }
            (Subject::Hosting(party), Mapping::PartyToParticipant(hosting)) => {
                namespaces.insert(party.namespace().to_string());
                for host in &hosting.participants {
                    let host: ParticipantId = host.participant_uid.parse()?;
                    namespaces.insert(host.namespace().to_string());
                }
            }
            (Subject::Hosting(party), _) => {
                namespaces.insert(party.namespace().to_string());
            }
            (Subject::Keys(id) | Subject::Trust(id, _) | Subject::Packages(id), _) => {
                namespaces.insert(id.namespace().to_string());
            }
        }
        for accepted in before.standing() {
            if let Mapping::NamespaceDelegation(found) = &accepted.mapping
                && namespaces.contains(&found.namespace)
                && let Some(key) = &found.target_key
            {
                names.insert(crypto::read_signing(key)?.2.to_string());
            }
        }
        // The root key of a namespace signs its own delegation before it stands anywhere.
        names.extend(namespaces);
        let own = self.keys()?.into_iter();
        let own = own.filter(|key| key.usage != KeyUsage::Encryption);
        Ok(own.filter(|key| names.contains(&key.fingerprint)).collect())
    }

    fn signed(
        &self,
        mapping: Mapping,
        operation: TopologyChangeOp,
        serial: u32,
        signers: &[OwnKey],
    ) -> Result<SignedTopologyTransaction, NodeError> {
        let transaction = transaction_bytes(operation, serial, mapping);
        let hash = hash_of(&transaction);
        let signatures = signers.iter().map(|key| self.sign(key, &hash));
        Ok(SignedTopologyTransaction {
            signatures: signatures.collect::<Result<_, _>>()?,
            transaction,
            proposal: false,
            multi_transaction_signatures: Vec::new(),
        })
    }

    /// Takes transactions into the node's own store.
    pub fn authorize(&self, transactions: &[SignedTopologyTransaction]) -> Result<(), NodeError> {
        let mut topology = lock(&self.authorized);
        let mut next = topology.clone();
        let taken = take(&mut next, transactions)?;
        self.store().write::<_, NodeError>(|write| put_authorized(write, &taken))?;
        *topology = next;
        Ok(())
    }

    pub(crate) fn load_authorized(&self) -> Result<(), NodeError> {
        let all: Vec<(_, TopologyRecord)> = self.store().read()?.all(Table::Authorized)?;
        let mut topology = lock(&self.authorized);
        for (_, record) in all {
            let signed = SignedTopologyTransaction::decode(record.signed.as_slice());
            let signed = signed.map_err(|error| {
                NodeError::Invalid(format!("the store's topology is damaged: {error}"))
            })?;
            topology.restore(&signed, record.time_micros)?;
        }
        Ok(())
    }
}

fn root_delegation(key: &OwnKey) -> Mapping {
    let target: SigningPublicKey =
        crypto::signing_key(key.scheme, &key.record.usages, &key.record.public);
    Mapping::NamespaceDelegation(NamespaceDelegation {
        namespace: key.fingerprint.clone(),
        target_key: Some(target),
        is_root_delegation: false,
        restriction: Some(Restriction::CanSignAllMappings(CanSignAllMappings {})),
    })
}

/// Accepts all of them or none.
fn take(
    topology: &mut Topology,
    transactions: &[SignedTopologyTransaction],
) -> Result<Vec<Accepted>, NodeError> {
    let mut taken = Vec::new();
    for signed in transactions {
        if let Assessed::New(mut next) = topology.assess(signed, &Demands::default())? {
            next.time_micros = now_micros();
            topology.accept((*next).clone());
            taken.push(*next);
        }
    }
    Ok(taken)
}

fn put_authorized(write: &Write, taken: &[Accepted]) -> Result<(), NodeError> {
    for accepted in taken {
        let key = format!("{:?}", accepted.subject);
        let record = TopologyRecord {
            signed: accepted.signed.encode_to_vec(),
            time_micros: accepted.time_micros,
        };
        write.put(Table::Authorized, key.as_bytes(), &record)?;
    }
    Ok(())
}
