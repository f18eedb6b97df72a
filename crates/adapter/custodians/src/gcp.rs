//! Keys in Google Cloud KMS, over its REST interface.
//!
//! The label is the name of the key in its key ring, so the service itself makes it only once.
//! The first version of a key is the key: another one would be another identity.

mod token;

use std::collections::BTreeSet;
use std::path::PathBuf;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heirloom_model::participant::CustodianKind;
use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::key::{
    Description, KeyHandle, KeyId, KeyRequest, KeyScheme, KeyState, KeyUsage, Label, Operation,
    PublicKeyDer,
};
use heirloom_participant::custodian::probe::Abilities;
use heirloom_participant::custodian::{Custodian, CustodianError, KEYS_MAX, spki};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fault::{Fault, Repeat, shortened};
use crate::gcp::token::Token;
use crate::guard::{Guarded, Store};
use crate::half::PrivateHalf;
use crate::http::{Method, Service, authorities};
use crate::pem;

/// The address of the service.
const ADDRESS: &str = "https://cloudkms.googleapis.com";
/// The label of a key with its usage.
const USAGE: &str = "heirloom-usage";
/// The label that says that a key is ours.
const OURS: &str = "heirloom";
/// Pages of keys that are read.
const PAGES_MAX: usize = 100;

/// Which key ring, and who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GcpConfig {
    /// The project.
    pub project: String,
    /// The location of the key ring.
    pub location: String,
    /// The key ring, which exists: it cannot be deleted, so nobody makes one by accident.
    pub key_ring: String,
    /// Where keys are.
    pub protection: Protection,
    /// Who asks.
    pub access: Access,
    /// Another address than the service's own.
    pub endpoint: Option<String>,
    /// A file with the certificates that vouch for it, instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Where keys are, inside the service.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// In hardware. Needed for secp256k1.
    Hsm,
    /// In software.
    Software,
}

/// Where the access token comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Access {
    /// A file, which somebody keeps fresh.
    File(PathBuf),
    /// The metadata server of the machine.
    Metadata,
}

/// Opens a key ring. Asks it nothing yet.
pub fn open(config: &GcpConfig) -> Result<Box<dyn Custodian>, CustodianError> {
    let address = config.endpoint.as_deref().unwrap_or(ADDRESS);
    let GcpConfig { project, location, key_ring, .. } = config;
    for part in [project, location, key_ring] {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if part.is_empty() || !part.chars().all(is_plain) {
            return Err(CustodianError::Refused {
                place: address.to_owned(),
                what: format!("the name {part:?}"),
                why: "it has other characters than letters, digits and -_.:".to_owned(),
            });
        }
    }
    let ring = format!("projects/{project}/locations/{location}/keyRings/{key_ring}");
    let store = GcpStore {
        service: Service::new(address, &authorities(config.ca_file.as_ref()), meaning)?,
        token: Token::new(&config.access)?,
        protection: config.protection,
        place: format!("Google Cloud KMS, {ring}"),
        ring,
    };
    Ok(Box::new(Guarded::new(store)))
}

struct GcpStore {
    service: Service,
    token: Token,
    protection: Protection,
    ring: String,
    place: String,
}

