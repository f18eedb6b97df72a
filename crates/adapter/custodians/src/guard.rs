//! What every custodian keeps to, whatever its product lets pass.

use std::cell::RefCell;
use std::collections::BTreeMap;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::key::{
    Algorithm, Description, KeyHandle, KeyId, KeyRequest, KeyScheme, KeyState, Label, Operation,
    PrivateKey, PublicKeyDer, Signature,
};
use heirloom_participant::custodian::probe::Abilities;
use heirloom_participant::custodian::{
    CIPHERTEXT_BYTES_MAX, Custodian, CustodianError, MESSAGE_BYTES_MAX, spki,
};

use crate::half::PrivateHalf;

/// What a product does. The [`Guarded`] around it checks; a store only asks.
pub(crate) trait Store: Send {
    fn describe(&self) -> Description;
    fn abilities(&self) -> Result<Abilities, CustodianError>;
    fn find(&self, label: &Label) -> Result<Option<KeyHandle>, CustodianError>;
    fn open(&self, id: &KeyId) -> Result<KeyHandle, CustodianError>;
    fn keys(&self) -> Result<Vec<KeyHandle>, CustodianError>;
    /// Makes a key whose label is not taken.
    fn generate(&self, request: &KeyRequest) -> Result<KeyHandle, CustodianError>;
    fn public(&self, key: &KeyHandle) -> Result<PublicKeyDer, CustodianError>;
    fn state(&self, key: &KeyHandle) -> Result<KeyState, CustodianError>;
    fn sign(&self, key: &KeyHandle, message: &[u8]) -> Result<Vec<u8>, CustodianError>;
    fn decrypt(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<SecretBytes, CustodianError>;
    /// Brings in a key whose label is not taken, or belongs to a key that awaits its material.
    fn import(&self, request: &KeyRequest, half: &PrivateHalf)
    -> Result<KeyHandle, CustodianError>;
}

/// A store whose callers are checked, and whose answers are.
pub(crate) struct Guarded<S> {
    store: S,
    /// Keys that were looked at. Usage, scheme and public half of a key never change; its state
    /// does, and is asked each time.
    known: RefCell<BTreeMap<KeyId, Known>>,
}

struct Known {
    key: KeyHandle,
    public: PublicKeyDer,
}

impl<S: Store> Guarded<S> {
    pub(crate) fn new(store: S) -> Self {
        Self { store, known: RefCell::default() }
    }

    /// The public half of a key that is what its handle says.
    fn known(&self, key: &KeyHandle) -> Result<PublicKeyDer, CustodianError> {
        let remembered =
            self.known.borrow().get(&key.id).map(|known| (known.key.clone(), known.public.clone()));
        let (held, public) = match remembered {
            Some(known) => known,
            None => self.look_at(key)?,
        };
        if held != *key {
            let asked = in_words(&request_of(key));
            return Err(self.different(key.label.clone(), &held, asked));
        }
        Ok(public)
    }

    fn look_at(&self, key: &KeyHandle) -> Result<(KeyHandle, PublicKeyDer), CustodianError> {
        let held = self.store.open(&key.id)?;
        let public = self.store.public(&held)?;
        let known = Known { key: held.clone(), public: public.clone() };
        self.known.borrow_mut().insert(key.id.clone(), known);
        Ok((held, public))
    }

    fn check_use(
        &self,
        key: &KeyHandle,
        algorithm: Algorithm,
        operation: Operation,
    ) -> Result<PublicKeyDer, CustodianError> {
        let KeyHandle { label, usage, scheme, .. } = key;
        if usage.operation() != operation {
            return Err(CustodianError::WrongUsage {
                label: label.clone(),
                usage: *usage,
                operation,
            });
        }
        if algorithm.operation() != operation || scheme.algorithm() != Some(algorithm) {
            return Err(CustodianError::WrongAlgorithm { scheme: *scheme, algorithm });
        }
        match self.store.state(key)? {
            KeyState::Enabled => self.known(key),
            state => {
                Err(CustodianError::NotEnabled { label: label.clone(), place: self.place(), state })
            }
        }
    }

    fn check_request(&self, request: &KeyRequest) -> Result<(), CustodianError> {
        let KeyRequest { usage, scheme, .. } = *request;
        if usage.operation() != scheme.operation() {
            return Err(CustodianError::WrongScheme { usage, scheme });
        }
        if scheme.algorithm().is_none() {
            let what = format!("keys of scheme {scheme}");
            return Err(CustodianError::Unsupported { place: self.place(), what });
        }
        Ok(())
    }

    fn different(&self, label: Label, held: &KeyHandle, asked: String) -> CustodianError {
        let found = in_words(&request_of(held));
        CustodianError::Different { label, place: self.place(), found, asked }
    }

    fn place(&self) -> String {
        self.store.describe().place
    }
}

impl<S: Store> Custodian for Guarded<S> {
    fn describe(&self) -> Description {
        self.store.describe()
    }

