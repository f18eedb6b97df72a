//! Whether a contract is the one that its id names.

use crate::blob::FatContract;
use crate::contract_hash::plain::{legacy, upgrade_friendly};
use crate::contract_hash::typed::{HashError, typed_normal_form};
use crate::contract_id::{ContractId, ContractIdVersion, OldContractIdVersion};
use crate::key_hash::{KeyHash, key_hash};
use crate::types::TypeStore;
use crate::unicum::unicum;

/// A contract whose id was computed again and is the same. Only [`authenticate`] makes it.
#[derive(Clone, Copy, Debug)]
pub struct AuthenticContract<'a> {
    contract: &'a FatContract,
}

impl<'a> AuthenticContract<'a> {
    /// The contract.
    pub fn contract(&self) -> &'a FatContract {
        self.contract
    }
}

/// Why a contract is not authentic, or not known to be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthenticateError {
    /// No ledger makes such ids.
    #[error("the suffix of {id} is none that a ledger makes")]
    UnknownVersion {
        /// The id.
        id: ContractId,
    },
    /// An id of the second major version, whose contracts have another form.
    #[error("{id} is of version {version:?}; only a ledger of the second major version has it")]
    OldVersion {
        /// The id.
        id: ContractId,
        /// Its version.
        version: OldContractIdVersion,
    },
    /// Types are missing, or the contract does not have its types.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The key has another hash than the contract says.
    #[error("the hash of the key is {computed}, but the contract {id} says {stated}")]
    KeyHash {
        /// The contract.
        id: ContractId,
        /// What the contract says.
        stated: KeyHash,
        /// What it is.
        computed: KeyHash,
    },
    /// The id belongs to another contract.
    #[error("the contract with id {stated} should have id {computed}")]
    Differs {
        /// What the contract says.
        stated: ContractId,
        /// What it should be.
        computed: ContractId,
    },
}

/// The id that the contract should have: of the version of the id that it has.
pub fn recompute(
    contract: &FatContract,
    types: &dyn TypeStore,
) -> Result<ContractId, AuthenticateError> {
    let id = &contract.contract_id;
    match id.version() {
        None => Err(AuthenticateError::UnknownVersion { id: id.clone() }),
        Some(ContractIdVersion::Old(version)) => {
            Err(AuthenticateError::OldVersion { id: id.clone(), version })
        }
        Some(version) => recompute_as(contract, version, types),
    }
}

/// The id that the contract would have in this version.
pub fn recompute_as(
    contract: &FatContract,
    version: ContractIdVersion,
    types: &dyn TypeStore,
) -> Result<ContractId, AuthenticateError> {
    let (name, template, argument) =
        (&contract.package_name, &contract.template, &contract.create_arg);
    let hash = match version {
        ContractIdVersion::Old(version) => {
            let id = contract.contract_id.clone();
            return Err(AuthenticateError::OldVersion { id, version });
        }
        ContractIdVersion::V10 => legacy(name, template, argument),
        ContractIdVersion::V11 => upgrade_friendly(name, template, argument),
        ContractIdVersion::V12 => typed_normal_form(types, name, template, argument)?,
    };
    let key_hash = recompute_key_hash(contract, types)?;
    let unicum = unicum(contract, key_hash.as_ref(), &hash);
    Ok(ContractId::new(version, contract.contract_id.discriminator(), &unicum))
}

/// The hash that the key should have, or none for a contract without key.
pub fn recompute_key_hash(
    contract: &FatContract,
    types: &dyn TypeStore,
) -> Result<Option<KeyHash>, HashError> {
    let key = contract.key.as_ref();
    key.map(|key| key_hash(types, &contract.package_name, &contract.template, &key.key)).transpose()
}

/// Succeeds if the contract has the id, and its key the hash, that it should have.
pub fn authenticate<'a>(
    contract: &'a FatContract,
    types: &dyn TypeStore,
) -> Result<AuthenticContract<'a>, AuthenticateError> {
    let id = || contract.contract_id.clone();
    let stated = contract.key.as_ref().and_then(|key| key.hash);
    if let (Some(computed), Some(stated)) = (recompute_key_hash(contract, types)?, stated)
        && computed != stated
    {
        return Err(AuthenticateError::KeyHash { id: id(), stated, computed });
    }
    let computed = recompute(contract, types)?;
    if computed == contract.contract_id {
        Ok(AuthenticContract { contract })
    } else {
        Err(AuthenticateError::Differs { stated: id(), computed })
    }
}