impl GcpStore {
    fn ask(
        &self,
        repeat: Repeat,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Result<Value, Fault>, CustodianError> {
        let path = format!("/v1/{path}");
        Ok(self.token.read()?.expose(|token| {
            let bearer = format!("Bearer {token}");
            let header = ("Authorization", bearer.as_str());
            self.service.ask(repeat, method, &path, header, body)
        }))
    }

    fn read(&self, path: &str) -> Result<Option<Value>, CustodianError> {
        match self.ask(Repeat::Always, Method::Get, path, None)? {
            Ok(answer) => Ok(Some(answer)),
            Err(Fault::NotFound) => Ok(None),
            Err(fault) => Err(self.error(fault, path)),
        }
    }

    fn use_key(&self, key: &KeyHandle, verb: &str, body: &Value) -> Result<Value, CustodianError> {
        let path = format!("{}:{verb}", key.id);
        let answer = self.ask(Repeat::Always, Method::Post, &path, Some(body))?;
        answer.map_err(|fault| self.error(fault, &format!("{verb} with {}", key.label)))
    }

    /// A key is absent only if its key ring is there.
    fn absent<T>(&self) -> Result<Option<T>, CustodianError> {
        match self.read(&self.ring)? {
            Some(_) => Ok(None),
            None => Err(CustodianError::Unreachable {
                place: self.place.clone(),
                why: "there is no such key ring".to_owned(),
            }),
        }
    }

    /// The handle of a key from its description and that of its first version.
    fn handle(&self, label: &Label, key: &Value) -> Result<KeyHandle, CustodianError> {
        let path = self.version_of(label);
        let id: KeyId = path.parse().map_err(|_| self.corrupt(label, "its name is too long"))?;
        let usage = key["labels"][USAGE].as_str().and_then(|usage| usage.parse().ok());
        let (Some(usage), Some("true")) = (usage, key["labels"][OURS].as_str()) else {
            return Err(CustodianError::Foreign { id, place: self.place.clone() });
        };
        let version = self.read(&path)?;
        let version = version.ok_or_else(|| self.corrupt(label, "it has no first version"))?;
        let algorithm = version["algorithm"].as_str().unwrap_or_default();
        let scheme = scheme_of(algorithm)
            .ok_or_else(|| self.corrupt(label, "its algorithm is not known"))?;
        if key["purpose"].as_str() != Some(purpose_of(usage)) {
            return Err(self.corrupt(label, "its purpose is another one than its label says"));
        }
        Ok(KeyHandle { id, label: label.clone(), usage, scheme })
    }

    fn key_of(&self, label: &Label) -> String {
        format!("{}/cryptoKeys/{label}", self.ring)
    }

    fn version_of(&self, label: &Label) -> String {
        format!("{}/cryptoKeyVersions/1", self.key_of(label))
    }

    fn bytes(&self, answer: &Value, field: &str) -> Result<Vec<u8>, CustodianError> {
        let bytes = answer[field].as_str().and_then(|text| STANDARD.decode(text).ok());
        bytes.ok_or_else(|| self.strange(&format!("its answer has no {field}")))
    }

    fn error(&self, fault: Fault, what: &str) -> CustodianError {
        fault.in_words(&self.place, what, Repeat::Always)
    }

    fn corrupt(&self, label: &Label, why: &str) -> CustodianError {
        let what = format!("key {label} in {}", self.place);
        CustodianError::Corrupt { what, why: why.to_owned() }
    }

    fn too_many(&self, found: &str) -> CustodianError {
        CustodianError::Refused {
            place: self.place.clone(),
            what: "a list of its keys".to_owned(),
            why: format!("it has {found}"),
        }
    }

    fn strange(&self, why: &str) -> CustodianError {
        let what = "what was asked".to_owned();
        CustodianError::Unknown { place: self.place.clone(), what, why: why.to_owned() }
    }
}

impl Store for GcpStore {
    fn describe(&self) -> Description {
        Description { kind: CustodianKind::Gcp, place: self.place.clone() }
    }

    fn abilities(&self) -> Result<Abilities, CustodianError> {
        self.absent::<()>()?;
        let schemes = crate::software::SCHEMES.into_iter();
        let schemes = schemes.filter(|scheme| algorithm_of(*scheme, self.protection).is_some());
        let operations = |scheme: KeyScheme| {
            [Operation::Create, scheme.operation()].map(|operation| (scheme, operation))
        };
        let open = schemes.flat_map(operations).collect();
        Ok(Abilities { product: self.place.clone(), can: BTreeSet::new(), open })
    }

    fn find(&self, label: &Label) -> Result<Option<KeyHandle>, CustodianError> {
        match self.read(&self.key_of(label))? {
            Some(key) => self.handle(label, &key).map(Some),
            None => self.absent(),
        }
    }

