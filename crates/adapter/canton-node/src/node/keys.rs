//! The keys that a participant has.

use std::collections::BTreeSet;

use heirloom_canton::fingerprint::Fingerprint;
use heirloom_canton::key::{
    EncryptionPublicKey, EncryptionScheme, KeyFormat, PublicKey, SigningKeyUsage, SigningPublicKey,
    SigningScheme,
};
use heirloom_participant::custodian::key::KeyUsage;

use crate::error::NodeError;
use crate::node::call::ask;
use crate::node::{Node, Port};
use crate::wire::crypto;
use crate::wire::vault;
use crate::wire::vault::vault_service_client::VaultServiceClient;

/// Keys of one participant: four, and four more a rotation.
const LISTED_KEYS_MAX: usize = 4_096;

/// The usage that a server is told. None for encryption, which is another call.
fn signs(usage: KeyUsage) -> Option<SigningKeyUsage> {
    match usage {
        KeyUsage::Namespace => Some(SigningKeyUsage::Namespace),
        KeyUsage::SequencerAuthentication => Some(SigningKeyUsage::SequencerAuthentication),
        KeyUsage::Protocol => Some(SigningKeyUsage::Protocol),
        KeyUsage::Encryption => None,
    }
}

/// A key, as it is written into topology, with the fingerprint that was computed here.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyMaterial {
    /// The key, read.
    pub key: PublicKey,
    /// The key, as the server wrote it.
    pub(crate) wire: crypto::PublicKey,
}

impl KeyMaterial {
    /// The name of the key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.key.fingerprint()
    }
}

/// A key whose private half a participant can use.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyEntry {
    /// What the participant calls it.
    pub name: String,
    /// The public half.
    pub material: KeyMaterial,
    /// The custodian's identifier, if the private half is in a KMS.
    pub custodian_id: Option<String>,
}

impl KeyEntry {
    /// Whether the key is for exactly this. Servers add the proof of ownership by themselves.
    pub fn is_for(&self, usage: KeyUsage) -> bool {
        match (&self.material.key, signs(usage)) {
            (PublicKey::Encryption(_), None) => true,
            (PublicKey::Signing(key), Some(usage)) => {
                let said: BTreeSet<_> = key.usages().iter().copied().collect();
                said.iter().all(|one| *one == usage || *one == SigningKeyUsage::ProofOfOwnership)
                    && said.contains(&usage)
            }
            _ => false,
        }
    }
}

impl Node {
    /// Every key whose private half it can use.
    pub fn keys(&self) -> Result<Vec<KeyEntry>, NodeError> {
        let call = "ListMyKeys";
        // The filter must be there, and may be empty.
        let filters = Some(vault::ListKeysFilters::default());
        let request =
            ask!(VaultServiceClient<_>, list_my_keys, vault::ListMyKeysRequest { filters });
        let found = self.read(Port::Admin, call, request)?.private_keys_metadata;
        self.bounded(call, found.len(), LISTED_KEYS_MAX)?;
        found.into_iter().map(|entry| self.entry(call, entry)).collect()
    }

    fn entry(
        &self,
        call: &'static str,
        entry: vault::PrivateKeyMetadata,
    ) -> Result<KeyEntry, NodeError> {
        let named = entry.v30.ok_or_else(|| self.corrupt(call, "an entry without a key"))?;
        let wire = named.public_key.ok_or_else(|| self.corrupt(call, "a name without a key"))?;
        let material = self.material(call, wire)?;
        Ok(KeyEntry { name: named.name, material, custodian_id: entry.kms_key_id })
    }

    /// Lets it use a key of its KMS, under this name. Idempotent at the server for the same name.
    pub fn register_key(
        &self,
        custodian_id: &str,
        name: &str,
        usage: KeyUsage,
    ) -> Result<KeyMaterial, NodeError> {
        let (kms_key_id, name) = (custodian_id.to_owned(), name.to_owned());
        let Some(signing_usage) = signs(usage) else {
            let call = "RegisterKmsEncryptionKey";
            let request = vault::RegisterKmsEncryptionKeyRequest { kms_key_id, name };
            let request = ask!(VaultServiceClient<_>, register_kms_encryption_key, request);
            return self.encryption(call, self.change(Port::Admin, call, request)?.public_key);
        };
        let call = "RegisterKmsSigningKey";
        let usage_v30 = vec![wire_usage(signing_usage)];
        let request = vault::RegisterKmsSigningKeyRequest { kms_key_id, name, usage_v30 };
        let request = ask!(VaultServiceClient<_>, register_kms_signing_key, request);
        self.signing(call, self.change(Port::Admin, call, request)?.v30)
    }

