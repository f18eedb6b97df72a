//! Keys in AWS KMS.
//!
//! A key is made together with the tags that say its label and usage; the alias follows. So a
//! crash between the two leaves a key that is found by its tags and gets its alias then, instead
//! of a second key. Two creators at once: the alias is unique, and whose alias it is has the key.

mod api;
mod ask;
mod bridge;

use std::path::PathBuf;
use std::sync::Arc;

use heirloom_model::participant::CustodianKind;
use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::key::{
    Description, KeyHandle, KeyId, KeyRequest, KeyState, Label, PublicKeyDer,
};
use heirloom_participant::custodian::probe::Abilities;
use heirloom_participant::custodian::{Custodian, CustodianError};

use crate::aws::api::Api;
use crate::aws::bridge::Bridge;
use crate::guard::{Guarded, Store};
use crate::half::PrivateHalf;
use crate::{http, secret_file};

/// Which KMS, and who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AwsConfig {
    /// The region. Never taken from elsewhere: the same label in another region is another key.
    pub region: String,
    /// Another address than that of the region.
    pub endpoint: Option<String>,
    /// A file with credentials in the format of the AWS tools. Without it, their standard chain is
    /// asked. It is for its owner only.
    pub credentials_file: Option<PathBuf>,
    /// A profile in it.
    pub profile: Option<String>,
}

/// Opens a KMS. Asks it nothing yet.
pub fn open(config: &AwsConfig) -> Result<Box<dyn Custodian>, CustodianError> {
    let place = match &config.endpoint {
        None => format!("AWS KMS in {}", config.region),
        Some(endpoint) => format!("AWS KMS in {} at {endpoint}", config.region),
    };
    if let Some(endpoint) = &config.endpoint {
        http::is_plain(endpoint)?;
    }
    if let Some(file) = &config.credentials_file {
        secret_file::expect_private(file)?;
    }
    let bridge = Bridge::new(&place)?;
    let config = config.clone();
    let client = bridge.run(async move { api::client(&config).await })?;
    let api = Arc::new(Api { client, place });
    Ok(Box::new(Guarded::new(AwsStore { api, bridge })))
}

struct AwsStore {
    api: Arc<Api>,
    bridge: Bridge,
}

impl AwsStore {
    /// Runs a request on the thread of the runtime.
    fn ask<R, F>(&self, request: impl FnOnce(Arc<Api>) -> F) -> Result<R, CustodianError>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, CustodianError>> + Send + 'static,
    {
        self.bridge.run(request(Arc::clone(&self.api)))?
    }
}

impl Store for AwsStore {
    fn describe(&self) -> Description {
        Description { kind: CustodianKind::Aws, place: self.api.place.clone() }
    }

    fn abilities(&self) -> Result<Abilities, CustodianError> {
        self.ask(|api| async move { api.abilities().await })
    }

    fn find(&self, label: &Label) -> Result<Option<KeyHandle>, CustodianError> {
        let label = label.clone();
        self.ask(|api| async move { api.find(&label).await })
    }

    fn open(&self, id: &KeyId) -> Result<KeyHandle, CustodianError> {
        let id = id.clone();
        self.ask(|api| async move { api.open(&id).await })
    }

    fn keys(&self) -> Result<Vec<KeyHandle>, CustodianError> {
        self.ask(|api| async move { api.keys().await })
    }

    fn generate(&self, request: &KeyRequest) -> Result<KeyHandle, CustodianError> {
        let request = request.clone();
        self.ask(|api| async move { api.create(&request, api::Origin::Inside).await })
    }

    fn public(&self, key: &KeyHandle) -> Result<PublicKeyDer, CustodianError> {
        let key = key.clone();
        self.ask(|api| async move { api.public(&key).await })
    }

    fn state(&self, key: &KeyHandle) -> Result<KeyState, CustodianError> {
        let key = key.clone();
        self.ask(|api| async move { api.state(&key).await })
    }

    fn sign(&self, key: &KeyHandle, message: &[u8]) -> Result<Vec<u8>, CustodianError> {
        let (key, message) = (key.clone(), message.to_vec());
        self.ask(|api| async move { api.sign(&key, &message).await })
    }

    fn decrypt(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<SecretBytes, CustodianError> {
        let (key, ciphertext) = (key.clone(), ciphertext.to_vec());
        self.ask(|api| async move { api.decrypt(&key, ciphertext).await })
    }

    fn import(
        &self,
        request: &KeyRequest,
        half: &PrivateHalf,
    ) -> Result<KeyHandle, CustodianError> {
        let (request, material) = (request.clone(), half.pkcs8()?);
        self.ask(|api| async move { api.import(&request, &material).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_the_loopback_interface_only() {
        let at = |endpoint: &str| AwsConfig {
            region: "eu-central-1".to_owned(),
            endpoint: Some(endpoint.to_owned()),
            credentials_file: None,
            profile: None,
        };
        for refused in ["http://kms.example", "http://127.0.0.1.example:4566", "kms.example"] {
            let opened = open(&at(refused)).err();
            assert!(matches!(opened, Some(CustodianError::Refused { .. })), "{refused}");
        }
        for taken in ["http://127.0.0.1:4566", "https://kms.example"] {
            assert!(open(&at(taken)).is_ok(), "{taken}");
        }
    }
}