    fn open(&self, id: &KeyId) -> Result<KeyHandle, CustodianError> {
        let missing = || CustodianError::Missing { key: id.to_string(), place: self.place.clone() };
        let name = id.as_str().strip_prefix(&self.ring);
        let name = name.and_then(|name| name.strip_prefix("/cryptoKeys/"));
        let label = name.and_then(|name| name.strip_suffix("/cryptoKeyVersions/1"));
        let label = label.and_then(|label| label.parse().ok()).ok_or_else(missing)?;
        Store::find(self, &label)?.ok_or_else(missing)
    }

    fn keys(&self) -> Result<Vec<KeyHandle>, CustodianError> {
        let mut keys = Vec::new();
        let mut page = String::new();
        for _ in 0..PAGES_MAX {
            let path = format!("{}/cryptoKeys?filter=labels.{OURS}=true{page}", self.ring);
            let Some(answer) = self.read(&path)? else {
                if page.is_empty() {
                    return Ok(keys);
                }
                return Err(self.strange("a page of its keys leads nowhere"));
            };
            for key in answer["cryptoKeys"].as_array().into_iter().flatten() {
                let name = key["name"].as_str().and_then(|name| name.rsplit('/').next());
                let Some(label) = name.and_then(|name| name.parse().ok()) else { continue };
                keys.push(self.handle(&label, key)?);
            }
            let next = answer["nextPageToken"].as_str().unwrap_or_default();
            if keys.len() > KEYS_MAX {
                return Err(self.too_many(&format!("more than {KEYS_MAX} keys")));
            }
            if next.is_empty() {
                return Ok(keys);
            }
            page = format!("&pageToken={next}");
        }
        // A list that is cut off says of a key that is there that it is not.
        Err(self.too_many(&format!("more than {PAGES_MAX} pages of keys")))
    }

    fn generate(&self, request: &KeyRequest) -> Result<KeyHandle, CustodianError> {
        let KeyRequest { label, usage, scheme } = request;
        let algorithm = algorithm_of(*scheme, self.protection).ok_or_else(|| {
            let what = format!("keys of scheme {scheme} with this protection");
            CustodianError::Unsupported { place: self.place.clone(), what }
        })?;
        let level = match self.protection {
            Protection::Hsm => "HSM",
            Protection::Software => "SOFTWARE",
        };
        let path = format!("{}/cryptoKeys?cryptoKeyId={label}", self.ring);
        let body = json!({
            "purpose": purpose_of(*usage),
            "versionTemplate": {"algorithm": algorithm, "protectionLevel": level},
            "labels": {OURS: "true", USAGE: usage.as_str()},
        });
        // A name is taken once: a second request makes no second key.
        match self.ask(Repeat::Always, Method::Post, &path, Some(&body))? {
            Ok(_) | Err(Fault::Exists) => {}
            Err(fault) => return Err(self.error(fault, &format!("make key {label}"))),
        }
        Store::find(self, label)?.ok_or_else(|| self.strange("it made a key and does not have it"))
    }

    fn public(&self, key: &KeyHandle) -> Result<PublicKeyDer, CustodianError> {
        let answer = self.read(&format!("{}/publicKey", key.id))?.ok_or_else(|| {
            CustodianError::Missing { key: key.label.to_string(), place: self.place.clone() }
        })?;
        let der = answer["pem"].as_str().and_then(pem::decode);
        let der = der.ok_or_else(|| self.corrupt(&key.label, "its public half is no PEM"))?;
        spki::parse(key.scheme, &der).map_err(|error| self.corrupt(&key.label, &error.to_string()))
    }

