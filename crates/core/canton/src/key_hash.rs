//! Hashes of contract keys.

use std::fmt;

use crate::contract_hash::typed::{HashError, write_typed};
use crate::contract_hash::write_name;
use crate::hash::Preimage;
use crate::types::{PackageName, Type, TypeId, TypeStore};
use crate::value::Value;
use crate::value::walk::Leaf;

/// The hash of a key.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// These bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

/// Hashes of keys, not of contracts.
const KEY_PURPOSE: [u8; 3] = [3, 9, 1];

/// The hash of a key of the third major version.
pub fn key_hash(
    types: &dyn TypeStore,
    package_name: &PackageName,
    template: &TypeId,
    key: &Value,
) -> Result<KeyHash, HashError> {
    let unknown = || HashError::UnknownKey { template: template.clone() };
    let of_type = types.key_type(&template.package, &template.name).ok_or_else(unknown)?;
    typed_key_hash(types, package_name, template, of_type, key)
}

/// The same, for a key of this type.
pub fn typed_key_hash(
    types: &dyn TypeStore,
    package_name: &PackageName,
    template: &TypeId,
    of_type: &Type,
    key: &Value,
) -> Result<KeyHash, HashError> {
    let mut found = None;
    key.visit(&mut |path, leaf| {
        if let Leaf::ContractId(_) = leaf {
            found.get_or_insert_with(|| path.clone());
        }
    });
    if let Some(path) = found {
        return Err(HashError::ContractIdInKey { path });
    }
    let mut preimage = Preimage::default();
    preimage.raw(&KEY_PURPOSE).text(package_name.as_str());
    write_name(&template.name, &mut preimage);
    write_typed(types, of_type, key, &mut preimage)?;
    Ok(KeyHash(preimage.sha256()))
}
