//! The requests to the KMS.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_lc_rs::digest;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    AlgorithmSpec, EncryptionAlgorithmSpec, ExpirationModelType, KeyMetadata, KeySpec,
    KeyUsageType, MessageType, OriginType, SigningAlgorithmSpec, Tag, WrappingKeySpec,
};
use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::key::{
    KeyHandle, KeyId, KeyRequest, KeyScheme, KeyState, KeyUsage, Label, Operation, PublicKeyDer,
};
use heirloom_participant::custodian::probe::Abilities;
use heirloom_participant::custodian::{CustodianError, KEYS_MAX, spki};

use crate::aws::AwsConfig;
use crate::aws::ask::ask;
use crate::fault::{Fault, Repeat};
use crate::wrap;

/// The tag with the label.
const LABEL_TAG: &str = "HeirloomLabel";
/// The tag with the usage.
const USAGE_TAG: &str = "HeirloomUsage";
/// In front of the label, in aliases.
const ALIAS: &str = "alias/heirloom/";
/// Keys whose tags are looked at when no alias is there. An account with more gives no certain
/// answer within minutes.
const SCANNED_MAX: usize = 2_000;
/// Tags of one key: AWS allows 50.
const TAGS_MAX: usize = 50;
const PAGE: i32 = 100;
/// Messages that are sent as they are. Longer ones are sent as their digest.
const RAW_BYTES_MAX: usize = 4_096;
const CONNECT: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(10);

pub(super) struct Api {
    pub(super) client: Client,
    pub(super) place: String,
}

/// Where the material of a key comes from.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Origin {
    Inside,
    Outside,
}

/// A key of ours, or of somebody else.
struct Seen {
    id: KeyId,
    label: Option<Label>,
    usage: Option<KeyUsage>,
    metadata: KeyMetadata,
}

pub(super) async fn client(config: &AwsConfig) -> Client {
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        // Repeating is decided in one place: ours, which knows what a repetition would do.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build());
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(file) = &config.credentials_file {
        let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file);
        // The profile's own file only: what the environment says is not asked then.
        let files = files.build();
        let mut provider = aws_config::profile::ProfileFileCredentialsProvider::builder()
            .profile_files(files.clone());
        if let Some(profile) = &config.profile {
            provider = provider.profile_name(profile);
        }
        loader = loader.profile_files(files).credentials_provider(provider.build());
    } else if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    Client::new(&loader.load().await)
}

impl Api {
    pub(super) async fn abilities(&self) -> Result<Abilities, CustodianError> {
        ask(Repeat::Always, || self.client.list_keys().limit(1).send())
            .await
            .map_err(|fault| self.read_error(fault, "a list of its keys"))?;
        let operations = |scheme: KeyScheme| {
            [Operation::Create, Operation::Import, scheme.operation()]
                .map(|operation| (scheme, operation))
        };
        Ok(Abilities {
            product: self.place.clone(),
            can: BTreeSet::new(),
            // The API tells what it can do only by doing it, and a key that was made stays.
            open: crate::software::SCHEMES.into_iter().flat_map(operations).collect(),
        })
    }

    pub(super) async fn find(&self, label: &Label) -> Result<Option<KeyHandle>, CustodianError> {
        if let Some(metadata) = self.describe(&format!("{ALIAS}{label}")).await? {
            let seen = self.look(metadata).await?;
            return self.of_label(seen, label).map(Some);
        }
        let mut found = self.scan(Some(label)).await?;
        let (first, rest) = (found.pop(), found);
        if !rest.is_empty() {
            let what = format!("key {label} in {}", self.place);
            let why = format!("{} keys carry the label and none the alias", rest.len() + 1);
            return Err(CustodianError::Corrupt { what, why });
        }
        let Some(seen) = first else { return Ok(None) };
        // Made before a crash: it gets its alias now.
        if self.name(&seen.id, label).await? {
            return self.of_label(seen, label).map(Some);
        }
        // Another creator was faster: whose alias it is has the key.
        let alias = format!("{ALIAS}{label}");
        let owner = self.describe(&alias).await?.ok_or_else(|| self.strange(&alias))?;
        let seen = self.look(owner).await?;
        self.of_label(seen, label).map(Some)
    }

