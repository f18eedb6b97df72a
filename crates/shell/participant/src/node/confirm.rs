//! Whether this participant confirms a transaction.

use std::collections::BTreeSet;

use heirloom_canton::authenticate::{AuthenticateError, authenticate};
use heirloom_canton::blob::{BlobError, FatContract};
use heirloom_canton::contract_id::{ContractId, ContractIdVersion};
use heirloom_canton::dar::types::Packages;
use heirloom_canton::name::Party;
use heirloom_canton::types::{PackageId, TypeId};
use heirloom_canton::value::walk::Leaf;
use heirloom_model::party::SynchronizerId;
use prost::Message;

use crate::clock::now_micros;
use crate::node::Node;
use crate::node::contracts::command_key;
use crate::node::error::NodeError;
use crate::record::{CommandRecord, ContractState};
use crate::store::Table;
use crate::synchronizer::wire::{Archive, Happening, Submission};
use crate::topology::Topology;
use crate::version::contract_id_version_max;

/// How far the time of a new contract may be from ours: the real one has a minute too.
const SKEW_MICROS_MAX: u64 = 60_000_000;

/// Why a contract is not what it says.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ContractRefusal {
    /// It cannot be read.
    #[error("the contract cannot be read")]
    Blob(#[from] BlobError),
    /// Its package is not here.
    #[error("contract {id} needs package {package}, which this participant does not have")]
    UnknownPackage {
        /// The contract.
        id: ContractId,
        /// The package.
        package: PackageId,
    },
    /// Its package has no such template.
    #[error("contract {id} is of {template}, which is no template of its package")]
    UnknownTemplate {
        /// The contract.
        id: ContractId,
        /// The template.
        template: TypeId,
    },
    /// The name of its package is another one.
    #[error("contract {id} names its package {stated}, and it is {found}")]
    PackageName {
        /// The contract.
        id: ContractId,
        /// What it says.
        stated: String,
        /// What the package says.
        found: String,
    },
    /// Its id is of a version that the synchronizer does not have.
    #[error("contract {id} has an id of version {found}; the newest here is {newest}")]
    TooNew {
        /// The contract.
        id: ContractId,
        /// The version of its id.
        found: ContractIdVersion,
        /// The newest version of the protocol.
        newest: ContractIdVersion,
    },
    /// Its id is another one.
    #[error("contract {id} is not authentic")]
    NotAuthentic {
        /// The contract.
        id: ContractId,
        /// Why.
        source: Box<AuthenticateError>,
    },
    /// Somebody signs or sees it whom it does not name.
    #[error("contract {id} has the stakeholder {party}, whom its argument does not name")]
    Stakeholder {
        /// The contract.
        id: ContractId,
        /// The party.
        party: Party,
    },
}

/// Looks at a contract as the real participant does, as far as that takes no expressions: its
/// package and template are here, its id is its own, its stakeholders come from its argument.
pub fn check_contract(
    contract: &FatContract,
    representative: &PackageId,
    packages: &Packages,
    protocol_version: u32,
) -> Result<(), ContractRefusal> {
    let id = || contract.contract_id.clone();
    check_version(contract, protocol_version)?;
    let unknown = || ContractRefusal::UnknownPackage { id: id(), package: representative.clone() };
    let package = packages.get(representative).ok_or_else(unknown)?;
    if !package.has_template(&contract.template.name) {
        let template =
            TypeId { package: representative.clone(), name: contract.template.name.clone() };
        return Err(ContractRefusal::UnknownTemplate { id: id(), template });
    }
    if let Some(found) = package.name()
        && *found != contract.package_name
    {
        let (stated, found) = (contract.package_name.to_string(), found.to_string());
        return Err(ContractRefusal::PackageName { id: id(), stated, found });
    }
    // Types come from the representative package: the names of types are the same in every version.
    let mut seen = contract.clone();
    seen.template.package = representative.clone();
    let is_typed = contract.contract_id.version() == Some(ContractIdVersion::V12);
    let checked = if is_typed { &seen } else { contract };
    authenticate(checked, packages)
        .map_err(|source| ContractRefusal::NotAuthentic { id: id(), source: Box::new(source) })?;
    let named = parties_in(contract);
    match contract.stakeholders().difference(&named).next() {
        Some(party) => Err(ContractRefusal::Stakeholder { id: id(), party: party.clone() }),
        None => Ok(()),
    }
}

