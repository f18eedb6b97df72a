//! The keys of a participant.

use heirloom_canton::hash::Multihash;
use heirloom_canton_node::wire::crypto::{PublicKey, Signature, SigningKeyUsage};
use heirloom_participant::custodian::key::{
    KeyHandle, KeyId, KeyRequest, KeyScheme, KeyUsage, Label,
};

use crate::crypto;
use crate::limit::{KEY_NAME_CHARACTERS_MAX, SERVER_KEYS_MAX};
use crate::node::error::NodeError;
use crate::node::{Node, lock};
use crate::record::KeyRecord;
use crate::store::{StoreError, Table, Write};

/// Where the number of the next key is written.
const NEXT_KEY_KEY: &[u8] = b"next-key";

/// A key with its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnKey {
    /// Its fingerprint.
    pub fingerprint: String,
    /// What the store has of it.
    pub record: KeyRecord,
    /// Its scheme.
    pub scheme: KeyScheme,
    /// What it is for.
    pub usage: KeyUsage,
}

impl OwnKey {
    fn new(fingerprint: String, record: KeyRecord) -> Result<Self, NodeError> {
        let (scheme, usage) = (record.scheme.parse()?, record.usage.parse()?);
        Ok(Self { fingerprint, record, scheme, usage })
    }

    /// As the wire has it.
    pub fn public_key(&self) -> PublicKey {
        crypto::public_key(self.scheme, &self.record.usages, &self.record.public)
    }

    fn handle(&self) -> Result<KeyHandle, NodeError> {
        Ok(KeyHandle {
            id: self.record.custodian_id.parse()?,
            label: self.record.label.parse()?,
            usage: self.usage,
            scheme: self.scheme,
        })
    }
}

impl Node {
    /// All keys, by fingerprint.
    pub fn keys(&self) -> Result<Vec<OwnKey>, NodeError> {
        let all = self.store().read()?.some::<KeyRecord>(Table::Keys, &[], SERVER_KEYS_MAX)?;
        let all = all.into_iter().map(|(fingerprint, record)| {
            OwnKey::new(String::from_utf8_lossy(&fingerprint).into_owned(), record)
        });
        all.collect()
    }

    /// One key.
    pub fn key(&self, fingerprint: &str) -> Result<Option<OwnKey>, NodeError> {
        let found = self.store().read()?.one(Table::Keys, fingerprint.as_bytes())?;
        found.map(|record| OwnKey::new(fingerprint.to_owned(), record)).transpose()
    }

    /// A key of this usage. The last one by name is not better than the others: nodes have one.
    pub fn key_for(&self, usage: KeyUsage) -> Result<OwnKey, NodeError> {
        let id = self.required_id()?;
        let registered: Vec<String> = self.with_authorized(|topology| {
            let keys = topology.keys_of(&id).iter();
            keys.filter_map(|key| crypto::read_public(key).ok().map(|(_, name)| name.to_string()))
                .collect()
        });
        let mut found = self.keys()?.into_iter().filter(|key| key.usage == usage);
        let found = found.find(|key| registered.contains(&key.fingerprint));
        found.ok_or_else(|| NodeError::Refused(format!("the participant has no {usage} key")))
    }

    /// Signs a hash.
    pub fn sign(&self, key: &OwnKey, hash: &Multihash) -> Result<Signature, NodeError> {
        let cannot =
            || NodeError::Unsupported(format!("keys of scheme {} do not sign", key.scheme));
        let algorithm = key.scheme.algorithm().ok_or_else(cannot)?;
        let handle = key.handle()?;
        let custodian = lock(&self.custodian);
        let signed = custodian.sign(&handle, algorithm, hash.as_bytes())?;
        drop(custodian);
        crypto::signature(key.scheme, &key.fingerprint, signed.as_bytes()).ok_or_else(cannot)
    }

    /// Makes a new key in the custodian. Every call makes another one, as the real one does.
    pub fn generate(
        &self,
        name: &str,
        usage: KeyUsage,
        scheme: KeyScheme,
        usages: Vec<i32>,
    ) -> Result<OwnKey, NodeError> {
        check_name(name)?;
        // The number is used up before the key is made: no two calls ever ask for one label.
        let number = self.store().write::<u64, StoreError>(|write| {
            let number = write.one(Table::Meta, NEXT_KEY_KEY)?.unwrap_or(1_u64);
            write.put(Table::Meta, NEXT_KEY_KEY, &(number + 1))?;
            Ok(number)
        })?;
        let short = match usage {
            KeyUsage::Namespace => "ns",
            KeyUsage::SequencerAuthentication => "auth",
            KeyUsage::Protocol => "sign",
            KeyUsage::Encryption => "enc",
        };
        let label: Label = format!("{}-k{number}-{short}", self.settings().name).parse()?;
        if lock(&self.custodian).find(&label)?.is_some() {
            return Err(NodeError::KeysWithoutStore { label: label.to_string() });
        }
        let key = self.make(&label, name, usage, scheme, usages)?;
        self.keep(&key)?;
        Ok(key)
    }