    pub(super) async fn open(&self, id: &KeyId) -> Result<KeyHandle, CustodianError> {
        let metadata = self.describe(id.as_str()).await?.ok_or_else(|| {
            CustodianError::Missing { key: id.to_string(), place: self.place.clone() }
        })?;
        let seen = self.look(metadata).await?;
        self.handle(seen)
    }

    pub(super) async fn keys(&self) -> Result<Vec<KeyHandle>, CustodianError> {
        let seen = self.scan(None).await?;
        if seen.len() > KEYS_MAX {
            return Err(self.refused("a list of its keys", format!("more than {KEYS_MAX}")));
        }
        seen.into_iter().map(|seen| self.handle(seen)).collect()
    }

    pub(super) async fn create(
        &self,
        request: &KeyRequest,
        origin: Origin,
    ) -> Result<KeyHandle, CustodianError> {
        let (spec, usage) = spec_of(request.scheme).ok_or_else(|| self.unknown_scheme(request))?;
        let tag = |name: &str, value: &str| {
            Tag::builder()
                .tag_key(name)
                .tag_value(value)
                .build()
                .map_err(|error| self.refused("a tag", error.to_string()))
        };
        let tags =
            vec![tag(LABEL_TAG, request.label.as_str())?, tag(USAGE_TAG, request.usage.as_str())?];
        let origin = match origin {
            Origin::Inside => OriginType::AwsKms,
            Origin::Outside => OriginType::External,
        };
        let what = format!("make key {}", request.label);
        let created = ask(Repeat::IfRefused, || {
            self.client
                .create_key()
                .key_spec(spec.clone())
                .key_usage(usage.clone())
                .origin(origin.clone())
                .set_tags(Some(tags.clone()))
                .send()
        })
        .await
        .map_err(|fault| fault.in_words(&self.place, &what, Repeat::IfRefused))?;
        let metadata = created.key_metadata.ok_or_else(|| self.strange(&what))?;
        let id = self.id_of(&metadata)?;
        let KeyRequest { label, usage, .. } = request;
        if !self.name(&id, label).await? {
            // Another creator was faster: whose alias it is has the key.
            return self.find(label).await?.ok_or_else(|| self.strange(&what));
        }
        self.handle(Seen { id, label: Some(label.clone()), usage: Some(*usage), metadata })
    }

    pub(super) async fn public(&self, key: &KeyHandle) -> Result<PublicKeyDer, CustodianError> {
        let what = format!("the public half of {}", key.label);
        let answer =
            ask(Repeat::Always, || self.client.get_public_key().key_id(key.id.as_str()).send())
                .await
                .map_err(|fault| self.read_error(fault, &what))?;
        let der = answer.public_key.ok_or_else(|| self.strange(&what))?;
        spki::parse(key.scheme, der.as_ref()).map_err(|error| CustodianError::Corrupt {
            what: format!("{what} in {}", self.place),
            why: error.to_string(),
        })
    }

    pub(super) async fn state(&self, key: &KeyHandle) -> Result<KeyState, CustodianError> {
        use aws_sdk_kms::types::KeyState as Theirs;
        let metadata = self.describe(key.id.as_str()).await?.ok_or_else(|| {
            CustodianError::Missing { key: key.label.to_string(), place: self.place.clone() }
        })?;
        let at_seconds = metadata.deletion_date().and_then(|date| u64::try_from(date.secs()).ok());
        Ok(match metadata.key_state() {
            Some(Theirs::Enabled) => KeyState::Enabled,
            Some(Theirs::Disabled) => KeyState::Disabled,
            Some(Theirs::PendingDeletion | Theirs::PendingReplicaDeletion) => {
                KeyState::PendingDeletion { at_seconds }
            }
            Some(Theirs::PendingImport) => KeyState::PendingImport,
            _ => KeyState::Unavailable,
        })
    }