/// The version of a contract's id must be one of the protocol.
pub fn check_version(contract: &FatContract, protocol_version: u32) -> Result<(), ContractRefusal> {
    let id = contract.contract_id.clone();
    let newest = contract_id_version_max(protocol_version);
    match contract.contract_id.version() {
        Some(found) if found > newest => Err(ContractRefusal::TooNew { id, found, newest }),
        Some(ContractIdVersion::Old(version)) => Err(ContractRefusal::NotAuthentic {
            id: id.clone(),
            source: Box::new(AuthenticateError::OldVersion { id, version }),
        }),
        None => Err(ContractRefusal::NotAuthentic {
            id: id.clone(),
            source: Box::new(AuthenticateError::UnknownVersion { id }),
        }),
        Some(_) => Ok(()),
    }
}

/// Everybody whom an argument names.
pub fn parties_in(contract: &FatContract) -> BTreeSet<Party> {
    let mut parties = BTreeSet::new();
    contract.create_arg.visit(&mut |_, leaf| {
        if let Leaf::Party(party) = leaf {
            parties.insert(party.clone());
        }
    });
    parties
}

impl Node {
    /// Succeeds if this participant confirms a submission. Every entry before it is taken up.
    pub fn confirm(
        &self,
        synchronizer: &SynchronizerId,
        submission: &[u8],
    ) -> Result<(), NodeError> {
        let submission = Submission::decode(submission);
        let submission = submission.map_err(|error| NodeError::Invalid(error.to_string()))?;
        let topology = self.with_known(synchronizer, |known| known.topology.clone());
        let topology = topology.unwrap_or_default();
        let parameters = self.synchronizer_named(synchronizer)?.parameters;
        let protocol_version = parameters.map_or(0, |found| found.protocol_version);
        if Some(&submission.participant) == self.id().map(|id| id.to_string()).as_ref() {
            let key = command_key(&submission);
            if self.store().read()?.one::<CommandRecord>(Table::Commands, &key)?.is_some() {
                return Err(NodeError::Exists("the command was carried out before".to_owned()));
            }
        }
        let mut made = BTreeSet::new();
        let mut ended = BTreeSet::new();
        for node in &submission.nodes {
            match &node.happening {
                Some(Happening::Create(blob)) => {
                    let contract = FatContract::decode(blob).map_err(ContractRefusal::from)?;
                    self.confirm_creation(&contract, &topology, protocol_version)?;
                    if !made.insert(contract.contract_id.clone()) {
                        return Err(already(&contract.contract_id));
                    }
                }
                Some(Happening::Archive(archive)) => {
                    self.confirm_archival(archive, synchronizer, &topology)?;
                    if !ended.insert(archive.contract_id.clone()) {
                        return Err(NodeError::Refused("a contract ends twice".to_owned()));
                    }
                }
                None => return Err(NodeError::Invalid("nothing happens in a node".to_owned())),
            }
        }
        Ok(())
    }

    fn confirm_creation(
        &self,
        contract: &FatContract,
        topology: &Topology,
        protocol_version: u32,
    ) -> Result<(), NodeError> {
        let stakeholders: Vec<String> =
            contract.stakeholders().iter().map(ToString::to_string).collect();
        if !self.hosts_any(topology, &stakeholders) {
            return Ok(());
        }
        let package = contract.template.package.clone();
        check_contract(contract, &package, &self.packages(), protocol_version)?;
        if contract.created_at.micros().abs_diff(now_micros()) > SKEW_MICROS_MAX {
            return Err(NodeError::Refused("a contract has a time far from now".to_owned()));
        }
        match self.contract(&contract.contract_id)? {
            Some(_) => Err(already(&contract.contract_id)),
            None => Ok(()),
        }
    }