    fn abilities(&self) -> Result<Abilities, CustodianError> {
        self.store.abilities()
    }

    fn create(&self, request: &KeyRequest) -> Result<KeyHandle, CustodianError> {
        self.check_request(request)?;
        let held = match self.store.find(&request.label)? {
            Some(held) => held,
            None => self.store.generate(request)?,
        };
        if !held.answers(request) {
            return Err(self.different(request.label.clone(), &held, in_words(request)));
        }
        Ok(held)
    }

    fn find(&self, label: &Label) -> Result<Option<KeyHandle>, CustodianError> {
        self.store.find(label)
    }

    fn open(&self, id: &KeyId) -> Result<KeyHandle, CustodianError> {
        self.store.open(id)
    }

    fn keys(&self) -> Result<Vec<KeyHandle>, CustodianError> {
        let mut keys = self.store.keys()?;
        keys.sort_by(|one, other| (&one.label, &one.id).cmp(&(&other.label, &other.id)));
        Ok(keys)
    }

    fn public(&self, key: &KeyHandle) -> Result<PublicKeyDer, CustodianError> {
        self.known(key)
    }

    fn state(&self, key: &KeyHandle) -> Result<KeyState, CustodianError> {
        self.store.state(key)
    }

    fn sign(
        &self,
        key: &KeyHandle,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Signature, CustodianError> {
        check_length("the message", message, MESSAGE_BYTES_MAX)?;
        let public = self.check_use(key, algorithm, Operation::Sign)?;
        let signature = self.store.sign(key, message)?;
        if verify(key.scheme, &public, message, &signature) {
            return Ok(Signature::new(signature));
        }
        let what = format!("a signature by key {} in {}", key.label, self.place());
        let why = "it does not verify with the public key".to_owned();
        Err(CustodianError::Corrupt { what, why })
    }

    fn decrypt(
        &self,
        key: &KeyHandle,
        algorithm: Algorithm,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, CustodianError> {
        check_length("the ciphertext", ciphertext, CIPHERTEXT_BYTES_MAX)?;
        self.check_use(key, algorithm, Operation::Decrypt)?;
        self.store.decrypt(key, ciphertext)
    }

    fn import(
        &self,
        request: &KeyRequest,
        private: &PrivateKey,
    ) -> Result<KeyHandle, CustodianError> {
        self.check_request(request)?;
        let half = PrivateHalf::parse(request.scheme, private)?;
        let held = match self.store.find(&request.label)? {
            // Made by an earlier call that did not get to bring in the material.
            Some(held) if self.awaits_material(&held, request)? => {
                self.store.import(request, &half)?
            }
            Some(held) => held,
            None => self.store.import(request, &half)?,
        };
        if !held.answers(request) {
            return Err(self.different(request.label.clone(), &held, in_words(request)));
        }
        if self.known(&held)? != half.public()? {
            let asked = "a key with another public half".to_owned();
            return Err(self.different(request.label.clone(), &held, asked));
        }
        Ok(held)
    }
}

impl<S: Store> Guarded<S> {
    fn awaits_material(
        &self,
        held: &KeyHandle,
        request: &KeyRequest,
    ) -> Result<bool, CustodianError> {
        Ok(held.answers(request) && self.store.state(held)? == KeyState::PendingImport)
    }
}

fn check_length(what: &'static str, bytes: &[u8], limit: usize) -> Result<(), CustodianError> {
    if bytes.len() > limit {
        return Err(CustodianError::TooLong { what, found: bytes.len(), limit });
    }
    Ok(())
}

fn request_of(key: &KeyHandle) -> KeyRequest {
    KeyRequest { label: key.label.clone(), usage: key.usage, scheme: key.scheme }
}

fn in_words(request: &KeyRequest) -> String {
    format!("a {} key for {}", request.scheme, request.usage)
}

/// Whether a signature verifies. What goes out is looked at: a product with a broken generator or
/// another hash would be noticed by nobody else before a ledger refuses it.
fn verify(scheme: KeyScheme, public: &PublicKeyDer, message: &[u8], signature: &[u8]) -> bool {
    let algorithm: &'static dyn VerificationAlgorithm = match scheme {
        KeyScheme::Ed25519 => &signature::ED25519,
        KeyScheme::P256 => &signature::ECDSA_P256_SHA256_ASN1,
        KeyScheme::P384 => &signature::ECDSA_P384_SHA384_ASN1,
        KeyScheme::Secp256k1 => &signature::ECDSA_P256K1_SHA256_ASN1,
        KeyScheme::Rsa2048 | KeyScheme::MlDsa65 | KeyScheme::EciesP256 => return false,
    };
    let Ok(raw) = spki::raw(scheme, public) else { return false };
    UnparsedPublicKey::new(algorithm, raw).verify(message, signature).is_ok()
}
