//! Keys in a token behind a PKCS#11 module.
//!
//! Every private key is made sensitive and not extractable, and its usage stands in its `CKA_ID`,
//! so that it is known after a restart. The token hashes nothing: ECDSA is `CKM_ECDSA` over a
//! digest of ours, because not every token has the variants that hash.

mod object;
mod rsa;
mod session;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use aws_lc_rs::digest;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use heirloom_model::participant::CustodianKind;
use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::key::{
    Description, KeyHandle, KeyId, KeyRequest, KeyScheme, KeyState, Label, Operation, PublicKeyDer,
};
use heirloom_participant::custodian::probe::Abilities;
use heirloom_participant::custodian::{Custodian, CustodianError, FailureKind};

use crate::guard::{Guarded, Store};
use crate::half::PrivateHalf;
use crate::pkcs11::object::{Pair, Template};
use crate::pkcs11::session::{Failure, Token};
use crate::{ecdsa, oaep};

/// Which token, and what opens it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenConfig {
    /// The module: a shared library.
    pub module: PathBuf,
    /// The label of the token.
    pub token: String,
    /// A file with the user's PIN.
    pub pin_file: PathBuf,
}

/// Opens a token: loads its module, finds it by label and logs in.
///
/// A wrong PIN is tried once: tokens lock themselves after a few.
pub fn open(config: &TokenConfig) -> Result<Box<dyn Custodian>, CustodianError> {
    let store = TokenStore { token: Token::new(config)?, oaep: Cell::new(Oaep::Unknown) };
    store.token.with(|_| Ok(()))?;
    Ok(Box::new(Guarded::new(store)))
}

struct TokenStore {
    token: Token,
    oaep: Cell<Oaep>,
}

/// Who takes the padding of a decrypted message away.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Oaep {
    /// The token was not asked yet.
    Unknown,
    /// The token.
    Inside,
    /// This process: the token does not do OAEP with SHA-256.
    Outside,
}

impl TokenStore {
    /// The pair of a key that is there.
    fn pair(&self, session: &Session, key: &KeyHandle) -> Result<Pair, Failure> {
        let found = object::find(session, &self.token, &key.label)?;
        found.filter(|pair| pair.key.id == key.id).ok_or_else(|| {
            Failure::Custodian(CustodianError::Missing {
                key: key.label.to_string(),
                place: self.token.place(),
            })
        })
    }

    fn private(&self, session: &Session, key: &KeyHandle) -> Result<ObjectHandle, Failure> {
        self.pair(session, key)?.private.ok_or_else(|| {
            Failure::Custodian(CustodianError::NotEnabled {
                label: key.label.clone(),
                place: self.token.place(),
                state: KeyState::PendingImport,
            })
        })
    }

