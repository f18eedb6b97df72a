//! Keys in encrypted files of one folder: one file a key, written once and never replaced.
//!
//! The password or key file comes from a path, and every file says how its own encryption key
//! follows from it (`docs/custodians.md`). This is the custodian that also gives keys out again,
//! encrypted: for the way of a migration that brings the same keys into another custodian.

mod envelope;
mod file;
mod pbes2;

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use heirloom_model::participant::CustodianKind;
use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::key::{
    Description, KeyHandle, KeyId, KeyRequest, KeyScheme, KeyState, Label, Operation, PublicKeyDer,
};
use heirloom_participant::custodian::probe::Abilities;
use heirloom_participant::custodian::{Custodian, CustodianError, KEYS_MAX};

use crate::guard::{Guarded, Store};
use crate::half::PrivateHalf;
use crate::secret_file;
use crate::software::envelope::{Kdf, Opened, Salt, Unlocked};

/// What the names of key files end in.
const SUFFIX: &str = ".key";
/// In front of a label, in identifiers.
const SCHEME_OF_ID: &str = "file:";
/// The shortest key file: 256 bits.
const KEY_FILE_BYTES_MIN: usize = 32;
/// Schemes of the keys that are made here.
pub(crate) const SCHEMES: [KeyScheme; 5] = [
    KeyScheme::Ed25519,
    KeyScheme::P256,
    KeyScheme::P384,
    KeyScheme::Secp256k1,
    KeyScheme::Rsa2048,
];

/// What opens the files of a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unlock {
    /// The file at this path has a password that a person chose. Each key file is opened by
    /// Argon2id of it.
    Password(PathBuf),
    /// The file at this path has at least 32 random bytes.
    KeyFile(PathBuf),
}

/// A folder of encrypted keys.
pub struct Folder {
    path: PathBuf,
    secret: SecretBytes,
    kdf: Kdf,
    /// Encryption keys that were derived, so that Argon2id runs once for each file.
    derived: RefCell<BTreeMap<(Kdf, Salt), Unlocked>>,
}

impl Folder {
    /// Opens a folder that exists and is for its owner only.
    pub fn open(path: &Path, unlock: &Unlock) -> Result<Self, CustodianError> {
        let metadata = fs::metadata(path).map_err(|error| unreachable(path, &error))?;
        let refused = |why: &str| CustodianError::Refused {
            place: path.display().to_string(),
            what: "to be opened".to_owned(),
            why: why.to_owned(),
        };
        if !metadata.is_dir() {
            return Err(refused("it is no folder"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(refused("others may enter it"));
        }
        let (secret, kdf) = match unlock {
            Unlock::Password(file) => (secret_file::read_line(file)?, Kdf::PASSWORD),
            Unlock::KeyFile(file) => (secret_file::read_bytes(file)?, Kdf::Hkdf),
        };
        if kdf == Kdf::Hkdf && secret.expose(<[u8]>::len) < KEY_FILE_BYTES_MIN {
            return Err(refused("the key file has less than 32 bytes"));
        }
        Ok(Self { path: path.to_owned(), secret, kdf, derived: RefCell::default() })
    }

    /// The custodian over this folder.
    pub fn into_custodian(self) -> Box<dyn Custodian> {
        Box::new(Guarded::new(self))
    }

    /// A private key as PKCS#8 `EncryptedPrivateKeyInfo` under another password: PBES2 with
    /// PBKDF2-HMAC-SHA256 and AES-256-CBC, which `openssl pkcs8` reads. For bringing the same key
    /// into another custodian. The key stays here too.
    pub fn export(
        &self,
        key: &KeyHandle,
        password: &SecretBytes,
    ) -> Result<EncryptedKey, CustodianError> {
        let opened = self.opened(&key.label)?.ok_or_else(|| self.missing(key.label.as_str()))?;
        if opened.key != *key {
            let what = format!("to export {}", key.label);
            let why =
                format!("the file holds a {} key for {}", opened.key.scheme, opened.key.usage);
            return Err(CustodianError::Refused { place: self.place(), what, why });
        }
        pbes2::encrypt(&opened.half.pkcs8()?, password).map(EncryptedKey)
    }

    fn opened(&self, label: &Label) -> Result<Option<Opened>, CustodianError> {
        let path = self.file_of(label);
        let text = match file::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return self.absent(),
            // It is there: whatever it is, it is not absent.
            Err(error) => return Err(corrupt(&path, &error.to_string())),
        };
        let sealed = envelope::parse(&text).map_err(|why| corrupt(&path, &why))?;
        if sealed.label != *label {
            return Err(corrupt(&path, &format!("it holds the key {}", sealed.label)));
        }
        if !sealed.kdf.has_kind_of(self.kdf) {
            return Err(self.refused_to_open(&path, "it is opened by the other kind of secret"));
        }
        let mut derived = self.derived.borrow_mut();
        let unlocked = match derived.entry((sealed.kdf, sealed.salt)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let unlocked = envelope::derive(sealed.kdf, &sealed.salt, &self.secret)
                    .map_err(|why| corrupt(&path, &why))?;
                if !sealed.is_for(&unlocked) {
                    let why = "the password or key file is another one";
                    return Err(self.refused_to_open(&path, why));
                }
                free.insert(unlocked)
            }
        };
        sealed.open(unlocked, id_of(label)?).map(Some).map_err(|why| corrupt(&path, &why))
    }

    /// A file that is not there is absent only if its folder is.
    fn absent<T>(&self) -> Result<Option<T>, CustodianError> {
        fs::metadata(&self.path).map_err(|error| unreachable(&self.path, &error))?;
        Ok(None)
    }