    fn confirm_archival(
        &self,
        archive: &Archive,
        synchronizer: &SynchronizerId,
        topology: &Topology,
    ) -> Result<(), NodeError> {
        let stated: Vec<String> =
            archive.signatories.iter().chain(&archive.observers).cloned().collect();
        if !self.hosts_any(topology, &stated) {
            return Ok(());
        }
        let id = ContractId::from_bytes(&archive.contract_id);
        let id = id.map_err(|error| NodeError::Invalid(error.to_string()))?;
        let found = self.contract(&id)?.filter(|found| {
            found.state == ContractState::Active && found.synchronizer == synchronizer.as_str()
        });
        let missing = || NodeError::Missing(format!("contract {id} is not active here"));
        let contract =
            FatContract::decode(&found.ok_or_else(missing)?.blob).map_err(ContractRefusal::from)?;
        let texts = |parties: &BTreeSet<Party>| -> Vec<String> {
            parties.iter().map(ToString::to_string).collect()
        };
        let is_same = texts(&contract.signatories) == archive.signatories
            && texts(&contract.observers) == archive.observers;
        if is_same {
            Ok(())
        } else {
            Err(NodeError::Refused(format!("contract {id} has other stakeholders")))
        }
    }
}

fn already(id: &ContractId) -> NodeError {
    NodeError::Exists(format!("contract {id} exists already"))
}

#[cfg(test)]
mod tests {
    use heirloom_canton::authenticate::recompute_as;
    use heirloom_canton::blob::{CreatedAt, SerializationVersion};
    use heirloom_canton::dar;
    use heirloom_canton::hash::{Purpose, canton_hash};
    use heirloom_canton::unicum::Salt;

    use super::*;
    use crate::client::package;
    use crate::values::argument;

    fn packages() -> Packages {
        let mut packages = Packages::new();
        packages.add(&dar::read(&package::dar().unwrap().bytes).unwrap());
        packages
    }

    fn contract(packages: &Packages, version: ContractIdVersion) -> FatContract {
        let main = packages.iter().next().unwrap();
        let name = main.templates().next().unwrap().clone();
        let template = TypeId { package: main.id().clone(), name };
        let holding =
            package::Holding { issuer: "a::1220aa", owner: "b::1220aa", number: 5, previous: None };
        let create_arg = argument(packages, &template, &package::arguments(&holding)).unwrap();
        let mut contract = FatContract {
            version: SerializationVersion::V1,
            contract_id: ContractId::new(version, &[1; 32], &canton_hash(Purpose::Unicum, &[])),
            package_name: main.name().unwrap().clone(),
            template,
            create_arg,
            signatories: BTreeSet::from(["a::1220aa".parse().unwrap()]),
            observers: BTreeSet::from(["b::1220aa".parse().unwrap()]),
            created_at: CreatedAt::from_micros(1).unwrap(),
            salt: Salt::from_bytes([2; 32]),
            key: None,
        };
        contract.contract_id = recompute_as(&contract, version, packages).unwrap();
        contract
    }

    #[test]
    fn ids_are_of_a_version_that_the_protocol_has() {
        let packages = packages();
        let package = packages.iter().next().unwrap().id().clone();
        for (version, protocol, is_taken) in [
            (ContractIdVersion::V10, 33, true),
            (ContractIdVersion::V11, 33, true),
            (ContractIdVersion::V12, 33, false),
            (ContractIdVersion::V11, 34, true),
            (ContractIdVersion::V12, 34, true),
            (ContractIdVersion::V12, 35, true),
        ] {
            let checked =
                check_contract(&contract(&packages, version), &package, &packages, protocol);
            match checked {
                Ok(()) => assert!(is_taken, "{version} under {protocol}"),
                Err(ContractRefusal::TooNew { .. }) => assert!(!is_taken, "{version}, {protocol}"),
                Err(error) => panic!("{version} under {protocol}: {error:?}"),
            }
        }
    }

    #[test]
    fn parties_in_text_are_no_stakeholders() {
        let packages = packages();
        let package = packages.iter().next().unwrap().id().clone();
        let mut changed = contract(&packages, ContractIdVersion::V12);
        changed.observers.insert("holding::1220aa".parse().unwrap());
        changed.contract_id = recompute_as(&changed, ContractIdVersion::V12, &packages).unwrap();
        let refused = check_contract(&changed, &package, &packages, 34).unwrap_err();
        assert!(matches!(refused, ContractRefusal::Stakeholder { .. }), "{refused:?}");
    }
}