    /// Takes up a key that is in the custodian already.
    pub fn register_key(
        &self,
        id: &str,
        name: &str,
        usage: Option<KeyUsage>,
        usages: Vec<i32>,
    ) -> Result<OwnKey, NodeError> {
        check_name(name)?;
        if !self.has_kms() {
            let no_kms = "the crypto provider of this node is not a KMS";
            return Err(NodeError::Refused(no_kms.to_owned()));
        }
        let id: KeyId = id.parse()?;
        let handle = lock(&self.custodian).open(&id)?;
        // A key in the wrong usage is dead, and nobody would notice before it is needed.
        let wanted = usage.unwrap_or(handle.usage);
        let is_encryption = handle.usage == KeyUsage::Encryption;
        if wanted != handle.usage || usage.is_none() != is_encryption {
            return Err(NodeError::Refused(format!(
                "key {id} is for {}, and is registered for {}",
                handle.usage,
                usage.map_or("encryption", KeyUsage::as_str),
            )));
        }
        let key = self.read_back(&handle, name, usages)?;
        self.keep(&key)?;
        Ok(key)
    }

    /// Makes a key with this label, or finds it.
    pub(crate) fn make(
        &self,
        label: &Label,
        name: &str,
        usage: KeyUsage,
        scheme: KeyScheme,
        usages: Vec<i32>,
    ) -> Result<OwnKey, NodeError> {
        let request = KeyRequest { label: label.clone(), usage, scheme };
        let handle = lock(&self.custodian).create(&request)?;
        self.read_back(&handle, name, usages)
    }

    fn read_back(
        &self,
        handle: &KeyHandle,
        name: &str,
        usages: Vec<i32>,
    ) -> Result<OwnKey, NodeError> {
        let public = lock(&self.custodian).public(handle)?;
        let fingerprint = crypto::fingerprint(handle.scheme, &public).to_string();
        let record = KeyRecord {
            name: name.to_owned(),
            custodian_id: handle.id.as_str().to_owned(),
            label: handle.label.to_string(),
            usage: handle.usage.to_string(),
            scheme: handle.scheme.to_string(),
            public: public.as_bytes().to_vec(),
            usages,
        };
        OwnKey::new(fingerprint, record)
    }

    fn keep(&self, key: &OwnKey) -> Result<(), NodeError> {
        self.store().write(|write| put_key(write, key))
    }

    /// The public halves in the store are those in the custodian.
    pub(crate) fn check_keys(&self) -> Result<(), NodeError> {
        for key in self.keys()? {
            let public = lock(&self.custodian).public(&key.handle()?)?;
            if public.as_bytes() != key.record.public {
                return Err(NodeError::OtherKey { label: key.record.label });
            }
        }
        Ok(())
    }

    /// Whether the custodian has a key with this label.
    pub(crate) fn has_label(&self, label: &Label) -> Result<bool, NodeError> {
        Ok(lock(&self.custodian).find(label)?.is_some())
    }
}

/// Keeps a key.
pub(crate) fn put_key(write: &Write, key: &OwnKey) -> Result<(), NodeError> {
    Ok(write.put(Table::Keys, key.fingerprint.as_bytes(), &key.record)?)
}

/// The usage of a key with these usages of the wire.
pub fn usage_of(usages: &[i32]) -> Result<KeyUsage, NodeError> {
    let proof = i32::from(SigningKeyUsage::ProofOfOwnership);
    let main: Vec<i32> = usages.iter().copied().filter(|usage| *usage != proof).collect();
    let [one] = main.as_slice() else {
        let several =
            "a signing key has one usage here: namespace, sequencer-authentication or protocol";
        return Err(NodeError::Invalid(several.to_owned()));
    };
    match SigningKeyUsage::try_from(*one) {
        Ok(SigningKeyUsage::Namespace) => Ok(KeyUsage::Namespace),
        Ok(SigningKeyUsage::SequencerAuthentication) => Ok(KeyUsage::SequencerAuthentication),
        Ok(SigningKeyUsage::Protocol) => Ok(KeyUsage::Protocol),
        _ => Err(NodeError::Invalid(format!("usage {one} of a signing key is not known"))),
    }
}

fn check_name(name: &str) -> Result<(), NodeError> {
    if name.chars().count() > KEY_NAME_CHARACTERS_MAX {
        return Err(NodeError::Invalid("the name of a key has at most 300 characters".to_owned()));
    }
    Ok(())
}