    fn decrypt_with(
        &self,
        session: &Session,
        key: ObjectHandle,
        ciphertext: &[u8],
    ) -> Result<Option<SecretBytes>, Failure> {
        if self.oaep.get() != Oaep::Outside {
            let parameters = PkcsOaepParams::new(
                MechanismType::SHA256,
                PkcsMgfType::MGF1_SHA256,
                PkcsOaepSource::empty(),
            );
            let mechanism = Mechanism::RsaPkcsOaep(parameters);
            match session.decrypt(&mechanism, key, ciphertext) {
                Ok(plaintext) => {
                    self.oaep.set(Oaep::Inside);
                    return Ok(Some(SecretBytes::new(plaintext)));
                }
                Err(error)
                    if self.oaep.get() == Oaep::Unknown && session::is_unsupported(&error) =>
                {
                    self.oaep.set(Oaep::Outside);
                }
                Err(error) if session::is_bad_ciphertext(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        match session.decrypt(&Mechanism::RsaX509, key, ciphertext) {
            Ok(encoded) => Ok(oaep::unpad(&SecretBytes::new(encoded))),
            Err(error) if session::is_bad_ciphertext(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Store for TokenStore {
    fn describe(&self) -> Description {
        Description { kind: CustodianKind::Pkcs11, place: self.token.place() }
    }

    fn abilities(&self) -> Result<Abilities, CustodianError> {
        let product = self.token.product()?;
        let mut abilities = Abilities { product, can: BTreeSet::new(), open: BTreeSet::new() };
        for scheme in crate::software::SCHEMES {
            // Session objects end with their session, so this trial leaves nothing.
            let tried = self.token.try_session_key(scheme);
            let operations = [Operation::Create, scheme.operation()];
            match tried {
                Ok(()) => abilities.can.extend(operations.map(|operation| (scheme, operation))),
                Err(CustodianError::Unsupported { .. }) => {}
                Err(error) if error.kind() == FailureKind::Unreachable => {
                    return Err(error);
                }
                // Some tokens take no session keys: what they can do stays open.
                Err(_) => abilities.open.extend(operations.map(|operation| (scheme, operation))),
            }
            abilities.open.insert((scheme, Operation::Import));
        }
        Ok(abilities)
    }

    fn find(&self, label: &Label) -> Result<Option<KeyHandle>, CustodianError> {
        self.token
            .with(|session| Ok(object::find(session, &self.token, label)?.map(|pair| pair.key)))
    }

    fn open(&self, id: &KeyId) -> Result<KeyHandle, CustodianError> {
        self.token.with(|session| object::open(session, &self.token, id))
    }

    fn keys(&self) -> Result<Vec<KeyHandle>, CustodianError> {
        self.token.with(|session| object::all(session, &self.token))
    }

    fn generate(&self, request: &KeyRequest) -> Result<KeyHandle, CustodianError> {
        let template = Template::new(request)?;
        self.token.with(|session| {
            let mechanism = object::generation(request.scheme);
            session.generate_key_pair(&mechanism, &template.public(), &template.private())?;
            // Asked again, so that what another process made under the label meanwhile is noticed.
            object::find(session, &self.token, &request.label)?
                .map(|pair| pair.key)
                .ok_or_else(|| self.token.vanished(&request.label))
        })
    }

    fn public(&self, key: &KeyHandle) -> Result<PublicKeyDer, CustodianError> {
        self.token.with(|session| Ok(self.pair(session, key)?.public))
    }

    fn state(&self, key: &KeyHandle) -> Result<KeyState, CustodianError> {
        self.token.with(|session| {
            let pair = self.pair(session, key)?;
            let Some(private) = pair.private else { return Ok(KeyState::PendingImport) };
            let may = object::may(session, private, key.usage.operation())?;
            Ok(if may { KeyState::Enabled } else { KeyState::Disabled })
        })
    }

    fn sign(&self, key: &KeyHandle, message: &[u8]) -> Result<Vec<u8>, CustodianError> {
        self.token.with(|session| {
            let private = self.private(session, key)?;
            let halves = sign_with(session, private, key.scheme, message)?;
            signature(key.scheme, halves).ok_or_else(|| {
                Failure::Custodian(CustodianError::Corrupt {
                    what: format!("a signature by key {} in {}", key.label, self.token.place()),
                    why: "it does not have two halves".to_owned(),
                })
            })
        })
    }

    fn decrypt(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<SecretBytes, CustodianError> {
        let plaintext = self.token.with(|session| {
            let private = self.private(session, key)?;
            self.decrypt_with(session, private, ciphertext)
        })?;
        plaintext.ok_or_else(|| CustodianError::Refused {
            place: self.token.place(),
            what: format!("to decrypt with {}", key.label),
            why: "the ciphertext was not made for this key".to_owned(),
        })
    }

    fn import(
        &self,
        request: &KeyRequest,
        half: &PrivateHalf,
    ) -> Result<KeyHandle, CustodianError> {
        let template = Template::new(request)?;
        let public = half.public()?;
        self.token.with(|session| {
            // The public object first: alone it says that the private one is still to come, and
            // an import that was interrupted goes on from it.
            let template = match object::find(session, &self.token, &request.label)? {
                None => {
                    session.create_object(&template.imported_public(&public)?)?;
                    template
                }
                Some(pair) if pair.public == public => template.with_id(&pair.key.id),
                Some(pair) => return Ok(pair.key),
            };
            let mut private = template.imported_private(half)?;
            let created = session.create_object(&private);
            object::wipe(&mut private);
            created?;
            object::find(session, &self.token, &request.label)?
                .map(|pair| pair.key)
                .ok_or_else(|| self.token.vanished(&request.label))
        })
    }
}

/// What the token answers: two halves, or 64 bytes.
fn sign_with(
    session: &Session,
    key: ObjectHandle,
    scheme: KeyScheme,
    message: &[u8],
) -> Result<Vec<u8>, cryptoki::error::Error> {
    let hashed = |algorithm| digest::digest(algorithm, message);
    match scheme {
        KeyScheme::Ed25519 => {
            let parameters = EddsaParams::new(EddsaSignatureScheme::Ed25519);
            session.sign(&Mechanism::Eddsa(parameters), key, message)
        }
        KeyScheme::P384 => session.sign(&Mechanism::Ecdsa, key, hashed(&digest::SHA384).as_ref()),
        KeyScheme::P256
        | KeyScheme::Secp256k1
        | KeyScheme::Rsa2048
        | KeyScheme::MlDsa65
        | KeyScheme::EciesP256 => {
            session.sign(&Mechanism::Ecdsa, key, hashed(&digest::SHA256).as_ref())
        }
    }
}

fn signature(scheme: KeyScheme, answer: Vec<u8>) -> Option<Vec<u8>> {
    if scheme == KeyScheme::Ed25519 { Some(answer) } else { ecdsa::der_of_halves(&answer) }
}