    pub(super) async fn sign(
        &self,
        key: &KeyHandle,
        message: &[u8],
    ) -> Result<Vec<u8>, CustodianError> {
        let (algorithm, hash) = match key.scheme {
            KeyScheme::Ed25519 => (SigningAlgorithmSpec::Ed25519Sha512, None),
            KeyScheme::P384 => (SigningAlgorithmSpec::EcdsaSha384, Some(&digest::SHA384)),
            _ => (SigningAlgorithmSpec::EcdsaSha256, Some(&digest::SHA256)),
        };
        let (kind, bytes) = match hash {
            _ if message.len() <= RAW_BYTES_MAX => (MessageType::Raw, message.to_vec()),
            Some(hash) => (MessageType::Digest, digest::digest(hash, message).as_ref().to_vec()),
            // Ed25519 hashes twice with the key in between: no digest can be handed over.
            None => {
                let (found, limit) = (message.len(), RAW_BYTES_MAX);
                return Err(CustodianError::TooLong { what: "the message", found, limit });
            }
        };
        let what = format!("to sign with {}", key.label);
        let answer = ask(Repeat::Always, || {
            self.client
                .sign()
                .key_id(key.id.as_str())
                .signing_algorithm(algorithm.clone())
                .message_type(kind.clone())
                .message(Blob::new(bytes.clone()))
                .send()
        })
        .await
        .map_err(|fault| self.read_error(fault, &what))?;
        answer.signature.map(Blob::into_inner).ok_or_else(|| self.strange(&what))
    }

