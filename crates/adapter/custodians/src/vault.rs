//! Keys in the Transit engine of Vault or OpenBao.
//!
//! The engine keeps no note beside a key, so the usage stands in its name: `label.usage`. The
//! first version of a key is the key: a rotated one would be another identity, and is refused.

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
use serde_json::{Value, json};

use crate::fault::{Fault, Repeat, shortened};
use crate::guard::{Guarded, Store};
use crate::half::PrivateHalf;
use crate::http::{Method, Service, authorities};
use crate::secret_file::{self, SecretText};
use crate::{pem, wrap};

/// In front of signatures and ciphertexts of the first version.
const PREFIX: &str = "vault:v1:";

/// Which server, and what opens it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VaultConfig {
    /// The address: `https://…`, or plain HTTP on the loopback interface.
    pub address: String,
    /// The path of the Transit engine.
    pub mount: String,
    /// A file with a token.
    pub token_file: PathBuf,
    /// A file with the certificates that vouch for the server, instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Opens an engine. Asks it nothing yet.
pub fn open(config: &VaultConfig) -> Result<Box<dyn Custodian>, CustodianError> {
    let store = VaultStore {
        service: Service::new(&config.address, &authorities(config.ca_file.as_ref()), meaning)?,
        mount: config.mount.trim_matches('/').to_owned(),
        token_file: config.token_file.clone(),
        place: format!("Transit at {} of {}", config.mount, config.address),
    };
    store.token()?;
    Ok(Box::new(Guarded::new(store)))
}

struct VaultStore {
    service: Service,
    mount: String,
    token_file: PathBuf,
    place: String,
}

