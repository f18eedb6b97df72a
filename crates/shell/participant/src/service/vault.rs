//! The keys of a node.

use heirloom_canton_node::wire::crypto::{KeyPurpose, PublicKeyWithName, public_key};
use heirloom_canton_node::wire::vault::vault_service_server::VaultService;
use heirloom_canton_node::wire::vault::{
    ExportKeyPairRequest, ExportKeyPairResponse, GenerateEncryptionKeyRequest,
    GenerateEncryptionKeyResponse, GenerateSigningKeyRequest, GenerateSigningKeyResponse,
    ListKeysFilters, ListMyKeysRequest, ListMyKeysResponse, PrivateKeyMetadata,
    RegisterKmsEncryptionKeyRequest, RegisterKmsEncryptionKeyResponse,
    RegisterKmsSigningKeyRequest, RegisterKmsSigningKeyResponse,
};
use heirloom_participant::custodian::key::KeyUsage;
use tonic::{Request, Response, Status};

use crate::crypto::{scheme_of_encryption, scheme_of_signing};
use crate::node::error::NodeError;
use crate::node::keys::{OwnKey, usage_of};
use crate::service::Services;

#[tonic::async_trait]
impl VaultService for Services {
    async fn list_my_keys(
        &self,
        request: Request<ListMyKeysRequest>,
    ) -> Result<Response<ListMyKeysResponse>, Status> {
        let filters = request.into_inner().filters.unwrap_or_default();
        self.on("ListMyKeys", move |node| {
            let has_kms = node.has_kms();
            let keys = node.keys()?.into_iter().filter(|key| is_wanted(&filters, key));
            let keys = keys.map(|key| PrivateKeyMetadata {
                v30: Some(PublicKeyWithName {
                    public_key: Some(key.public_key()),
                    name: key.record.name.clone(),
                }),
                wrapper_key_id: None,
                kms_key_id: has_kms.then(|| key.record.custodian_id.clone()),
            });
            Ok(ListMyKeysResponse { private_keys_metadata: keys.collect() })
        })
        .await
    }

    async fn generate_signing_key(
        &self,
        request: Request<GenerateSigningKeyRequest>,
    ) -> Result<Response<GenerateSigningKeyResponse>, Status> {
        let request = request.into_inner();
        self.on("GenerateSigningKey", move |node| {
            let usage = usage_of(&request.usage_v30)?;
            let scheme = match request.key_spec {
                0 => node.settings().signing,
                number => scheme_of_signing(number).ok_or_else(|| {
                    NodeError::Invalid(format!("signing key specification {number} is not known"))
                })?,
            };
            let key = node.generate(&request.name, usage, scheme, request.usage_v30)?;
            Ok(GenerateSigningKeyResponse { v30: signing(&key) })
        })
        .await
    }

    async fn generate_encryption_key(
        &self,
        request: Request<GenerateEncryptionKeyRequest>,
    ) -> Result<Response<GenerateEncryptionKeyResponse>, Status> {
        let request = request.into_inner();
        self.on("GenerateEncryptionKey", move |node| {
            let scheme = match request.key_spec {
                0 => node.settings().encryption,
                number => scheme_of_encryption(number).ok_or_else(|| {
                    NodeError::Invalid(format!("encryption specification {number} is not known"))
                })?,
            };
            let key = node.generate(&request.name, KeyUsage::Encryption, scheme, Vec::new())?;
            Ok(GenerateEncryptionKeyResponse { public_key: encryption(&key) })
        })
        .await
    }

    async fn register_kms_signing_key(
        &self,
        request: Request<RegisterKmsSigningKeyRequest>,
    ) -> Result<Response<RegisterKmsSigningKeyResponse>, Status> {
        let request = request.into_inner();
        self.on("RegisterKmsSigningKey", move |node| {
            let usage = Some(usage_of(&request.usage_v30)?);
            let (id, name) = (&request.kms_key_id, &request.name);
            let key = node.register_key(id, name, usage, request.usage_v30.clone())?;
            Ok(RegisterKmsSigningKeyResponse { v30: signing(&key) })
        })
        .await
    }

    async fn register_kms_encryption_key(
        &self,
        request: Request<RegisterKmsEncryptionKeyRequest>,
    ) -> Result<Response<RegisterKmsEncryptionKeyResponse>, Status> {
        let request = request.into_inner();
        self.on("RegisterKmsEncryptionKey", move |node| {
            let key = node.register_key(&request.kms_key_id, &request.name, None, Vec::new())?;
            Ok(RegisterKmsEncryptionKeyResponse { public_key: encryption(&key) })
        })
        .await
    }

    async fn export_key_pair(
        &self,
        _: Request<ExportKeyPairRequest>,
    ) -> Result<Response<ExportKeyPairResponse>, Status> {
        self.on("ExportKeyPair", |node| {
            let refused = if node.has_kms() {
                "The selected crypto provider does not support exporting of private keys"
            } else if node.settings().preview_commands {
                let reason = "the custodian behind this participant gives no private key out";
                return Err(NodeError::Unsupported(reason.to_owned()));
            } else {
                "Remote export of private keys only allowed when preview is enabled"
            };
            Err(NodeError::Refused(refused.to_owned()))
        })
        .await
    }
}

fn is_wanted(filters: &ListKeysFilters, key: &OwnKey) -> bool {
    let purpose = match key.usage {
        KeyUsage::Encryption => KeyPurpose::Encryption,
        _ => KeyPurpose::Signing,
    };
    let usages = &filters.usage_v30;
    key.fingerprint.starts_with(&filters.fingerprint)
        && key.record.name.contains(&filters.name)
        && (filters.purpose.is_empty() || filters.purpose.contains(&purpose.into()))
        && (usages.is_empty() || usages.iter().any(|usage| key.record.usages.contains(usage)))
}

fn signing(key: &OwnKey) -> Option<heirloom_canton_node::wire::crypto::SigningPublicKey> {
    match key.public_key().key {
        Some(public_key::Key::SigningPublicKey(key)) => Some(key),
        _ => None,
    }
}

fn encryption(key: &OwnKey) -> Option<heirloom_canton_node::wire::crypto::EncryptionPublicKey> {
    match key.public_key().key {
        Some(public_key::Key::EncryptionPublicKey(key)) => Some(key),
        _ => None,
    }
}