    /// Lets it make a key in its own database. Not idempotent: look for the name first.
    pub fn generate_key(
        &self,
        name: &str,
        usage: KeyUsage,
        signing: SigningScheme,
        encryption: EncryptionScheme,
    ) -> Result<KeyMaterial, NodeError> {
        let name = name.to_owned();
        let Some(signing_usage) = signs(usage) else {
            let call = "GenerateEncryptionKey";
            let key_spec = encryption.number().cast_signed();
            let request = vault::GenerateEncryptionKeyRequest { key_spec, name };
            let request = ask!(VaultServiceClient<_>, generate_encryption_key, request);
            return self.encryption(call, self.change(Port::Admin, call, request)?.public_key);
        };
        let call = "GenerateSigningKey";
        let (key_spec, usage_v30) =
            (signing.number().cast_signed(), vec![wire_usage(signing_usage)]);
        let request = vault::GenerateSigningKeyRequest { key_spec, name, usage_v30 };
        let request = ask!(VaultServiceClient<_>, generate_signing_key, request);
        self.signing(call, self.change(Port::Admin, call, request)?.v30)
    }

    fn signing(
        &self,
        call: &'static str,
        key: Option<crypto::SigningPublicKey>,
    ) -> Result<KeyMaterial, NodeError> {
        let key = key.ok_or_else(|| self.corrupt(call, "no key"))?;
        let key = Some(crypto::public_key::Key::SigningPublicKey(key));
        self.material(call, crypto::PublicKey { key })
    }

    fn encryption(
        &self,
        call: &'static str,
        key: Option<crypto::EncryptionPublicKey>,
    ) -> Result<KeyMaterial, NodeError> {
        let key = key.ok_or_else(|| self.corrupt(call, "no key"))?;
        let key = Some(crypto::public_key::Key::EncryptionPublicKey(key));
        self.material(call, crypto::PublicKey { key })
    }

    fn material(
        &self,
        call: &'static str,
        wire: crypto::PublicKey,
    ) -> Result<KeyMaterial, NodeError> {
        let key = read_key(&wire).map_err(|why| self.corrupt(call, why))?;
        Ok(KeyMaterial { key, wire })
    }
}

fn wire_usage(usage: SigningKeyUsage) -> i32 {
    usage.number().cast_signed()
}

fn number<T>(
    found: i32,
    read: impl Fn(u32) -> Result<T, heirloom_canton::proto::ProtoError>,
) -> Result<T, String> {
    let number = u32::try_from(found).map_err(|_| format!("{found} is no number of a kind"))?;
    read(number).map_err(|error| error.to_string())
}

/// Reads a key, with its fingerprint computed from its bytes.
pub(crate) fn read_key(wire: &crypto::PublicKey) -> Result<PublicKey, String> {
    match &wire.key {
        None => Err("a key of a kind that is not known".to_owned()),
        Some(crypto::public_key::Key::EncryptionPublicKey(key)) => {
            // Servers before key specifications had three schemes, two of them on P-256.
            let scheme = match (key.key_spec, key.scheme) {
                (0, 1 | 2) => EncryptionScheme::P256,
                (0, 3) => EncryptionScheme::Rsa2048,
                (spec, _) => number(spec, EncryptionScheme::from_number)?,
            };
            let format = number(key.format, KeyFormat::from_number)?;
            let bytes = key.public_key.clone();
            Ok(PublicKey::Encryption(EncryptionPublicKey { scheme, format, bytes }))
        }
        Some(crypto::public_key::Key::SigningPublicKey(key)) => {
            let scheme = match (key.key_spec, key.scheme) {
                (0, 1) => SigningScheme::Ed25519,
                (0, 2) => SigningScheme::P256,
                (0, 3) => SigningScheme::P384,
                (spec, _) => number(spec, SigningScheme::from_number)?,
            };
            let format = number(key.format, KeyFormat::from_number)?;
            let usages = key
                .usage
                .iter()
                .map(|usage| number(*usage, SigningKeyUsage::from_number))
                .collect::<Result<Vec<_>, _>>()?;
            SigningPublicKey::new(scheme, format, &key.public_key, &usages)
                .map(PublicKey::Signing)
                .map_err(|error| error.to_string())
        }
    }
}