    fn state(&self, key: &KeyHandle) -> Result<KeyState, CustodianError> {
        let version = self.read(key.id.as_str())?.ok_or_else(|| CustodianError::Missing {
            key: key.label.to_string(),
            place: self.place.clone(),
        })?;
        Ok(match version["state"].as_str().unwrap_or_default() {
            "ENABLED" => KeyState::Enabled,
            "DISABLED" => KeyState::Disabled,
            "DESTROY_SCHEDULED" | "DESTROYED" | "PENDING_EXTERNAL_DESTRUCTION" => {
                // The time is text of RFC 3339: it is shown by the product's own tools.
                KeyState::PendingDeletion { at_seconds: None }
            }
            "PENDING_IMPORT" => KeyState::PendingImport,
            _ => KeyState::Unavailable,
        })
    }

    fn sign(&self, key: &KeyHandle, message: &[u8]) -> Result<Vec<u8>, CustodianError> {
        let hashed = |algorithm| STANDARD.encode(digest::digest(algorithm, message));
        let body = match key.scheme {
            KeyScheme::Ed25519 => json!({"data": STANDARD.encode(message)}),
            KeyScheme::P384 => json!({"digest": {"sha384": hashed(&digest::SHA384)}}),
            _ => json!({"digest": {"sha256": hashed(&digest::SHA256)}}),
        };
        let answer = self.use_key(key, "asymmetricSign", &body)?;
        self.bytes(&answer, "signature")
    }

    fn decrypt(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<SecretBytes, CustodianError> {
        let body = json!({"ciphertext": STANDARD.encode(ciphertext)});
        let answer = self.use_key(key, "asymmetricDecrypt", &body)?;
        self.bytes(&answer, "plaintext").map(SecretBytes::new)
    }

    fn import(&self, _: &KeyRequest, _: &PrivateHalf) -> Result<KeyHandle, CustodianError> {
        let what = "importing from here: its import jobs are made by its own tools".to_owned();
        Err(CustodianError::Unsupported { place: self.place.clone(), what })
    }
}

fn purpose_of(usage: KeyUsage) -> &'static str {
    match usage.operation() {
        Operation::Decrypt => "ASYMMETRIC_DECRYPT",
        _ => "ASYMMETRIC_SIGN",
    }
}

fn algorithm_of(scheme: KeyScheme, protection: Protection) -> Option<&'static str> {
    match (scheme, protection) {
        (KeyScheme::Ed25519, _) => Some("EC_SIGN_ED25519"),
        (KeyScheme::P256, _) => Some("EC_SIGN_P256_SHA256"),
        (KeyScheme::P384, _) => Some("EC_SIGN_P384_SHA384"),
        (KeyScheme::Secp256k1, Protection::Hsm) => Some("EC_SIGN_SECP256K1_SHA256"),
        (KeyScheme::Rsa2048, _) => Some("RSA_DECRYPT_OAEP_2048_SHA256"),
        (KeyScheme::Secp256k1 | KeyScheme::MlDsa65 | KeyScheme::EciesP256, _) => None,
    }
}

fn scheme_of(algorithm: &str) -> Option<KeyScheme> {
    KeyScheme::ALL
        .iter()
        .copied()
        .find(|scheme| algorithm_of(*scheme, Protection::Hsm) == Some(algorithm))
}

/// `{"error": {"code": …, "status": …, "message": …}}`.
fn meaning(status: u16, body: &Value, attempts: u32) -> Fault {
    let name = body["error"]["status"].as_str().unwrap_or_default();
    let reason = body["error"]["message"].as_str().unwrap_or("no reason given");
    let words = shortened(&format!("{status} {name}: {reason}"));
    match (status, name) {
        (404, "NOT_FOUND") => Fault::NotFound,
        // Not an answer of the service itself: a wrong address, or something in between.
        (404, _) => Fault::Unavailable(words),
        (409, _) => Fault::Exists,
        (429, _) => Fault::Throttled(attempts),
        (501, _) => Fault::Unsupported(words),
        (400..=499, _) => Fault::Refused(words),
        (500..=599, _) => Fault::Unavailable(words),
        _ => Fault::Strange(words),
    }
}