    pub(super) async fn decrypt(
        &self,
        key: &KeyHandle,
        ciphertext: Vec<u8>,
    ) -> Result<SecretBytes, CustodianError> {
        let what = format!("to decrypt with {}", key.label);
        let ciphertext = Blob::new(ciphertext);
        let answer = ask(Repeat::Always, || {
            self.client
                .decrypt()
                .key_id(key.id.as_str())
                .encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256)
                .ciphertext_blob(ciphertext.clone())
                .send()
        })
        .await
        .map_err(|fault| self.read_error(fault, &what))?;
        let plaintext = answer.plaintext.map(Blob::into_inner);
        plaintext.map(SecretBytes::new).ok_or_else(|| self.strange(&what))
    }

    /// Makes a key that awaits its material, unless it is there, and brings the material in.
    pub(super) async fn import(
        &self,
        request: &KeyRequest,
        material: &SecretBytes,
    ) -> Result<KeyHandle, CustodianError> {
        let key = match self.find(&request.label).await? {
            Some(key) => key,
            None => self.create(request, Origin::Outside).await?,
        };
        let what = format!("to import {}", request.label);
        let parameters = ask(Repeat::Always, || {
            self.client
                .get_parameters_for_import()
                .key_id(key.id.as_str())
                .wrapping_algorithm(wrapping_of(request.scheme))
                .wrapping_key_spec(WrappingKeySpec::Rsa4096)
                .send()
        })
        .await
        .map_err(|fault| self.read_error(fault, &what))?;
        let (Some(import_key), Some(token)) = (parameters.public_key, parameters.import_token)
        else {
            return Err(self.strange(&what));
        };
        let wrapped = wrap::import_key(import_key.as_ref()).and_then(|key| {
            if wrapping_of(request.scheme) == AlgorithmSpec::RsaesOaepSha256 {
                wrap::by_oaep(&key, material)
            } else {
                wrap::by_aes(&key, material)
            }
        });
        let wrapped = Blob::new(wrapped.ok_or_else(|| self.strange(&what))?);
        // The same material again is accepted, other material never.
        ask(Repeat::Always, || {
            self.client
                .import_key_material()
                .key_id(key.id.as_str())
                .import_token(token.clone())
                .encrypted_key_material(wrapped.clone())
                .expiration_model(ExpirationModelType::KeyMaterialDoesNotExpire)
                .send()
        })
        .await
        .map_err(|fault| self.read_error(fault, &what))?;
        Ok(key)
    }

    /// Gives a key its alias. Whether it has it now: not if another key has it.
    async fn name(&self, id: &KeyId, label: &Label) -> Result<bool, CustodianError> {
        let alias = format!("{ALIAS}{label}");
        let named = ask(Repeat::Always, || {
            self.client.create_alias().alias_name(&alias).target_key_id(id.as_str()).send()
        })
        .await;
        match named {
            Ok(_) => Ok(true),
            // Perhaps by an attempt of ours whose answer was lost.
            Err(Fault::Exists) => {
                let owner = self.describe(&alias).await?;
                Ok(owner.and_then(|owner| owner.arn).as_deref() == Some(id.as_str()))
            }
            Err(fault) => Err(self.read_error(fault, &format!("the alias of {label}"))),
        }
    }

    async fn describe(&self, id: &str) -> Result<Option<KeyMetadata>, CustodianError> {
        let asked = ask(Repeat::Always, || self.client.describe_key().key_id(id).send()).await;
        match asked {
            Ok(answer) => answer.key_metadata.map(Some).ok_or_else(|| self.strange(id)),
            Err(Fault::NotFound) => Ok(None),
            Err(fault) => Err(self.read_error(fault, &format!("the description of {id}"))),
        }
    }

    async fn look(&self, metadata: KeyMetadata) -> Result<Seen, CustodianError> {
        let id = self.id_of(&metadata)?;
        let (label, usage) = self.tags(id.as_str()).await?.ok_or_else(|| self.strange("tags"))?;
        Ok(Seen { id, label, usage, metadata })
    }

    /// Label and usage of a key. Nothing if there is no such key any more.
    async fn tags(
        &self,
        id: &str,
    ) -> Result<Option<(Option<Label>, Option<KeyUsage>)>, CustodianError> {
        let asked = ask(Repeat::Always, || self.client.list_resource_tags().key_id(id).send());
        let answer = match asked.await {
            Ok(answer) => answer,
            Err(Fault::NotFound) => return Ok(None),
            Err(fault) => return Err(self.read_error(fault, &format!("the tags of {id}"))),
        };
        let tags = answer.tags.unwrap_or_default();
        if tags.len() > TAGS_MAX || answer.truncated {
            return Err(self.strange(&format!("the tags of {id}")));
        }
        let value = |name: &str| tags.iter().find(|tag| tag.tag_key() == name).map(Tag::tag_value);
        let label = value(LABEL_TAG).and_then(|label| label.parse().ok());
        Ok(Some((label, value(USAGE_TAG).and_then(|usage| usage.parse().ok()))))
    }

    /// Every key with a label of ours, or with this one.
    async fn scan(&self, wanted: Option<&Label>) -> Result<Vec<Seen>, CustodianError> {
        let mut found = Vec::new();
        let mut scanned = 0_usize;
        let mut marker = None;
        loop {
            let page = ask(Repeat::Always, || {
                self.client.list_keys().limit(PAGE).set_marker(marker.clone()).send()
            })
            .await
            .map_err(|fault| self.read_error(fault, "a list of its keys"))?;
            for entry in page.keys.unwrap_or_default() {
                scanned += 1;
                if scanned > SCANNED_MAX {
                    // Not found among so many is not absent.
                    let why = format!("the account has more than {SCANNED_MAX} keys");
                    return Err(self.refused("a list of its keys", why));
                }
                let id = entry.key_id.ok_or_else(|| self.strange("a list of its keys"))?;
                let Some((Some(label), usage)) = self.tags(&id).await? else { continue };
                if wanted.is_some_and(|wanted| *wanted != label) {
                    continue;
                }
                let Some(metadata) = self.describe(&id).await? else { continue };
                let id = self.id_of(&metadata)?;
                found.push(Seen { id, label: Some(label), usage, metadata });
            }
            marker = page.next_marker;
            if !page.truncated || marker.is_none() {
                return Ok(found);
            }
        }
    }

    fn of_label(&self, seen: Seen, label: &Label) -> Result<KeyHandle, CustodianError> {
        let key = self.handle(seen)?;
        if key.label != *label {
            let what = format!("alias {ALIAS}{label} in {}", self.place);
            let why = format!("it names a key whose label is {}", key.label);
            return Err(CustodianError::Corrupt { what, why });
        }
        Ok(key)
    }

    fn handle(&self, seen: Seen) -> Result<KeyHandle, CustodianError> {
        let Seen { id, label, usage, metadata } = seen;
        let (Some(label), Some(usage)) = (label, usage) else {
            return Err(CustodianError::Foreign { id, place: self.place.clone() });
        };
        let corrupt = |why: &str| CustodianError::Corrupt {
            what: format!("key {label} in {}", self.place),
            why: why.to_owned(),
        };
        let spec = metadata.key_spec().ok_or_else(|| corrupt("it has no specification"))?;
        let scheme = scheme_of(spec).ok_or_else(|| corrupt("its specification is not known"))?;
        let (_, expected) = spec_of(scheme).ok_or_else(|| corrupt("its specification"))?;
        if metadata.key_usage() != Some(&expected) {
            return Err(corrupt("its usage in the KMS is another one than its tag says"));
        }
        Ok(KeyHandle { id, label, usage, scheme })
    }

    fn id_of(&self, metadata: &KeyMetadata) -> Result<KeyId, CustodianError> {
        let arn = metadata.arn().unwrap_or(metadata.key_id());
        arn.parse().map_err(|_| self.strange("the name of a key"))
    }

    fn unknown_scheme(&self, request: &KeyRequest) -> CustodianError {
        let what = format!("keys of scheme {}", request.scheme);
        CustodianError::Unsupported { place: self.place.clone(), what }
    }

    /// For requests that may be sent again: they changed nothing, or nothing more.
    fn read_error(&self, fault: Fault, what: &str) -> CustodianError {
        fault.in_words(&self.place, what, Repeat::Always)
    }

    fn refused(&self, what: &str, why: String) -> CustodianError {
        CustodianError::Refused { place: self.place.clone(), what: what.to_owned(), why }
    }

    fn strange(&self, what: &str) -> CustodianError {
        let why = "its answer lacks what it must have".to_owned();
        CustodianError::Unknown { place: self.place.clone(), what: what.to_owned(), why }
    }
}