    fn write(&self, request: &KeyRequest, half: &PrivateHalf) -> Result<KeyHandle, CustodianError> {
        let id = id_of(&request.label)?;
        let key = KeyHandle {
            id,
            label: request.label.clone(),
            usage: request.usage,
            scheme: request.scheme,
        };
        let salt = envelope::fresh_salt()?;
        let broken = |why: String| corrupt(&self.file_of(&request.label), &why);
        let unlocked = envelope::derive(self.kdf, &salt, &self.secret).map_err(broken)?;
        let text = envelope::seal(&key, half, self.kdf, &salt, &unlocked)?;
        match file::write_once(&self.path, &self.file_of(&request.label), &text) {
            Ok(()) => {
                self.derived.borrow_mut().insert((self.kdf, salt), unlocked);
                Ok(key)
            }
            // Somebody else was faster: theirs is the key.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self
                .opened(&request.label)?
                .map(|opened| opened.key)
                .ok_or_else(|| self.missing(request.label.as_str())),
            Err(error) => Err(CustodianError::Unknown {
                place: self.place(),
                what: format!("write key {}", request.label),
                why: error.to_string(),
            }),
        }
    }

    fn file_of(&self, label: &Label) -> PathBuf {
        self.path.join(format!("{label}{SUFFIX}"))
    }

    fn place(&self) -> String {
        format!("the folder {}", self.path.display())
    }

    fn missing(&self, key: &str) -> CustodianError {
        CustodianError::Missing { key: key.to_owned(), place: self.place() }
    }

    fn refused_to_open(&self, path: &Path, why: &str) -> CustodianError {
        let what = format!("to open {}", path.display());
        CustodianError::Refused { place: self.place(), what, why: why.to_owned() }
    }
}

/// A private key that only its password opens: the DER of a PKCS#8 `EncryptedPrivateKeyInfo`.
pub struct EncryptedKey(Vec<u8>);

impl EncryptedKey {
    /// The DER.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

impl Store for Folder {
    fn describe(&self) -> Description {
        Description { kind: CustodianKind::Software, place: self.place() }
    }

    fn abilities(&self) -> Result<Abilities, CustodianError> {
        self.absent::<()>()?;
        let operations = |scheme: KeyScheme| {
            [Operation::Create, Operation::Import, scheme.operation(), Operation::Export]
                .map(|operation| (scheme, operation))
        };
        Ok(Abilities {
            product: format!("software, version {}", env!("CARGO_PKG_VERSION")),
            can: SCHEMES.into_iter().flat_map(operations).collect(),
            open: BTreeSet::new(),
        })
    }

    fn find(&self, label: &Label) -> Result<Option<KeyHandle>, CustodianError> {
        Ok(self.opened(label)?.map(|opened| opened.key))
    }

    fn open(&self, id: &KeyId) -> Result<KeyHandle, CustodianError> {
        let label = id.as_str().strip_prefix(SCHEME_OF_ID).and_then(|label| label.parse().ok());
        let found = label.map(|label| Store::find(self, &label)).transpose()?.flatten();
        found.ok_or_else(|| self.missing(id.as_str()))
    }

    fn keys(&self) -> Result<Vec<KeyHandle>, CustodianError> {
        let entries = fs::read_dir(&self.path).map_err(|error| unreachable(&self.path, &error))?;
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| unreachable(&self.path, &error))?.file_name();
            let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else {
                continue;
            };
            let path = self.path.join(&name);
            let label = stem.parse().map_err(|_| corrupt(&path, "its name is no label"))?;
            keys.extend(Store::find(self, &label)?);
            if keys.len() > KEYS_MAX {
                return Err(self.refused_to_open(&self.path, "it has too many keys"));
            }
        }
        Ok(keys)
    }

    fn generate(&self, request: &KeyRequest) -> Result<KeyHandle, CustodianError> {
        self.write(request, &PrivateHalf::generate(request.scheme)?)
    }

    fn public(&self, key: &KeyHandle) -> Result<PublicKeyDer, CustodianError> {
        self.opened(&key.label)?.ok_or_else(|| self.missing(key.label.as_str()))?.half.public()
    }

    fn state(&self, key: &KeyHandle) -> Result<KeyState, CustodianError> {
        // Nobody switches a file off: it opens or it does not.
        self.opened(&key.label)?.ok_or_else(|| self.missing(key.label.as_str()))?;
        Ok(KeyState::Enabled)
    }

    fn sign(&self, key: &KeyHandle, message: &[u8]) -> Result<Vec<u8>, CustodianError> {
        let opened = self.opened(&key.label)?;
        opened.ok_or_else(|| self.missing(key.label.as_str()))?.half.sign(message)
    }

    fn decrypt(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<SecretBytes, CustodianError> {
        let opened = self.opened(&key.label)?;
        let opened = opened.ok_or_else(|| self.missing(key.label.as_str()))?;
        opened.half.decrypt(ciphertext).ok_or_else(|| CustodianError::Refused {
            place: self.place(),
            what: format!("to decrypt with {}", key.label),
            why: "the ciphertext was not made for this key".to_owned(),
        })
    }

    fn import(
        &self,
        request: &KeyRequest,
        half: &PrivateHalf,
    ) -> Result<KeyHandle, CustodianError> {
        self.write(request, half)
    }
}

fn id_of(label: &Label) -> Result<KeyId, CustodianError> {
    let text = format!("{SCHEME_OF_ID}{label}");
    text.parse().map_err(|_| corrupt(Path::new(label.as_str()), "its label is no identifier"))
}

fn corrupt(path: &Path, why: &str) -> CustodianError {
    CustodianError::Corrupt { what: path.display().to_string(), why: why.to_owned() }
}

fn unreachable(path: &Path, error: &io::Error) -> CustodianError {
    let place = format!("the folder {}", path.display());
    CustodianError::Unreachable { place, why: error.to_string() }
}