impl VaultStore {
    /// Read for each request: tokens are replaced while we run.
    fn token(&self) -> Result<SecretText, CustodianError> {
        secret_file::read_text(&self.token_file)
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Result<Value, Fault>, CustodianError> {
        let path = format!("/v1/{}/{path}", self.mount);
        Ok(self.token()?.expose(|token| {
            let header = ("X-Vault-Token", token);
            // Making a key that is there changes nothing, so everything may be repeated.
            self.service.ask(Repeat::Always, method, &path, header, body)
        }))
    }

    fn data(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CustodianError> {
        let mut answer = self.ask(method, path, body)?.map_err(|fault| self.error(fault, path))?;
        Ok(answer["data"].take())
    }

    /// A key by its name in the engine. Nothing if there is none.
    fn read(&self, label: &Label, usage: KeyUsage) -> Result<Option<Held>, CustodianError> {
        let name = name_of(label, usage);
        let data = match self.ask(Method::Get, &format!("keys/{name}"), None)? {
            Ok(mut answer) => answer["data"].take(),
            Err(Fault::NotFound) => return Ok(None),
            Err(fault) => return Err(self.error(fault, &name)),
        };
        let corrupt = |why: &str| CustodianError::Corrupt {
            what: format!("key {name} in {}", self.place),
            why: why.to_owned(),
        };
        if data["latest_version"] != json!(1) {
            return Err(corrupt("it was rotated: its newest version is another key"));
        }
        if data["exportable"] == json!(true) || data["allow_plaintext_backup"] == json!(true) {
            return Err(corrupt("it may leave the engine"));
        }
        let kind = data["type"].as_str().unwrap_or_default();
        let scheme = scheme_of(kind).ok_or_else(|| corrupt("its type is not known"))?;
        let text = data["keys"]["1"]["public_key"].as_str();
        let public = text.and_then(|text| public_of(scheme, text));
        let public = public.ok_or_else(|| corrupt("it has no public half of its type"))?;
        let state = if data["soft_deleted"] == json!(true) {
            KeyState::PendingDeletion { at_seconds: None }
        } else {
            KeyState::Enabled
        };
        let id = name.parse().map_err(|_| corrupt("its name is no identifier"))?;
        let key = KeyHandle { id, label: label.clone(), usage, scheme };
        Ok(Some(Held { key, public, state }))
    }

    fn held(&self, key: &KeyHandle) -> Result<Held, CustodianError> {
        self.read(&key.label, key.usage)?.ok_or_else(|| self.missing(key.id.as_str()))
    }

    fn made(&self, request: &KeyRequest) -> Result<KeyHandle, CustodianError> {
        let held = self.read(&request.label, request.usage)?;
        held.map(|held| held.key).ok_or_else(|| CustodianError::Unknown {
            place: self.place.clone(),
            what: format!("make key {}", request.label),
            why: "it said so, and does not have it".to_owned(),
        })
    }

    fn bytes(&self, data: &Value, field: &str, prefix: &str) -> Result<Vec<u8>, CustodianError> {
        let text = data[field].as_str().and_then(|text| text.strip_prefix(prefix));
        text.and_then(|text| STANDARD.decode(text).ok()).ok_or_else(|| CustodianError::Unknown {
            place: self.place.clone(),
            what: "what was asked".to_owned(),
            why: format!("its answer has no {field}"),
        })
    }

    fn error(&self, fault: Fault, what: &str) -> CustodianError {
        fault.in_words(&self.place, what, Repeat::Always)
    }

    fn missing(&self, key: &str) -> CustodianError {
        CustodianError::Missing { key: key.to_owned(), place: self.place.clone() }
    }

    fn unsupported(&self, scheme: KeyScheme) -> CustodianError {
        let what = format!("keys of scheme {scheme}");
        CustodianError::Unsupported { place: self.place.clone(), what }
    }
}

struct Held {
    key: KeyHandle,
    public: PublicKeyDer,
    state: KeyState,
}

impl Store for VaultStore {
    fn describe(&self) -> Description {
        Description { kind: CustodianKind::Vault, place: self.place.clone() }
    }

    fn abilities(&self) -> Result<Abilities, CustodianError> {
        self.keys()?;
        let operations = |scheme: KeyScheme| {
            [Operation::Create, Operation::Import, scheme.operation()]
                .map(|operation| (scheme, operation))
        };
        let schemes = crate::software::SCHEMES.into_iter();
        let schemes = schemes.filter(|scheme| type_of(*scheme).is_some());
        let open = schemes.flat_map(operations).collect();
        Ok(Abilities { product: self.place.clone(), can: BTreeSet::new(), open })
    }

    fn find(&self, label: &Label) -> Result<Option<KeyHandle>, CustodianError> {
        let mut found = Vec::new();
        for usage in KeyUsage::ALL {
            found.extend(self.read(label, *usage)?.map(|held| held.key));
        }
        if found.len() > 1 {
            let what = format!("key {label} in {}", self.place);
            let why = format!("{} keys carry the label", found.len());
            return Err(CustodianError::Corrupt { what, why });
        }
        Ok(found.pop())
    }

    fn open(&self, id: &KeyId) -> Result<KeyHandle, CustodianError> {
        let foreign = || CustodianError::Foreign { id: id.clone(), place: self.place.clone() };
        let (label, usage) = parse_name(id.as_str()).ok_or_else(foreign)?;
        let held = self.read(&label, usage)?.ok_or_else(|| self.missing(id.as_str()))?;
        Ok(held.key)
    }

    fn keys(&self) -> Result<Vec<KeyHandle>, CustodianError> {
        let answer = match self.ask(Method::Get, "keys?list=true", None)? {
            Ok(answer) => answer,
            Err(Fault::NotFound) => return Ok(Vec::new()),
            Err(fault) => return Err(self.error(fault, "a list of its keys")),
        };
        let names = answer["data"]["keys"].as_array().cloned().unwrap_or_default();
        let names = names.iter().filter_map(|name| parse_name(name.as_str()?));
        let names: Vec<_> = names.collect();
        if names.len() > KEYS_MAX {
            return Err(CustodianError::Refused {
                place: self.place.clone(),
                what: "a list of its keys".to_owned(),
                why: format!("it has more than {KEYS_MAX}"),
            });
        }
        let mut keys = Vec::new();
        for (label, usage) in names {
            keys.extend(self.read(&label, usage)?.map(|held| held.key));
        }
        Ok(keys)
    }

    fn generate(&self, request: &KeyRequest) -> Result<KeyHandle, CustodianError> {
        let kind = type_of(request.scheme).ok_or_else(|| self.unsupported(request.scheme))?;
        let name = name_of(&request.label, request.usage);
        let body = json!({"type": kind, "exportable": false, "allow_plaintext_backup": false});
        self.data(Method::Post, &format!("keys/{name}"), Some(&body))?;
        self.made(request)
    }

    fn public(&self, key: &KeyHandle) -> Result<PublicKeyDer, CustodianError> {
        Ok(self.held(key)?.public)
    }

    fn state(&self, key: &KeyHandle) -> Result<KeyState, CustodianError> {
        Ok(self.held(key)?.state)
    }

    fn sign(&self, key: &KeyHandle, message: &[u8]) -> Result<Vec<u8>, CustodianError> {
        let hashed = |algorithm| STANDARD.encode(digest::digest(algorithm, message));
        let body = match key.scheme {
            KeyScheme::Ed25519 => json!({"input": STANDARD.encode(message), "key_version": 1}),
            scheme => {
                let (input, hash) = match scheme {
                    KeyScheme::P384 => (hashed(&digest::SHA384), "sha2-384"),
                    _ => (hashed(&digest::SHA256), "sha2-256"),
                };
                json!({
                    "input": input, "prehashed": true, "hash_algorithm": hash,
                    "marshaling_algorithm": "asn1", "key_version": 1,
                })
            }
        };
        let data = self.data(Method::Post, &format!("sign/{}", key.id), Some(&body))?;
        self.bytes(&data, "signature", PREFIX)
    }

    fn decrypt(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<SecretBytes, CustodianError> {
        let ciphertext = format!("{PREFIX}{}", STANDARD.encode(ciphertext));
        let body = json!({"ciphertext": ciphertext});
        let data = self.data(Method::Post, &format!("decrypt/{}", key.id), Some(&body))?;
        self.bytes(&data, "plaintext", "").map(SecretBytes::new)
    }

    fn import(
        &self,
        request: &KeyRequest,
        half: &PrivateHalf,
    ) -> Result<KeyHandle, CustodianError> {
        let kind = type_of(request.scheme).ok_or_else(|| self.unsupported(request.scheme))?;
        let data = self.data(Method::Get, "wrapping_key", None)?;
        let key = data["public_key"].as_str().and_then(pem::decode);
        let wrapped = key
            .and_then(|der| wrap::import_key(&der))
            .zip(half.pkcs8().ok())
            .and_then(|(key, material)| wrap::by_aes(&key, &material));
        let wrapped = wrapped.ok_or_else(|| CustodianError::Unknown {
            place: self.place.clone(),
            what: format!("import {}", request.label),
            why: "its import key is no RSA key".to_owned(),
        })?;
        let name = name_of(&request.label, request.usage);
        let body = json!({
            "type": kind, "hash_function": "SHA256", "ciphertext": STANDARD.encode(wrapped),
            "exportable": false, "allow_plaintext_backup": false, "allow_rotation": false,
        });
        self.data(Method::Post, &format!("keys/{name}/import"), Some(&body))?;
        self.made(request)
    }
}

fn name_of(label: &Label, usage: KeyUsage) -> String {
    format!("{label}.{usage}")
}

fn parse_name(name: &str) -> Option<(Label, KeyUsage)> {
    let (label, usage) = name.split_once('.')?;
    Some((label.parse().ok()?, usage.parse().ok()?))
}

fn type_of(scheme: KeyScheme) -> Option<&'static str> {
    match scheme {
        KeyScheme::Ed25519 => Some("ed25519"),
        KeyScheme::P256 => Some("ecdsa-p256"),
        KeyScheme::P384 => Some("ecdsa-p384"),
        KeyScheme::Rsa2048 => Some("rsa-2048"),
        KeyScheme::Secp256k1 | KeyScheme::MlDsa65 | KeyScheme::EciesP256 => None,
    }
}

fn scheme_of(kind: &str) -> Option<KeyScheme> {
    KeyScheme::ALL.iter().copied().find(|scheme| type_of(*scheme) == Some(kind))
}

/// PEM, except for Ed25519: the base64 of 32 bytes.
fn public_of(scheme: KeyScheme, text: &str) -> Option<PublicKeyDer> {
    if scheme == KeyScheme::Ed25519 {
        return spki::compose(scheme, &STANDARD.decode(text).ok()?).ok();
    }
    spki::parse(scheme, &pem::decode(text)?).ok()
}

/// `{"errors": […]}`. A path that is not there has no words, and an engine that is not there has.
fn meaning(status: u16, body: &Value, attempts: u32) -> Fault {
    let words: Vec<&str> =
        body["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let words = shortened(&format!("{status}: {}", words.join("; ")));
    let is_wordless = body["errors"].as_array().is_some_and(Vec::is_empty);
    match status {
        404 if is_wordless => Fault::NotFound,
        400 if words.contains("unknown key type") || words.contains("unsupported") => {
            Fault::Unsupported(words)
        }
        400 | 401 | 403 | 405 | 412 => Fault::Refused(words),
        429 => Fault::Throttled(attempts),
        // 404 with words is an engine that is not there, 503 a sealed server: its keys are there.
        404 | 500..=599 => Fault::Unavailable(words),
        _ => Fault::Strange(words),
    }
}