fn spec_of(scheme: KeyScheme) -> Option<(KeySpec, KeyUsageType)> {
    let sign = KeyUsageType::SignVerify;
    match scheme {
        KeyScheme::Ed25519 => Some((KeySpec::EccNistEdwards25519, sign)),
        KeyScheme::P256 => Some((KeySpec::EccNistP256, sign)),
        KeyScheme::P384 => Some((KeySpec::EccNistP384, sign)),
        KeyScheme::Secp256k1 => Some((KeySpec::EccSecgP256K1, sign)),
        KeyScheme::Rsa2048 => Some((KeySpec::Rsa2048, KeyUsageType::EncryptDecrypt)),
        KeyScheme::MlDsa65 | KeyScheme::EciesP256 => None,
    }
}

/// RSA keys are longer than what OAEP takes.
fn wrapping_of(scheme: KeyScheme) -> AlgorithmSpec {
    if scheme == KeyScheme::Rsa2048 {
        AlgorithmSpec::RsaAesKeyWrapSha256
    } else {
        AlgorithmSpec::RsaesOaepSha256
    }
}

fn scheme_of(spec: &KeySpec) -> Option<KeyScheme> {
    KeyScheme::ALL
        .iter()
        .copied()
        .find(|scheme| spec_of(*scheme).is_some_and(|(found, _)| found == *spec))
}
